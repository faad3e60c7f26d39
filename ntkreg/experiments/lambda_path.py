"""Claim II: as λ → 0 the regularised minimizer becomes the max-margin network, at any depth.

Networks are trained along a path of λ down to 1e-200, each beside the best margin that is known.
Where the data have low rank the true minimizer is computed at every λ too, and what training
misses can be told from what the theorem says. How fast the margin rises is predicted, with its
constant, from the dual weights of the max margin alone (`ntkreg.theory.path_law`).

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4.
"""

import dataclasses
import functools
import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._types import Array, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, path_problems
from ntkreg.experiments.path_minimizers import COLUMNS, OWN_LAWS, UNKNOWN, certified_path, own_laws
from ntkreg.experiments.path_problems import Problem
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import paths, trainers
from ntkreg.training.margins import dual_weights
from ntkreg.training.objectives import get_loss

STATIC = (*Problem._fields, "certified")
AXIS = (*STATIC, "warm", "draw", "seed")


def all_problems(depths: Iterable[int]) -> tuple[str, ...]:
    """Problems of every kind, the orthonormal samples with networks of these depths."""
    return (
        *(f"random:{dim}:{n}/2/100/relu/2" for dim in (2, 3) for n in (10, 15, 20)),
        *(f"orthonormal:6:2/{depth}/32/relu/2" for depth in depths),
        *(f"orthonormal:6:2/3/32/relu/{power}" for power in (1, 4)),
        "orthonormal:6:2/2/32/quadratic/2",
        *(f"halfspace:5:12/{depth}/16/identity/2" for depth in (2, 4)),
        *(f"orthonormal:4:3:2/{depth}/32/relu/2" for depth in (2, 3)),
        *(f"digits:100/{depth}/32/relu/2" for depth in (2, 3)),
        *(f"D:{dim}:{n}/2/50/relu/2" for dim, n in ((4, 10), (4, 24), (5, 30))),
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      problems: each "dataset:sizes/depth/width/activation/power" (`path_problems`).
      num_draws: samples drawn of each random data set.
      num_seeds: random starts on each.
      lams: the path of λ, falling.
      num_steps, finish_steps: of Adam and then L-BFGS at each λ.
      learning_rate: of Adam.
    """

    problems: tuple[str, ...] = all_problems(range(2, 9))
    num_draws: int = 9
    num_seeds: int = 4
    lams: tuple[float, ...] = (
        1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-16, 1e-32, 1e-64, 1e-100, 1e-200,
    )  # fmt: skip
    num_steps: int = 6000
    finish_steps: int = 100
    learning_rate: float = 0.03

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("problems", lambda text: bool(path_problems.parsed(text)), "problems")
        check("num_draws", lambda v: v >= 1, "at least 1")
        check_path(self)

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


def check_path(config: Any) -> None:
    """Raises ValueError where a Config's path of λ, or how it is followed, will not do."""
    check = lambda name, *rule: configs.check_field(name, getattr(config, name), *rule)
    check("lams", lambda v: 1e-300 <= v < np.inf, "at least 1e-300 and finite")
    check("learning_rate", lambda v: 0 < v < np.inf, "positive and finite")
    for name in ("num_seeds", "num_steps"):
        check(name, lambda v: v >= 1, "at least 1")
    check("finish_steps", lambda v: v >= 0, "at least 0")
    if list(config.lams) != sorted(set(config.lams), reverse=True):
        raise ValueError(f"lams must fall from each to the next, got {config.lams}")


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        problems=(
            "random:2:6/2/16/relu/2", "orthonormal:2:1/3/8/relu/2", "orthonormal:2:1:1/2/8/relu/2",
            "D:3:8/2/16/relu/2",
        ),
        num_draws=1, num_seeds=1,
        lams=(1e-3, 1e-6, 1e-16, 1e-32, 1e-100),
        num_steps=300, finish_steps=10,
    ),
    "laptop": dict(
        problems=all_problems((2, 3, 4, 6, 8)), num_draws=2, num_seeds=2, num_steps=4000
    ),
    "thorough": {},
    "full": dict(
        num_draws=100, num_seeds=20, num_steps=20_000,
        lams=(1e-1, 1e-2, 1e-3, *(10.0 ** -np.arange(4, 201, 4)).tolist()),
    ),
}  # fmt: skip


