"""Networks of finite width on data whose minimum is certified: points, one run, the table."""

import dataclasses
import functools
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import certificates, data, networks
from ntkreg._types import Array, Float, Params, PRNGKey, Scalar
from ntkreg.certificates import insertion, oracles
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment
from ntkreg.training import flows, mean_field, trainers
from ntkreg.training.flows import Flow
from ntkreg.training.objectives import get_loss
from ntkreg.training.stationarity import log_residual
from ntkreg.training.trainers import TrainOptions

GD, ADAM, CURE = "gradient descent", "adam", "insertion"
TOLERANCE = 1e-3  # relative gap to the certified minimum within which a run is global
STATIONARY = 1e-2  # residual, against the penalty's force, below which a run has come to rest
STALL_STEPS, STALL = 2000, 1e-6  # a fall of F by less, relative, in so many steps ends a run
SETTLING = (0.1, 0.01)  # steps, relative, at which gradient descent settles on kinks at its end
SETTLING_STEPS = 1000
QUENCH = 2 / 3  # of the run, after which noise ends
SPARE = 64  # zero neurons to which insertion may give a direction
LOCK = threading.Lock()  # so that no certificate is computed twice
DTYPE = jnp.float32  # of the training; minima and gaps are float64
AXES = ("rank", "width", "optimizer", "num_samples", "lam", "noise", "init_scale", "draw")
COLUMNS = (
    "dataset", "rank", "num_samples", "draw", "width", "lam", "optimizer", "noise", "init_scale",
    "starts", "successes", "stationary", "unfinished", "best_gap", "median_gap", "worst_gap",
    "minimum", "minimum_gap", "proved", "optimal_neurons", "failures", "cured", "insertions",
    "failed",
)  # fmt: skip
ARRAYS = ("gaps", "cured_gaps", "inserted", "worst")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      ranks: of the random data; the first with all sizes, the others with `focus_size` alone.
      sizes: numbers of samples, all divisors of the largest.
      widths, gd_widths: of the networks that Adam and gradient descent train.
      lams: λ; gradient descent runs at the first, and at the others with `focus_size` alone.
      init_scales: ‖Θ‖ of the initial parameters, the first throughout, the others with `focus_size`
        alone.
      noises: σ of gradient descent's resampling, 0 among them.
      focus_size: the size at which what is varied once is varied.
      num_draws: data sets of each size.
      num_starts: initial parameters of each network on each.
      gd_steps: of gradient descent, at most; adam_steps, learning_rate: of Adam.
      cured_width, cured_starts: of the networks that insertion continues, on each data set.
      round_steps, finish_steps: of Adam and L-BFGS after each insertion; round_rate of that Adam, a
        low one, since others leap out of what the new neuron gains.
      oracle: of the certificates.
    """

    ranks: tuple[int, ...] = (3, 2)
    sizes: tuple[int, ...] = (8, 12, 16, 24, 48)
    widths: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)
    gd_widths: tuple[int, ...] = (2, 4, 8, 16, 32)
    lams: tuple[float, ...] = (1e-2, 1e-3)
    init_scales: tuple[float, ...] = (1.0, 0.1, 3.0)
    noises: tuple[float, ...] = (0.0, 3e-3)
    focus_size: int = 16
    num_draws: int = 5
    num_starts: int = 5
    gd_steps: int = 20_000
    adam_steps: int = 3000
    learning_rate: float = 0.05
    cured_width: int = 4
    cured_starts: int = 2
    round_steps: int = 1500
    round_rate: float = 0.005
    finish_steps: int = 50
    oracle: str = "auto"

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        divides = lambda n: n >= 2 and max(self.sizes) % n == 0
        check("sizes", divides, "at least 2, and divisors of the largest")
        check("focus_size", lambda n: n in self.sizes, f"one of sizes={self.sizes}")
        for name in ("lams", "init_scales", "learning_rate", "round_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("noises", lambda v: 0 <= v < np.inf, "at least 0 and finite")
        for name in (
            "ranks", "widths", "gd_widths", "num_draws", "num_starts", "gd_steps", "adam_steps",
            "cured_width", "cured_starts", "round_steps",
        ):  # fmt: skip
            check(name, lambda v: v >= 1, "at least 1")
        check("finish_steps", lambda v: v >= 0, "at least 0")
        check("oracle", *_experiment.one_of(("auto", *oracles.KINDS)))


# smoke: seconds. laptop, thorough: minutes on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        ranks=(2,), sizes=(4, 8), widths=(2, 32), gd_widths=(2, 32), lams=(2e-2,),
        init_scales=(1.0,), focus_size=8, num_draws=1, num_starts=2, gd_steps=3000,
        adam_steps=500, cured_width=2, cured_starts=1, round_steps=500, finish_steps=10,
    ),
    "laptop": dict(
        sizes=(8, 16, 32), widths=(2, 8, 32, 128), gd_widths=(2, 8, 32), num_draws=3, num_starts=4
    ),
    "thorough": {},
    "full": dict(
        widths=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
        gd_widths=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128), num_draws=20,
        num_starts=50, gd_steps=300_000, adam_steps=20_000, cured_starts=20,
        lams=(1e-2, 1e-3, 1e-4),
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Every network and data set once."""
    focus, lam, scale = config.focus_size, config.lams[0], config.init_scales[0]
    # (number of samples, λ, noise, initial scale), for all widths of an optimizer:
    adam = [(n, one, 0.0, scale) for n in config.sizes for one in config.lams]
    gd = [(n, lam, noise, scale) for n in config.sizes for noise in config.noises]
    gd += [(focus, one, 0.0, scale) for one in config.lams[1:]]
    scales = [(focus, lam, 0.0, other) for other in config.init_scales[1:]]
    others = [(focus, lam, 0.0, scale)]
    groups = [
        (config.ranks[:1], CURE, (config.cured_width,), adam),  # first: compiles longest
        (config.ranks[:1], ADAM, config.widths, adam + scales),
        (config.ranks[:1], GD, config.gd_widths, gd + scales),
        (config.ranks[1:], ADAM, config.widths, others),
        (config.ranks[1:], GD, config.gd_widths, others),
    ]
    rows = [
        (rank, width, optimizer, *setting, draw)
        for ranks, optimizer, widths, settings in groups
        for rank in ranks
        for setting in settings
        for width in widths
        for draw in range(config.num_draws)
    ]
    return [dict(zip(AXES, row, strict=True)) for row in dict.fromkeys(rows)]


