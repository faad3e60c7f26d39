"""Teachers in d = 20: the network against kernel machines, as the paper compares them, and bounds.

Three tasks, each for growing n: the signs of a random teacher with six hidden units, with margins
of at least 0.1; its outputs, as a regression; and the parity of two signs among Gaussian
coordinates. On the same samples a two-layer network with λ = 1e-8, and two kernel predictors: with
the kernel of random ReLU features (the top layer alone is trained: the NNGP) and with the NTK. They
are hard-margin machines on signs, and least-norm interpolants in the regression.

Source: Wei, Lee, Liu, Ma (ICLR 2019 submission), the experiment on network and kernel with varying
n, and its construction with Gaussian inputs.
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
from ntkreg.data import draws
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, training
from ntkreg.kernels import kernel_machines
from ntkreg.kernels import tangent as kernels
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training.margins import normalized_margin
from ntkreg.training.objectives import Loss, get_loss, objective

LOSSES = {"classification": "logistic", "regression": "squared", "parity": "logistic"}
TASKS = tuple(LOSSES)
PREDICTORS = ("network", "nngp", "ntk")
STATIC = ("task", "num_samples")
AXIS = (*STATIC, "seed")
UNKNOWN = np.inf  # margins in a regression
PARITY_UNITS = 4  # hidden units of x₁x₂ on signs
NET_SOLVED = 0.05  # how far above the teacher's objective a solved network may end
KERNEL_SOLVED = 1e-6  # relative: duality gap of the machine, residual of the interpolant
SCALES = (1.0, *np.geomspace(1e-2, 1e5, 200).tolist())  # of the teacher, to find its best


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      tasks: any of TASKS.
      dim: d.
      sizes: n.
      num_trials: seeds 0 … num_trials − 1, each with its teacher, samples and start.
      teacher_units, teacher_margin: hidden units of the teacher, and the least |f(x)| of the points
        that are classified.
      width: of the network.
      lams: the path of λ that the network follows to its end. From 1e-2 a network can begin with
        nearly all neurons gone, and not come back to fit the rarer class.
      num_steps: Adam steps at each λ of the path.
      learning_rate: of Adam, small: at larger ones the squared loss ends far from its optimum.
      num_test: fresh test points.
    """

    tasks: tuple[str, ...] = TASKS
    dim: int = 20
    sizes: tuple[int, ...] = (20, 40, 80, 160, 320, 640)
    num_trials: int = 20
    teacher_units: int = 6
    teacher_margin: float = 0.1
    width: int = 100
    lams: tuple[float, ...] = (1e-3, 1e-5, 1e-8)
    num_steps: int = 4000
    learning_rate: float = 0.001
    num_test: int = 4096

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("tasks", *configs.one_of(TASKS))
        check("dim", lambda d: d >= 2, "at least 2")
        check("sizes", lambda n: n >= 2, "at least 2")
        check("teacher_margin", lambda v: 0 <= v < np.inf, "at least 0 and finite")
        for name in ("num_trials", "teacher_units", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        configs.check_distinct(self, "tasks", "sizes")
        training.check(self)
        check(
            "width",
            lambda v: v >= max(self.teacher_units, PARITY_UNITS),
            f"at least that of what is planted, {max(self.teacher_units, PARITY_UNITS)}",
        )

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: many cores."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        tasks=("classification", "regression"), dim=5, sizes=(40,), num_trials=2, width=32,
        lams=(1e-2, 1e-5), num_steps=500, learning_rate=0.01, num_test=500,
    ),
    "laptop": dict(num_trials=10),
    "thorough": {},
    "full": dict(
        sizes=(20, 40, 80, 160, 320, 640, 1280, 2560), num_trials=100, num_steps=10_000,
        num_test=20_000,
    ),
}  # fmt: skip


class Fit(NamedTuple):
    """A trained predictor: its outputs, what its bound is made of, how well it was solved.

    `mean_square` and `largest_square` are of ‖x‖² over the samples for the network, of K(x, x) for
    a kernel. `residual` is the relative duality gap of a machine, the relative residual of an
    interpolant, and for the network F/F(teacher) − 1 with the teacher at its best scale: above 0 it
    proves that the optimum was missed, below it says nothing.
    """

    train: Float[Array, " n"]
    test: Float[Array, " m"]
    normalized_margin: Float[Array, ""]
    mean_square: Float[Array, ""]
    largest_square: Float[Array, ""]
    residual: Float[Array, ""]
    solved: Bool[Array, ""]


def samples_of(config: Config, point: Point) -> tuple[PRNGKey, Dataset, tuple[Dataset, Params]]:
    """A key for the start, training samples, fresh test points, and the planted network.

    The teacher's outputs are scaled to variance 1 over all points drawn.
    """
    task, n = point["task"], point["num_samples"]
    key = jax.random.fold_in(jax.random.key(point["seed"]), n)
    start_key, teacher_key, data_key = jax.random.split(key, 3)
    num_points = n + config.num_test
    if task == "parity":
        both, planted = data.gaussian_parity(data_key, num_points, config.dim), _parity(config.dim)
    else:
        weights, function = training.random_teacher(teacher_key, config.dim, config.teacher_units)
        both, planted = _taught(config, task, data_key, num_points, weights, function)
    first, second = (
        jax.tree.map(lambda a, rows=rows: a[rows], both) for rows in (slice(n), slice(n, None))
    )
    return start_key, first, (second, planted)


