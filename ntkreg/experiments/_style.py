"""One look for every figure: sizes of a page, and a colour, marker and line for every method."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ntkreg.experiments import _statistics

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any  # matplotlib loads when something is drawn: `--help` should not wait for it

Look = dict[str, Any]  # keywords of matplotlib

WIDTH = 7.0  # inches, the text of a page: figures are drawn as large as they are printed
FORMATS = ("png", "pdf")
RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, and has ℓ, γ, ₁ and ½
    "font.size": 7.0,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.0,
    "xtick.labelsize": 6.0,
    "ytick.labelsize": 6.0,
    "legend.fontsize": 6.0,
    "legend.title_fontsize": 6.0,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "legend.labelspacing": 0.25,
    "legend.borderaxespad": 0.3,
    "legend.columnspacing": 1.2,
    "axes.linewidth": 0.6,
    "axes.titlepad": 4.0,
    "axes.labelpad": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 3.2,
    "lines.markeredgewidth": 0.8,
    "errorbar.capsize": 1.5,
    "patch.linewidth": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "mathtext.default": "regular",
    "image.cmap": "cividis",
    "savefig.dpi": 220,
    "pdf.fonttype": 42,  # whole outlines, as journals ask for
    "ps.fonttype": 42,
    "svg.hashsalt": "ntkreg",
}

# Okabe and Ito's colours, which stay apart for colour-blind readers.
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
VERMILION, ORANGE, PURPLE = "#D55E00", "#E69F00", "#CC79A7"
BLACK, GREY, MIDDLE, LIGHT = "#000000", "#4D4D4D", "#8C8C8C", "#E6E6E6"
CYCLE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK, MIDDLE)
MARKERS = "osD^vPX>"
LINES = ("-", "--", "-.", ":", (0, (6, 1)), (0, (1, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (3, 3)))

# Networks are cold, kernels warm; markers and lines tell them in grey.
METHODS: dict[str, Look] = {
    "network": dict(color=BLUE, marker="o", linestyle="-"),
    "network_small_init": dict(color=SKY, marker="v", linestyle="--"),
    "network_no_lam": dict(color=GREEN, marker="^", linestyle="-."),
    "convolutional": dict(color=SKY, marker="D", linestyle=(0, (6, 1))),
    "linearised": dict(color=PURPLE, marker="d", linestyle=":"),
    "ntk": dict(color=VERMILION, marker="s", linestyle="-"),
    "ntk_logistic": dict(color=ORANGE, marker="D", linestyle="--"),
    "ntk_ridge": dict(color=PURPLE, marker="P", linestyle=":"),
    "nngp": dict(color=ORANGE, marker="X", linestyle="-."),
    "convolutional_ntk": dict(color=ORANGE, marker="p", linestyle=(0, (4, 1, 1, 1, 1, 1))),
    "certified": dict(color=BLACK, marker="*", linestyle="-", markersize=5.0),
}
HOLLOW: Look = dict(markerfacecolor="white")
DOTS: Look = dict(linestyle="none")
PREDICTED: Look = dict(color=GREY, linestyle=(0, (4, 2)), linewidth=0.9)
CERTIFIED: Look = dict(color=BLACK, linestyle="-", linewidth=0.8)
LEVEL: Look = dict(color=MIDDLE, linestyle=(0, (1, 1.5)), linewidth=0.9)


def context():
    """Within it figures are made and written in this style, whatever matplotlib is set to."""
    import matplotlib.style

    return matplotlib.style.context(["default", RC])


def styled(make: Callable[..., Figure]):
    """`make` within the style, its panels lettered where there are several."""

    @functools.wraps(make)
    def made(*args, **options) -> Figure:
        with context():
            fig = make(*args, **options)
            _letter([ax for ax in fig.axes if ax.axison and ax.get_label() != "<colorbar>"])
        return fig

    return made


def _letter(axes: Sequence) -> None:
    for ax, letter in zip(axes, "abcdefghijklmnopqrstuvwxyz", strict=False):
        if len(axes) > 1:
            across = 72 * ax.figure.get_figwidth() * ax.get_position().width
            ax.set_title(letter, loc="left", x=-20 / across, fontweight="bold")


def save(fig: Figure, file: IO[bytes], kind: str) -> None:
    """Writes a figure in one of FORMATS, the same bytes whenever it is drawn.

    The figure's layout is fixed with it: the next format has everything at the same places, sooner.
    """
    with context():
        metadata = {"CreationDate": None} if kind == "pdf" else None
        fig.savefig(file, format=kind, metadata=metadata)
    fig.set_layout_engine("none")


def empty(size: tuple[float, float], **options) -> Figure:
    """A figure of that size in inches, with nothing in it."""
    import matplotlib.figure

    return matplotlib.figure.Figure(size, **options)


def panels(number: int, columns: int, ratio: float = 0.8) -> tuple[Figure, list]:
    """A figure and its panels, line by line; `ratio` is a panel's height over its width."""
    lines = math.ceil(number / columns)
    width = min(WIDTH, 2.7 * columns)
    size = (width, lines * ratio * width / columns)
    fig = empty(size, layout="constrained")
    axes = fig.subplots(lines, columns, squeeze=False).ravel()
    for ax in axes[number:]:
        ax.remove()
    return fig, list(axes[:number])


def mosaic(places: str, height: float, **options) -> tuple[Figure, list]:
    """A figure of the page's width, `height` inches high, its panels placed as matplotlib says."""
    fig = empty((WIDTH, height), layout="constrained")
    return fig, list(fig.subplot_mosaic(places, **options).values())


# Looks ---------------------------------------------------------------------------------------


