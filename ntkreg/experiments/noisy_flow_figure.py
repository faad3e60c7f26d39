"""The picture of noisy flows: escapes, arrivals, floors, and what a flow proves of itself."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import _style
from ntkreg.experiments.noisy_flow import traced_steps
from ntkreg.experiments.noisy_flow_claims import AT_MINIMUM, SET, table
from ntkreg.records import Record

FLOWS = {
    ("trap", "none"): "trapped, no noise",
    ("trap", "resample"): "trapped, σ constant",
    ("trap", "resample, quenched"): "trapped, σ quenched",
    ("uniform", "resample, quenched"): "uniform, σ quenched",
    ("uniform", "none"): "uniform, no noise",
}
LOOKS = {key: look | dict(label=FLOWS[key]) for key, look in _style.categories(FLOWS).items()}
LEAST = 1e-6  # gap shown: below it float32 has no digits


@_style.styled
def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; bars span the seeds."""
    rows = table(record)
    fig, axes = _style.panels(6, columns=3, ratio=1.08)
    escapes = rows[rows.part == "escape"]
    _trajectories(axes[0], record, rows)
    _ends(axes[1], escapes)
    _proved(axes[2], escapes)
    arrivals = rows[rows.part == "arrival"]
    is_d = arrivals.dataset.str.startswith("D:")
    _arrivals(axes[3], arrivals[~is_d])
    _dimensions(axes[4], arrivals[is_d])
    _floors(axes[5], rows[rows.part == "floor"])
    return fig


def _kind(rows: pandas.DataFrame) -> pandas.Series:
    return rows.start.where(rows.start == "uniform", "trap")


def _trajectories(ax, record: Record, rows: pandas.DataFrame) -> None:
    """Of the set whose trap lies highest: the gap against the step, one line for every seed."""
    escapes = rows[(rows.part == "escape") & ~rows.dataset.str.startswith("D:")]
    height = (escapes.trap_level / escapes.minimum - 1).fillna(0.0)
    chosen = escapes.loc[height.idxmax(), SET]
    one = escapes[(escapes[SET] == chosen).all(axis=1)]
    steps = traced_steps(record.identity["config"]["num_steps"])
    for index, row in one.iterrows():
        look = LOOKS.get((_kind(one)[index], row.noise))
        if look is None:
            continue
        gap = record.arrays["trace"][index] / row.minimum - 1
        kept = np.isfinite(gap)
        label = look["label"] if row.seed == one.seed.min() else None
        look = look | dict(label=label, linewidth=0.7, markersize=2.4, markevery=6)
        ax.plot(steps[kept], np.maximum(gap[kept], LEAST), **look)
    ax.axhline(height.max(), label="the trap, certified", **_style.CERTIFIED)
    ax.set(xscale="log", yscale="log", xlabel="iterations", ylabel="L/L* − 1", xlim=(10, None))
    ax.set_title(f"{chosen.dataset}, draw {chosen.draw}")
    _style.legend(ax, loc="lower left")


def _ends(ax, escapes: pandas.DataFrame) -> None:
    sets = list(escapes.groupby(SET, sort=False).groups)
    for number, (key, look) in enumerate(LOOKS.items()):
        gaps = _of(escapes, key).groupby(SET).final_gap.agg(["min", "median", "max"])
        gaps = gaps.clip(lower=LEAST).reindex(sets)
        x = np.arange(len(sets)) + 0.15 * (number - 2)
        dots = look | _style.DOTS | dict(markersize=2.4, capsize=1, label=None)
        _style.with_ends(ax, x, gaps["median"], gaps["min"], gaps["max"], **dots)
    levels = escapes.groupby(SET, sort=False)[["trap_level", "minimum"]].first()
    heights = (levels.trap_level / levels.minimum - 1).clip(lower=LEAST)
    ax.plot(np.arange(len(sets)), heights, "_", color=_style.BLACK, markersize=7, label="the trap")
    ax.axhline(AT_MINIMUM, label="counts as minimum", **_style.LEVEL)
    names = [f"{name}{'' if name.startswith('D') else f' ({draw})'}" for name, draw in sets]
    ax.set_xticks(np.arange(len(sets)), names, rotation=90, fontsize=5)
    ax.set(yscale="log", ylabel="L/L* − 1 at the end", ylim=(LEAST / 2, 3))
    ax.set_title("ends, and the certified trap")
    _style.legend(ax, above=0.15)


def _of(escapes: pandas.DataFrame, key: tuple[str, str]) -> pandas.DataFrame:
    return escapes[(_kind(escapes) == key[0]) & (escapes.noise == key[1])]


def _proved(ax, escapes: pandas.DataFrame) -> None:
    for key, look in LOOKS.items():
        part = _of(escapes, key)
        part = part[part.proved_gap.notna()]
        dots = look | _style.DOTS | dict(alpha=0.7, markersize=2.8)
        ax.plot(part.final_gap.clip(lower=LEAST), part.proved_gap.clip(lower=LEAST), **dots)
    ends = np.array([LEAST, 10.0])
    ax.plot(ends, ends, label="proved = true", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="true gap L/L* − 1", ylabel="gap proved by L′")
    ax.set_title("what the first variation proves")
    _style.legend(ax, above=0.65)


def _arrivals(ax, arrivals: pandas.DataFrame) -> None:
    parts = dict(list(arrivals[arrivals.iterations > 0].groupby("dataset")))
    for name, look in _style.categories(parts).items():
        groups = parts[name].groupby("epsilon").iterations
        _style.with_range(ax, groups, lambda epsilon: 1 / epsilon, "mean", label=name, **look)
    if len(arrivals):
        x = np.sort(1 / arrivals.epsilon.unique())
        start = arrivals.iterations[arrivals.iterations > 0].min()
        _style.guide(ax, x, start, 1.0, "slope 1 (theorem: 4)")
    ax.set(xscale="log", yscale="log", xlabel="1/ε", ylabel="iterations to L ≤ (1 + ε) L*")
    ax.set_title("from the trap, σ tied to ε")
    _style.legend(ax, above=0.6)


def _dimensions(ax, arrivals: pandas.DataFrame) -> None:
    dims = sorted(arrivals.dim.unique())
    if dims:
        look = _style.categories(["D"])["D"] | dict(label=f"D, ε = {arrivals.epsilon.iloc[0]:g}")
        _style.with_range(ax, arrivals.groupby("dim").iterations, middle="mean", **look)
        _style.guide(ax, dims, arrivals.iterations.mean(), 2.0, "slope 2, the theorem's")
        _style.at_sizes(ax, dims, "dimension d")
    _style.plain_ticks(ax.yaxis)
    ax.set(ylabel="iterations to L ≤ (1 + ε) L*", title="against the dimension")
    _style.legend(ax, above=0.15)


def _floors(ax, floors: pandas.DataFrame) -> None:
    floors = floors.assign(shown=floors.final_gap.clip(lower=LEAST))
    parts = dict(list(floors.groupby(["dataset", "num_particles"])))
    for (name, number), look in _style.categories(parts).items():
        groups = parts[name, number].groupby("sigma").shown
        label = f"{name}, {number} particles"
        _style.with_range(ax, groups, middle="mean", label=label, **look)
    ends = np.array([floors.sigma.min(), floors.sigma.max()])
    ax.plot(ends, ends, label="gap = σ", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="σ, constant", ylabel="L/L* − 1 at the end")
    ax.set_title("the floor that noise sets")
    _style.legend(ax, above=0.45)
