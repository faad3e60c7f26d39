"""Networks and kernel predictors on the same samples of D: points, one point's run, the table."""

import dataclasses
import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import data, kernels, networks
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Bool, Float, Params, PRNGKey
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment, _statistics, _training
from ntkreg.experiments._training import NET_DTYPE
from ntkreg.kernels import kernel_machines
from ntkreg.theory import kernel_jump, kernel_span
from ntkreg.training import margins, objectives, trainers

NETWORK, NTK = "net_regularized", "ntk_svm"  # those of the claim
BASELINES = ("net_small_init", "net_standard_init")
TUNED = ("ntk_logistic", "ntk_ridge")
ORACLE = "ntk_oracle"  # the coefficients of largest signal-to-noise ratio on the population
KERNELS = (NTK, *TUNED, ORACLE)
PREDICTORS = (NETWORK, *BASELINES, *KERNELS)
POWERS = {NETWORK: 1, NTK: 2}  # of d, that the theorem predicts
RESULTS = (
    "test_error", "train_error", "normalized_margin", "signal_share", "num_test", "lam",
    "residual", "r_squared", "solved", "plane", "first_residual", "paths_more",
)  # fmt: skip
# A point of the sweep has all predictors of a kind.
KINDS = {"networks": PREDICTORS[:3], "kernels": KERNELS}

# The learned function is drawn over (x₁, x₂) ∈ [−1.5, 1.5]², averaged over draws of the noise: so
# many in the dimension of the picture, and one in the others.
PLANE_SIDE, PLANE_EXTENT, PLANE_DRAWS = 15, 1.5, 8

