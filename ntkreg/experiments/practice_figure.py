"""The picture of practice: test errors of networks and kernels, and what annealing changes."""

import math

import matplotlib.figure
import matplotlib.ticker
import numpy as np
import pandas

from ntkreg.experiments import statistics
from ntkreg.experiments.practice import FINAL, INITIAL
from ntkreg.experiments.practice_claims import SCHEDULES, against_fixed, table
from ntkreg.experiments.separation_figure import with_interval
from ntkreg.records import Record

# Colours tell the models, markers tell them in grey; a network is filled, its kernel hollow.
STYLES = {
    "fully_connected": ("#0072B2", "o", "fully connected"),
    "convolutional": ("#D55E00", "s", "convolutional"),
}
FIXED = {FINAL: ("#009E73", "D"), INITIAL: ("#CC79A7", "^")}
APART = 1.03  # of points that lie at the same n


def figure(record: Record) -> matplotlib.figure.Figure:
    """One panel for each data set, one for annealing; bars are 95 % bootstrap intervals."""
    rows = table(record)
    names = rows.dataset.unique()
    columns = min(len(names) + 1, 2 if len(names) < 4 else 3)
    lines = math.ceil((len(names) + 1) / columns)
    fig = matplotlib.figure.Figure(figsize=(6.2 * columns, 4.1 * lines), layout="constrained")
    axes = fig.subplots(lines, columns, squeeze=False).flat
    for ax, name in zip(axes, names, strict=False):
        _errors(ax, rows[rows.dataset == name])
    _annealing(axes[len(names)], rows)
    for ax in axes[len(names) + 1 :]:
        ax.set_axis_off()
    return fig


def _errors(ax, rows: pandas.DataFrame) -> None:
    curves = rows[rows.schedule.isin([SCHEDULES[0], ""])].groupby(
        ["model", "predictor"], sort=False
    )
    for number, ((model, predictor), part) in enumerate(curves):
        color, marker, label = STYLES[model]
        values = part.pivot(index="num_samples", columns="seed", values="test_error")
        shift = APART ** (number - (len(curves) - 1) / 2)
        style = dict(color=color, marker=marker, markersize=6, linewidth=1.2)
        if predictor == "kernel":
            style |= dict(markerfacecolor="white", linestyle="--")
        what = "network" if predictor == "network" else "its NTK"
        with_interval(
            ax, shift * values.index, values.to_numpy(), label=f"{label}, {what}", **style
        )
    sizes = sorted(rows.num_samples.unique())
    ax.set(xscale="log", xlabel="training images n", ylabel="test error")
    ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])  # room for markers at 0
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    ax.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=None))
    ax.set_title(f"{rows.dataset.iloc[0]}, {rows.num_test.iloc[0]} test images")
    ax.legend(frameon=False, fontsize=8)


def _annealing(ax, rows: pandas.DataFrame) -> None:
    """Annealed less fixed, for each data set and model: left of 0 annealing is better."""
    for number, (schedule, (color, marker)) in enumerate(FIXED.items()):
        differences = against_fixed(rows, schedule)
        if not len(differences):
            continue
        means = differences.mean(axis=1).to_numpy()
        ends = np.array([statistics.mean_interval(row) for row in differences.to_numpy()]).T
        style = dict(color=color, marker=marker, markersize=6, linestyle="none", capsize=2)
        places = np.arange(len(means)) + 0.24 * (number - 0.5)
        label = f"annealed − {SCHEDULES[schedule]}"
        ax.errorbar(means, places, xerr=np.abs(ends - means), label=label, **style)
        names = [f"{data}\n{STYLES[model][2]}, n = {n}" for data, model, n in differences.index]
        ax.set_yticks(range(len(names)), names, fontsize=8 if len(names) < 9 else 6)
    ax.axvline(0.0, color="0.35", linewidth=0.8, linestyle=":")
    low, high = ax.get_ylim()
    ax.set_ylim(high, low - 0.12 * (high - low))  # first row on top, room for the legend above
    ax.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
    ax.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0, decimals=None))
    ax.set(xlabel="difference of test errors (left of 0: annealed is better)")
    ax.set_title("annealed λ against fixed λ")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8, loc="upper left", ncols=2)
