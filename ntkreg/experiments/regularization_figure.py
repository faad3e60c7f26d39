"""The picture of what λ breaks: the paper's figure against n, and the same against time."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import configs, regularization
from ntkreg.experiments.regularization_claims import FIT, ends, table
from ntkreg.experiments.separation_figure import with_interval
from ntkreg.records import Record

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7")  # by λ, 0 first
MARKERS, LINES = "osD^", ("-", "--")
PANELS = {
    "normalized_margin": "normalized margin",
    "test_error": "test error",
    "activation_change": "share of activation patterns changed",
    "kernel_distance": "relative change of the empirical NTK",
}
LOG = ("kernel_distance",)


def figure(record: Record) -> matplotlib.figure.Figure:
    """Ten panels; every point is a mean over seeds with its 95 % bootstrap interval."""
    config, rows = configs.restored(regularization.Config, record), table(record)
    fig = matplotlib.figure.Figure(figsize=(19, 7.8), layout="constrained")
    axes = fig.subplots(2, 5)
    main = rows[rows.width == config.width]
    for ax, column in zip(axes[0], PANELS, strict=False):
        _by_size(ax, ends(rows, config.width), column)
    for ax, column in zip(axes[1], PANELS, strict=False):
        _by_time(ax, main, column)
    _by_width(axes[0, 4], rows, "activation_change")
    _by_width(axes[1, 4], rows, "kernel_distance")
    lines = axes[0, 0].get_legend_handles_labels()
    fig.legend(*lines, loc="outside upper center", ncols=len(lines[0]), frameon=False, fontsize=9)
    axes[1, 0].legend(frameon=False, fontsize=8)
    return fig


def _seeds(rows: pandas.DataFrame, axis: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    found = rows.pivot(index=axis, columns="seed", values=column)
    return found.index.to_numpy(float), found.to_numpy()


def _by_size(ax, rows: pandas.DataFrame, column: str) -> None:
    for (dataset, of_set), line in zip(rows.groupby("dataset", sort=False), LINES, strict=False):
        for (lam, part), color, marker in zip(of_set.groupby("lam"), COLORS, MARKERS, strict=False):
            n, values = _seeds(part, "num_samples", column)
            label = f"{dataset}, λ = {lam:g}"
            style = dict(color=color, marker=marker, markersize=5, linestyle=line, label=label)
            face = color if line == "-" else "white"
            with_interval(ax, n, values, markerfacecolor=face, **style)
    sizes = sorted(rows.num_samples.unique())
    ax.set(xscale="log", xlabel="samples n", ylabel=PANELS[column])
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    _from_zero(ax, column)
    ax.set_title("end of training")


def _by_time(ax, rows: pandas.DataFrame, column: str) -> None:
    part = rows[rows.dataset == rows.dataset.iloc[0]]
    part = part[part.num_samples == part.num_samples.max()]
    for (lam, of_lam), color, marker in zip(part.groupby("lam"), COLORS, MARKERS, strict=False):
        on_way = of_lam[of_lam.look != FIT]
        steps, values = _seeds(on_way, "step", column)
        style = dict(color=color, marker=marker, markersize=5)
        with_interval(ax, steps, values, label=f"λ = {lam:g}", **style)
        fit = of_lam[of_lam.look == FIT].step.median()
        ax.axvline(fit, color=color, linestyle=":", linewidth=1)
    ax.plot([], [], color="0.4", linestyle=":", label="training error first 0, median")
    ax.set(xscale="log", xlabel="steps of gradient descent", ylabel=PANELS[column])
    _from_zero(ax, column)
    ax.set_title(f"{part.dataset.iloc[0]}, n = {part.num_samples.max()}")


def _by_width(ax, rows: pandas.DataFrame, column: str) -> None:
    """Without λ when the samples first fit."""
    part = rows[(rows.look == FIT) & (rows.lam == 0) & (rows.dataset == rows.dataset.iloc[0])]
    part = part[part.num_samples == part.num_samples.max()]
    widths, values = _seeds(part, "width", column)
    with_interval(ax, widths, values, color=COLORS[0], marker="o", markersize=5, label="λ = 0")
    half = values.mean(-1)[0] * (widths / widths[0]) ** -0.5
    ax.plot(widths, half, color="0.35", linestyle="-.", linewidth=0.9, label="∝ width$^{-½}$")
    if column == "activation_change":
        ax.axhline(0.05, color="0.35", linestyle=":", linewidth=0.9, label="5 %")
    ax.set(xscale="log", yscale="log", xlabel="width", ylabel=PANELS[column])
    ax.set_xticks(widths, [f"{w:g}" for w in widths])
    ax.xaxis.minorticks_off()
    ax.set_title(f"{part.dataset.iloc[0]}, n = {part.num_samples.max()}: first fit")
    ax.legend(frameon=False, fontsize=8)


def _from_zero(ax, column: str) -> None:
    if column in LOG:
        ax.set_yscale("log")
    elif column != "normalized_margin":
        ax.set_ylim(bottom=0)
