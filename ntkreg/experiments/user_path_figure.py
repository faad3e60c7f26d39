"""The picture of a user's λ-path: norm, margins, errors, and whether the optimizer got there."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments.user_path import best_of_seeds, table
from ntkreg.records import Record
from ntkreg.stationarity import CONVERGED

BLUE, RED, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "0.35"


def figure(record: Record) -> matplotlib.figure.Figure:
    """Four panels against λ; faint points are all starts, lines those of the least objective."""
    rows = table(record)
    fig = matplotlib.figure.Figure(figsize=(10.5, 7.4), layout="constrained")
    axes = fig.subplots(2, 2)
    _drawn(axes[0, 0], rows, {"norm": ("‖Θ‖", BLUE)}, "norm of the parameters", "log")
    _drawn(axes[0, 1], rows, {
        "normalized_margin": ("normalized margin", BLUE),
        "dual_weighted_margin": ("dual-weighted margin", GREEN),
    }, "margins", "linear")  # fmt: skip
    _drawn(axes[1, 0], rows, {
        "train_error": ("training", BLUE), "test_error": ("test", RED)
    }, "errors", "linear")  # fmt: skip
    title = "residual of stationarity"
    _drawn(axes[1, 1], rows, {"stationarity": ("residual", BLUE)}, title, "log")
    axes[1, 1].axhline(CONVERGED, color=GREY, linestyle="--", label="below: the optimizer is done")
    axes[1, 1].legend(frameon=False)
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
    ax.legend(frameon=False)
