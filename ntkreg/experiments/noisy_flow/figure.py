"""The picture of noisy flows, and a film of particles that are trapped, escape and settle."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import pandas

from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _style
from ntkreg.experiments.noisy_flow import runs
from ntkreg.experiments.noisy_flow.claims import AT_MINIMUM, SET, unit_of
from ntkreg.experiments.noisy_flow.runs import Config, parsed
from ntkreg.sweeps import store
from ntkreg.training import flows, mean_field

FLOWS = {
    ("trap", "none"): "trapped, no noise",
    ("trap", "resample"): "trapped, σ constant",
    ("trap", "resample, quenched"): "trapped, σ quenched",
    ("uniform", "resample, quenched"): "uniform, σ quenched",
    ("uniform", "none"): "uniform, no noise",
}
STYLES = {key: style | dict(label=FLOWS[key]) for key, style in _style.categories(FLOWS).items()}
SMALLEST = 1e-6  # gap shown: below it float32 has no digits


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Six panels: escapes, arrivals, floors, what a flow proves of itself; bars span the seeds."""
    fig, axes = _style.panels(6, columns=3, ratio=1.08)
    escapes = table[(table.part == "escape") & (unit_of(table) == "relu")]
    _trajectories(axes[0], escapes)
    _ends(axes[1], escapes)
    _proved(axes[2], escapes)
    arrivals = table[table.part == "arrival"]
    is_d = arrivals.dataset.str.startswith("D:")
    _arrivals(axes[3], arrivals[~is_d])
    _dimensions(axes[4], arrivals[is_d])
    _floors(axes[5], table[table.part == "floor"])
    return fig


def _of(escapes: pandas.DataFrame, key: tuple[str, str]) -> pandas.DataFrame:
    start = escapes.start.where(escapes.start == "uniform", "trap")
    return escapes[(start == key[0]) & (escapes.noise == key[1])]


def _trajectories(ax, escapes: pandas.DataFrame) -> None:
    """Of the set whose trap lies highest: the gap against the step, one line for every seed.

    A flow that raised an error has no line.
    """
    escapes = escapes[~escapes.dataset.str.startswith("D:")]
    height = (escapes.trap_level / escapes.minimum - 1).fillna(0.0)
    chosen = escapes.loc[height.idxmax(), SET]
    ax.set(xlabel="iterations", ylabel="L/L* − 1", title=f"{chosen.dataset}, draw {chosen.draw}")
    if "trace" not in escapes:
        ax.text(0.5, 0.5, "not kept", transform=ax.transAxes, ha="center")
        ax.set(xticks=[], yticks=[])
        return
    for key, style in STYLES.items():
        flows_of_set = _of(escapes[(escapes[SET] == chosen).all(axis=1)], key)
        for row in flows_of_set.dropna(subset="trace").itertuples():
            steps, objectives = row.trace
            gap = np.maximum(objectives / row.minimum - 1, SMALLEST)
            ax.plot(steps, gap, **style | dict(linewidth=0.7, markersize=2.4, markevery=6))
            style = style | dict(label=None)
    ax.axhline(height.max(), label="the trap, certified", **_style.CERTIFIED)
    ax.set(xscale="log", yscale="log", xlim=(10, None))
    _style.legend(ax, loc="lower left")


def _ends(ax, escapes: pandas.DataFrame) -> None:
    sets = list(escapes.groupby(SET, sort=False).groups)
    for number, (key, style) in enumerate(STYLES.items()):
        gaps = _of(escapes, key).groupby(SET).final_gap.agg(["min", "median", "max"])
        gaps = gaps.clip(lower=SMALLEST).reindex(sets)
        x = np.arange(len(sets)) + 0.15 * (number - 2)
        dots = style | _style.DOTS | dict(markersize=2.4, capsize=1, label=None)
        _style.with_ends(ax, x, gaps["median"], gaps["min"], gaps["max"], **dots)
    levels = escapes.groupby(SET, sort=False)[["trap_level", "minimum"]].first()
    heights = (levels.trap_level / levels.minimum - 1).clip(lower=SMALLEST)
    ax.plot(np.arange(len(sets)), heights, "_", color=_style.BLACK, markersize=7, label="the trap")
    ax.axhline(AT_MINIMUM, label="counts as minimum", **_style.LEVEL)
    names = [f"{name}{'' if name.startswith('D') else f' ({draw})'}" for name, draw in sets]
    ax.set_xticks(np.arange(len(sets)), names, rotation=90, fontsize=5)
    ax.set(yscale="log", ylabel="L/L* − 1 at the end", ylim=(SMALLEST / 2, 3))
    ax.set_title("ends, and the certified trap")
    _style.legend(ax, above=0.15)


