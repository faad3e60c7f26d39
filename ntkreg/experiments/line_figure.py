"""The picture of the line: margins as λ falls, and the two functions."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style, line
from ntkreg.experiments.line_claims import PAPERS_LAM, best_of_seeds, minimizers, table
from ntkreg.records import Record

TRAINED = _style.METHODS["network"]
TRUE = _style.METHODS["certified"]
LEAST_SHOWN = 0.7  # bars that go on below, of training that failed, are cut
LIMIT: _style.Look = dict(color=_style.PURPLE, linestyle=":", linewidth=1.2)
CLASSES = {"+1": dict(marker="^"), "−1": dict(marker="v")}


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Two panels; bars reach from the 10th to the 90th percentile over data sets."""
    rows = table(record)
    fig, axes = _style.mosaic("AB", 2.6)
    _margins(axes[0], rows)
    _functions(axes[1], record, rows)
    return fig


def _margins(ax, rows: pandas.DataFrame) -> None:
    true = minimizers(rows)
    look = TRAINED | _style.DOTS | dict(label="trained, best of the starts")
    _spread(ax, best_of_seeds(rows), 0.97, **look)
    look = TRUE | _style.DOTS | _style.HOLLOW | dict(label="true minimizer")
    _spread(ax, true, 1.03, **look)
    law = (true.predicted_ratio * true.max_margin / true.svm_margin).groupby(true.lam).median()
    law = law[law.index.isin(_separating(true))]
    ax.plot(-np.log10(law.index), law, label="law, from the dual", **_style.PREDICTED)
    ax.axhline(1.0, label="ℓ1-SVM on the circle", **_style.CERTIFIED)
    limit = (true.max_margin / true.svm_margin).median()
    ax.axhline(limit, label="certified max margin, median", **LIMIT)
    ax.axvline(-np.log10(PAPERS_LAM), label="the paper's least λ", **_style.LEVEL)
    _style.at_sizes(ax, sorted({round(-np.log10(lam)) for lam in _separating(true)}), "log₁₀(1/λ)")
    sets = true.groupby(["num_samples", "draw"]).ngroups
    ax.set(ylabel="margin γ$_λ$ / half the ℓ1-SVM's", title=f"margins on {sets} sets of points")
    ax.set_ylim(LEAST_SHOWN, None)
    _style.legend(ax, loc="lower right", frameon=True, framealpha=1.0, edgecolor="none")


def _separating(rows: pandas.DataFrame) -> list[float]:
    """The λ at which nine in ten networks have no sample wrong: only there they have a margin."""
    lowest = rows.svm_ratio.groupby(rows.lam).quantile(0.1)
    return lowest[lowest > 0].index.tolist()


def _spread(ax, rows: pandas.DataFrame, shift: float, **look) -> None:
    """Medians with the 10th and 90th percentile at every λ at which there are margins."""
    rows = rows[rows.lam.isin(_separating(rows))]
    groups = rows.svm_ratio.groupby(rows.lam)
    low, middle, high = (groups.quantile(q) for q in (0.1, 0.5, 0.9))
    _style.with_ends(ax, -shift * np.log10(middle.index.to_numpy()), middle, low, high, **look)


def _functions(ax, record: Record, rows: pandas.DataFrame) -> None:
    """On the set whose difference is the median's, at the paper's λ, each of least margin 1."""
    at = rows[np.isclose(rows.lam, PAPERS_LAM, rtol=1e-6, atol=0)]
    best = best_of_seeds(at).dropna(subset="function_gap").sort_values("function_gap")
    ax.set(xlabel="x", ylabel="f(x) / least margin")
    if not len(best):
        return
    chosen = best.iloc[(len(best) - 1) // 2]
    num_samples, number = int(chosen.num_samples), int(chosen.draw)
    cell, lam = divmod(int(chosen.name), rows.lam.nunique())
    same = minimizers(at)
    same = same[(same.num_samples == num_samples) & (same.draw == number)]
    svm = record.arrays["svm_function"][int(same.index[0]) // rows.lam.nunique()]
    network = record.arrays["functions"][cell, lam] / chosen.normalized_margin
    ax.plot(line.GRID, svm / chosen.svm_margin, label="ℓ1-SVM", **_style.CERTIFIED)
    told = f"network, λ = {_style.number(PAPERS_LAM)}"
    look = dict(color=TRAINED["color"], linestyle=(0, (3, 2)), linewidth=2.0, alpha=0.8)
    ax.plot(line.GRID, network, label=told, **look)
    x, y = map(np.asarray, line.draw(num_samples, number)[1])
    for sign, marker in CLASSES.items():
        of = (y > 0) == (sign == "+1")
        look = _style.DOTS | _style.HOLLOW | marker | dict(color=_style.BLACK, zorder=3)
        ax.plot(x[of, 0], y[of], label="points, y = " + sign, **look)
    ax.set_title(
        f"median set, n = {num_samples}: {100 * chosen.function_gap:.1f} % of the range apart"
    )
    _style.legend(ax, above=0.2, ncols=2)
