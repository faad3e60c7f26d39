"""Claim III: noisy gradient descent at infinite width reaches the global optimum.

Particles of the perturbed Wasserstein gradient flow, on data whose global minimum is certified.
Starts that trap the flow without noise, at a level that is certified too, and what noise makes of
them; the iterations to a relative gap ε, against ε and against d, with σ tied to ε; and the floor
at which a constant σ and a number of particles end.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, Theorem 3.3.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg._types import Array, Float, Int
from ntkreg.certificates import oracles
from ntkreg.certificates.arrangements import MAX_RANK
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, flow_problems
from ntkreg.experiments.flow_problems import UNKNOWN, Levels, parsed
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import flows, mean_field
from ntkreg.training.flows import FlowState
from ntkreg.training.mean_field import RELU

STATIC = ("dataset", "noise", "num_particles")
AXIS = (*STATIC, "trapped", "quenched", "draw", "seed", "sigma", "epsilon")
QUENCH = 2 / 3  # of the run, after which noise ends
NUM_TRACED = 48  # objectives kept of each run, evenly in the log of the step
DTYPE = jnp.float32  # of the flow; levels and what is measured at its end are float64


class Samples(NamedTuple):
    """What a cell keeps: samples in float64, the flow's in float32, and the known levels."""

    data: Dataset
    flow: Dataset
    levels: Levels
    step_size: Float[Array, ""]


