"""The picture of noisy flows: escapes, arrivals, floors, and what a flow proves of itself."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments.noisy_flow import traced_steps
from ntkreg.experiments.noisy_flow_claims import AT_MINIMUM, AT_TRAP, SET, table
from ntkreg.experiments.separation_figure import MARKERS
from ntkreg.records import Record

STYLES = {
    ("trap", "none"): dict(color="0.35", marker="v", label="trapped start, no noise"),
    ("trap", "resample"): dict(color="#E69F00", marker="^", label="trapped start, σ constant"),
    ("trap", "resample, quenched"): dict(color="#D55E00", marker="o", label="trapped, σ quenched"),
    ("uniform", "resample, quenched"): dict(color="#0072B2", marker="s", label="uniform, quenched"),
    ("uniform", "none"): dict(color="#009E73", marker="D", label="uniform, no noise"),
}
LEAST = 1e-6  # gap shown: below it float32 has no digits


def figure(record: Record) -> matplotlib.figure.Figure:
    """Six panels; bars span the seeds."""
    rows = table(record)
    fig = matplotlib.figure.Figure(figsize=(14.5, 8.6), layout="constrained")
    axes = fig.subplots(2, 3)
    escapes = rows[rows.part == "escape"]
    _trajectories(axes[0, 0], record, rows)
    _ends(axes[0, 1], escapes)
    _proved(axes[0, 2], escapes)
    arrivals = rows[rows.part == "arrival"]
    is_d = arrivals.dataset.str.startswith("D:")
    _arrivals(axes[1, 0], arrivals[~is_d])
    _dimensions(axes[1, 1], arrivals[is_d])
    _floors(axes[1, 2], rows[rows.part == "floor"])
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
        style = STYLES.get((_kind(one)[index], row.noise))
        if style is None:
            continue
        gap = record.arrays["trace"][index] / row.minimum - 1
        label = style["label"] if row.seed == one.seed.min() else None
        kept = np.isfinite(gap)
        ax.plot(
            steps[kept], np.maximum(gap[kept], LEAST), color=style["color"], label=label,
            linewidth=1, marker=style["marker"], markersize=3, markevery=6,
        )  # fmt: skip
    ax.axhline(height.max(), color="0.5", linestyle=":", label="the trap, certified")
    ax.set(xscale="log", yscale="log", xlabel="iterations", ylabel="L/L* − 1", xlim=(10, None))
    ax.set_title(f"{chosen.dataset}, draw {chosen.draw}")
    ax.legend(frameon=False, fontsize=8)


def _ends(ax, escapes: pandas.DataFrame) -> None:
    sets = list(escapes.groupby(SET, sort=False).groups)
    for number, (key, style) in enumerate(STYLES.items()):
        part = escapes[(_kind(escapes) == key[0]) & (escapes.noise == key[1])]
        gaps = part.groupby(SET).final_gap.agg(["min", "median", "max"]).clip(lower=LEAST)
        gaps = gaps.reindex(sets)
        x = np.arange(len(sets)) + 0.15 * (number - 2)
        bars = [gaps["median"] - gaps["min"], gaps["max"] - gaps["median"]]
        ax.errorbar(x, gaps["median"], bars, linestyle="none", capsize=2, markersize=4, **style)
    levels = escapes.groupby(SET, sort=False)[["trap_level", "minimum"]].first()
    heights = (levels.trap_level / levels.minimum - 1).clip(lower=LEAST)
    ax.plot(np.arange(len(sets)), heights, "_", color="black", markersize=16, label="the trap")
    ax.axhline(AT_MINIMUM, color="0.7", linestyle="--", linewidth=0.8)
    names = [f"{name}{'' if name.startswith('D') else f' ({draw})'}" for name, draw in sets]
    ax.set_xticks(np.arange(len(sets)), names, rotation=60, ha="right", fontsize=7)
    ax.set(yscale="log", ylabel="L/L* − 1 at the end", ylim=(LEAST, 30))
    ax.set_title("ends, and the certified trap")
    ax.legend(frameon=False, fontsize=7, ncols=2, loc="upper left")


def _proved(ax, escapes: pandas.DataFrame) -> None:
    for key, style in STYLES.items():
        part = escapes[(_kind(escapes) == key[0]) & (escapes.noise == key[1])]
        part = part[part.proved_gap.notna()]
        ax.plot(part.final_gap.clip(lower=LEAST), part.proved_gap.clip(lower=LEAST),
                linestyle="none", markersize=4, alpha=0.7, **style)  # fmt: skip
    ends = np.array([LEAST, 10.0])
    ax.plot(ends, ends, color="0.5", linestyle="--", linewidth=0.9, label="proved = true")
    ax.set(xscale="log", yscale="log", xlabel="true gap L/L* − 1", ylabel="gap proved by L′")
    ax.set_title("what the first variation proves")
    ax.legend(frameon=False, fontsize=8)


def _bars(ax, values: pandas.core.groupby.SeriesGroupBy, x=lambda v: v, **style) -> None:
    found = values.agg(["min", "mean", "max"])
    bars = [found["mean"] - found["min"], found["max"] - found["mean"]]
    ax.errorbar(x(found.index.to_numpy()), found["mean"], bars, capsize=2, markersize=4,
                linewidth=1, **style)  # fmt: skip


def _guide(ax, x: np.ndarray, start: float, exponent: float, label: str) -> None:
    """A line of that slope, as far as it fits above what was measured."""
    ends = np.array([x.min(), x.max()])
    ax.plot(ends, start * (ends / ends[0]) ** exponent, color="0.5", linestyle="--", label=label)


def _arrivals(ax, arrivals: pandas.DataFrame) -> None:
    for (name, part), marker in zip(arrivals.groupby("dataset"), MARKERS, strict=False):
        groups = part[part.iterations > 0].groupby("epsilon").iterations
        _bars(ax, groups, lambda v: 1 / v, marker=marker, label=name)
    if len(arrivals):
        x = 1 / arrivals.epsilon.to_numpy()
        start = arrivals.iterations[arrivals.iterations > 0].min()
        _guide(ax, x, start, 1.0, "slope 1 (the theorem's is 4)")
    ax.set(xscale="log", yscale="log", xlabel="1/ε", ylabel="iterations to L ≤ (1 + ε) L*")
    ax.set_title("from the trap, σ tied to ε")
    ax.set_ylim(top=15 * ax.get_ylim()[1])  # room for the legend
    ax.legend(frameon=False, fontsize=8, ncols=2, loc="upper left")


def _dimensions(ax, arrivals: pandas.DataFrame) -> None:
    if len(arrivals):
        label = f"D, ε = {arrivals.epsilon.iloc[0]:g}"
        _bars(ax, arrivals.groupby("dim").iterations, marker="o", color="#0072B2", label=label)
        _guide(
            ax, arrivals.dim.to_numpy(), arrivals.iterations.mean(), 2.0, "slope 2, the theorem's"
        )
    ticks = sorted(arrivals.dim.unique())
    ax.set(xscale="log", yscale="log", xlabel="d", ylabel="iterations to L ≤ (1 + ε) L*")
    ax.set_xticks(ticks, list(map(str, ticks)))
    ax.set_yticks([500, 1000, 2000, 5000, 10_000], ["500", "1000", "2000", "5000", "10000"])
    ax.minorticks_off()
    ax.set_title("against the dimension")
    ax.legend(frameon=False, fontsize=8)


def _floors(ax, floors: pandas.DataFrame) -> None:
    groups = floors.groupby(["dataset", "num_particles"])
    for ((name, number), part), marker in zip(groups, MARKERS, strict=False):
        part = part.assign(final_gap=part.final_gap.clip(lower=LEAST))
        label = f"{name}, {number} particles"
        _bars(ax, part.groupby("sigma").final_gap, marker=marker, label=label)
    ends = np.array([floors.sigma.min(), floors.sigma.max()])
    ax.plot(ends, ends, color="0.5", linestyle="--", linewidth=0.9, label="gap = σ")
    ax.axhline(AT_TRAP, color="0.9", linewidth=0.8, zorder=0)
    ax.set(xscale="log", yscale="log", xlabel="σ, constant", ylabel="L/L* − 1 at the end")
    ax.set_title("the floor that noise sets")
    ax.legend(frameon=False, fontsize=8)
