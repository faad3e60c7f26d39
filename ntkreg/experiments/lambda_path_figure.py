"""The picture of the λ-path: the way to the max margin, its rate, and how training gets there."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments.lambda_path_table import PROBLEM, best_of_seeds, random_sets, table
from ntkreg.experiments.path_law_claims import NOISE, WEIGHTED_AT
from ntkreg.experiments.separation_figure import MARKERS
from ntkreg.records import Record

BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.35"
LAW_FROM = 0.3  # above it λ is too large for the law
FLOOR = 1e-6  # of what is shown of differences


def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; bars reach from the 10th to the 90th percentile over data sets, or all seeds."""
    rows = table(record)
    sets = random_sets(rows)
    fig = matplotlib.figure.Figure(figsize=(14.5, 8.4), layout="constrained")
    axes = fig.subplots(2, 3)
    _approach(axes[0, 0], sets)
    _law(axes[0, 1], rows)
    _remainder(axes[0, 2], sets[sets.start == "certified"])
    _estimates(axes[1, 0], sets)
    _starts(axes[1, 1], rows)
    _classes(axes[1, 2], rows)
    return fig


def _spread(ax, rows: pandas.DataFrame, values: pandas.Series, **style) -> None:
    """Medians at every λ with the 10th and 90th percentile, against log₁₀(1/λ)."""
    groups = values[np.isfinite(values)].groupby(rows.lam)
    low, middle, high = (groups.quantile(q) for q in (0.1, 0.5, 0.9))
    x = -np.log10(middle.index.to_numpy())
    style = dict(markersize=5, capsize=2, linewidth=1) | style
    ax.errorbar(x, middle, yerr=[middle - low, high - middle], **style)


def _axes(ax, title: str, ylabel: str, legend: str = "best") -> None:
    ax.set(xscale="log", yscale="log", xlabel="log₁₀(1/λ)", ylabel=ylabel)
    ticks = (1, 2, 4, 8, 16, 32, 64, 100, 200)
    ax.set_xticks(ticks, list(map(str, ticks)))
    ax.minorticks_off()
    ax.set_title(title)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8, loc=legend)


def _approach(ax, sets: pandas.DataFrame) -> None:
    certified, best = sets[sets.start == "certified"], best_of_seeds(sets)
    style = dict(marker="o", color=BLUE, linestyle="none", label="trained, best of the seeds")
    _spread(ax, best, 1 - best.ratio, **style)
    _spread(
        ax, certified, 1 - certified.ratio, marker="s", color=RED, markerfacecolor="none",
        linestyle="none", label="true minimizer",
    )  # fmt: skip
    law = (1 - certified.predicted_ratio).groupby(certified.lam).median()
    ax.plot(-np.log10(law.index), law, color=GREY, linestyle="--", label="law, from the dual")
    number = certified.groupby(list(PROBLEM)).ngroups
    _axes(ax, f"depth 2, {number} random data sets", "1 − γ$_λ$/γ*")


def _law(ax, rows: pandas.DataFrame) -> None:
    """Measured against predicted; on the diagonal the law holds with its constant."""
    rows = rows[rows.reference_kind.isin(["closed form", "best known"])]
    best = best_of_seeds(rows[rows.predicted_ratio.notna()])
    ends = [1.0, 0.0]
    for (depth, part), marker in zip(best.groupby("depth"), MARKERS, strict=False):
        x, y = 1 - part.predicted_ratio, 1 - part.ratio
        kept = (x > 0) & (x < LAW_FROM) & (y > 0)
        ax.plot(x[kept], y[kept], marker, markersize=4, alpha=0.7, label=f"depth {depth}")
        if kept.any():
            ends = [min(ends[0], x[kept].min()), max(ends[1], x[kept].max())]
    ax.plot(ends, ends, color=GREY, linestyle="--", linewidth=0.9, label="law = measured")
    ax.set(xscale="log", yscale="log", xlabel="1 − γ$_λ$/γ*, law", ylabel="1 − γ$_λ$/γ*, trained")
    ax.set_title("closed forms at all depths, r = 1, 2, 4")
    ax.legend(frameon=False, fontsize=8)


def _remainder(ax, exact: pandas.DataFrame) -> None:
    ends = []
    for _, path in exact.groupby(list(PROBLEM), sort=False):
        x, y = path.norm**2 * path.reference_margin, (path.predicted_ratio - path.ratio).abs()
        kept = (path.lam <= WEIGHTED_AT) & (y > NOISE)
        ax.plot(x[kept], y[kept], ".-", color=BLUE, alpha=0.35, linewidth=0.8, markersize=4)
        ends += x[kept].tolist()
    if ends:
        x = np.array([min(ends), max(ends)])
        ax.plot(x, 0.3 / x**2, color=GREY, linestyle="--", label="∝ R$^{−2}$")
        ax.legend(frameon=False, fontsize=8)
    ax.set(xscale="log", yscale="log", xlabel="R γ*", ylabel="|law − true minimizer|")
    ax.set_title("what the law leaves, a line for every data set")


def _estimates(ax, sets: pandas.DataFrame) -> None:
    best = best_of_seeds(sets)
    weighted = (best.dual_weighted_margin / best.reference_margin - 1).abs()
    _spread(ax, best, 1 - best.ratio, marker="o", color=BLUE, label="normalized margin")
    _spread(ax, best, weighted, marker="D", color=GREEN, label="dual-weighted margin")
    _axes(ax, "two estimates of γ*, best of the seeds", "|estimate/γ* − 1|")


def _starts(ax, rows: pandas.DataFrame) -> None:
    """On the problems and seeds that both were run on."""
    for start, color, marker in (("warm", BLUE, "o"), ("cold", RED, "v")):
        part = rows[(rows.start == start) & (rows.seed == 0) & (rows.draw == 0)]
        part = part[part.predicted_ratio.notna()]
        short = (part.predicted_ratio - part.ratio).clip(lower=FLOOR)
        _spread(ax, part, short, marker=marker, color=color, label=f"{start} start")
    ax.set_ylim(FLOOR / 2, 30.0)  # room for the legend above the bars
    title = "how far one run falls short of the law"
    _axes(ax, title, "law − γ$_λ$/γ*, at least 1e-6", "upper center")


def _classes(ax, rows: pandas.DataFrame) -> None:
    several = rows[rows.dataset.str.startswith("digits") | (rows.dataset.str.count(":") > 2)]
    several = several[several.start == "warm"]
    for (key, part), marker in zip(several.groupby(["dataset", "depth"]), MARKERS, strict=False):
        label = f"{key[0]}, depth {key[1]} ({part.reference_kind.iloc[0]})"
        _spread(ax, part, (1 - part.ratio).clip(lower=1e-5), marker=marker, label=label)
    _axes(ax, "several classes, cross-entropy", "1 − γ$_λ$/reference")
