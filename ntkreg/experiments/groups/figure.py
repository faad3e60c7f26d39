"""Shares of runs by width, λ and group."""

import itertools

import numpy as np
import pandas

from ntkreg.experiments import _statistics, _style
from ntkreg.experiments.groups.claims import all_of, stationary
from ntkreg.experiments.groups.runs import ACTIVATIONS, Config

QUANTITIES = {
    "all representations in the key set": lambda part: part.key_set.eq(all_of(part.group.iloc[0])),
    "all neurons pure for one": lambda part: part["same_0.05"],
    "table learned": lambda part: part.accuracy == 1,
    "converged": lambda part: part.converged,
}


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Shares of runs with their intervals, against λ; for several widths a panel each group."""
    if len(config.widths) > 2:
        return _by_width(table, config)
    fig, axes = _style.panels(len(QUANTITIES), columns=2, ratio=0.62)
    names = list(itertools.product(config.groups, config.activations, config.widths))
    looks = _style.categories(names)
    for ax, (title, quantity) in zip(axes, QUANTITIES.items(), strict=True):
        for number, name in enumerate(names):
            mine = table[(table[["group", "activation", "width"]] == list(name)).all(axis=1)]
            label = f"{name[0]}, {ACTIVATIONS[name[1]]}, m = {name[2]}"
            shift = 0.06 * (number - (len(names) - 1) / 2)
            _shares(ax, mine.groupby("lam"), quantity, shift, label, looks[name])
        ax.set_xticks(range(len(config.lams)), [_style.number(lam) for lam in sorted(config.lams)])
        ax.set(title=title, xlabel="λ", ylabel="share of runs", ylim=(-0.04, 1.04))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def _by_width(table: pandas.DataFrame, config: Config) -> _style.Figure:
    panels = list(itertools.product(config.activations, config.groups))
    fig, axes = _style.panels(len(panels), columns=min(3, len(config.groups)), ratio=0.75)
    looks = _style.categories(config.lams)
    for ax, (activation, group) in zip(axes, panels, strict=True):
        mine = stationary(table[(table.group == group) & (table.activation == activation)])
        for number, lam in enumerate(config.lams):
            shift = 0.06 * (number - (len(config.lams) - 1) / 2)
            part = mine[mine.lam == lam].groupby("width")
            quantity = QUANTITIES["all representations in the key set"]
            _shares(ax, part, quantity, shift, f"λ = {_style.number(lam)}", looks[lam])
        ax.set_xticks(range(len(config.widths)), [f"{m}" for m in config.widths])
        ax.set(title=f"{group}, {ACTIVATIONS[activation]}: all representations", xlabel="width m")
        ax.set(ylabel="share of stationary ends", ylim=(-0.04, 1.04))
    shown = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes]
    by_label = {label: handle for pairs in shown for handle, label in pairs}
    fig.legend(by_label.values(), by_label, loc="outside lower center", ncols=5)
    return fig


def _shares(ax, parts, quantity, shift: float, label: str, look: _style.Look) -> None:
    """Shares of the parts, in order, a little beside each other."""
    counts = np.array([[int(quantity(part).sum()), len(part)] for _, part in parts])
    if not len(counts):
        return
    ends = [_statistics.share_interval(np.asarray(k), n) for k, n in counts]
    at = np.arange(len(counts)) + shift
    _style.with_ends(ax, at, counts[:, 0] / counts[:, 1], *np.array(ends).T, label=label, **look)
