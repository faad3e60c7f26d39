"""The picture of the separation: the theorem's own form, curves that collapse, functions."""

import numpy as np
import pandas

from ntkreg.experiments import _statistics, _style
from ntkreg.experiments.separation.claims import of
from ntkreg.experiments.separation.runs import (
    NETWORK,
    NTK,
    ORACLE,
    PLANE_EXTENT,
    POWERS,
    Config,
    curve,
    dim_inside,
    plane_rows,
    predicted,
)  # fmt: skip

LOOKS = {  # predictor -> (its look in every figure, its name)
    "net_regularized": ("network", "network, ℓ2-regularised"),
    "net_small_init": ("network_small_init", "λ = 0, small start"),
    "net_standard_init": ("network_no_lam", "λ = 0, standard start"),
    "ntk_svm": ("ntk", "NTK, hard margin"),
    "ntk_logistic": ("ntk_logistic", "NTK, logistic"),
    "ntk_ridge": ("ntk_ridge", "NTK, ridge"),
    "ntk_oracle": ("certified", "NTK, best β of all"),
}
SHORT = {NETWORK: "network", NTK: "SVM", ORACLE: "best β"}


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Eight panels; every point is a mean over seeds with its 95 % interval."""
    fig, axes = _style.panels(8, columns=4, ratio=1.15)
    _own_form(axes[0], rows, config)
    for ax, predictor in zip(axes[1:], (NETWORK, NTK, ORACLE), strict=False):
        _collapse(ax, rows, predictor)
    _r_squared(axes[4], rows)
    _signal(axes[5], rows, dim_inside(config))
    meshes = [
        _plane(ax, plane_rows(rows, config, predictor), predictor)
        for ax, predictor in zip(axes[6:], POWERS, strict=True)
    ]
    if any(meshes):
        label = "mean f, in standard deviations of f"
        beside: _style.Look = dict(shrink=0.6, aspect=30)
        bar = fig.colorbar(max(meshes, key=bool), ax=axes[6:], location="bottom", **beside)
        bar.set_label(label, labelpad=1)
        bar.set_ticks([-2, -1, 0, 1, 2])
    return fig


def _look(predictor: str) -> _style.Look:
    return _style.METHODS[LOOKS[predictor][0]]


OWN_SIZES = {NETWORK: (1, (3.0, 4.0, 6.0)), NTK: (2, (0.3,)), ORACLE: (2, (0.3,))}


def _own_form(ax, rows: pandas.DataFrame, config: Config) -> None:
    """The theorem's own form: errors at n = c·d (network) and n = c·d² (NTK) as d grows."""
    for predictor, (power, shares) in OWN_SIZES.items():
        for share, look in _style.ordinal(shares, _look(predictor)["color"]).items():
            mine = of(rows, predictor)
            mine = mine[mine.num_samples == (share * mine.dim**power).round()]
            if len(mine):
                dims, errors = (
                    np.unique(mine.dim),
                    _statistics.stacked(mine, "test_error", "dim", "seed"),
                )
                unit = "d" if power == 1 else "d²"
                label = f"{SHORT[predictor]}, n = {share:g} {unit}"
                _style.with_interval(ax, dims, errors, label=label, **look)
    _style.at_sizes(ax, sorted(set(rows.dim)), "dimension d")
    ax.set(ylim=(-0.02, 0.52), ylabel="test error", title="n = c·d or c·d², d grows")
    _style.legend(ax, above=0.75)


def _collapse(ax, rows: pandas.DataFrame, predictor: str) -> None:
    """Test error against n/d^power: curves that lie on each other need n ∝ d^power."""
    mine, power = of(rows, predictor), POWERS.get(predictor, 2)
    for dim, look in _style.ordinal(sorted(set(mine.dim)), _look(predictor)["color"]).items():
        n, errors = curve(rows, predictor, dim, "test_error")
        _style.with_interval(ax, n / dim**power, errors, label=f"d = {dim}", **look)
    if power == 1 and len(mine):
        ratios = np.unique(mine.num_samples / mine.dim)
        _style.at_sizes(ax, sorted(set(ratios.round(1))), "samples n/d")
        over = np.geomspace(ratios[0], ratios[-1], 50)
        ax.plot(over, over**-0.5, label="√(d/n)", **_style.PREDICTED)
    else:
        _style.plain_ticks(ax.xaxis)
        ax.set_xlabel("samples n/d²")
    ax.set(ylim=(-0.02, 0.56), ylabel="test error", title=LOOKS[predictor][1])
    place = dict(above=0.95) if power == 1 else dict(loc="lower left")
    _style.legend(ax, **place)


