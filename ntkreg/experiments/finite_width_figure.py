"""The picture of finite widths: transitions, what noise does, a failure seen, and its cure."""

import matplotlib.figure
import numpy as np
import pandas

from ntkreg.experiments import finite_width, statistics
from ntkreg.experiments.finite_width_claims import main_rows, shares, table, transitions
from ntkreg.experiments.finite_width_runs import ADAM, CURE, GD, TOLERANCE, samples_of
from ntkreg.experiments.separation_figure import MARKERS
from ntkreg.records import Record

BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
LEAST = 1e-8  # gap shown
SHOWN_GAP = 0.03  # about which the failure that is shown has
SHADES = ("#B9D7EA", "#7FB4D8", "#3F8FC4", "#0E6AA8", "#003A66")


def figure(record: Record) -> matplotlib.figure.Figure:
    """Eight panels; bars are 95 % intervals over data sets."""
    rows = table(record)
    fig = matplotlib.figure.Figure(figsize=(19, 8.6), layout="constrained")
    axes = fig.subplots(2, 4)
    trained = main_rows(rows)
    lams = sorted(trained.lam.unique(), reverse=True)
    plain = trained[trained.noise == 0.0]
    for ax, lam in zip(axes[0, :2], lams, strict=False):
        part = plain[(plain.optimizer == ADAM) & (plain.lam == lam)]
        _by_size(ax, part, f"Adam, λ = {lam:g}")
    descent = plain[(plain.optimizer == GD) & (plain.lam == lams[0])]
    _by_size(axes[0, 2], descent, f"gradient descent, λ = {lams[0]:g}")
    _transitions(axes[0, 3], rows)
    _noise(axes[1, 0], trained[trained.optimizer == GD])
    _others(axes[1, 1], rows)
    _failure(axes[1, 2], record, rows)
    _cure(axes[1, 3], record, rows)
    if len(lams) < 2:
        axes[0, 1].set_axis_off()
    return fig


def _share(ax, rows: pandas.DataFrame, **style) -> None:
    """The mean share of successes by width, with bootstrap intervals over data sets."""
    if not len(rows):
        return
    values = shares(rows.assign(draw=rows.num_samples.astype(str) + ":" + rows.draw.astype(str)))
    rng, data = np.random.default_rng(0), values.to_numpy()
    drawn = rng.integers(data.shape[1], size=(1000, data.shape[1]))
    means = data[:, drawn].mean(axis=-1)
    low, high = np.transpose([statistics.interval(row) for row in means])
    middle = data.mean(axis=1)
    bars = [middle - low, high - middle]
    style = dict(capsize=2, markersize=4, linewidth=1.2) | style
    ax.errorbar(values.index, middle, np.maximum(bars, 0.0), **style)


def _axes(ax, title: str, ylabel: str = "share of starts at the global minimum") -> None:
    ax.set(xscale="log", xlabel="width", ylabel=ylabel, ylim=(-0.04, 1.04))
    ax.set_xscale("log", base=2)
    ax.set_title(title)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(frameon=False, fontsize=8)


def _by_size(ax, rows: pandas.DataFrame, title: str) -> None:
    groups = list(rows.groupby("num_samples"))
    for (size, part), marker, color in zip(groups, MARKERS, SHADES, strict=False):
        _share(ax, part, marker=marker, color=color, label=f"n = {size}")
    _axes(ax, title)


def _transitions(ax, rows: pandas.DataFrame) -> None:
    found = [one for one in transitions(rows) if one.noise == 0.0 and np.isfinite(one.width)]
    groups: dict[tuple, list] = {}
    for one in found:
        groups.setdefault((one.optimizer, one.lam), []).append(one)
    colors = (BLUE, GREEN, RED, "0.4", "#CC79A7")
    for ((optimizer, lam), ones), marker, color in zip(
        groups.items(), MARKERS, colors, strict=False
    ):
        sizes, widths = [one.num_samples for one in ones], np.array([one.width for one in ones])
        ends = np.array([one.interval for one in ones])
        bars = np.maximum([widths - ends[:, 0], ends[:, 1] - widths], 0.0)
        label = f"{optimizer}, λ = {lam:g}"
        ax.errorbar(sizes, widths, np.nan_to_num(bars), marker=marker, color=color, capsize=2,
                    markersize=5, label=label)  # fmt: skip
        if optimizer == ADAM:
            neurons = [one.neurons for one in ones]
            ax.plot(sizes, neurons, marker, color=color, markerfacecolor="none", linestyle=":",
                    markersize=4, label=f"neurons of the optimum, λ = {lam:g}")  # fmt: skip
    sizes = np.array(sorted(rows.num_samples.unique()))
    ax.plot(sizes, sizes + 1, color="0.5", linestyle="--", linewidth=0.9, label="n + 1")
    ax.set(xscale="log", yscale="log", xlabel="n", ylabel="width at which half succeed")
    ax.set_xticks(sizes, list(map(str, sizes)))
    ax.minorticks_off()
    ax.set_ylim(top=8 * ax.get_ylim()[1])  # room for the legend
    ax.set_title("the transition")
    ax.legend(frameon=False, fontsize=7, loc="upper left")


def _noise(ax, rows: pandas.DataFrame) -> None:
    rows = rows[rows.lam == rows.lam.max()]
    for (noise, part), marker, color in zip(
        rows.groupby("noise"), MARKERS, (BLUE, RED, GREEN), strict=False
    ):
        label = f"σ = {noise:g}, quenched" if noise else "no noise"
        _share(ax, part, marker=marker, color=color, label=label)
    _axes(ax, "resampling noise, all n")