def _proved(ax, escapes: pandas.DataFrame) -> None:
    for key, style in STYLES.items():
        part = _of(escapes, key)
        part = part[part.proved_gap.notna()]
        dots = style | _style.DOTS | dict(alpha=0.7, markersize=2.8)
        ax.plot(part.final_gap.clip(lower=SMALLEST), part.proved_gap.clip(lower=SMALLEST), **dots)
    ends = np.array([SMALLEST, 10.0])
    ax.plot(ends, ends, label="proved = true", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="true gap L/L* − 1", ylabel="gap proved by L′")
    ax.set_title("what the first variation proves")
    _style.legend(ax, above=0.65)


def _arrivals(ax, arrivals: pandas.DataFrame) -> None:
    parts = dict(list(arrivals[arrivals.iterations > 0].groupby("dataset")))
    for name, style in _style.categories(parts).items():
        groups = parts[name].groupby("epsilon").iterations
        _style.with_range(ax, groups, lambda epsilon: 1 / epsilon, "mean", label=name, **style)
    if len(arrivals):
        x = np.sort(1 / arrivals.epsilon.unique())
        lowest = arrivals.iterations[arrivals.iterations > 0].min()
        _style.guide(ax, x, lowest, 1.0, "slope 1 (theorem: 4)")
    ax.set(xscale="log", yscale="log", xlabel="1/ε", ylabel="iterations to L ≤ (1 + ε) L*")
    ax.set_title("from the trap, σ tied to ε")
    _style.legend(ax, above=0.6)


def _dimensions(ax, arrivals: pandas.DataFrame) -> None:
    dims = sorted(arrivals.dim.dropna().unique())
    if dims:
        style = _style.categories(["D"])["D"] | dict(label=f"D, ε = {arrivals.epsilon.iloc[0]:g}")
        _style.with_range(ax, arrivals.groupby("dim").iterations, middle="mean", **style)
        _style.guide(ax, dims, arrivals.iterations.mean(), 2.0, "slope 2, the theorem's")
        _style.at_sizes(ax, dims, "dimension d")
    _style.plain_ticks(ax.yaxis)
    ax.set(ylabel="iterations to L ≤ (1 + ε) L*", title="against the dimension")
    _style.legend(ax, above=0.15)


def _floors(ax, floors: pandas.DataFrame) -> None:
    floors = floors.assign(shown=floors.final_gap.clip(lower=SMALLEST))
    parts = dict(list(floors.groupby(["dataset", "num_particles"])))
    for (name, number), style in _style.categories(parts).items():
        groups = parts[name, number].groupby("sigma").shown
        label = f"{name}, {number} particles"
        _style.with_range(ax, groups, middle="mean", label=label, **style)
    ends = np.array([floors.sigma.min(), floors.sigma.max()])
    ax.plot(ends, ends, label="gap = σ", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="σ, constant", ylabel="L/L* − 1 at the end")
    ax.set_title("the floor that noise sets")
    _style.legend(ax, above=0.45)


# The film ------------------------------------------------------------------------------------

FILM_PARTICLES = 300
PHASES = (("no noise", 0.0, 20), ("noise", 1.0, 45), ("quenched", 0.0, 15))  # σ, frames
WHOLE = 30_000  # steps of a run that has all its frames; a shorter one has fewer
FRAME_MS, LAST_MS = 90, 2500
COLORS = {1: _style.BLUE, -1: _style.VERMILION}
DPI = 150


class Frame(NamedTuple):
    """What a picture shows: the phase, the step, particles, and L so far as (step, L) pairs."""

    phase: str
    step: int
    particles: np.ndarray
    history: list[tuple[int, float]]