def run(
    config: Config, rank: int, width: int, optimizer: str, num_samples: int, lam: float,
    noise: float, init_scale: float, draw: int,
) -> dict[str, Any]:  # fmt: skip
    """How many runs of one network on one data set reach the certified minimum.

    Returns:
      successes: of all `starts`; the others are stationary, with a residual below 1e-2, or
        unfinished.
      best_gap, median_gap, worst_gap: of F over the minimum, less 1; worst: the particles of the
        last, where a run in the plane is stationary and not global.
      minimum, minimum_gap, proved, optimal_neurons: of the certificate, proved if not heuristic.
      failures, cured: of the runs that insertion continued, those that had failed, and those of
        them that then were global; insertions: their mean number, where there are some.
      gaps, cured_gaps, inserted: of each of these runs: before, after, and the number.
    """
    samples = samples_of(config, rank, num_samples, draw)
    minimum = minimum_of(rank, num_samples, draw, lam, config.oracle)
    key = jax.random.fold_in(jax.random.key(draw), num_samples)
    starts = config.cured_starts if optimizer == CURE else config.num_starts
    keys = jax.random.split(jax.random.fold_in(key, width), starts)
    setting = np.array([minimum.minimum, lam, noise, init_scale])
    runs = [_trained(config, width, optimizer == GD, samples, key, setting) for key in keys]
    params, *measured = zip(*jax.device_get(runs), strict=True)
    gaps, residuals = map(np.array, measured)
    failed = ~(gaps <= TOLERANCE)  # NaN has failed
    resting = failed & (residuals < STATIONARY)
    found: dict[str, Any] = {
        "starts": starts,
        "successes": (~failed).sum(),
        "stationary": resting.sum(),
        "unfinished": (failed & ~resting).sum(),
        "best_gap": gaps.min(),
        "median_gap": np.median(gaps),
        "worst_gap": gaps.max(),
        **minimum._asdict(),
        "failures": 0,
        "cured": 0,
    }
    if rank == 2 and resting.any():
        found["worst"] = mean_field.from_network(params[gaps.argmax()])
    if optimizer == CURE:
        cures = [_cured(config, samples, setting, start) for start in params]
        after, inserted = np.array(jax.device_get(cures)).T
        found |= {"gaps": gaps, "cured_gaps": after, "inserted": inserted}
        found |= {"failures": failed.sum(), "cured": (failed & (after <= TOLERANCE)).sum()}
        found |= {"insertions": inserted[failed].mean()} if failed.any() else {}
    return found


