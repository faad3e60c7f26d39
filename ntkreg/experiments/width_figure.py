"""The picture of width: margins up to the certified one, errors beside them, and the bound."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import width
from ntkreg.experiments.separation_figure import MARKERS, with_interval
from ntkreg.experiments.width_claims import at_last_lam, best_margins, table
from ntkreg.records import Record

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")


def figure(record: Record) -> matplotlib.figure.Figure:
    """Four panels; bars are bootstrap intervals over trials, or the range over data sets."""
    rows = table(record)
    fig = matplotlib.figure.Figure(figsize=(12.5, 8.2), layout="constrained")
    axes = fig.subplots(2, 2)
    _margins(axes[0, 0], rows)
    _bound(axes[0, 1], rows)
    _by_width(axes[1, 0], rows, "normalized_margin", "normalized margin over that of the widest")
    _by_width(axes[1, 1], rows, "test_error", "test error")
    return fig


def _margins(ax, rows: pandas.DataFrame) -> None:
    best = best_margins(rows)
    for (dataset, part), color, marker in zip(
        best.groupby("dataset"), COLORS, MARKERS, strict=False
    ):
        low, middle, high = part.min(), part.median(), part.max()
        n = width.parsed(dataset).num_samples
        style = dict(color=color, marker=marker, markersize=5, capsize=2, linewidth=1)
        label = f"{dataset}, {len(part)} sets"
        ax.errorbar(part.columns, middle, yerr=[middle - low, high - middle], label=label, **style)
        ax.axvline(n + 1, color=color, linestyle=":", linewidth=0.9)
    ax.axhline(1.0, color="0.35", linestyle="--", linewidth=0.9, label="certified, any width")
    ax.plot([], [], color="0.35", linestyle=":", label="n + 1")
    _width_axis(ax, rows[rows.dataset.str.startswith("random")])
    ax.set(ylabel="normalized margin / γ*", ylim=(-0.08, 1.08))
    ax.set_title("margin against width, best of the seeds")
    ax.legend(frameon=False, fontsize=8, loc="lower right")


def _width_axis(ax, rows: pandas.DataFrame) -> None:
    widths = sorted(rows.width.unique())
    ax.set(xscale="log", xlabel="width")
    ax.set_xticks(widths, [str(w) for w in widths])
    ax.minorticks_off()


def _bound(ax, rows: pandas.DataFrame) -> None:
    last = at_last_lam(rows, "D:")
    sizes = last.dataset.map(lambda name: width.parsed(name).num_samples)
    for (depth, part), color, marker in zip(last.groupby("depth"), COLORS, MARKERS, strict=False):
        n = np.sort(sizes[part.index].unique())
        style = dict(color=color, marker=marker, markersize=5)
        of = lambda column, part=part, n=n: np.array(
            [part[sizes[part.index] == m][column].to_numpy() for m in n]
        )
        with_interval(ax, n, of("bound"), label=f"bound, depth {depth}", **style)
        style |= dict(markerfacecolor="white", linestyle=":")
        shown = np.maximum(of("test_error"), 1e-4)
        with_interval(ax, n, shown, label=f"test error, depth {depth}", **style)
    ax.axhline(1.0, color="0.35", linewidth=0.8, linestyle="--", label="says nothing above")
    ax.set(xscale="log", yscale="log", xlabel="samples n", ylabel="probability, at least 1e-4")
    ax.set_title("D: the bound and the error that it bounds")
    ax.legend(frameon=False, fontsize=7.5, ncols=2)


def _by_width(ax, rows: pandas.DataFrame, column: str, ylabel: str) -> None:
    names = rows.dataset[rows.dataset.str.match("teacher|digits")].unique()
    for dataset, color, marker in zip(names, COLORS, MARKERS, strict=False):
        part = at_last_lam(rows, dataset)
        part = part[part.normalized_margin > 0]
        widths = np.sort(part.width.unique())
        values = [part[part.width == w][column].to_numpy() for w in widths]
        scale = values[-1].mean() if column == "normalized_margin" else 1.0
        label = f"{dataset}, λ = {part.lam.min():.0e}"
        style = dict(color=color, marker=marker, markersize=5, label=label)
        for w, value in zip(widths, values, strict=True):
            with_interval(ax, [w], value[None] / scale, **style)
            style["label"] = None
        ax.plot(widths, [value.mean() / scale for value in values], color=color, linewidth=1)
    _width_axis(ax, rows[rows.dataset.isin(names)])
    ax.set(ylabel=ylabel)
    ax.set_title(f"{column.replace('_', ' ')} against width")
    ax.legend(frameon=False, fontsize=8)
