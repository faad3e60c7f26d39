"""Problems for flows of infinitely wide networks: data, starts that trap, and certified levels."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import certificates, data
from ntkreg._types import Array, Float, PRNGKey, Scalar
from ntkreg.certificates import oracles
from ntkreg.certificates.arrangements import MAX_RANK
from ntkreg.data.dataset import Dataset
from ntkreg.theory import closed_forms
from ntkreg.training import mean_field

STARTS = ("one_sign", "half_space", "uniform")
DATASETS = {"random": 2, "apart": 1, "D": 1}  # and how many sizes each takes
WANTED = "random:DIM:N, apart:N (N points in three dimensions) or D:DIM (its whole population)"
APART_DIM = 3
UNKNOWN = np.inf  # in columns that a cell does not have; NaN would mark it as diverged


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
        """The start that traps a flow without noise."""
        return "half_space" if self.name == "apart" else "one_sign"


class Levels(NamedTuple):
    """What is known of a problem, in F_λ.

    Attributes:
      minimum: the least L, by a network that has it.
      minimum_gap: its relative distance from the bound that proves it.
      trap: the least L of the networks in which a flow without noise is trapped, to that gap.
      proved: 1 where both are, 0 where the bound is heuristic.
    """

    minimum: Float[Array, ""]
    minimum_gap: Float[Array, ""]
    trap: Float[Array, ""]
    proved: Float[Array, ""]


def parsed(text: str) -> Problem:
    """The problem that "name:sizes" names.

    Raises:
      ValueError: where it names none.
    """
    name, *sizes = text.split(":")
    good = DATASETS.get(name) == len(sizes) and all(size.isdigit() for size in sizes)
    least = {"random": 2, "apart": 6, "D": 3}
    if not good or int(sizes[-1]) < least[name] or int(sizes[0]) < 1:
        raise ValueError(f"problems must be {WANTED}, got {text!r}")
    return Problem(name, tuple(map(int, sizes)))


def draw(problem: Problem, number: Scalar) -> Dataset:
    """The samples of that number; D's population has but one."""
    if problem.name == "D":
        return data.noisy_xor_population(problem.dim)
    key = jax.random.fold_in(jax.random.key(number), problem.num_samples)
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


def start(problem: Problem, name: str, key: PRNGKey, num_particles: int) -> Float[Array, "m p"]:
    """Particles on the unit sphere: one of `STARTS`."""
    if name == "one_sign":
        return mean_field.one_sign_start(key, num_particles, problem.dim)
    particles = mean_field.uniform_start(key, num_particles, problem.dim)
    if name == "half_space":
        particles = particles.at[:, -1].set(-jnp.abs(particles[:, -1]))
    return particles


def levels(problem: Problem, samples: Dataset, lam: float, oracle: str = "auto") -> Levels:
    """What is known of the problem, as an operation on the host that a cell may call."""
    number = jax.ShapeDtypeStruct((), samples.x.dtype)

    def on_host(x, y) -> Levels:
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        found = _levels(problem, x.tobytes(), y.tobytes(), x.shape, lam, oracle)
        return Levels._make(np.asarray(value, number.dtype) for value in found)

    shapes = Levels._make([number] * len(Levels._fields))
    return jax.pure_callback(on_host, shapes, *samples, vmap_method="sequential")


@functools.cache
def _levels(problem: Problem, x: bytes, y: bytes, shape: tuple, lam: float, oracle: str) -> Levels:
    """Computed once for all cells on the same samples."""
    if problem.name == "D":
        least = closed_forms.population_minimum(lam)
        return Levels._make((least, 0.0, closed_forms.population_one_sign_minimum(lam), 1.0))
    samples = Dataset._make((np.frombuffer(x).reshape(shape), np.frombuffer(y)))
    minimum = certificates.global_minimum(samples, lam, oracle=oracle)
    if problem.name == "apart":
        inside = num_in_plane(problem.num_samples)
        share = inside / problem.num_samples
        plane = Dataset(samples.x[:inside, :-1], samples.y[:inside])
        trap = certificates.global_minimum(plane, lam / share, oracle=oracle)
        level = share * trap.upper + (1 - share) * np.log(2.0)
    else:
        trap = certificates.global_minimum(samples, lam, oracle=oracle, output_sign=1)
        level = trap.upper
    proved = "heuristic" not in (minimum.kind, trap.kind)
    return Levels._make((minimum.upper, max(minimum.gap, trap.gap), level, float(proved)))


def proved_gap(
    problem: Problem, samples: Dataset, lam: float, particles: Float[Array, "m p"]
) -> Float[Array, ""]:
    """`mean_field.optimality_gap` over L with a proved minimum of L′, to rank 4; unknown beyond."""
    if problem.dim > MAX_RANK:
        return jnp.full((), UNKNOWN)
    info = mean_field.measure(mean_field.RELU, particles, samples, lam)
    outputs = mean_field.outputs(mean_field.RELU, particles, samples.x)
    slopes = mean_field.slopes(mean_field.RELU, outputs, samples)
    number = jax.ShapeDtypeStruct((), samples.x.dtype)

    def lowest(x, c):
        x, c = np.asarray(x, np.float64), np.asarray(c, np.float64)
        if not np.isfinite(c).all():  # a flow that diverged
            return np.asarray(np.nan, number.dtype)
        ask = oracles.make_oracle("enumerate", x)
        largest = oracles.of_signs(ask, c).upper
        return np.asarray(lam - largest / 2, number.dtype)

    found = jax.pure_callback(lowest, number, samples.x, slopes, vmap_method="sequential")
    return mean_field.optimality_gap(info, found, lam) / info.objective
