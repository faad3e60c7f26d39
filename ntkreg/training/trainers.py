"""One training run in stages: `init`, `step`, `advance`; and `train`, all of them in one call."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float, Int, Params, PRNGKey, PyTree, Scalar, Scalars
from ntkreg.data.dataset import Dataset, check_dataset
from ntkreg.networks.network import Network
from ntkreg.training.margins import margins, normalized_margin
from ntkreg.training.objectives import Loss, get_loss, log_mean_loss, log_objective, objective
from ntkreg.training.optimizers import check_optimizer, moved


def cosine(progress: Scalar) -> Array:
    """½(1 + cos π·progress): from 1 down to 0 over the run."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))


def constant(progress: Scalar) -> Array:
    """1 throughout."""
    return jnp.ones_like(progress)


@dataclasses.dataclass(frozen=True)
class Trainer:
    """What is fixed at compile time about a training run.

    Attributes:
      network: what is trained.
      loss: a name of `objectives.LOSSES`, or a Loss of your own.
      descend: "log" descends log F, whose steps do not shrink with F: for paths to a minimum.
        "plain" descends F itself: for everything about dynamics.
      optimizer: a learning rate -> an optimizer of optax, as `optax.adam` is. It is made anew for
        each step with the rate that the schedule has there, and must follow it; what its update
        asks for (`value`, `grad`, `value_fn`) it gets.
      schedule: the part of the run done, in [0, 1] -> multiplier of the learning rate.
      num_steps: the length of the run; for a path of λ the length of each of its parts.
      stop_log_loss: the run is done as soon as the log of the mean loss is at most this.
      power: the exponent r of the penalty λ‖Θ‖^r.
    """

    network: Network
    loss: str | Loss = "logistic"
    descend: Literal["log", "plain"] = "log"
    optimizer: Callable[..., optax.GradientTransformation] = optax.adam
    schedule: Callable[[Scalar], Array] = cosine
    num_steps: int = 4000
    stop_log_loss: float = -math.inf
    power: float = 2.0

    def __post_init__(self):
        get_loss(self.loss)
        if self.descend not in ("log", "plain"):
            raise ValueError(f"descend must be 'log' or 'plain', got {self.descend!r}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")
        if not self.power > 0:
            raise ValueError(f"power must be positive, got {self.power}")
        check_optimizer(self.optimizer, self.descend == "log")


