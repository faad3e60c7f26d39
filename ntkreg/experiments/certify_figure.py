"""The picture of the certificates: bounds that close in, and how far branch and bound reaches."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import certify
from ntkreg.experiments.separation_figure import MARKERS
from ntkreg.records import Record

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#999999", "#000000")
STEPS = {
    "trained": ("trained_margin", "trained_bound"),
    "polished": ("polished_margin", "search_bound"),
    "certified": ("lower", "upper"),
}
LEAST = 1e-12  # smaller gaps are drawn here


def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels; markers are medians over samples, bars run from the least to the largest."""
    rows = certify.table(record)
    fig = matplotlib.figure.Figure(figsize=(15, 4.8), layout="constrained")
    axes = fig.subplots(1, 3)
    _steps(axes[0], rows)
    proofs = rows[rows.oracle == "branch_and_bound"]
    _reach(axes[1], proofs, "gap", "relative gap of the certificate")
    _reach(axes[2], proofs, "nodes", "nodes of branch and bound")
    limit = record.identity["config"]["max_nodes"]
    axes[2].axhline(limit, color="0.5", linewidth=0.8, linestyle=":")
    axes[2].set_title(f"work; dotted: the limit of {limit:,}", fontsize=10)
    axes[1].set_title("branch and bound: gap reached", fontsize=10)
    return fig


def _steps(ax, rows) -> None:
    """The gap after each step, problem by problem."""
    names = list(dict.fromkeys(zip(*(rows[name] for name in certify.AXIS), strict=True)))
    for shift, (step, (low, high)) in zip((-0.22, 0.0, 0.22), STEPS.items(), strict=True):
        gaps = (1 - rows[low] / rows[high]).clip(LEAST, 2.0)
        places, middle, ends = [], [], []
        for place, name in enumerate(names):
            chosen = (rows[list(certify.AXIS)] == list(name)).all(axis=1)
            places.append(place + shift)
            middle.append(gaps[chosen].median())
            ends.append((gaps[chosen].min(), gaps[chosen].max()))
        bars = np.abs(np.array(ends).T - middle)
        index = list(STEPS).index(step)
        style = dict(color=COLORS[index], marker=MARKERS[index], markersize=4, linestyle="none")
        ax.errorbar(places, middle, yerr=bars, capsize=1.5, elinewidth=0.8, label=step, **style)
    short = {"enumerate": "exact", "branch_and_bound": "b&b", "multistart": "search"}
    labels = [f"{name[0]} d={name[1]} n={name[2]}, {short[name[3]]}" for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=90, fontsize=7)
    ax.set(yscale="log", ylabel="1 − lower/upper")
    ax.set_title("bounds of the max margin close in", fontsize=10)
    ax.legend(frameon=False, fontsize=8, ncols=3, loc="upper center")
    low, _ = ax.get_ylim()
    ax.set_ylim(low, 300)


def _reach(ax, rows, column: str, label: str) -> None:
    """A quantity of the proofs against n, for each kind of sample."""
    for index, ((dataset, dim), group) in enumerate(rows.groupby(["dataset", "dim"], sort=False)):
        values = group.assign(shown=group[column].clip(lower=LEAST)).groupby("num_samples").shown
        middle = values.median()
        bars = np.abs(np.stack([values.min(), values.max()]) - middle.to_numpy())
        style = dict(color=COLORS[index], marker=MARKERS[index], markersize=5, capsize=2)
        ax.errorbar(middle.index, middle, yerr=bars, label=f"{dataset}, d = {dim}", **style)
    ax.set(yscale="log", xlabel="samples n", ylabel=label)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8)
