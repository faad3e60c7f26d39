"""The panels, all in one figure, and one by one on the page that answers the questions."""

import base64
import io
import pathlib
from collections.abc import Callable

import jinja2
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.own_data import answers
from ntkreg.experiments.own_data.answers import along_path, chosen, sound
from ntkreg.experiments.own_data.runs import (
    DATA,
    MACHINES,
    PROOF,
    UNREGULARISED,
    Config,
)
from ntkreg.sweeps.programs import FAILED
from ntkreg.training.stationarity import CONVERGED

TEMPLATE = pathlib.Path(__file__).with_name("report.html.in")
Draw = Callable[[object, pandas.DataFrame, Config], None]


def _against_lam(ax, rows: pandas.DataFrame, column: str, label: str, **look) -> None:
    """Means over seeds with intervals, and faint points for the seeds."""
    part = rows[rows[column].notna()]
    if not len(part):
        return
    found = part.pivot_table(index="lam", columns="seed", values=column)
    places = -np.log10(found.index.to_numpy())
    ax.plot(places, found.to_numpy(), **_faint(look))
    _style.with_interval(ax, places, found.to_numpy(), label=label, **look)


def _faint(look: _style.Look) -> _style.Look:
    return dict(color=look["color"], marker=".", linestyle="none", alpha=0.3)


def _residual(ax, rows: pandas.DataFrame, config: Config) -> None:
    """The residual, and where there are certificates the excess over the minimum."""
    look = _style.METHODS["network"]
    ax.set(yscale="log", xlabel="log₁₀(1/λ)", title="distance from a stationary point")
    path = along_path(rows, config)
    ax.plot(-np.log10(path.lam), path.stationarity, **_faint(look))
    middle = path.groupby("lam").stationarity.median()
    ax.plot(-np.log10(middle.index), middle, label="residual of stationarity, median", **look)
    if excess := answers.excess_of_minimum(rows, config):
        above = np.maximum(list(excess.values()), 1e-12)
        ax.plot(-np.log10([*excess]), above, label="F above the minimum, at most", **_PROVED)
    ax.axhline(CONVERGED, label="residual of a converged network", **_style.LEVEL)
    ax.set_ylim(bottom=max(ax.get_ylim()[0], 1e-8))  # below is rounding
    _style.legend(ax, above=0.3)


_PROVED = _style.METHODS["certified"]


def _margin(ax, rows: pandas.DataFrame, config: Config) -> None:
    path = along_path(rows, config)
    ax.set(xlabel="log₁₀(1/λ)", title="margin of the training rows")
    _against_lam(ax, path, "normalized_margin", "normalized margin", **_style.METHODS["network"])
    dual = dict(color=_style.GREEN, marker="^", linestyle="-.")
    _against_lam(ax, path, "dual_weighted_margin", "dual-weighted margin", **dual)
    proofs = sound(rows, PROOF)
    for upper in proofs[proofs.lam == 0].upper:
        ax.axhline(upper, label="max margin of the first split", **_style.CERTIFIED)
    ax.axhline(0, **_style.LEVEL)
    _style.legend(ax, above=0.3)


def _errors(ax, rows: pandas.DataFrame, config: Config) -> None:
    path = along_path(rows, config)
    ax.set(xlabel="log₁₀(1/λ)", ylabel="%", title="errors")
    parts = path.assign(**{name: 100 * path[name] for name in _PARTS})
    for name, (label, look) in _PARTS.items():
        _against_lam(ax, parts, name, label, **look)
    without = sound(rows, UNREGULARISED)
    if len(without):
        level = 100 * without.test_error.mean()
        ax.axhline(level, label="test, without λ", color=_style.GREEN, linestyle="-.")
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])
    _style.legend(ax, above=0.4)


_PARTS = {
    "train_error": ("training", dict(color=_style.SKY, marker="v", linestyle=":")),
    "validation_error": ("validation", dict(color=_style.ORANGE, marker="s", linestyle="--")),
    "test_error": ("test", dict(color=_style.BLUE, marker="o", linestyle="-")),
}


