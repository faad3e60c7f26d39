"""The one training loop: `init`, `step`, `advance`, `minimized`; and `train`, all in one call.

A path of λ is `minimized` from λ to λ (`paths`), training to a certified minimum is `minimized`
between insertions (`certificates.insertion`). The noisy flow has a step of its own (`flows`).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from ntkreg._checks import check_lams, check_positive
from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float, Int, Params, PRNGKey, PyTree, Scalar, Scalars
from ntkreg.data.dataset import Dataset, check_dataset
from ntkreg.networks.network import Network
from ntkreg.training.margins import margins, normalized_margin
from ntkreg.training.norms import EUCLIDEAN, Norm, check_norm, exponent, norm_of
from ntkreg.training.objectives import Loss, get_loss, log_mean_loss, log_objective, objective
from ntkreg.training.optimizers import check_optimizer, moved

MEMORY = 20  # pairs that L-BFGS keeps


def cosine(progress: Scalar) -> Array:
    """½(1 + cos π·progress): from 1 down to 0 over the run."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def constant(progress: Scalar) -> Array:
    """1 throughout."""
    return jnp.ones_like(progress)


@dataclasses.dataclass(frozen=True)
class TrainOptions:
    """How a network is trained: what is fixed at compile time.

    Attributes:
      loss: a name of `objectives.LOSSES`, or a Loss of your own.
      descend: "log" descends log F, whose steps do not shrink with F: for paths to a minimum.
        "plain" descends F itself: for everything about dynamics.
      optimizer: a learning rate -> an optimizer of optax, as `optax.adam` is. It is made anew for
        each step with the rate that the schedule has there, and must follow it; what its update
        asks for (`value`, `grad`, `value_fn`) it gets.
      schedule: the part of the run done, in [0, 1] -> multiplier of the learning rate.
      num_steps: of the optimizer, at each λ.
      finish_steps: of L-BFGS after them, on log F. Where the minimizer lies on no kink they end at
        the rounding; on kinks they stop early and do no harm.
      stop_log_loss: the optimizer ends as soon as the log of the mean loss is at most this.
      power: the exponent r of the penalty λ‖Θ‖^r; 2 unless given, and p with the norm (2, p).
      norm: 2, or (2, p): the p-norm over neurons, for two layers (`norms`). Margins and norms are
        reported in it.

    Raises:
      ValueError: for values out of range, and an optimizer that does not follow its learning rate.
    """

    loss: str | Loss = "logistic"
    descend: Literal["log", "plain"] = "log"
    optimizer: Callable[..., optax.GradientTransformation] = optax.adam
    schedule: Callable[[Scalar], Array] = cosine
    num_steps: int = 4000
    finish_steps: int = 0
    stop_log_loss: float = -math.inf
    power: float | None = None
    norm: Norm = EUCLIDEAN

    def __post_init__(self):
        get_loss(self.loss)
        if self.descend not in ("log", "plain"):
            raise ValueError(f"descend must be 'log' or 'plain', got {self.descend!r}")
        for name, smallest in (("num_steps", 1), ("finish_steps", 0)):
            if getattr(self, name) < smallest:
                raise ValueError(f"{name} must be at least {smallest}, got {getattr(self, name)}")
        check_norm(self.norm)
        check_positive(power=exponent(self.norm, self.power))
        check_optimizer(self.optimizer, self.descend == "log")


class TrainState(NamedTuple):
    """What a run carries from step to step, and all that a checkpoint needs.

    Attributes:
      params: after the last step.
      optimizer_state, step: the optimizer's moments, and the number of steps taken.
      log_loss: natural logarithm of the mean loss, without the penalty, at the parameters before
        the last step (where its gradient was taken); infinite before the first.
    """

    params: Params
    optimizer_state: PyTree
    step: Int[Array, ""]
    log_loss: Float[Array, ""]


class TrainInfo(NamedTuple):
    """What was measured of a run, at its last parameters.

    Attributes:
      log_objective: log F at the last λ.
      log_loss: log of the mean loss.
      log_gradient_norm: log ‖∇ log F‖; F is stationary where it is small.
      norm: ‖Θ‖.
      normalized_margin: of the training data; negative where a sample is wrong.
      train_error: the share of samples with no margin > 0; None for real labels.
      steps: the number of steps that the optimizer took.
      finite: whether all parameters are finite.
    """

    log_objective: Float[Array, ""]
    log_loss: Float[Array, ""]
    log_gradient_norm: Float[Array, ""]
    norm: Float[Array, ""]
    normalized_margin: Float[Array, ""]
    train_error: Float[Array, ""] | None
    steps: Int[Array, ""]
    finite: Array