def _r_squared(ax, rows: pandas.DataFrame) -> None:
    """The largest R² of any coefficients against n over the number of quadratic features.

    Dashed: predicted from the kernel's spectrum (docs/kernel_jump.md).
    """
    dims = sorted(set(of(rows, ORACLE).dim))
    for dim, look in _style.ordinal(dims, _look(ORACLE)["color"]).items():
        n, found = curve(rows, ORACLE, dim, "r_squared")
        features, own = dim * (dim + 1) / 2, look | _style.DOTS
        _style.with_interval(ax, n / features, found, label=f"d = {dim}", **own)
        over = np.linspace(n[0], n[-1], 200)
        dashed = _style.PREDICTED | dict(color=look["color"])
        ax.plot(over / features, predicted(dim).r_squared(over), **dashed)
    ax.plot([], [], label="predicted", **_style.PREDICTED)
    ax.set(ylim=(-0.04, 1.04), xlabel="samples n/(d(d + 1)/2)", ylabel="largest R² of any β")
    ax.set_title("the span of the NTK")
    _style.legend(ax, loc="upper left")


def _signal(ax, rows: pandas.DataFrame, dim: int) -> None:
    """The share of each function's variance that the signal explains, and its training error."""
    for predictor in POWERS:
        n, share = curve(rows, predictor, dim, "signal_share")
        if not n.size:
            continue
        look = _look(predictor)
        _style.with_interval(ax, n, share, label=LOOKS[predictor][1], **look)
        errors = curve(rows, predictor, dim, "train_error")[1]
        _style.with_interval(ax, n, errors, **look | _style.HOLLOW | dict(linestyle=":"))
    training = _style.HOLLOW | dict(color=_style.GREY, linestyle=":", marker="o")
    ax.plot([], [], label="training errors", **training)
    ax.set(ylim=(-0.04, 1.04), xlabel="samples n", title=f"share of signal, d = {dim}")
    ax.set_ylabel("Var E[f | x₁, x₂] / Var f")
    _style.plain_ticks(ax.xaxis)
    ax.set_yticks(np.linspace(0, 1, 6))
    _style.legend(ax, above=0.42)


def _plane(ax, rows: pandas.DataFrame, predictor: str):
    """The learned function over (x₁, x₂), noise and seeds averaged out, and the data's support."""
    if rows.empty:
        ax.set_axis_off()
        return None
    first = rows.iloc[0]
    ax.set(xlabel="x₁", ylabel="x₂", aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    ax.set(xlim=(-PLANE_EXTENT, PLANE_EXTENT), ylim=(-PLANE_EXTENT, PLANE_EXTENT))
    ax.set_title(f"{LOOKS[predictor][1]}\nd = {first.dim}, n = {first.num_samples}")
    points = dict(color="white", edgecolors="black", linewidths=0.7, zorder=2)
    ax.scatter([1, -1], [0, 0], marker="P", s=28, label="y = +1", **points)
    ax.scatter([0, 0], [1, -1], marker="o", s=20, label="y = −1", **points)
    ax.legend(loc="upper right", handletextpad=0.0, handlelength=1.5, frameon=True, borderpad=0.1)
    if "plane" not in rows or rows.plane.isna().any():
        ax.text(0, 0, "function not kept", ha="center", va="center")
        return None
    mean = np.mean(np.stack(rows.plane), axis=0)
    side = np.linspace(-PLANE_EXTENT, PLANE_EXTENT, len(mean))
    levels = np.linspace(-2, 2, 17)
    mesh = ax.contourf(side, side, mean.T, levels=levels, cmap="PuOr", extend="both")
    # Dashed where f < 0: in grey the two halves of the map look alike.
    widths = dict(levels=[-1.0, 0.0, 1.0], linewidths=[0.4, 0.9, 0.4])
    ax.contour(side, side, mean.T, colors="black", **widths)
    return mesh
