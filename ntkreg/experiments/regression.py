"""Claim I for the squared loss: the network learns from O(d) samples, its kernel needs Ω(d²).

Two laws. On D both are trained on the squared loss with labels ±1 and tested on min((y − f)², 1).
On the other one, x is standard Gaussian and y = relu(wᵀx) for a random unit w; errors there are
plain mean squares, of E y² = 1/2. The network has a small λ, the kernel predictor is the
interpolant of least norm; both see the same samples.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2, for the truncated loss on D; the ICLR 2019
submission of the same for the random feature.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import cells as stages
from ntkreg import data, networks
from ntkreg._types import Array, Bool, Float, Params, PRNGKey
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, training
from ntkreg.kernels import kernel_machines
from ntkreg.kernels import tangent as kernels
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import objectives

# relu of a standard normal z by degree of Hermite polynomial, E relu(z)² = 1/2 in all. Degree 0:
# (E relu)² = 1/(2π). Degree 1: (E z relu)² = (1/2)². Degree 2: h = (z² − 1)/√2 has E h relu =
# (E z³₊ − E z₊)/√2 = (2 − 1)/√(2π)/√2, squared 1/(4π). Degree 3 has none. A kernel that depends on
# angles learns one degree after the other: 0 and 1 from n ∝ d, degree 2 from n ∝ d², 4 from n ∝ d⁴.
ENERGIES = (1 / (2 * math.pi), 1 / 4, 1 / (4 * math.pi))
PLATEAU = 1 / 2 - ENERGIES[0] - ENERGIES[1]  # 0.0908, all that is left between d and d²
FLOOR = PLATEAU - ENERGIES[2]  # 0.0113, left between d² and d⁴


class Law(NamedTuple):
    """A distribution, its test error, and the network that is planted in it.

    Attributes:
      draw: (key, number of samples, dimension) -> samples.
      truncation: squared errors count as this where they are larger.
      level: of the mean error, at whose crossing sizes are compared.
      planted_norm: the least ‖Θ‖₂² of a network that is y itself: twice Σ|wⱼ|‖uⱼ‖.
    """

    draw: Callable[[PRNGKey, int, int], Dataset]
    truncation: float
    level: float
    planted_norm: float


LAWS = {
    "D": Law(data.noisy_xor, 1.0, 0.5, 8.0),
    "relu_feature": Law(data.relu_feature, math.inf, 0.04, 2.0),
}
PREDICTORS = ("network", "ntk")
AXIS = ("law", "predictor", "dim", "num_samples", "num_rows")
STATIC = ("law", "predictor", "dim", "num_rows")
MOST_ROWS = 200  # to which samples are repeated (`training.num_rows`)
MAX_SAMPLES = 2**20  # keeps (dim, num_samples) apart in one 32-bit number
PLANTED_WIDTH = 4  # neurons of |x₁| − |x₂|
NET_SOLVED = 1e-2  # how far above the planted network's objective a solved network may end
KERNEL_SOLVED = 1e-6  # the relative residual of an interpolant


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      laws: any of LAWS.
      dims: the dimensions d.
      sizes_over_d: n/d, for both predictors.
      sizes_over_d2: n/d², for the kernel, which has n = d^1.5 too.
      num_seeds: seeds 0 … num_seeds − 1, each with samples, test points and start of its own.
      width: of the network.
      lams: the path of λ that the network follows to its end. At 1e-5 Adam still comes to the
        planted network's objective; at 1e-8 it stays some per cent above, with the same errors but
        for D near the transition, where they move by some hundredths with any setting.
      num_steps: Adam steps at each λ of the path.
      learning_rate: of Adam.
      num_test: fresh test points drawn; those among the training samples are left out.
    """

    laws: tuple[str, ...] = tuple(LAWS)
    dims: tuple[int, ...] = (10, 20, 40)
    sizes_over_d: tuple[float, ...] = (1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
    sizes_over_d2: tuple[float, ...] = (0.3, 0.5, 0.65, 0.8, 1.2)
    num_seeds: int = 5
    width: int = 128
    lams: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-5)
    num_steps: int = 8000
    learning_rate: float = 0.005
    num_test: int = 4096

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("laws", *configs.one_of(tuple(LAWS)))
        check("dims", lambda d: d >= 3, "at least 3")
        for name in ("sizes_over_d", "sizes_over_d2"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        configs.check_distinct(self, "laws", "dims")
        training.check(self)
        check("width", lambda v: v >= PLANTED_WIDTH, f"at least {PLANTED_WIDTH}, to plant D's")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: minutes on two cores. full: one accelerator."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        # d^1.5 = 3d = d²/3 = 27: one shape for each law and predictor.
        dims=(9,), sizes_over_d=(1.0, 3.0), sizes_over_d2=(1 / 3,), num_seeds=2, width=16,
        lams=(1e-2, 1e-4), num_steps=500, num_test=500, learning_rate=0.02,
    ),
    "laptop": {},
    "full": dict(dims=(10, 20, 40, 80), num_seeds=20, num_test=16_384),
}  # fmt: skip


