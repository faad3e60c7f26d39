"""Particles in the plane as a film: trapped without noise, escaping with it, then settling."""

import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import jax
import matplotlib.figure
import numpy as np
import PIL.Image
from matplotlib.backends.backend_agg import FigureCanvasAgg

from ntkreg import records
from ntkreg.experiments import _style, flow_problems
from ntkreg.experiments.flow_problems import Levels, parsed
from ntkreg.experiments.noisy_flow import Config
from ntkreg.training import flows

NUM_PARTICLES = 300
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


def animate(config: Config, out: pathlib.Path, phases=PHASES) -> None:
    """Writes particles.gif, of the first problem of the Config in the plane; where there is one."""
    plane = [text for text in config.problems if parsed(text).dim == 2]
    if not plane:
        return
    problem = parsed(plane[0])
    samples = flow_problems.draw(problem, 0)
    levels = flow_problems.levels(problem, samples, config.lam, config.oracle)
    images = [
        _image(frame, samples, levels, config) for frame in frames(config, problem, samples, phases)
    ]
    durations = [FRAME_MS] * (len(images) - 1) + [LAST_MS]
    with records.written_atomically(out / "particles.gif") as file:
        images[0].save(
            file, format="GIF", save_all=True, append_images=images[1:], duration=durations, loop=0
        )
    print(f"the particles' film: {out}/particles.gif")


def frames(
    config: Config, problem: flow_problems.Problem, samples, phases=PHASES
) -> Iterator[Frame]:
    """The flow in its three phases, evenly in the root of the steps of each."""
    flow = flows.Flow(num_steps=10 * config.num_steps)
    start_key, key = jax.random.split(jax.random.key(0))
    state = flows.init(flow_problems.start(problem, "one_sign", start_key, NUM_PARTICLES), key)
    step_size = flows.stable_step(samples, config.lam)
    advance = jax.jit(lambda knobs, state, n: flows.advance(flow, samples, knobs, state, n))
    history: list[tuple[int, float]] = []
    for phase, noise, most in phases:
        number = max(2, round(most * min(1.0, config.num_steps / WHOLE)))
        sigma = noise * max(config.sigma, 1 / NUM_PARTICLES)  # (particles × σ) ≥ 1
        knobs = flows.knobs(config.lam, step_size, sigma, dtype=samples.x.dtype)
        marks = np.unique((config.num_steps / 3 * np.linspace(0, 1, number + 1) ** 2).astype(int))
        for length in np.diff(marks):
            state = advance(knobs, state, int(length))
            history.append((int(state.step), float(state.objective)))
            yield Frame(phase, int(state.step), np.asarray(state.particles), history)


def _image(frame: Frame, samples, levels: Levels, config: Config) -> PIL.Image.Image:
    with _style.context():
        fig = matplotlib.figure.Figure(figsize=(5.7, 2.9), dpi=DPI)
        # At the same places in every frame, where a constrained layout would shake, and be slow.
        fig.subplots_adjust(left=0.09, right=0.96, bottom=0.24, top=0.9, wspace=0.25)
        canvas = FigureCanvasAgg(fig)
        _picture(fig, frame, samples, levels, config)
        canvas.draw()
    return PIL.Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]).quantize(64)


def _picture(fig, frame: Frame, samples, levels: Levels, config: Config) -> None:
    left, right = fig.subplots(1, 2)
    x, y = np.asarray(samples.x), np.asarray(samples.y)
    reach = 0.8 * config.lam**-0.5
    for label, color in COLORS.items():
        rays = x[y == label] / np.linalg.norm(x[y == label], axis=1, keepdims=True)
        ends = np.stack([0.86 * reach * rays, reach * rays], axis=1)
        for ray in ends:
            left.plot(*ray.T, color=color, linewidth=1.4, alpha=0.6)
        w, u = frame.particles[:, 0], frame.particles[:, 1:]
        kept = np.sign(w) == label
        size = np.clip(1.4 * np.sum(frame.particles[kept] ** 2, axis=1), 1, 28)
        sign = "+" if label > 0 else "−"
        left.scatter(*u[kept].T, s=size, color=color, marker="o" if label > 0 else "X",
                     linewidth=0, alpha=0.7, label=f"w {'> 0' if label > 0 else '< 0'} (rays: y = "
                     f"{sign}1)")  # fmt: skip
    left.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xlabel="u₁", ylabel="u₂")
    below = dict(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    left.legend(**below)
    left.set_title(f"{frame.phase}, step {frame.step}")
    steps, values = zip(*frame.history, strict=True)
    right.plot(steps, values, color=_style.BLUE)
    minimum, trap = float(levels.minimum), float(levels.trap)
    right.axhline(trap, label="the trap, certified", **_style.CERTIFIED | dict(linestyle=":"))
    right.axhline(minimum, label="global minimum, certified", **_style.CERTIFIED)
    right.set(
        xlim=(0, config.num_steps), ylim=(0.9 * minimum, 0.75), xlabel="iterations", ylabel="L"
    )
    right.legend()
