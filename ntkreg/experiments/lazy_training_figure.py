"""The picture of lazy training: distances against width, time and output scale."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments.lazy_training_claims import against, at_end, slope, table
from ntkreg.experiments.separation_figure import MARKERS, with_interval
from ntkreg.records import Record

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CURVES = {
    "prediction_distance": ("-", None, "network − exact kernel"),
    "linearised_prediction_distance": (":", "white", "linearised − exact kernel"),
    "linearised_distance": ("--", "white", "network − linearised"),
}


def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; every point is a mean over seeds with its 95 % bootstrap interval."""
    rows = table(record)
    end = at_end(rows)
    plain = end[end.output_scale == 1]
    fig = matplotlib.figure.Figure(figsize=(14.5, 8.6), layout="constrained")
    axes = fig.subplots(2, 3)
    for ax, loss in zip(axes[0], plain.loss.unique(), strict=False):
        _by_width(ax, plain[plain.loss == loss], f"{loss} loss, at time {end.time.max():g}")
    _drift(axes[0, 2], plain)
    scaled = end[end.groupby(["depth", "width"]).output_scale.transform("nunique") > 1]
    _by_scale(axes[1, 0], scaled)
    _drift_by_scale(axes[1, 1], scaled)
    _by_time(axes[1, 2], rows)
    for ax in axes.flat:
        if not ax.has_data():
            ax.set_axis_off()
    return fig


def _by_width(ax, rows: pandas.DataFrame, title: str) -> None:
    for (depth, part), color, marker in zip(rows.groupby("depth"), COLORS, MARKERS, strict=False):
        for column, (line, face, label) in CURVES.items():
            widths, values = against(part, "width", column)
            found, _ = slope(part, "width", column)
            named = f"depth {depth}, {label}: width$^{{{found:.2f}}}$"
            style = dict(color=color, marker=marker, markersize=5, linestyle=line)
            with_interval(ax, widths, values, label=named, markerfacecolor=face or color, **style)
    _half_power(ax, rows)
    _width_axis(ax, rows)
    low, high = ax.get_ylim()
    ax.set(ylim=(low / 30, high), ylabel="relative distance of predictions", title=title)
    ax.legend(frameon=False, fontsize=7, loc="lower left")


def _half_power(ax, rows: pandas.DataFrame) -> None:
    widths = np.sort(rows.width.unique())
    top = rows[rows.width == widths[0]].prediction_distance.mean()
    style = dict(color="0.35", linestyle="-.", linewidth=0.9)
    ax.plot(widths, 1.5 * top * (widths / widths[0]) ** -0.5, label="predicted: −½", **style)


def _width_axis(ax, rows: pandas.DataFrame) -> None:
    widths = sorted(rows.width.unique())
    ax.set(xscale="log", yscale="log", xlabel="width")
    ax.set_xticks(widths, [str(w) for w in widths])
    ax.minorticks_off()


def _drift(ax, rows: pandas.DataFrame) -> None:
    groups = rows.groupby(["loss", "depth"], sort=False)
    for ((loss, depth), part), color, marker in zip(groups, COLORS, MARKERS, strict=False):
        widths, values = against(part, "width", "kernel_distance")
        found, _ = slope(part, "width", "kernel_distance")
        label = f"{loss}, depth {depth}: width$^{{{found:.2f}}}$"
        with_interval(ax, widths, values, color=color, marker=marker, markersize=5, label=label)
    _width_axis(ax, rows)
    ax.set(ylabel="relative change of the empirical NTK", title="drift of the kernel, start to end")
    ax.legend(frameon=False, fontsize=8)


def _by_scale(ax, rows: pandas.DataFrame) -> None:
    for (loss, part), color, marker in zip(
        rows.groupby("loss", sort=False), COLORS, MARKERS, strict=False
    ):
        for column, (line, face, label) in CURVES.items():
            scales, values = against(part, "output_scale", column)
            style = dict(color=color, marker=marker, markersize=5, linestyle=line)
            named = f"{loss}, {label}"
            with_interval(ax, scales, values, label=named, markerfacecolor=face or color, **style)
    ax.axhline(0.01, color="0.35", linewidth=0.8, linestyle="-.", label="1 %")
    ax.set(xscale="log", yscale="log", xlabel="output scale α")
    ax.set(ylabel="relative distance of predictions", title=_of_width(rows))
    ax.legend(frameon=False, fontsize=7, loc="lower left")


def _drift_by_scale(ax, rows: pandas.DataFrame) -> None:
    for (loss, part), color, marker in zip(
        rows.groupby("loss", sort=False), COLORS, MARKERS, strict=False
    ):
        scales, values = against(part, "output_scale", "kernel_distance")
        with_interval(ax, scales, values, color=color, marker=marker, markersize=5, label=loss)
        shown = scales[scales >= 1]
        at_one = values.mean(-1)[scales >= 1][0] if shown.size else np.nan
        ax.plot(shown, at_one / shown, color="0.35", linestyle="-.", linewidth=0.9)
    ax.plot([], [], color="0.35", linestyle="-.", linewidth=0.9, label="∝ 1/α")
    ax.set(xscale="log", yscale="log", xlabel="output scale α")
    ax.set(ylabel="relative change of the empirical NTK", title=_of_width(rows))
    ax.legend(frameon=False, fontsize=8)


def _of_width(rows: pandas.DataFrame) -> str:
    return f"width {rows.width.iloc[0]}, depth {rows.depth.iloc[0]}" if len(rows) else ""


def _by_time(ax, rows: pandas.DataFrame) -> None:
    shallow = rows[(rows.depth == 2) & (rows.loss == rows.loss.iloc[0]) & (rows.output_scale == 1)]
    widths = np.sort(shallow.width.unique())
    for width, color, marker in zip(
        widths[:: max(1, len(widths) // 4)], COLORS, MARKERS, strict=False
    ):
        times, values = against(shallow[shallow.width == width], "time", "prediction_distance")
        style = dict(color=color, marker=marker, markersize=5)
        with_interval(ax, times, values, label=f"width {width}", **style)
    flow = shallow[shallow.width == widths[0]].groupby("time").flow_distance.mean()
    style = dict(color="0.35", linestyle="-.", linewidth=0.9)
    ax.plot(flow.index, flow, label="steps − flow, exact kernel", **style)
    ax.set(xscale="log", yscale="log", xlabel="time: learning rate × steps")
    ax.set(ylabel="distance from the exact kernel", title=f"{shallow.loss.iloc[0]} loss, depth 2")
    ax.legend(frameon=False, fontsize=8, loc="lower left")
