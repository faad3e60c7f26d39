"""The gap between network and NTK for the squared loss

The paper's first result compares classifiers. Does it also hold for regression: does a network with
a small λ learn from O(d) samples what minimum-norm regression with its kernel needs Ω(d²) for?

Two laws. On D both are trained on the squared loss with labels ±1 and tested on min((y − f)², 1).
On the other one, x is standard Gaussian and y = relu(wᵀx) for a random unit w; errors there are
plain mean squares, of E y² = 1/2. Network and kernel see the same samples.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2, for the truncated loss on D; the ICLR 2019
submission of the same for the random feature.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import data, kernels, networks
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Bool, Float, PRNGKey, Scalar
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _statistics, _style, _training
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments._statistics import Scaling
from ntkreg.sweeps import grid
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
      planted_norm: the smallest ‖Θ‖₂² of a network that is y itself: twice Σ|wⱼ|‖uⱼ‖.
    """

    draw: Callable[[PRNGKey, int, int], Dataset]
    truncation: float
    level: float
    planted_norm: float


LAWS = {
    "D": Law(data.noisy_xor, 1.0, 0.5, 8.0),
    "relu_feature": Law(data.relu_feature, math.inf, 0.04, 2.0),
}
POWERS = {"network": 1, "ntk": 2}  # predictor -> the power of d that its sample size grows with
MOST_ROWS = 200  # to which samples are repeated (`_training.num_rows`)
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
      num_seeds: seeds 0 … num_seeds − 1, each with its own samples, test points and initialisation.
      width, lams, num_steps, learning_rate: of the network (`_training.Training`). At λ = 1e-5 Adam
        still comes to the planted network's objective; at 1e-8 it stays some per cent above, with
        the same errors but for D near the transition, where they move by some hundredths with any
        setting.
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
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("laws", *_experiment.one_of(LAWS))
        check("dims", lambda d: d >= 3, "at least 3")
        for name in ("sizes_over_d", "sizes_over_d2"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "laws", "dims")
        _training.check(self)
        check("width", lambda v: v >= PLANTED_WIDTH, f"at least {PLANTED_WIDTH}, to plant D's")


