"""The picture of finite width: shares by width, transitions, a failure, and its cure."""

import numpy as np
import pandas

from ntkreg.experiments import _statistics, _style
from ntkreg.experiments.finite_width.claims import known, main_rows, shares, transitions
from ntkreg.experiments.finite_width.runs import ADAM, CURE, GD, TOLERANCE, Config, samples_of

SMALLEST = 1e-8  # gap shown
SHOWN_GAP = 0.03  # about which the failure that is shown has
SIGNS = {
    1: dict(color=_style.BLUE, linestyle="-"),
    -1: dict(color=_style.VERMILION, linestyle="--"),
}


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Eight panels; bars are 95 % intervals over data sets."""
    fig, axes = _style.mosaic("aabbcc;ddeeff;ggghhh", height=6.6)
    trained = main_rows(table)
    lams = sorted(trained.lam.unique(), reverse=True)
    plain = trained[trained.noise == 0.0]
    for ax, lam in zip(axes[:2], lams, strict=False):
        part = plain[(plain.optimizer == ADAM) & (plain.lam == lam)]
        _by_size(ax, part, f"Adam, λ = {lam:g}")
    descent = plain[(plain.optimizer == GD) & (plain.lam == lams[0])]
    _by_size(axes[2], descent, f"gradient descent, λ = {lams[0]:g}")
    _transitions(axes[3], table)
    _noise(axes[4], trained[trained.optimizer == GD])
    _others(axes[5], table)
    _failure(axes[6], table, config)
    _cure(axes[7], table)
    if len(lams) < 2:
        axes[1].set_axis_off()
    return fig


def _share(ax, rows: pandas.DataFrame, **look) -> None:
    """The mean share of successes by width, with 95 % intervals over data sets."""
    if len(rows):
        draw = rows.num_samples.astype(str) + ":" + rows.draw.astype(str)
        values = shares(rows.assign(draw=draw))
        _style.with_interval(ax, values.index, values.to_numpy(), **look)


def _axes(ax, rows: pandas.DataFrame, name: str, **legend) -> None:
    if len(rows):
        _style.at_sizes(ax, rows.width.unique(), "width")
    ax.set(ylabel="share at the minimum", ylim=(-0.04, 1.04), title=name)
    ax.set_yticks(np.linspace(0, 1, 6))
    _style.legend(ax, **legend)


def _by_size(ax, rows: pandas.DataFrame, title: str) -> None:
    sizes = sorted(rows.num_samples.unique())
    for size, look in _style.ordinal(sizes, _style.METHODS["network"]["color"]).items():
        _share(ax, rows[rows.num_samples == size], label=f"n = {size}", **look)
    _axes(ax, rows, title, above=0.32, ncols=2)


def _transitions(ax, rows: pandas.DataFrame) -> None:
    """Widths at which half succeed, and numbers of neurons of the minimizers, with intervals."""
    found = transitions(rows)
    found = found[(found.noise == 0.0) & np.isfinite(found.width)]
    groups = dict(list(found.groupby(["lam", "optimizer"])))
    for (lam, optimizer), look in _style.categories(groups).items():
        part = groups[lam, optimizer]
        label = f"{'Adam' if optimizer == ADAM else 'descent'}, λ = {lam:g}"
        _style.with_ends(ax, part.num_samples, part.width, part.low, part.high, label=label, **look)
        if optimizer == ADAM:
            optima = main_rows(known(rows[rows.lam == lam])).groupby(["num_samples", "draw"])
            for size, neurons in optima.optimal_neurons.first().groupby("num_samples"):
                values = neurons.to_numpy()
                low, high = _statistics.mean_interval(values)
                _style.with_ends(ax, [size], values.mean(), [low], [high], **_optimum(look))
    sizes = np.array(sorted(rows.num_samples.unique()))
    ax.plot([], [], label="neurons of the optimum", **_optimum(dict(color=_style.GREY, marker="o")))
    ax.plot(sizes, sizes + 1, label="n + 1", **_style.PREDICTED)
    _style.at_sizes(ax, sizes, "samples n")
    ax.set(yscale="log", ylabel="width at which half succeed", title="the transition")
    _style.legend(ax, above=0.6)


def _optimum(look: _style.Look) -> _style.Look:
    return look | _style.HOLLOW | _style.DOTS


def _noise(ax, rows: pandas.DataFrame) -> None:
    rows = rows[rows.lam == rows.lam.max()]
    for noise, look in _style.categories(sorted(rows.noise.unique())).items():
        label = f"σ = {noise:g}, quenched" if noise else "no noise"
        _share(ax, rows[rows.noise == noise], label=label, **look)
    _axes(ax, rows, "resampling noise, all n")


def _others(ax, rows: pandas.DataFrame) -> None:
    """At one size: initial scales, and the other ranks; Adam filled, descent hollow."""
    rows = rows[(rows.optimizer != CURE) & (rows.noise == 0.0) & (rows.lam == rows.lam.max())]
    several = rows[(rows["rank"] != rows["rank"].iloc[0]) | (rows.init_scale != 1.0)]
    size = several.num_samples.iloc[0] if len(several) else rows.num_samples.max()
    rows = rows[rows.num_samples == size]
    parts = dict(list(rows.groupby(["rank", "init_scale"])))
    for (rank, scale), look in _style.categories(parts).items():
        part = parts[rank, scale]
        filled = look | dict(linestyle="-", label=f"{rank}, {scale:g}")
        _share(ax, part[part.optimizer == ADAM], **filled)
        _share(ax, part[part.optimizer == GD], **look | _style.HOLLOW | dict(linestyle="--"))
    hollow = _style.HOLLOW | dict(color=_style.GREY, marker="o", linestyle="--")
    ax.plot([], [], label="descent", **hollow)
    options = dict(above=0.42, ncols=2, title="rank, initial ‖Θ‖", alignment="left")
    _axes(ax, rows, f"initial scales and ranks, n = {size}", **options)


def _failure(ax, rows: pandas.DataFrame, config: Config) -> None:
    """Of a stationary failure in the plane: what each direction is worth."""
    ax.set_title("a failure in the plane")
    plane = rows[(rows["rank"] == 2) & (rows.stationary > 0)]
    plane = plane[plane.width >= min(4, plane.width.max())] if len(plane) else plane
    if not len(plane) or "worst" not in rows:
        return _note(ax, "not kept" if len(plane) else "none")
    chosen = plane.loc[np.log(plane.worst_gap / SHOWN_GAP).abs().idxmin()]
    samples = samples_of(config, 2, int(chosen.num_samples), int(chosen.draw))
    _worths(ax, np.asarray(samples.x), np.asarray(samples.y), chosen.worst, chosen.lam)
    ax.axhline(1.0, **_style.LEVEL)
    ax.set(xlabel="direction of u, degrees", ylabel="worth of a neuron, 1 = its cost")
    ax.set(xlim=(-180, 180), xticks=[-180, -90, 0, 90, 180])
    ax.set_title(f"a failure: width {chosen.width}, {chosen.optimizer}; above 1 is missing")
    _style.legend(ax, title="neurons: dots, by mass")


def _note(ax, text: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, text, ha="center", transform=ax.transAxes)


def _worths(ax, x: np.ndarray, y: np.ndarray, particles: np.ndarray, lam: float) -> None:
    w, u = particles[:, 0], particles[:, 1:]
    f = np.maximum(x @ u.T, 0.0) @ w / len(w)
    slopes = y / (1 + np.exp(y * f)) / len(y)

    def worth(degrees: np.ndarray) -> np.ndarray:
        rays = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])
        return slopes @ np.maximum(x @ rays, 0.0) / (2 * lam)

    angles = np.linspace(-180, 180, 721)
    for sign, look in SIGNS.items():
        ax.plot(angles, sign * worth(angles), label=f"w {'>' if sign > 0 else '<'} 0", **look)
        mine = np.sign(w) == sign
        at = np.degrees(np.arctan2(u[mine, 1], u[mine, 0]))
        mass = np.sum(particles[mine] ** 2, axis=1) / np.sum(particles**2)
        dots = dict(color=look["color"], edgecolor=_style.BLACK, linewidth=0.5, alpha=0.8, zorder=3)
        ax.scatter(at, sign * worth(at), s=8 + 60 * mass, **dots)


def _cure(ax, rows: pandas.DataFrame) -> None:
    """Each run that insertion continued: its gap before and after."""
    ax.set_title("the cure (size: insertions)")
    if "cured_gaps" not in rows:
        return _note(ax, "not kept")
    cures = rows[rows.optimizer == CURE]
    for lam, look in _style.categories(sorted(cures.lam.unique())).items():
        part = cures[cures.lam == lam]
        before, after, inserted = (
            np.hstack(list(part[name])) for name in ("gaps", "cured_gaps", "inserted")
        )
        dots = dict(color=look["color"], marker=look["marker"], alpha=0.6, linewidth=0)
        x, y = (np.maximum(gaps, SMALLEST) for gaps in (before, after))
        ax.scatter(x, y, s=4 + inserted / 5, label=f"λ = {lam:g}", **dots)
    ax.axhline(TOLERANCE, **_style.LEVEL)
    ax.axvline(TOLERANCE, **_style.LEVEL)
    ax.set(xscale="log", yscale="log", xlabel="F/F* − 1 before", ylabel="F/F* − 1 with insertions")
    _style.legend(ax, above=0.12, ncols=2)
