"""The picture of the transition: shares of samples, errors on the same samples, and where both
cross."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import statistics, style
from ntkreg.experiments.transition_claims import ERROR, SHARE, crossing, curve
from ntkreg.records import Record

LINES = {
    "optimal": ("certified", "planted network optimal on ½", SHARE),
    "local": ("linearised", "local condition holds on ½", SHARE),
    "test_error": ("network", "25 % test error", ERROR),
}


@style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels; shares have Wilson's 95 % intervals, means bootstrap intervals."""
    fig, axes = style.panels(3, columns=3, ratio=0.95)
    _shares(axes[0], record)
    _errors(axes[1], record)
    _crossings(axes[2], record)
    return fig


def _by_dim(record: Record, method: str):
    return style.ordinal(record.identity["config"]["dims"], style.METHODS[method]["color"]).items()


def _shares(ax, record: Record) -> None:
    for dim, look in _by_dim(record, "certified"):
        n, found = curve(record, dim, "optimal")
        ends = statistics.wilson(found.sum(-1), found.shape[-1])
        style.with_ends(ax, n / dim, found.mean(-1), *ends, label=f"d = {dim}", **look)
    ax.axhline(SHARE, **style.LEVEL)
    ax.set(xlabel="samples n/d", ylabel="share of samples", ylim=(-0.04, 1.04))
    ax.set_title("planted has the max margin")
    style.legend(ax, loc="upper left")


def _errors(ax, record: Record) -> None:
    for dim, look in _by_dim(record, "network"):
        n, errors = curve(record, dim, "test_error")
        style.with_interval(ax, n / dim, errors, label=f"d = {dim}", **look)
    ax.axhline(ERROR, **style.LEVEL)
    ax.set(xlabel="samples n/d", ylabel="test error", ylim=(-0.02, 0.56))
    ax.set_title("network, same samples")
    style.legend(ax, loc="upper right")


def _crossings(ax, record: Record) -> None:
    for column, (method, label, level) in LINES.items():
        found = crossing(record, column, level)
        if not found.dims:
            continue
        dims = np.array(found.dims)
        ends = found.intervals.T / dims
        label = f"{label}{style.power('d', found.slope)}"
        style.with_ends(ax, dims, found.sizes / dims, *ends, label=label, **style.METHODS[method])
    style.at_sizes(ax, record.identity["config"]["dims"], "dimension d")
    ax.set(ylabel="samples n/d at the crossing", title="where they cross")
    style.legend(ax, above=0.45)
