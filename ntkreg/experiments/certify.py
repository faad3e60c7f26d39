"""Two-sided bounds of the max margin: trained, polished and certified, and how far proofs reach.

On each sample a network is trained; its own dual weights bound the max margin; the level method and
column generation close in from both sides with a local search; and what the search found is then
proved: by enumeration to rank 4, by branch and bound beyond.

Sources: as in `ntkreg.certificates`.
"""

import dataclasses
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import certificates, data, oracles, two_layer
from ntkreg._types import Array, Params, PRNGKey
from ntkreg.data import Dataset
from ntkreg.experiments import configs, training
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point

DATASETS = ("D", "random")
AXIS = ("dataset", "dim", "num_samples", "oracle")
KINDS = tuple(dict.fromkeys(oracles.KINDS.values()))
CLOSED = 1e-6  # relative gap that the search and the proofs aim at
LEVEL_ROUNDS = 40


class Problem(NamedTuple):
    """A kind of sample and what proves its margin."""

    dataset: str
    dim: int
    num_samples: int
    oracle: str


def parsed(text: str) -> Problem:
    """The problem that "dataset:dim:num_samples:oracle" names.

    Raises:
      ValueError: where it names none.
    """
    parts = text.split(":")
    wanted = f"dataset:dim:num_samples:oracle, of {DATASETS} and {tuple(oracles.KINDS)}"
    if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise ValueError(f"problems must be {wanted}, got {text!r}")
    problem = Problem(parts[0], int(parts[1]), int(parts[2]), parts[3])
    sizes = problem.dim >= (3 if problem.dataset == "D" else 1) and problem.num_samples >= 2
    if problem.dataset not in DATASETS or problem.oracle not in oracles.KINDS or not sizes:
        raise ValueError(f"problems must be {wanted}, got {text!r}")
    return problem


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      problems: each "dataset:dim:num_samples:oracle"; dataset is D or random (Gaussian points with
        random labels), oracle one of `oracles.KINDS`.
      num_seeds: samples of each.
      max_nodes: of one proof by branch and bound.
      num_starts: of the local search.
      width, lams, num_steps, learning_rate: of the networks (`training.Training`).
    """

    problems: tuple[str, ...] = (
        *(f"random:{rank}:{n}:enumerate" for rank in (2, 3) for n in (10, 20, 30)),
        "random:4:20:enumerate",
        *(f"random:6:{n}:branch_and_bound" for n in (40, 60, 100)),
        *(f"random:8:{n}:branch_and_bound" for n in (40, 60, 80)),
        *(f"random:10:{n}:branch_and_bound" for n in (40, 60)),
        *(f"D:10:{n}:branch_and_bound" for n in (40, 60, 100)),
        *(f"D:20:{n}:branch_and_bound" for n in (60, 80, 100)),
        *(f"D:20:{n}:multistart" for n in (100, 200, 400)),
    )
    num_seeds: int = 2
    max_nodes: int = 100_000
    num_starts: int = 300
    width: int = 128
    lams: tuple[float, ...] = (*4 * (1e-3, 1e-8), 1e-16, 1e-32)
    num_steps: int = 1000
    learning_rate: float = 0.03

    def __post_init__(self):
        configs.check_field("problems", self.problems, lambda text: bool(parsed(text)), "problems")
        for name in ("num_seeds", "max_nodes", "num_starts"):
            configs.check_field(name, getattr(self, name), lambda v: v >= 1, "at least 1")
        training.check(self)

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


# At the laptop's number of nodes they end unfinished, after up to a minute each.
SLOW_PROOFS = ("D:20:80:branch_and_bound", "D:20:100:branch_and_bound")

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        problems=(
            "random:2:8:enumerate", "random:5:10:branch_and_bound",
            "D:5:20:branch_and_bound", "D:5:20:multistart",
        ),
        num_seeds=2, max_nodes=1000, num_starts=50, width=32, lams=(1e-3, 1e-8), num_steps=300,
    ),
    "laptop": dict(
        problems=tuple(text for text in Config.problems if text not in SLOW_PROOFS),
        num_seeds=1, max_nodes=2_500,
    ),
    "thorough": {},
    "full": dict(num_seeds=20, max_nodes=10_000_000, num_starts=1000),
}  # fmt: skip


def cells(config: Config) -> list[Problem]:
    """The problem of every cell, each to be run with every seed."""
    return list(map(parsed, config.problems))


def cell(config: Config) -> Cell:
    """The cell of one (dataset, dim, num_samples, oracle, seed)."""

    def draw(point: Point) -> tuple[PRNGKey, Dataset, None]:
        # The key leaves the oracle out: all of them see the same samples.
        key = jax.random.fold_in(jax.random.key(point["seed"]), point["dim"] * 2**20)
        start_key, key = jax.random.split(jax.random.fold_in(key, point["num_samples"]))
        shape = (point["num_samples"], point["dim"])
        if point["dataset"] == "D":
            return start_key, data.noisy_xor(key, *shape), None
        return start_key, data.random_labels(key, *shape), None

    def measure(point: Point, train: Dataset, rest: None, params: Params) -> dict[str, Array]:
        number, whole = jax.ShapeDtypeStruct((), train.x.dtype), jax.ShapeDtypeStruct((), jnp.int32)
        on_host = lambda x, y, *params: bounded(
            config, point["oracle"], Dataset._make(map(np.asarray, (x, y))), tuple(params)
        )
        results = {name: whole if name in COUNTS else number for name in COLUMNS}
        return jax.pure_callback(on_host, results, *train, *params, vmap_method="sequential")

    return training.cell(config, draw, measure)


COUNTS = ("kind", "nodes", "neurons")
COLUMNS = (
    "trained_margin", "trained_bound", "polished_margin", "search_bound", "lower", "upper", "gap",
    *COUNTS,
)  # fmt: skip


def bounded(config: Config, oracle: str, train: Dataset, params: Params) -> dict[str, np.ndarray]:
    """What is known of the max margin of one sample, from a trained network on (NumPy, host).

    trained_margin and trained_bound are what the network and its own dual weights prove, the latter
    by local search; polished_margin is of the network polished; search_bound is where better
    weights end, by local search. The certificate has lower, upper, gap, kind and nodes; its network
    has so many neurons.
    """
    params = tuple(np.asarray(p, np.float64) for p in params)
    local: dict[str, Any] = dict(oracle="multistart", num_starts=config.num_starts)
    own = certificates.dual_bound(params, train, **local)
    polished = certificates.polish(params, train)
    if oracle == "enumerate":
        searched = found = certificates.max_margin(train, params=polished, oracle=oracle)
    elif oracle == "branch_and_bound":
        # Weights at a solver's optimum are sparser than a network's own: their trees are smaller.
        searched = certificates.max_margin(train, params=polished, tolerance=CLOSED, **local)
        found = _proved(config, train, searched)
    else:
        searched = found = _searched(train, polished, own.dual, local)
    margin = lambda p: two_layer.normalized_margin(p, np.asarray(train.x), np.asarray(train.y))
    values = (
        own.lower, own.upper, margin(polished), searched.upper, found.lower, found.upper, found.gap,
        KINDS.index(found.kind), found.nodes, found.primal[0].shape[1],
    )  # fmt: skip
    dtypes = [np.int32 if name in COUNTS else train.x.dtype for name in COLUMNS]
    rows = zip(COLUMNS, values, dtypes, strict=True)
    return {name: np.asarray(value, dtype) for name, value, dtype in rows}


def _searched(
    train: Dataset, polished: Params, alpha: np.ndarray, local: dict[str, Any]
) -> certificates.Certificate:
    """Both bounds by local search: the network's own weights improved, then new units if needed."""
    found = certificates.dual_bound(
        polished, train, alpha=alpha, tolerance=CLOSED, max_rounds=LEVEL_ROUNDS, **local
    )
    if found.gap <= CLOSED:
        return found
    return certificates.max_margin(train, params=polished, tolerance=CLOSED, **local)


