"""Where the planted network becomes a sample's max-margin network, and where networks find it.

On every sample of D the planted network has the margin 1/8. On few samples others have more; from
some n on none has. Each sample is decided from both sides (`ntkreg.certificates.planted`): a
contradiction proves that the planted network is not optimal, weights on the samples bound every
margin by 1/8. On the same samples a network is trained and tested.

Source: derived here, on the distribution of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import data, networks
from ntkreg._types import Array, Params, PRNGKey
from ntkreg.certificates import planted
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, training
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training.margins import normalized_margin

AXIS = ("dim", "num_samples")
COLUMNS = ("local", "refuted", "optimal", "upper", "rounds", "test_error", "normalized_margin")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes_over_d: n/d.
      num_seeds: samples drawn of each size.
      certified_dim: to which optimality is proved by branch and bound, not by local search alone.
      num_starts: of the local search.
      width, lams, num_steps, learning_rate: of the networks (`training.Training`).
      num_test: fresh test points.
    """

    dims: tuple[int, ...] = (5, 10, 20, 40, 80)
    sizes_over_d: tuple[float, ...] = (2.0, 2.5, 3.0, 3.25, 3.5, 3.75, 4.0, 4.5, 5.0)
    num_seeds: int = 20
    certified_dim: int = 10
    num_starts: int = 200
    width: int = 128
    lams: tuple[float, ...] = 4 * (1e-3, 1e-8)
    num_steps: int = 1000
    learning_rate: float = 0.03
    num_test: int = 10_000

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: d >= 3, "at least 3")
        check("sizes_over_d", lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "num_starts", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        training.check(self)

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dims=(4, 6), sizes_over_d=(2.0, 6.0), num_seeds=2, num_starts=50, width=16,
        lams=(1e-3, 1e-8), num_steps=200, num_test=1000,
    ),
    "laptop": dict(
        dims=(5, 10, 20, 40), sizes_over_d=(2.0, 3.0, 3.5, 3.75, 4.0, 5.0), num_seeds=5,
        certified_dim=5,
    ),
    "thorough": {},
    "full": dict(
        dims=(5, 10, 20, 40, 80, 160),
        sizes_over_d=(2.0, 2.5, *np.arange(3.0, 5.3, 0.125).tolist()),
        num_seeds=100, certified_dim=20, num_starts=400,
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple[int, int]]:
    """(dim, num_samples) of every cell, each to be run with every seed."""
    sizes = lambda dim: sorted({max(2, round(ratio * dim)) for ratio in config.sizes_over_d})
    return [(dim, n) for dim in config.dims for n in sizes(dim)]


def cell(config: Config) -> Cell:
    """The cell of one (dim, num_samples, seed)."""
    network = networks.fully_connected(2, config.width)

    def draw(point: Point) -> tuple[PRNGKey, Dataset, Dataset]:
        key = jax.random.fold_in(jax.random.key(point["seed"]), point["dim"] * 2**20)
        data_key, start_key = jax.random.split(jax.random.fold_in(key, point["num_samples"]))
        drawn = data.noisy_xor(data_key, config.num_test + point["num_samples"], point["dim"])
        train = jax.tree.map(lambda a: a[config.num_test :], drawn)
        return start_key, train, jax.tree.map(lambda a: a[: config.num_test], drawn)

    def measure(point: Point, train: Dataset, test: Dataset, params: Params) -> dict[str, Array]:
        wrong = ~(test.y * network.apply(params, test.x) > 0)
        fresh = data.unseen(test.x, train.x)
        return {
            "test_error": jnp.sum(wrong & fresh) / jnp.maximum(jnp.sum(fresh), 1),
            "normalized_margin": normalized_margin(network, params, train),
            **_decided(config, point["dim"], train),
        }

    return training.cell(config, draw, measure)


def _decided(config: Config, dim: int, train: Dataset) -> dict[str, Array]:
    """What `planted_optimality` says; it runs in NumPy on the host."""
    oracle = "branch_and_bound" if dim <= config.certified_dim else "multistart"

    def on_host(x: Array, y: Array) -> tuple[np.ndarray | np.generic, ...]:
        samples = Dataset._make(np.asarray(a, np.float64) for a in (x, y))
        found = planted.planted_optimality(samples, oracle=oracle, num_starts=config.num_starts)
        flags = (found.local, found.refuted, found.optimal)
        return (*map(np.bool_, flags), np.asarray(found.upper, x.dtype), np.int32(found.num_rounds))

    kinds = (*[jax.ShapeDtypeStruct((), bool)] * 3, jax.ShapeDtypeStruct((), train.x.dtype))
    results = (*kinds, jax.ShapeDtypeStruct((), jnp.int32))
    found = jax.pure_callback(on_host, results, *train, vmap_method="sequential")
    return dict(zip(("local", "refuted", "optimal", "upper", "rounds"), found, strict=True))


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once, counted from its arrays."""
    n, dim = point["num_samples"], point["dim"]
    programme = 8 * 3 * n * (4 * dim + 7 * n)  # rows of the conditions and some 2n cuts, dense
    return programme + 4 * (config.num_test + n) * (3 * dim + 2 * config.width)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    axes = {AXIS: cells(config), "seed": range(config.num_seeds)}
    return dict(function=cell(config), axes=axes, static=AXIS)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)


def table(record: Record):
    """One row for every sample, with the kind of proof; of `refuted` it is always certified."""
    rows = record.table()
    certified = rows.dim <= record.identity["config"]["certified_dim"]
    rows["kind"] = np.where(certified | ~rows.optimal.astype(bool), "certified", "heuristic")
    return rows[[*AXIS, "seed", *COLUMNS, "kind"]]
