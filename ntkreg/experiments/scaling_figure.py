"""The picture of scaling: time against each size, with the counted exponent beside it."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import pandas

from ntkreg.experiments import scaling

LABELS = {
    "num_samples": "samples n", "width": "width", "dim": "dimension d", "num_lams": "number of λ",
    "num_workers": "workers on one CPU", "devices": "devices",
}  # fmt: skip


def figure(rows: Sequence[dict[str, Any]]) -> matplotlib.figure.Figure:
    """A panel for each quantity and size: medians of the repeats with their range."""
    table, lines = pandas.DataFrame(rows), scaling.lines(list(rows))
    columns = 4
    fig = matplotlib.figure.Figure(figsize=(13, 6.4), layout="constrained")
    axes = fig.subplots(2, columns).reshape(-1)
    for ax in axes[len(lines) :]:
        ax.set_axis_off()
    for ax, line in zip(axes, lines, strict=False):
        part = table[(table.quantity == line.quantity) & (table.axis == line.axis)]
        seconds = part.groupby("size").seconds
        spread = [line.seconds - seconds.min(), seconds.max() - line.seconds]
        label = f"measured, exponent {line.exponent:.2f}"
        style = dict(color="#0072B2", marker="o", markersize=5, capsize=2, linewidth=1)
        ax.errorbar(line.sizes, line.seconds, yerr=spread, label=label, **style)
        counted = line.seconds[-1] * (line.sizes / line.sizes[-1]) ** line.counted
        ax.plot(line.sizes, counted, "--", color="0.35", label=f"operations ∝ size^{line.counted}")
        ax.set(xscale="log", yscale="log", xlabel=LABELS[line.axis], ylabel="seconds")
        ax.set_xticks(line.sizes, [f"{size:g}" for size in line.sizes])
        ax.minorticks_off()
        ax.set_title(line.quantity, fontsize=10)
        ax.legend(frameon=False, fontsize=8)
    return fig
