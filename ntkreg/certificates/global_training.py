"""Two-layer networks trained to the certified global minimum of F_λ."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._checks import check_positive
from ntkreg._types import Params, PRNGKey, Scalar
from ntkreg.certificates import insertion, two_layer
from ntkreg.certificates.certified import Certificate, certificate, global_minimum, oracle_for
from ntkreg.certificates.insertion import Insertion, InsertionState
from ntkreg.certificates.proofs import Problem
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import fully_connected
from ntkreg.training import trainers
from ntkreg.training.trainers import TrainOptions


class GlobalResult(NamedTuple):
    """A trained network, what proves how near it is to the minimum, and the neurons added."""

    params: Params
    certificate: Certificate
    insertions: int


def train_to_global(
    data: Dataset,
    *,
    lam: float,
    key: PRNGKey,
    width: int = 16,
    params: Params | None = None,
    learning_rate: Scalar = 0.005,
    loss: str = "logistic",
    oracle: str = "auto",
    tolerance: float = 1e-4,
    max_insertions: int = 400,
    num_steps: int = 2000,
    finish_steps: int = 100,
) -> GlobalResult:
    """A two-layer ReLU network at the global minimum of F_λ, by gradient descent and insertions.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> found = train_to_global(two, lam=1e-2, key=jax.random.key(0), width=2, num_steps=300)
    >>> found.certificate.gap < 1e-4
    True

    Trains (Adam, then L-BFGS, on log F_λ); asks the oracle for the directions that are missing;
    adds neurons in them; and again, until the gap that the network proves of itself is at
    `tolerance`.

    Args:
      data: x of shape (n, d); y of −1 and +1, or real for the squared loss.
      lam: λ > 0.
      key: draws the first network, of `width` neurons, unless `params` has one.
      oracle: of `oracles.KINDS`; "auto" as in `certificates.max_margin`.
      max_insertions: after which it ends, whatever the gap; the certificate says it.
      num_steps, finish_steps: of Adam and L-BFGS after every insertion.
      learning_rate: of Adam; larger ones leap out of what a new neuron gains.

    Raises:
      NotSeparable: below λ = 1e-9 for data that no network separates, where the certificate needs
        the convex programme.
      ValueError: for bad data, λ or options, or params of another network.
    """
    check_positive(lam=lam)
    if params is None:
        params = trainers.begin(fully_connected(2, width), data, key, loss)[1]
    else:
        params = tuple(map(jnp.asarray, two_layer.checked_weights(params, data.x.shape[1])))
    options = TrainOptions(loss=loss, num_steps=num_steps, finish_steps=finish_steps)
    spare, state = max(width, 2 * insertion.AT_ONCE), None
    while True:
        params = insertion.with_spare(params, spare)
        fixed = Insertion(options, oracle, tolerance, max_insertions)
        network = fully_connected(2, len(params[1]))
        params = trainers.begin(network, data, key, loss, params=params)[1]
        state = _to_the_end(fixed, data, lam, learning_rate, params, state)
        full = not bool(jnp.any(insertion.spare(state.params)))
        done = float(state.gap) <= tolerance or int(state.stalls) >= insertion.STALLS
        if done or not full or int(state.insertions) >= max_insertions:
            break
        params, spare = state.params, 2 * spare
    certificate = _certificate(fixed, data, lam, state)
    return GlobalResult(_used(state.params), certificate, int(state.insertions))


def _to_the_end(fixed, data, lam, learning_rate, params, state) -> InsertionState:
    lam = jnp.asarray(lam, data.x.dtype)
    if state is None:
        state = _begin(fixed, data, lam, learning_rate, params)
    else:
        state = state._replace(params=params, over=jnp.asarray(False))
    while not state.over:
        state = _insert(fixed, data, lam, learning_rate, state)
    return state


_begin = jax.jit(insertion.begin, static_argnames="insertion")
_insert = jax.jit(insertion.insert, static_argnames="insertion")


def _used(params: Params) -> Params:
    kept = ~np.asarray(insertion.spare(params))
    return params[0][:, kept], params[1][kept]


def _certificate(fixed: Insertion, data: Dataset, lam: float, state) -> Certificate:
    """Of the network that is returned, in float64; the better of two proofs of its other side."""
    x, y = (np.asarray(a, np.float64) for a in data)
    samples = Dataset._make((x, y))
    params = two_layer.checked_weights(_used(state.params), x.shape[1])
    loss, oracle = fixed.loss, fixed.oracle
    f = two_layer.outputs(params, x)
    name = oracle_for(oracle, x)
    problem, tolerance = Problem(x, y, lam, loss), fixed.tolerance
    found = insertion.proof(loss, oracle, samples, f, lam)
    largest = lam * found.maxima.upper * _ratio(found.dual, len(y) * lam * found.maxima.weights)
    proved = certificate(problem, params, found.dual, name, tolerance, largest, found.maxima.nodes)
    if proved.gap > tolerance:
        best = global_minimum(samples, lam, loss=loss, oracle=oracle, params=params)
        if best.lower > proved.lower:
            gap = (proved.upper - best.lower) / proved.upper
            kind = best.kind if gap <= tolerance or best.kind != "exact" else "certified"
            nodes = best.nodes
            return Certificate(best.lower, proved.upper, gap, kind, params, best.dual, nodes)
    return proved


def _ratio(part: np.ndarray, whole: np.ndarray) -> float:
    """The number by which `part` is a multiple of `whole`."""
    return float(np.abs(part).max() / (np.abs(whole).max() or 1.0))