def film(table: pandas.DataFrame, config: Config, folder: pathlib.Path, phases=PHASES) -> None:
    """Writes particles.gif, of the first problem of the Config in the plane; where there is one."""
    plane = [text for text in config.problems if parsed(text).dim == 2]
    if not plane:
        return
    levels = table[(table.dataset == plane[0]) & (table.draw == 0)].iloc[0]
    samples = runs.drawn(parsed(plane[0]), 0)
    images = [_image(frame, samples, levels, config) for frame in frames(config, samples, phases)]
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_MS]
    with store.written_atomically(folder / "particles.gif") as file:
        images[0].save(
            file, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
        )


def frames(config: Config, samples: Dataset, phases=PHASES) -> Iterator[Frame]:
    """The flow in its three phases, evenly in the root of the steps of each."""
    flow = flows.Flow(num_steps=10 * config.num_steps)
    start_key, key = jax.random.split(jax.random.key(0))
    particles = mean_field.one_sign_start(start_key, FILM_PARTICLES, samples.x.shape[1])
    state = flows.init(particles, key)
    step_size = flows.stable_step(samples, config.lam)
    advance = jax.jit(lambda settings, state, n: flows.advance(flow, samples, settings, state, n))
    history: list[tuple[int, float]] = []
    for phase, noise, most in phases:
        number = max(2, round(most * min(1.0, config.num_steps / WHOLE)))
        sigma = noise * max(config.sigma, 1 / FILM_PARTICLES)  # (particles × σ) ≥ 1
        settings = flows.settings(config.lam, step_size, sigma, dtype=samples.x.dtype)
        marks = np.unique((config.num_steps / 3 * np.linspace(0, 1, number + 1) ** 2).astype(int))
        for length in np.diff(marks):
            state = advance(settings, state, int(length))
            history.append((int(state.step), float(state.objective)))
            yield Frame(phase, int(state.step), np.asarray(state.particles), history)


def _image(frame: Frame, samples: Dataset, levels: pandas.Series, config: Config):
    import PIL.Image
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with _style.context():
        fig = _style.empty((5.7, 2.9), dpi=DPI)
        # At the same places in every frame, where a constrained layout would shake, and be slow.
        fig.subplots_adjust(left=0.09, right=0.96, bottom=0.24, top=0.9, wspace=0.25)
        canvas = FigureCanvasAgg(fig)
        left, right = fig.subplots(1, 2)
        _particles(left, frame, samples, 0.8 * config.lam**-0.5)
        _history(right, frame, levels, config.num_steps)
        canvas.draw()
    return PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(64)


def _particles(ax, frame: Frame, samples: Dataset, reach: float) -> None:
    """The particles' u, as large as their mass, and rays to the samples."""
    x, y = np.asarray(samples.x), np.asarray(samples.y)
    w, u = frame.particles[:, 0], frame.particles[:, 1:]
    for label, color in COLORS.items():
        rays = reach * x[y == label] / np.linalg.norm(x[y == label], axis=1, keepdims=True)
        for ray in np.stack([0.86 * rays, rays], axis=1):
            ax.plot(*ray.T, color=color, linewidth=1.4, alpha=0.6)
        kept = np.sign(w) == label
        size = np.clip(1.4 * np.sum(frame.particles[kept] ** 2, axis=1), 1, 28)
        sign = "+" if label > 0 else "−"
        ax.scatter(
            *u[kept].T, s=size, color=color, marker="o" if label > 0 else "X", linewidth=0,
            alpha=0.7, label=f"w {'> 0' if label > 0 else '< 0'} (rays: y = {sign}1)",
        )  # fmt: skip
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="u₁", ylabel="u₂")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    ax.set_title(f"{frame.phase}, step {frame.step}")


def _history(ax, frame: Frame, levels: pandas.Series, num_steps: int) -> None:
    """L so far, between the two levels."""
    steps, values = zip(*frame.history, strict=True)
    ax.plot(steps, values, color=_style.BLUE)
    trap = _style.CERTIFIED | dict(linestyle=":")
    ax.axhline(levels.trap_level, label="the trap, certified", **trap)
    ax.axhline(levels.minimum, label="global minimum, certified", **_style.CERTIFIED)
    ax.set(xlim=(0, num_steps), ylim=(0.9 * levels.minimum, 0.75), xlabel="iterations", ylabel="L")
    ax.legend()
