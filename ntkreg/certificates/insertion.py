"""Column generation by gradient descent: train, add the neurons that are missing, and go on.

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

from ntkreg._types import Array, Bool, Float, Int, Params, Scalar
from ntkreg.certificates import oracles
from ntkreg.certificates.arrangements import row_space
from ntkreg.certificates.conjugates import DUALS, dual_minimum
from ntkreg.certificates.oracles import Maxima
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
