"""The max margin does not fall with width, and it bounds the test error

The paper proves that the max margin does not fall as the network is widened, that it is the same at
all widths above n, and that it bounds the test error. In its experiments margins rise and errors
fall with the width. The question is whether that is seen here, and whether the bound says anything.

Networks of growing width are trained on the same samples: small random sets, whose certified max
margin of all widths stands beside; a teacher's labels and digits, beside their test error; and D
with growing n and depth, where the bound is computed with its constants.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4; Golowich, Rakhlin, Shamir (COLT 2018).
"""

import dataclasses
import functools
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import scipy

from ntkreg import certificates, networks
from ntkreg._types import Array, Params
from ntkreg.experiments import _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim, every, exact, mean, share
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments._training import parsed, samples_of
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.sweeps import grid
from ntkreg.theory import bounds
from ntkreg.training import objectives, paths, trainers
from ntkreg.training.margins import margins, normalized_margin
from ntkreg.training.stationarity import CONVERGED, log_residual
from ntkreg.training.trainers import TrainOptions

LARGEST_LOG = 700.0  # of a residual; that of the zero network is +∞
LOCK = threading.Lock()  # so that no certificate is computed twice
COLUMNS = (
    "dataset", "draw", "depth", "width", "seed", "lam", "normalized_margin", "reference_margin",
    "test_error", "bound", "stationarity", "converged", "failed",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      margin_sets, margin_widths: small random sets, of rank 4 at most, and the widths on them.
      error_sets, error_widths: a teacher's data and digits, as in the paper.
      bound_dim, bound_sizes, bound_depths, bound_width: D with growing n.
      num_draws: samples drawn of each random set.
      num_seeds: initial parameters of each width; for the other data sets trials, with samples
        anew.
      margin_lams, error_lams: the paths of λ; the last of the second is the paper's.
      margin_steps, error_steps: of Adam at each λ.
      finish_steps, learning_rate: as in `lambda_path`.
      num_test: fresh test points.
    """

    margin_sets: tuple[str, ...] = ("random:3:10",)
    margin_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 128, 1024)
    error_sets: tuple[str, ...] = ("teacher:20:200", "digits:300")
    error_widths: tuple[int, ...] = (16, 64, 256, 1024)
    bound_dim: int = 10
    bound_sizes: tuple[int, ...] = (40, 80, 320, 1280)
    bound_depths: tuple[int, ...] = (2, 3, 4)
    bound_width: int = 64
    num_draws: int = 4
    num_seeds: int = 8
    margin_lams: tuple[float, ...] = (1e-3, 1e-6, 1e-16, 1e-64, 1e-200)
    error_lams: tuple[float, ...] = (1e-3, 1e-5)
    margin_steps: int = 6000
    error_steps: int = 1200
    finish_steps: int = 50
    learning_rate: float = 0.03
    num_test: int = 4000

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        fits = lambda text: parsed(text).name == "random" and parsed(text).sizes[0] <= 4
        check("margin_sets", fits, "random sets of dimension 4 at most")
        fits = lambda text: parsed(text).name in ("teacher", "digits")
        check("error_sets", fits, "teacher:DIM:N or digits:N")
        for name in ("margin_lams", "error_lams"):
            check(name, lambda v: 1e-300 <= v < np.inf, "at least 1e-300 and finite")
        check("learning_rate", lambda v: 0 < v < np.inf, "positive and finite")
        check("bound_dim", lambda d: d >= 3, "at least 3")
        check("bound_sizes", lambda n: n >= 2, "at least 2")
        check("bound_depths", lambda depth: depth >= 2, "at least 2")
        check("finish_steps", lambda v: v >= 0, "at least 0")
        for name in (
            "margin_widths", "error_widths", "bound_width", "num_draws", "num_seeds",
            "margin_steps", "error_steps", "num_test",
        ):  # fmt: skip
            check(name, lambda v: v >= 1, "at least 1")

    def lams_of(self, dataset: str) -> tuple[float, ...]:
        """The path of λ on that data set."""
        return self.margin_lams if dataset.startswith("random") else self.error_lams


# smoke: seconds. laptop, thorough: minutes on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        margin_sets=("random:2:6",), margin_widths=(1, 16), error_sets=("teacher:5:20",),
        error_widths=(8,), bound_dim=5, bound_sizes=(20, 40), bound_depths=(2,), bound_width=8,
        num_draws=1, num_seeds=1, margin_lams=(1e-3, 1e-32), margin_steps=300,
        error_steps=300, finish_steps=5, num_test=500,
    ),
    "laptop": dict(
        margin_widths=(1, 4, 16, 128), error_widths=(16, 64, 256), bound_depths=(2, 3),
        num_draws=3, num_seeds=4,
    ),
    "thorough": {},
    "full": dict(
        margin_sets=("random:2:10", "random:3:10", "random:3:20", "random:4:20"),
        error_sets=("teacher:20:200", "teacher:20:800", "digits:1000"),
        bound_sizes=(40, 80, 160, 320, 640, 1280, 5120, 20480), bound_depths=(2, 3, 4, 6),
        num_draws=10, num_seeds=20, margin_steps=20_000, error_steps=20_000, num_test=20_000,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Every network once; outside the random sets a seed is a trial, with samples of its own."""
    seeds = range(config.num_seeds)
    on_random = grid(
        dataset=config.margin_sets, depth=[2], width=config.margin_widths,
        draw=range(config.num_draws), seed=seeds,
    )  # fmt: skip
    on_d = [f"D:{config.bound_dim}:{n}" for n in config.bound_sizes]
    trials = [
        *grid(dataset=config.error_sets, depth=[2], width=config.error_widths, seed=seeds),
        *grid(depth=config.bound_depths, dataset=on_d, width=[config.bound_width], seed=seeds),
    ]
    return [*on_random, *({**trial, "draw": trial["seed"]} for trial in trials)]


def run(
    config: Config, dataset: str, depth: int, width: int, draw: int, seed: int
) -> dict[str, Any]:
    """What was reached on one data set by one network: arrays with one entry for every λ.

    Returns:
      normalized_margin, stationarity, test_error (none on random sets), largest_norm of the
      samples; and on random sets reference_margin, the certified max margin of all widths, 0 where
      nothing separates them.
    """
    found = _followed(config, dataset, depth, width, draw, seed)
    if dataset.startswith("random"):
        found |= {"reference_margin": max_margin(dataset, draw)}
    return found


@functools.partial(jax.jit, static_argnames=("config", "dataset", "depth", "width"))
def _followed(
    config: Config, dataset: str, depth: int, width: int, draw: Array, seed: Array
) -> dict[str, Array]:
    source = parsed(dataset)
    outputs = 1 if source.num_classes == 2 else source.num_classes
    network = networks.fully_connected(depth, width, num_outputs=outputs)
    loss = "logistic" if outputs == 1 else "cross_entropy"
    steps = config.margin_steps if source.name == "random" else config.error_steps
    options = TrainOptions(loss, num_steps=steps, finish_steps=config.finish_steps)
    log_lams = trainers.logs_of(config.lams_of(dataset), jnp.float64)
    rate = trainers.checked_rate(config.learning_rate, jnp.float64)
    key, train, test = samples_of(source, draw, config.num_test)
    start_key = jax.random.fold_in(jax.random.fold_in(key, seed), width)
    params = network.init(start_key, train.x.shape[1])
    ends = paths.follow(options, network, train, log_lams, rate, params)

    def at(end: tuple[Array, Params]) -> dict[str, Array]:
        log_lam, params = end
        residual = log_residual(objectives.get_loss(loss), network, params, train, log_lam)
        residual = jnp.minimum(residual, LARGEST_LOG)
        margin = normalized_margin(network, params, train)
        found = {"normalized_margin": margin, "stationarity": jnp.exp(residual)}
        if test is not None:
            found["test_error"] = jnp.mean(~(margins(network, params, test) > 0))
        return found

    norms = jnp.linalg.norm(train.x, axis=1)
    return {**jax.lax.map(at, (log_lams, ends)), "largest_norm": norms.max()}


def max_margin(dataset: str, draw: int) -> float:
    """The certified max margin of all widths, 0 where nothing separates the samples."""
    with LOCK:
        return _max_margin(dataset, draw)


@functools.cache
def _max_margin(dataset: str, draw: int) -> float:
    _, train, _ = samples_of(parsed(dataset), jnp.asarray(draw), 0)
    try:
        return certificates.max_margin(jax.tree.map(np.asarray, train)).upper
    except NotSeparable:
        return 0.0


def table(found: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every network and λ.

    bound: of the test error with probability 0.95 (`bounds.generalization_bound`), on D: the
    others' inputs have no bounded norm, or ten classes.
    """
    parts = []
    for row in found.to_dict("records"):
        part = pandas.DataFrame({**row, "lam": config.lams_of(row["dataset"])})
        if row["dataset"].startswith("D:") and isinstance(row.get("normalized_margin"), np.ndarray):
            part["bound"] = bounds.generalization_bound(
                row["normalized_margin"], parsed(row["dataset"]).num_samples,
                float(row["largest_norm"]), row["depth"],
            )  # fmt: skip
        parts.append(part)
    rows = pandas.concat(parts, ignore_index=True).reindex(columns=list(COLUMNS))
    return rows.assign(converged=rows.stationarity < CONVERGED)


WIDTH = Claim(
    "The max margin over more neurons than samples is the certified one over all widths",
    source="Wei et al., ICLR 2019, Thm 3.3", certified=True,
)  # fmt: skip
ERROR = Claim(
    "On a teacher's labels and digits the widest networks have more margin and err less",
    source="Wei et al., ICLR 2019, revised",
)
BOUND = Claim(
    "The bound of the test error by the margin, vacuous or not, falls as the error falls",
    source="Wei et al., Section 4",
)
CLAIMS = (WIDTH, ERROR, BOUND)


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """Those of the three that the table has rows for."""
    found = (width_claim(rows), error_claim(rows), bound_claim(rows))
    return [claim for claim in found if claim.checks]


def at_last_lam(rows: pandas.DataFrame, name: str) -> pandas.DataFrame:
    """The rows at the smallest λ of the data sets whose names begin so."""
    part = rows[rows.dataset.str.startswith(name)]
    return part[part.lam == part.lam.min()]


def best_margins(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Best of the seeds over the certified margin: one row per data set and draw, one column per
    width; sets that nothing separates are left out."""
    last = at_last_lam(rows, "random")
    last = last[~(last.reference_margin <= 0)]
    ratio = last.normalized_margin / last.reference_margin
    return ratio.groupby([last.dataset, last.draw, last.width]).max().unstack()


def width_claim(rows: pandas.DataFrame) -> Claim:
    """What the best of the seeds prove of each width's max margin from below, and γ* from above."""
    best = best_margins(rows)
    if not len(best):
        return WIDTH
    sizes = np.array([parsed(dataset).num_samples for dataset, _ in best.index])
    wide = best.to_numpy()[best.columns.to_numpy() > sizes[:, None]]
    least = wide.min() if wide.size else np.nan
    fall, runs = (best.cummax(axis=1) - best).to_numpy().max(), f"{len(best)} data sets"
    return WIDTH.on(
        Check("max margin/γ*, width > n", least, least, 1.0, 0.99, "≥", runs),
        every("largest margin/γ*, any width", best, 1 + 1e-7, "≤", "data sets and widths"),
        exact("largest fall of margin/γ* with width", fall, runs=runs),
    )


def error_claim(rows: pandas.DataFrame) -> Claim:
    """Changes from the narrowest to the widest network, where both fit a trial's samples."""
    checks, apart = [], []
    for name in ("teacher", "digits"):
        last = at_last_lam(rows, name)
        if last.width.nunique() < 2:
            continue
        by_trial = last.pivot(index=["dataset", "draw", "seed"], columns="width")
        ends = [last.width.min(), last.width.max()]
        margin, error = (by_trial[of][ends] for of in ("normalized_margin", "test_error"))
        fits = (margin > 0).all(axis=1)
        larger, fewer = (values[fits].diff(axis=1).iloc[:, 1] for values in (margin, error))
        number = f"of {len(fits)} trials"
        checks.append(mean(f"change of the margin, {name}", larger, 0.0, "≥", number))
        checks.append(mean(f"change of the test error, {name}", fewer, 0.0, "≤", number))
        left = f"{(~fits).sum()} {number} ({name}) do not fit at both widths"
        apart.append("" if fits.all() else left)
    return ERROR.on(*checks, apart=apart)


def bound_claim(rows: pandas.DataFrame) -> Claim:
    """The order of bounds and errors on D; and the errors over the bounds that say something."""
    last = at_last_lam(rows, "D:")
    if not len(last):
        return BOUND
    errs, over = last.test_error > 0, (last.test_error / last.bound)[last.bound < 1]
    least, runs = last.bound.min(skipna=False), f"{len(last)} networks"
    checks = [ordering(last), exact("smallest bound, vacuous above 1", least, runs=runs)]
    checks.append(share("networks that err", int(errs.sum()), len(last), runs="networks"))
    if len(over):
        checks.append(every("test error over bounds below 1", over, 1.0, "≤", "networks"))
    return BOUND.on(*checks)


def ordering(rows: pandas.DataFrame) -> Check:
    """The rank correlation of bound and test error over all n and depths, resampled by trial."""
    by_trial = rows.pivot(index="seed", columns=["depth", "dataset"])
    drawn = np.random.default_rng(0).integers(len(by_trial), size=(2001, len(by_trial)))
    drawn[0] = np.arange(len(by_trial))  # as measured
    found = (by_trial[of].to_numpy()[drawn].reshape(2001, -1) for of in ("bound", "test_error"))
    bound, error = (scipy.stats.rankdata(v, axis=1) - (v.shape[1] + 1) / 2 for v in found)
    with np.errstate(invalid="ignore"):  # NaN where no network errs
        rho = (bound * error).sum(1) / np.sqrt((bound**2).sum(1) * (error**2).sum(1))
    known = len(by_trial) > 1 and np.isfinite(rho).mean() > 0.95
    ends, runs = _statistics.interval(rho[1:] if known else rho[:0]), f"{len(by_trial)} trials"
    return Check("rank correlation of bound and error", rho[0], *ends, 0.0, "≥", runs)


SMALLEST = 1e-4  # error shown


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Four panels; bars are 95 % intervals over trials, or the range over data sets."""
    fig, axes = _style.panels(4, columns=2, ratio=0.7)
    _margins(axes[0], rows)
    _bound(axes[1], rows)
    _by_width(axes[2], rows, "normalized_margin", "margin / margin of the widest")
    _by_width(axes[3], rows, "test_error", "test error")
    return fig


def _margins(ax, rows: pandas.DataFrame) -> None:
    best = dict(list(best_margins(rows).groupby("dataset")))
    for dataset, look in _style.categories(best).items():
        part = best[dataset]
        ends = part.median(), part.min(), part.max()
        _style.with_ends(ax, part.columns, *ends, label=f"{dataset}, {len(part)} sets", **look)
        n = parsed(dataset).num_samples
        ax.axvline(n + 1, **_style.LEVEL | dict(color=look["color"]))
    ax.axhline(1.0, label="certified, any width", **_style.CERTIFIED)
    ax.plot([], [], label="n + 1", **_style.LEVEL)
    _style.at_sizes(ax, rows[rows.dataset.str.startswith("random")].width.unique(), "width")
    ax.set(ylabel="normalized margin / γ*", ylim=(-0.08, 1.08), title="margin, best of the seeds")
    _style.legend(ax, loc="lower right")


def _bound(ax, rows: pandas.DataFrame) -> None:
    last = at_last_lam(rows, "D:")
    last = last.assign(n=[parsed(name).num_samples for name in last.dataset])
    by_depth = dict(list(last.groupby("depth")))
    for depth, look in _style.ordinal(by_depth, _style.METHODS["network"]["color"]).items():
        sizes = np.sort(by_depth[depth].n.unique())
        bound, error = (
            _statistics.stacked(by_depth[depth], column, "n", "seed")
            for column in ("bound", "test_error")
        )
        _style.with_interval(ax, sizes, bound, label=f"bound, depth {depth}", **look)
        look = look | _style.HOLLOW | dict(linestyle=":", label=f"test error, depth {depth}")
        _style.with_interval(ax, sizes, np.maximum(error, SMALLEST), **look)
    ax.axhline(1.0, label="says nothing above", **_style.LEVEL)
    _style.at_sizes(ax, last.n.unique(), "samples n")
    ax.set(yscale="log", ylabel=f"probability, at least {SMALLEST:g}")
    ax.set_title("D: the bound and the error it bounds")
    _style.legend(ax, loc="center right", bbox_to_anchor=(1.0, 0.37))


def _by_width(ax, rows: pandas.DataFrame, column: str, ylabel: str) -> None:
    """Means of the trials that fit."""
    names = rows.dataset[rows.dataset.str.match("teacher|digits")].unique()
    for dataset, look in _style.categories(names).items():
        part = at_last_lam(rows, dataset)
        by_width = part[part.normalized_margin > 0].groupby("width")[column]
        means = by_width.mean()
        scale = means.iloc[-1] if column == "normalized_margin" else 1.0
        for width, values in by_width:
            _style.with_interval(ax, [width], values.to_numpy()[None] / scale, **look)
        label = f"{dataset}, λ = {_style.number(part.lam.min())}"
        ax.plot(means.index, means / scale, label=label, **look)
    _style.at_sizes(ax, rows[rows.dataset.isin(names)].width.unique(), "width")
    ax.set(ylabel=ylabel, title=f"{column.replace('_', ' ')} against width")
    _style.legend(ax, above=0.2)


EXPERIMENT = Experiment(
    "width", Config, PRESETS, points, run, claims, figure, CLAIMS, table=table, host=True
)
