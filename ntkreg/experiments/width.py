"""Claim II, width: the max margin does not fall with width, and larger margins bound the error.

Networks of growing width are trained on the same samples: on small random sets beside the certified
max margin of all widths; on a teacher's labels and on digits beside their test error, as in the
paper's experiment on width; and on D with growing n, where the generalization bound is computed
with its constants beside the error.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4.
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import certificates, networks
from ntkreg._types import Array, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs
from ntkreg.experiments.named_data import Source, parsed, samples_of
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import paths, trainers
from ntkreg.training.margins import margins, normalized_margin
from ntkreg.training.stationarity import log_residual

STATIC = ("dataset", "depth", "width")
AXIS = (*STATIC, "draw", "seed")
COLUMNS = ("normalized_margin", "log_residual", "test_error", "largest_norm", "max_margin")
UNKNOWN = np.inf  # of columns that a data set does not have


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      margin_sets, margin_widths: small random sets, of rank 4 at most, and the widths on them.
      error_sets, error_widths: a teacher's data and digits, as in the paper.
      bound_dim, bound_sizes, bound_depths, bound_width: D with growing n.
      num_draws: samples drawn of each random set.
      num_seeds: random starts of each width; for the other data sets trials, with samples anew.
      margin_lams, error_lams: the paths of λ; the last of the second is the paper's.
      margin_steps, error_steps: of Adam at each λ.
      finish_steps, learning_rate: as in `lambda_path`.
      num_test: fresh test points.
    """

    margin_sets: tuple[str, ...] = ("random:3:10",)
    margin_widths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 128, 1024)
    error_sets: tuple[str, ...] = ("teacher:20:200", "digits:300")
    error_widths: tuple[int, ...] = (16, 64, 256, 1024)
    bound_dim: int = 10
    bound_sizes: tuple[int, ...] = (40, 80, 320, 1280)
    bound_depths: tuple[int, ...] = (2, 3, 4)
    bound_width: int = 64
    num_draws: int = 4
    num_seeds: int = 8
    margin_lams: tuple[float, ...] = (1e-3, 1e-6, 1e-16, 1e-64, 1e-200)
    error_lams: tuple[float, ...] = (1e-3, 1e-5)
    margin_steps: int = 6000
    error_steps: int = 1200
    finish_steps: int = 50
    learning_rate: float = 0.03
    num_test: int = 4000

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        fits = lambda text: parsed(text).name == "random" and parsed(text).sizes[0] <= 4
        check("margin_sets", fits, "random sets of dimension 4 at most")
        fits = lambda text: parsed(text).name in ("teacher", "digits")
        check("error_sets", fits, "teacher:DIM:N or digits:N")
        for name in ("margin_lams", "error_lams"):
            check(name, lambda v: 1e-300 <= v < np.inf, "at least 1e-300 and finite")
        check("learning_rate", lambda v: 0 < v < np.inf, "positive and finite")
        check("bound_dim", lambda d: d >= 3, "at least 3")
        check("bound_sizes", lambda n: n >= 2, "at least 2")
        check("bound_depths", lambda depth: depth >= 2, "at least 2")
        check("finish_steps", lambda v: v >= 0, "at least 0")
        for name in ("margin_widths", "error_widths", "bound_width", "num_draws", "num_seeds"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("margin_steps", "error_steps", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        margin_sets=("random:2:6",), margin_widths=(1, 16), error_sets=("teacher:5:20",),
        error_widths=(8,), bound_dim=5, bound_sizes=(20, 40), bound_depths=(2,), bound_width=8,
        num_draws=1, num_seeds=1, margin_lams=(1e-3, 1e-32), margin_steps=300,
        error_steps=300, finish_steps=5, num_test=500,
    ),
    "laptop": dict(
        margin_widths=(1, 2, 4, 8, 16, 128), error_widths=(16, 64, 256), bound_depths=(2, 3),
        num_draws=3, num_seeds=6,
    ),
    "thorough": {},
    "full": dict(
        margin_sets=("random:2:10", "random:3:10", "random:3:20", "random:4:20"),
        error_sets=("teacher:20:200", "teacher:20:800", "digits:1000"),
        bound_sizes=(40, 80, 160, 320, 640, 1280, 5120, 20480), bound_depths=(2, 3, 4, 6),
        num_draws=10, num_seeds=20, margin_steps=20_000, error_steps=20_000, num_test=20_000,
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple]:
    """(dataset, depth, width, draw, seed) of every cell."""

    def rows() -> Iterator[tuple]:
        seeds = range(config.num_seeds)
        for name in config.margin_sets:
            for width in config.margin_widths:
                for draw in range(config.num_draws):
                    yield from ((name, 2, width, draw, seed) for seed in seeds)
        for name in config.error_sets:
            for width in config.error_widths:
                yield from ((name, 2, width, seed, seed) for seed in seeds)
        for depth in config.bound_depths:
            for n in config.bound_sizes:
                name = f"D:{config.bound_dim}:{n}"
                yield from ((name, depth, config.bound_width, seed, seed) for seed in seeds)

    return list(rows())


def cell(config: Config) -> Cell:
    """The cell of one data set, depth, width, draw and seed: arrays with one entry for every λ."""

    def parts(point: Point):
        source = parsed(point["dataset"])
        outputs = 1 if source.num_classes == 2 else source.num_classes
        network = networks.fully_connected(point["depth"], point["width"], num_outputs=outputs)
        loss = "logistic" if outputs == 1 else "cross_entropy"
        steps = config.margin_steps if source.name == "random" else config.error_steps
        trainer = trainers.Trainer(network, loss=loss, num_steps=steps)
        path = paths.Path(trainer, config.finish_steps)
        knobs = trainers.knobs(lams_of(config, source), config.learning_rate, jnp.float64)
        return source, path, knobs

    def prepare(point: Point) -> tuple[PyTree, PyTree]:
        source, path, knobs = parts(point)
        key, train, test = samples_of(source, point["draw"], config.num_test)
        start = jax.random.fold_in(jax.random.fold_in(key, point["seed"]), point["width"])
        params = path.trainer.network.init(start, train.x.shape[1])
        return (train, test), paths.init(path, knobs, params)

    def advance(point: Point, context: PyTree, state: PyTree, num_steps: Array):
        _, path, knobs = parts(point)
        state = paths.advance(path, context[0], knobs, state, num_steps)
        return state, paths.is_done(path, knobs, state)

    def finish(point: Point, context: PyTree, state: PyTree) -> dict[str, Array]:
        source, path, knobs = parts(point)
        train, test = context
        network = path.trainer.network

        def at(entry) -> tuple[Array, Array, Array]:
            log_lam, params = entry
            wrong = jnp.full((), UNKNOWN)
            if test is not None:
                wrong = jnp.mean(~(margins(network, params, test) > 0))
            margin = normalized_margin(network, params, train)
            return margin, log_residual(path.trainer, train, log_lam, params), wrong

        margin, residual, error = jax.lax.map(at, (knobs.log_lams, state.ends))
        norm = jnp.max(jnp.linalg.norm(train.x, axis=1))
        best = jnp.full((), UNKNOWN)
        if source.name == "random" and point["width"] == max(config.margin_widths):
            best = _max_margin_on_host(train)
        found = (margin, residual, error, norm, best)
        shape = (max(len(config.margin_lams), len(config.error_lams)),)
        return {name: _filled(value, shape) for name, value in zip(COLUMNS, found, strict=True)}

    def num_steps(point: Point) -> int:
        _, path, knobs = parts(point)
        return paths.total_steps(path, knobs)

    return Cell(prepare, advance, finish, config.error_steps, num_steps)


def lams_of(config: Config, source: Source) -> tuple[float, ...]:
    """The path of λ on that data set."""
    return config.margin_lams if source.name == "random" else config.error_lams


def _filled(value: Array, shape: tuple[int]) -> Array:
    """A number in all entries; a shorter array with what is unknown at its end."""
    if not value.ndim:
        return jnp.broadcast_to(value, shape)
    return jnp.pad(value, (0, shape[0] - len(value)), constant_values=UNKNOWN)


def _max_margin_on_host(train: Dataset) -> Array:
    def on_host(x, y):
        try:
            found = certificates.max_margin(Dataset._make((np.asarray(x), np.asarray(y))))
        except NotSeparable:
            return np.zeros((), x.dtype)
        return np.asarray(found.upper, x.dtype)

    number = jax.ShapeDtypeStruct((), train.x.dtype)
    return jax.pure_callback(on_host, number, *train, vmap_method="sequential")


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: parameters at every λ, and activations."""
    source, depth, width = parsed(point["dataset"]), point["depth"], point["width"]
    dim = 64 if source.name == "digits" else source.sizes[0]
    layers = width * (dim + source.num_classes) + (depth - 2) * width**2
    copies = paths.copies_held(len(lams_of(config, source)))
    points = 8 * source.num_samples + config.num_test
    return 8 * (copies * layers + points * (dim + width))


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