MAX_SAMPLES = 2**20  # keeps (dim, num_samples) apart in one 32-bit number
SOLVED = 1e-6  # the residual below which a kernel machine counts as solved
NET_SOLVED = 1e-2  # how far above the planted network's objective a solved network may end
BASELINE_LOSS = 0.01
MIN_TEST = 10_000
MOST_ROWS, MOST_KERNEL_ROWS = 400, 1280  # to which samples are repeated


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes_over_d: n/d, for every predictor.
      sizes_over_d2: n/d², for the kernels.
      predictors: any of PREDICTORS.
      num_seeds: seeds 0 … num_seeds − 1, each with its own samples, test points and initial
        parameters.
      width: of the networks.
      lams: the path of λ that the regularised network follows to its end; going back up shakes it
        out of poor local minima.
      max_paths: how often it follows it at most: again while its objective is above the planted
        network's, which proves that it is no minimizer.
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
      oracle_dims, oracle_sizes, oracle_seeds: d, n/d² and the number of samples on which the best
        coefficients are computed, which needs float64.
      kernel_dtype: of the Gram matrices.
    """

    dims: tuple[int, ...] = (10, 20, 40, 80)
    sizes_over_d: tuple[float, ...] = (2.0, 2.5, 3.0, 3.5, 4.0, 6.0, 16.0)
    sizes_over_d2: tuple[float, ...] = (0.3, 0.5, 0.8)
    predictors: tuple[str, ...] = PREDICTORS
    num_seeds: int = 5
    width: int = 128
    lams: tuple[float, ...] = 4 * (1e-3, 1e-8)
    max_paths: int = 4
    num_steps: int = 1000
    learning_rate: float = 0.03
    baseline_learning_rate: float = 0.5
    baseline_steps: int = 5000
    small_init: float = 0.1
    tuned_lams: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8)
    num_test: int = 12_288
    max_ntk_samples: int = 1280
    max_tuned_samples: int = 500
    oracle_dims: tuple[int, ...] = (10, 20, 30, 40, 50, 60)
    oracle_sizes: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.8)
    oracle_seeds: int = 20
    kernel_dtype: str = "float64"

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for name in ("dims", "oracle_dims"):
            check(name, lambda d: d >= 3, "at least 3")
        for name in ("sizes_over_d", "sizes_over_d2", "oracle_sizes", "lams", "tuned_lams"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("learning_rate", "baseline_learning_rate", "small_init"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        counts = ("num_seeds", "width", "max_paths", "num_steps", "baseline_steps", "oracle_seeds")
        for name in (*counts, "max_ntk_samples"):
            check(name, lambda v: v >= 1, "at least 1")
        check("num_test", lambda v: v >= MIN_TEST, f"at least {MIN_TEST}")
        check("predictors", *_experiment.one_of(PREDICTORS))
        check("kernel_dtype", *_experiment.one_of(("float32", "float64")))
        if ORACLE in self.predictors and self.kernel_dtype != "float64":
            raise ValueError(f"kernel_dtype must be float64 for {ORACLE}, got {self.kernel_dtype}")


# smoke: seconds. laptop, thorough: minutes on two cores. full: a GPU with 80 GB.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dims=(6,), sizes_over_d=(1.0, 6.0), sizes_over_d2=(1.0,), num_seeds=2, width=16,
        lams=(1e-3, 1e-8), num_steps=200, baseline_steps=500, num_test=MIN_TEST,
        oracle_dims=(6,), oracle_sizes=(0.3, 0.8), oracle_seeds=2,
    ),
    "laptop": dict(
        dims=(10, 16, 25), sizes_over_d=(2.0, 3.0, 4.0, 6.0),
        predictors=(NETWORK, *BASELINES, NTK, "ntk_ridge", ORACLE),
        oracle_dims=(10, 16, 25), oracle_sizes=(0.1, 0.3, 0.4, 0.5, 0.6, 0.8), oracle_seeds=5,
        lams=2 * (1e-3, 1e-8), max_paths=8,
    ),
    "thorough": {},
    # From d = 160 on shorter paths, and ones from λ = 1e-3, mostly end above the planted objective.
    # Where most networks miss the minimum at first: is it found at last?
    "cure": dict(
        dims=(160,), sizes_over_d=(4.0,), predictors=("net_regularized",), num_seeds=20,
        lams=4 * (3e-3, 1e-8), num_steps=4000, max_paths=8,
    ),
    "full": dict(
        dims=(20, 40, 80, 160), sizes_over_d=(2.0, 3.0, 3.5, 4.0, 5.0, 6.0),
        sizes_over_d2=(0.3, 0.5, 0.65, 0.8), predictors=("net_regularized", "ntk_svm"),
        num_seeds=20, lams=4 * (3e-3, 1e-8), num_steps=4000, max_ntk_samples=20_480,
        kernel_dtype="float32",
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Kind of predictors, dimension, size and seed of every run; samples fill num_rows rows."""
    found = []
    for kind, dim in itertools.product(KINDS, sorted({*config.dims, *config.oracle_dims})):
        sizes = {p: _sizes(config, p, dim) for p in _of(config, kind)}
        every = sorted(set().union(*sizes.values()))
        for n in every:
            seeds = max(_num_seeds(config, p) for p, own in sizes.items() if n in own)
            point = dict(kind=kind, dim=dim, num_samples=n, num_rows=_num_rows(kind, n, every))
            found += [point | {"seed": seed} for seed in range(seeds)]
    return found


def _of(config: Config, kind: str) -> list[str]:
    return [predictor for predictor in KINDS[kind] if predictor in config.predictors]


def _num_seeds(config: Config, predictor: str) -> int:
    return config.oracle_seeds if predictor == ORACLE else config.num_seeds


def _sizes(config: Config, predictor: str, dim: int) -> set[int]:
    """The n at which a predictor is run; none in dimensions that it does not have."""
    if dim not in (config.oracle_dims if predictor == ORACLE else config.dims):
        return set()
    if predictor == ORACLE:
        return {max(1, round(ratio * dim**2)) for ratio in config.oracle_sizes}
    linear = {max(1, round(ratio * dim)) for ratio in config.sizes_over_d}
    squared = {max(1, round(ratio * dim**2)) for ratio in config.sizes_over_d2}
    squared = {n for n in squared if n <= config.max_ntk_samples}
    if predictor in TUNED:
        return {n for n in squared if n <= config.max_tuned_samples}
    return linear | squared if predictor in KERNELS else linear


