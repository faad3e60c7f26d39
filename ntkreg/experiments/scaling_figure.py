"""The picture of scaling: time against each size, with the counted exponent beside it."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import pandas

from ntkreg.experiments import scaling, style

LABELS = {
    "num_samples": "samples n", "width": "width", "dim": "dimension d", "num_lams": "number of λ",
    "num_workers": "workers on one CPU", "devices": "devices",
}  # fmt: skip


@style.styled
def figure(rows: Sequence[dict[str, Any]]) -> matplotlib.figure.Figure:
    """A panel for each quantity and size: medians of the repeats with their range."""
    table, lines = pandas.DataFrame(rows), scaling.lines(list(rows))
    fig, axes = style.panels(len(lines), columns=4, ratio=1.05)
    for ax, line in zip(axes, lines, strict=True):
        part = table[(table.quantity == line.quantity) & (table.axis == line.axis)]
        label = f"measured: {line.exponent:.2f}".replace("-", "−")
        look = style.categories(["measured"])["measured"]
        style.with_range(ax, part.groupby("size").seconds, label=label, **look)
        start = line.seconds[-1] * (line.sizes[0] / line.sizes[-1]) ** line.counted
        counted = f"operations: {line.counted}".replace("-", "−")
        style.guide(ax, line.sizes, start, line.counted, counted)
        style.at_sizes(ax, line.sizes, LABELS[line.axis])
        style.plain_ticks(ax.yaxis)
        ax.set(ylabel="seconds", title=line.quantity)
        style.legend(ax, above=0.3, title="exponent", alignment="left")
    return fig
