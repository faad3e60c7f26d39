"""The picture of the separation: errors, their collapse, the scaling laws, and why it happens."""

import matplotlib.figure
import matplotlib.ticker
import numpy as np

from ntkreg.experiments import separation, statistics
from ntkreg.experiments.separation_cell import PLANE_EXTENT
from ntkreg.records import Record

# Okabe and Ito's colours, which stay apart for colour-blind readers; markers tell them in grey.
STYLES = {
    "net_regularized": ("#0072B2", "o", "network, ℓ2-regularised"),
    "net_small_init": ("#56B4E9", "v", "network, λ = 0, small start"),
    "net_standard_init": ("#009E73", "^", "network, λ = 0, standard start"),
    "ntk_svm": ("#D55E00", "s", "NTK, hard margin"),
    "ntk_logistic": ("#E69F00", "D", "NTK, logistic, best λ"),
    "ntk_ridge": ("#CC79A7", "P", "NTK, ridge, best λ"),
}
MARKERS = "osD^vP*X"


def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; every point is a mean over seeds with its 95 % bootstrap interval."""
    fig = matplotlib.figure.Figure(figsize=(13.5, 8.2), layout="constrained")
    axes = fig.subplots(2, 3)
    _collapse(axes[0, 0], record, "net_regularized", 1)
    _collapse(axes[0, 1], record, "ntk_svm", 2)
    _scalings(axes[0, 2], record)
    dim = _dim_of_planes(record)
    _signal(axes[1, 0], record, dim)
    for ax, predictor in zip(axes[1, 1:], ("net_regularized", "ntk_svm"), strict=True):
        _plane(fig, ax, record, predictor, dim)
    return fig


def with_interval(ax, x, values, **style) -> None:
    """Means over seeds (the last axis) with bootstrap intervals."""
    means = values.mean(-1)
    draws = statistics.resampled_means(values, 1000, np.random.default_rng(0))
    ends = np.array([statistics.interval(column) for column in draws.T]).T
    ax.errorbar(x, means, yerr=np.abs(ends - means), capsize=2, **style)


def _collapse(ax, record: Record, predictor: str, power: int) -> None:
    """Test error against n/d^power: curves that lie on each other need n ∝ d^power."""
    dims = record.identity["config"]["dims"]
    shades = np.linspace(0.35, 1.0, len(dims))
    for dim, shade, marker in zip(dims, shades, MARKERS, strict=False):
        n, errors = separation.curve(record, predictor, dim, "test_error")
        if n.size:
            color = shaded(STYLES[predictor][0], shade)
            style = dict(color=color, marker=marker, markersize=5, label=f"d = {dim}")
            with_interval(ax, n / dim**power, errors, **style)
    ax.axhline(separation.LEVEL, color="0.5", linewidth=0.8, linestyle=":")
    plain_ticks(ax)
    ax.set_ylim(-0.02, 0.56)
    ratio = "n / d" if power == 1 else f"n / d$^{power}$"
    ax.set(xlabel=f"samples {ratio}", ylabel="test error", title=STYLES[predictor][2])
    _legend(ax, fontsize=8)


def _legend(ax, **style) -> None:
    if ax.get_legend_handles_labels()[0]:  # matplotlib warns of an empty one
        ax.legend(frameon=False, **style)


def plain_ticks(ax) -> None:
    """A logarithmic axis with 1, 2, 5, 10, … in plain numbers: powers of ten are too few."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    ax.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def shaded(color: str, opacity: float) -> tuple[float, ...]:
    """A colour given as #RRGGBB, with that opacity."""
    return (*(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)), opacity)


def _scalings(ax, record: Record) -> None:
    """The n at which the error crosses 25 % against d, with fitted and predicted slopes."""
    for predictor, (color, marker, label) in STYLES.items():
        found = separation.scaling(record, predictor)
        if not found.dims:
            continue
        low, high = found.intervals.T
        errors = np.abs(np.stack([found.sizes - low, high - found.sizes]))
        named = label if np.isnan(found.slope) else f"{label}: d^{found.slope:.2f}"
        style = dict(color=color, marker=marker, markersize=5, capsize=2, linewidth=1)
        ax.errorbar(found.dims, found.sizes, yerr=errors, label=named, **style)
        power = {"net_regularized": 1, "ntk_svm": 2}.get(predictor)
        if power:
            predicted = found.sizes[0] * (np.array(found.dims) / found.dims[0]) ** power
            ax.plot(found.dims, predicted, color="0.3", linestyle="--", linewidth=0.9)
    ax.plot([], [], color="0.3", linestyle="--", linewidth=0.9, label="predicted: d¹ and d²")
    dims = record.identity["config"]["dims"]
    ax.set(xscale="log", yscale="log", xlabel="dimension d", ylabel="samples n at 25 % test error")
    ax.set_xticks(dims, [str(dim) for dim in dims])
    ax.minorticks_off()
    ax.set_title("sample complexity")
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * 12)  # room for the legend above the curves
    _legend(ax, fontsize=7.5, loc="upper left")


def _dim_of_planes(record: Record) -> int:
    """The dimension that is looked into: the upper middle one, 40 at the laptop preset."""
    dims = record.identity["config"]["dims"]
    return dims[len(dims) // 2]


def _signal(ax, record: Record, dim: int) -> None:
    for predictor in ("net_regularized", "ntk_svm"):
        color, marker, label = STYLES[predictor]
        n, share = separation.curve(record, predictor, dim, "signal_share")
        if not n.size:
            continue
        style = dict(color=color, marker=marker, markersize=5)
        with_interval(ax, n, share, label=label, **style)
        _, errors = separation.curve(record, predictor, dim, "train_error")
        style |= dict(linestyle=":", linewidth=1, markerfacecolor="white", markersize=4)
        with_interval(ax, n, errors, label="its training error", **style)
    ax.set(ylim=(-0.04, 1.04), xlabel="samples n")
    ax.set_ylabel("Var E[f | x₁, x₂] / Var f on fresh points")
    plain_ticks(ax)
    ax.set_title(f"share of signal, d = {dim}")
    _legend(ax, fontsize=8, loc="center right")


def _plane(fig, ax, record: Record, predictor: str, dim: int) -> None:
    """The learned function over (x₁, x₂), noise and seeds averaged out, and the data's support."""
    n, planes = separation.curve(record, predictor, dim, "plane")
    if not n.size:
        ax.set_axis_off()
        return
    nearest = int(np.argmin(np.abs(np.log(n / (6 * dim)))))
    mean = planes[nearest].mean(0)
    side = np.linspace(-PLANE_EXTENT, PLANE_EXTENT, mean.shape[0])
    mesh = ax.contourf(
        side, side, mean.T, levels=np.linspace(-2, 2, 17), cmap="PuOr", extend="both"
    )
    ax.contour(side, side, mean.T, levels=[0.0], colors="black", linewidths=1)
    ax.scatter([1, -1], [0, 0], marker="P", s=70, color="white", edgecolors="black", label="y = +1")
    ax.scatter([0, 0], [1, -1], marker="o", s=50, color="white", edgecolors="black", label="y = −1")
    ax.set(xlabel="x₁", ylabel="x₂", aspect="equal")
    ax.set_title(f"{STYLES[predictor][2]}\nd = {dim}, n = {n[nearest]}", fontsize=10)
    ax.legend(fontsize=8, loc="upper right")
    fig.colorbar(mesh, ax=ax, label="mean f, in standard deviations of f", ticks=[-2, -1, 0, 1, 2])
