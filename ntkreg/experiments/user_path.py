"""The λ-path of a user's own network on their own arrays: what `lambda_path` does, for any data.

Nothing is known of such data beforehand, so no claim is made. What stands beside the margins is
whether the optimizer got to a stationary point at all (`stationarity.log_residual`).

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4.
"""

import argparse
import dataclasses
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg._types import Array, Float, Params, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, lambda_path, user_data
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import paths, trainers
from ntkreg.training.margins import margins
from ntkreg.training.stationarity import CONVERGED

STATIC = ("data",)
AXIS = (*STATIC, "seed")
COLUMNS = (
    "seed", "lam", "norm", "normalized_margin", "dual_weighted_margin", "train_error",
    "test_error", "log_objective", "stationarity", "converged",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained, on what and how.

    Attributes:
      data: the npz file (`user_data.loaded`).
      module: package.module:name of a Flax module; empty for a fully connected ReLU network, of
        `depth` weight layers and `width` units in each, which are not asked of a module.
      num_seeds: random starts.
      lams: the path of λ, falling.
      num_steps, finish_steps: of Adam and then L-BFGS at each λ.
      learning_rate: of Adam.
    """

    data: str = ""
    module: str = ""
    depth: int = 2
    width: int = 100
    num_seeds: int = 4
    lams: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-16)
    num_steps: int = 2000
    finish_steps: int = 100
    learning_rate: float = 0.03

    def __post_init__(self):
        lambda_path.check_path(self)
        for name in ("depth", "width"):
            configs.check_field(name, getattr(self, name), lambda v: v >= 1, "at least 1")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: minutes for some hundred samples. full: many cores."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(width=16, num_seeds=2, lams=(1e-2, 1e-4, 1e-8), num_steps=200, finish_steps=10),
    "laptop": {},
    "full": dict(
        width=1000, num_seeds=20, num_steps=20_000,
        lams=(1e-1, 1e-2, 1e-3, *(10.0 ** -np.arange(4, 101, 4)).tolist()),
    ),
}  # fmt: skip


def asked(arguments: Sequence[str]) -> str | None:
    """The file that --data names in a command line; None where it has no such flag."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--data", "-data", nargs="?", const="")
    return parser.parse_known_args(list(arguments))[0].data


def folder(data: str) -> str:
    """Where results go, named like the file; those of the experiment itself are let be."""
    stem = pathlib.Path(data).stem
    return f"results/lambda_path/{f'{stem}-data' if stem in PRESETS else stem}"


def problem(config: Config) -> tuple[user_data.Arrays, paths.Path]:
    """The user's arrays, and their network with its loss and optimizers, which fits them.

    Raises:
      ValueError: where the file, the module, or the two together will not do.
    """
    arrays = user_data.loaded(config.data)
    network = user_data.network(arrays, config.module, config.depth, config.width)
    trainer = trainers.Trainer(network, loss=arrays.loss, num_steps=config.num_steps)
    trainers.start(trainer, arrays.train, jax.random.key(0))
    return arrays, paths.Path(trainer, config.finish_steps)


def cell(config: Config) -> Cell:
    """The cell of one start: arrays with one entry for every λ."""
    arrays, path = problem(config)
    knobs = trainers.knobs(config.lams, config.learning_rate, jnp.float64)

    def prepare(point: Point) -> tuple[PyTree, PyTree]:
        train, test = _on_device(arrays)
        params = trainers.start(path.trainer, train, jax.random.key(point["seed"]))
        return (train, test), paths.init(path, knobs, params)

    def advance(point: Point, context: PyTree, state: PyTree, num_steps: Array):
        state = paths.advance(path, context[0], knobs, state, num_steps)
        return state, paths.is_done(path, knobs, state)

    def finish(point: Point, context: PyTree, state: PyTree) -> dict[str, Array]:
        info = paths.measure(path, context[0], knobs, state.ends)
        named = zip(("train_error", "test_error"), context, strict=True)
        errors = {n: _errors(path, state.ends, part) for n, part in named if part is not None}
        return {**info._asdict(), **errors}

    return Cell(
        prepare, advance, finish, config.num_steps, lambda point: paths.total_steps(path, knobs)
    )


def _on_device(arrays: user_data.Arrays) -> tuple[Dataset, Dataset | None]:
    """Training and test data, by way of the host, so that no compiled program holds them."""
    parts = (arrays.train, arrays.test)
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), parts)
    return jax.pure_callback(lambda: parts, shapes, vmap_method="sequential")


def _errors(path: paths.Path, ends: Params, data: Dataset) -> Float[Array, " p"]:
    """The share of samples with no margin > 0 at the end of every λ."""
    network = path.trainer.network
    wrong = lambda params: jnp.mean(~(margins(network, params, data) > 0), dtype=data.x.dtype)
    return jax.lax.map(wrong, ends)


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: parameters at every λ, and activations as of dense layers.

    The activations of other layers, as convolutions, are more.
    """
    arrays, path = problem(config)
    shapes = jax.eval_shape(
        lambda: path.trainer.network.init(jax.random.key(0), arrays.train.x.shape[1])
    )
    leaves = jax.tree.leaves(shapes)
    copies = paths.copies_held(len(config.lams)) * sum(math.prod(leaf.shape) for leaf in leaves)
    units = sum(leaf.shape[-1] for leaf in leaves if leaf.shape)
    num_test = len(arrays.test.y) if arrays.test else 0
    inputs = (len(arrays.train.y) + num_test) * arrays.train.x.shape[1]
    return 8 * (copies + inputs + (8 * len(arrays.train.y) + 2 * num_test) * units)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    name = pathlib.Path(config.data).name
    rows = [(name, seed) for seed in range(config.num_seeds)]
    return dict(function=cell(config), axes={AXIS: rows}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all starts, as `configs.swept`.

    It knows the arrays themselves, and the file of a user's module: under others of the same name
    it does not go on.
    """
    inputs = dict(arrays=user_data.digest(user_data.loaded(config.data)))
    if config.module:
        inputs["module_source"] = user_data.source_digest(config.module)
    return configs.swept(config, grid(config), memory, folder, **inputs)


def table(record: Record) -> pandas.DataFrame:
    """One row for every start and λ.

    norm: ‖Θ‖₂. test_error: empty where the file has no test data. stationarity: the relative
    residual, empty at the zero network; converged: whether it is below 0.001, so that the optimizer
    has done its work.
    """
    long = record.table(lam=record.identity["config"]["lams"]).replace(np.inf, np.nan)
    long["stationarity"] = np.exp(np.minimum(long.log_residual, 700.0))
    long["converged"] = long.stationarity < CONVERGED
    return long.reindex(columns=[*COLUMNS])


def best_of_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """At every λ the start of the least objective, which is the nearest to the minimizer."""
    finite = rows[rows.log_objective.notna()]
    return finite.loc[finite.groupby("lam", sort=False).log_objective.idxmin()]


def summary(record: Record) -> str:
    """The best start at every λ, and how many networks the optimizer finished."""
    rows = table(record)
    columns = ["lam", "norm", "normalized_margin", "train_error", "test_error", "stationarity"]
    shown = best_of_seeds(rows)[columns].dropna(axis=1, how="all")
    done = f"{rows.converged.mean():.0%} of {len(rows)} networks converged"
    best = shown.to_string(index=False, float_format=lambda value: f"{value:.4g}")
    return f"at each λ the start of the least objective\n{best}\n{done} (stationarity < 0.001)"
