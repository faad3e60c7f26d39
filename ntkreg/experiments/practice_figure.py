"""The picture of practice: test errors of networks and kernels, and what annealing changes."""

import matplotlib.figure
import matplotlib.ticker
import numpy as np
import pandas

from ntkreg.experiments import _statistics, _style
from ntkreg.experiments.practice import FINAL, INITIAL
from ntkreg.experiments.practice_claims import SCHEDULES, against_fixed, table
from ntkreg.records import Record

# A network is filled, its kernel hollow.
LOOKS = {
    ("fully_connected", "network"): _style.METHODS["network"],
    ("fully_connected", "kernel"): _style.METHODS["ntk"] | _style.HOLLOW,
    ("convolutional", "network"): _style.METHODS["convolutional"],
    ("convolutional", "kernel"): _style.METHODS["convolutional_ntk"] | _style.HOLLOW,
}
MODELS = {"fully_connected": "fully connected", "convolutional": "convolutional"}
SHORT = {"fully_connected": "full", "convolutional": "conv."}
FIXED = _style.categories([FINAL, INITIAL])
APART = 1.03  # of points that lie at the same n


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """One panel for each data set, one for annealing; bars are 95 % bootstrap intervals."""
    rows = table(record)
    names = rows.dataset.unique()
    columns = min(len(names) + 1, 2 if len(names) < 4 else 3)
    fig, axes = _style.panels(len(names) + 1, columns, ratio=0.75)
    for ax, name in zip(axes, names, strict=False):
        _errors(ax, rows[rows.dataset == name])
    _annealing(axes[-1], rows)
    return fig


def _errors(ax, rows: pandas.DataFrame) -> None:
    shown = rows[rows.schedule.isin([SCHEDULES[0], ""])]
    curves = shown.groupby(["model", "predictor"], sort=False)
    for number, (key, part) in enumerate(curves):
        values = part.pivot(index="num_samples", columns="seed", values="test_error")
        shift = APART ** (number - (len(curves) - 1) / 2)
        label = f"{MODELS[key[0]]}, {'network' if key[1] == 'network' else 'its NTK'}"
        x = shift * values.index.to_numpy()
        _style.with_interval(ax, x, values.to_numpy(), label=label, **LOOKS[key])
    sizes = sorted(rows.num_samples.unique())
    _style.at_sizes(ax, sizes, "training images n")
    ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])  # room for markers at 0
    _percent(ax.yaxis)
    ax.set_ylabel("test error")
    ax.set_title(f"{rows.dataset.iloc[0]}, {rows.num_test.iloc[0]} test images")
    _style.legend(ax)


def _percent(axis) -> None:
    axis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
    axis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %".replace("-", "−"))


def _annealing(ax, rows: pandas.DataFrame) -> None:
    """Annealed less fixed, for each data set and model: left of 0 annealing is better."""
    for number, (schedule, look) in enumerate(FIXED.items()):
        differences = against_fixed(rows, schedule)
        if not len(differences):
            continue
        means = differences.mean(axis=1).to_numpy()
        ends = np.array([_statistics.mean_interval(row) for row in differences.to_numpy()]).T
        places = np.arange(len(means)) + 0.3 * (number - 0.5)
        label = f"annealed − {SCHEDULES[schedule]}"
        bars = dict(xerr=np.abs(ends - means), elinewidth=0.8)
        ax.errorbar(means, places, label=label, **bars, **look | _style.DOTS)
        names = [f"{data}, {SHORT[model]}, n = {n}" for data, model, n in differences.index]
        ax.set_yticks(range(len(names)), names, fontsize=6 if len(names) < 9 else 5.5)
    low, high = ax.get_ylim()
    ax.plot([0, 0], [low, high], **_style.LEVEL)
    ax.set_ylim(high, low)  # the first row on top
    _percent(ax.xaxis)
    ax.set(xlabel="test error, annealed − fixed")
    ax.set_title("annealed λ against fixed λ")
    _style.legend(ax, above=0.2)
