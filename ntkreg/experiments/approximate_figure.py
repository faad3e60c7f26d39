"""The picture of approximate minimizers: how small their margins are, found and proved."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments.approximate import table
from ntkreg.experiments.separation_figure import MARKERS
from ntkreg.records import Record

COLORS = ("#56B4E9", "#0072B2", "#D55E00", "#009E73")


def figure(record: Record) -> matplotlib.figure.Figure:
    """Two panels; bars reach from the least to the largest over data sets."""
    rows = table(record)
    rows = rows[rows.max_margin > 0]
    fig = matplotlib.figure.Figure(figsize=(11.5, 4.4), layout="constrained")
    left, right = fig.subplots(1, 2)
    _over_lam(left, rows)
    _over_beta(right, rows)
    return fig


def _bars(ax, x, groups, **style) -> None:
    middle = groups.median()
    ends = [middle - groups.min(), groups.max() - middle]
    ax.errorbar(x, middle, yerr=ends, capsize=2, markersize=5, linewidth=1, **style)


def _over_lam(ax, rows) -> None:
    for (beta, part), color, marker in zip(rows.groupby("beta"), COLORS, MARKERS, strict=False):
        found = (part.worst_found * beta).groupby(part.lam)
        x = -np.log10(found.median().index.to_numpy())
        _bars(ax, x, found, color=color, marker=marker, label=f"worst found, β = {beta:g}")
        proved = (part.least_proved * beta).groupby(part.lam).median()
        ax.plot(x, proved, color=color, linestyle=":", linewidth=1.2)
    ax.plot([], [], color="0.35", linestyle=":", label="proved from F* (median)")
    ax.axhline(1.0, color="0.35", linewidth=0.8, label="limit derived here: γ*/β")
    ax.axhline(0.1, color="0.35", linestyle="--", label="theorem: γ*/(10β)")
    ax.set(xscale="log", xlabel="log₁₀(1/λ)", ylabel="β γ/γ*", ylim=(-0.25, 1.09))
    ticks = sorted({round(v, 3) for v in -np.log10(rows.lam)})
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    number = rows.groupby(["dim", "num_samples", "seed"]).ngroups
    ax.set_title(f"networks within β of the minimum, {number} random data sets")
    ax.legend(frameon=False, fontsize=8, loc="center right")


def _over_beta(ax, rows) -> None:
    last = rows[rows.lam == rows.lam.min()]
    groups = last.worst_found.groupby(last.beta)
    betas = groups.median().index.to_numpy()
    _bars(ax, betas, groups, color=COLORS[1], marker="o", linestyle="none", label="worst found")
    x = np.linspace(1.0, 2.0, 50)
    ax.plot(x, 1 / x, color="0.35", linewidth=0.8, label="limit derived here: 1/β")
    ax.plot(x, 0.1 / x, color="0.35", linestyle="--", label="theorem: 1/(10β)")
    ax.set(xlabel="β", ylabel="γ/γ*", ylim=(0, 1.05))
    ax.set_title(f"λ = {rows.lam.min():.0e}")
    ax.legend(frameon=False, fontsize=8, loc="center left")
