"""One cell of the separation: a predictor trained on samples of D and tested on fresh ones."""

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ntkreg import data, kernel_machines, kernels, margins, networks, objectives, trainers
from ntkreg._types import Array, Bool, Float, Int, Params, PyTree
from ntkreg.data import Dataset
from ntkreg.sweeps import Cell, Point

if TYPE_CHECKING:
    from ntkreg.experiments.separation import Config

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


def cell(config: "Config") -> Cell:
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


def _network(config: "Config") -> networks.Network:
    return networks.fully_connected(2, config.width)


def _trainer(config: "Config", predictor: str) -> tuple[trainers.Trainer, float]:
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


def _knobs(config: "Config", predictor: str) -> trainers.Knobs:
    if predictor == "net_regularized":
        return trainers.knobs(config.lams, config.learning_rate, NET_DTYPE)
    return trainers.knobs(0.0, config.baseline_learning_rate, NET_DTYPE)


def _fit_net(config: "Config", predictor: str, context: Context, state: PyTree) -> Fit:
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


def _fit_kernel(config: "Config", predictor: str, context: Context, state: PyTree) -> Fit:
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
