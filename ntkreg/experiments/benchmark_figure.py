"""The picture of the benchmark: time per step of every contender against the number of λ."""

from collections.abc import Sequence
from typing import Any

import matplotlib.figure
import pandas

from ntkreg.experiments import _style

LABELS = {
    "sweep": "ntkreg.sweeps",
    "loop": "jitted runs in turn",
    "vmap": "plain vmap",
    "torch_eager": "PyTorch, eager loop",
    "torch_compiled": "PyTorch, torch.compile(vmap)",
    "sweep_fused": "ntkreg.sweeps, activations recomputed",
}
LOOKS = _style.categories(LABELS)


@_style.styled
def figure(rows: Sequence[dict[str, Any]]) -> matplotlib.figure.Figure:
    """A panel for each number of samples and width; medians with the range of the repeats."""
    table = pandas.DataFrame(rows)
    sizes = dict.fromkeys(["num_samples", "width", "num_lams"], int)
    table = table[table.task == "training"].astype(sizes)
    parts = list(table.groupby(["width", "num_samples"]))
    columns = min(len(parts), 4)
    fig, axes = _style.panels(len(parts), columns, ratio=1.05)
    for ax, ((width, num_samples), part) in zip(axes, parts, strict=True):
        _times(ax, part)
        ax.set_title(f"n = {num_samples:g}, width {width:g}")
    found = [dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True)) for ax in axes]
    handles = {name: handle for one in found for name, handle in one.items()}
    fig.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=min(columns, 3)
    )
    return fig


def _times(ax, part: pandas.DataFrame) -> None:
    for name, look in LOOKS.items():
        times = part[part.contender == name].groupby("num_lams").microseconds_per_step
        if len(times):
            _style.with_range(ax, times, label=LABELS[name], **look)
    _style.at_sizes(ax, part.num_lams.unique(), "number of λ")
    _style.plain_ticks(ax.yaxis)
    ax.set_ylabel("µs per network and step")
