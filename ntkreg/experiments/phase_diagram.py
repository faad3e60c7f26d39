"""Initial scale against λ: which of them learns D

From small initial parameters gradient descent is said to learn D without regularisation; from large
ones it stays a kernel method unless λ takes it out. Where does each begin?

Two-layer networks descend F_λ itself from entries N(0, r²), on n = 8d samples of D. Beside the
diagram, the baseline that was published without λ: width 10, r = 0.1, rate 0.1, 10,000 steps, and
the smallest n at which its mean accuracy is 60 %.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1 for D; Smith, "NN kernel and rich regimes"
(report), for the baseline.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas

from ntkreg._types import Array, Scalar
from ntkreg.experiments import _claims, _descents, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments._training import Source, samples_of
from ntkreg.sweeps import grid

KEPT = ("test_error", "train_error", "normalized_margin", "activation_change", "train_loss")
PUBLISHED = {20: 83, 40: 209, 80: 497, 160: 1350, 320: 3085}  # n at 60 % accuracy, by d
PUBLISHED_WIDTH, PUBLISHED_SCALE = 10, 0.1


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dim, size_over_d: d, and n/d, of the diagram.
      widths, init_scales, lams: of the diagram; one program for each width.
      num_seeds: of each of its cells; samples and initial parameters drawn anew.
      baseline_dims, baseline_sizes: d, and the n around the published one as multiples of it.
      baseline_seeds: of each of those.
      learning_rate, num_steps: of gradient descent, as published.
      num_test: fresh test points.
    """

    dim: int = 20
    size_over_d: int = 8
    widths: tuple[int, ...] = (10, 100)
    init_scales: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 100.0)
    lams: tuple[float, ...] = (0.0, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    num_seeds: int = 3
    baseline_dims: tuple[int, ...] = (20, 40)
    baseline_sizes: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5)
    baseline_seeds: int = 10
    learning_rate: float = 0.1
    num_steps: int = 10_000
    num_test: int = 4000

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dim", lambda v: v >= 3, "at least 3")
        check("lams", lambda v: 0 <= v < np.inf, "finite and at least 0")
        for name in ("init_scales", "baseline_sizes", "learning_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        counts = ("num_seeds", "baseline_seeds", "num_steps", "num_test")
        for name in ("size_over_d", "widths", *counts):
            check(name, lambda v: v >= 1, "at least 1")
        check("baseline_dims", *_experiment.one_of(PUBLISHED))
        _experiment.check_distinct(
            self, "widths", "init_scales", "lams", "baseline_dims", "baseline_sizes"
        )

    @property
    def num_samples(self) -> int:
        """n of the diagram."""
        return self.size_over_d * self.dim


# smoke: seconds. laptop: minutes on two cores. full: one accelerator.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dim=5, widths=(32,), init_scales=(1e-2, 10.0), lams=(0.0, 1e-2, 1e-1), num_seeds=2,
        baseline_dims=(20,), baseline_sizes=(0.5,), baseline_seeds=2, num_steps=2000, num_test=200,
    ),
    "laptop": {},
    "full": dict(
        widths=(10, 100, 1000),
        init_scales=(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        lams=(0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1), num_seeds=10,
        baseline_dims=(20, 40, 80, 160, 320), num_test=10_000,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """The diagram's networks, and the baseline's that are not among them."""
    found = grid(
        dataset=["D"], width=config.widths, dim=[config.dim], num_samples=[config.num_samples],
        init_scale=config.init_scales, lam=config.lams, seed=range(config.num_seeds),
    )  # fmt: skip
    for dim in config.baseline_dims:
        published = grid(
            dataset=["D"], width=[PUBLISHED_WIDTH], dim=[dim],
            num_samples=baseline_sizes(config, dim), init_scale=[PUBLISHED_SCALE], lam=[0.0],
            seed=range(config.baseline_seeds),
        )  # fmt: skip
        found += [point for point in published if point not in found]
    return found


def baseline_sizes(config: Config, dim: int) -> list[int]:
    """The n of the baseline in that dimension."""
    return [round(PUBLISHED[dim] * factor) for factor in config.baseline_sizes]


def run(
    config: Config,
    dataset: str,
    width: int,
    dim: int,
    num_samples: int,
    init_scale: Scalar,
    lam: Scalar,
    seed: Array,
) -> dict[str, Array]:
    """What `_descents.descent` measures at the end, as far as it is in KEPT."""
    source = Source(dataset, (dim, num_samples))
    key, train, test = samples_of(source, seed, config.num_test)
    assert test is not None  # random labels alone have none
    found = _descents.descent(
        train, test, key, width=width, scale=init_scale, lam=lam,
        learning_rate=config.learning_rate, steps=(config.num_steps,), with_fit=False,
    )  # fmt: skip
    return {name: found[name][-1] for name in KEPT}


# The table ------------------------------------------------------------------------------------


def diagram(rows: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The diagram's rows, without the baseline's that are no part of it."""
    part = rows[(rows.dim == config.dim) & (rows.num_samples == config.num_samples)]
    return part[(part.seed < config.num_seeds) & part.width.isin(config.widths)]


def baseline(rows: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The baseline's rows."""
    sizes = {d: baseline_sizes(config, d) for d in config.baseline_dims}
    wanted = [n in sizes.get(d, ()) for d, n in zip(rows.dim, rows.num_samples, strict=True)]
    part = rows[np.array(wanted) & (rows.width == PUBLISHED_WIDTH) & (rows.lam == 0)]
    return part[part.init_scale == PUBLISHED_SCALE]


def mean_errors(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean test errors, λ down and the initial scale across."""
    return rows.pivot_table(index="lam", columns="init_scale", values="test_error")


def crossing_of(rows: pandas.DataFrame, dim: int) -> tuple[float, tuple[float, float]]:
    """The n at which the baseline's mean accuracy is 60 % for good, and its bootstrap interval."""
    n, errors = _statistics.by_seed(rows[rows.dim == dim], "num_samples", "test_error")
    at = float(_statistics.crossing(n, errors.mean(-1), LEVEL))
    draws = _statistics.resampled(errors, 2000, np.random.default_rng(0))
    ends = _statistics.interval(_statistics.crossing(n, draws, LEVEL))
    return at, ends if np.isfinite(at) else (np.nan, np.nan)


# Claims ---------------------------------------------------------------------------------------

LEARNED, NOT_LEARNED, LEVEL = 0.05, 0.25, 0.4
TRANSITION = 1 / 16  # on D the minimizer of F_λ is Θ = 0 from here on
CLOSE = 0.25  # to the published n, relative
REGIMES = Claim(
    statement="A small start learns D without λ, a large one only with λ, and none with λ ≥ 1/16",
    source="derived here; Chizat et al. 2019",
)
BASELINE = Claim(
    statement="The baseline without λ (width 10, r = 0.1) has 60 % accuracy at the published n",
    source="Smith's report",
)


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for."""
    found = regimes_claim(diagram(table, config)), baseline_claim(baseline(table, config))
    return [claim for claim in found if claim.checks]


def regimes_claim(rows: pandas.DataFrame) -> Claim:
    """Of the widest networks, from the smallest and the largest start, where they fit.

    The λ that a large start needs is one for all starts: that of the largest mean training margin.
    """
    rows = rows[rows.width == rows.width.max()]
    is_small = (rows.lam > 0) & (rows.lam < TRANSITION)
    if not ((rows.lam == 0).any() and is_small.any() and (rows.lam >= TRANSITION).any()):
        return REGIMES
    finite = rows[rows.failed.eq("")]
    lam = rows[is_small].groupby("lam").normalized_margin.mean().idxmax()
    plain, best = (finite[(finite.lam == of) & (finite.train_error == 0)] for of in (0.0, lam))
    smallest, largest = rows.init_scale.min(), rows.init_scale.max()
    error = lambda part, scale: part.test_error[part.init_scale == scale]
    means = plain.groupby("init_scale").test_error.mean()
    starts = f"{rows.init_scale.nunique()} starts"
    lost = len(rows[rows.lam.isin([0.0, lam])]) - len(plain) - len(best)
    collapsed = finite.test_error[finite.lam >= TRANSITION]
    return REGIMES.on(
        _claims.mean("no λ, smallest r: error", error(plain, smallest), LEARNED, "≤"),
        _claims.mean("no λ, largest r: error", error(plain, largest), NOT_LEARNED, "≥"),
        _claims.mean("with λ, largest r: error", error(best, largest), LEARNED, "≤"),
        _claims.every("λ ≥ 1/16: error", collapsed, NOT_LEARNED, "≥", "networks"),
        _claims.exact(
            "largest r learned from without λ", means[means <= LEARNED].index.max(), runs=starts
        ),
        _claims.exact(
            "smallest r that needs λ", means[means >= NOT_LEARNED].index.min(), runs=starts
        ),
        apart=[f"{lost} runs do not fit, or diverged" if lost else ""],
    )


def baseline_claim(rows: pandas.DataFrame) -> Claim:
    """How far the crossing of 60 % accuracy is from the published n, in every dimension."""
    checks = []
    for dim, part in rows.groupby("dim"):
        at, ends = crossing_of(part, dim)
        off, *edges = (abs(n / PUBLISHED[dim] - 1) for n in (at, *ends))
        low = 0.0 if ends[0] <= PUBLISHED[dim] <= ends[1] else min(edges)
        runs = f"{part.seed.nunique()} seeds, n = {at:.0f}, published {PUBLISHED[dim]}"
        what = f"d = {dim}: n, off the published one"
        checks.append(Check(what, off, low, max(edges), CLOSE, "≤", runs))
    return BASELINE.on(*checks)


# The picture ----------------------------------------------------------------------------------


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """One map for every width, cells labelled by their mean error, and the baseline against n."""
    parts = list(diagram(table, config).groupby("width"))
    fig, axes = _style.panels(len(parts) + 1, columns=len(parts) + 1, ratio=0.95)
    for ax, (_, part) in zip(axes, parts, strict=False):
        image = _map(ax, part)
    bar = fig.colorbar(image, ax=axes[:-1], shrink=0.7, aspect=25)
    bar.set_label("mean test error")
    _baseline(axes[-1], baseline(table, config))
    return fig


def _map(ax, rows: pandas.DataFrame):
    errors = mean_errors(rows)
    image = ax.imshow(errors, origin="lower", aspect="auto", vmin=0, vmax=0.6)
    for (row, column), value in np.ndenumerate(errors.to_numpy()):
        ink = "black" if value > 0.35 else "white"
        name = f"{value:.2f}".removeprefix("0")
        ax.text(column, row, name, ha="center", va="center", fontsize=5.5, color=ink)
    scales = [_style.number(r) for r in errors.columns]
    ax.set_xticks(range(len(scales)), scales, fontsize=5.5 if len(scales) > 6 else 6)
    ax.set_yticks(range(len(errors.index)), [_style.number(lam) for lam in errors.index])
    ax.tick_params(length=0)
    width, n, seeds = rows.width.iloc[0], rows.num_samples.iloc[0], rows.seed.nunique()
    if width == PUBLISHED_WIDTH and PUBLISHED_SCALE in errors.columns and 0.0 in errors.index:
        place = (errors.columns.get_loc(PUBLISHED_SCALE), errors.index.get_loc(0.0))
        box = dict(marker="s", facecolors="none", edgecolors=_style.VERMILION, linewidths=1.5)
        ax.scatter(*place, s=130, **box)
        ax.scatter([], [], s=20, label="published", **box)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.14), handletextpad=0.2)
    ax.set(xlabel="initial standard deviation r", ylabel="λ")
    mean = f"mean of {seeds} seed{'s' if seeds > 1 else ''}"
    ax.set_title(f"D, d = {rows.dim.iloc[0]}, n = {n}, width {width}\n{mean}")
    return image


def _baseline(ax, rows: pandas.DataFrame) -> None:
    color = _style.METHODS["network_no_lam"]["color"]
    for dim, look in _style.ordinal(sorted(rows.dim.unique()), color).items():
        n, errors = _statistics.by_seed(rows[rows.dim == dim], "num_samples", "test_error")
        _style.with_interval(ax, n / dim, 1 - errors, label=f"d = {dim}", **look)
        dashes = _style.PREDICTED | dict(color=look["color"])
        ax.plot([PUBLISHED[dim] / dim] * 2, [0.4, 1.0], **dashes)
    ax.plot([], [], label="published n at 60 %", **_style.PREDICTED)
    ax.axhline(0.6, label="60 %", **_style.LEVEL)
    ax.set(xlabel="samples n/d", ylabel="mean test accuracy", ylim=(0.4, 1.0))
    ax.set_title(f"λ = 0, width {PUBLISHED_WIDTH}, r = {PUBLISHED_SCALE}")
    ax.set_yticks(np.linspace(0.4, 1.0, 7))
    _style.legend(ax, above=0.45)


EXPERIMENT = Experiment(
    "phase_diagram", Config, PRESETS, points, run, claims, figure, (REGIMES, BASELINE),
    static=("width", "dim", "num_samples"), host="cpu",
)  # fmt: skip