def _taught(
    config: Config, task: str, key: PRNGKey, num_points: int, weights: Params, function: Callable
) -> tuple[Dataset, Params]:
    """Samples of a teacher, and the teacher as it labels them."""
    if task == "classification":
        drawn = data.teacher(key, function, num_points, config.dim, config.teacher_margin)
        return drawn, weights
    x = draws.normal(key, (num_points, config.dim))
    outputs = function(x)
    scale = jnp.std(outputs)
    return Dataset(x, outputs / scale), (weights[0], weights[1] / scale)


def _parity(dim: int) -> Params:
    """x₁x₂ = |x₁ + x₂|/2 − |x₁ − x₂|/2 on signs: four neurons."""
    first = jnp.zeros((dim, 4)).at[:2].set(jnp.array([[1.0, -1, 1, -1], [1.0, -1, -1, 1]]))
    return first, jnp.array([0.5, 0.5, -0.5, -0.5])[:, None]


def cell(config: Config) -> Cell:
    """The cell of one (task, num_samples, seed): arrays with one entry for each of PREDICTORS."""
    network = networks.fully_connected(2, config.width)
    draw = functools.partial(samples_of, config)

    def measure(point: Point, train: Dataset, rest: tuple, params: Params) -> dict[str, Array]:
        test, planted = rest
        loss = get_loss(LOSSES[point["task"]])
        fits = [_fit_network(loss, network, params, train, test, planted, config.lams[-1])]
        fits += [_fit_kernel(loss, network, of, train, test) for of in (kernels.nngp, kernels.ntk)]
        found = [_measured(loss, fit, train, test) for fit in fits]
        return {name: jnp.stack([one[name] for one in found]) for name in found[0]}

    trained = {task: training.cell(config, draw, measure, loss) for task, loss in LOSSES.items()}
    return stages.chosen("task", trained)


def _fit_network(
    loss: Loss,
    network: networks.Network,
    params: Params,
    train: Dataset,
    test: Dataset,
    planted: Params,
    lam: float,
) -> Fit:
    reached = objective(loss, network, params, train, math.log(lam))
    residual = reached / planted_objective(loss, planted, train, lam) - 1
    margin = normalized_margin(network, params, train) if loss.labels == "sign" else UNKNOWN
    squares = jnp.sum(train.x**2, axis=1)
    return Fit(
        train=network.apply(params, train.x),
        test=network.apply(params, test.x),
        normalized_margin=jnp.asarray(margin),
        mean_square=jnp.mean(squares),
        largest_square=jnp.max(squares),
        residual=residual,
        solved=residual <= NET_SOLVED,
    )


def planted_objective(loss: Loss, planted: Params, train: Dataset, lam: float) -> Array:
    """The least F_λ of a two-layer network over SCALES, its neurons balanced.

    Its outputs stay where uⱼ and wⱼ have equal norms, and ‖Θ‖² is then 2 Σ|wⱼ|‖uⱼ‖, the least.
    """
    first, last = planted
    outputs = jnp.maximum(train.x @ first, 0.0) @ last[:, 0]
    squared_norm = 2 * jnp.linalg.norm(first, axis=0) @ jnp.abs(last[:, 0])
    at = lambda scale: jnp.mean(loss.value(scale * outputs, train.y)) + lam * scale * squared_norm
    return jnp.min(jax.lax.map(at, jnp.array(SCALES)))


def _fit_kernel(
    loss: Loss, network: networks.Network, kernel: Callable, train: Dataset, test: Dataset
) -> Fit:
    gram = kernel(network, train.x)
    if loss.labels == "sign":
        svm = kernel_machines.hard_margin_svm(gram, train.y, solver="interior_point")
        beta, residual, margin = svm.coefficients, svm.relative_gap, svm.margin
    else:
        beta, margin = kernel_machines.min_norm_interpolant(gram, train.y), jnp.asarray(UNKNOWN)
        residual = jnp.linalg.norm(gram @ beta - train.y) / jnp.linalg.norm(train.y)
    squares = jnp.diagonal(gram)
    return Fit(
        train=gram @ beta,
        test=kernel(network, test.x, train.x) @ beta,
        normalized_margin=margin,
        mean_square=jnp.mean(squares),
        largest_square=jnp.max(squares),
        residual=residual,
        solved=residual <= KERNEL_SOLVED,
    )


def _error(loss: Loss, outputs: Float[Array, " m"], y: Float[Array, " m"]) -> Float[Array, ""]:
    """The share of wrong signs, NaN among them; for reals the mean square over Var y."""
    if loss.labels == "sign":
        return jnp.mean(~(outputs * y > 0))
    return jnp.mean((outputs - y) ** 2) / jnp.var(y)


def _measured(loss: Loss, fit: Fit, train: Dataset, test: Dataset) -> dict[str, Array]:
    found = fit._asdict()
    del found["train"], found["test"]
    return {
        "train_error": _error(loss, fit.train, train.y),
        "test_error": _error(loss, fit.test, test.y),
        **found,
    }


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once, counted from its arrays."""
    n = point["num_samples"]
    kernel = 6 * n**2 + n * config.num_test + 12 * kernels.ACCELERATOR_BLOCK**2
    network = (6 * n + config.num_test) * (config.dim + config.width)
    return 8 * (kernel + network)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    seeds = range(config.num_trials)
    rows = [(task, n, seed) for task in config.tasks for n in config.sizes for seed in seeds]
    return dict(function=cell(config), axes={AXIS: rows}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
