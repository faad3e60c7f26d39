"""Initial scale against λ: where a small start learns D alone, where it takes λ, and which λ.

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
from ntkreg.experiments import _descents, _experiment, _statistics, _style
from ntkreg.experiments._claims import Claim
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
    draws = _statistics.resampled(errors, 2000, np.random.default_rng(0))
    at = float(_statistics.crossing(n, errors.mean(-1), LEVEL))
    return at, _statistics.interval(_statistics.crossing(n, draws, LEVEL))


# Claims ---------------------------------------------------------------------------------------

LEARNED, NOT_LEARNED, LEVEL = 0.05, 0.25, 0.4
TRANSITION = 1 / 16  # on D the minimizer of F_λ is Θ = 0 from here on
REGIMES = Claim(
    statement="Initial scale and λ make regimes: a small start learns D without λ, a large one "
    "only with it, and too large a λ nothing",
    source="Wei et al. 2019, Theorem 2.1 and Section 5; Chizat, Oyallon, Bach 2019; derived here "
    "for λ ≥ 1/16",
    predicted="mean test errors ≤ 5 % at λ = 0 from small r, ≥ 25 % from larger r, where one λ < "
    "1/16 makes it ≤ 5 %, and ≥ 25 % at λ ≥ 1/16",
)
BASELINE = Claim(
    statement="The published baseline without λ (width 10, r = 0.1) reaches 60 % accuracy at the "
    "published n",
    source="Smith's report on neural networks in kernel and rich regimes",
    predicted=", ".join(f"n = {n} at d = {d}" for d, n in PUBLISHED.items()) + "; within 25 %",
)


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The two claims."""
    return [regimes_claim(diagram(table, config)), baseline_claim(baseline(table, config))]


def regimes_claim(rows: pandas.DataFrame) -> Claim:
    """Of the widest networks; all three must be there, and errors must not be failed fits.

    The λ that large starts need is one for all of them, that of the largest mean training margin.
    """
    widest = rows[rows.width == rows.width.max()]
    errors = mean_errors(widest)
    small = errors.index[(errors.index > 0) & (errors.index < TRANSITION)]
    large = errors.index[errors.index >= TRANSITION]
    if 0.0 not in errors.index or small.empty or large.empty:
        return REGIMES
    lam = widest[widest.lam.isin(small)].groupby("lam").normalized_margin.mean().idxmax()
    plain, regularized = errors.loc[0.0], errors.loc[lam]
    alone = plain.index[plain <= LEARNED]
    needed = plain.index[(plain >= NOT_LEARNED) & (regularized <= LEARNED)]
    neither = plain.index[(plain >= NOT_LEARNED) & (regularized >= NOT_LEARNED)]
    collapsed = errors.loc[large].to_numpy().min()
    listed = lambda scales: ", ".join(f"{s:g}" for s in scales) or "none"
    judged = widest[(widest.lam == 0) & widest.init_scale.isin([*alone, *needed])]
    unfit, diverged = int((judged.train_error > 0).sum()), int(widest.failed.ne("").sum())
    ordered = len(alone) > 0 and len(needed) > 0 and alone.max() < needed.min()
    good = ordered and collapsed >= NOT_LEARNED and not unfit and not diverged
    return dataclasses.replace(
        REGIMES,
        measured=f"width {widest.width.iloc[0]}, n = {widest.num_samples.iloc[0]}: learned without "
        f"λ from r = {listed(alone)}; with λ = {lam:g} but not without from r = {listed(needed)}; "
        f"with neither from r = {listed(neither)}; at λ ≥ 1/16 the smallest error is "
        f"{collapsed:.2f}; errors at λ = 0: {', '.join(f'{e:.2f}' for e in plain)}; of these "
        f"networks {unfit} do not fit; {diverged} of {len(widest)} diverged",
        interval=f"means of {widest.seed.nunique()} seeds; λ of the largest margin",
        status="holds" if good else "fails",
    )


def baseline_claim(rows: pandas.DataFrame) -> Claim:
    """The crossing of 60 % accuracy within a quarter of the published n, in every dimension."""
    shown, ends, good = [], [], True
    for dim in sorted(rows.dim.unique()):
        if rows[rows.dim == dim].num_samples.nunique() < 2:
            return BASELINE
        at, (low, high) = crossing_of(rows, dim)
        good &= bool(abs(at / PUBLISHED[dim] - 1) <= 0.25)
        shown.append(f"n = {at:.0f} at d = {dim}, published {PUBLISHED[dim]}")
        ends.append(f"[{low:.0f}, {high:.0f}]")
    return dataclasses.replace(
        BASELINE,
        measured="; ".join(shown),
        interval=f"{', '.join(ends)}: 95 %, bootstrap over seeds",
        status="holds" if good else "fails",
    )


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
