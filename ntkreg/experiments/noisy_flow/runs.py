"""Noisy flows: data whose levels are certified, initial particles, and one flow from these."""

import dataclasses
import functools
import threading
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import certificates, data
from ntkreg._types import Array, Float, Int, PRNGKey
from ntkreg.certificates import oracles
from ntkreg.certificates.enumeration import MAX_RANK
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment
from ntkreg.sweeps import grid
from ntkreg.sweeps.programs import Point
from ntkreg.theory import closed_forms
from ntkreg.training import flows, mean_field
from ntkreg.training.flows import FlowState

QUENCH = 2 / 3  # of the run, after which noise ends
NUM_TRACED = 48  # objectives kept of each run, evenly in the log of the step
FINE = 3e-4  # gaps below which need shorter steps and float64
DTYPE = jnp.float32  # of the flow; levels and what is measured at its end are float64
APART_DIM = 3
# The kinds of data: how many sizes each has, and the smallest value of the last one.
DATASETS = {"random": (2, 2), "apart": (1, 6), "D": (1, 3)}
WANTED = "random:DIM:N, apart:N (N points in three dimensions) or D:DIM (its whole population)"


class Problem(NamedTuple):
    """A kind of data and its sizes."""

    name: str
    sizes: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Dimension of the samples."""
        return APART_DIM if self.name == "apart" else self.sizes[0]

    @property
    def num_samples(self) -> int:
        """Samples of the data set; of D all that the population has."""
        return 4 * 2 ** (self.dim - 2) if self.name == "D" else self.sizes[-1]

    @property
    def trap(self) -> str:
        """The initial particles that trap a flow without noise."""
        return "half_space" if self.name == "apart" else "one_sign"


def parsed(text: str) -> Problem:
    """The problem that "name:sizes" names.

    Raises:
      ValueError: where it names none.
    """
    name, *sizes = text.split(":")
    number, smallest = DATASETS.get(name, (-1, 0))
    good = number == len(sizes) and all(size.isdigit() for size in sizes)
    if not good or int(sizes[-1]) < smallest or int(sizes[0]) < 1:
        raise ValueError(f"problems must be {WANTED}, got {text!r}")
    return Problem(name, tuple(map(int, sizes)))


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      problems: each "name:sizes", as `parsed`.
      dims: of D, whose whole populations, 2^d points, are added to them.
      arrival_dims: of D, for the number of iterations against d.
      num_draws: samples drawn of each problem.
      num_seeds: flows on each.
      lam: λ.
      num_particles, sigma: of the escapes; langevin_sigma of those by Langevin noise.
      epsilons, share: relative gaps to reach on the problems, with σ = share·ε and, below
        ε = 3e-4, steps shorter in proportion: relu's kinks keep a flow of long steps from the rest.
      dimension_epsilon: the gap to reach on D.
      floor_sigmas, floor_particles: of the floors.
      num_steps, arrival_steps, population_steps: of each run, at most: of escapes and floors on the
        problems, of arrivals there, and on D.
      step_factor: multiplies the stable step.
      oracle: of the certificates.
    """

    problems: tuple[str, ...] = (
        "random:2:12", "random:2:16", "random:3:12", "random:3:16", "random:3:20", "apart:12"
    )  # fmt: skip
    dims: tuple[int, ...] = (3, 4, 5, 6, 7, 8)
    arrival_dims: tuple[int, ...] = (3, 4, 5, 6, 7, 8, 10, 12)
    num_draws: int = 2
    num_seeds: int = 3
    lam: float = 1e-2
    num_particles: int = 1000
    sigma: float = 1e-3
    langevin_sigma: float = 1e-3
    epsilons: tuple[float, ...] = (0.1, 0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4, 3e-5, 1e-5)
    share: float = 0.1
    dimension_epsilon: float = 0.01
    floor_sigmas: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
    floor_particles: tuple[int, ...] = (100, 1000)
    num_steps: int = 30_000
    arrival_steps: int = 5_000_000
    population_steps: int = 10_000
    step_factor: float = 1.0
    oracle: str = "auto"

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("problems", lambda text: bool(parsed(text)), "problems")
        for name in ("dims", "arrival_dims"):
            check(name, lambda d: d >= 3, "at least 3")
        for name in ("lam", "step_factor", "share", "dimension_epsilon", "epsilons"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("sigma", "langevin_sigma", "floor_sigmas"):
            check(name, lambda v: 0 <= v < np.inf, "at least 0 and finite")
        counts = ("num_draws", "num_seeds", "num_particles", "floor_particles")
        for name in (*counts, "num_steps", "arrival_steps", "population_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        check("oracle", *_experiment.one_of(("auto", *oracles.KINDS)))


# smoke: seconds. laptop, thorough: minutes on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        problems=("random:2:6",), dims=(3, 5), arrival_dims=(3, 5), num_draws=1, num_seeds=1,
        num_particles=200, sigma=5e-3, epsilons=(0.3, 0.1), dimension_epsilon=0.1,
        floor_sigmas=(1e-3, 1e-1), floor_particles=(200,), num_steps=3000, arrival_steps=3000,
        population_steps=3000,
    ),
    "laptop": dict(
        problems=("random:2:12", "random:3:12", "apart:12"), dims=(3, 4, 5, 6),
        arrival_dims=(3, 4, 6, 8), epsilons=(0.1, 0.03, 0.01, 0.003, 0.001),
        arrival_steps=100_000, num_draws=1, num_seeds=2,
    ),
    "thorough": {},
    "full": dict(
        problems=(
            *(f"random:{dim}:{n}" for dim in (2, 3, 4) for n in (12, 16, 20)),
            "apart:12", "apart:18",
        ),
        dims=(3, 4, 5, 6, 7, 8, 9, 10), arrival_dims=(3, 4, 6, 8, 10, 12, 14, 16),
        num_draws=10, num_seeds=10, num_particles=10_000,
        floor_particles=(100, 1000, 10_000), num_steps=200_000, population_steps=50_000,
    ),
}  # fmt: skip