def cells(config: Config) -> list[tuple[str, str, int, int, int]]:
    """(law, predictor, dim, num_samples, num_rows) of every cell, each to be run with every seed.

    The samples are repeated to fill num_rows rows (`training.num_rows`).
    """
    found = []
    for dim in config.dims:
        linear = {max(1, round(ratio * dim)) for ratio in config.sizes_over_d}
        squared = {max(1, round(ratio * dim**2)) for ratio in config.sizes_over_d2}
        sizes = {"network": linear, "ntk": linear | squared | {plateau_size(dim)}}
        rows = functools.partial(training.num_rows, sizes=linear, most=MOST_ROWS)
        for law in config.laws:
            for predictor in PREDICTORS:
                found += [(law, predictor, dim, n, rows(n)) for n in sorted(sizes[predictor])]
    return found


def plateau_size(dim: int) -> int:
    """n = d^1.5, midway between d and d² on a logarithmic axis, rounded."""
    return round(dim**1.5)


def cell(config: Config) -> Cell:
    """The cell of one (law, predictor, dim, num_samples, num_rows, seed)."""
    network = networks.fully_connected(2, config.width)
    draw = functools.partial(_drawn, config.num_test)

    def measure(point: Point, train: Dataset, rest: tuple, params: Params) -> dict[str, Array]:
        fitted, outputs = (network.apply(params, x) for x in (train.x, rest[0].x))
        law, lam = LAWS[point["law"]], config.lams[-1]
        residual = _above_planted(network, params, train, lam, law.planted_norm)
        errors = _errors(law, fitted - train.y, outputs, *rest)
        return {**errors, **_solved(lam, residual, NET_SOLVED)}

    def interpolated(**point) -> dict[str, Array]:
        _, train, rest = draw(point)
        gram = kernels.ntk(network, train.x)
        beta = kernel_machines.min_norm_interpolant(gram, train.y)
        outputs, misfits = kernels.ntk(network, rest[0].x, train.x) @ beta, gram @ beta - train.y
        residual = jnp.linalg.norm(misfits) / jnp.linalg.norm(train.y)
        errors = _errors(LAWS[point["law"]], misfits, outputs, *rest)
        return {**errors, **_solved(0.0, residual, KERNEL_SOLVED)}

    trained = training.cell(config, draw, measure, loss="squared")
    return stages.chosen("predictor", {"network": trained, "ntk": interpolated})


_SQUARED = objectives.get_loss("squared")


def _drawn(num_test: int, point: Point) -> tuple[PRNGKey, Dataset, tuple[Dataset, Array]]:
    """A key for the start, training samples, and test points with the mask of the fresh ones."""
    # The key leaves the predictor out: both see the same samples.
    key = jax.random.key(point["seed"])
    key = jax.random.fold_in(key, point["dim"] * MAX_SAMPLES + point["num_samples"])
    data_key, start_key = jax.random.split(key)
    rows = jnp.arange(point["num_rows"]) % point["num_samples"]
    # One draw for both sets: they have one w, and each draw more is slow to compile.
    drawn = LAWS[point["law"]].draw(data_key, num_test + rows.size, point["dim"])
    train = jax.tree.map(lambda a: a[num_test:][rows], drawn)
    test = jax.tree.map(lambda a: a[:num_test], drawn)
    never_twice = point["law"] != "D"
    is_fresh = jnp.ones(num_test, bool) if never_twice else data.unseen(test.x, train.x)
    return start_key, train, (test, is_fresh)


def _errors(
    law: Law,
    misfits: Float[Array, " n"],
    outputs: Float[Array, " m"],
    test: Dataset,
    counted: Bool[Array, " m"],
) -> dict[str, Array]:
    """Means of min((y − f)², truncation) over the counted test points, of (y − f)² over samples."""
    errors = jnp.minimum((outputs - test.y) ** 2, law.truncation)
    test_error = jnp.sum(errors * counted) / jnp.sum(counted)
    return {"test_error": test_error, "train_loss": jnp.mean(misfits**2)}


def _solved(lam: float, residual: Array, largest: float) -> dict[str, Array]:
    return {"lam": jnp.asarray(lam), "residual": residual, "solved": residual <= largest}


def planted_objective(lam: float, planted_norm: float, mean_square: Array) -> Array:
    """The least F_λ over the scales of a network that fits y, with ‖Θ‖² = planted_norm.

    At scale c it is mean(y²)(1 − c)² + λ planted_norm c.
    """
    shrinkage = jnp.minimum(lam * planted_norm / (2 * mean_square), 1.0)
    return mean_square * shrinkage**2 + lam * planted_norm * (1 - shrinkage)


def _above_planted(
    network: networks.Network, params: Params, train: Dataset, lam: float, planted_norm: float
) -> Float[Array, ""]:
    """F_λ(Θ)/F_λ(planted) − 1; above 0 it proves that the optimum was missed."""
    reached = objectives.objective(_SQUARED, network, params, train, math.log(lam))
    return reached / planted_objective(lam, planted_norm, jnp.mean(train.y**2)) - 1


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once, counted from its arrays."""
    n, dim, width = point["num_rows"], point["dim"], config.width
    if point["predictor"] == "network":
        return 4 * n * (6 * width + 2 * dim) + 8 * config.num_test * (width + dim)
    # The eigenvectors are factorised in two more matrices beside the Gram matrix.
    return 8 * (4 * n**2 + n * config.num_test + 12 * kernels.ACCELERATOR_BLOCK**2)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(
        function=cell(config),
        axes={AXIS: cells(config), "seed": range(config.num_seeds)},
        static=STATIC,
    )


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
