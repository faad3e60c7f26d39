"""What λ breaks: the same start trained with and without ℓ2, and how far from the kernel it goes.

Two-layer networks descend F_λ itself on samples of D and of a teacher. Networks of other widths
descend it without λ, for the moment when they first fit.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 5, the figure that compares regularisation and
none from the same initialisation. Widths, λ and sizes there are not known; these are our own.
"""

import dataclasses
import os
from typing import Any

import numpy as np

from ntkreg._types import Array
from ntkreg.experiments import configs, descents
from ntkreg.experiments.named_data import parsed, samples_of
from ntkreg.records import Record
from ntkreg.sweeps import Point

STATIC = ("dataset", "width", "num_steps")
AXIS = (*STATIC, "lam")
DATASETS = ("D", "teacher")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      datasets, dim, sizes: D or a teacher with ten hidden units, in that dimension, for each n.
      width, lams: of the networks that are trained with each λ from the same starts.
      wide_widths: of further networks on the first data set at its largest n, trained without λ.
      output_scale: α of all starts (`descents`).
      num_seeds: samples, teachers and starts, drawn anew for each.
      learning_rate: of gradient descent, in units that make the function begin to move as in `ntk`
        scaling at α = 1, whatever the width.
      num_steps, wide_steps: of the two kinds of networks.
      num_looks: on the way, equally far apart in log time.
      num_test: fresh test points.
    """

    datasets: tuple[str, ...] = DATASETS
    dim: int = 20
    sizes: tuple[int, ...] = (40, 80, 160)
    width: int = 256
    lams: tuple[float, ...] = (0.0, 3e-3, 1e-2)
    wide_widths: tuple[int, ...] = (64, 1024, 4096)
    output_scale: float = 1.0
    num_seeds: int = 20
    learning_rate: float = 10.0
    num_steps: int = 3000
    wide_steps: int = 600
    num_looks: int = 7
    num_test: int = 2000

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("datasets", *configs.one_of(DATASETS))
        check("dim", lambda v: v >= 3, "at least 3")
        check("sizes", lambda v: v >= 2, "at least 2")
        check("lams", lambda v: 0 <= v < np.inf, "finite and at least 0")
        for name in ("output_scale", "learning_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("width", "wide_widths", "num_seeds", "num_steps", "wide_steps", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        configs.check_distinct(self, "datasets", "sizes", "lams", "wide_widths")
        if self.width in self.wide_widths:
            raise ValueError(f"wide_widths must differ from width={self.width}, has it too")
        for steps in (self.num_steps, self.wide_steps):
            descents.look_steps(steps, self.num_looks)

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: a GPU."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        datasets=("D",), dim=5, sizes=(40,), width=32, lams=(0.0, 1e-2), wide_widths=(256,),
        num_seeds=3, learning_rate=5.0,
        num_steps=2000, wide_steps=600, num_looks=3, num_test=200,
    ),
    "laptop": dict(num_seeds=12),
    "thorough": {},
    "full": dict(
        sizes=(40, 80, 160, 320, 640), width=1024, lams=(0.0, 1e-4, 1e-3, 1e-2),
        wide_widths=(64, 256, 4096, 16384), num_steps=20_000, wide_steps=5000, num_test=10_000,
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple[str, int, int, float]]:
    """(dataset, width, num_steps, lam) of every cell, each to be run with every seed."""
    named = lambda dataset, size: f"{dataset}:{config.dim}:{size}"
    found = [
        (named(dataset, size), config.width, config.num_steps, lam)
        for dataset in config.datasets
        for size in config.sizes
        for lam in config.lams
    ]
    largest = named(config.datasets[0], max(config.sizes))
    return found + [(largest, width, config.wide_steps, 0.0) for width in config.wide_widths]


def cell(config: Config):
    """The function of (dataset, width, num_steps, lam, seed) -> `descents.descended`."""

    def run(dataset, width, num_steps, lam, seed) -> dict[str, Array]:
        key, train, test = samples_of(parsed(dataset), seed, config.num_test)
        assert test is not None  # random labels have none, and are none of DATASETS
        # Steps of this rate on the paper's network, whose kernel is r²·width·dim = α√(width·dim)
        # times the one of `ntk` scaling, are steps of `learning_rate` in that one.
        rate = config.learning_rate / (config.output_scale * np.sqrt(width * config.dim))
        return descents.descended(
            train,
            test,
            key,
            width=width,
            scale=descents.init_scale(config.output_scale, width, config.dim),
            lam=lam,
            learning_rate=rate,
            steps=descents.look_steps(num_steps, config.num_looks),
        )

    return run


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once."""
    dim, num_samples = parsed(point["dataset"]).sizes
    return descents.memory_needed(num_samples, config.num_test, dim, point["width"])


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    axes = {AXIS: cells(config), "seed": range(config.num_seeds)}
    return dict(function=cell(config), axes=axes, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
