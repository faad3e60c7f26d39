"""Claim I: on D the regularised network learns from O(d) samples, its kernel needs Ω(d²).

Every predictor sees the same samples for the same dimension, size and seed, and is tested on fresh
points of D that are not among them.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.
"""

import dataclasses
import functools
import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import data, kernels, networks
from ntkreg._types import Array, Bool, Float, Int, Params, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, training
from ntkreg.kernels import kernel_machines
from ntkreg.kernels.tangent import ACCELERATOR_BLOCK
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import margins, objectives, trainers

NETS = ("net_regularized", "net_small_init", "net_standard_init")
TUNED = ("ntk_logistic", "ntk_ridge")
KERNELS = ("ntk_svm", *TUNED)
PREDICTORS = (*NETS, *KERNELS)

# The learned function is drawn over (x₁, x₂) ∈ [−1.5, 1.5]², averaged over draws of the noise.
PLANE_SIDE, PLANE_EXTENT, PLANE_DRAWS = 15, 1.5, 8
PLANE_POINTS = PLANE_SIDE**2 * PLANE_DRAWS

MAX_SAMPLES = 2**20  # keeps (dim, num_samples) apart in one 32-bit number

NET_DTYPE = jnp.float32
SOLVED = 1e-6  # the residual below which a kernel machine counts as solved
NET_SOLVED = 1e-2  # how far above the planted network's objective a solved network may end
BASELINE_LOSS = 0.01
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
      predictors: any of PREDICTORS.
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
    n, dim, tests = point["num_rows"], point["dim"], config.num_test + PLANE_POINTS
    if point["predictor"] in NETS:
        return 4 * (n * (6 * config.width + 2 * dim) + tests * (config.width + n + 3 * dim))
    # Factorisations keep three n × n arrays beside the Gram matrix.
    is_factorised = point["predictor"] in TUNED or n <= kernel_machines.SMALL
    matrices = (4 if is_factorised else 1) * n**2
    blocks = 12 * ACCELERATOR_BLOCK**2
    return (matrices + n * tests + blocks) * np.dtype(config.kernel_dtype).itemsize


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(
        function=cell(config),
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


class Context(NamedTuple):
    """What a cell is trained and tested on; `is_fresh` tells test points not in the samples."""

    train: Dataset
    test: Dataset
    is_fresh: Bool[Array, " m"]
    plane: Float[Array, "p d"]


class Fit(NamedTuple):
    """Outputs of a trained predictor, and how well its own problem was solved.

    `residual` is the relative duality gap of the SVM, the relative gradient of the logistic
    predictor, the relative residual of ridge's equations. The regularised network's problem is not
    convex, but the planted network is a candidate on any samples: `residual` is F/F(planted) − 1,
    below 0 where the samples allow a smaller F, and above 0 a proof that the optimum was missed.
    Without λ it is NaN, and a network counts as solved where it fits all its samples.
    """

    train: Float[Array, " n"]
    test: Float[Array, " m"]
    plane: Float[Array, " p"]
    normalized_margin: Float[Array, ""]
    lam: Float[Array, ""]
    residual: Float[Array, ""]
    solved: Bool[Array, ""]


def cell(config: Config) -> Cell:
    """The cell of one (predictor, dim, num_samples, num_rows, seed)."""

    def prepare(point: Point) -> tuple[Context, PyTree]:
        # The key leaves the predictor out: all of them see the same samples.
        key = jax.random.key(point["seed"])
        key = jax.random.fold_in(key, point["dim"] * MAX_SAMPLES + point["num_samples"])
        data_key, start_key = jax.random.split(key)
        rows = jnp.arange(point["num_rows"]) % point["num_samples"]
        context = _context(data_key, point["dim"], rows, config.num_test)
        if point["predictor"] in KERNELS:
            return context, ()
        trainer, scale = _trainer(config, point["predictor"])
        params = optax.tree.scale(scale, trainer.network.init(start_key, point["dim"]))
        return context, trainers.init(trainer, optax.tree.cast(params, NET_DTYPE))

    def advance(point: Point, context: Context, state: PyTree, num_steps: Array):
        if point["predictor"] in KERNELS:
            return state, jnp.asarray(True)
        trainer, _ = _trainer(config, point["predictor"])
        knobs = _knobs(config, point["predictor"])
        state = trainers.advance(trainer, _cast(context.train, NET_DTYPE), knobs, state, num_steps)
        return state, trainers.is_done(trainer, knobs, state)

    def finish(point: Point, context: Context, state: PyTree) -> dict[str, Array]:
        predictor = point["predictor"]
        fit = (_fit_kernel if predictor in KERNELS else _fit_net)(config, predictor, context, state)
        return _measured(context, fit)

    def num_steps(point: Point) -> int:
        predictor = point["predictor"]
        if predictor in KERNELS:
            return 0
        return trainers.total_steps(_trainer(config, predictor)[0], _knobs(config, predictor))

    return Cell(prepare, advance, finish, config.num_steps, num_steps)


def _context(key: Array, dim: int, rows: Int[Array, " n"], num_test: int) -> Context:
    """Fresh test points, and training samples of which `rows` tells the one in each row."""
    # One draw for both sets: each more is half a second more to compile.
    drawn = data.noisy_xor(key, num_test + rows.size, dim)
    train = jax.tree.map(lambda a: a[num_test:][rows], drawn)
    test = jax.tree.map(lambda a: a[:num_test], drawn)
    side = jnp.linspace(-PLANE_EXTENT, PLANE_EXTENT, PLANE_SIDE)
    signal = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    signal = jnp.repeat(signal, PLANE_DRAWS, axis=0)
    noise = jnp.tile(test.x[:PLANE_DRAWS, 2:], (PLANE_SIDE**2, 1))
    plane = jnp.concatenate([signal, noise], axis=1)
    return Context(train, test, data.unseen(test.x, train.x), plane)


def _cast(dataset: Dataset, dtype) -> Dataset:
    return jax.tree.map(lambda array: array.astype(dtype), dataset)


def _network(config: Config) -> networks.Network:
    return networks.fully_connected(2, config.width)


def _trainer(config: Config, predictor: str) -> tuple[trainers.Trainer, float]:
    """The trainer of a network and the scale of its start."""
    if predictor == "net_regularized":
        return trainers.Trainer(_network(config), num_steps=config.num_steps), 1.0
    trainer = trainers.Trainer(
        _network(config),
        descend="plain",
        optimizer=optax.sgd,
        schedule=trainers.constant,
        num_steps=config.baseline_steps,
        stop_log_loss=math.log(BASELINE_LOSS),
    )
    return trainer, config.small_init if predictor == "net_small_init" else 1.0


def _knobs(config: Config, predictor: str) -> trainers.Knobs:
    if predictor == "net_regularized":
        return trainers.knobs(config.lams, config.learning_rate, NET_DTYPE)
    return trainers.knobs(0.0, config.baseline_learning_rate, NET_DTYPE)


def _fit_net(config: Config, predictor: str, context: Context, state: PyTree) -> Fit:
    trainer, _ = _trainer(config, predictor)
    inputs = jnp.concatenate([context.train.x, context.test.x, context.plane])
    outputs = trainer.network.apply(state.params, inputs.astype(NET_DTYPE))
    ends = (context.train.y.size, context.train.y.size + context.test.y.size)
    train, test, plane = jnp.split(outputs, ends)
    # Reported margins are float64 wherever it is switched on.
    params = optax.tree.cast(state.params, context.train.x.dtype)
    lam = config.lams[-1] if predictor == "net_regularized" else 0.0
    fits = jnp.all(context.train.y * train > 0) & jnp.all(jnp.isfinite(plane))
    residual = _above_planted(trainer.network, params, context.train, lam) if lam else jnp.nan
    return Fit(
        train=train,
        test=test,
        plane=plane,
        normalized_margin=margins.normalized_margin(trainer.network, params, context.train),
        lam=jnp.asarray(lam),
        residual=jnp.asarray(residual),
        solved=fits & (residual <= NET_SOLVED) if lam else fits,
    )


def _above_planted(
    network: networks.Network, params: Params, train: Dataset, lam: float
) -> Float[Array, ""]:
    """F_λ(Θ)/F_λ(planted) − 1, where the planted network has its best scale."""
    logistic = objectives.get_loss("logistic")
    reached = objectives.log_objective(logistic, network, params, train, math.log(lam))
    return jnp.expm1(reached - math.log(planted_objective(lam)))


def planted_objective(lam: float) -> float:
    """The least F_λ over the scales of the planted network |x₁| − |x₂|, on any samples of D.

    At scale c every margin is c and ‖Θ‖² = 8c: F = log(1 + e^(−c)) + 8λc, which is least where
    1/(1 + e^c) = 8λ, or at c = 0 where λ ≥ 1/16.
    """
    share = min(8 * lam, 0.5)
    return -math.log1p(-share) + share * math.log(1 / share - 1)


def _fit_kernel(config: Config, predictor: str, context: Context, state: PyTree) -> Fit:
    train = _cast(context.train, jnp.dtype(config.kernel_dtype))
    kernel = functools.partial(kernels.ntk, _network(config))
    gram = kernel(train.x)
    lams = jnp.asarray(config.tuned_lams, gram.dtype)
    if predictor == "ntk_svm":
        tolerance = 1e-8 if gram.dtype == jnp.float64 else 1e-6
        svm = kernel_machines.hard_margin_svm(gram, train.y, tolerance=tolerance)
        coefficients = svm.coefficients[None].astype(gram.dtype)
        residuals = svm.relative_gap[None]
        lams = jnp.zeros(1, gram.dtype)
    elif predictor == "ntk_logistic":
        path = kernel_machines.logistic_path(gram, train.y, lams)
        coefficients, residuals = path.coefficients, path.gradient_norm
    else:
        coefficients = kernel_machines.ridge(gram, train.y, lams)
        fitted = coefficients @ gram + train.y.size * lams[:, None] * coefficients
        residuals = jnp.linalg.norm(fitted - train.y, axis=1) / jnp.linalg.norm(train.y)
    inputs = jnp.concatenate([context.test.x, context.plane]).astype(gram.dtype)
    outputs = coefficients @ kernel(train.x, inputs)
    num_test = context.test.y.size
    # λ is chosen on the test set itself: the kernels' best case.
    errors = jax.vmap(lambda f: _error(f, context.test.y, context.is_fresh))(outputs[:, :num_test])
    best = jnp.argmin(errors)
    beta, fitted = coefficients[best], gram @ coefficients[best]
    bound = SOLVED if gram.dtype == jnp.float64 else 1e-3
    return Fit(
        train=fitted,
        test=outputs[best, :num_test],
        plane=outputs[best, num_test:],
        normalized_margin=jnp.min(train.y * fitted) / jnp.sqrt(beta @ fitted),
        lam=lams[best],
        residual=residuals[best],
        solved=residuals[best] <= bound,
    )


def _error(outputs: Array, labels: Array, counted: Array) -> Array:
    """The share of the counted points without y f(x) > 0, so that NaN is an error too."""
    return jnp.sum(~(labels * outputs > 0) & counted) / jnp.sum(counted)


def signal_share(
    outputs: Float[Array, " m"], x: Float[Array, "m d"], counted: Bool[Array, " m"]
) -> Float[Array, ""]:
    """Var(E[f | x₁, x₂]) / Var f over the counted points: 1 where f sees the signal alone."""
    group = jnp.stack([x[:, 0] > 0, x[:, 0] < 0, x[:, 1] > 0, x[:, 1] < 0], axis=1)
    member = (group & counted[:, None]).astype(outputs.dtype)
    sizes = jnp.sum(member, axis=0)
    weights = sizes / jnp.sum(sizes)
    means = (outputs @ member) / jnp.maximum(sizes, 1.0)
    mean = weights @ means
    total = jnp.sum(counted * (outputs - mean) ** 2) / jnp.sum(counted)
    return (weights @ (means - mean) ** 2) / total


def _measured(context: Context, fit: Fit) -> dict[str, Array]:
    everywhere = jnp.ones(context.train.y.shape, bool)
    plane = fit.plane.reshape(PLANE_SIDE, PLANE_SIDE, PLANE_DRAWS).mean(-1)
    scale = jnp.std(fit.test)
    return {
        "test_error": _error(fit.test, context.test.y, context.is_fresh),
        "train_error": _error(fit.train, context.train.y, everywhere),
        "normalized_margin": fit.normalized_margin,
        "signal_share": signal_share(fit.test, context.test.x, context.is_fresh),
        "num_test": jnp.sum(context.is_fresh),
        "lam": fit.lam,
        "residual": fit.residual,
        "solved": fit.solved,
        "plane": (plane / scale).astype(NET_DTYPE),
    }
