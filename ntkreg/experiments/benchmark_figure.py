"""The picture of the benchmark: time per step of every contender against the number of λ."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import matplotlib.ticker
import pandas

# Okabe and Ito's colours; markers tell them apart in grey.
STYLES = {
    "sweep": ("#0072B2", "o", "ntkreg.sweeps"),
    "sweep_fused": ("#56B4E9", "P", "ntkreg.sweeps of ntkreg.fused"),
    "loop": ("#D55E00", "s", "jitted runs in turn"),
    "vmap": ("#E69F00", "D", "plain vmap"),
    "torch_eager": ("#999999", "v", "PyTorch, eager loop"),
    "torch_compiled": ("#000000", "^", "PyTorch, torch.compile(vmap)"),
}


def figure(rows: Sequence[dict[str, Any]]) -> matplotlib.figure.Figure:
    """A panel for each number of samples and width; medians with the range of the repeats."""
    table = pandas.DataFrame(rows)
    sizes = dict.fromkeys(["num_samples", "width", "num_lams"], int)
    table = table[table.task == "training"].astype(sizes)
    panels = list(table.groupby(["width", "num_samples"]))
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    size = (3.6 * columns + 0.5, 3.2 * lines + 0.6)
    fig = matplotlib.figure.Figure(figsize=size, layout="constrained")
    axes = fig.subplots(lines, columns, squeeze=False).reshape(-1)
    for ax in axes[len(panels) :]:
        ax.set_axis_off()
    for ax, ((width, num_samples), panel) in zip(axes, panels, strict=False):
        for name, (color, marker, label) in STYLES.items():
            times = panel[panel.contender == name].groupby("num_lams").microseconds_per_step
            if not len(times):
                continue
            middle = times.median()
            spread = [middle - times.min(), times.max() - middle]
            style = dict(color=color, marker=marker, label=label, markersize=5, capsize=2)
            ax.errorbar(middle.index, middle, yerr=spread, linewidth=1, **style)
        ticks = sorted(panel.num_lams.unique())
        ax.set(xscale="log", yscale="log", xlabel="number of λ")
        ax.set_ylabel("µs per network and step")
        ax.set_xticks(ticks, [str(tick) for tick in ticks])
        ax.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        ax.set_title(f"n = {num_samples:g}, width {width:g}", fontsize=10)
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    return fig
