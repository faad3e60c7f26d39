"""Does gradient descent reach the global minimum at finite width?

At infinite width noisy gradient descent provably does; at finite width the question is open. Here
the minimum of F_λ is known from a certificate, so that every end of a run can be judged: it is
global (within 0.1 % of the minimum), at rest elsewhere, or unfinished.

Two-layer networks of growing width are trained on small random data sets from many initial
parameters, by Adam and by gradient descent at the stable step, with and without the noise of the
theory: a few neurons drawn anew at each step, until two thirds of the run. Narrow networks are then
continued by *insertion*: the direction that the dual certificate asks for is added as a neuron, and
training goes on.

Source: the last line of the talk's slides; Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, for
infinite width.
"""

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
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
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
        sizes=(8, 16, 32), widths=(2, 4, 8, 16, 32, 64, 128, 256), num_draws=3, num_starts=4
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


KNOWN = TOLERANCE / 10  # relative gap up to which a certified minimum is known well enough
HALF, NUM_RESAMPLES = 0.5, 2000
PAIRED = "data sets, paired"
SUCCESS = Claim(
    statement="The share of random starts from which descent ends at the certified minimum",
    source="open question of the slides",
    certified=True,
)
NOISE = Claim(
    statement="Quenched noise helps gradient descent to the minimum at finite width",
    source="open question of the slides",
    certified=True,
)
CURING = Claim(
    statement="Inserting the neurons that the dual asks for brings failed runs to the minimum",
    source="derived here; Bach 2017",
    certified=True,
)
CURED = 0.85  # of the failures, at least
CLAIMS = (SUCCESS, NOISE, CURING)
SHARES = {  # of starts, for the widest networks: optimizer, which λ
    "Adam, widest network, smallest λ": (ADAM, min),
    "Adam, widest network, largest λ": (ADAM, max),
    "gradient descent, widest network, largest λ": (GD, max),
}


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for."""
    made = success_claim(table), noise_claim(table), cure_claim(table)
    return [claim for claim in made if claim.checks]


def known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows whose minimum is proved well enough, and those that raised an error, which have none."""
    return rows[~(rows.proved.eq(False) | (rows.minimum_gap > KNOWN))]