def table(found: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The columns in their order; insertions are empty where nothing was to be cured."""
    arrays = [name for name in ARRAYS if name in found]
    return found.assign(dataset="random").reindex(columns=[*COLUMNS, *arrays])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _drawn(rank: int, num_samples: int, draw: Scalar) -> Dataset:
    key = jax.random.fold_in(jax.random.key(draw), num_samples)
    return data.random_labels(key, num_samples, rank)


def samples_of(config: Config, rank: int, num_samples: int, draw: int) -> Dataset:
    """The data set of that size and number, repeated to as many rows as the largest has."""
    times = max(config.sizes) // num_samples
    return jax.tree.map(lambda a: np.concatenate([a] * times), _drawn(rank, num_samples, draw))


class Minimum(NamedTuple):
    """The certified minimum of F_λ, its relative gap, whether it is proved, and its neurons."""

    minimum: float
    minimum_gap: float
    proved: bool
    optimal_neurons: int


def minimum_of(rank: int, num_samples: int, draw: int, lam: float, oracle: str) -> Minimum:
    """What is certified of the samples, computed once for all networks on them."""
    with LOCK:
        return _minimum_of(rank, num_samples, draw, lam, oracle)


@functools.cache
def _minimum_of(rank: int, num_samples: int, draw: int, lam: float, oracle: str) -> Minimum:
    samples = jax.tree.map(np.asarray, _drawn(rank, num_samples, draw))
    found = certificates.global_minimum(samples, lam, oracle=oracle)
    mass = np.sum(mean_field.from_network(found.primal) ** 2, axis=1)
    neurons = int(np.sum(mass > 1e-6 * mass.sum()))
    return Minimum(found.upper, found.gap, found.kind != "heuristic", neurons)


@functools.partial(jax.jit, static_argnames=("config", "width", "is_gd"))
def _trained(
    config: Config, width: int, is_gd: bool, samples: Dataset, key: PRNGKey, setting: Array
) -> tuple[Params, Array, Array]:
    """(parameters, gap, residual) at the end of a run; the residual of failures alone."""
    minimum, lam, noise, init_scale = setting
    network, fast = networks.fully_connected(2, width), optax.tree.cast(samples, DTYPE)
    start_key, key = jax.random.split(key)
    particles = mean_field.uniform_start(start_key, width, samples.x.shape[1]) * init_scale
    particles = particles.astype(DTYPE)  # a network of norm init_scale at every width
    if is_gd:
        params = _descended(config, fast, minimum, lam, noise, particles, key)
    else:
        params = _by_adam(config, fast, lam, particles)
    params = optax.tree.cast(params, samples.x.dtype)
    losses = jax.nn.softplus(-samples.y * network.apply(params, samples.x))
    gap = (jnp.mean(losses) + lam * optax.tree.norm(params, squared=True)) / minimum - 1
    residual = lambda: jnp.exp(
        log_residual(get_loss("logistic"), network, params, samples, jnp.log(lam))
    )
    return params, gap, jax.lax.cond(gap <= TOLERANCE, lambda: jnp.zeros_like(gap), residual)


def _by_adam(config: Config, samples: Dataset, lam: Scalar, particles: Array) -> Params:
    network = networks.fully_connected(2, len(particles))
    options = TrainOptions(descend="plain", num_steps=config.adam_steps)
    log_lam, rate = trainers.logs_of(lam, DTYPE)[0], jnp.asarray(config.learning_rate, DTYPE)
    params = mean_field.as_network(particles)
    return trainers.minimized(options, network, samples, log_lam, rate, params).params


def _descended(
    config: Config, samples: Dataset, minimum: Scalar, lam: Scalar, noise: Scalar,
    particles: Float[Array, "m p"], key: PRNGKey,
) -> Params:  # fmt: skip
    """Gradient descent until it is global, has stalled or is at its end; then some smaller steps,
    since on kinks larger ones go around."""
    flow, step_size = Flow(num_steps=config.gd_steps), flows.stable_step(samples, lam)
    noisy_steps = jnp.where(noise > 0, int(QUENCH * config.gd_steps), 0)
    settings = flows.settings(lam, step_size, noise, noisy_steps, DTYPE)
    target = jnp.asarray((1 + TOLERANCE) * minimum, DTYPE)

    def step(carry):
        """(the flow one step on, F when it was last compared, whether descent is over)."""
        state, before, _ = carry
        state = flows.step(flow, samples, settings, state)
        compares = (state.step % STALL_STEPS == 0) & (state.step > noisy_steps)
        stalled = compares & ~(state.objective < (1 - STALL) * before)
        over = stalled | (state.objective <= target) | flows.is_done(flow, state)
        return state, jnp.where(compares, state.objective, before), over

    carry = flows.init(particles, key), jnp.asarray(np.inf, DTYPE), jnp.asarray(False)
    state, _, _ = jax.lax.while_loop(lambda carry: ~carry[2], step, carry)
    settling = Flow(num_steps=SETTLING_STEPS)
    for factor in SETTLING:
        settings = flows.settings(lam, factor * step_size, dtype=DTYPE)
        state = state._replace(step=jnp.int32(0))
        state = flows.advance(settling, samples, settings, state, SETTLING_STEPS)
    return mean_field.as_network(state.particles)


@functools.partial(jax.jit, static_argnames="config")
def _cured(config: Config, samples: Dataset, setting: Array, params: Params) -> tuple[Array, Array]:
    """(gap, insertions) at the end of training with insertions from this network."""
    minimum, lam, *_ = setting
    options = TrainOptions(num_steps=config.round_steps, finish_steps=config.finish_steps)
    fixed, rate = insertion.Insertion(options, config.oracle), config.round_rate
    state = insertion.begin(fixed, samples, lam, rate, insertion.with_spare(params, SPARE))
    more = lambda state: insertion.insert(fixed, samples, lam, rate, state)
    state = jax.lax.while_loop(lambda state: ~state.over, more, state)
    return state.objective / minimum - 1, state.insertions
