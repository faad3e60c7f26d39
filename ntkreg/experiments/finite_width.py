"""The open question: does gradient descent reach the global optimum at finite width?

Two-layer networks of growing width are trained on F_λ from many starts, by gradient descent at the
stable step, with and without the resampling noise of the infinite-width theory, and by Adam; each
run's end is told apart as global (within 1e-3 of the certified minimum), stationary but not global,
or unfinished. Those that narrow networks fail are then continued by `insertion`, the cure.

Source: the slides' last line; Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, for infinite width.
"""

import dataclasses
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg._types import Array, Float, PRNGKey, PyTree
from ntkreg.certificates import oracles
from ntkreg.experiments import configs
from ntkreg.experiments.finite_width_runs import (
    ADAM,
    CURE,
    DTYPE,
    GD,
    SPARE,
    TOLERANCE,
    Run,
    cure,
    descended,
    gap_of,
    known,
    samples_of,
    settled,
    start,
)
from ntkreg.networks.network import fully_connected
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import flows, mean_field, trainers
from ntkreg.training.stationarity import log_residual
from ntkreg.training.trainers import Trainer

STATIC = ("rank", "width", "optimizer")
AXIS = (*STATIC, "num_samples", "lam", "noise", "init_scale", "draw")


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
    cured_starts: int = 2
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
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        ranks=(2,), sizes=(4, 8), widths=(2, 32), gd_widths=(2, 32), lams=(2e-2,),
        init_scales=(1.0,), focus_size=8, num_draws=1, num_starts=2, gd_steps=3000,
        adam_steps=500, cured_width=2, cured_starts=1, round_steps=500, finish_steps=10,
    ),
    "laptop": dict(
        sizes=(8, 16, 32), widths=(2, 4, 8, 16, 32, 64, 128, 256), num_draws=3, num_starts=4
    ),
    "thorough": {},
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
        ((rank,), CURE, (config.cured_width,), adam),  # first: compiles longest
        ((rank,), ADAM, config.widths, adam + scales),
        ((rank,), GD, config.gd_widths, gd + scales),
        (config.ranks[1:], ADAM, config.widths, others),
        (config.ranks[1:], GD, config.gd_widths, others),
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
            down = lambda run: descended(config, point, samples, level.minimum, run, num_steps)
            state = jax.lax.map(down, state)
            return state, jnp.all(state.over)
        trainer, knobs = _adam(config, point), _knobs(config, point)
        one = lambda s: trainers.advance(trainer, samples, knobs, s, num_steps)
        state = jax.lax.map(one, state)
        return state, jnp.all(jax.vmap(lambda s: trainers.is_done(trainer, knobs, s))(state))

    def finish(point: Point, context: PyTree, state: PyTree) -> dict[str, Array]:
        samples, fast, level = context
        if point["optimizer"] == GD:
            params = jax.lax.map(lambda run: settled(point, fast, run), state)
        else:
            params = state.params
        params = jax.tree.map(lambda p: p.astype(samples.x.dtype), params)
        network = fully_connected(2, point["width"])
        gaps = jax.lax.map(lambda p: gap_of(network, samples, point["lam"], level, p), params)
        log_lam, none = jnp.log(point["lam"]), jnp.full((), -np.inf)
        residual = lambda p: log_residual(Trainer(network), samples, log_lam, p)
        asked = lambda run: jax.lax.cond(run[0] > TOLERANCE, residual, lambda p: none, run[1])
        residuals = jax.lax.map(asked, (gaps, params))  # of failures alone: it takes a while
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


def _padded(config: Config, particles: Float[Array, "m p"]) -> Array:
    widest = max(*config.widths, *config.gd_widths, config.cured_width)
    missing = (widest - len(particles), max(config.ranks) + 1 - particles.shape[1])
    return jnp.pad(particles, [(0, number) for number in missing])


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: a start's parameters and activations."""
    width, rows = point["width"] + SPARE, max(config.sizes)
    return 8 * width * (math.prod((config.num_starts, 4, 5)) + 8 * rows + 100 * 5)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