def _num_rows(kind: str, num_samples: int, sizes: list[int]) -> int:
    """The rows that samples are repeated to fill, so that few programs serve all sizes.

    For kernels the largest size that is solved in the same way. For networks a whole number of
    repetitions (`_training.num_rows`), or else the fewest rows that other sizes are repeated to.
    """
    if kind != "networks":
        ends = (kernel_machines.SMALL, MOST_KERNEL_ROWS, num_samples)
        end = next(end for end in ends if num_samples <= end)
        return max(n for n in sizes if n <= end)
    repeated = {n: _training.num_rows(n, sizes, MOST_ROWS) for n in sizes}
    shared = [rows for n, rows in repeated.items() if rows > n]
    if repeated[num_samples] > num_samples:
        return repeated[num_samples]
    return min((rows for rows in shared if rows >= num_samples), default=num_samples)


class Draw(NamedTuple):
    """What a predictor is trained and tested on; `is_fresh` marks test points not in the samples.

    Rows of `train` are samples repeated, and have `weights`, of mean 1, by which all samples count
    equally. The predictor's function is drawn at the inputs `plane`.
    """

    train: Dataset
    weights: Float[Array, " n"]
    test: Dataset
    is_fresh: Bool[Array, " m"]
    plane: Float[Array, "p d"]


def run(
    config: Config, kind: str, dim: int, num_samples: Array, num_rows: int, seed: Array
) -> dict[str, Array]:
    """Errors, margin and residual of each predictor, and its mean function over (x₁, x₂)."""
    if kind == "networks":
        found = _networks(config, dim, num_samples, num_rows, seed)
    else:
        found = _kernels(config, dim, num_samples, num_rows, seed)
    return {name: found[name] for name in RESULTS}


def _draw(
    config: Config, seed: Array, num_samples: Array, dim: int, num_rows: int
) -> tuple[Draw, PRNGKey]:
    """Fresh test points, training samples repeated to so many rows, and a key for the network.

    They do not depend on the predictor: all have the same samples.
    """
    key = jax.random.fold_in(jax.random.key(seed), dim * MAX_SAMPLES + num_samples)
    data_key, start_key = jax.random.split(key)
    num_test, num_draws = config.num_test, PLANE_DRAWS if dim == dim_inside(config) else 1
    # One draw for both sets: each more is half a second more to compile.
    drawn = data.noisy_xor(data_key, num_test + num_rows, dim)
    rows = jnp.arange(num_rows) % num_samples
    times = num_rows // num_samples + (rows < num_rows % num_samples)
    weights = num_rows / (num_samples * times)
    train = jax.tree.map(lambda a: a[num_test:][rows], drawn)
    test = jax.tree.map(lambda a: a[:num_test], drawn)
    side = jnp.linspace(-PLANE_EXTENT, PLANE_EXTENT, PLANE_SIDE)
    signal = jnp.stack(jnp.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)
    signal = jnp.repeat(signal, num_draws, axis=0)
    noise = jnp.tile(test.x[:num_draws, 2:], (PLANE_SIDE**2, 1))
    plane = jnp.concatenate([signal, noise], axis=1)
    return Draw(train, weights, test, data.unseen(test.x, train.x), plane), start_key


