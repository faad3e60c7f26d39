"""The picture of regression: errors that collapse on n/d and n/d², the plateau, the exponents."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments.regression import FLOOR, LAWS, PLATEAU
from ntkreg.experiments.regression_claims import POWERS, curve, dims_of, scaling
from ntkreg.experiments.separation_figure import MARKERS, plain_ticks, shaded, with_interval
from ntkreg.records import Record

STYLES = {
    "network": ("#0072B2", "o", "network, λ = {lam:.0e}"),
    "ntk": ("#D55E00", "s", "NTK, least norm"),
}
ERRORS = {"D": "mean of min((y − f)², 1)", "relu_feature": "mean squared error"}
TITLES = {"D": "distribution D", "relu_feature": "one ReLU feature"}


def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels for each law; points are means over seeds with 95 % bootstrap intervals."""
    rows = record.table()
    laws = [law for law in LAWS if law in set(rows.law)]
    fig = matplotlib.figure.Figure(figsize=(13.5, 4.2 * len(laws)), layout="constrained")
    for line, law in zip(fig.subplots(len(laws), 3, squeeze=False), laws, strict=True):
        for ax, predictor in zip(line, POWERS, strict=False):
            _collapse(ax, rows, law, predictor)
        _exponents(line[2], rows, law)
    return fig


def _label(rows: pandas.DataFrame, predictor: str) -> str:
    return STYLES[predictor][2].format(lam=rows.lam.max())


def _collapse(ax, rows: pandas.DataFrame, law: str, predictor: str) -> None:
    """Errors against n/d^power: curves that lie on each other need n ∝ d^power."""
    dims, power = dims_of(rows), POWERS[predictor]
    shades = np.linspace(0.35, 1.0, len(dims))
    for dim, shade, marker in zip(dims, shades, MARKERS, strict=False):
        sizes, errors = curve(rows, law, predictor, dim)
        color = shaded(STYLES[predictor][0], shade)
        style = dict(color=color, marker=marker, markersize=5, label=f"d = {dim}")
        with_interval(ax, sizes / dim**power, errors, **style)
    _levels(ax, law, predictor)
    plain_ticks(ax)
    if power == 1:  # less than a decade
        ratios = np.unique(np.round(sizes / dim, 1))
        ax.set_xticks(ratios, [f"{ratio:g}" for ratio in ratios])
        ax.minorticks_off()
    ax.set(xlabel="samples n / d" if power == 1 else "samples n / d²", ylabel=ERRORS[law])
    ax.set_ylim(bottom=0)
    ax.set_title(f"{TITLES[law]}: {_label(rows, predictor)}", fontsize=10)
    is_flat = law == "D" and predictor == "ntk"
    ax.legend(frameon=False, fontsize=8, loc="lower left" if is_flat else "upper right")


def _levels(ax, law: str, predictor: str) -> None:
    """The level of the crossings and, for the kernel on the feature, the steps of its staircase."""
    ax.axhline(LAWS[law].level, color="0.5", linewidth=0.8, linestyle=":", label="level compared")
    if law == "relu_feature" and predictor == "ntk":
        style = dict(color="0.25", linewidth=0.9)
        ax.axhline(PLATEAU, linestyle="--", label="energy of degree ≥ 2", **style)
        ax.axhline(FLOOR, linestyle="-.", label="energy of degree ≥ 3", **style)


def _exponents(ax, rows: pandas.DataFrame, law: str) -> None:
    """The n at which the error crosses the level against d, with fitted and predicted slopes."""
    for predictor, power in POWERS.items():
        found = scaling(rows, law, predictor)
        if not found.dims:
            continue
        color, marker, _ = STYLES[predictor]
        bars = np.abs(found.intervals.T - found.sizes)
        slope = "" if np.isnan(found.slope) else f": d^{found.slope:.2f}"
        style = dict(color=color, marker=marker, markersize=5, capsize=2, linewidth=1)
        label = _label(rows, predictor) + slope
        ax.errorbar(found.dims, found.sizes, yerr=bars, label=label, **style)
        predicted = found.sizes[0] * (np.array(found.dims) / found.dims[0]) ** power
        ax.plot(found.dims, predicted, color="0.3", linestyle="--", linewidth=0.9)
    ax.plot([], [], color="0.3", linestyle="--", linewidth=0.9, label="predicted: d¹ and d²")
    dims = dims_of(rows)
    ax.set(xscale="log", yscale="log", xlabel="dimension d")
    ax.set_ylabel(f"samples n at error {LAWS[law].level}")
    ax.set_xticks(dims, [str(dim) for dim in dims])
    ax.minorticks_off()
    ax.set_title(f"{TITLES[law]}: sample complexity", fontsize=10)
    ax.legend(frameon=False, fontsize=8, loc="upper left")
