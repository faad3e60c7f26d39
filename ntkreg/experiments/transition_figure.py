"""The picture of the transition: shares of samples, errors on the same samples, and where both
cross."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import _statistics, _style
from ntkreg.experiments.transition_claims import ERROR, SHARE, crossing, curve
from ntkreg.records import Record

LINES = {
    "optimal": ("certified", "planted network optimal on ½", SHARE),
    "local": ("linearised", "local condition holds on ½", SHARE),
    "test_error": ("network", "25 % test error", ERROR),
}


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels; shares have Wilson's 95 % intervals, means bootstrap intervals."""
    fig, axes = _style.panels(3, columns=3, ratio=0.95)
    _shares(axes[0], record)
    _errors(axes[1], record)
    _crossings(axes[2], record)
    return fig


def _by_dim(record: Record, method: str):
    return _style.ordinal(
        record.identity["config"]["dims"], _style.METHODS[method]["color"]
    ).items()


def _shares(ax, record: Record) -> None:
    for dim, look in _by_dim(record, "certified"):
        n, found = curve(record, dim, "optimal")
        ends = _statistics.wilson(found.sum(-1), found.shape[-1])
        _style.with_ends(ax, n / dim, found.mean(-1), *ends, label=f"d = {dim}", **look)
    ax.axhline(SHARE, **_style.LEVEL)
    ax.set(xlabel="samples n/d", ylabel="share of samples", ylim=(-0.04, 1.04))
    ax.set_title("planted has the max margin")
    _style.legend(ax, loc="upper left")


def _errors(ax, record: Record) -> None:
    for dim, look in _by_dim(record, "network"):
        n, errors = curve(record, dim, "test_error")
        _style.with_interval(ax, n / dim, errors, label=f"d = {dim}", **look)
    ax.axhline(ERROR, **_style.LEVEL)
    ax.set(xlabel="samples n/d", ylabel="test error", ylim=(-0.02, 0.56))
    ax.set_title("network, same samples")
    _style.legend(ax, loc="upper right")


def _crossings(ax, record: Record) -> None:
    for column, (method, label, level) in LINES.items():
        found = crossing(record, column, level)
        if not found.dims:
            continue
        dims = np.array(found.dims)
        ends = found.intervals.T / dims
        label = f"{label}{_style.power('d', found.slope)}"
        _style.with_ends(ax, dims, found.sizes / dims, *ends, label=label, **_style.METHODS[method])
    _style.at_sizes(ax, record.identity["config"]["dims"], "dimension d")
    ax.set(ylabel="samples n/d at the crossing", title="where they cross")
    _style.legend(ax, above=0.45)
