"""Initial scale against λ: where a small start learns D alone, where it takes λ, and which λ.

Two-layer networks descend F_λ itself from entries N(0, r²), on n = 8d samples of D. Beside the
diagram, the baseline that was published without λ: width 10, r = 0.1, rate 0.1, 10,000 steps, and
the smallest n at which its mean accuracy is 60 %.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1 for D; Smith, "NN kernel and rich regimes"
(report), for the baseline.
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

STATIC = ("width", "dim", "num_samples")
AXIS = (*STATIC, "init_scale", "lam", "seed")
KEPT = ("test_error", "train_error", "normalized_margin", "activation_change", "train_loss")
PUBLISHED = {20: 83, 40: 209, 80: 497, 160: 1350, 320: 3085}  # n at 60 % accuracy, by d
PUBLISHED_WIDTH, PUBLISHED_SCALE = 10, 0.1


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dim, size_over_d: d, and n/d, of the diagram.
      widths, init_scales, lams: of the diagram; one program for each width.
      num_seeds: of each of its cells; samples and starts drawn anew.
      baseline_dims, baseline_sizes: d, and the n around the published one as multiples of it.
      baseline_seeds: of each of those.
      learning_rate, num_steps: of gradient descent, as published.
      num_test: fresh test points.
    """

    dim: int = 20
    size_over_d: int = 8
    widths: tuple[int, ...] = (10, 100)
    init_scales: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 0.3, 1.0, 3.0, 10.0, 100.0)
    lams: tuple[float, ...] = (0.0, 1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1)
    num_seeds: int = 3
    baseline_dims: tuple[int, ...] = (20, 40)
    baseline_sizes: tuple[float, ...] = (0.5, 0.75, 1.0, 1.5)
    baseline_seeds: int = 10
    learning_rate: float = 0.1
    num_steps: int = 10_000
    num_test: int = 4000

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("dim", lambda v: v >= 3, "at least 3")
        check("lams", lambda v: 0 <= v < np.inf, "finite and at least 0")
        for name in ("init_scales", "baseline_sizes", "learning_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("size_over_d", "widths", "num_seeds", "baseline_seeds", "num_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        check("num_test", lambda v: v >= 1, "at least 1")
        check("baseline_dims", *configs.one_of(PUBLISHED))
        configs.check_distinct(
            self, "widths", "init_scales", "lams", "baseline_dims", "baseline_sizes"
        )

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: minutes on two cores. full: one accelerator."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dim=5, widths=(32,), init_scales=(1e-2, 10.0), lams=(0.0, 1e-2, 1e-1), num_seeds=2,
        baseline_dims=(20,), baseline_sizes=(0.5,), baseline_seeds=2, num_steps=2000, num_test=200,
    ),
    "laptop": {},
    "full": dict(
        widths=(10, 100, 1000),
        init_scales=(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0),
        lams=(0.0, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1), num_seeds=10,
        baseline_dims=(20, 40, 80, 160, 320), num_test=10_000,
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple]:
    """(width, dim, num_samples, init_scale, lam, seed) of every cell."""
    n = config.size_over_d * config.dim
    diagram = [
        (width, config.dim, n, scale, lam, seed)
        for width in config.widths
        for scale in config.init_scales
        for lam in config.lams
        for seed in range(config.num_seeds)
    ]
    baseline = [
        (PUBLISHED_WIDTH, dim, size, PUBLISHED_SCALE, 0.0, seed)
        for dim in config.baseline_dims
        for size in baseline_sizes(config, dim)
        for seed in range(config.baseline_seeds)
    ]
    return list(dict.fromkeys(diagram + baseline))


def baseline_sizes(config: Config, dim: int) -> list[int]:
    """The n of the baseline in that dimension."""
    return [round(PUBLISHED[dim] * factor) for factor in config.baseline_sizes]


def cell(config: Config):
    """The function of (width, dim, num_samples, init_scale, lam, seed) -> KEPT at the end."""

    def run(width, dim, num_samples, init_scale, lam, seed) -> dict[str, Array]:
        source = parsed(f"D:{dim}:{num_samples}")
        key, train, test = samples_of(source, seed, config.num_test)
        assert test is not None  # random labels alone have none
        found = descents.descended(
            train,
            test,
            key,
            width=width,
            scale=init_scale,
            lam=lam,
            learning_rate=config.learning_rate,
            steps=(config.num_steps,),
            with_fit=False,
        )
        return {name: found[name][-1] for name in KEPT}

    return run


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once."""
    sizes = point["num_samples"], config.num_test, point["dim"], point["width"]
    return descents.memory_needed(*sizes)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
