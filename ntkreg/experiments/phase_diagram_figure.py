"""The picture of initial scale against λ: test errors as a map, and the baseline beside it."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style, configs, phase_diagram
from ntkreg.experiments.phase_diagram import PUBLISHED, PUBLISHED_SCALE, PUBLISHED_WIDTH
from ntkreg.experiments.phase_diagram_claims import baseline, diagram, table
from ntkreg.records import Record


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """One map for every width, cells labelled by their mean error, and the baseline against n."""
    config, rows = configs.restored(phase_diagram.Config, record), table(record)
    cells = diagram(rows, config)
    widths = sorted(cells.width.unique())
    fig, axes = _style.panels(len(widths) + 1, columns=len(widths) + 1, ratio=0.95)
    for ax, width in zip(axes, widths, strict=False):
        image = _map(ax, cells[cells.width == width])
    bar = fig.colorbar(image, ax=axes[:-1], shrink=0.7, aspect=25)
    bar.set_label("mean test error")
    _baseline(axes[-1], baseline(rows, config))
    return fig


def _map(ax, rows: pandas.DataFrame):
    errors = rows.pivot_table(index="lam", columns="init_scale", values="test_error")
    values = errors.to_numpy()
    image = ax.imshow(values, origin="lower", aspect="auto", vmin=0, vmax=0.6)
    for (row, column), value in np.ndenumerate(values):
        ink = "black" if value > 0.35 else "white"
        name = f"{value:.2f}".removeprefix("0")
        ax.text(column, row, name, ha="center", va="center", fontsize=5.5, color=ink)
    scales = [_style.number(r) for r in errors.columns]
    ax.set_xticks(range(len(scales)), scales, fontsize=5.5 if len(scales) > 6 else 6)
    ax.set_yticks(range(len(errors.index)), [_style.number(lam) for lam in errors.index])
    ax.tick_params(length=0)
    width, n = rows.width.iloc[0], rows.num_samples.iloc[0]
    if width == PUBLISHED_WIDTH and PUBLISHED_SCALE in errors.columns and 0.0 in errors.index:
        place = (errors.columns.get_loc(PUBLISHED_SCALE), errors.index.get_loc(0.0))
        box = dict(marker="s", facecolors="none", edgecolors=_style.VERMILION, linewidths=1.5)
        ax.scatter(*place, s=130, **box)
        ax.scatter([], [], s=20, label="published", **box)
        ax.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.14), handletextpad=0.2)
    ax.set(xlabel="initial standard deviation r", ylabel="λ")
    ax.set_title(f"D, d = {rows.dim.iloc[0]}, n = {n}, width {width}\n{_seeds(rows)}")
    return image


def _seeds(rows: pandas.DataFrame) -> str:
    number = rows.seed.nunique()
    return f"mean of {number} seed{'s' if number > 1 else ''}"


def _baseline(ax, rows: pandas.DataFrame) -> None:
    color = _style.METHODS["network_no_lam"]["color"]
    for dim, look in _style.ordinal(sorted(rows.dim.unique()), color).items():
        part = rows[rows.dim == dim]
        accuracy = 1 - part.pivot(index="num_samples", columns="seed", values="test_error")
        n = accuracy.index.to_numpy(float)
        _style.with_interval(ax, n / dim, accuracy.to_numpy(), label=f"d = {dim}", **look)
        dashes = _style.PREDICTED | dict(color=look["color"])
        ax.plot([PUBLISHED[dim] / dim] * 2, [0.4, 1.0], **dashes)
    ax.plot([], [], label="published n at 60 %", **_style.PREDICTED)
    ax.axhline(0.6, label="60 %", **_style.LEVEL)
    ax.set(xlabel="samples n/d", ylabel="mean test accuracy", ylim=(0.4, 1.0))
    ax.set_title(f"λ = 0, width {PUBLISHED_WIDTH}, r = {PUBLISHED_SCALE}")
    ax.set_yticks(np.linspace(0.4, 1.0, 7))
    _style.legend(ax, above=0.45)
