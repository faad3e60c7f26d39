"""Claim I: on D the regularised network learns from O(d) samples, its kernel needs Ω(d²).

Every predictor sees the same samples for the same dimension, size and seed, and is tested on fresh
points of D that are not among them.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.
"""

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from ntkreg import kernel_machines, kernels
from ntkreg.experiments import configs, separation_cell, training
from ntkreg.experiments.separation_cell import KERNELS, NETS, PREDICTORS, TUNED
from ntkreg.records import Record
from ntkreg.sweeps import Point

AXIS = ("predictor", "dim", "num_samples", "num_rows")
MIN_TEST = 10_000
MOST_ROWS = 400  # to which samples are repeated (`training.num_rows`)


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes_over_d: n/d, for every predictor.
      sizes_over_d2: n/d², for the kernels.
      predictors: any of separation_cell.PREDICTORS.
      num_seeds: seeds 0 … num_seeds − 1, each with samples, test points and start of its own.
      width: of the networks.
      lams: the path of λ that the regularised network follows to its end; going back up shakes it
        out of poor local minima.
      num_steps: Adam steps at each λ of the path.
      learning_rate: of Adam.
      baseline_learning_rate, baseline_steps: of plain gradient descent without λ, which stops
        earlier once the mean loss is 0.01.
      small_init: the factor on the initial weights of net_small_init.
      tuned_lams: the values from which the kernels' λ is chosen, on the test set.
      num_test: fresh test points drawn; those among the training samples are left out.
      max_ntk_samples: the largest n over d² (the Gram matrix grows like d⁴).
      max_tuned_samples: the largest n for the kernels whose λ is chosen; they take the sizes over
        d² alone.
      kernel_dtype: of the Gram matrices.
    """

    dims: tuple[int, ...] = (10, 20, 40, 80)
    sizes_over_d: tuple[float, ...] = (2.0, 2.5, 3.0, 3.5, 4.0, 6.0, 16.0)
    sizes_over_d2: tuple[float, ...] = (0.3, 0.5, 0.8)
    predictors: tuple[str, ...] = PREDICTORS
    num_seeds: int = 5
    width: int = 128
    lams: tuple[float, ...] = 4 * (1e-3, 1e-8)
    num_steps: int = 1000
    learning_rate: float = 0.03
    baseline_learning_rate: float = 0.5
    baseline_steps: int = 5000
    small_init: float = 0.1
    tuned_lams: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
    num_test: int = 12_288
    max_ntk_samples: int = 1280
    max_tuned_samples: int = 500
    kernel_dtype: str = "float64"

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: d >= 3, "at least 3")
        for name in ("sizes_over_d", "sizes_over_d2", "lams", "tuned_lams"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("learning_rate", "baseline_learning_rate", "small_init"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "width", "num_steps", "baseline_steps", "max_ntk_samples"):
            check(name, lambda v: v >= 1, "at least 1")
        check("num_test", lambda v: v >= MIN_TEST, f"at least {MIN_TEST}")
        check("predictors", *configs.one_of(PREDICTORS))
        check("kernel_dtype", *configs.one_of(("float32", "float64")))

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: a GPU with 80 GB."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dims=(6,),
        sizes_over_d=(1.0, 6.0),
        sizes_over_d2=(1.0,),
        num_seeds=2,
        width=16,
        lams=(1e-3, 1e-8),
        num_steps=200,
        baseline_steps=500,
        num_test=MIN_TEST,
    ),
    "laptop": dict(dims=(10, 20, 40)),
    "thorough": {},
    # From d = 160 on shorter paths, and ones from λ = 1e-3, mostly end above the planted objective.
    "full": dict(
        dims=(20, 40, 80, 160),
        sizes_over_d=(2.0, 3.0, 3.5, 4.0, 5.0, 6.0),
        sizes_over_d2=(0.3, 0.5, 0.65, 0.8),
        predictors=("net_regularized", "ntk_svm"),
        num_seeds=20,
        lams=4 * (3e-3, 1e-8),
        num_steps=4000,
        max_ntk_samples=20_480,
        kernel_dtype="float32",
    ),
}


def cells(config: Config) -> list[tuple[str, int, int, int]]:
    """(predictor, dim, num_samples, num_rows) of every cell, each to be run with every seed.

    The samples are repeated to fill num_rows rows (`training.num_rows`).
    """
    found = []
    for predictor in config.predictors:
        for dim in config.dims:
            linear = {max(1, round(ratio * dim)) for ratio in config.sizes_over_d}
            squared = {max(1, round(ratio * dim**2)) for ratio in config.sizes_over_d2}
            squared = {n for n in squared if n <= config.max_ntk_samples}
            if predictor in TUNED:
                sizes = {n for n in squared if n <= config.max_tuned_samples}
            else:
                sizes = linear | squared if predictor in KERNELS else linear
            rows = functools.partial(training.num_rows, sizes=linear, most=MOST_ROWS)
            found += [(predictor, dim, n, rows(n)) for n in sorted(sizes)]
    return found


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once, counted from its arrays."""
    n, dim, tests = point["num_rows"], point["dim"], config.num_test + separation_cell.PLANE_POINTS
    if point["predictor"] in NETS:
        return 4 * (n * (6 * config.width + 2 * dim) + tests * (config.width + n + 3 * dim))
    # Factorisations keep three n × n arrays beside the Gram matrix.
    is_factorised = point["predictor"] in TUNED or n <= kernel_machines.SMALL
    matrices = (4 if is_factorised else 1) * n**2
    blocks = 12 * kernels.ACCELERATOR_BLOCK**2
    return (matrices + n * tests + blocks) * np.dtype(config.kernel_dtype).itemsize


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(
        function=separation_cell.cell(config),
        axes={AXIS: cells(config), "seed": range(config.num_seeds)},
        static=("predictor", "dim", "num_rows"),
    )


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)


def curve(record: Record, predictor: str, dim: int, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, values of shape (sizes, seeds)) of one predictor in one dimension."""
    ((_, rows), _) = record.axes.items()
    wanted = [i for i, row in enumerate(rows) if row[:2] == (predictor, dim)]
    sizes = np.array([rows[i][2] for i in wanted])
    return sizes, record.arrays[column][wanted]