def _measured(
    draw: Draw, train: Array, test: Array, plane: Array, **solution: Array
) -> dict[str, Array]:
    """RESULTS of a predictor's outputs on samples, test points and plane, and of its solution.

    `residual` is the relative duality gap of the SVM, the relative gradient of the logistic
    predictor, the relative residual of ridge's equations. The regularised network's problem is not
    convex, but the planted network is a candidate on any samples: `residual` is F/F(planted) − 1,
    below 0 where the samples allow a smaller F, and above 0 a proof that the optimum was missed.
    Without λ it is 0, and a network counts as solved where it fits all its samples.
    """
    mean = plane.reshape(PLANE_SIDE, PLANE_SIDE, -1).mean(-1)
    return solution | {
        "test_error": _error(test, draw.test.y, draw.is_fresh),
        "train_error": _error(train, draw.train.y, draw.weights),
        "signal_share": signal_share(test, draw.test.x, draw.is_fresh),
        "num_test": jnp.sum(draw.is_fresh),
        "plane": (mean / jnp.std(test)).astype(NET_DTYPE),
    }


def _weighted(draw: Draw) -> Dataset:
    return Dataset(draw.train.x, draw.weights * draw.train.y)


# The logistic loss of samples whose labels are weights times ±1.
WEIGHTED = objectives.Loss(
    lambda f, y: jnp.abs(y) * jax.nn.softplus(-jnp.sign(y) * f),
    lambda f, y: jnp.log(jnp.abs(y)) + objectives.log_softplus_neg(jnp.sign(y) * f),
    "real",
)


@functools.partial(jax.jit, static_argnames=("config", "dim", "num_rows"))
def _networks(
    config: Config, dim: int, num_samples: Array, num_rows: int, seed: Array
) -> dict[str, Array]:
    """The results of each network; those without λ one after the other, in one loop."""
    draw, key = _draw(config, seed, num_samples, dim, num_rows)
    network, names = networks.fully_connected(2, config.width), _of(config, "networks")
    samples = optax.tree.cast(_weighted(draw), NET_DTYPE)
    scales = [config.small_init if name == "net_small_init" else 1.0 for name in names]
    start = network.init(key, dim)
    starts = [optax.tree.scale(scale, start) for scale in scales]

    def trained(start: Params, is_regularized: bool) -> tuple[Params, Array, Array]:
        options = _training_of(config, is_regularized) | dict(loss=WEIGHTED)
        train = lambda start: trainers.train(network, samples, key=key, params=start, **options)
        if not is_regularized:
            return train(start).params, jnp.zeros(()), jnp.zeros((), int)
        return _until_below_planted(config, network, _weighted(draw), start, train)

    first = int(NETWORK in names)
    parts = [(starts[:first], True), (starts[first:], False)]
    stacked = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    ends = [jax.lax.map(functools.partial(trained, is_regularized=r), stacked(s))
            for s, r in parts if s]  # fmt: skip
    params, missed, again = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *ends)
    lams = jnp.asarray([config.lams[-1] if name == NETWORK else 0.0 for name in names])
    judged = jax.lax.map(lambda found: _judged_net(config, draw, *found), (params, lams))
    return judged | {"first_residual": missed, "paths_more": again}


def _until_below_planted(
    config: Config, network: networks.Network, train: Dataset, start: Params, follow
) -> tuple[Params, Array, Array]:
    """A network that goes along the path again while its objective proves that it is no minimizer.

    The planted network's objective is what it must reach, as every minimizer does. Each path begins
    where the last one ended, at most `max_paths` of them; the best end counts. Also the residual
    after the first, and how many more there were.
    """

    def once_more(state):
        params, best, smallest, first, paths = state
        params = follow(params).params
        own = optax.tree.cast(params, train.x.dtype)
        residual = _above_planted(network, own, train, config.lams[-1])
        is_better = residual < smallest
        best = jax.tree.map(lambda new, old: jnp.where(is_better, new, old), params, best)
        smallest = jnp.where(is_better, residual, smallest)
        return params, best, smallest, jnp.where(paths, first, residual), paths + 1

    is_above = lambda state: ~(state[2] <= 0) & (state[4] < config.max_paths)
    unknown, begun = jnp.full((), jnp.inf, train.x.dtype), optax.tree.cast(start, NET_DTYPE)
    state = (begun, begun, unknown, unknown, jnp.zeros((), int))
    _, best, _, first, paths = jax.lax.while_loop(is_above, once_more, state)
    return best, first, paths - 1


