"""The picture of the transition: shares of samples, errors on the same samples, and where both
cross."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import statistics, transition
from ntkreg.experiments.separation_figure import MARKERS, with_interval
from ntkreg.records import Record

# Okabe and Ito's blue in shades of growing strength; markers tell the dimensions in grey.
COLOR = (0.0, 0.447, 0.698)
LINES = {
    "optimal": ("#0072B2", "o", "planted optimal on half of the samples", transition.SHARE),
    "local": ("#E69F00", "s", "local condition holds on half", transition.SHARE),
    "test_error": ("#D55E00", "^", "25 % test error of the network", transition.ERROR),
}


def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels; shares have Wilson's 95 % intervals, means bootstrap intervals."""
    fig = matplotlib.figure.Figure(figsize=(14, 4.4), layout="constrained")
    axes = fig.subplots(1, 3)
    _shares(axes[0], record)
    _errors(axes[1], record)
    _crossings(axes[2], record)
    return fig


def _by_dim(record: Record):
    dims = record.identity["config"]["dims"]
    for dim, shade, marker in zip(dims, np.linspace(0.3, 1.0, len(dims)), MARKERS, strict=False):
        yield dim, dict(color=(*COLOR, shade), marker=marker, markersize=5, label=f"d = {dim}")


def _shares(ax, record: Record) -> None:
    for dim, style in _by_dim(record):
        n, found = transition.curve(record, dim, "optimal")
        low, high = statistics.wilson(found.sum(-1), found.shape[-1])
        share = found.mean(-1)
        ax.errorbar(n / dim, share, yerr=[share - low, high - share], capsize=2, **style)
    ax.axhline(transition.SHARE, color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlabel="samples n / d", ylabel="share of samples", ylim=(-0.04, 1.04))
    ax.set_title("planted network has the max margin")
    ax.legend(frameon=False, fontsize=8, loc="upper left")


def _errors(ax, record: Record) -> None:
    for dim, style in _by_dim(record):
        n, errors = transition.curve(record, dim, "test_error")
        with_interval(ax, n / dim, errors, **style)
    ax.axhline(transition.ERROR, color="0.5", linewidth=0.8, linestyle=":")
    ax.set(xlabel="samples n / d", ylabel="test error", ylim=(-0.02, 0.56))
    ax.set_title("network trained on the same samples")


def _crossings(ax, record: Record) -> None:
    for column, (color, marker, label, level) in LINES.items():
        found = transition.crossing(record, column, level)
        if not found.dims:
            continue
        dims = np.array(found.dims)
        ends = np.abs(found.intervals.T - found.sizes) / dims
        slope = "" if np.isnan(found.slope) else f": n ∝ d^{found.slope:.2f}"
        style = dict(color=color, marker=marker, markersize=5, capsize=2, linewidth=1)
        ax.errorbar(dims, found.sizes / dims, yerr=ends, label=label + slope, **style)
    dims = record.identity["config"]["dims"]
    ax.set(xscale="log", xlabel="dimension d", ylabel="samples n / d at the crossing")
    ax.set_xticks(dims, [str(dim) for dim in dims])
    ax.minorticks_off()
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.45 * (high - low))  # room for the legend above the curves
    ax.set_title("where half of the samples, or 25 %, is crossed")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8, loc="upper left")
