"""The picture of teachers: errors of network and kernels, and the margin bounds beside them."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.teacher import PREDICTORS
from ntkreg.experiments.teacher_claims import table, tasks_of, values_of
from ntkreg.records import Record

LEAST, TOP = 1e-4, 200.0  # of the axis of bounds
LABELS = {"network": "network, λ = {lam}", "nngp": "ReLU features (NNGP)", "ntk": "NTK"}
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


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Errors of each task above, bounds below; means over trials, 95 % bootstrap intervals."""
    rows = table(record)
    tasks, dim = tasks_of(rows), rows.dim.iloc[0]
    fig, axes = _style.panels(2 * len(tasks), columns=len(tasks), ratio=0.9)
    for number, task in enumerate(tasks):
        _errors(axes[number], rows, task, dim)
        _bounds(axes[number + len(tasks)], rows, task)
    return fig


def _look(rows: pandas.DataFrame, predictor: str) -> dict:
    label = LABELS[predictor].format(lam=_style.number(rows.lam.max()))
    return _style.METHODS[predictor] | dict(label=label)


def _errors(ax, rows: pandas.DataFrame, task: str, dim: int) -> None:
    for predictor in PREDICTORS:
        sizes, errors = values_of(rows, task, predictor, "test_error")
        _style.with_interval(ax, sizes, errors, **_look(rows, predictor))
    _style.at_sizes(ax, sizes, "samples n")
    ax.set(ylabel=ERRORS[task], ylim=(0, None), title=f"{TITLES[task]}, d = {dim}")
    _style.legend(ax, above=0.25, loc="upper right")


def _bounds(ax, rows: pandas.DataFrame, task: str) -> None:
    """Bounds (filled) and errors (white) on one logarithmic axis, what is vacuous in grey."""
    if rows[rows.task == task].bound.isna().all():
        why = "no bound: margins bound\nthe share of wrong signs"
        ax.text(0.5, 0.5, why, ha="center", va="center")
        ax.set_axis_off()
        return
    for predictor in PREDICTORS:
        look = _look(rows, predictor)
        _style.with_interval(ax, *values_of(rows, task, predictor, "bound"), **look)
        sizes, errors = values_of(rows, task, predictor, "test_error")
        _style.with_interval(
            ax, sizes, np.maximum(errors, LEAST), **look | _style.HOLLOW | dict(label=None)
        )
    ax.axhspan(1.0, TOP, color=_style.LIGHT, zorder=0, linewidth=0)
    beside = dict(fontsize=6.0, va="bottom", transform=ax.get_yaxis_transform())
    ax.text(0.02, 1.1, "vacuous above 1", **beside)
    _style.at_sizes(ax, sizes, "samples n")
    ax.set(yscale="log", ylim=(LEAST / 2, TOP), ylabel=f"probability, at least {LEAST:g}")
    ax.set_title("bounds (filled), errors (white)")