def _judged_net(config: Config, draw: Draw, trained: Params, lam: Array) -> dict[str, Array]:
    network = networks.fully_connected(2, config.width)
    inputs = jnp.concatenate([draw.train.x, draw.test.x, draw.plane]).astype(NET_DTYPE)
    num_train = draw.train.y.size
    outputs = network.apply(trained, inputs)
    train, test, plane = jnp.split(outputs, (num_train, num_train + draw.test.y.size))
    # Reported margins are float64 wherever it is switched on.
    params = optax.tree.cast(trained, draw.train.x.dtype)
    fits = jnp.all(draw.train.y * train > 0) & jnp.all(jnp.isfinite(plane))
    above = _above_planted(network, params, _weighted(draw), config.lams[-1])
    residual = jnp.where(lam > 0, above, 0.0)
    margin = margins.normalized_margin(network, params, draw.train)
    solved = fits & (residual <= NET_SOLVED)
    solution = dict(normalized_margin=margin, lam=lam, residual=residual, solved=solved)
    solution["r_squared"] = jnp.zeros(())
    return _measured(draw, train, test, plane, **solution)


def _training_of(config: Config, is_regularized: bool) -> dict[str, Any]:
    """λ and options of `trainers.train`."""
    if is_regularized:
        rate = config.learning_rate
        return dict(lam=config.lams, learning_rate=rate, num_steps=config.num_steps)
    return dict(
        lam=0.0, learning_rate=config.baseline_learning_rate, num_steps=config.baseline_steps,
        descend="plain", optimizer=optax.sgd, schedule=trainers.constant,
        stop_log_loss=math.log(BASELINE_LOSS),
    )  # fmt: skip


def _above_planted(
    network: networks.Network, params: Params, train: Dataset, lam: float
) -> Float[Array, ""]:
    """F_λ(Θ)/F_λ(planted) − 1, where the planted network has its best scale."""
    reached = objectives.log_objective(WEIGHTED, network, params, train, math.log(lam))
    return jnp.expm1(reached - math.log(planted_objective(lam)))


def planted_objective(lam: float) -> float:
    """The minimum of F_λ over the scales of the planted network |x₁| − |x₂|, on any samples of D.

    At scale c every margin is c and ‖Θ‖² = 8c: F = log(1 + e^(−c)) + 8λc, which is smallest where
    1/(1 + e^c) = 8λ, or at c = 0 where λ ≥ 1/16.
    """
    share = min(8 * lam, 0.5)
    return -math.log1p(-share) + share * math.log(1 / share - 1)


@functools.partial(jit_quickly, static_argnames=("config", "dim", "num_rows"))
def _kernels(
    config: Config, dim: int, num_samples: Array, num_rows: int, seed: Array
) -> dict[str, Array]:
    """The results of each kernel predictor; of those that have no such size or seed, any.

    On D the kernel is a function of ⟨x, x′⟩, one of 2d − 1 integers: it is looked up.
    """
    draw, _ = _draw(config, seed, num_samples, dim, num_rows)
    x, y = optax.tree.cast(draw.train, jnp.dtype(config.kernel_dtype))
    inputs = jnp.concatenate([draw.plane, _at_every_angle(draw.train.x[0])]).astype(x.dtype)
    found = kernels.ntk(networks.fully_connected(2, config.width), x, inputs)
    to_plane, values = found[:, : len(draw.plane)], found[0, len(draw.plane) :]
    looked_up = lambda z: values[jnp.round(dim - 1 - x @ z.astype(x.dtype).T).astype(jnp.int32)]
    gram, cross = looked_up(x), jnp.concatenate([looked_up(draw.test.x), to_plane], axis=1)
    rows = []
    for name in _of(config, "kernels"):
        solve = functools.partial(_solutions, config, name, gram, y, num_samples)
        if name == ORACLE:
            solve = functools.partial(_best, values[::-1], x, y, num_samples)
        other = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), jax.eval_shape(solve))
        is_run = jnp.isin(num_samples, jnp.asarray(sorted(_sizes(config, name, dim)), int))
        is_run &= seed < _num_seeds(config, name)
        solution = jax.lax.cond(is_run, solve, lambda other=other: other)
        rows.append(_judged_kernel(draw, gram, cross, solution))
    return jax.tree.map(lambda *values: jnp.stack(values), *rows)