# smoke: seconds. laptop, thorough: minutes on two cores. full: one accelerator.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        # d^1.5 = 3d = d²/3 = 27: one shape for each law and predictor.
        dims=(9,), sizes_over_d=(1.0, 3.0), sizes_over_d2=(1 / 3,), num_seeds=2, width=16,
        lams=(1e-2, 1e-4), num_steps=500, num_test=500, learning_rate=0.02,
    ),
    "laptop": dict(dims=(10, 20, 30)),
    "thorough": {},
    "full": dict(dims=(10, 20, 40, 80), num_seeds=20, num_test=16_384),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Every law, predictor, dimension, n and seed; the samples are repeated to fill num_rows."""
    found = []
    for dim, law, predictor in itertools.product(config.dims, config.laws, POWERS):
        linear = {max(1, round(ratio * dim)) for ratio in config.sizes_over_d}
        squared = {max(1, round(ratio * dim**2)) for ratio in config.sizes_over_d2}
        sizes = linear if predictor == "network" else linear | squared | {plateau_size(dim)}
        for n in sorted(sizes):
            rows = _training.num_rows(n, linear, MOST_ROWS)
            one = dict(law=law, predictor=predictor, dim=dim, num_samples=n, num_rows=rows)
            found += [one | seed for seed in grid(seed=range(config.num_seeds))]
    return found


def plateau_size(dim: int) -> int:
    """n = d^1.5, midway between d and d² on a logarithmic axis, rounded."""
    return round(dim**1.5)


class Fit(NamedTuple):
    """A predictor's outputs on training and test points, its λ, and how well it was solved.

    `residual` is ‖f − y‖/‖y‖ of an interpolant, and for a network F/F(planted) − 1: above 0 it
    proves that the optimum was missed.
    """

    train: Float[Array, " n"]
    test: Float[Array, " m"]
    lam: float
    residual: Float[Array, ""]
    solved: Bool[Array, ""]


def run(
    config: Config,
    law: str,
    predictor: str,
    dim: int,
    num_samples: Array,
    num_rows: int,
    seed: Array,
) -> dict[str, Any]:
    """λ, residual and errors of one predictor.

    Returns:
      test_error: the mean of min((y − f)², truncation) over fresh test points; train_loss: of
      (y − f)² over the samples; lam, residual and solved of `Fit`.
    """
    key, train, test, is_fresh = samples_of(config, law, dim, num_samples, num_rows, seed)
    if predictor == "network":
        fit = _network(config, LAWS[law].planted_norm, key, train, test.x)
    else:
        fit = _interpolant(networks.fully_connected(2, config.width), train, test.x)
    return _measured(fit, train, test, is_fresh, LAWS[law].truncation)


@jit_quickly
def _measured(
    fit: Fit, train: Dataset, test: Dataset, is_fresh: Array, truncation: float
) -> dict[str, Array]:
    errors = jnp.minimum((fit.test - test.y) ** 2, truncation)
    return {
        "lam": jnp.asarray(fit.lam),
        "residual": fit.residual,
        "solved": fit.solved,
        "test_error": jnp.sum(errors * is_fresh) / jnp.sum(is_fresh),
        "train_loss": jnp.mean((fit.train - train.y) ** 2),
    }


@functools.partial(jit_quickly, static_argnames=("config", "law", "dim", "num_rows"))
def samples_of(
    config: Config, law: str, dim: int, num_samples: Array, num_rows: int, seed: Array
) -> tuple[PRNGKey, Dataset, Dataset, Bool[Array, " m"]]:
    """A key of the network's own, training samples, and test points with a mask of fresh ones."""
    # The key leaves the predictor out: both see the same samples.
    key = jax.random.fold_in(jax.random.key(seed), dim * MAX_SAMPLES + num_samples)
    data_key, start_key = jax.random.split(key)
    # One draw for both sets: they have one w, and each draw more is slow to compile.
    drawn = LAWS[law].draw(data_key, config.num_test + num_rows, dim)
    rows = config.num_test + jnp.arange(num_rows) % num_samples
    train = jax.tree.map(lambda a: a[rows], drawn)
    test = jax.tree.map(lambda a: a[: config.num_test], drawn)
    is_fresh = data.unseen(test.x, train.x) if law == "D" else jnp.ones(config.num_test, bool)
    return start_key, train, test, is_fresh


@functools.partial(jax.jit, static_argnames="config")
def _network(
    config: Config, planted_norm: float, key: PRNGKey, train: Dataset, test_x: Array
) -> Fit:
    network = networks.fully_connected(2, config.width)
    params, lam = _training.trained(config, train, key, "squared"), config.lams[-1]
    loss = objectives.get_loss("squared")
    reached = objectives.objective(loss, network, params, train, math.log(lam))
    residual = reached / planted_objective(lam, planted_norm, jnp.mean(train.y**2)) - 1
    fitted, outputs = network.apply(params, train.x), network.apply(params, test_x)
    return Fit(fitted, outputs, lam, residual, residual <= NET_SOLVED)


@functools.partial(jax.jit, static_argnames="network")
def _interpolant(network: networks.Network, train: Dataset, test_x: Array) -> Fit:
    gram = kernels.ntk(network, train.x)
    beta = kernels.min_norm_interpolant(gram, train.y)
    fitted = gram @ beta
    residual = jnp.linalg.norm(fitted - train.y) / jnp.linalg.norm(train.y)
    outputs = kernels.ntk(network, test_x, train.x) @ beta
    return Fit(fitted, outputs, 0.0, residual, residual <= KERNEL_SOLVED)


def planted_objective(lam: float, planted_norm: Scalar, mean_square: Array) -> Array:
    """The minimum of F_λ over the scales of a network that fits y, with ‖Θ‖² = planted_norm.

    At scale c it is mean(y²)(1 − c)² + λ planted_norm c.
    """
    shrinkage = jnp.minimum(lam * planted_norm / (2 * mean_square), 1.0)
    return mean_square * shrinkage**2 + lam * planted_norm * (1 - shrinkage)


# Claims --------------------------------------------------------------------------------------

