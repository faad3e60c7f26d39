"""Samples whose margins are known in closed form, for tests of several folders."""

import itertools

import jax.numpy as jnp
import numpy as np

from ntkreg import Dataset


def population(dim):
    """Every point of D once: all are equally likely."""
    signals = [(s, 0, 1) for s in (1, -1)] + [(0, s, -1) for s in (1, -1)]
    signs = list(itertools.product((1.0, -1.0), repeat=dim - 2))
    x = np.array([(a, b, *noise) for a, b, _ in signals for noise in signs])
    return Dataset(jnp.asarray(x), jnp.repeat(jnp.array([1.0, 1.0, -1.0, -1.0]), len(signs)))


def orthonormal(num_positive, num_negative):
    labels = jnp.concatenate([jnp.ones(num_positive), -jnp.ones(num_negative)])
    return Dataset(jnp.eye(num_positive + num_negative), labels)
