"""The picture of a user's λ-path: norm, margins, errors, and whether the optimizer got there."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.user_path import best_of_seeds, table
from ntkreg.records import Record
from ntkreg.training.stationarity import CONVERGED


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Four panels against λ; faint points are all starts, lines those of the least objective."""
    rows = table(record)
    fig, axes = _style.panels(4, columns=2, ratio=0.75)
    _drawn(axes[0], rows, {"norm": ("‖Θ‖", _style.BLUE)}, "norm of the parameters", "log")
    _drawn(axes[1], rows, {
        "normalized_margin": ("normalized margin", _style.BLUE),
        "dual_weighted_margin": ("dual-weighted margin", _style.GREEN),
    }, "margins", "linear")  # fmt: skip
    _drawn(axes[2], rows, {
        "train_error": ("training", _style.BLUE), "test_error": ("test", _style.VERMILION)
    }, "errors", "linear")  # fmt: skip
    title = "residual of stationarity"
    _drawn(axes[3], rows, {"stationarity": ("residual", _style.BLUE)}, title, "log")
    axes[3].axhline(CONVERGED, label="below: the optimizer is done", **_style.LEVEL)
    _style.legend(axes[3])
    return fig


def _drawn(
    ax, rows: pandas.DataFrame, series: dict[str, tuple[str, str]], title: str, scale: str
) -> None:
    best = best_of_seeds(rows)
    for name, (label, color) in series.items():
        if rows[name].notna().any():
            ax.plot(-np.log10(rows.lam), rows[name], ".", color=color, alpha=0.3)
            ax.plot(-np.log10(best.lam), best[name], ".-", color=color, label=label)
    ax.set(xlabel="log₁₀(1/λ)", title=title, yscale=scale)
    _style.legend(ax)
