"""The picture of what λ breaks: the paper's figure against n, and the same against time."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style, configs, regularization
from ntkreg.experiments.regularization_claims import FIT, ends, table
from ntkreg.records import Record

PANELS = {
    "normalized_margin": "normalized margin",
    "test_error": "test error",
    "activation_change": "activation patterns changed",
    "kernel_distance": "relative change of the NTK",
}
LOG = ("kernel_distance",)


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Ten panels; every point is a mean over seeds with its 95 % bootstrap interval."""
    config, rows = configs.restored(regularization.Config, record), table(record)
    fig, axes = _style.mosaic("abcd;efgh;iijj", height=6.4, height_ratios=(1.0, 1.0, 0.85))
    main = rows[rows.width == config.width]
    for ax, column in zip(axes[:4], PANELS, strict=True):
        _by_size(ax, ends(rows, config.width), column)
    for ax, column in zip(axes[4:8], PANELS, strict=True):
        _by_time(ax, main, column)
    _by_width(axes[8], rows, "activation_change")
    _by_width(axes[9], rows, "kernel_distance")
    lines = axes[0].get_legend_handles_labels()
    fig.legend(*lines, loc="outside upper center", ncols=len(lines[0]), columnspacing=1.0)
    _style.legend(axes[4], above=0.3)
    return fig


def _looks(lams: pandas.Series) -> dict[float, dict]:
    """λ = 0 as networks without it look everywhere, the others in strengths of the network's."""
    positive = _style.ordinal(sorted(set(lams[lams > 0])), _style.METHODS["network"]["color"])
    return {0.0: _style.METHODS["network_no_lam"] | dict(linestyle="-")} | positive


def _seeds(rows: pandas.DataFrame, axis: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    found = rows.pivot(index=axis, columns="seed", values=column)
    return found.index.to_numpy(float), found.to_numpy()


def _by_size(ax, rows: pandas.DataFrame, column: str) -> None:
    """The first data set filled, the second hollow and dashed."""
    changes = (dict(linestyle="-"), _style.HOLLOW | dict(linestyle="--"))
    for (dataset, part), change in zip(rows.groupby("dataset", sort=False), changes, strict=False):
        for lam, of_lam in part.groupby("lam"):
            n, values = _seeds(of_lam, "num_samples", column)
            look = _looks(rows.lam)[lam] | change | dict(label=f"{dataset}, λ = {lam:g}")
            _style.with_interval(ax, n, values, **look)
    _style.at_sizes(ax, rows.num_samples.unique(), "samples n")
    ax.set(ylabel=PANELS[column], title="end of training")
    _from_zero(ax, column)


def _by_time(ax, rows: pandas.DataFrame, column: str) -> None:
    part = _largest(rows)
    for lam, of_lam in part.groupby("lam"):
        on_way = of_lam[of_lam.look != FIT]
        look = _looks(part.lam)[lam]
        _style.with_interval(ax, *_seeds(on_way, "step", column), label=f"λ = {lam:g}", **look)
        fit = of_lam[of_lam.look == FIT].step.median()
        ax.axvline(fit, **_style.LEVEL | dict(color=look["color"]))
    ax.plot([], [], label="first fit", **_style.LEVEL)
    ax.set(xscale="log", xlabel="steps of descent", ylabel=PANELS[column], title=_told(part))
    _from_zero(ax, column)


def _by_width(ax, rows: pandas.DataFrame, column: str) -> None:
    """Without λ when the samples first fit."""
    part = _largest(rows[(rows.look == FIT) & (rows.lam == 0)])
    widths, values = _seeds(part, "width", column)
    _style.with_interval(ax, widths, values, label="λ = 0", **_style.METHODS["network_no_lam"])
    _style.guide(ax, widths, values.mean(-1)[0], -0.5, "∝ width$^{-½}$")
    if column == "activation_change":
        ax.axhline(0.05, label="5 %", **_style.LEVEL)
    _style.at_sizes(ax, widths, "width")
    _style.plain_ticks(ax.yaxis)
    ax.set(ylabel=PANELS[column], title=f"{_told(part)}: first fit")
    _style.legend(ax, loc="lower left")


def _largest(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Of the first data set, the largest."""
    part = rows[rows.dataset == rows.dataset.iloc[0]]
    return part[part.num_samples == part.num_samples.max()]


def _told(part: pandas.DataFrame) -> str:
    return f"{part.dataset.iloc[0]}, n = {part.num_samples.max()}"


def _from_zero(ax, column: str) -> None:
    if column in LOG:
        _style.plain_ticks(ax.yaxis)
    elif column != "normalized_margin":
        ax.set_ylim(bottom=0)
