"""The path of minimizers of F_λ: λ by λ, each trained, polished and kept.

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

from ntkreg._checks import check_lams
from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float, Params, PRNGKey, Scalar, Scalars
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network, check_homogeneous
from ntkreg.training import trainers
from ntkreg.training.margins import dual_weighted_margin, normalized_margin
from ntkreg.training.norms import EUCLIDEAN, Norm, exponent, norm_of
from ntkreg.training.objectives import Loss, get_loss, log_objective
from ntkreg.training.stationarity import log_residual
from ntkreg.training.trainers import TrainOptions

LEARNED = 1e-3  # below the mean loss of zero outputs, at least
RAY_POINTS, RAY_ROUNDS, RAY_REACH = 65, 5, 3.0  # of the search along a ray; log c within ±3


def follow(
    options: TrainOptions,
    network: Network,
    data: Dataset,
    log_lams: Float[Array, " p"],
    learning_rate: Scalar,
    params: Params,
    warm: bool | Array = True,
) -> Params:
    """The parameters at the end of every λ of the path, stacked along a new first axis.

    Args:
      warm: whether each λ begins at the last one's end, stretched along its ray, or at `params`. A
        warm path too begins there as long as an end is no better than zero outputs, as it is where
        λ is too large.
    """
    loss = get_loss(options.loss)

    def at_lam(start: Params, logs: tuple[Array, Array]) -> tuple[Params, Params]:
        log_lam, following = logs
        end = trainers.minimized(options, network, data, log_lam, learning_rate, start).params
        stretched = stretched_to(loss, network, end, data, following, options.power, options.norm)
        goes_on = jnp.asarray(warm) & _has_learned(loss, network, end, data)
        return jax.tree.map(lambda p, q: jnp.where(goes_on, p, q), stretched, params), end

    following = jnp.concatenate([log_lams[1:], log_lams[-1:]])
    return jax.lax.scan(at_lam, params, (log_lams, following))[1]


def _has_learned(loss: Loss, network: Network, params: Params, data: Dataset) -> Array:
    """Whether the loss is below that of zero outputs."""
    outputs = network.apply(params, data.x)
    gained = loss.value(0.0 * outputs, data.y) - loss.value(outputs, data.y)
    return jnp.mean(gained) > LEARNED


def stretched_to(
    loss: Loss,
    network: Network,
    params: Params,
    data: Dataset,
    log_lam: Scalar,
    power: float | None = None,
    norm: Norm = EUCLIDEAN,
) -> Params:
    """The multiple cΘ of smallest F_λ with c in [e⁻³, e³], to six digits.

    Outputs at cΘ are c^order times those at Θ, so no network is evaluated in the search.
    """
    outputs, order = network.apply(params, data.x), network.order
    log_norm, r = jnp.log(norm_of(params, norm)), exponent(norm, power)

    def value(log_scale: Float[Array, ""]) -> Float[Array, ""]:
        logs = loss.log_value(jnp.exp(order * log_scale) * outputs, data.y)
        log_loss = jax.nn.logsumexp(logs) - jnp.log(logs.shape[0])
        return jnp.logaddexp(log_loss, log_lam + r * (log_scale + log_norm))

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
      norm: ‖Θ‖.
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


def measure(
    options: TrainOptions, network: Network, data: Dataset, log_lams: Array, ends: Params
) -> PathInfo:
    """What there is to say of the ends of a path."""
    loss, power, norm = get_loss(options.loss), options.power, options.norm

    def at(entry: tuple[Array, Params]) -> PathInfo:
        log_lam, params = entry
        return PathInfo(
            normalized_margin(network, params, data, norm),
            dual_weighted_margin(loss, network, params, data, norm),
            log_objective(loss, network, params, data, log_lam, power, norm),
            norm_of(params, norm),
            log_residual(loss, network, params, data, log_lam, power, norm),
        )

    return jax.lax.map(at, (log_lams, ends))


def train_path(
    network: Network,
    data: Dataset,
    *,
    lams: Scalars,
    key: PRNGKey,
    learning_rate: Scalar = 0.03,
    params: Params | None = None,
    warm: bool = True,
    options: TrainOptions = TrainOptions(finish_steps=100),  # noqa: B008 - frozen
    **fields,
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
      warm: of `follow`.
      options: of the training at each λ.
      **fields: of `TrainOptions`, in place of those of `options`.

    Raises:
      ValueError: for bad data, λ, learning rate or options, a loss that is no margin's, or a
        network that is not homogeneous of its order, at the start or at an end.
    """
    options = dataclasses.replace(options, **fields)
    if get_loss(options.loss).labels == "real":
        raise ValueError(f"loss must be one of a margin, got {options.loss!r}")
    check_lams(lams, falling=True)
    data, params = trainers.begin(network, data, key, options.loss, params=params)
    check_homogeneous(network, params, data.x)
    dtype = data.x.dtype
    rate = trainers.checked_rate(learning_rate, dtype)
    result = _run(options, network, data, trainers.logs_of(lams, dtype), rate, params, warm)
    _check_ends(network, result.params, data)
    return result


def _check_ends(network: Network, ends: Params, data: Dataset) -> None:
    """Raises ValueError where the network is not homogeneous at an end, so has no margin there."""
    for part in range(len(jax.tree.leaves(ends)[0])) if is_concrete(ends, data) else ():
        end = jax.tree.map(lambda stacked, part=part: stacked[part], ends)
        if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(end)):
            check_homogeneous(network, end, data.x)


@functools.partial(jax.jit, static_argnames=("options", "network"))
def _run(
    options: TrainOptions, network: Network, data: Dataset, log_lams, rate, params, warm
) -> PathResult:
    ends = follow(options, network, data, log_lams, rate, params, warm)
    return PathResult(ends, measure(options, network, data, log_lams, ends))
