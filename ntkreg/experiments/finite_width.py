"""The open question: does gradient descent reach the global optimum at finite width?

Two-layer networks of growing width are trained on F_λ from many starts, by gradient descent at the
stable step, with and without the resampling noise of the infinite-width theory, and by Adam; each
run's end is told apart as global (within 1e-3 of the certified minimum), stationary but not global,
or unfinished. Those that narrow networks fail are then continued by `insertion`, the cure.

All sizes are repeated to the same number of rows, which changes neither F_λ nor its gradient, so
that few programs serve all.

Source: the slides' last line; Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, for infinite width.
"""

import dataclasses
import functools
import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import certificates, data, flows, insertion, mean_field, oracles, timing, trainers
from ntkreg._types import Array, Float, Params, PRNGKey, PyTree, Scalar
from ntkreg.data import Dataset
from ntkreg.experiments import configs
from ntkreg.flows import FlowState
from ntkreg.insertion import Insertion
from ntkreg.networks import fully_connected
from ntkreg.paths import Path
from ntkreg.records import Record
from ntkreg.stationarity import log_residual
from ntkreg.sweeps import Cell, Point
from ntkreg.trainers import Trainer

STATIC = ("rank", "width", "optimizer")
AXIS = (*STATIC, "num_samples", "lam", "noise", "init_scale", "draw")
GD, ADAM, CURE = "gradient descent", "adam", "insertion"
TOLERANCE = 1e-3  # relative gap to the certified minimum within which a run is global
STALL_STEPS, STALL = 2000, 1e-6  # a fall of L by less, relative, in so many steps ends a run
SETTLING = (0.1, 0.01)  # steps, relative, at which the last of gradient descent settles on kinks
SETTLING_STEPS = 1000
QUENCH = 2 / 3  # of the run, after which noise ends
SPARE = 48  # zero neurons to which insertion may give a direction
DTYPE = jnp.float32  # of the training; levels and gaps are float64


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


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      ranks: of the random data; the first with all sizes, the others with `focus_size` alone.
      sizes: numbers of samples, all divisors of the largest.
      widths, gd_widths: of the networks that Adam and gradient descent train.
      lams: λ; gradient descent runs at the first, and at the others with `focus_size` alone.
      init_scales: of the start, the first throughout, the others with `focus_size` alone.
      noises: σ of gradient descent's resampling, 0 among them.
      focus_size: the size at which what is asked once is asked.
      num_draws: data sets of each size.
      num_starts: of each network on each.
      gd_steps: of gradient descent, at most; adam_steps, learning_rate: of Adam.
      cured_width: of the networks that insertion continues; cured_starts of them on each data set.
      round_steps, finish_steps: of Adam and L-BFGS after each insertion; round_rate of that Adam, a
        low one, since others leap out of what the new neuron gains.
      oracle: of the certificates.
    """

    ranks: tuple[int, ...] = (3, 2)
    sizes: tuple[int, ...] = (8, 12, 16, 24, 48)
    widths: tuple[int, ...] = (2, 4, 8, 16, 32, 64, 128)
    gd_widths: tuple[int, ...] = (2, 4, 8, 16, 32)
    lams: tuple[float, ...] = (1e-2, 1e-3)
    init_scales: tuple[float, ...] = (1.0, 0.1, 3.0)
    noises: tuple[float, ...] = (0.0, 3e-3)
    focus_size: int = 16
    num_draws: int = 5
    num_starts: int = 5
    gd_steps: int = 20_000
    adam_steps: int = 3000
    learning_rate: float = 0.05
    cured_width: int = 4
    cured_starts: int = 3
    round_steps: int = 1500
    round_rate: float = 0.005
    finish_steps: int = 50
    oracle: str = "auto"

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        divides = lambda n: n >= 2 and max(self.sizes) % n == 0
        check("sizes", divides, "at least 2, and divisors of the largest")
        check("focus_size", lambda n: n in self.sizes, f"one of sizes={self.sizes}")
        for name in ("lams", "init_scales", "learning_rate", "round_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("noises", lambda v: 0 <= v < np.inf, "at least 0 and finite")
        counts = (
            "ranks",
            "widths",
            "gd_widths",
            "num_draws",
            "num_starts",
            "cured_width",
            "cured_starts",
        )
        for name in (*counts, "gd_steps", "adam_steps", "round_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        check("finish_steps", lambda v: v >= 0, "at least 0")
        check("oracle", *configs.one_of(("auto", *oracles.KINDS)))

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: some six minutes on two cores. full: hours, or many cores."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        ranks=(2,), sizes=(4, 8), widths=(2, 32), gd_widths=(2, 32), lams=(2e-2,),
        init_scales=(1.0,), focus_size=8, num_draws=1, num_starts=2, gd_steps=3000, adam_steps=500, cured_width=2, cured_starts=1,
        round_steps=500, finish_steps=10,
    ),
    "laptop": {},
    "full": dict(
        widths=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
        gd_widths=(2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128), num_draws=20,
        num_starts=50, gd_steps=300_000, adam_steps=20_000, cured_starts=20,
        lams=(1e-2, 1e-3, 1e-4),
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple]:
    """The coordinates of every cell, in the order of `AXIS`."""
    rank, lam, scale = config.ranks[0], config.lams[0], config.init_scales[0]
    focus = config.focus_size
    # What is asked: (number of samples, λ, noise, initial scale), for all widths of an optimizer.
    adam = [(n, one, 0.0, scale) for n in config.sizes for one in config.lams]
    gd = [(n, lam, noise, scale) for n in config.sizes for noise in config.noises]
    gd += [(focus, one, 0.0, scale) for one in config.lams[1:]]
    scales = [(focus, lam, 0.0, other) for other in config.init_scales[1:]]
    others = [(focus, lam, 0.0, scale)]
    groups = [
        ((rank,), ADAM, config.widths, adam + scales),
        ((rank,), GD, config.gd_widths, gd + scales),
        (config.ranks[1:], ADAM, config.widths, others),
        (config.ranks[1:], GD, config.gd_widths, others),
        ((rank,), CURE, (config.cured_width,), adam),
    ]
    rows = [
        (one, width, optimizer, *run, draw)
        for ranks, optimizer, widths, runs in groups
        for one in ranks
        for run in runs
        for width in widths
        for draw in range(config.num_draws)
    ]
    return list(dict.fromkeys(rows))


def samples_of(config: Config, rank: int, num_samples: Scalar, draw: Scalar) -> Dataset:
    """The data set of that size and number, repeated to as many rows as the largest has."""
    rows = max(config.sizes)

    def repeated(size: int) -> Dataset:
        key = jax.random.fold_in(jax.random.key(draw), size)
        drawn = data.random_labels(key, size, rank)
        return jax.tree.map(lambda a: jnp.tile(a, (rows // size,) + (1,) * (a.ndim - 1)), drawn)

    which = jnp.argmax(jnp.asarray(config.sizes) == num_samples)
    return jax.tree.map(lambda *of_sizes: jnp.stack(of_sizes)[which], *map(repeated, config.sizes))


def known(config: Config, samples: Dataset, num_samples: Scalar, lam: Scalar) -> Known:
    """What is certified of the samples, computed once for all cells on them."""
    number = jax.ShapeDtypeStruct((), samples.x.dtype)

    def on_host(x, y, n, lam) -> Known:
        x, y = (np.asarray(a[: int(n)], np.float64) for a in (x, y))
        found = _known(x.tobytes(), y.tobytes(), x.shape, float(lam), config.oracle)
        return Known(*(np.asarray(value, number.dtype) for value in found))

    shapes = Known(*[number] * len(Known._fields))
    return jax.pure_callback(on_host, shapes, *samples, num_samples, lam, vmap_method="sequential")


@functools.cache
def _known(x: bytes, y: bytes, shape: tuple, lam: float, oracle: str) -> Known:
    samples = Dataset(np.frombuffer(x).reshape(shape), np.frombuffer(y))
    found = certificates.global_minimum(samples, lam, oracle=oracle)
    first, last = found.primal
    mass = np.sum(first**2, axis=0) + last[:, 0] ** 2
    neurons = np.sum(mass > 1e-6 * mass.sum())
    return Known(found.upper, found.gap, neurons, float(found.kind != "heuristic"))


def start(key: PRNGKey, width: int, rank: int, scale: Scalar) -> Float[Array, "m p"]:
    """Particles on the sphere of that radius: ‖Θ‖ is the scale at every width."""
    return scale * mean_field.uniform_start(key, width, rank)


def cell(config: Config) -> Cell:
    """The cell of one network and data set: gaps and residuals of all its starts."""

    def prepare(point: Point) -> tuple[PyTree, PyTree]:
        samples = samples_of(config, point["rank"], point["num_samples"], point["draw"])
        level = known(config, samples, point["num_samples"], point["lam"])
        context = (samples, optax.tree.cast(samples, DTYPE), level)
        key = jax.random.fold_in(jax.random.key(point["draw"]), point["num_samples"])
        keys = jax.random.split(jax.random.fold_in(key, point["width"]), _num_starts(config, point))
        begun = jax.vmap(lambda key: _begun(config, point, key))(keys)
        return context, begun

    def advance(point: Point, context: PyTree, state: PyTree, num_steps: Array):
        _, samples, level = context
        if point["optimizer"] == GD:
            one = lambda run: descended(config, point, samples, level.minimum, run, num_steps)
            state = jax.lax.map(one, state)
            return state, jnp.all(state.over)
        trainer, knobs = _adam(config, point), _knobs(config, point)
        one = lambda s: trainers.advance(trainer, samples, knobs, s, num_steps)
        state = jax.lax.map(one, state)
        return state, jnp.all(jax.vmap(lambda s: trainers.is_done(trainer, knobs, s))(state))

    def finish(point: Point, context: PyTree, state: PyTree) -> dict[str, Array]:
        samples, fast, level = context
        params = (
            state.params
            if point["optimizer"] != GD
            else jax.lax.map(lambda run: settled(point, fast, run), state)
        )
        params = jax.tree.map(lambda p: p.astype(samples.x.dtype), params)
        network = fully_connected(2, point["width"])
        measured = Trainer(network)
        log_lam = jnp.log(point["lam"])
        at = lambda p: _gap(network, samples, point["lam"], level, p)
        gaps = jax.lax.map(at, params)
        residual = lambda p: log_residual(measured, samples, log_lam, p)
        asked = lambda gap, p: jax.lax.cond(
            gap > TOLERANCE, residual, lambda p: jnp.full((), -np.inf), p
        )
        residuals = jax.lax.map(lambda entry: asked(*entry), (gaps, params))
        most = max(config.num_starts, config.cured_starts)
        unknown = jnp.full(most, np.inf, gaps.dtype)
        cured = insertions = unknown
        if point["optimizer"] == CURE:
            cured, insertions = jax.lax.map(
                lambda p: cure(config, point, samples, level, p), params
            )
        worst = jax.tree.map(lambda p: p[jnp.argmax(gaps)], params)
        filled = lambda a: unknown.at[: len(a)].set(a)
        return {
            **level._asdict(),
            "gaps": filled(gaps),
            "log_residuals": filled(residuals),
            "cured_gaps": filled(cured),
            "insertions": filled(insertions),
            "worst": _padded(config, mean_field.from_network(worst)),
        }

    def num_steps(point: Point) -> int:
        return config.gd_steps if point["optimizer"] == GD else config.adam_steps

    return Cell(prepare, advance, finish, 5000, num_steps)


def _num_starts(config: Config, point: Point) -> int:
    return config.cured_starts if point["optimizer"] == CURE else config.num_starts


def _adam(config: Config, point: Point) -> Trainer:
    network = fully_connected(2, point["width"])
    return Trainer(network, descend="plain", num_steps=config.adam_steps)


def _knobs(config: Config, point: Point) -> trainers.Knobs:
    return trainers.knobs(point["lam"], config.learning_rate, DTYPE)


def _begun(config: Config, point: Point, key: PRNGKey) -> PyTree:
    start_key, key = jax.random.split(key)
    begun = start(start_key, point["width"], point["rank"], point["init_scale"]).astype(DTYPE)
    if point["optimizer"] == GD:
        return Run(flows.init(begun, key), jnp.asarray(np.inf, DTYPE), jnp.asarray(False))
    return trainers.init(_adam(config, point), mean_field.as_network(begun))


def descended(
    config: Config, point: Point, samples: Dataset, minimum: Array, run: Run, num_steps: Array
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


def _gap(network, samples: Dataset, lam: Scalar, level: Known, params: Params) -> Array:
    loss = jnp.mean(jax.nn.softplus(-samples.y * network.apply(params, samples.x)))
    return (loss + lam * optax.tree.norm(params, squared=True)) / level.minimum - 1


def cure(
    config: Config, point: Point, samples: Dataset, level: Known, params: Params
) -> tuple[Array, Array]:
    """(gap, insertions) at the end of training from this network with insertions."""
    first, last = params
    padded = jnp.pad(first, ((0, 0), (0, SPARE))), jnp.pad(last, ((0, SPARE), (0, 0)))
    network = fully_connected(2, point["width"] + SPARE)
    path = Path(Trainer(network, num_steps=config.round_steps), config.finish_steps)
    fixed = Insertion(path, config.oracle, max_insertions=SPARE)
    lam, rate = jnp.asarray(point["lam"], samples.x.dtype), config.round_rate
    state = insertion.begin(fixed, samples, lam, rate, padded)
    more = lambda s: insertion.insert(fixed, samples, lam, rate, s)
    state = jax.lax.while_loop(lambda s: ~s.over, more, state)
    gap = state.objective / level.minimum - 1
    return gap, state.insertions.astype(gap.dtype)


def _padded(config: Config, particles: Float[Array, "m p"]) -> Array:
    widest = max(*config.widths, *config.gd_widths, config.cured_width)
    missing = (widest - len(particles), max(config.ranks) + 1 - particles.shape[1])
    return jnp.pad(particles, [(0, number) for number in missing])


def memory_needed(config: Config) -> int:
    """Bytes that the largest cell holds at once: a start's parameters and activations."""
    width, rows = max(config.widths) + SPARE, max(config.sizes)
    return 8 * width * (math.prod((config.num_starts, 4, 5)) + 8 * rows + 100 * 5)


def check_memory(config: Config) -> None:
    """Raises ValueError, before anything runs, where the device is too small for the Config."""
    timing.check_memory(memory_needed(config), f"widths={config.widths}")


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`, after a look at the memory that they need."""
    check_memory(config)
    return configs.swept(config, grid(config), folder, batch_size=1)