class Settings(NamedTuple):
    """What one compilation serves all values of.

    log_lams is a path of log λ, warm-started from part to part: one entry trains at one λ.
    """

    log_lams: Float[Array, " p"]
    learning_rate: Float[Array, ""]


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
    """What was measured of a run, at its current parameters.

    Attributes:
      log_objective: log F at the last λ of the path.
      log_loss: log of the mean loss.
      log_gradient_norm: log ‖∇ log F‖; F is stationary where it is small.
      norm: ‖Θ‖₂.
      normalized_margin: of the training data; negative where a sample is wrong.
      train_error: the share of samples with no margin > 0; None for real labels.
      steps: the number of steps taken.
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


def settings(lam: Scalars, learning_rate: Scalar, dtype=None) -> Settings:
    """Settings for one λ ≥ 0, or for a path of several that is followed from first to last.

    Raises:
      ValueError: for λ < 0, λ not finite, or a learning rate that is not positive.
    """
    if is_concrete(lam, learning_rate):
        _check_lam(np.asarray(lam, np.float64))
        if not (np.isfinite(learning_rate) and learning_rate > 0):
            raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
        # float32(1e-200) is 0: the logarithm is taken in float64.
        with np.errstate(divide="ignore"):
            log_lams: Scalar = np.log(np.atleast_1d(np.asarray(lam, np.float64)))
    else:
        log_lams = jnp.log(jnp.atleast_1d(jnp.asarray(lam)))
    return Settings(jnp.asarray(log_lams, dtype), jnp.asarray(learning_rate, dtype))


def _check_lam(lam: np.ndarray) -> None:
    if lam.ndim > 1 or lam.size == 0:
        raise ValueError(f"lam must be a number or a path of them, got shape {lam.shape}")
    bad = lam[~((lam >= 0) & (lam < np.inf))]  # NaN too
    if bad.size:
        raise ValueError(f"lam must be finite and at least 0, got {bad.flat[0]}")


def init(trainer: Trainer, params: Params) -> TrainState:
    """The state before the first step from these parameters."""
    dtype = jnp.result_type(*jax.tree.leaves(params))
    optimizer_state = trainer.optimizer(0.0).init(params)
    return TrainState(params, optimizer_state, jnp.int32(0), jnp.asarray(jnp.inf, dtype))


def total_steps(trainer: Trainer, settings: Settings) -> int:
    """The number of steps of a whole run: num_steps for each λ of the path."""
    return trainer.num_steps * settings.log_lams.shape[0]


def is_done(trainer: Trainer, settings: Settings, state: TrainState) -> Array:
    """Whether the run is over: all steps taken, or the loss low enough."""
    finished = state.step >= total_steps(trainer, settings)
    return finished | (state.log_loss <= trainer.stop_log_loss)


def step(trainer: Trainer, data: Dataset, settings: Settings, state: TrainState) -> TrainState:
    """One step of the optimizer on the objective at the path's current λ.

    The learning rate's schedule and the optimizer's moments begin anew with each λ.
    """
    part, within = jnp.divmod(state.step, trainer.num_steps)
    log_lam = settings.log_lams[part]
    dtype = settings.learning_rate.dtype  # int32 / int is float32, whatever the rest is
    rate = settings.learning_rate * trainer.schedule(within.astype(dtype) / trainer.num_steps)
    descended = lambda p: _descended(trainer, p, data, log_lam)
    params, moments, log_loss = moved(
        trainer.optimizer(jnp.asarray(rate, dtype)),
        descended,
        state.params,
        state.optimizer_state,
        within == 0,
    )
    return TrainState(params, moments, state.step + 1, log_loss)


def _descended(trainer: Trainer, params: Params, data: Dataset, log_lam: Array):
    """The value that is descended, and the log of the mean loss beside it."""
    loss = get_loss(trainer.loss)
    value = log_objective if trainer.descend == "log" else objective
    log_loss = log_mean_loss(loss, trainer.network, params, data)
    return value(loss, trainer.network, params, data, log_lam, trainer.power), log_loss


def advance(
    trainer: Trainer, data: Dataset, settings: Settings, state: TrainState, num_steps: Scalar
) -> TrainState:
    """The state `num_steps` steps on, or at the run's end where that comes first.

    How a run is cut into calls does not change a bit of its result.
    """
    last = state.step + num_steps
    return jax.lax.while_loop(
        lambda s: (s.step < last) & ~is_done(trainer, settings, s),
        lambda s: step(trainer, data, settings, s),
        state,
    )


def measure(trainer: Trainer, data: Dataset, settings: Settings, state: TrainState) -> TrainInfo:
    """What there is to say of the current parameters, at the last λ of the path."""
    loss, network, params = get_loss(trainer.loss), trainer.network, state.params
    log_lam = settings.log_lams[-1]
    value, gradient = jax.value_and_grad(log_objective, argnums=2)(
        loss, network, params, data, log_lam, trainer.power
    )
    errors = ~(margins(network, params, data) > 0)  # NaN is an error too
    finite = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(params)]
    return TrainInfo(
        log_objective=value,
        log_loss=log_mean_loss(loss, network, params, data),
        log_gradient_norm=jnp.log(optax.tree.norm(gradient)),
        norm=optax.tree.norm(params),
        normalized_margin=normalized_margin(network, params, data),
        train_error=jnp.mean(errors) if loss.labels != "real" else None,
        steps=state.step,
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
    **options,
) -> TrainResult:
    """A trained network and what was measured of it.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> run = lambda lam: train(
    ...     fully_connected(depth=2, width=8), two, lam=lam, key=jax.random.key(0), num_steps=300
    ... )
    >>> jax.vmap(run)(jnp.array([1e-2, 1e-4])).info.train_error.tolist()
    [0.0, 0.0]

    Minimises F_λ (or log F_λ, see `Trainer.descend`) by full-batch steps, in the dtype of data.x:
    float32 or float64, to one of which `data.check_dataset` casts all others.

    Args:
      lam: λ ≥ 0; or a path of them, followed with warm starts, `num_steps` steps each.
      key: draws the initial parameters.
      learning_rate: of the optimizer, before the schedule.
      init_scale: multiplies the initial parameters.
      params: a start to use in place of a random one.
      **options: further fields of `Trainer`.

    Raises:
      ValueError: for bad data, λ, learning rate, or fields of `Trainer`; for an optimizer that
        does not follow its learning rate, with its name.
    """
    trainer = Trainer(network, **options)
    data, params = begin(trainer, data, key, init_scale, params)
    return _run(trainer, data, settings(lam, learning_rate, data.x.dtype), params)


def begin(
    trainer: Trainer,
    data: Dataset,
    key: PRNGKey,
    init_scale: Scalar = 1.0,
    params: Params | None = None,
) -> tuple[Dataset, Params]:
    """The data as `check_dataset` casts them, on the device, and parameters to begin at.

    The parameters are in the dtype of x: random ones unless some are given.

    Raises:
      ValueError: for data that cannot be learned from with the trainer's loss, or a network whose
        outputs do not fit it.
    """
    labels = get_loss(trainer.loss).labels
    data = jax.tree.map(jnp.asarray, check_dataset(data, "any"))
    if params is None:
        params = optax.tree.scale(init_scale, trainer.network.init(key, data.x.shape[1]))
    outputs = jax.eval_shape(trainer.network.apply, params, data.x).shape[1:]
    if bool(outputs) != (labels == "class"):
        loss = trainer.loss if isinstance(trainer.loss, str) else f"given, of {labels} labels"
        raise ValueError(
            f"network must have {'several outputs' if labels == 'class' else 'one output'} for the "
            f"loss {loss}, got outputs of shape {('n', *outputs)}"
        )
    return check_dataset(data, labels, *outputs), optax.tree.cast(params, data.x.dtype)


def start(
    trainer: Trainer,
    data: Dataset,
    key: PRNGKey,
    init_scale: Scalar = 1.0,
    params: Params | None = None,
) -> Params:
    """The parameters of `begin`, with its errors."""
    return begin(trainer, data, key, init_scale, params)[1]


@functools.partial(jax.jit, static_argnames="trainer")
def _run(trainer: Trainer, data: Dataset, settings: Settings, params: Params) -> TrainResult:
    state = init(trainer, params)
    state = advance(trainer, data, settings, state, total_steps(trainer, settings))
    return TrainResult(state.params, measure(trainer, data, settings, state))
