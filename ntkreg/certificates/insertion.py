"""Two-layer networks trained to the certified global minimum: train, add what is missing, go on.

A stationary network need not be a global minimizer. Its slopes cᵢ = −ℓ′ᵢ/n tell: it is one exactly
where |Σ cᵢ relu(uᵀxᵢ)| ≤ 2λ for all unit vectors u, and scaled to be so they bound the minimum from
below. Where some u has more, a small neuron in that direction lowers F_λ, and training goes on from
there. Networks have zero neurons to spare, which descent leaves at zero.

The slopes of a trained network prove less than is true: they are off by the root of what F is off.
So training also ends where neurons gain nothing any more, and the proof is then completed by the
convex programme over the network's units (`certificates.global_minimum`).

Source: Bach (JMLR 2017), Section 4, for column generation; Wei, Lee, Liu, Ma (NeurIPS 2019) for
F_λ.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg._checks import check_positive
from ntkreg._types import Array, Bool, Float, Int, Params, PRNGKey, Scalar
from ntkreg.certificates import oracles, two_layer
from ntkreg.certificates.certified import Certificate, certificate, global_minimum, oracle_for
from ntkreg.certificates.enumeration import row_space
from ntkreg.certificates.oracles import Maxima
from ntkreg.certificates.proofs import DUALS, Problem, dual_minimum
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import fully_connected
from ntkreg.training import trainers
from ntkreg.training.objectives import get_loss
from ntkreg.training.trainers import TrainOptions

SIZES = np.logspace(-6, 1, 71)  # of a new neuron, relative to the network's ‖Θ‖²/2
AT_ONCE = 8  # neurons that are added in a round, at most
STALLS = 5  # rounds without a gain after which there is none
ZERO = 1e-12  # share of ‖Θ‖² below which a neuron is one to spare
MEMORY = 256  # samples whose activation patterns are kept


@dataclasses.dataclass(frozen=True)
class Insertion:
    """What is fixed at compile time.

    Attributes:
      options: of training after each insertion, with all neurons, zero ones among them.
      oracle: of `oracles.KINDS`, or "auto".
      tolerance: the proved relative gap at which it ends; it ends too where STALLS rounds in
        turn have lowered F by less than a tenth of it each, or one after which none is missing.
      max_insertions: after which it ends.
    """

    options: TrainOptions
    oracle: str = "auto"
    tolerance: float = 1e-4
    max_insertions: int = 400

    def __post_init__(self):
        if self.loss not in DUALS:
            raise ValueError(f"loss must be one of {', '.join(DUALS)}, got {self.loss!r}")
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1, got {self.tolerance}")
        if self.max_insertions < 0:
            raise ValueError(f"max_insertions must be at least 0, got {self.max_insertions}")

    @property
    def loss(self) -> str:
        """The name of the loss: certificates are for those that have one."""
        return str(self.options.loss)


class InsertionState(NamedTuple):
    """What goes from round to round.

    Attributes:
      params: of the network, trained.
      objective: F_λ.
      gap: (F − the bound that its slopes prove)/F.
      insertions: neurons that were added.
      stalls: how many of the last rounds in turn gained nothing to speak of.
      over: whether the gap is closed, no direction is missing or gains, or no neuron is to spare.
        Where none is missing but the last round gained, training has not come to rest.
      missing: (unit vectors, signs) of the neurons to be added next, best first; 0 where none is.
    """

    params: Params
    objective: Float[Array, ""]
    gap: Float[Array, ""]
    insertions: Int[Array, ""]
    stalls: Int[Array, ""]
    over: Array
    missing: tuple[Float[Array, "k d"], Float[Array, " k"]]


def begin(
    insertion: Insertion, data: Dataset, lam: Scalar, learning_rate: Scalar, params: Params
) -> InsertionState:
    """The state after the first training."""
    return _trained(insertion, data, lam, learning_rate, params, None)


def insert(
    insertion: Insertion,
    data: Dataset,
    lam: Scalar,
    learning_rate: Scalar,
    state: InsertionState,
) -> InsertionState:
    """The missing neurons, as long as there are some to spare, and training after them."""
    add = lambda params, one: (inserted(insertion.loss, data, lam, params, *one), None)
    params, _ = jax.lax.scan(add, state.params, state.missing)
    return _trained(insertion, data, lam, learning_rate, params, state)


def _trained(insertion, data, lam, learning_rate, params, before) -> InsertionState:
    network, loss = fully_connected(2, len(params[1])), get_loss(insertion.loss)
    rate = jnp.asarray(learning_rate, data.x.dtype)
    options, log_lam = insertion.options, jnp.log(lam)
    params = trainers.minimized(options, network, data, log_lam, rate, params).params
    f = network.apply(params, data.x)
    value = jnp.mean(loss.value(f, data.y)) + lam * optax.tree.norm(params, squared=True)
    lower, *missing = _priced(insertion, data, lam, f)
    gap, insertions, stalls = (value - lower) / value, jnp.int32(0), jnp.int32(0)
    if before is not None:
        gained = before.objective - value > insertion.tolerance / 10 * value
        stalls = jnp.where(gained, 0, before.stalls + 1).astype(jnp.int32)
        added = jnp.minimum(jnp.sum(before.missing[1] != 0), jnp.sum(spare(before.params)))
        insertions = before.insertions + added.astype(jnp.int32)
    complete = (missing[1][0] == 0) & (stalls > 0)
    closed = (gap <= insertion.tolerance) | complete | (stalls >= STALLS)
    over = closed | (insertions >= insertion.max_insertions) | ~jnp.any(spare(params))
    return InsertionState(params, value, gap, insertions, stalls, over, tuple(missing))


def inserted(
    loss: str,
    data: Dataset,
    lam: Scalar,
    params: Params,
    direction: Float[Array, " d"],
    sign: Scalar,
) -> Params:
    """The network with a spare neuron set to this direction and sign, in the size that is best.

    As it is where the sign is 0 or no neuron is to spare.
    """
    first, last = params
    value, f = get_loss(loss).value, fully_connected(2, len(last)).apply(params, data.x)
    feature = sign * jax.nn.relu(data.x @ direction)
    half = jnp.maximum(optax.tree.norm(params, squared=True), 1.0) / 2
    sizes = jnp.asarray(SIZES, f.dtype) * half
    at = lambda size: jnp.mean(value(f + size * feature, data.y)) + 2 * lam * size
    root = jnp.sqrt(sizes[jnp.argmin(jax.vmap(at)(sizes))])
    slot = jnp.argmax(spare(params))
    new = first.at[:, slot].set(root * direction), last.at[slot, 0].set(root * sign)
    can = (sign != 0) & jnp.any(spare(params))
    return jax.tree.map(lambda p, q: jnp.where(can, p, q), new, params)


def with_spare(params: Params, number: int) -> Params:
    """The network with so many zero neurons more."""
    first, last = params
    return jnp.pad(first, ((0, 0), (0, number))), jnp.pad(last, ((0, number), (0, 0)))


def spare(params: Params) -> Bool[Array, " m"]:
    """Which neurons are zero, or nearly."""
    first, last = params
    squares = jnp.sum(first**2, axis=0) + last[:, 0] ** 2
    return squares <= ZERO * jnp.sum(squares)


def _priced(insertion: Insertion, data: Dataset, lam: Scalar, f: Float[Array, " n"]):
    """(lower bound, directions and signs of the neurons worth more than they cost), on the host."""
    of = lambda *shape: jax.ShapeDtypeStruct(shape, f.dtype)
    shapes = of(), of(AT_ONCE, data.x.shape[1]), of(AT_ONCE)
    price = functools.partial(_priced_on_host, insertion.loss, insertion.oracle)
    return jax.pure_callback(price, shapes, *data, f, lam, vmap_method="sequential")


def _priced_on_host(loss: str, oracle: str, x, y, f, lam) -> tuple:
    dtype = x.dtype
    x, y, f = (np.asarray(a, np.float64) for a in (x, y, f))
    found = proof(loss, oracle, Dataset._make((x, y)), f, float(lam))
    directions, signs = found.missing(x)
    missing, signed = np.zeros((AT_ONCE, x.shape[1])), np.zeros(AT_ONCE)
    missing[: len(signs)], signed[: len(signs)] = directions[:AT_ONCE], signs[:AT_ONCE]
    return tuple(np.asarray(value, dtype) for value in (found.lower, missing, signed))


class Proof(NamedTuple):
    """What the slopes at outputs f prove: the bound, its dual weights, and the oracle's maxima.

    The maxima are of weights c/λ, in the row space of x; `basis` leads out.
    """

    lower: float
    dual: np.ndarray
    maxima: Maxima
    basis: np.ndarray

    def missing(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit vectors (k, d) and signs of the neurons worth more than they cost, best first."""
        inside, signs = self.maxima.units()
        directions = inside @ self.basis.T
        worth = signs * (self.maxima.weights @ np.maximum(x @ directions.T, 0.0))
        kept = np.argsort(-worth)
        kept = kept[worth[kept] > 2.0]
        return directions[kept], signs[kept]


