"""The picture of approximate minimizers: how small their margins are, found and proved."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import _style
from ntkreg.experiments.approximate import table
from ntkreg.records import Record


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Two panels; bars reach from the least to the largest over data sets."""
    rows = table(record)
    rows = rows[rows.max_margin > 0]
    fig, (left, right) = _style.panels(2, columns=2, ratio=0.75)
    _over_lam(left, rows)
    _over_beta(right, rows)
    return fig


def _over_lam(ax, rows) -> None:
    logarithm = lambda lams: -np.log10(lams)
    by_beta = dict(list(rows.groupby("beta")))
    for beta, look in _style.ordinal(by_beta, _style.METHODS["network"]["color"]).items():
        part = by_beta[beta]
        found = (part.worst_found * beta).groupby(part.lam)
        _style.with_range(ax, found, logarithm, label=f"worst found, β = {beta:g}", **look)
        proved = (part.least_proved * beta).groupby(part.lam).median()
        ax.plot(logarithm(proved.index), proved, color=look["color"], linestyle=":")
    ax.plot([], [], color=_style.BLUE, linestyle=":", label="proved from F* (median)")
    ax.axhline(1.0, label="limit derived here: γ*/β", **_style.CERTIFIED)
    ax.axhline(0.1, label="theorem: γ*/(10β)", **_style.PREDICTED)
    _style.at_sizes(ax, {round(v, 3) for v in logarithm(rows.lam)}, "log₁₀(1/λ)")
    ax.set(ylabel="β γ/γ*", ylim=(-0.25, 1.09))
    number = rows.groupby(["dim", "num_samples", "seed"]).ngroups
    ax.set_title(f"within β of the minimum, {number} data sets")
    _style.legend(ax, loc="center right", bbox_to_anchor=(1.0, 0.5))


def _over_beta(ax, rows) -> None:
    last = rows[rows.lam == rows.lam.min()]
    look = _style.METHODS["network"] | _style.DOTS
    _style.with_range(ax, last.worst_found.groupby(last.beta), label="worst found", **look)
    x = np.linspace(1.0, 2.0, 50)
    ax.plot(x, 1 / x, label="limit derived here: 1/β", **_style.CERTIFIED)
    ax.plot(x, 0.1 / x, label="theorem: 1/(10β)", **_style.PREDICTED)
    ax.set(xlabel="β", ylabel="γ/γ*", ylim=(0, 1.05), title=f"λ = {_style.number(rows.lam.min())}")
    _style.legend(ax, loc="center left", bbox_to_anchor=(0.0, 0.4))