ENOUGH, FEW = 4, 0.3  # n/d from which the network has learned, n/d² up to which the NTK has not
LEARNED = 0.01  # the error of a law that is learned; on the feature below FLOOR
TOLERANCE = 0.2  # of the plateau; at finite d the steps of the staircase are not yet apart
TITLES = {"D": "D", "relu_feature": "ReLU feature"}
SHORT = {"network": "network", "ntk": "NTK"}
ON_D = Claim(
    statement="With the squared loss the network learns D from n = "
    f"{ENOUGH}d on, the NTK not up to {FEW}d²",
    source="Wei et al., Section 2",
)
ON_FEATURE = Claim(
    statement="The network learns a random ReLU feature from n = "
    f"{ENOUGH}d on, the NTK not up to {FEW}d²",
    source="ICLR version",
)
STAIRCASE = Claim(
    statement="At n = d^1.5 the NTK has learned a random ReLU feature's linear part alone",
    source="derived here; Ghorbani 2020",
)
CLAIMS = (ON_D, ON_FEATURE, STAIRCASE)


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims on the laws that were run."""
    found = {law: table[table.law == law] for law in LAWS}
    made = [
        learning_claim(ON_D, found["D"]),
        learning_claim(ON_FEATURE, found["relu_feature"]),
        plateau_claim(found["relu_feature"]),
    ]
    return [claim for claim in made if claim.checks]


def curve(
    rows: pandas.DataFrame, law: str, predictor: str, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, test errors of shape (sizes, seeds)) of one predictor in one dimension."""
    of = rows[(rows.law == law) & (rows.predictor == predictor) & (rows.dim == dim)]
    sizes = np.unique(of.num_samples)
    if not sizes.size:
        return sizes, np.zeros((0, 0))
    return sizes, _statistics.stacked(of, "test_error", "num_samples", "seed")


def scaling(rows: pandas.DataFrame, law: str, predictor: str) -> Scaling:
    """Where the mean test error crosses the law's level, and how that grows with d."""
    curves = {dim: curve(rows, law, predictor, dim) for dim in np.unique(rows.dim).tolist()}
    return _statistics.scaling(curves, LAWS[law].level)


def growth(rows: pandas.DataFrame, law: str, predictor: str) -> Check:
    """The exponent of d in the largest mean error·√(n/d) over n, which the theorem bounds."""
    mine = rows[(rows.law == law) & (rows.predictor == predictor)]
    found, ends = _statistics.growth(mine)
    what = f"{TITLES[law]}, {SHORT[predictor]}: growth of error·√(n/d)"
    return Check(what, found, *ends, runs="seeds")


def learning_claim(claim: Claim, rows: pandas.DataFrame) -> Claim:
    """Every network's error, and the lowest mean one of the kernel; exponents are findings.

    Errors of runs that provably missed their optimum are no evidence, and counted apart.
    """
    if not len(rows):
        return claim
    law = rows.law.iloc[0]
    solved = rows[rows.solved.eq(True)]
    network, ntk = (solved[solved.predictor == name] for name in POWERS)
    late = network.test_error[network.num_samples >= ENOUGH * network.dim]
    checks = [
        _claims.every(f"{TITLES[law]}: network's error", late, LEARNED, "≤", "networks"),
        _lowest(ntk, law),
    ]
    if rows.dim.nunique() > 1:
        for name in POWERS:
            what = f"{TITLES[law]}, {SHORT[name]}: exponent of d"
            checks.append(_claims.slope(what, scaling(rows, law, name)))
            checks.append(growth(rows, law, name))
    return claim.on(*checks, apart=[_missed(rows)])


def _lowest(ntk: pandas.DataFrame, law: str) -> Check:
    """The kernel's error at n ≤ 0.3d² where its mean over seeds is lowest."""
    early = ntk[ntk.num_samples <= FEW * ntk.dim**2]
    cells = [part.test_error for _, part in early.groupby(["dim", "num_samples"])]
    mean = lambda part: part.fillna(-np.inf).mean()  # NaN is not passed over
    lowest = min(cells, key=mean, default=early.test_error)
    return _claims.mean(f"{TITLES[law]}: NTK's lowest error", lowest, LAWS[law].level, "≥")


