"""The picture of the λ-path: the way to the max margin, its rate, and how training gets there."""

from typing import Any

import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.lambda_path.runs import PROBLEM, best_of_seeds, is_multiclass, random_sets

REMAINDER_FROM = 1e-6  # λ from which remainders are shown
NOISE = 1e-8  # of a certified minimizer's margin: remainders below it are rounding
LAW_FROM = 0.3  # above it λ is too large for the law
FLOOR = 1e-6  # of what is shown of differences
TRAINED = _style.METHODS["network"]
TRUE = _style.METHODS["certified"]


@_style.styled
def figure(rows: pandas.DataFrame, config: Any) -> _style.Figure:
    """Six panels, those with data; bars reach from the 10th to the 90th percentile over data sets,
    or all seeds."""
    sets = random_sets(rows)
    panels = {
        _approach: sets,
        _law: rows[rows.reference_kind.isin(["closed form", "best known"])],
        _remainder: sets[sets.start == "certified"],
        _estimates: sets,
        _starts: rows,
        _classes: rows[is_multiclass(rows)],
    }
    panels = {draw: part for draw, part in panels.items() if len(part)}
    fig, axes = _style.panels(len(panels), columns=min(3, len(panels)), ratio=0.92)
    for ax, (draw, part) in zip(axes, panels.items(), strict=True):
        draw(ax, part)
    return fig


def _spread(ax, rows: pandas.DataFrame, values: pandas.Series, shift: float = 1.0, **look) -> None:
    """Medians at every λ with the 10th and 90th percentile, against log₁₀(1/λ)."""
    groups = values[np.isfinite(values)].groupby(rows.lam)
    low, middle, high = (groups.quantile(q) for q in (0.1, 0.5, 0.9))
    _style.with_ends(ax, -shift * np.log10(middle.index.to_numpy()), middle, low, high, **look)


def _axes(ax, name: str, ylabel: str, **legend) -> None:
    ax.set(yscale="log", ylabel=ylabel, title=name)
    _style.at_sizes(ax, (1, 2, 4, 8, 16, 32, 64, 100, 200), "log₁₀(1/λ)")
    _style.legend(ax, **legend)


def _approach(ax, sets: pandas.DataFrame) -> None:
    certified, best = sets[sets.start == "certified"], best_of_seeds(sets)
    look = TRAINED | _style.DOTS | dict(label="trained, best of the seeds")
    _spread(ax, best, best.shortfall, shift=0.97, **look)
    look = TRUE | _style.DOTS | _style.HOLLOW | dict(label="true minimizer")
    _spread(ax, certified, certified.shortfall, shift=1.03, **look)
    law = (1 - certified.predicted_ratio).groupby(certified.lam).median()
    ax.plot(-np.log10(law.index), law, label="law, from the dual", **_style.PREDICTED)
    number = certified.groupby(list(PROBLEM)).ngroups
    _axes(ax, f"depth 2, {number} random sets", "1 − γ$_λ$/γ*", loc="upper right")


def _law(ax, rows: pandas.DataFrame) -> None:
    """Measured against predicted; on the diagonal the law holds with its constant."""
    best = best_of_seeds(rows[rows.predicted_ratio.notna()])
    best = best.assign(x=1 - best.predicted_ratio)
    best = best[(best.x > 0) & (best.x < LAW_FROM)]
    by_depth = dict(list(best.groupby("depth")))
    for depth, look in _style.ordinal(by_depth, TRAINED["color"]).items():
        part = by_depth[depth][by_depth[depth].shortfall > 0]
        dots = look | _style.DOTS | dict(alpha=0.7, label=f"depth {depth}")
        ax.plot(part.x, part.shortfall, **dots)
    ends = best.x[best.shortfall > 0].agg(["min", "max"])
    ax.plot(ends, ends, label="law = measured", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="1 − γ$_λ$/γ*, law", ylabel="1 − γ$_λ$/γ*, trained")
    ax.set_title("closed forms, r = 1, 2, 4")
    _style.legend(ax, loc="upper left", borderpad=0.0)


def _remainder(ax, exact: pandas.DataFrame) -> None:
    kept = exact[(exact.lam <= REMAINDER_FROM) & (exact.law_error.abs() > NOISE)]
    kept = kept.assign(x=kept.norm**2 * kept.reference_margin)
    look = dict(color=TRUE["color"], alpha=0.3, linewidth=0.6, markersize=2.5)
    for _, path in kept.groupby(list(PROBLEM)):
        ax.plot(path.x, path.law_error.abs(), ".-", **look)
    if len(kept):
        x = np.array([kept.x.min(), kept.x.max()])
        _style.guide(ax, x, 0.3 / x[0] ** 2, -2.0, "∝ R$^{−2}$")
    ax.set(xscale="log", yscale="log", xlabel="R γ*", ylabel="|law − true minimizer|")
    ax.set_title("rest, a line for each data set")
    _style.legend(ax)


def _estimates(ax, sets: pandas.DataFrame) -> None:
    best = best_of_seeds(sets)
    _spread(ax, best, best.shortfall, shift=0.97, label="normalized margin", **TRAINED)
    look = _style.METHODS["linearised"] | dict(label="dual-weighted margin")
    _spread(ax, best, best.weighted_error.abs(), shift=1.03, **look)
    _axes(ax, "two estimates of γ*", "|estimate/γ* − 1|", loc="upper right")


def _starts(ax, rows: pandas.DataFrame) -> None:
    """On the problems and seeds that both were run on."""
    looks = {"warm": TRAINED, "cold": _style.METHODS["network_small_init"]}
    rows = rows[(rows.seed == 0) & (rows.draw == 0) & rows.predicted_ratio.notna()]
    for (start, look), shift in zip(looks.items(), (0.97, 1.03), strict=True):
        part = rows[rows.start == start]
        short = (-part.law_error).clip(lower=FLOOR)
        _spread(ax, part, short, shift, label=f"{start} start", **look)
    ylabel = "law − γ$_λ$/γ*, at least 10$^{−6}$"
    _axes(ax, "how far one run falls short", ylabel, above=0.2, loc="upper center")


def _classes(ax, rows: pandas.DataFrame) -> None:
    several = rows[rows.start == "warm"]
    parts = dict(list(several.groupby(["dataset", "depth"])))
    for (name, depth), look in _style.categories(parts).items():
        part = parts[name, depth]
        label = f"{name}, {depth}, {part.reference_kind.iloc[0]}"
        _spread(ax, part, part.shortfall.clip(lower=1e-5), label=label, **look)
        law = (1 - part.predicted_ratio[part.reference_kind == "exact"]).groupby(part.lam).median()
        ax.plot(-np.log10(law.index), law, **_style.PREDICTED | dict(color=look["color"]))
    legend = dict(title="data, depth, reference", alignment="left", handlelength=1.8)
    _axes(ax, "several classes", "1 − γ$_λ$/reference", above=0.4, **legend)
