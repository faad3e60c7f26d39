"""What the experiment on finite width runs: gradient descent, its certified aim, and the cure.

All sizes are repeated to the same number of rows, which changes neither F_λ nor its gradient, so
that few programs serve all.
"""

import functools
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import certificates, data
from ntkreg._types import Array, Float, Params, PRNGKey, Scalar
from ntkreg.certificates import insertion
from ntkreg.certificates.insertion import Insertion
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network, fully_connected
from ntkreg.sweeps import Point
from ntkreg.training import flows, mean_field
from ntkreg.training.flows import FlowState
from ntkreg.training.paths import Path
from ntkreg.training.trainers import Trainer

GD, ADAM, CURE = "gradient descent", "adam", "insertion"
TOLERANCE = 1e-3  # relative gap to the certified minimum within which a run is global
STALL_STEPS, STALL = 2000, 1e-6  # a fall of L by less, relative, in so many steps ends a run
SETTLING = (0.1, 0.01)  # steps, relative, at which the last of gradient descent settles on kinks
SETTLING_STEPS = 1000
QUENCH = 2 / 3  # of the run, after which noise ends
SPARE = 64  # zero neurons to which insertion may give a direction
DTYPE = jnp.float32  # of the training; levels and gaps are float64


class Sizes(Protocol):
    """The fields of the experiment's Config that are read here."""

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def gd_steps(self) -> int: ...

    @property
    def round_steps(self) -> int: ...

    @property
    def round_rate(self) -> float: ...

    @property
    def finish_steps(self) -> int: ...

    @property
    def oracle(self) -> str: ...


class Known(NamedTuple):
    """The certified minimum of F_λ, its relative gap, its neurons, and whether it is proved."""

    minimum: Float[Array, ""]
    minimum_gap: Float[Array, ""]
    neurons: Float[Array, ""]
    proved: Float[Array, ""]


class Run(NamedTuple):
    """One run of gradient descent: the flow, L at the last look for a stall, whether it is over."""

    flow: FlowState
    mark: Float[Array, ""]
    over: Array


def samples_of(config: Sizes, rank: int, num_samples: Scalar, draw: Scalar) -> Dataset:
    """The data set of that size and number, repeated to as many rows as the largest has."""
    rows = max(config.sizes)

    def repeated(size: int) -> Dataset:
        key = jax.random.fold_in(jax.random.key(draw), size)
        drawn = data.random_labels(key, size, rank)
        return jax.tree.map(lambda a: jnp.tile(a, (rows // size,) + (1,) * (a.ndim - 1)), drawn)

    which = jnp.argmax(jnp.asarray(config.sizes) == num_samples)
    return jax.tree.map(lambda *of_sizes: jnp.stack(of_sizes)[which], *map(repeated, config.sizes))


def known(config: Sizes, samples: Dataset, num_samples: Scalar, lam: Scalar) -> Known:
    """What is certified of the samples, computed once for all cells on them."""
    number = jax.ShapeDtypeStruct((), samples.x.dtype)

    def on_host(x, y, n, lam) -> Known:
        x, y = (np.asarray(a[: int(n)], np.float64) for a in (x, y))
        found = _known(x.tobytes(), y.tobytes(), x.shape, float(lam), config.oracle)
        return Known._make(np.asarray(value, number.dtype) for value in found)

    shapes = Known._make([number] * len(Known._fields))
    return jax.pure_callback(on_host, shapes, *samples, num_samples, lam, vmap_method="sequential")


@functools.cache
def _known(x: bytes, y: bytes, shape: tuple, lam: float, oracle: str) -> Known:
    samples = Dataset._make((np.frombuffer(x).reshape(shape), np.frombuffer(y)))
    found = certificates.global_minimum(samples, lam, oracle=oracle)
    first, last = found.primal
    mass = np.sum(first**2, axis=0) + last[:, 0] ** 2
    neurons = np.sum(mass > 1e-6 * mass.sum())
    return Known._make((found.upper, found.gap, neurons, float(found.kind != "heuristic")))


def start(key: PRNGKey, width: int, rank: int, scale: Scalar) -> Float[Array, "m p"]:
    """Particles on the sphere of that radius: ‖Θ‖ is the scale at every width."""
    return mean_field.uniform_start(key, width, rank) * scale


def descended(
    config: Sizes, point: Point, samples: Dataset, minimum: Array, run: Run, num_steps: Array
) -> Run:
    """Gradient descent so many steps on, or until it is global, has stalled or is at its end."""
    flow = flows.Flow(num_steps=config.gd_steps)
    target = ((1 + TOLERANCE) * minimum).astype(DTYPE)
    noisy = jnp.where(point["noise"] > 0, int(QUENCH * config.gd_steps), 0)
    step_size = flows.stable_step(samples, point["lam"])
    knobs = flows.knobs(point["lam"], step_size, point["noise"], noisy, DTYPE)
    last = jnp.minimum(run.flow.step + num_steps, config.gd_steps)

    def one(run: Run) -> Run:
        new = flows.step(flow, samples, knobs, run.flow)
        looks = (new.step % STALL_STEPS == 0) & (new.step > noisy)
        stalled = looks & ~(new.objective < (1 - STALL) * run.mark)
        over = stalled | (new.objective <= target) | (new.step >= config.gd_steps)
        return Run(new, jnp.where(looks, new.objective, run.mark), over)

    return jax.lax.while_loop(lambda r: (r.flow.step < last) & ~r.over, one, run)


def settled(point: Point, samples: Dataset, run: Run) -> Params:
    """The network at the end of a run, after some smaller steps: on kinks larger ones go around."""
    flow = flows.Flow(num_steps=SETTLING_STEPS)
    particles, step_size = run.flow.particles, flows.stable_step(samples, point["lam"])
    for factor in SETTLING:
        knobs = flows.knobs(point["lam"], factor * step_size, dtype=DTYPE)
        state = run.flow._replace(particles=particles, step=jnp.int32(0))
        particles = flows.advance(flow, samples, knobs, state, SETTLING_STEPS).particles
    return mean_field.as_network(particles)


def gap_of(network: Network, samples: Dataset, lam: Scalar, level: Known, params: Params) -> Array:
    """F_λ over the certified minimum, less 1."""
    loss = jnp.mean(jax.nn.softplus(-samples.y * network.apply(params, samples.x)))
    return (loss + lam * optax.tree.norm(params, squared=True)) / level.minimum - 1


def cure(
    config: Sizes, point: Point, samples: Dataset, level: Known, params: Params
) -> tuple[Array, Array]:
    """(gap, insertions) at the end of training from this network with insertions."""
    network = fully_connected(2, point["width"] + SPARE)
    path = Path(Trainer(network, num_steps=config.round_steps), config.finish_steps)
    fixed = Insertion(path, config.oracle)
    lam, rate = jnp.asarray(point["lam"], samples.x.dtype), config.round_rate
    state = insertion.begin(fixed, samples, lam, rate, insertion.with_spare(params, SPARE))
    more = lambda s: insertion.insert(fixed, samples, lam, rate, s)
    state = jax.lax.while_loop(lambda s: ~s.over, more, state)
    gap = state.objective / level.minimum - 1
    return gap, state.insertions.astype(gap.dtype)
