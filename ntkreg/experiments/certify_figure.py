"""The picture of the certificates: bounds that close in, and how far branch and bound reaches."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import certify, style
from ntkreg.records import Record

STEPS = {
    "trained": ("trained_margin", "trained_bound", style.METHODS["network"]),
    "polished": ("polished_margin", "search_bound", dict(color=style.ORANGE, marker="s")),
    "certified": ("lower", "upper", style.METHODS["certified"]),
}
SHORT = {"enumerate": "exact", "branch_and_bound": "b&b", "multistart": "search"}
LEAST = 1e-12  # smaller gaps are drawn here


@style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels; markers are medians over samples, bars run from the least to the largest."""
    rows = certify.table(record)
    fig, axes = style.panels(3, columns=3, ratio=1.35)
    _steps(axes[0], rows)
    proofs = rows[rows.oracle == "branch_and_bound"]
    _reach(axes[1], proofs, "gap", "relative gap of the certificate")
    axes[1].set_title("branch and bound: gap")
    _reach(axes[2], proofs, "nodes", "nodes of branch and bound")
    limit = record.identity["config"]["max_nodes"]
    axes[2].axhline(limit, **style.LEVEL)
    axes[2].set_title(f"work; dotted: limit {limit:,}")
    return fig


def _steps(ax, rows) -> None:
    """The gap after each step, problem by problem."""
    names = list(dict.fromkeys(zip(*(rows[name] for name in certify.AXIS), strict=True)))
    for shift, (step, (low, high, look)) in zip((-0.22, 0.0, 0.22), STEPS.items(), strict=True):
        gaps = (
            (1 - rows[low] / rows[high])
            .clip(LEAST, 2.0)
            .groupby([rows[name] for name in certify.AXIS])
        )
        found = gaps.agg(["min", "median", "max"]).loc[names]
        ends = found["median"], found["min"], found["max"]
        style.with_ends(ax, np.arange(len(names)) + shift, *ends, label=step, **look | style.DOTS)
    labels = [f"{name[0]} d={name[1]} n={name[2]}, {SHORT[name[3]]}" for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=90, fontsize=5 if len(names) > 12 else 6)
    ax.set(yscale="log", ylabel="1 − lower/upper", title="bounds close in")
    style.legend(ax, above=0.22)


def _reach(ax, rows, column: str, label: str) -> None:
    """A quantity of the proofs against n, for each kind of sample."""
    parts = dict(list(rows.groupby(["dataset", "dim"], sort=False)))
    for (dataset, dim), look in style.categories(parts).items():
        part = parts[dataset, dim]
        values = part[column].clip(lower=LEAST).groupby(part.num_samples)
        style.with_range(ax, values, label=f"{dataset}, d = {dim}", **look)
    ax.set(yscale="log", xlabel="samples n", ylabel=label)
    style.legend(ax, above=0.4)