def _at_every_angle(x: Float[Array, " d"]) -> Float[Array, "2*d-1 d"]:
    """Points xₖ of D with ⟨x, xₖ⟩ = d − 1 − k, for a point x of D and k = 0 … 2(d − 1)."""
    k = np.arange(2 * x.size - 1)[:, None]
    signal = np.where(k == k[-1], -1, 1) * jnp.where(k % 2, x[1::-1], x[:2])
    noise = np.where(np.arange(x.size - 2) < k // 2, -1, 1) * x[2:]
    return jnp.concatenate([signal, noise], axis=1)


class Solutions(NamedTuple):
    """A kernel predictor at every λ: coefficients, residuals, and R² on the population if known."""

    lams: Array
    coefficients: Array
    residuals: Array
    r_squared: Array


def _best(kappa: Array, x: Array, y: Array, num_samples: Array) -> Solutions:
    """The coefficients of largest signal-to-noise ratio, of samples that repeat none before."""
    repeats = jnp.tril(x @ x.T > x.shape[1] - 1.5, -1).any(axis=1)
    counted = (jnp.arange(y.size) < num_samples) & ~repeats
    found = kernel_span.best(kappa, x, y, counted)
    return Solutions(jnp.zeros(1), found.coefficients[None], found.residual[None], found.r_squared)


def _solutions(
    config: Config, predictor: str, gram: Array, y: Array, num_samples: Array
) -> Solutions:
    """A kernel predictor at every λ; the SVM has λ = 0.

    For the others rows that repeat a sample are made zero: these add a constant to the sum of
    losses, whose mean over all rows is minimised where λ is smaller by as much as they are more.
    """
    if predictor == NTK:
        tolerance = 1e-8 if gram.dtype == jnp.float64 else 1e-6
        svm = kernel_machines.hard_margin_svm(gram, y, tolerance=tolerance)
        coefficients = svm.coefficients[None].astype(gram.dtype)
        zero = jnp.zeros((), gram.dtype)
        return Solutions(zero[None], coefficients, svm.relative_gap[None], zero)
    lams, is_first = jnp.asarray(config.tuned_lams, gram.dtype), jnp.arange(y.size) < num_samples
    gram, y = jnp.where(is_first[:, None] & is_first, gram, 0.0), jnp.where(is_first, y, 0.0)
    per_row = lams * (num_samples / y.size)
    if predictor == "ntk_logistic":
        path = kernel_machines.logistic_path(gram, y, per_row)
        return Solutions(lams, path.coefficients, path.gradient_norm, jnp.zeros((), gram.dtype))
    coefficients = kernel_machines.ridge(gram, y, per_row)
    left = coefficients @ gram + y.size * per_row[:, None] * coefficients
    residuals = jnp.linalg.norm(left - y, axis=1) / jnp.linalg.norm(y)
    return Solutions(lams, coefficients, residuals, jnp.zeros((), gram.dtype))


def _judged_kernel(draw: Draw, gram: Array, cross: Array, found: Solutions) -> dict[str, Array]:
    """The kernel predictor, its λ chosen on the test set itself: the kernels' best case."""
    lams, coefficients, residuals, r_squared = found
    outputs, num_test = coefficients @ cross, draw.test.y.size
    errors = jax.vmap(lambda f: _error(f, draw.test.y, draw.is_fresh))(outputs[:, :num_test])
    best = jnp.argmin(errors)
    beta, fitted = coefficients[best], gram @ coefficients[best]
    margin = jnp.min(draw.train.y * fitted) / jnp.sqrt(beta @ fitted)
    solved = residuals[best] <= (SOLVED if gram.dtype == jnp.float64 else 1e-3)
    solution = dict(lam=lams[best], residual=residuals[best], solved=solved, r_squared=r_squared)
    solution |= dict(first_residual=jnp.zeros(()), paths_more=jnp.zeros((), int))
    test, plane = jnp.split(outputs[best], [num_test])
    return _measured(draw, fitted, test, plane, normalized_margin=margin, **solution)


def _error(outputs: Array, labels: Array, counted: Array) -> Array:
    """The share of the counted points without y f(x) > 0, so that NaN is an error too."""
    return jnp.sum(~(labels * outputs > 0) * counted) / jnp.sum(counted)


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


def table(found: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """A row for each predictor, with residuals where there is a λ, and planes where drawn."""
    rows = by_predictor(found, config)
    drawn = [i for predictor in POWERS for i in plane_rows(rows, config, predictor).index]
    return rows.assign(
        residual=rows.residual.mask(rows.predictor.isin(BASELINES)),
        r_squared=rows.r_squared.where(rows.predictor == ORACLE),
        first_residual=rows.first_residual.where(rows.predictor == NETWORK),
        paths_more=rows.paths_more.where(rows.predictor == NETWORK),
        plane=rows.plane.where(rows.index.isin(drawn), None),
    )


@functools.cache  # to compile the kernel takes a second
def predicted(dim: int) -> kernel_jump.Spectrum:
    """The spectrum of the NTK, which predicts the R² of the best coefficients."""
    kappa = kernel_span.kernel_of_products(networks.fully_connected(2, 1), dim)
    return kernel_jump.spectrum_of(np.asarray(kappa))


def dim_inside(config: Config) -> int:
    """The dimension in which signal and learned functions are drawn: the upper middle one."""
    return config.dims[len(config.dims) // 2]


def plane_rows(rows: pandas.DataFrame, config: Config, predictor: str) -> pandas.DataFrame:
    """The runs whose mean function is drawn: those with n nearest to 6d."""
    dim = dim_inside(config)
    rows = rows[(rows.predictor == predictor) & (rows.dim == dim)]
    distance = np.log(rows.num_samples / (6 * dim)).abs()
    nearest = rows[distance == distance.min()]
    return nearest[nearest.num_samples == nearest.num_samples.min()]


def by_predictor(found: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The rows of a sweep's table, whose arrays have a first axis of predictors, one for each."""
    rows = []
    for predictor, point in itertools.product(config.predictors, found.to_dict("records")):
        names = _of(config, point["kind"])
        has_size = point["num_samples"] in _sizes(config, predictor, point["dim"])
        if predictor in names and has_size and point["seed"] < _num_seeds(config, predictor):
            is_array, i = lambda v: isinstance(v, np.ndarray), names.index(predictor)
            own = {name: v[i] if is_array(v) else v for name, v in point.items()}
            rows.append(dict(predictor=predictor) | own)
    return pandas.DataFrame(rows).drop(columns="kind")


def curve(
    rows: pandas.DataFrame, predictor: str, dim: int, column: str
) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, values of shape (sizes, seeds)) of one predictor in one dimension."""
    rows = rows[(rows.predictor == predictor) & (rows.dim == dim)]
    if rows.empty:
        return np.zeros(0), np.zeros((0, 0))
    return np.unique(rows.num_samples), _statistics.stacked(rows, column, "num_samples", "seed")