def points(config: Config) -> list[Point]:
    """Every flow: escapes on all sets, then arrivals and floors on the first draw of each."""
    populations = [f"D:{dim}" for dim in config.dims]
    sets = [(text, draw) for text in config.problems for draw in range(config.num_draws)]
    sets += [(text, 0) for text in populations]
    found = [flow for text, draw in sets for flow in _escapes(config, text, draw)]
    found += [
        _flow(config, "arrival", text, start=parsed(text).trap, sigma=config.share * epsilon)
        | dict(epsilon=epsilon)
        for text in (*config.problems, *(f"D:{dim}" for dim in config.arrival_dims))
        for epsilon in (
            (config.dimension_epsilon,) if parsed(text).name == "D" else config.epsilons
        )
    ]
    found += [
        _flow(config, "floor", text, sigma=sigma, num_particles=number)
        for text in (config.problems[0], populations[0])
        for number in config.floor_particles
        for sigma in config.floor_sigmas
    ]
    return [flow | seed for flow in found for seed in grid(seed=range(config.num_seeds))]


def _flow(config: Config, part: str, text: str, draw: int = 0, **options: Any) -> Point:
    usual = dict(
        start="uniform", noise="resample", sigma=config.sigma, num_particles=config.num_particles,
        epsilon=0.0, unit="relu",
    )  # fmt: skip
    return dict(part=part, dataset=text, draw=draw) | usual | options


def _escapes(config: Config, text: str, draw: int) -> list[Point]:
    """From the trap without noise, with it, and with a quench; from uniform particles.

    Of soft units too, which are differentiable, as the theorem requires.
    """
    flow = functools.partial(_flow, config, "escape", text, draw)
    trap, quenched = parsed(text).trap, dict(noise="resample, quenched")
    found = [flow(start=trap, noise="none", sigma=0.0), flow(start=trap)]
    found += [flow(start=trap, **quenched), flow(**quenched), flow(noise="none", sigma=0.0)]
    if draw == 0 and parsed(text).dim <= MAX_RANK:
        options = dict(noise="langevin, quenched", sigma=config.langevin_sigma)
        found += [flow(start=trap, **options)]
    if draw == 0 and parsed(text).name == "random":  # a half-space is no trap of soft units
        soft = dict(unit="soft_relu")
        found += [flow(start=trap, noise="none", sigma=0.0, **soft), flow(**quenched, **soft)]
        found += [flow(start=trap, **quenched, **soft)]
    return found


