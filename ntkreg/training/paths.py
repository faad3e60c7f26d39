"""The path of minimizers of F_λ: λ by λ, each trained, polished and kept.

At small λ, Θ is large (‖Θ‖^order grows like log(1/λ)/γ) and the loss is sharp: its exponentials
tell margins apart that differ by 1/‖Θ‖^order of themselves. An optimizer that starts there anew
loses the margin. Followed from a larger λ, each minimizer is a small step from the last one, once
that is stretched to the new norm, which costs nothing: along the ray cΘ all margins are known.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ntkreg._checks import check_lams
from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float, Params, PRNGKey, PyTree, Scalar, Scalars
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network, check_homogeneous
from ntkreg.training import trainers
from ntkreg.training.margins import dual_weighted_margin, normalized_margin
from ntkreg.training.objectives import get_loss, log_objective
from ntkreg.training.stationarity import log_residual
from ntkreg.training.trainers import Settings, Trainer

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


def follow(
    path: Path, data: Dataset, settings: Settings, params: Params, warm: bool | Array = True
) -> Params:
    """The parameters at the end of every λ of the path, stacked along a new first axis.

    Args:
      warm: whether each λ begins at the last one's end, stretched along its ray, or at `params`. A
        warm path too begins there as long as an end is no better than zero outputs, as it is where
        λ is too large.
    """

    def at_lam(start: Params, log_lams: tuple[Array, Array]) -> tuple[Params, Params]:
        log_lam, following = log_lams
        end = _minimized(path, data, Settings(log_lam[None], settings.learning_rate), start)
        stretched = stretched_to(path.trainer, data, following, end)
        goes_on = jnp.asarray(warm) & _has_learned(path.trainer, data, end)
        return jax.tree.map(lambda p, q: jnp.where(goes_on, p, q), stretched, params), end

    following = jnp.concatenate([settings.log_lams[1:], settings.log_lams[-1:]])
    return jax.lax.scan(at_lam, params, (settings.log_lams, following))[1]


def _minimized(path: Path, data: Dataset, settings: Settings, start: Params) -> Params:
    """The end of both optimizers at one λ."""
    trainer, state = path.trainer, trainers.init(path.trainer, start)
    trained = trainers.advance(trainer, data, settings, state, trainer.num_steps).params
    value = _log_objective(trainer, data, settings.log_lams[0])
    return _polished(value, trained, path.finish_steps)


def _has_learned(trainer: Trainer, data: Dataset, params: Params) -> Array:
    """Whether the loss is below that of zero outputs."""
    loss, outputs = get_loss(trainer.loss), trainer.network.apply(params, data.x)
    gained = loss.value(0.0 * outputs, data.y) - loss.value(outputs, data.y)
    return jnp.mean(gained) > LEARNED


def _log_objective(trainer: Trainer, data: Dataset, log_lam: Array):
    loss = get_loss(trainer.loss)
    return lambda p: log_objective(loss, trainer.network, p, data, log_lam, trainer.power)


def _polished(value: Callable[[Params], Array], params: Params, num_steps: int) -> Params:
    """The parameters after L-BFGS, whose steps obey Wolfe's conditions; none leads upwards.

    It runs on one long vector: on a tree of layers its program would grow with the depth.
    """
    flat, unravel = ravel_pytree(params)
    value_of = lambda p: value(unravel(p))
    optimizer = optax.lbfgs(memory_size=MEMORY)

    def step(_, carry: tuple[Array, PyTree]) -> tuple[Array, PyTree]:
        at, state = carry
        now, slope = jax.value_and_grad(value_of)(at)
        updates, state = optimizer.update(
            slope, state, at, value=now, grad=slope, value_fn=value_of
        )
        better = optax.tree.get(state, "value") <= now  # on a kink the search may end anywhere
        return jnp.where(better, at + updates, at), state

    # Weak types would change in the loop.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), optimizer.init(flat))
    return unravel(jax.lax.fori_loop(0, num_steps, step, (flat, state))[0])


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


def measure(path: Path, data: Dataset, settings: Settings, ends: Params) -> PathInfo:
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

    return jax.lax.map(at, (settings.log_lams, ends))


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

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> network, key = fully_connected(depth=2, width=8), jax.random.key(0)
    >>> path = train_path(network, two, lams=[1e-2, 1e-4], key=key, num_steps=300)
    >>> path.info.normalized_margin.round(3).tolist()  # the max margin is 1/4
    [0.25, 0.25]

    Towards the max-margin network take λ falling from about 1e-1 to 1e-8 in float32, to 1e-200 in
    float64.

    Args:
      lams: λ > 0, each smaller than the one before; or a single one.
      key: draws the first parameters, unless `params` has them.
      finish_steps: of `Path`.
      warm: of `follow`.
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
    result = _run(path, data, trainers.settings(lams, learning_rate, data.x.dtype), params, warm)
    _check_ends(network, result.params, data)
    return result


def _check_ends(network: Network, ends: Params, data: Dataset) -> None:
    """Raises ValueError where the network is not homogeneous at an end, so has no margin there."""
    for part in range(len(jax.tree.leaves(ends)[0])) if is_concrete(ends, data) else ():
        end = jax.tree.map(lambda stacked, part=part: stacked[part], ends)
        if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end)):
            check_homogeneous(network, end, data.x)


@functools.partial(jax.jit, static_argnames="path")
def _run(path: Path, data: Dataset, settings: Settings, params: Params, warm: Array) -> PathResult:
    ends = follow(path, data, settings, params, warm)
    return PathResult(ends, measure(path, data, settings, ends))