class TrainResult(NamedTuple):
    """Trained parameters and what was measured."""

    params: Params
    info: TrainInfo


def init(options: TrainOptions, params: Params) -> TrainState:
    """The state before the first step from these parameters."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    optimizer_state = options.optimizer(0.0).init(params)
    return TrainState(params, optimizer_state, jnp.int32(0), jnp.asarray(jnp.inf, dtype))


def is_done(options: TrainOptions, state: TrainState) -> Array:
    """Whether the optimizer is at its end: all steps taken, or the loss low enough."""
    return (state.step >= options.num_steps) | (state.log_loss <= options.stop_log_loss)


def step(
    options: TrainOptions,
    network: Network,
    data: Dataset,
    log_lam: Scalar,
    learning_rate: Scalar,
    state: TrainState,
) -> TrainState:
    """One step of the optimizer on F_λ, or on log F_λ."""
    loss = get_loss(options.loss)
    value = log_objective if options.descend == "log" else objective

    def descended(params: Params) -> tuple[Array, Array]:
        log_loss = log_mean_loss(loss, network, params, data)
        return value(loss, network, params, data, log_lam, options.power, options.norm), log_loss

    dtype = state.log_loss.dtype  # int32 / int is float32, whatever the rest is
    rate = learning_rate * options.schedule(state.step.astype(dtype) / options.num_steps)
    optimizer = options.optimizer(jnp.asarray(rate, dtype))
    moments, is_first = state.optimizer_state, state.step == 0
    params, moments, log_loss = moved(optimizer, descended, state.params, moments, is_first)
    return TrainState(params, moments, state.step + 1, log_loss)


def advance(
    options: TrainOptions,
    network: Network,
    data: Dataset,
    log_lam: Scalar,
    learning_rate: Scalar,
    state: TrainState,
    num_steps: Scalar,
) -> TrainState:
    """The state `num_steps` steps on, or at the optimizer's end where that comes first.

    How a run is cut into calls does not change a bit of its result.
    """
    last = state.step + num_steps
    return jax.lax.while_loop(
        lambda s: (s.step < last) & ~is_done(options, s),
        functools.partial(step, options, network, data, log_lam, learning_rate),
        state,
    )


def minimized(
    options: TrainOptions,
    network: Network,
    data: Dataset,
    log_lam: Scalar,
    learning_rate: Scalar,
    params: Params,
) -> TrainState:
    """The state at the end of the optimizer, its parameters after L-BFGS."""
    state, last = init(options, params), options.num_steps
    state = advance(options, network, data, log_lam, learning_rate, state, last)
    loss = get_loss(options.loss)
    value = lambda p: log_objective(loss, network, p, data, log_lam, options.power, options.norm)
    return state._replace(params=_polished(value, state.params, options.finish_steps))


def _polished(value: Callable[[Params], Array], params: Params, num_steps: int) -> Params:
    """The parameters after L-BFGS, whose steps obey Wolfe's conditions; none leads upwards.

    It runs on one long vector: on a tree of layers its program would grow with the depth.
    """
    if not num_steps:
        return params
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


def measure(
    options: TrainOptions,
    network: Network,
    data: Dataset,
    log_lam: Scalar,
    params: Params,
    steps: Int[Array, ""],
) -> TrainInfo:
    """What there is to say of parameters, at λ, after so many steps."""
    loss = get_loss(options.loss)
    value, gradient = jax.value_and_grad(log_objective, argnums=2)(
        loss, network, params, data, log_lam, options.power, options.norm
    )
    errors = ~(margins(network, params, data) > 0)  # NaN is an error too
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
    return TrainInfo(
        log_objective=value,
        log_loss=log_mean_loss(loss, network, params, data),
        log_gradient_norm=jnp.log(optax.tree.norm(gradient)),
        norm=norm_of(params, options.norm),
        normalized_margin=normalized_margin(network, params, data, options.norm),
        train_error=jnp.mean(errors) if loss.labels != "real" else None,
        steps=steps,
        finite=jnp.all(jnp.stack(finite)),
    )


def train(
    network: Network,
    data: Dataset,
    *,
    lam: Scalars,
    key: PRNGKey,
    learning_rate: Scalar = 0.01,
    init_scale: Scalar = 1.0,
    params: Params | None = None,
    options: TrainOptions = TrainOptions(),
    **fields,
) -> TrainResult:
    """A trained network and what was measured of it.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> run = lambda lam: train(
    ...     fully_connected(depth=2, width=8), two, lam=lam, key=jax.random.key(0), num_steps=300
    ... )
    >>> jax.vmap(run)(jnp.array([1e-2, 1e-4])).info.train_error.tolist()
    [0.0, 0.0]

    Minimises F_λ (or log F_λ, see `TrainOptions.descend`) by full-batch steps, in the dtype of
    data.x: float32 or float64, to one of which `data.check_dataset` casts all others.

    Args:
      lam: λ ≥ 0; or several, from each of which training goes on at the next.
      key: draws the initial parameters.
      learning_rate: of the optimizer, before the schedule, which begins anew at each λ.
      init_scale: multiplies the initial parameters.
      params: a start to use in place of a random one.
      options: of the training.
      **fields: of `TrainOptions`, in place of those of `options`.

    Raises:
      ValueError: for bad data, λ, learning rate, or fields of `TrainOptions`; for an optimizer that
        does not follow its learning rate, with its name.
    """
    options = dataclasses.replace(options, **fields)
    data, params = begin(network, data, key, options.loss, init_scale, params)
    dtype = data.x.dtype
    log_lams, rate = logs_of(lam, dtype), checked_rate(learning_rate, dtype)
    return _run(options, network, data, log_lams, rate, params)


def logs_of(lam: Scalars, dtype=None) -> Float[Array, " p"]:
    """log λ of λ ≥ 0, or of each of several.

    Raises:
      ValueError: for λ < 0 or not finite.
    """
    check_lams(lam, name="lam", may_be_zero=True)
    if not is_concrete(lam):
        return jnp.asarray(jnp.log(jnp.atleast_1d(jnp.asarray(lam))), dtype)
    # float32(1e-200) is 0: the logarithm is taken in float64.
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(np.atleast_1d(np.asarray(lam, np.float64))), dtype)


def checked_rate(learning_rate: Scalar, dtype=None) -> Float[Array, ""]:
    """The learning rate in the dtype that it is used in.

    Raises:
      ValueError: for one that is not positive and finite.
    """
    check_positive(learning_rate=learning_rate)
    return jnp.asarray(learning_rate, dtype)


def begin(
    network: Network,
    data: Dataset,
    key: PRNGKey,
    loss: str | Loss = "logistic",
    init_scale: Scalar = 1.0,
    params: Params | None = None,
) -> tuple[Dataset, Params]:
    """The data as `check_dataset` casts them, on the device, and parameters to begin at.

    The parameters are in the dtype of x: random ones unless some are given.

    Raises:
      ValueError: for data that cannot be learned from with this loss, or a network whose outputs
        do not fit it.
    """
    labels = get_loss(loss).labels
    data = jax.tree.map(jnp.asarray, check_dataset(data, "any"))
    if params is None:
        params = optax.tree.scale(init_scale, network.init(key, data.x.shape[1]))
    outputs = jax.eval_shape(network.apply, params, data.x).shape[1:]
    if bool(outputs) != (labels == "class"):
        named = loss if isinstance(loss, str) else f"given, of {labels} labels"
        raise ValueError(
            f"network must have {'several outputs' if labels == 'class' else 'one output'} for the "
            f"loss {named}, got outputs of shape {('n', *outputs)}"
        )
    return check_dataset(data, labels, *outputs), optax.tree.cast(params, data.x.dtype)


@functools.partial(jax.jit, static_argnames=("options", "network"))
def _run(
    options: TrainOptions, network: Network, data: Dataset, log_lams: Array, rate: Array, params
) -> TrainResult:
    def at_lam(params: Params, log_lam: Array) -> tuple[Params, Array]:
        end = minimized(options, network, data, log_lam, rate, params)
        return end.params, end.step

    params, steps = jax.lax.scan(at_lam, params, log_lams)
    return TrainResult(params, measure(options, network, data, log_lams[-1], params, steps.sum()))
