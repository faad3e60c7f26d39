"""The picture of the separation: errors, their collapse, the scaling laws, and why it happens."""

import matplotlib.figure
import numpy as np

from ntkreg.experiments import _style, separation, separation_claims
from ntkreg.experiments.separation import PLANE_EXTENT
from ntkreg.records import Record

LOOKS = {
    "net_regularized": ("network", "network, ℓ2-regularised"),
    "net_small_init": ("network_small_init", "λ = 0, small start"),
    "net_standard_init": ("network_no_lam", "λ = 0, standard start"),
    "ntk_svm": ("ntk", "NTK, hard margin"),
    "ntk_logistic": ("ntk_logistic", "NTK, logistic"),
    "ntk_ridge": ("ntk_ridge", "NTK, ridge"),
}
POWERS = {"net_regularized": 1, "ntk_svm": 2}


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; every point is a mean over seeds with its 95 % bootstrap interval."""
    fig, axes = _style.panels(6, columns=3, ratio=1.0)
    for ax, predictor in zip(axes, POWERS, strict=False):
        _collapse(ax, record, predictor)
    _scalings(axes[2], record)
    dim = _dim_of_planes(record)
    _signal(axes[3], record, dim)
    meshes = [
        _plane(ax, record, predictor, dim) for ax, predictor in zip(axes[4:], POWERS, strict=True)
    ]
    if any(meshes):
        label = "mean f, in standard deviations of f"
        beside: _style.Look = dict(shrink=0.6, aspect=30)
        bar = fig.colorbar(max(meshes, key=bool), ax=axes[4:], location="bottom", **beside)
        bar.set_label(label, labelpad=1)
        bar.set_ticks([-2, -1, 0, 1, 2])
    return fig


def _look(predictor: str) -> dict:
    return _style.METHODS[LOOKS[predictor][0]]


def _label(predictor: str) -> str:
    return LOOKS[predictor][1]


def _collapse(ax, record: Record, predictor: str) -> None:
    """Test error against n/d^power: curves that lie on each other need n ∝ d^power."""
    power = POWERS[predictor]
    looks = _style.ordinal(record.identity["config"]["dims"], _look(predictor)["color"])
    for dim, look in looks.items():
        n, errors = separation.curve(record, predictor, dim, "test_error")
        if n.size:
            _style.with_interval(ax, n / dim**power, errors, label=f"d = {dim}", **look)
    ax.axhline(separation_claims.LEVEL, **_style.LEVEL)
    if power == 1:
        _style.at_sizes(ax, record.identity["config"]["sizes_over_d"], "samples n/d")
    else:
        _style.plain_ticks(ax.xaxis)
        ax.set_xlabel("samples n/d²")
    ax.set(ylim=(-0.02, 0.56), ylabel="test error", title=_label(predictor))
    _style.legend(ax, loc="upper right" if power == 1 else "lower left")


def _scalings(ax, record: Record) -> None:
    """The n at which the error crosses 25 % against d, with fitted and predicted slopes."""
    lines = [
        (_label(name), _look(name), separation_claims.scaling(record, name), POWERS.get(name))
        for name in LOOKS
    ]
    _style.scalings(ax, lines, record.identity["config"]["dims"])
    ax.set(ylabel="samples n at 25 % test error", title="sample complexity")
    _style.legend(ax, above=0.85)


def _dim_of_planes(record: Record) -> int:
    """The dimension that is looked into: the upper middle one, 40 at the laptop preset."""
    dims = record.identity["config"]["dims"]
    return dims[len(dims) // 2]


def _signal(ax, record: Record, dim: int) -> None:
    for predictor in POWERS:
        n, share = separation.curve(record, predictor, dim, "signal_share")
        if not n.size:
            continue
        _style.with_interval(ax, n, share, label=_label(predictor), **_look(predictor))
        _, errors = separation.curve(record, predictor, dim, "train_error")
        look = _look(predictor) | _style.HOLLOW | dict(linestyle=":")
        _style.with_interval(ax, n, errors, **look)
    training = _style.HOLLOW | dict(color=_style.GREY, linestyle=":", marker="o")
    ax.plot([], [], label="training errors", **training)
    ax.set(ylim=(-0.04, 1.04), xlabel="samples n", title=f"share of signal, d = {dim}")
    ax.set_ylabel("Var E[f | x₁, x₂] / Var f")
    _style.plain_ticks(ax.xaxis)
    ax.set_yticks(np.linspace(0, 1, 6))
    _style.legend(ax, above=0.35)


def _plane(ax, record: Record, predictor: str, dim: int):
    """The learned function over (x₁, x₂), noise and seeds averaged out, and the data's support."""
    n, planes = separation.curve(record, predictor, dim, "plane")
    if not n.size:
        ax.set_axis_off()
        return None
    nearest = int(np.argmin(np.abs(np.log(n / (6 * dim)))))
    mean = planes[nearest].mean(0)
    side = np.linspace(-PLANE_EXTENT, PLANE_EXTENT, mean.shape[0])
    mesh = ax.contourf(
        side, side, mean.T, levels=np.linspace(-2, 2, 17), cmap="PuOr", extend="both"
    )
    # Dashed where f < 0: in grey the two halves of the map look alike.
    widths = dict(levels=[-1.0, 0.0, 1.0], linewidths=[0.4, 0.9, 0.4])
    ax.contour(side, side, mean.T, colors="black", **widths)
    points = dict(color="white", edgecolors="black", linewidths=0.7)
    ax.scatter([1, -1], [0, 0], marker="P", s=28, label="y = +1", **points)
    ax.scatter([0, 0], [1, -1], marker="o", s=20, label="y = −1", **points)
    ax.set(xlabel="x₁", ylabel="x₂", aspect="equal")
    ax.set_title(f"{_label(predictor)}\nd = {dim}, n = {n[nearest]}")
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    ax.legend(loc="upper right", handletextpad=0.0, handlelength=1.5, frameon=True, borderpad=0.1)
    return mesh