class State(NamedTuple):
    """A flow, the step at which it reached its target (−1: not yet), and its trace."""

    flow: FlowState
    reached: Int[Array, ""]
    trace: Float[Array, " t"]


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      problems: each "name:sizes" (`flow_problems`).
      dims: of D, whose whole populations are added to them.
      num_draws: samples drawn of each problem.
      num_seeds: starts on each.
      lam: λ.
      num_particles, sigma: of the escapes; langevin_sigma of those by Langevin noise.
      epsilons, share: relative gaps to reach on the problems, with σ = share·ε.
      dimension_epsilon: the gap to reach on D.
      floor_sigmas, floor_particles: of the floors.
      num_steps, population_steps: of each run, at most, on the problems and on D.
      step_factor: multiplies the stable step.
      oracle: of the certificates.
    """

    problems: tuple[str, ...] = (
        "random:2:12", "random:2:16", "random:3:12", "random:3:16", "random:3:20", "apart:12"
    )  # fmt: skip
    dims: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    num_draws: int = 2
    num_seeds: int = 3
    lam: float = 1e-2
    num_particles: int = 1000
    sigma: float = 1e-3
    langevin_sigma: float = 1e-3
    epsilons: tuple[float, ...] = (0.1, 0.06, 0.03, 0.02, 0.01, 0.005, 0.003)
    share: float = 0.1
    dimension_epsilon: float = 0.01
    floor_sigmas: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    floor_particles: tuple[int, ...] = (100, 1000)
    num_steps: int = 30_000
    population_steps: int = 10_000
    step_factor: float = 1.0
    oracle: str = "auto"

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("problems", lambda text: bool(parsed(text)), "problems")
        check("dims", lambda d: d >= 3, "at least 3")
        for name in ("lam", "step_factor", "share", "dimension_epsilon", "epsilons"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("sigma", "langevin_sigma", "floor_sigmas"):
            check(name, lambda v: 0 <= v < np.inf, "at least 0 and finite")
        counts = ("num_draws", "num_seeds", "num_particles", "floor_particles")
        for name in (*counts, "num_steps", "population_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        check("oracle", *configs.one_of(("auto", *oracles.KINDS)))

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        problems=("random:2:6",), dims=(3, 5), num_draws=1, num_seeds=1, num_particles=200,
        sigma=5e-3, epsilons=(0.3, 0.1), dimension_epsilon=0.1, floor_sigmas=(1e-3, 1e-1),
        floor_particles=(200,), num_steps=3000, population_steps=3000,
    ),
    "laptop": dict(
        problems=("random:2:12", "random:3:12", "random:3:20", "apart:12"), dims=(3, 4, 5, 6, 8),
        num_draws=1, num_seeds=2,
    ),
    "thorough": {},
    "full": dict(
        problems=(
            *(f"random:{dim}:{n}" for dim in (2, 3, 4) for n in (12, 16, 20)),
            "apart:12", "apart:18",
        ),
        dims=(3, 4, 5, 6, 7, 8, 9, 10), num_draws=10, num_seeds=10, num_particles=10_000,
        floor_particles=(100, 1000, 10_000), num_steps=200_000, population_steps=50_000,
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple]:
    """The coordinates of every cell, in the order of `AXIS`."""
    m, seeds = config.num_particles, range(config.num_seeds)
    populations = [f"D:{dim}" for dim in config.dims]
    sets = [(text, number) for text in config.problems for number in range(config.num_draws)]
    sets += [(text, 0) for text in populations]
    first = [(text, 0) for text in (*config.problems, *populations)]

    def escapes(text: str, number: int) -> Iterator[tuple]:
        runs = [("resample", True, False, sigma) for sigma in (0.0, config.sigma)]
        runs += [("resample", trapped, True, config.sigma) for trapped in (True, False)]
        runs += [("resample", False, False, 0.0)]
        if (text, number) in first and parsed(text).dim <= MAX_RANK:
            runs += [("langevin", True, True, config.langevin_sigma)]
        for noise, trapped, quenched, sigma in runs:
            yield from ((text, noise, m, trapped, quenched, number, s, sigma, 0.0) for s in seeds)

    def arrivals(text: str) -> Iterator[tuple]:
        epsilons = (config.dimension_epsilon,) if text in populations else config.epsilons
        for epsilon in epsilons:
            run = (text, "resample", m, True, False, 0)
            yield from ((*run, seed, config.share * epsilon, epsilon) for seed in seeds)

    def floors(text: str) -> Iterator[tuple]:
        for number in config.floor_particles:
            for sigma in config.floor_sigmas:
                run = (text, "resample", number, False, False, 0)
                yield from ((*run, seed, sigma, 0.0) for seed in seeds)

    rows = [row for text, number in sets for row in escapes(text, number)]
    rows += [row for text, _ in first for row in arrivals(text)]
    rows += [row for text in (config.problems[0], populations[0]) for row in floors(text)]
    return rows


def cell(config: Config) -> Cell:
    """The cell of one flow: objectives, levels, iterations, and what its particles look like."""

    def flow_of(point: Point) -> flows.Flow:
        is_population = parsed(point["dataset"]).name == "D"
        steps = config.population_steps if is_population else config.num_steps
        return flows.Flow(noise=point["noise"], num_steps=steps)

    def prepare(point: Point) -> tuple[Samples, State]:
        problem = parsed(point["dataset"])
        samples = flow_problems.draw(problem, point["draw"])
        levels = flow_problems.levels(problem, samples, config.lam, config.oracle)
        step_size = config.step_factor * flows.stable_step(samples, config.lam)
        start_key, key = jax.random.split(jax.random.key(point["seed"]))
        trapped, free = (
            flow_problems.start(problem, name, start_key, point["num_particles"])
            for name in (problem.trap, "uniform")
        )
        start = jnp.where(point["trapped"], trapped, free)
        state = flows.init(start.astype(DTYPE), key)
        trace = jnp.full(NUM_TRACED, UNKNOWN, DTYPE)
        context = Samples(samples, optax.tree.cast(samples, DTYPE), levels, step_size)
        return context, State(state, jnp.int32(-1), trace)

    def knobs_of(point: Point, context: Samples) -> flows.Knobs:
        steps = flow_of(point).num_steps
        noisy = jnp.where(point["quenched"], int(QUENCH * steps), flows.FOREVER)
        return flows.knobs(config.lam, context.step_size, point["sigma"], noisy, DTYPE)

    def advance(point: Point, context: Samples, state: State, num_steps: Array):
        flow, knobs = flow_of(point), knobs_of(point, context)
        target = ((1 + point["epsilon"]) * context.levels.minimum).astype(DTYPE)
        stops = point["epsilon"] > 0
        last = jnp.minimum(state.flow.step + num_steps, flow.num_steps)
        goes_on = lambda s: (s.flow.step < last) & ~(stops & (s.reached >= 0))
        one = lambda s: _step(flow, context.flow, knobs, target, s)
        state = jax.lax.while_loop(goes_on, one, state)
        return state, flows.is_done(flow, state.flow) | (stops & (state.reached >= 0))

    def finish(point: Point, context: Samples, state: State) -> dict[str, Array]:
        particles = state.flow.particles.astype(context.data.x.dtype)
        info = mean_field.measure(RELU, particles, context.data, config.lam)
        problem = parsed(point["dataset"])
        reached = state.reached.astype(context.data.x.dtype)
        return {
            **context.levels._asdict(),
            "objective": info.objective,
            "mass": info.mass,
            "spread": info.spread,
            "proved_gap": flow_problems.proved_gap(problem, context.data, config.lam, particles),
            "iterations": jnp.where(reached >= 0, reached, UNKNOWN),
            "step_size": context.step_size,
            "trace": state.trace,
        }

    return Cell(prepare, advance, finish, 5000, lambda point: flow_of(point).num_steps)


def _step(flow: flows.Flow, data: Dataset, knobs: flows.Knobs, target: Array, state: State):
    """One step, and what it tells: `reached` counts the steps before L was at the target."""
    new = flows.step(flow, data, knobs, state.flow)
    first = (state.reached < 0) & (new.objective <= target)
    reached = jnp.where(first, state.flow.step, state.reached)
    share = jnp.log1p(state.flow.step.astype(DTYPE)) / np.log1p(flow.num_steps)
    slot = (share * NUM_TRACED).astype(jnp.int32)
    return State(new, reached, state.trace.at[slot].set(new.objective))


def traced_steps(num_steps: int) -> np.ndarray:
    """The steps, about, at which the trace's entries were taken: the last of each slot."""
    return np.expm1((np.arange(NUM_TRACED) + 1) / NUM_TRACED * np.log1p(num_steps))


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: activations and their gradients."""
    problem = parsed(point["dataset"])
    return point["num_particles"] * (4 * 4 * problem.num_samples + 8 * 8 * (problem.dim + 1))


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