def _proved(
    config: Config, train: Dataset, searched: certificates.Certificate
) -> certificates.Certificate:
    """The certificate by branch and bound at the weights that the search ended with.

    Where it closes in time and finds what the search had missed, column generation goes on with it.
    """
    exact: dict[str, Any] = dict(
        oracle="branch_and_bound", num_starts=config.num_starts, max_nodes=config.max_nodes
    )
    found = certificates.dual_bound(searched.primal, train, alpha=searched.dual, **exact)
    if found.gap <= 2 * CLOSED or found.nodes >= config.max_nodes:
        return found
    better = certificates.max_margin(train, params=searched.primal, tolerance=CLOSED, **exact)
    return min(found, better, key=lambda certificate: certificate.gap)


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: open nodes, and rows of a cone programme."""
    n, dim = point["num_samples"], point["dim"]
    return config.max_nodes * (n * 5 + dim * 4) + 8 * 300 * n * dim * 4


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    axes = {AXIS: cells(config), "seed": range(config.num_seeds)}
    return dict(function=cell(config), axes=axes, static=AXIS)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)


def table(record: Record):
    """One row for every sample, the kind of certificate in words."""
    rows = record.table()
    rows["kind"] = [KINDS[kind] for kind in rows["kind"]]
    return rows[[*AXIS, "seed", *COLUMNS]]
