"""The picture of regression: errors that collapse on n/d and n/d², the plateau, the exponents."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.regression import FLOOR, LAWS, PLATEAU
from ntkreg.experiments.regression_claims import POWERS, curve, dims_of, scaling
from ntkreg.records import Record

LABELS = {"network": "network, λ = {lam}", "ntk": "NTK, least norm"}
ERRORS = {"D": "mean of min((y − f)², 1)", "relu_feature": "mean squared error"}
TITLES = {"D": "D", "relu_feature": "ReLU feature"}


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Three panels for each law; points are means over seeds with 95 % bootstrap intervals."""
    rows = record.table()
    laws = [law for law in LAWS if law in set(rows.law)]
    fig, axes = _style.panels(3 * len(laws), columns=3, ratio=0.9)
    for number, law in enumerate(laws):
        line = axes[3 * number : 3 * number + 3]
        for ax, predictor in zip(line, POWERS, strict=False):
            _collapse(ax, rows, law, predictor)
        _exponents(line[2], rows, law)
    return fig


def _label(rows: pandas.DataFrame, predictor: str) -> str:
    return LABELS[predictor].format(lam=_style.number(rows.lam.max()))


def _collapse(ax, rows: pandas.DataFrame, law: str, predictor: str) -> None:
    """Errors against n/d^power: curves that lie on each other need n ∝ d^power."""
    power, color = POWERS[predictor], _style.METHODS[predictor]["color"]
    for dim, look in _style.ordinal(dims_of(rows), color).items():
        sizes, errors = curve(rows, law, predictor, dim)
        _style.with_interval(ax, sizes / dim**power, errors, label=f"d = {dim}", **look)
    _levels(ax, law, predictor)
    if power == 1:  # less than a decade
        _style.at_sizes(ax, np.unique(np.round(sizes / dim, 1)), "samples n/d")
    else:
        _style.plain_ticks(ax.xaxis)
        ax.set_xlabel("samples n/d²")
    ax.set(ylabel=ERRORS[law], title=f"{TITLES[law]}, {_label(rows, predictor)}")
    ax.set_ylim(bottom=0)
    if law == "D" and predictor == "ntk":
        _style.legend(ax, loc="lower left")
    else:
        _style.legend(ax, above=0.3 if power == 1 else 0.75, loc="upper right")


def _levels(ax, law: str, predictor: str) -> None:
    """The level of the crossings and, for the kernel on the feature, the steps of its staircase."""
    ax.axhline(LAWS[law].level, label="level compared", **_style.LEVEL)
    if law == "relu_feature" and predictor == "ntk":
        ax.axhline(PLATEAU, label="energy of degree ≥ 2", **_style.PREDICTED)
        ax.axhline(FLOOR, label="energy of degree ≥ 3", **_style.PREDICTED | dict(linestyle="-."))


def _exponents(ax, rows: pandas.DataFrame, law: str) -> None:
    """The n at which the error crosses the level against d, with fitted and predicted slopes."""
    lines = [
        (_label(rows, name), _style.METHODS[name], scaling(rows, law, name), power)
        for name, power in POWERS.items()
    ]
    _style.scalings(ax, lines, dims_of(rows))
    ax.set_ylabel(f"samples n at error {LAWS[law].level}")
    ax.set_title(f"{TITLES[law]}, sample complexity")
    _style.legend(ax, above=0.35)
