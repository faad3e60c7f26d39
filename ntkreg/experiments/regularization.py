"""What λ changes: training with and without ℓ2 from the same initial parameters

Does regularisation make a difference that the NTK cannot explain? The paper compares networks
trained with λ and without from one initialisation by margin, test error and the share of activation
patterns that training changed, which in the kernel regime is small.

Two-layer networks descend F_λ itself on samples of D and of a teacher. Networks of other widths
descend it without λ, for the moment when they first fit their samples.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 5, the figure that compares regularisation and
none from the same initialisation, as remembered. Widths, λ and sizes there are not known; these are
our own.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas

from ntkreg._types import Array, Scalar
from ntkreg.experiments import _claims, _descents, _experiment, _statistics, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments._training import Source, samples_of
from ntkreg.sweeps import grid

DATASETS = ("D", "teacher")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      datasets, dim, sizes: D or a teacher with ten hidden units, in that dimension, for each n.
      width, lams: of the networks that are trained with each λ from the same start.
      wide_widths: of further networks on the first data set at its largest n, trained without λ.
      output_scale: α of all initial parameters (`_descents`).
      num_seeds: samples, teachers and initial parameters, drawn anew for each.
      learning_rate: of gradient descent, in units that make the function begin to move as in `ntk`
        scaling at α = 1, whatever the width.
      num_steps, wide_steps: of the two kinds of networks.
      num_looks: measurements on the way, equally far apart in log time.
      num_test: fresh test points.
    """

    datasets: tuple[str, ...] = DATASETS
    dim: int = 20
    sizes: tuple[int, ...] = (40, 80, 160)
    width: int = 256
    lams: tuple[float, ...] = (0.0, 3e-3, 1e-2)
    wide_widths: tuple[int, ...] = (64, 1024, 4096)
    output_scale: float = 1.0
    num_seeds: int = 20
    learning_rate: float = 10.0
    num_steps: int = 3000
    wide_steps: int = 600
    num_looks: int = 7
    num_test: int = 2000

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("datasets", *_experiment.one_of(DATASETS))
        check("dim", lambda v: v >= 3, "at least 3")
        check("sizes", lambda v: v >= 2, "at least 2")
        check("lams", lambda v: 0 <= v < np.inf, "finite and at least 0")
        for name in ("output_scale", "learning_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("width", "wide_widths", "num_seeds", "num_steps", "wide_steps", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "datasets", "sizes", "lams", "wide_widths")
        if self.width in self.wide_widths:
            raise ValueError(f"wide_widths must differ from width={self.width}, has it too")
        for steps in (self.num_steps, self.wide_steps):
            _descents.log_steps(steps, self.num_looks)


# smoke: seconds. laptop, thorough: minutes on two cores. full: a GPU.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        datasets=("D",), dim=5, sizes=(40,), width=32, lams=(0.0, 1e-2), wide_widths=(256,),
        num_seeds=3, learning_rate=5.0,
        num_steps=2000, wide_steps=600, num_looks=3, num_test=200,
    ),
    "laptop": dict(sizes=(40, 160), num_seeds=5),
    "thorough": {},
    "full": dict(
        sizes=(40, 80, 160, 320, 640), width=1024, lams=(0.0, 1e-4, 1e-3, 1e-2),
        wide_widths=(64, 256, 4096, 16384), num_steps=20_000, wide_steps=5000, num_test=10_000,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Every λ on every data set, then the other widths without λ on the first one's largest."""
    seeds = range(config.num_seeds)
    main = grid(
        dataset=config.datasets, num_samples=config.sizes, width=[config.width], lam=config.lams,
        seed=seeds,
    )  # fmt: skip
    wide = grid(
        dataset=config.datasets[:1], num_samples=[max(config.sizes)], width=config.wide_widths,
        lam=[0.0], seed=seeds,
    )  # fmt: skip
    return main + wide


def run(
    config: Config, dataset: str, num_samples: int, width: int, lam: Scalar, seed: Array
) -> dict[str, Array]:
    """What `_descents.descent` measures when the samples are first fit, on the way, at the end."""
    source = Source(dataset, (config.dim, num_samples))
    key, train, test = samples_of(source, seed, config.num_test)
    assert test is not None  # random labels have none, and are none of DATASETS
    scale, num_steps = config.output_scale, config.num_steps
    if width != config.width:
        num_steps = config.wide_steps
    # Steps of this rate on the paper's network, whose kernel is r²·width·dim = α√(width·dim)
    # times the one of `ntk` scaling, are steps of `learning_rate` in that one.
    rate = config.learning_rate / (scale * np.sqrt(width * config.dim))
    return _descents.descent(
        train, test, key, width=width, scale=_descents.init_scale(scale, width, config.dim),
        lam=lam, learning_rate=rate, steps=_descents.log_steps(num_steps, config.num_looks),
    )  # fmt: skip


# The table ------------------------------------------------------------------------------------

FIRST_FIT, ON_THE_WAY, END = "first fit", "on the way", "end"
COLUMNS = (
    "dataset", "dim", "num_samples", "width", "output_scale", "lam", "seed", "look",
    *_descents.COLUMNS, "failed",
)  # fmt: skip


def by_look(table: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every network and measurement: "first fit", then "on the way", at last "end"."""
    looks = [FIRST_FIT, *[ON_THE_WAY] * (config.num_looks - 1), END]
    rows = _descents.by_entry(table, "look", looks)
    return rows.assign(dim=config.dim, output_scale=config.output_scale)[list(COLUMNS)]


def ends(rows: pandas.DataFrame, width: int) -> pandas.DataFrame:
    """The ends of the networks of the width that is trained with every λ."""
    return rows[(rows["look"] == END) & (rows.width == width)]


def largest(rows: pandas.DataFrame, dataset: str | None = None) -> pandas.DataFrame:
    """Of that data set, or the first one, the rows with the most samples."""
    part = rows[rows.dataset == (dataset or rows.dataset.iloc[0])]
    return part[part.num_samples == part.num_samples.max()]


def best_lam(rows: pandas.DataFrame) -> float:
    """The λ > 0 with the largest mean margin of the training samples."""
    return float(rows[rows.lam > 0].groupby("lam").normalized_margin.mean().idxmax())


# Claims ---------------------------------------------------------------------------------------

SOURCE = "Wei et al., Sec. 5 (from memory)"
MIN_CHANGE, MIN_DRIFT, MAX_LAZY = 0.2, 0.5, 0.05
BETTER = {
    dataset: Claim(
        statement=f"From one start λ raises margin, accuracy and changed patterns {where}",
        source=SOURCE,
    )
    for dataset, where in {"D": "on D", "teacher": "on a teacher"}.items()
}
LEAVES = Claim(
    statement="With λ a network leaves the kernel regime; without λ a wide one fits inside it",
    source=SOURCE,
)
CHANGES: dict[str, tuple[str, _claims.Relation]] = {  # and how they compare with 0
    "test_error": ("error", "≤"),
    "normalized_margin": ("margin", "≥"),
    "activation_change": ("patterns changed", "≥"),
}


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for."""
    better = [better_claim(table, config.width, dataset) for dataset in BETTER]
    return [claim for claim in (*better, leaves_claim(table, config.width)) if claim.checks]


def better_claim(rows: pandas.DataFrame, width: int, dataset: str) -> Claim:
    """Paired over seeds, at the largest n and the λ > 0 with the largest mean margin there."""
    part = largest(ends(rows, width), dataset)
    if part.lam.nunique() < 2 or 0.0 not in set(part.lam):
        return BETTER[dataset]
    lam = best_lam(part)
    found = part[part.lam.isin([0.0, lam])].pivot(index="seed", columns="lam")
    fit = ~(found.train_error > 0).any(axis=1)
    checks = [
        _claims.mean(
            f"{dataset}: change of {name}",
            (found[column][lam] - found[column][0.0])[fit], 0, relation,
            f"seeds, n = {part.num_samples.iloc[0]}, λ = {lam:g}",
        )
        for column, (name, relation) in CHANGES.items()
    ]  # fmt: skip
    apart = "" if fit.all() else f"{(~fit).sum()} of {len(fit)} pairs do not both fit"
    return BETTER[dataset].on(*checks, apart=[apart])


def leaves_claim(rows: pandas.DataFrame, width: int) -> Claim:
    """Means over seeds on the first data set at its largest n, of networks that fit."""
    part = largest(rows)
    last = ends(part, width)
    early = part[(part["look"] == FIRST_FIT) & (part.lam == 0) & (part.width == part.width.max())]
    if last.lam.max() == 0 or early.empty:
        return LEAVES
    plain, last = (last[last.lam == lam] for lam in (0.0, best_lam(last)))
    unfit = [sum(rows.train_error > 0) for rows in (last, early)]
    last, early = (rows[~(rows.train_error > 0)] for rows in (last, early))
    lazy = "no λ, widest, first fit: "
    return LEAVES.on(
        _claims.mean("with λ: change of the NTK", last.kernel_distance, MIN_DRIFT, "≥"),
        _claims.mean("with λ: patterns changed", last.activation_change, MIN_CHANGE, "≥"),
        _claims.mean(f"{lazy}patterns changed", early.activation_change, MAX_LAZY, "≤"),
        _claims.mean(f"{lazy}change of the NTK", early.kernel_distance),
        _claims.mean(f"{lazy}off the exact NTK", early.prediction_distance),
        _claims.mean("no λ, at the end: patterns changed", plain.activation_change),
        apart=[f"{sum(unfit)} networks do not fit" if any(unfit) else ""],
    )


# The picture ----------------------------------------------------------------------------------

PANELS = {
    "normalized_margin": "normalized margin",
    "test_error": "test error",
    "activation_change": "activation patterns changed",
    "kernel_distance": "relative change of the NTK",
}


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Ten panels; every point is a mean over seeds with its 95 % interval."""
    fig, axes = _style.mosaic("abcd;efgh;iijj", height=6.4, height_ratios=(1.0, 1.0, 0.85))
    main = largest(table[table.width == config.width])
    for ax, column in zip(axes[:4], PANELS, strict=True):
        _by_size(ax, ends(table, config.width), column)
    for ax, column in zip(axes[4:8], PANELS, strict=True):
        _by_time(ax, main, column)
    fits = largest(table[(table["look"] == FIRST_FIT) & (table.lam == 0)])
    _by_width(axes[8], fits, "activation_change")
    _by_width(axes[9], fits, "kernel_distance")
    lines = axes[0].get_legend_handles_labels()
    fig.legend(*lines, loc="outside upper center", ncols=len(lines[0]), columnspacing=1.0)
    _style.legend(axes[4], above=0.3)
    return fig


def _styles(lams: pandas.Series) -> dict[float, dict]:
    """λ = 0 as networks without it are drawn everywhere, the others in strengths of one colour."""
    positive = _style.ordinal(sorted(set(lams[lams > 0])), _style.METHODS["network"]["color"])
    return {0.0: _style.METHODS["network_no_lam"] | dict(linestyle="-")} | positive


def _by_size(ax, rows: pandas.DataFrame, column: str) -> None:
    """The first data set filled, the second hollow and dashed."""
    changes = (dict(linestyle="-"), _style.HOLLOW | dict(linestyle="--"))
    for (dataset, part), change in zip(rows.groupby("dataset", sort=False), changes, strict=False):
        for lam, of_lam in part.groupby("lam"):
            style = _styles(rows.lam)[lam] | change | dict(label=f"{dataset}, λ = {lam:g}")
            _style.with_interval(ax, *_statistics.by_seed(of_lam, "num_samples", column), **style)
    _style.at_sizes(ax, rows.num_samples.unique(), "samples n")
    ax.set(ylabel=PANELS[column], title="end of training")
    _from_zero(ax, column)


def _by_time(ax, rows: pandas.DataFrame, column: str) -> None:
    for lam, of_lam in rows.groupby("lam"):
        is_fit, style = of_lam["look"] == FIRST_FIT, _styles(rows.lam)[lam]
        curve = _statistics.by_seed(of_lam[~is_fit], "step", column)
        _style.with_interval(ax, *curve, label=f"λ = {lam:g}", **style)
        ax.axvline(of_lam[is_fit].step.median(), **_style.LEVEL | dict(color=style["color"]))
    ax.plot([], [], label="first fit", **_style.LEVEL)
    ax.set(xscale="log", xlabel="steps of descent", ylabel=PANELS[column], title=_name(rows))
    _from_zero(ax, column)


def _by_width(ax, rows: pandas.DataFrame, column: str) -> None:
    widths, values = _statistics.by_seed(rows, "width", column)
    _style.with_interval(ax, widths, values, label="λ = 0", **_style.METHODS["network_no_lam"])
    _style.guide(ax, widths, values.mean(-1)[0], -0.5, "∝ width$^{-½}$")
    if column == "activation_change":
        ax.axhline(MAX_LAZY, label="5 %", **_style.LEVEL)
    _style.at_sizes(ax, widths, "width")
    _style.plain_ticks(ax.yaxis)
    ax.set(ylabel=PANELS[column], title=f"{_name(rows)}: first fit")
    _style.legend(ax, loc="lower left")


def _name(part: pandas.DataFrame) -> str:
    return f"{part.dataset.iloc[0]}, n = {part.num_samples.max()}"


def _from_zero(ax, column: str) -> None:
    if column == "kernel_distance":
        _style.plain_ticks(ax.yaxis)
    elif column != "normalized_margin":
        ax.set_ylim(bottom=0)


EXPERIMENT = Experiment(
    "regularization", Config, PRESETS, points, run, claims, figure,
    (*BETTER.values(), LEAVES), table=by_look, static=("num_samples", "width"), host="cpu",
)  # fmt: skip