def main_rows(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The first rank and initial scale, which run on all sizes."""
    rows = rows[rows.optimizer != CURE]
    return rows[(rows["rank"] == rows["rank"].head(1).sum()) & (rows.init_scale == 1.0)]


def shares(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The share of successes: a row for every width, a column for every data set."""
    rows = rows.assign(share=rows.successes / rows.starts)
    return rows.pivot_table(index="width", columns="draw", values="share")


def transitions(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Where the mean share of successes passes one half, a row by optimizer, λ, noise and size.

    width, low, high: the transition and its interval over data sets, made of `resampled`.
    """
    rng, found = np.random.default_rng(0), []
    by = ["lam", "optimizer", "noise", "num_samples"]
    for key, part in main_rows(known(rows)).groupby(by):
        values = shares(part)
        means = _statistics.resampled(values.to_numpy(), NUM_RESAMPLES, rng, paired=True)
        width, resampled = (
            _statistics.crossing(values.index.to_numpy(float), 1 - share, HALF)
            for share in (values.mean(axis=1).to_numpy(), means)
        )
        found.append((*key, float(width), *_statistics.interval(resampled), resampled))
    return pandas.DataFrame(found, columns=[*by, "width", "low", "high", "resampled"])


def exponent(found: pandas.DataFrame) -> Check:
    """Of n in the transition width; NaN where half succeed at no width of some size."""
    what, runs = "exponent of n in the width of half success", f"{len(found)} sizes"
    if len(found) < 2:
        return _claims.exact(what, np.nan, runs=runs)
    slope = functools.partial(_statistics.log_slope, found.num_samples)
    ends = _statistics.interval(slope(np.stack(list(found.resampled), axis=-1)))
    return Check(what, float(slope(found.width.to_numpy())), *ends, runs=runs)


def success_claim(rows: pandas.DataFrame) -> Claim:
    """The share by optimizer and λ, without noise, and what becomes of the failures."""
    every = main_rows(rows)
    runs = known(every)[known(every).noise == 0.0]
    checks = []
    for what, (optimizer, which) in SHARES.items():
        part = runs[runs.optimizer == optimizer]
        part = part[(part.lam == which(part.lam, default=0)) & (part.width == part.width.max())]
        checks.append(_claims.mean(what, part.successes / part.starts, runs="data sets"))
    failures = (runs.starts - runs.successes).sum()
    resting = _claims.share("failures at rest", runs.stationary.sum(), failures, runs="failures")
    adam = transitions(runs[(runs.optimizer == ADAM) & (runs.lam == runs.lam.max())])
    found = SUCCESS.on(*checks, resting, exponent(adam), apart=[_unproved(every)])
    return found if len(every) else SUCCESS


def noise_claim(rows: pandas.DataFrame) -> Claim:
    """Paired by data set: the share of successes over all widths with noise, less that without."""
    runs = main_rows(rows[rows.optimizer == GD])
    runs = runs[runs.lam.isin(runs.lam[runs.noise > 0])]
    if runs.noise.nunique() < 2:
        return NOISE
    by = [runs.num_samples, runs.draw, runs.lam, runs.noise > 0]
    ends = known(runs).groupby(by)[["starts", "successes", "stationary", "unfinished"]]
    total = ends.agg(lambda part: part.to_numpy().sum())  # NaN of a run that raised an error stays
    shares = lambda of: (total.successes / of).unstack().reindex(columns=[True, False])
    change = lambda of: shares(of)[True] - shares(of)[False]
    finished = total.successes + total.stationary
    unfinished = total.groupby("noise")[["unfinished", "starts"]].sum()
    late = [
        f"{row.unfinished} of {row.starts} runs with{'' if noisy else 'out'} noise are unfinished"
        for noisy, row in unfinished.iterrows()
    ]
    return NOISE.on(
        _claims.mean("change of the share of finished runs", change(finished), 0, "≥", PAIRED),
        _claims.mean("change of the share of all runs", change(total.starts), runs=PAIRED),
        apart=[*late, _unproved(runs)],
    )


def cure_claim(rows: pandas.DataFrame) -> Claim:
    """The share of failures that insertion brings to the minimum; a run that raised an error hides
    how many there are.

    On the others the optimizer stalls above it, which is no matter of the theorem.
    """
    rows = rows[rows.optimizer == CURE]
    cures = known(rows)[known(rows).failures != 0]
    cured, failures = (cures[name].sum(skipna=False) for name in ("cured", "failures"))
    cured, failures = (int(n) if np.isfinite(failures) else 0 for n in (cured, failures))
    left = f"{failures - cured} failures where the optimizer stalls above the minimum"
    found = CURING.on(
        _claims.share("share of failures cured", cured, failures, CURED, "≥", runs="failures"),
        _claims.mean("insertions", cures.insertions, runs="networks that failed"),
        apart=[_unproved(rows), left if failures > cured else ""],
    )
    return found if len(rows) else CURING


def _unproved(rows: pandas.DataFrame) -> str:
    count = len(rows) - len(known(rows))
    return f"{count} of {len(rows)} networks have no proved minimum" if count else ""


SMALLEST = 1e-8  # gap shown
SHOWN_GAP = 0.03  # about which the failure that is shown has
SIGNS = {
    1: dict(color=_style.BLUE, linestyle="-"),
    -1: dict(color=_style.VERMILION, linestyle="--"),
}


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Eight panels; bars are 95 % intervals over data sets."""
    fig, axes = _style.mosaic("aabbcc;ddeeff;ggghhh", height=6.6)
    trained = main_rows(table)
    lams = sorted(trained.lam.unique(), reverse=True)
    plain = trained[trained.noise == 0.0]
    for ax, lam in zip(axes[:2], lams, strict=False):
        part = plain[(plain.optimizer == ADAM) & (plain.lam == lam)]
        _by_size(ax, part, f"Adam, λ = {lam:g}")
    descent = plain[(plain.optimizer == GD) & (plain.lam == lams[0])]
    _by_size(axes[2], descent, f"gradient descent, λ = {lams[0]:g}")
    _transitions(axes[3], table)
    _noise(axes[4], trained[trained.optimizer == GD])
    _others(axes[5], table)
    _failure(axes[6], table, config)
    _cure(axes[7], table)
    if len(lams) < 2:
        axes[1].set_axis_off()
    return fig


def _share(ax, rows: pandas.DataFrame, **look) -> None:
    """The mean share of successes by width, with 95 % intervals over data sets."""
    if len(rows):
        draw = rows.num_samples.astype(str) + ":" + rows.draw.astype(str)
        values = shares(rows.assign(draw=draw))
        _style.with_interval(ax, values.index, values.to_numpy(), **look)


def _axes(ax, rows: pandas.DataFrame, name: str, **legend) -> None:
    if len(rows):
        _style.at_sizes(ax, rows.width.unique(), "width")
    ax.set(ylabel="share at the minimum", ylim=(-0.04, 1.04), title=name)
    ax.set_yticks(np.linspace(0, 1, 6))
    _style.legend(ax, **legend)


def _by_size(ax, rows: pandas.DataFrame, title: str) -> None:
    sizes = sorted(rows.num_samples.unique())
    for size, look in _style.ordinal(sizes, _style.METHODS["network"]["color"]).items():
        _share(ax, rows[rows.num_samples == size], label=f"n = {size}", **look)
    _axes(ax, rows, title, above=0.32, ncols=2)


def _transitions(ax, rows: pandas.DataFrame) -> None:
    """Widths at which half succeed, and numbers of neurons of the minimizers, with intervals."""
    found = transitions(rows)
    found = found[(found.noise == 0.0) & np.isfinite(found.width)]
    groups = dict(list(found.groupby(["lam", "optimizer"])))
    for (lam, optimizer), look in _style.categories(groups).items():
        part = groups[lam, optimizer]
        label = f"{'Adam' if optimizer == ADAM else 'descent'}, λ = {lam:g}"
        _style.with_ends(ax, part.num_samples, part.width, part.low, part.high, label=label, **look)
        if optimizer == ADAM:
            optima = main_rows(known(rows[rows.lam == lam])).groupby(["num_samples", "draw"])
            for size, neurons in optima.optimal_neurons.first().groupby("num_samples"):
                values = neurons.to_numpy()
                low, high = _statistics.mean_interval(values)
                _style.with_ends(ax, [size], values.mean(), [low], [high], **_optimum(look))
    sizes = np.array(sorted(rows.num_samples.unique()))
    ax.plot([], [], label="neurons of the optimum", **_optimum(dict(color=_style.GREY, marker="o")))
    ax.plot(sizes, sizes + 1, label="n + 1", **_style.PREDICTED)
    _style.at_sizes(ax, sizes, "samples n")
    ax.set(yscale="log", ylabel="width at which half succeed", title="the transition")
    _style.legend(ax, above=0.6)


def _optimum(look: _style.Look) -> _style.Look:
    return look | _style.HOLLOW | _style.DOTS


def _noise(ax, rows: pandas.DataFrame) -> None:
    rows = rows[rows.lam == rows.lam.max()]
    for noise, look in _style.categories(sorted(rows.noise.unique())).items():
        label = f"σ = {noise:g}, quenched" if noise else "no noise"
        _share(ax, rows[rows.noise == noise], label=label, **look)
    _axes(ax, rows, "resampling noise, all n")


def _others(ax, rows: pandas.DataFrame) -> None:
    """At one size: initial scales, and the other ranks; Adam filled, descent hollow."""
    rows = rows[(rows.optimizer != CURE) & (rows.noise == 0.0) & (rows.lam == rows.lam.max())]
    several = rows[(rows["rank"] != rows["rank"].iloc[0]) | (rows.init_scale != 1.0)]
    size = several.num_samples.iloc[0] if len(several) else rows.num_samples.max()
    rows = rows[rows.num_samples == size]
    parts = dict(list(rows.groupby(["rank", "init_scale"])))
    for (rank, scale), look in _style.categories(parts).items():
        part = parts[rank, scale]
        filled = look | dict(linestyle="-", label=f"{rank}, {scale:g}")
        _share(ax, part[part.optimizer == ADAM], **filled)
        _share(ax, part[part.optimizer == GD], **look | _style.HOLLOW | dict(linestyle="--"))
    hollow = _style.HOLLOW | dict(color=_style.GREY, marker="o", linestyle="--")
    ax.plot([], [], label="descent", **hollow)
    options = dict(above=0.42, ncols=2, title="rank, initial ‖Θ‖", alignment="left")
    _axes(ax, rows, f"initial scales and ranks, n = {size}", **options)


def _failure(ax, rows: pandas.DataFrame, config: Config) -> None:
    """Of a stationary failure in the plane: what each direction is worth."""
    ax.set_title("a failure in the plane")
    plane = rows[(rows["rank"] == 2) & (rows.stationary > 0)]
    plane = plane[plane.width >= min(4, plane.width.max())] if len(plane) else plane
    if not len(plane) or "worst" not in rows:
        return _note(ax, "not kept" if len(plane) else "none")
    chosen = plane.loc[np.log(plane.worst_gap / SHOWN_GAP).abs().idxmin()]
    samples = samples_of(config, 2, int(chosen.num_samples), int(chosen.draw))
    _worths(ax, np.asarray(samples.x), np.asarray(samples.y), chosen.worst, chosen.lam)
    ax.axhline(1.0, **_style.LEVEL)
    ax.set(xlabel="direction of u, degrees", ylabel="worth of a neuron, 1 = its cost")
    ax.set(xlim=(-180, 180), xticks=[-180, -90, 0, 90, 180])
    ax.set_title(f"a failure: width {chosen.width}, {chosen.optimizer}; above 1 is missing")
    _style.legend(ax, title="neurons: dots, by mass")


def _note(ax, text: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, text, ha="center", transform=ax.transAxes)


def _worths(ax, x: np.ndarray, y: np.ndarray, particles: np.ndarray, lam: float) -> None:
    w, u = particles[:, 0], particles[:, 1:]
    f = np.maximum(x @ u.T, 0.0) @ w / len(w)
    slopes = y / (1 + np.exp(y * f)) / len(y)

    def worth(degrees: np.ndarray) -> np.ndarray:
        rays = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        return slopes @ np.maximum(x @ rays, 0.0) / (2 * lam)

    angles = np.linspace(-180, 180, 721)
    for sign, look in SIGNS.items():
        ax.plot(angles, sign * worth(angles), label=f"w {'>' if sign > 0 else '<'} 0", **look)
        mine = np.sign(w) == sign
        at = np.degrees(np.arctan2(u[mine, 1], u[mine, 0]))
        mass = np.sum(particles[mine] ** 2, axis=1) / np.sum(particles**2)
        dots = dict(color=look["color"], edgecolor=_style.BLACK, linewidth=0.5, alpha=0.8, zorder=3)
        ax.scatter(at, sign * worth(at), s=8 + 60 * mass, **dots)


def _cure(ax, rows: pandas.DataFrame) -> None:
    """Each run that insertion continued: its gap before and after."""
    ax.set_title("the cure (size: insertions)")
    if "cured_gaps" not in rows:
        return _note(ax, "not kept")
    cures = rows[rows.optimizer == CURE]
    for lam, look in _style.categories(sorted(cures.lam.unique())).items():
        part = cures[cures.lam == lam]
        before, after, inserted = (
            np.hstack(list(part[name])) for name in ("gaps", "cured_gaps", "inserted")
        )
        dots = dict(color=look["color"], marker=look["marker"], alpha=0.6, linewidth=0)
        x, y = (np.maximum(gaps, SMALLEST) for gaps in (before, after))
        ax.scatter(x, y, s=4 + inserted / 5, label=f"λ = {lam:g}", **dots)
    ax.axhline(TOLERANCE, **_style.LEVEL)
    ax.axvline(TOLERANCE, **_style.LEVEL)
    ax.set(xscale="log", yscale="log", xlabel="F/F* − 1 before", ylabel="F/F* − 1 with insertions")
    _style.legend(ax, above=0.12, ncols=2)


EXPERIMENT = Experiment(
    "finite_width", Config, PRESETS, points, run, claims, figure,
    CLAIMS, table=table, host=True,
)  # fmt: skip