def problems(config: Config) -> list[Problem]:
    """The problems, parsed."""
    return list(map(path_problems.parsed, config.problems))


def cells(config: Config) -> list[tuple]:
    """The coordinates of every cell: warm paths, a cold one of each problem, certified ones."""

    def of(problem: Problem) -> Iterator[tuple]:
        for number in range(config.num_draws if problem.name == "random" else 1):
            runs = [(False, True, number, seed) for seed in range(config.num_seeds)]
            runs += [(False, False, number, 0)] if number == 0 else []
            runs += [(True, False, number, 0)] if problem.is_certifiable else []
            yield from ((*problem, *run) for run in runs)

    return [cell for problem in problems(config) for cell in of(problem)]


def cell(config: Config) -> Cell:
    """The cell of one problem, start, draw and seed: arrays with one entry for every λ."""
    knobs = trainers.knobs(config.lams, config.learning_rate, jnp.float64)

    def prepare(point: Point) -> tuple[Dataset, PyTree]:
        key, samples = path_problems.draw(_problem(point), point["draw"])
        samples = jax.tree.map(lambda a: a.astype(float) if a.dtype.kind == "f" else a, samples)
        if point["certified"]:
            return samples, ()
        path = _path(config, point)
        key = jax.random.fold_in(key, point["seed"])
        params = path.trainer.network.init(key, samples.x.shape[1])
        return samples, paths.init(path, knobs, params, point["warm"])

    def advance(point: Point, samples: Dataset, state: PyTree, num_steps: Array):
        if point["certified"]:
            return state, jnp.asarray(True)
        path = _path(config, point)
        state = paths.advance(path, samples, knobs, state, num_steps)
        return state, paths.is_done(path, knobs, state)

    def finish(point: Point, samples: Dataset, state: PyTree) -> dict[str, Array]:
        if point["certified"]:
            return _certified_on_host(config, samples)
        path = _path(config, point)
        info = paths.measure(path, samples, knobs, state.ends)
        unknown = jnp.full(len(config.lams), UNKNOWN)
        own = _own_laws_on_host(path.trainer, samples, knobs, state.ends, info)
        return {**dict.fromkeys(COLUMNS, unknown), **info._asdict(), **own}

    def num_steps(point: Point) -> int:
        return 0 if point["certified"] else paths.total_steps(_path(config, point), knobs)

    return Cell(prepare, advance, finish, config.num_steps, num_steps)


def _problem(point: Point) -> Problem:
    return Problem(*(point[name] for name in Problem._fields))


def _path(config: Config, point: Point) -> paths.Path:
    problem = _problem(point)
    trainer = trainers.Trainer(
        path_problems.network(problem),
        loss=problem.loss,
        num_steps=config.num_steps,
        power=problem.power,
    )
    return paths.Path(trainer, config.finish_steps)


def _certified_on_host(config: Config, samples: Dataset) -> dict[str, Array]:
    results = dict.fromkeys(COLUMNS, jax.ShapeDtypeStruct((len(config.lams),), samples.x.dtype))
    on_host = lambda x, y: certified_path(Dataset._make(map(np.asarray, (x, y))), config.lams)
    return jax.pure_callback(on_host, results, *samples, vmap_method="sequential")


def _own_laws_on_host(trainer, samples: Dataset, knobs, ends: PyTree, info) -> dict[str, Array]:
    loss, network = get_loss(trainer.loss), trainer.network
    weights = lambda params: dual_weights(loss, network, params, samples).ravel()
    on_host = functools.partial(
        own_laws, num_samples=len(samples.y), order=network.order, power=trainer.power
    )
    results = dict.fromkeys(OWN_LAWS, jax.ShapeDtypeStruct(knobs.log_lams.shape, samples.x.dtype))
    known = (knobs.log_lams, info.dual_weighted_margin, jax.lax.map(weights, ends))
    return jax.pure_callback(on_host, results, *known, vmap_method="sequential")


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: parameters at every λ, and activations."""
    problem = Problem(*(point[name] for name in Problem._fields))
    dim = 64 if problem.name == "digits" else max(problem.sizes[0], problem.num_samples)
    layers = problem.width * (dim + problem.width * problem.depth)
    copies = paths.copies_held(len(config.lams))
    return 8 * (copies * layers + 8 * problem.num_samples * problem.width * problem.depth)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