def run(
    config: Config, part: str, dataset: str, draw: int, start: str, noise: str, sigma: float,
    num_particles: int, epsilon: float, unit: str, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """What is known of a set, and what a flow on it ends with.

    Returns:
      dim, num_samples; objective, mass, spread: of the particles at the end; of relu units, whose
      levels are certified, minimum, minimum_gap, trap_level, proved: see `Levels`; final_gap,
      trap_gap: the objective over the minimum and over the trap's level, less 1; proved_gap: see
      `proved_gap`, to rank 4; iterations: steps
      before L was at most (1 + ε) times the minimum, where it was; step_size; and trace: steps,
      about, and L at these.
    """
    problem = parsed(dataset)
    samples, levels = known(problem, draw, config.lam, config.oracle)
    start_key, key = jax.random.split(jax.random.key(seed))
    particles = initial_particles(problem, start, start_key, num_particles)
    num_steps = config.population_steps if problem.name == "D" else config.num_steps
    is_arrival, dtype = part == "arrival", DTYPE
    if is_arrival and problem.name != "D":
        num_steps = config.arrival_steps
        dtype = DTYPE if epsilon >= FINE else samples.x.dtype
    kind, _, quench = noise.partition(", ")
    model = mean_field.Model(unit)
    flow = flows.Flow(
        model=model, noise="langevin" if kind == "langevin" else "resample", num_steps=num_steps
    )
    step_size = config.step_factor * flows.stable_step(samples, config.lam)
    step_size *= min(1.0, epsilon / FINE) if is_arrival else 1.0
    end = _followed(
        flow, optax.tree.cast(samples, dtype), particles.astype(dtype), key, config.lam, step_size,
        sigma, int(QUENCH * num_steps) if quench else flows.FOREVER,
        (1 + epsilon) * levels.minimum if is_arrival else 0.0,
    )  # fmt: skip
    particles = end.flow.particles.astype(samples.x.dtype)
    info, slopes = _measured(model, samples, config.lam, particles)
    is_traced = ~np.isnan(end.trace)
    found = {
        "dim": problem.dim,
        "num_samples": problem.num_samples,
        "objective": info.objective,
        "mass": info.mass,
        "spread": info.spread,
        "step_size": step_size,
        "trace": np.stack([traced_steps(num_steps), end.trace])[:, is_traced].astype(np.float32),
    }
    if unit != "relu":
        return found
    found |= levels._asdict()
    found |= {
        "final_gap": info.objective / levels.minimum - 1,
        "trap_gap": info.objective / levels.trap_level - 1,
    }
    if problem.dim <= MAX_RANK and np.isfinite(info.objective):
        found["proved_gap"] = proved_gap(samples, config.lam, info, slopes)
    if end.reached >= 0:
        found["iterations"] = end.reached
    return found


class Followed(NamedTuple):
    """A flow, the step at which it reached its target (−1: not yet), and its trace."""

    flow: FlowState
    reached: Int[Array, ""]
    trace: Float[Array, " t"]


@functools.partial(jax.jit, static_argnames="flow")
def _followed(
    flow: flows.Flow, samples: Dataset, particles: Array, key: PRNGKey, lam, step_size, sigma,
    noisy_steps, target,
) -> Followed:  # fmt: skip
    """The flow at its end, or where L is at the target."""
    dtype = particles.dtype
    settings = flows.settings(lam, step_size, sigma, noisy_steps, dtype)
    target = jnp.asarray(target, dtype)

    def step(state: Followed) -> Followed:
        new, before = flows.step(flow, samples, settings, state.flow), state.flow.step
        reached = jnp.where(new.objective <= target, before, -1)
        share = jnp.log1p(before.astype(dtype)) / np.log1p(flow.num_steps)
        slot = (share * NUM_TRACED).astype(jnp.int32)
        return Followed(new, reached, state.trace.at[slot].set(new.objective))

    goes_on = lambda s: ~flows.is_done(flow, s.flow) & (s.reached < 0)
    trace = jnp.full(NUM_TRACED, jnp.nan, dtype)
    begun = Followed(flows.init(particles, key), jnp.int32(-1), trace)
    return jax.lax.while_loop(goes_on, step, begun)


@functools.partial(jax.jit, static_argnames="model")
def _measured(
    model: mean_field.Model, samples: Dataset, lam, particles: Array
) -> tuple[mean_field.Info, Array]:
    """What there is to say of the particles, and the slopes of the mean loss at the samples."""
    outputs = mean_field.outputs(model, particles, samples.x)
    info = mean_field.measure(model, particles, samples, lam)
    return info, mean_field.slopes(model, outputs, samples)


def proved_gap(samples: Dataset, lam: float, info: mean_field.Info, slopes: Array) -> float:
    """`mean_field.optimality_gap` over L with a proved minimum of L′, to rank 4."""
    oracle = oracles.make_oracle("enumerate", np.asarray(samples.x))
    largest = oracles.of_signs(oracle, np.asarray(slopes)).upper
    return float(mean_field.optimality_gap(info, lam - largest / 2, lam) / info.objective)


def traced_steps(num_steps: int) -> np.ndarray:
    """The steps, about, at which the trace's entries were taken: the last of each slot."""
    return np.expm1((np.arange(NUM_TRACED) + 1) / NUM_TRACED * np.log1p(num_steps))


# Problems ------------------------------------------------------------------------------------


class Levels(NamedTuple):
    """What is known of a problem, in F_λ.

    Attributes:
      minimum: the smallest L, by a network that has it.
      minimum_gap: its relative distance from the bound that proves it.
      trap_level: the smallest L of the networks in which a flow without noise is trapped, to that
        gap.
      proved: whether both are, or the bound is heuristic.
    """

    minimum: float
    minimum_gap: float
    trap_level: float
    proved: bool


def known(problem: Problem, draw: int, lam: float, oracle: str = "auto") -> tuple[Dataset, Levels]:
    """The samples of that draw, and their levels: computed once for all flows on them."""
    with _certifying:
        return _known(problem, draw, lam, oracle)


_certifying = threading.Lock()


@functools.cache
def _known(problem: Problem, draw: int, lam: float, oracle: str) -> tuple[Dataset, Levels]:
    samples = drawn(problem, draw)
    if problem.name == "D":
        minimum = closed_forms.population_minimum(lam)
        return samples, Levels(minimum, 0.0, closed_forms.population_one_sign_minimum(lam), True)
    whole = jax.device_get(samples)
    best = certificates.global_minimum(whole, lam, oracle=oracle)
    if problem.name == "apart":
        inside = num_in_plane(problem.num_samples)
        share = inside / problem.num_samples
        plane = Dataset(whole.x[:inside, :-1], whole.y[:inside])
        trap = certificates.global_minimum(plane, lam / share, oracle=oracle)
        level = share * trap.upper + (1 - share) * np.log(2.0)
    else:
        trap = certificates.global_minimum(whole, lam, oracle=oracle, output_sign=1)
        level = trap.upper
    proved = "heuristic" not in (best.kind, trap.kind)
    return samples, Levels(best.upper, max(best.gap, trap.gap), level, proved)


def drawn(problem: Problem, draw: int) -> Dataset:
    """The samples of that draw; D's population has but one."""
    if problem.name == "D":
        return data.noisy_xor_population(problem.dim)
    key = jax.random.fold_in(jax.random.key(draw), problem.num_samples)
    if problem.name == "random":
        return data.random_labels(key, problem.num_samples, problem.dim)
    return apart(key, problem.num_samples)


def apart(key: PRNGKey, num_samples: int) -> Dataset:
    """Two thirds of the points in a plane with random labels, the rest on a ray across it, +1.

    A unit with uᵀe₃ < 0 is off on the ray, and what it learns in the plane leaves uᵀe₃ to decay:
    the flow without noise never leaves the half-space, where f = 0 on the ray.
    """
    plane_key, ray_key = jax.random.split(key)
    inside = num_in_plane(num_samples)
    plane = data.random_labels(plane_key, inside, APART_DIM - 1)
    ray = jnp.abs(jax.random.normal(ray_key, (num_samples - inside,))) + 0.5
    x = jnp.zeros((num_samples, APART_DIM)).at[:inside, :-1].set(plane.x).at[inside:, -1].set(ray)
    return Dataset(x, jnp.concatenate([plane.y, jnp.ones(num_samples - inside)]))


def num_in_plane(num_samples: int) -> int:
    """How many of the points apart lie in the plane."""
    return num_samples - num_samples // 3


def initial_particles(
    problem: Problem, start: str, key: PRNGKey, num_particles: int
) -> Float[Array, "m p"]:
    """Particles on the unit sphere: one_sign, half_space or uniform."""
    if start == "one_sign":
        return mean_field.one_sign_start(key, num_particles, problem.dim)
    particles = mean_field.uniform_start(key, num_particles, problem.dim)
    if start == "half_space":
        particles = particles.at[:, -1].set(-jnp.abs(particles[:, -1]))
    return particles
