"""The picture of teachers: errors of network and kernels, and the margin bounds beside them."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments.separation_figure import with_interval
from ntkreg.experiments.teacher import PREDICTORS
from ntkreg.experiments.teacher_claims import table, tasks_of, values_of
from ntkreg.records import Record

LEAST, TOP = 1e-4, 200.0  # of the axis of bounds
STYLES = {
    "network": ("#0072B2", "o", "network, λ = {lam:.0e}"),
    "nngp": ("#009E73", "^", "ReLU features (NNGP)"),
    "ntk": ("#D55E00", "s", "NTK"),
}
TITLES = {
    "classification": "signs of a teacher",
    "regression": "outputs of a teacher",
    "parity": "parity of two signs",
}
ERRORS = {
    "classification": "share of wrong signs",
    "regression": "mean squared error / Var y",
    "parity": "share of wrong signs",
}


def figure(record: Record) -> matplotlib.figure.Figure:
    """Errors of each task above, bounds below; means over trials, 95 % bootstrap intervals."""
    rows = table(record)
    tasks, dim = tasks_of(rows), rows.dim.iloc[0]
    fig = matplotlib.figure.Figure(figsize=(4.5 * len(tasks), 8.2), layout="constrained")
    axes = fig.subplots(2, len(tasks), squeeze=False)
    for (errors, limits), task in zip(axes.T, tasks, strict=True):
        _errors(errors, rows, task, dim)
        _bounds(limits, rows, task)
    return fig


def _style(rows: pandas.DataFrame, predictor: str) -> dict:
    color, marker, label = STYLES[predictor]
    return dict(color=color, marker=marker, markersize=5, label=label.format(lam=rows.lam.max()))


def _errors(ax, rows: pandas.DataFrame, task: str, dim: int) -> None:
    for predictor in PREDICTORS:
        sizes, errors = values_of(rows, task, predictor, "test_error")
        with_interval(ax, sizes, errors, **_style(rows, predictor))
    _size_axis(ax, sizes)
    ax.set(ylabel=ERRORS[task], ylim=(0, None))
    ax.set_title(f"{TITLES[task]}, d = {dim}")
    ax.legend(frameon=False, fontsize=8)


def _size_axis(ax, sizes: np.ndarray) -> None:
    ax.set(xscale="log", xlabel="samples n")
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()


def _bounds(ax, rows: pandas.DataFrame, task: str) -> None:
    """Bounds (dotted) and errors (white) on one logarithmic axis, what is vacuous in grey."""
    if rows[rows.task == task].bound.isna().all():
        ax.text(
            0.5, 0.5, "no bound: margins bound the share of wrong signs", ha="center", va="center"
        )
        ax.set_axis_off()
        return
    for predictor in PREDICTORS:
        style = _style(rows, predictor) | dict(linestyle=":")
        sizes, bound = values_of(rows, task, predictor, "bound")
        with_interval(ax, sizes, bound, **style)
        style |= dict(linestyle="-", markerfacecolor="white", linewidth=0.9, label=None)
        errors = values_of(rows, task, predictor, "test_error")[1]
        with_interval(ax, sizes, np.maximum(errors, LEAST), **style)
    ax.axhspan(1.0, TOP, color="0.9", zorder=0)
    style = dict(fontsize=8, color="0.25", va="bottom", transform=ax.get_yaxis_transform())
    ax.text(0.02, 1.1, "vacuous above 1", **style)
    _size_axis(ax, sizes)
    ax.set(yscale="log", ylim=(LEAST / 2, TOP), ylabel=f"probability, at least {LEAST:g}")
    ax.set_title(f"{TITLES[task]}: bounds (dotted), errors (white)", fontsize=10)