def proof(loss: str, oracle: str, data: Dataset, f: np.ndarray, lam: float) -> Proof:
    """Of the minimum of F_λ, from outputs f on samples in float64 (NumPy, host)."""
    x, y = map(np.asarray, data)
    maximize, basis = _oracle(oracle, x.tobytes(), x.shape)
    weights = -DUALS[loss].slope(f, y) / (len(y) * lam)
    maxima = oracles.of_signs(maximize, weights)
    return Proof(*dual_minimum(loss, y, lam, weights, maxima.upper), maxima, basis)


@functools.lru_cache(maxsize=MEMORY)
def _oracle(name: str, x: bytes, shape: tuple[int, int]):
    """The oracle in the row space of x, and the basis of that: made once for all rounds."""
    inside, basis = row_space(np.frombuffer(x).reshape(shape))
    return oracles.make_oracle(
        oracles.oracle_name(name, inside), np.ascontiguousarray(inside)
    ), basis


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
      num_steps: of Adam after every insertion.
      finish_steps: of L-BFGS after them.
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
    num_spare, state = max(width, 2 * AT_ONCE), None
    while True:
        params = with_spare(params, num_spare)
        fixed = Insertion(options, oracle, tolerance, max_insertions)
        network = fully_connected(2, len(params[1]))
        params = trainers.begin(network, data, key, loss, params=params)[1]
        state = _to_the_end(fixed, data, lam, learning_rate, params, state)
        full = not bool(jnp.any(spare(state.params)))
        done = float(state.gap) <= tolerance or int(state.stalls) >= STALLS
        if done or not full or int(state.insertions) >= max_insertions:
            break
        params, num_spare = state.params, 2 * num_spare
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


_begin = jax.jit(begin, static_argnames="insertion")
_insert = jax.jit(insert, static_argnames="insertion")


def _used(params: Params) -> Params:
    kept = ~np.asarray(spare(params))
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
    found = proof(loss, oracle, samples, f, lam)
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