def _kernel(ax, rows: pandas.DataFrame, config: Config) -> None:
    """Test errors of network, network without λ, and kernel machines, λ of each chosen."""
    path, without = along_path(rows, config), sound(rows, UNREGULARISED)
    named = {"network, λ chosen": path, "network, no λ": without}
    named |= {name: sound(rows, name) for name in MACHINES}
    there = {name: 100 * chosen(part).test_error for name, part in named.items() if len(part)}
    for place, (name, errors) in enumerate(there.items()):
        color = _style.VERMILION if name in MACHINES else _style.BLUE
        ax.plot(errors, [place] * len(errors), ".", color=color, alpha=0.3)
        low, high = answers.ends(errors)
        bars = [[max(errors.mean() - low, 0)], [max(high - errors.mean(), 0)]]
        ax.errorbar(errors.mean(), place, xerr=np.nan_to_num(bars), marker="o", color=color)
    ax.set_yticks(range(len(there)), [*there])
    ax.set(ylim=(len(there) - 0.5, -0.5), xlabel="%", title="test error")
    ax.set_xlim(left=-0.03 * ax.get_xlim()[1])


def _drift(ax, rows: pandas.DataFrame, config: Config) -> None:
    ax.set(xlabel="log₁₀(1/λ)", title="change of the empirical NTK")
    path = along_path(rows, config)
    _against_lam(ax, path, "drift", "‖K − K₀‖/‖K₀‖", **_style.METHODS["network"])
    cosine = dict(color=_style.PURPLE, marker="d", linestyle=":")
    _against_lam(ax, path, "alignment", "cosine of K and K₀", **cosine)
    if path.drift.max() > 0:
        _style.plain_ticks(ax.yaxis)
    _style.legend(ax, above=0.3)


def _width(ax, rows: pandas.DataFrame, config: Config) -> None:
    found = 100 * answers.by_width(rows)
    places, look = found.columns.to_numpy(float), _style.METHODS["network"]
    ax.plot(places, found.to_numpy().T, **_faint(look))
    _style.with_interval(ax, places, found.to_numpy().T, **look)
    _style.at_sizes(ax, found.columns, "width")
    ax.set(ylabel="%", title="test error, λ chosen")
    ax.set_ylim(bottom=min(0, -0.03 * ax.get_ylim()[1]))


PANELS = {
    "residual": _residual, "margin": _margin, "errors": _errors, "kernel": _kernel,
    "drift": _drift, "width": _width,
}  # fmt: skip


def _drawn(rows: pandas.DataFrame, config: Config) -> list[str]:
    """The panels that there is something to draw in."""
    return [one.panel for one in answers.answers(rows, config) if one.panel]


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """All panels; points are seeds, lines and bars their means with 95 % intervals."""
    names = _drawn(rows, config)
    fig, axes = _style.panels(max(len(names), 1), columns=2, ratio=0.7)
    for ax, name in zip(axes, names, strict=False):
        PANELS[name](ax, rows, config)
    return fig


@_style.styled
def panel(rows: pandas.DataFrame, config: Config, name: str) -> _style.Figure:
    """One of them."""
    fig, (ax,) = _style.panels(1, columns=1, ratio=0.7)
    PANELS[name](ax, rows, config)
    return fig


# Page ----------------------------------------------------------------------------------------


def pages(rows: pandas.DataFrame, config: Config) -> dict[str, str]:
    """The page that answers the questions, with everything that it shows inside it."""
    found = answers.answers(rows, config)
    table = answers.by_lam(rows, config)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE.parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template(TEMPLATE.name).render(
        name=pathlib.Path(config.data).name,
        network=config.module or f"ReLU network, {config.depth} layers, width {config.width}",
        notes=answers.notes(rows, DATA),
        answers=found,
        pictures={one.panel: _embedded(rows, config, one.panel) for one in found if one.panel},
        columns=[*table],
        cells=[[answers.shown(row[name], name) for name in table] for _, row in table.iterrows()],
        failures=[reason for reason in rows[FAILED].dropna().unique() if reason],
    )
    return {"report.html": text}


def _embedded(rows: pandas.DataFrame, config: Config, name: str) -> str:
    file = io.BytesIO()
    _style.save(panel(rows, config, name), file, "png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