def plateau_claim(rows: pandas.DataFrame) -> Claim:
    """The error of solved kernels over the plateau, in the largest d."""
    rows = rows[(rows.predictor == "ntk") & (rows.num_samples == rows.dim.map(plateau_size))]
    if not len(rows):
        return STAIRCASE
    part = rows[rows.solved.eq(True)]
    ratio = part.test_error[part.dim == part.dim.max()] / PLATEAU
    what = "NTK's error over 1/4 − 1/(2π), largest d"
    return STAIRCASE.on(
        _claims.mean(what, ratio, 1 + TOLERANCE, "≤"),
        _claims.mean("the same, from below", ratio, 1 - TOLERANCE, "≥"),
        apart=[_missed(rows)],
    )


def _missed(rows: pandas.DataFrame) -> str:
    count = len(rows) - rows.solved.eq(True).sum()
    return f"{count} of {len(rows)} runs are provably not at their optimum" if count else ""


# Figure --------------------------------------------------------------------------------------

LABELS = {"network": "network, λ = {lam}", "ntk": "NTK, minimum norm"}
ERRORS = {"D": "mean of min((y − f)², 1)", "relu_feature": "mean squared error"}


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Three panels for each law; points are means over seeds with 95 % intervals."""
    fig, axes = _style.panels(3 * len(config.laws), columns=3, ratio=0.9)
    labels = {n: text.format(lam=_style.number(config.lams[-1])) for n, text in LABELS.items()}
    for number, law in enumerate(law for law in LAWS if law in config.laws):
        line = axes[3 * number : 3 * number + 3]
        for ax, predictor in zip(line, POWERS, strict=False):
            _collapse(ax, rows, law, predictor, labels[predictor])
        _exponents(line[2], rows, law, labels)
    return fig


def _collapse(ax, rows: pandas.DataFrame, law: str, predictor: str, label: str) -> None:
    """Errors against n/d^power: curves that lie on each other need n ∝ d^power."""
    power, color = POWERS[predictor], _style.METHODS[predictor]["color"]
    for dim, look in _style.ordinal(np.unique(rows.dim), color).items():
        sizes, errors = curve(rows, law, predictor, dim)
        _style.with_interval(ax, sizes / dim**power, errors, label=f"d = {dim}", **look)
    ax.axhline(LAWS[law].level, label="level compared", **_style.LEVEL)
    if law == "relu_feature" and predictor == "ntk":  # the steps of its staircase
        ax.axhline(PLATEAU, label="energy of degree ≥ 2", **_style.PREDICTED)
        ax.axhline(FLOOR, label="energy of degree ≥ 3", **_style.PREDICTED | dict(linestyle="-."))
    if power == 1:  # less than a decade
        _style.at_sizes(ax, np.unique(np.round(sizes / dim, 1)), "samples n/d")
    else:
        _style.plain_ticks(ax.xaxis)
        ax.set_xlabel("samples n/d²")
    ax.set(ylabel=ERRORS[law], title=f"{TITLES[law]}, {label}")
    ax.set_ylim(bottom=0)
    if law == "D" and predictor == "ntk":
        _style.legend(ax, loc="lower left")
    else:
        _style.legend(ax, above=0.3 if power == 1 else 0.75, loc="upper right")


def _exponents(ax, rows: pandas.DataFrame, law: str, labels: dict[str, str]) -> None:
    """The n at which the error crosses the level against d, with fitted and predicted slopes."""
    lines = [
        (labels[name], _style.METHODS[name], scaling(rows, law, name), power)
        for name, power in POWERS.items()
    ]
    _style.scalings(ax, lines, np.unique(rows.dim))
    ax.set_ylabel(f"samples n at error {LAWS[law].level}")
    ax.set_title(f"{TITLES[law]}, sample complexity")
    _style.legend(ax, above=0.35)


EXPERIMENT = Experiment(
    "regression", Config, PRESETS, points, run, claims, figure, CLAIMS,
    static=("dim", "num_rows"), host="cpu",
)  # fmt: skip
