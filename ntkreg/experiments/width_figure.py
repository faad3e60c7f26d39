"""The picture of width: margins up to the certified one, errors beside them, and the bound."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.named_data import parsed
from ntkreg.experiments.width_claims import at_last_lam, best_margins, table
from ntkreg.records import Record

LEAST = 1e-4  # error shown


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Four panels; bars are bootstrap intervals over trials, or the range over data sets."""
    rows = table(record)
    fig, axes = _style.panels(4, columns=2, ratio=0.7)
    _margins(axes[0], rows)
    _bound(axes[1], rows)
    _by_width(axes[2], rows, "normalized_margin", "margin / margin of the widest")
    _by_width(axes[3], rows, "test_error", "test error")
    return fig


def _margins(ax, rows: pandas.DataFrame) -> None:
    best = dict(list(best_margins(rows).groupby("dataset")))
    for dataset, look in _style.categories(best).items():
        part = best[dataset]
        label = f"{dataset}, {len(part)} sets"
        _style.with_ends(
            ax, part.columns, part.median(), part.min(), part.max(), label=label, **look
        )
        n = parsed(dataset).num_samples
        ax.axvline(n + 1, **_style.LEVEL | dict(color=look["color"]))
    ax.axhline(1.0, label="certified, any width", **_style.CERTIFIED)
    ax.plot([], [], label="n + 1", **_style.LEVEL)
    _style.at_sizes(ax, rows[rows.dataset.str.startswith("random")].width.unique(), "width")
    ax.set(ylabel="normalized margin / γ*", ylim=(-0.08, 1.08))
    ax.set_title("margin, best of the seeds")
    _style.legend(ax, loc="lower right")


def _bound(ax, rows: pandas.DataFrame) -> None:
    last = at_last_lam(rows, "D:")
    last = last.assign(n=[parsed(name).num_samples for name in last.dataset])
    by_depth = dict(list(last.groupby("depth")))
    for depth, look in _style.ordinal(by_depth, _style.METHODS["network"]["color"]).items():
        part = by_depth[depth]
        n = np.sort(part.n.unique())
        of = lambda column, part=part, n=n: np.array([part[part.n == m][column] for m in n])
        _style.with_interval(ax, n, of("bound"), label=f"bound, depth {depth}", **look)
        look = look | _style.HOLLOW | dict(linestyle=":", label=f"test error, depth {depth}")
        _style.with_interval(ax, n, np.maximum(of("test_error"), LEAST), **look)
    ax.axhline(1.0, label="says nothing above", **_style.LEVEL)
    _style.at_sizes(ax, last.n.unique(), "samples n")
    ax.set(yscale="log", ylabel=f"probability, at least {LEAST:g}")
    ax.set_title("D: the bound and the error it bounds")
    _style.legend(ax, loc="center right", bbox_to_anchor=(1.0, 0.37))


def _by_width(ax, rows: pandas.DataFrame, column: str, ylabel: str) -> None:
    names = rows.dataset[rows.dataset.str.match("teacher|digits")].unique()
    for dataset, look in _style.categories(names).items():
        part = at_last_lam(rows, dataset)
        part = part[part.normalized_margin > 0]
        widths = np.sort(part.width.unique())
        values = [part[part.width == w][column].to_numpy() for w in widths]
        scale = values[-1].mean() if column == "normalized_margin" else 1.0
        for w, value in zip(widths, values, strict=True):
            _style.with_interval(ax, [w], value[None] / scale, **look)
        label = f"{dataset}, λ = {_style.number(part.lam.min())}"
        ax.plot(widths, [value.mean() / scale for value in values], label=label, **look)
    _style.at_sizes(ax, rows[rows.dataset.isin(names)].width.unique(), "width")
    ax.set(ylabel=ylabel, title=f"{column.replace('_', ' ')} against width")
    _style.legend(ax, above=0.2)