def _others(ax, rows: pandas.DataFrame) -> None:
    """At one size: initial scales, and the other ranks."""
    rows = rows[(rows.optimizer != CURE) & (rows.noise == 0.0) & (rows.lam == rows.lam.max())]
    kinds = rows.groupby(["rank", "init_scale"])
    several = rows[(rows["rank"] != rows["rank"].iloc[0]) | (rows.init_scale != 1.0)]
    size = several.num_samples.iloc[0] if len(several) else rows.num_samples.max()
    colors = (BLUE, RED, GREEN, "#CC79A7", "0.4")
    for ((rank, scale), part), color in zip(kinds, colors, strict=False):
        part = part[part.num_samples == size]
        for optimizer, line, marker in ((ADAM, "-", "o"), (GD, "--", "v")):
            label = f"rank {rank}, scale {scale:g}, {'Adam' if optimizer == ADAM else 'descent'}"
            _share(ax, part[part.optimizer == optimizer], color=color, linestyle=line,
                   marker=marker, label=label)  # fmt: skip
    _axes(ax, f"initial scale and rank, n = {size}, λ = {rows.lam.max():g}")
    ax.set_ylim(top=1.75)  # room for the legend
    ax.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper left")


def _failure(ax, record: Record, rows: pandas.DataFrame) -> None:
    """Of the worst stationary failure in the plane: what each direction is worth."""
    config = finite_width.Config(**{
        name: tuple(value) if isinstance(value, list) else value
        for name, value in record.identity["config"].items()
    })  # fmt: skip
    plane = rows[(rows["rank"] == 2) & (rows.stationary > 0) & (rows.width >= 2)]
    ax.set_title("a failure in the plane")
    if not len(plane):
        ax.text(0.5, 0.5, "none", ha="center", transform=ax.transAxes)
        return
    plane = plane[plane.width >= min(4, plane.width.max())]
    gaps = record.arrays["gaps"][plane.index]
    worst = np.where(np.isfinite(gaps), gaps, -np.inf).max(axis=1)
    chosen = plane.iloc[np.argmin(np.abs(np.log(worst / SHOWN_GAP)))]
    samples = samples_of(config, 2, int(chosen.num_samples), int(chosen.draw))
    x, y = np.asarray(samples.x), np.asarray(samples.y)
    particles = record.arrays["worst"][chosen.name][: chosen.width, :3]
    w, u = particles[:, 0], particles[:, 1:]
    f = np.maximum(x @ u.T, 0.0) @ w / chosen.width
    slopes = y / (1 + np.exp(y * f)) / len(y)
    angles = np.linspace(-180, 180, 721)
    worth = lambda a: slopes @ np.maximum(
        x @ np.stack([np.cos(np.radians(a)), np.sin(np.radians(a))]), 0.0
    ) / (2 * chosen.lam)  # fmt: skip
    for sign, color in ((1, BLUE), (-1, RED)):
        ax.plot(
            angles,
            sign * worth(angles),
            color=color,
            linewidth=1.2,
            linestyle="-" if sign > 0 else "--",
            label=f"w {'> 0' if sign > 0 else '< 0'}",
        )
        mine = np.sign(w) == sign
        at = np.degrees(np.arctan2(u[mine, 1], u[mine, 0]))
        mass = np.sum(particles[mine] ** 2, axis=1) / np.sum(particles**2)
        ax.scatter(at, sign * worth(at), s=20 + 150 * mass, color=color, edgecolor="black",
                   linewidth=0.6, alpha=0.8, zorder=3)  # fmt: skip
    ax.axhline(1.0, color="0.4", linewidth=0.9, linestyle=":")
    ax.set(xlabel="direction of u, degrees", ylabel="worth of a neuron, 1 = its cost",
           xlim=(-180, 180))  # fmt: skip
    ax.set_xticks([-180, -90, 0, 90, 180])
    ax.set_title(f"a failure: width {chosen.width}, {chosen.optimizer}; above 1 is missing")
    ax.legend(frameon=False, fontsize=8, title="neurons: dots, by mass", title_fontsize=7)


def _cure(ax, record: Record, rows: pandas.DataFrame) -> None:
    for lam, color, marker in zip(sorted(rows.lam.unique()), (RED, BLUE, GREEN), "vos",
                                  strict=False):  # fmt: skip
        chosen = rows.index[(rows.optimizer == CURE) & (rows.lam == lam)]
        before, after, added = (
            record.arrays[name][chosen].ravel() for name in ("gaps", "cured_gaps", "insertions")
        )
        kept = np.isfinite(after)
        ax.scatter(
            np.maximum(before[kept], LEAST), np.maximum(after[kept], LEAST), s=8 + added[kept] / 2,
            color=color, marker=marker, alpha=0.6, linewidth=0, label=f"λ = {lam:g}",
        )  # fmt: skip
    ax.axhline(TOLERANCE, color="0.5", linestyle="--", linewidth=0.9)
    ax.axvline(TOLERANCE, color="0.5", linestyle="--", linewidth=0.9)
    ax.set(xscale="log", yscale="log", xlabel="F/F* − 1 before", ylabel="F/F* − 1 with insertions")
    ax.set_title("the cure (size: insertions)")
    ax.legend(frameon=False, fontsize=8)
