"""The picture of lazy training: distances against width, time and output scale."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.lazy_training_claims import against, at_end, slope, table
from ntkreg.records import Record

CURVES = {
    "prediction_distance": (_style.METHODS["network_no_lam"], "network − kernel"),
    "linearised_prediction_distance": (_style.METHODS["linearised"], "linearised − kernel"),
    "linearised_distance": (
        dict(color=_style.BLACK, marker="s", linestyle="--"),
        "network − linearised",
    ),
}


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; every point is a mean over seeds with its 95 % bootstrap interval."""
    rows = table(record)
    end = at_end(rows)
    plain = end[end.output_scale == 1]
    fig, axes = _style.panels(6, columns=3, ratio=1.1)
    for ax, loss in zip(axes, plain.loss.unique(), strict=False):
        _by_width(ax, plain[plain.loss == loss], f"{loss} loss, time {end.time.max():g}")
    _drift(axes[2], plain)
    scaled = end[end.groupby(["depth", "width"]).output_scale.transform("nunique") > 1]
    _by_scale(axes[3], scaled)
    _drift_by_scale(axes[4], scaled)
    _by_time(axes[5], rows)
    for ax in axes:
        if not ax.has_data():
            ax.set_axis_off()
    return fig


def _curves(ax, rows: pandas.DataFrame, axis: str, names: dict) -> None:
    """Each of CURVES in its look, for each part of `rows`: filled the first, hollow the next."""
    for (name, part), change in zip(names.items(), ({}, _style.HOLLOW), strict=False):
        for column, (look, label) in CURVES.items():
            x, values = against(part, axis, column)
            fitted = slope(part, axis, column)[0] if axis == "width" else np.nan
            told = "" if np.isnan(fitted) else f": {fitted:.2f}".replace("-", "−")
            label = f"{name}, {label}{told}"
            _style.with_interval(ax, x, values, label=label, **look | change)


def _by_width(ax, rows: pandas.DataFrame, title: str) -> None:
    _curves(ax, rows, "width", {str(d): part for d, part in rows.groupby("depth")})
    widths = np.sort(rows.width.unique())
    top = rows[rows.width == widths[0]].prediction_distance.mean()
    _style.guide(ax, widths, 1.5 * top, -0.5, "predicted: −½")
    _style.at_sizes(ax, widths, "width")
    ax.set(yscale="log", ylabel="relative distance of predictions", title=title)
    _style.legend(ax, below=0.8, title="depth, distance: power of the width", alignment="left")


def _drift(ax, rows: pandas.DataFrame) -> None:
    groups = dict(list(rows.groupby(["loss", "depth"], sort=False)))
    for (loss, depth), look in _style.categories(groups).items():
        widths, values = against(groups[loss, depth], "width", "kernel_distance")
        found, _ = slope(groups[loss, depth], "width", "kernel_distance")
        label = f"{loss}, depth {depth}{_style.power('width', found)}"
        _style.with_interval(ax, widths, values, label=label, **look)
    _style.at_sizes(ax, rows.width.unique(), "width")
    ax.set(yscale="log", ylabel="relative change of the empirical NTK", title="drift of the kernel")
    _style.legend(ax, below=0.35)


def _by_scale(ax, rows: pandas.DataFrame) -> None:
    parts = dict(list(rows.groupby("loss", sort=False)))
    _curves(ax, rows, "output_scale", parts)
    ax.axhline(0.01, label="1 %", **_style.LEVEL)
    ax.set(xscale="log", yscale="log", xlabel="output scale α")
    ax.set(ylabel="relative distance of predictions", title=_of_width(rows))
    _style.legend(ax, below=0.65, handlelength=1.8)


def _drift_by_scale(ax, rows: pandas.DataFrame) -> None:
    losses = _style.categories(rows.loss.unique())
    for number, (loss, look) in enumerate(losses.items()):
        part = rows[rows.loss == loss]
        scales, values = against(part, "output_scale", "kernel_distance")
        _style.with_interval(ax, scales, values, label=loss, **look)
        if (scales >= 1).any():
            start = values.mean(-1)[scales >= 1][0]
            label = None if number else "predicted: 1/α"
            _style.guide(ax, scales[scales >= 1], start, -1.0, label)
    ax.set(xscale="log", yscale="log", xlabel="output scale α")
    ax.set(ylabel="relative change of the empirical NTK", title=_of_width(rows))
    _style.legend(ax)


def _of_width(rows: pandas.DataFrame) -> str:
    return f"width {rows.width.iloc[0]}, depth {rows.depth.iloc[0]}" if len(rows) else ""


def _by_time(ax, rows: pandas.DataFrame) -> None:
    shallow = rows[(rows.depth == 2) & (rows.loss == rows.loss.iloc[0]) & (rows.output_scale == 1)]
    widths = np.sort(shallow.width.unique())
    shown = widths[:: max(1, len(widths) // 4)]
    color = _style.METHODS["network_no_lam"]["color"]
    for width, look in _style.ordinal(shown, color).items():
        times, values = against(shallow[shallow.width == width], "time", "prediction_distance")
        _style.with_interval(ax, times, values, label=f"width {width}", **look)
    flow = shallow[shallow.width == widths[0]].groupby("time").flow_distance.mean()
    ax.plot(flow.index, flow, label="steps − flow", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="time: learning rate × steps")
    ax.set(ylabel="distance from the kernel", title=f"{shallow.loss.iloc[0]} loss, depth 2")
    _style.legend(ax, loc="lower left")