def tint(color: str, share: float) -> str:
    """`color` mixed with white, of which 1 − share."""
    import matplotlib.colors

    red, green, blue = (1 - share * (1 - part) for part in matplotlib.colors.to_rgb(color))
    return matplotlib.colors.to_hex((red, green, blue))


def ordinal(values: Iterable, color: str) -> dict[Any, Look]:
    """value -> look, for values in order: the same colour, stronger and stronger."""
    values = list(values)
    shares = np.linspace(0.4 if len(values) > 1 else 1.0, 1.0, len(values))
    return {
        value: dict(color=tint(color, share), marker=MARKERS[i % len(MARKERS)])
        for i, (value, share) in enumerate(zip(values, shares, strict=True))
    }


def categories(values: Iterable) -> dict[Any, Look]:
    """value -> look, for values without order: a colour, a marker and a line for each."""
    return {
        value: dict(color=CYCLE[i % 8], marker=MARKERS[i % 8], linestyle=LINES[i % 8])
        for i, value in enumerate(values)
    }


def power(base: str, exponent: float) -> str:
    """ ": base^exponent" for a legend; nothing where the exponent is NaN."""
    return "" if np.isnan(exponent) else f": ${base}^{{{exponent:.2f}}}$"


def number(value: float) -> str:
    """A λ as a person writes it: 0.003, but powers of ten below that as such."""
    exponent = np.log10(value) if value > 0 else 0.0
    is_power = exponent < -2.5 and abs(exponent - round(exponent)) < 1e-9
    return f"$10^{{{round(exponent)}}}$" if is_power else f"{value:g}"


# What is drawn -------------------------------------------------------------------------------


def with_interval(ax, x, values: np.ndarray, **look) -> None:
    """Means over seeds (the last axis) with their 95 % intervals (`_statistics.mean_interval`)."""
    with_ends(ax, x, values.mean(-1), *_statistics.mean_interval(values), **look)


def with_ends(ax, x, middle, low, high, **look) -> None:
    """Points with bars from `low` to `high`."""
    middle = np.asarray(middle, float)
    bars = np.maximum([middle - np.asarray(low), np.asarray(high) - middle], 0.0)
    ax.errorbar(x, middle, yerr=bars, elinewidth=0.8, **look)


def with_range(ax, groups, x: Callable = lambda at: at, middle: str = "median", **look) -> None:
    """Medians, or means, of grouped values with bars from smallest to largest, against x(group)."""
    found = groups.agg(["min", middle, "max"])
    with_ends(ax, x(found.index.to_numpy()), found[middle], found["min"], found["max"], **look)


def guide(ax, x, start: float, exponent: float, label: str | None = None) -> None:
    """The power of x that is `start` at its first value: what a theorem predicts."""
    x = np.asarray(x, float)
    ax.plot(x, start * (x / x[0]) ** exponent, label=label, **PREDICTED)


def scalings(
    ax, lines: Iterable[tuple[str, Look, _statistics.Scaling, float | None]], dims: Iterable[int]
) -> None:
    """Crossings against d, each with its label, look, fitted power and the power predicted, if one
    is; `dims` are those of the Config."""
    plain_ticks(ax.yaxis)  # before anything is drawn: perhaps nothing is
    for label, look, found, predicted in lines:
        if not found.dims:
            continue
        label = f"{label}{power('d', found.slope)}"
        with_ends(ax, found.dims, found.sizes, *found.intervals.T, label=label, **look)
        if predicted is not None:
            guide(ax, found.dims, found.sizes[0], predicted)
    ax.plot([], [], label="predicted: d¹ and d²", **PREDICTED)
    at_sizes(ax, dims, "dimension d")


# Axes ----------------------------------------------------------------------------------------


def at_sizes(ax, sizes: Iterable[float], label: str) -> None:
    """A logarithmic axis whose ticks are these sizes, in plain numbers where there is room."""
    sizes = sorted(sizes)
    ax.set(xscale="log", xlabel=label)
    if len(sizes) == 1:
        ax.set_xlim(sizes[0] / 2, 2 * sizes[0])
    inches = ax.figure.get_figwidth() * ax.get_position().width
    ax.set_xticks(sizes, _with_room(sizes, letter=0.055 / inches))
    ax.xaxis.minorticks_off()


def _with_room(sizes: Sequence[float], letter: float) -> list[str]:
    """Their names, left out where the one before is too near; a letter is so wide on the axis."""
    names, end = [], -np.inf
    across = np.log(sizes[-1] / sizes[0]) if len(sizes) > 1 else 1.0
    for size in sizes:
        name, place = f"{size:g}", np.log(size / sizes[0]) / across
        half = letter * len(name) / 2
        is_shown = place - half >= end
        names.append(name if is_shown else "")
        end = place + half + letter / 2 if is_shown else end
    return names


def plain_ticks(axis) -> None:
    """A logarithmic axis with 1, 2, 5, 10, … in plain numbers: powers of ten are too few."""
    import matplotlib.ticker

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def room(ax, above: float = 0.0, below: float = 0.0) -> None:
    """Lengthens the y axis by shares of its length, in its own scale."""
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(np.array(ax.get_ylim()))
    ends = np.array([low - below * (high - low), high + above * (high - low)])
    limits = scale.inverted().transform(ends)
    if np.isfinite(limits).all():  # a logarithmic axis without data has no length
        ax.set_ylim(*limits)


def legend(ax, above: float = 0.0, below: float = 0.0, **options) -> None:
    """The legend, on room that is made for it above or below the curves; none where it is empty."""
    if not ax.get_legend_handles_labels()[0]:
        return
    room(ax, above, below)
    place = {"loc": "upper left"} if above else {"loc": "lower left"} if below else {}
    ax.legend(**(place | options))
