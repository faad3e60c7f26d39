"""The picture of initial scale against λ: test errors as a map, and the baseline beside it."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import configs, phase_diagram
from ntkreg.experiments.phase_diagram import PUBLISHED, PUBLISHED_SCALE, PUBLISHED_WIDTH
from ntkreg.experiments.phase_diagram_claims import baseline, diagram, table
from ntkreg.experiments.separation_figure import MARKERS, with_interval
from ntkreg.records import Record

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def figure(record: Record) -> matplotlib.figure.Figure:
    """One map for every width, cells labelled by their mean error, and the baseline against n."""
    config, rows = configs.restored(phase_diagram.Config, record), table(record)
    cells = diagram(rows, config)
    widths = sorted(cells.width.unique())
    fig = matplotlib.figure.Figure(figsize=(5.6 * (len(widths) + 1), 5.2), layout="constrained")
    axes = fig.subplots(1, len(widths) + 1, squeeze=False)[0]
    for ax, width in zip(axes, widths, strict=False):
        image = _map(ax, cells[cells.width == width])
    fig.colorbar(image, ax=list(axes[:-1]), label="mean test error", shrink=0.8)
    _baseline(axes[-1], baseline(rows, config))
    return fig


def _map(ax, rows: pandas.DataFrame):
    errors = rows.pivot_table(index="lam", columns="init_scale", values="test_error")
    values = errors.to_numpy()
    image = ax.imshow(values, origin="lower", aspect="auto", cmap="cividis", vmin=0, vmax=0.6)
    for (row, column), value in np.ndenumerate(values):
        shade = "black" if value > 0.35 else "white"
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=shade)
    ax.set_xticks(range(len(errors.columns)), [f"{r:g}" for r in errors.columns])
    ax.set_yticks(range(len(errors.index)), [f"{lam:g}" for lam in errors.index])
    width, n = rows.width.iloc[0], rows.num_samples.iloc[0]
    if width == PUBLISHED_WIDTH and PUBLISHED_SCALE in errors.columns and 0.0 in errors.index:
        place = (errors.columns.get_loc(PUBLISHED_SCALE), errors.index.get_loc(0.0))
        ax.scatter(*place, s=900, marker="s", facecolors="none", edgecolors="red", linewidths=2)
        ax.scatter([], [], s=60, marker="s", facecolors="none", edgecolors="red", label="published")
        ax.legend(loc="upper left", bbox_to_anchor=(0.0, -0.1), fontsize=8, frameon=False)
    ax.set(xlabel="initial standard deviation r", ylabel="λ")
    ax.set_title(f"D, d = {rows.dim.iloc[0]}, n = {n}, width {width}, {rows.seed.nunique()} seeds")
    return image


def _baseline(ax, rows: pandas.DataFrame) -> None:
    for dim, color, marker in zip(sorted(rows.dim.unique()), COLORS, MARKERS, strict=False):
        part = rows[rows.dim == dim]
        accuracy = 1 - part.pivot(index="num_samples", columns="seed", values="test_error")
        style = dict(color=color, marker=marker, markersize=5, label=f"d = {dim}")
        with_interval(ax, accuracy.index.to_numpy(float) / dim, accuracy.to_numpy(), **style)
        ax.axvline(PUBLISHED[dim] / dim, color=color, linestyle=":", linewidth=1)
    ax.plot([], [], color="0.4", linestyle=":", label="published n at 60 %")
    ax.axhline(0.6, color="0.35", linestyle="-.", linewidth=0.9, label="60 %")
    ax.set(xlabel="samples n / d", ylabel="mean test accuracy", ylim=(0.4, 1.02))
    ax.set_title(f"λ = 0, width {PUBLISHED_WIDTH}, r = {PUBLISHED_SCALE}")
    ax.legend(frameon=False, fontsize=8, loc="upper left")
