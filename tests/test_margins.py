"""Margins, their normalisation, and the dual weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.data import Dataset, noisy_xor
from ntkreg.margins import (
    activation_patterns,
    dual_weighted_margin,
    dual_weights,
    margins,
    normalized_margin,
)
from ntkreg.networks import Network, fully_connected
from ntkreg.objectives import get_loss

LOGISTIC = get_loss("logistic")
DATA = noisy_xor(jax.random.key(0), 15, 5)
LINEAR = fully_connected(1, 1)


def random_network(seed, depth=3):
    network = fully_connected(depth, 6)
    return network, network.init(jax.random.key(seed), 5)


def with_margins(q):
    """A linear network and data on which its margins are q."""
    q = jnp.asarray(q)
    return LINEAR, (jnp.ones((1, 1)),), Dataset(q[:, None], jnp.ones(q.shape[0]))


@pytest.mark.parametrize("dim", [3, 10])
def test_planted_four_neurons_have_margin_one_eighth_on_D(dim):
    """u = ±e₁ with w = 1 and ±e₂ with w = −1: y f(x) = 1 at every x of D, and ‖Θ‖² = 8."""
    first = np.zeros((dim, 4))
    first[0, :2], first[1, 2:] = (1, -1), (1, -1)
    params = (jnp.asarray(first), jnp.array([[1.0], [1.0], [-1.0], [-1.0]]))
    network, data = fully_connected(2, 4), noisy_xor(jax.random.key(0), 64, dim)
    assert np.array_equal(margins(network, params, data), np.ones(64))
    assert float(normalized_margin(network, params, data)) == pytest.approx(1 / 8, rel=1e-15)
    weighted = dual_weighted_margin(LOGISTIC, network, params, data)
    assert float(weighted) == pytest.approx(1 / 8, rel=1e-14)


@given(st.integers(0, 100), st.integers(1, 4), st.floats(0.01, 100.0))
def test_normalized_margin_does_not_see_the_scale(seed, depth, scale):
    network, params = random_network(seed, depth)
    one = normalized_margin(network, params, DATA)
    assert float(one) != 0
    other = normalized_margin(network, optax.tree.scale(scale, params), DATA)
    np.testing.assert_allclose(other, one, rtol=1e-10)


def test_normalized_margin_is_its_formula():
    network, params = random_network(0)
    norm = np.sqrt(sum((np.asarray(w) ** 2).sum() for w in params))
    expected = (np.asarray(DATA.y) * np.asarray(network.apply(params, DATA.x))).min() / norm**3
    np.testing.assert_allclose(normalized_margin(network, params, DATA), expected, rtol=1e-12)


@given(st.integers(0, 100))
def test_margins_of_several_classes_agree_with_brute_force(seed):
    outputs = jax.random.normal(jax.random.key(seed), (6, 4))
    labels = jax.random.randint(jax.random.key(seed + 1), (6,), 0, 4)
    network = Network(None, lambda params, x: params * x, None, 1)
    found = margins(network, jnp.asarray(1.0), Dataset(outputs, labels))
    expected = [
        min(f[y] - f[j] for j in range(4) if j != y)
        for f, y in zip(np.asarray(outputs), labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_margins_of_two_classes_are_those_of_the_difference():
    outputs = jax.random.normal(jax.random.key(0), (6, 2))
    labels = jnp.arange(6) % 2
    network = Network(None, lambda params, x: params * x, None, 1)
    found = margins(network, jnp.asarray(1.0), Dataset(outputs, labels))
    signed = (2.0 * labels - 1.0) * (outputs[:, 1] - outputs[:, 0])
    np.testing.assert_allclose(found, signed, rtol=1e-14)


@given(st.lists(st.floats(-300.0, 300.0), min_size=5, max_size=5))
def test_dual_weights_are_proportional_to_the_sigmoid(q):
    weights = np.asarray(dual_weights(LOGISTIC, *with_margins(q)))
    sigmoid = 1 / (1 + np.exp(q))
    assert weights.sum() == pytest.approx(1, rel=1e-13)
    np.testing.assert_allclose(weights, sigmoid / sigmoid.sum(), rtol=1e-10, atol=1e-300)


def test_dual_weights_of_the_exponential_loss_are_its_softmax():
    q = jnp.array([0.3, -2.0, 5.0])
    weights = dual_weights(get_loss("exponential"), *with_margins(q))
    np.testing.assert_allclose(weights, jax.nn.softmax(-q), rtol=1e-13)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_dual_weights_do_not_underflow_far_out(sign):
    """At q ~ 1e4 σ(−q) is 0 in float64, at q ~ −1e4 it is 1 for all samples."""
    weights = dual_weights(LOGISTIC, *with_margins(sign * jnp.array([1e4, 1e4 + 1, 1e4 + 50])))
    expected = jax.nn.softmax(-jnp.array([0.0, 1.0, 50.0])) if sign > 0 else jnp.full(3, 1 / 3)
    np.testing.assert_allclose(weights, expected, rtol=1e-10)


@given(st.integers(0, 100), st.floats(0.1, 10.0))
def test_dual_weighted_margin_is_at_least_the_normalized_margin(seed, scale):
    network, params = random_network(seed, 2)
    params = optax.tree.scale(scale, params)
    weighted = dual_weighted_margin(LOGISTIC, network, params, DATA)
    smallest = normalized_margin(network, params, DATA)
    assert float(weighted) > float(smallest)


def test_dual_weighted_margin_is_its_formula():
    network, params = random_network(4, 2)
    q = np.asarray(margins(network, params, DATA))
    sigmoid = 1 / (1 + np.exp(q))
    norm_squared = sum((np.asarray(w) ** 2).sum() for w in params)
    expected = (sigmoid @ q) / sigmoid.sum() / norm_squared
    weighted = dual_weighted_margin(LOGISTIC, network, params, DATA)
    np.testing.assert_allclose(weighted, expected, rtol=1e-11)


def test_activation_patterns_agree_with_brute_force():
    first, x = jnp.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]]), jnp.array([[1.0, 0.0], [2.0, 3.0]])
    patterns = np.asarray(activation_patterns(first, x))
    assert patterns.shape == (2, 3) and patterns.dtype == bool
    for i, j in itertools.product(range(2), range(3)):
        assert patterns[i, j] == (float(first[:, j] @ x[i]) > 0)
