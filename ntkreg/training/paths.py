"""The path of minimizers of F_λ: λ by λ, each trained, finished off and kept.

At small λ, Θ is large (‖Θ‖^order grows like log(1/λ)/γ) and the loss is sharp: its exponentials
tell margins apart that differ by 1/‖Θ‖^order of themselves. An optimizer that starts there anew
loses the margin. Followed from a larger λ, each minimizer is a small step from the last one, once
that is stretched to the new norm, which costs nothing: along the ray cΘ all margins are known.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ntkreg._checks import check_lams
from ntkreg._compat import is_concrete
from ntkreg._types import Array, Bool, Float, Int, Params, PRNGKey, PyTree, Scalar, Scalars
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network, check_homogeneous
from ntkreg.training import trainers
from ntkreg.training.margins import dual_weighted_margin, normalized_margin
from ntkreg.training.objectives import get_loss, log_objective
from ntkreg.training.stationarity import NUM_GRADIENTS, log_residual
from ntkreg.training.trainers import Knobs, Trainer, TrainState

MEMORY = 20  # pairs that L-BFGS keeps
LEARNED = 1e-3  # below the mean loss of zero outputs, at least
RAY_POINTS, RAY_ROUNDS, RAY_REACH = 65, 5, 3.0  # of the search along a ray; log c within ±3


@dataclasses.dataclass(frozen=True)
class Path:
    """What is fixed at compile time about following a path.

    Attributes:
      trainer: network, loss and the first optimizer, `num_steps` of it at each λ.
      finish_steps: of L-BFGS after them, on the log of the objective. Where the minimizer lies on
        no kink they end at the rounding; on kinks they stop early and do no harm.
    """

    trainer: Trainer
    finish_steps: int = 100

    def __post_init__(self):
        if self.finish_steps < 0:
            raise ValueError(f"finish_steps must be at least 0, got {self.finish_steps}")


class PathState(NamedTuple):
    """What a path carries from step to step.

    Attributes:
      train: of the λ at hand; its parameters are those of both optimizers.
      finish: L-BFGS's own.
      step: steps taken on the whole path.
      warm: whether each λ begins at the last one's end, stretched along its ray, or at the first
        parameters. A warm path too begins there as long as an end is no better than zero outputs,
        as it is where λ is too large.
      first: the parameters before the first step.
      ends: the parameters at the end of every λ, stacked; of those not yet reached, `first`.
    """

    train: TrainState
    finish: PyTree
    step: Int[Array, ""]
    warm: Bool[Array, ""]
    first: Params
    ends: Params


def init(path: Path, knobs: Knobs, params: Params, warm: bool | Array = True) -> PathState:
    """The state before the first step."""
    ends = jax.tree.map(lambda p: jnp.broadcast_to(p, (*knobs.log_lams.shape, *p.shape)), params)
    train, warm = trainers.init(path.trainer, params), jnp.asarray(warm, bool)
    return PathState(train, _unfinished(params), jnp.int32(0), warm, params, ends)


def steps_at_each_lam(path: Path) -> int:
    """Steps of both optimizers together."""
    return path.trainer.num_steps + path.finish_steps


def copies_held(num_lams: int) -> int:
    """How many copies of the parameters a path holds at most: ends, L-BFGS, gradients, the rest."""
    return num_lams + 2 * MEMORY + NUM_GRADIENTS + 8


def total_steps(path: Path, knobs: Knobs) -> int:
    """The number of steps of a whole path."""
    return steps_at_each_lam(path) * knobs.log_lams.shape[0]


def is_done(path: Path, knobs: Knobs, state: PathState) -> Array:
    """Whether the last λ is finished."""
    return state.step >= total_steps(path, knobs)


def advance(
    path: Path, data: Dataset, knobs: Knobs, state: PathState, num_steps: Scalar
) -> PathState:
    """The state `num_steps` steps on, or at the path's end where that comes first.

    How a path is cut into calls does not change a bit of its result.
    """
    last = jnp.minimum(state.step + num_steps, total_steps(path, knobs))
    return jax.lax.while_loop(
        lambda s: s.step < last, lambda s: _within_one_lam(path, data, knobs, s, last), state
    )


def _within_one_lam(
    path: Path, data: Dataset, knobs: Knobs, state: PathState, last: Array
) -> PathState:
    """As far as step `last`, or to the end of the λ at hand and the start of the next."""
    part = state.step // steps_at_each_lam(path)
    begin, end = (steps_at_each_lam(path) * p for p in (part, part + 1))
    here = Knobs(knobs.log_lams[part][None], knobs.learning_rate)
    train = trainers.advance(path.trainer, data, here, state.train, last - state.step)
    trained = trainers.is_done(path.trainer, here, train)
    # A trainer that stops early counts as one that took all its steps.
    step = jnp.maximum(state.step, begin + jnp.where(trained, path.trainer.num_steps, train.step))
    state = state._replace(train=train, step=step)
    value, until = _log_objective(path.trainer, data, here.log_lams[0]), jnp.minimum(last, end)
    unfinished = lambda s: trained & (s.step < until)
    state = jax.lax.while_loop(unfinished, lambda s: _finishing(value, s), state)
    following = jnp.minimum(part + 1, knobs.log_lams.shape[0] - 1)
    return jax.lax.cond(
        state.step == end,
        lambda s: _next_lam(path, data, s, part, knobs.log_lams[following]),
        lambda s: s,
        state,
    )


def _log_objective(trainer: Trainer, data: Dataset, log_lam: Array):
    loss = get_loss(trainer.loss)
    return lambda p: log_objective(loss, trainer.network, p, data, log_lam, trainer.power)


def _finisher() -> optax.GradientTransformationExtraArgs:
    return optax.lbfgs(memory_size=MEMORY)


def _unfinished(params: Params) -> PyTree:
    """L-BFGS before its first step, in types that its steps keep: weak ones compile twice."""
    flat, _ = ravel_pytree(params)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), _finisher().init(flat))


def _finishing(value, state: PathState) -> PathState:
    """One step of L-BFGS, its length by Wolfe's conditions; none where they lead upwards.

    It runs on one long vector: on a tree of layers its program would grow with the depth.
    """
    flat, unravel = ravel_pytree(state.train.params)
    value_of = lambda p: value(unravel(p))
    now, slope = jax.value_and_grad(value_of)(flat)
    known = dict(value=now, grad=slope, value_fn=value_of)
    updates, finish = _finisher().update(slope, state.finish, flat, **known)
    better = optax.tree.get(finish, "value") <= now  # on a kink the search may end anywhere
    params = unravel(jnp.where(better, flat + updates, flat))
    train = state.train._replace(params=params)
    return state._replace(train=train, finish=finish, step=state.step + 1)


def _next_lam(
    path: Path, data: Dataset, state: PathState, part: Array, log_lam: Array
) -> PathState:
    """Keeps the end of one λ and begins the next."""
    end = state.train.params
    ends = jax.tree.map(lambda kept, p: kept.at[part].set(p), state.ends, end)
    loss = get_loss(path.trainer.loss)
    outputs = path.trainer.network.apply(end, data.x)
    gained = loss.value(0.0 * outputs, data.y) - loss.value(outputs, data.y)
    goes_on = state.warm & (jnp.mean(gained) > LEARNED)
    stretched = stretched_to(path.trainer, data, log_lam, end)
    start = jax.tree.map(lambda p, q: jnp.where(goes_on, p, q), stretched, state.first)
    train = trainers.init(path.trainer, start)
    return state._replace(train=train, finish=_unfinished(start), ends=ends)


def stretched_to(trainer: Trainer, data: Dataset, log_lam: Scalar, params: Params) -> Params:
    """The multiple cΘ of least F_λ with c in [e⁻³, e³], to six digits.

    Outputs at cΘ are c^order times those at Θ, so no network is evaluated in the search.
    """
    loss, order = get_loss(trainer.loss), trainer.network.order
    outputs = trainer.network.apply(params, data.x)
    log_norm = jnp.log(optax.tree.norm(params))

    def value(log_scale: Float[Array, ""]) -> Float[Array, ""]:
        logs = loss.log_value(jnp.exp(order * log_scale) * outputs, data.y)
        log_loss = jax.nn.logsumexp(logs) - jnp.log(logs.shape[0])
        return jnp.logaddexp(log_loss, log_lam + trainer.power * (log_scale + log_norm))

    def narrowed(round, centre: Float[Array, ""]) -> Float[Array, ""]:
        reach = RAY_REACH * (4.0 / RAY_POINTS) ** round.astype(log_norm.dtype)
        tried = centre + reach * jnp.linspace(-1.0, 1.0, RAY_POINTS, dtype=log_norm.dtype)
        tried = jnp.clip(tried, -RAY_REACH, RAY_REACH)
        return tried[jnp.argmin(jax.vmap(value)(tried))]

    centre = jax.lax.fori_loop(0, RAY_ROUNDS, narrowed, jnp.zeros((), log_norm.dtype))
    return optax.tree.scale(jnp.exp(centre), params)


class PathInfo(NamedTuple):
    """What was measured at the end of every λ; arrays have one entry for each.

    Attributes:
      normalized_margin: min q/‖Θ‖^order; negative where a sample is wrong.
      dual_weighted_margin: the estimate of the max margin (`margins.dual_weighted_margin`).
      log_objective: log F_λ.
      norm: ‖Θ‖₂.
      log_residual: of stationarity (`stationarity.log_residual`); below log 0.001 the optimizer has
        done its work, and else it, not the theorem, has failed.
    """

    normalized_margin: Float[Array, " p"]
    dual_weighted_margin: Float[Array, " p"]
    log_objective: Float[Array, " p"]
    norm: Float[Array, " p"]
    log_residual: Float[Array, " p"]


class PathResult(NamedTuple):
    """Parameters at the end of every λ, stacked along a first axis, and what was measured there."""

    params: Params
    info: PathInfo


def measure(path: Path, data: Dataset, knobs: Knobs, ends: Params) -> PathInfo:
    """What there is to say of the ends of a path."""
    trainer, network, loss = path.trainer, path.trainer.network, get_loss(path.trainer.loss)

    def at(entry: tuple[Array, Params]) -> PathInfo:
        log_lam, params = entry
        return PathInfo(
            normalized_margin(network, params, data),
            dual_weighted_margin(loss, network, params, data),
            _log_objective(trainer, data, log_lam)(params),
            optax.tree.norm(params),
            log_residual(trainer, data, log_lam, params),
        )

    return jax.lax.map(at, (knobs.log_lams, ends))


def train_path(
    network: Network,
    data: Dataset,
    *,
    lams: Scalars,
    key: PRNGKey,
    learning_rate: Scalar = 0.03,
    params: Params | None = None,
    finish_steps: int = 100,
    warm: bool = True,
    **options,
) -> PathResult:
    """Trained networks along a path of λ, from the first to the last, and their margins.

    Towards the max-margin network take λ falling from about 1e-1 to 1e-8 in float32, to 1e-200 in
    float64.

    Args:
      lams: λ > 0, each smaller than the one before; or a single one.
      key: draws the first parameters, unless `params` has them.
      finish_steps: of `Path`.
      warm: of `PathState`.
      **options: of `trainers.Trainer`; num_steps are those at each λ.

    Raises:
      ValueError: for bad data, λ, learning rate or options, a loss that is no margin's, or a
        network that is not homogeneous of its order, at the start or at an end.
    """
    path = Path(Trainer(network, **options), finish_steps)
    if get_loss(path.trainer.loss).labels == "real":
        raise ValueError(f"loss must be one of a margin, got {path.trainer.loss!r}")
    lams = np.atleast_1d(np.asarray(lams, np.float64))
    check_lams(lams, falling=True)
    data, params = trainers.begin(path.trainer, data, key, params=params)
    check_homogeneous(network, params, data.x)
    result = _run(path, data, trainers.knobs(lams, learning_rate, data.x.dtype), params, warm)
    _check_ends(network, result.params, data)
    return result


def _check_ends(network: Network, ends: Params, data: Dataset) -> None:
    """Raises ValueError where the network is not homogeneous at an end, so has no margin there."""
    for part in range(len(jax.tree.leaves(ends)[0])) if is_concrete(ends, data) else ():
        end = jax.tree.map(lambda stacked, part=part: stacked[part], ends)
        if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end)):
            check_homogeneous(network, end, data.x)


@functools.partial(jax.jit, static_argnames="path")
def _run(path: Path, data: Dataset, knobs: Knobs, params: Params, warm: Array) -> PathResult:
    ends = follow(path, data, knobs, params, warm)
    return PathResult(ends, measure(path, data, knobs, ends))


def follow(
    path: Path, data: Dataset, knobs: Knobs, params: Params, warm: bool | Array = True
) -> Params:
    """The parameters at the end of every λ of the path, stacked along a new first axis."""
    state = init(path, knobs, params, warm)
    return advance(path, data, knobs, state, total_steps(path, knobs)).ends
