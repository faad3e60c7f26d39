"""Networks and kernel machines on teachers, and their margin bounds

On few samples, which errs less: a regularised network or a kernel? And do the bounds by which the
margin theory compares them say as much? The experiment is that of the paper's first version, with
the NTK and a parity beside it.

Three tasks, each for growing n: the signs of a random network with six hidden units, of at least
0.1 in size; its outputs, as a regression; and the parity of two signs among Gaussian coordinates.
On the same samples a two-layer network with λ = 1e-8 and two kernel predictors: with the kernel of
random ReLU features (of which the top layer alone is trained) and with the NTK. These are
hard-margin machines on signs, and minimum-norm interpolants in the regression.

Source: Wei, Lee, Liu, Ma (ICLR 2019 submission), the experiment on network and kernel with varying
n, and its construction with Gaussian inputs; Kakade, Sridharan, Tewari 2008 for the kernels' bound.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import data, kernels, networks
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Bool, Float, Params, PRNGKey
from ntkreg.data import dataset
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _statistics, _style, _training
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid
from ntkreg.theory import bounds
from ntkreg.training.margins import normalized_margin
from ntkreg.training.objectives import Loss, get_loss, objective

LOSSES = {"classification": "logistic", "regression": "squared", "parity": "logistic"}
TASKS = tuple(LOSSES)
KERNELS = {"nngp": kernels.nngp, "ntk": kernels.ntk}
PREDICTORS = ("network", *KERNELS)
COLUMNS = (
    "task", "dim", "num_samples", "predictor", "seed", "lam", "normalized_margin", "train_error",
    "test_error", "bound", "residual", "solved", "failed",
)  # fmt: skip
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
      num_trials: seeds 0 … num_trials − 1, each with its teacher, samples and initialisation.
      teacher_units, teacher_margin: hidden units of the teacher, and the smallest |f(x)| of the
        points that are classified.
      width, lams, num_steps, learning_rate: of the network (`_training.Training`). From λ = 1e-2 it
        can begin with nearly all neurons gone, and not come back to fit the rarer class; at larger
        rates the squared loss ends far from its optimum.
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
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("tasks", *_experiment.one_of(TASKS))
        check("dim", lambda d: d >= 2, "at least 2")
        check("sizes", lambda n: n >= 2, "at least 2")
        check("teacher_margin", lambda v: 0 <= v < np.inf, "at least 0 and finite")
        for name in ("num_trials", "teacher_units", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "tasks", "sizes")
        _training.check(self)
        planted = max(self.teacher_units, PARITY_UNITS)
        check("width", lambda v: v >= planted, f"at least that of what is planted, {planted}")


# smoke: seconds. laptop, thorough: minutes on two cores. full: many cores.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        tasks=("classification", "regression"), dim=5, sizes=(40,), num_trials=2, width=32,
        lams=(1e-2, 1e-5), num_steps=500, learning_rate=0.01, num_test=500,
    ),
    "laptop": dict(num_trials=6),
    "thorough": {},
    "full": dict(
        sizes=(20, 40, 80, 160, 320, 640, 1280, 2560), num_trials=100, num_steps=10_000,
        num_test=20_000,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Every task, n and trial."""
    return grid(task=config.tasks, num_samples=config.sizes, seed=range(config.num_trials))


class Fit(NamedTuple):
    """A trained predictor: its outputs, what its bound is made of, how well it was solved.

    `normalized_margin` is 0 in the regression, which has none. `squares` are ‖x‖² of the samples
    for the network, K(x, x) for a kernel. `residual` is the relative duality gap of a machine, the
    relative residual of an interpolant, and for the network F/F(teacher) − 1 with the teacher at
    its best scale: above 0 it proves that the optimum was missed, below it says nothing.
    """

    train: Float[Array, " n"]
    test: Float[Array, " m"]
    normalized_margin: Float[Array, ""]
    squares: Float[Array, " n"]
    residual: Float[Array, ""]
    solved: Bool[Array, ""]


def run(config: Config, task: str, num_samples: int, seed: Array) -> dict[str, Array]:
    """Errors and margins on one sample, each an array over PREDICTORS.

    Returns:
      train_error and test_error, the share of wrong signs, in the regression the mean square over
      Var y; mean_square and largest_square of `Fit.squares`; normalized_margin, residual and solved
      as there.
    """
    key, train, test, planted = samples_of(config, task, num_samples, seed)
    loss = LOSSES[task]
    params = _trained(config, train, key, loss)
    by_network = _of_network(config, loss, params, train, test, planted)
    by_kernel = [
        _of_kernel(loss, *_kernel(kernel, train.x, test.x), train, test) for kernel in KERNELS
    ]
    found = (by_network, *by_kernel)
    return {name: jnp.stack([one[name] for one in found]) for name in by_network}


_trained = jax.jit(_training.trained, static_argnames=("config", "loss"))


@functools.partial(jit_quickly, static_argnames=("config", "loss"))
def _of_network(
    config: Config, loss: str, params: Params, train: Dataset, test: Dataset, planted: Params
) -> dict[str, Array]:
    network = networks.fully_connected(2, config.width)
    fit = _fit_network(get_loss(loss), network, params, train, test.x, planted, config.lams[-1])
    return _measured(get_loss(loss), fit, train, test)


@functools.partial(jax.jit, static_argnames="kernel")
def _kernel(kernel: str, train_x: Array, test_x: Array) -> tuple[Array, Array]:
    """The Gram matrix of the samples, and the kernel between test points and them."""
    of = functools.partial(KERNELS[kernel], networks.fully_connected(2, 1))
    return of(train_x), of(test_x, train_x)


@functools.partial(jit_quickly, static_argnames="loss")
def _of_kernel(
    loss: str, gram: Array, cross: Array, train: Dataset, test: Dataset
) -> dict[str, Array]:
    return _measured(get_loss(loss), _fit_kernel(get_loss(loss), gram, cross, train.y), train, test)


def _measured(loss: Loss, fit: Fit, train: Dataset, test: Dataset) -> dict[str, Array]:
    return {
        "normalized_margin": fit.normalized_margin,
        "train_error": _error(loss, fit.train, train.y),
        "test_error": _error(loss, fit.test, test.y),
        "mean_square": jnp.mean(fit.squares),
        "largest_square": jnp.max(fit.squares),
        "residual": fit.residual,
        "solved": fit.solved,
    }


@functools.partial(jit_quickly, static_argnames=("config", "task", "num_samples"))
def samples_of(
    config: Config, task: str, num_samples: int, seed: Array
) -> tuple[PRNGKey, Dataset, Dataset, Params]:
    """A key of the network's own, training samples, fresh test points, and the planted network.

    The teacher's outputs are scaled to variance 1 over all points drawn.
    """
    key = jax.random.fold_in(jax.random.key(seed), num_samples)
    start_key, teacher_key, data_key = jax.random.split(key, 3)
    num_points = num_samples + config.num_test
    if task == "parity":
        both, planted = data.gaussian_parity(data_key, num_points, config.dim), _parity(config.dim)
    else:
        planted, function = _training.random_teacher(teacher_key, config.dim, config.teacher_units)
    if task == "classification":
        both = data.teacher(data_key, function, num_points, config.dim, config.teacher_margin)
    elif task == "regression":
        x = dataset.normal(data_key, (num_points, config.dim))
        outputs = function(x)
        scale = jnp.std(outputs)
        both, planted = Dataset(x, outputs / scale), (planted[0], planted[1] / scale)
    train = jax.tree.map(lambda a: a[:num_samples], both)
    test = jax.tree.map(lambda a: a[num_samples:], both)
    return start_key, train, test, planted


def _parity(dim: int) -> Params:
    """x₁x₂ = |x₁ + x₂|/2 − |x₁ − x₂|/2 on signs: four neurons."""
    first = jnp.zeros((dim, 4)).at[:2].set(jnp.array([[1.0, -1, 1, -1], [1.0, -1, -1, 1]]))
    return first, jnp.array([0.5, 0.5, -0.5, -0.5])[:, None]


def _fit_network(
    loss: Loss,
    network: networks.Network,
    params: Params,
    train: Dataset,
    test_x: Float[Array, "m d"],
    planted: Params,
    lam: float,
) -> Fit:
    reached = objective(loss, network, params, train, math.log(lam))
    residual = reached / planted_objective(loss, planted, train, lam) - 1
    is_sign = loss.labels == "sign"
    return Fit(
        train=network.apply(params, train.x),
        test=network.apply(params, test_x),
        normalized_margin=normalized_margin(network, params, train) if is_sign else jnp.zeros(()),
        squares=jnp.sum(train.x**2, axis=1),
        residual=residual,
        solved=residual <= NET_SOLVED,
    )


def planted_objective(loss: Loss, planted: Params, train: Dataset, lam: float) -> Array:
    """The minimum of F_λ of a two-layer network over SCALES, its neurons balanced.

    Its outputs stay where uⱼ and wⱼ have equal norms, and ‖Θ‖² is then smallest, 2 Σ|wⱼ|‖uⱼ‖.
    """
    first, last = planted
    outputs = jnp.maximum(train.x @ first, 0.0) @ last[:, 0]
    squared_norm = 2 * jnp.linalg.norm(first, axis=0) @ jnp.abs(last[:, 0])
    at = lambda scale: jnp.mean(loss.value(scale * outputs, train.y)) + lam * scale * squared_norm
    return jnp.min(jax.lax.map(at, jnp.array(SCALES)))


def _fit_kernel(
    loss: Loss, gram: Float[Array, "n n"], cross: Float[Array, "m n"], y: Float[Array, " n"]
) -> Fit:
    if loss.labels == "sign":
        svm = kernels.hard_margin_svm(gram, y, solver="interior_point")
        beta, residual, margin = svm.coefficients, svm.relative_gap, svm.margin
    else:
        beta, margin = kernels.min_norm_interpolant(gram, y), jnp.zeros(())
        residual = jnp.linalg.norm(gram @ beta - y) / jnp.linalg.norm(y)
    solved = residual <= KERNEL_SOLVED
    return Fit(gram @ beta, cross @ beta, margin, jnp.diagonal(gram), residual, solved)


def _error(loss: Loss, outputs: Float[Array, " m"], y: Float[Array, " m"]) -> Float[Array, ""]:
    """The share of wrong signs, NaN among them; for reals the mean square over Var y."""
    if loss.labels == "sign":
        return jnp.mean(~(outputs * y > 0))
    return jnp.mean((outputs - y) ** 2) / jnp.var(y)


def table(found: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every predictor in every trial.

    `bound` is of the share of wrong signs, with probability 0.95, infinite without a margin;
    margins and bounds are empty in the regression. `lam` is 0 for kernels. `failed` is of all
    predictors in a trial.
    """
    results = [name for name in found if isinstance(found[name].iloc[0], np.ndarray)]
    found = found.assign(predictor=[PREDICTORS] * len(found))
    rows = found.explode(["predictor", *results], ignore_index=True).infer_objects()
    n, margin, mean, largest = (
        rows[name].to_numpy()
        for name in ("num_samples", "normalized_margin", "mean_square", "largest_square")
    )
    is_network, is_sign = rows.predictor == "network", rows.task != "regression"
    bound = np.where(
        is_network,
        bounds.two_layer_bound(margin, n, mean, np.sqrt(largest)),
        bounds.kernel_bound(margin, n, mean, largest),
    )
    return rows.assign(
        dim=config.dim,
        lam=np.where(is_network, config.lams[-1], 0.0),
        normalized_margin=rows.normalized_margin.where(is_sign),
        bound=np.where(is_sign, bound, np.nan),
    )[list(COLUMNS)]


# Claims --------------------------------------------------------------------------------------

ERRORS = Claim(
    statement="At the largest n ≤ d² a network errs less than kernels on teachers and on a parity",
    source="ICLR version, figure 3",
)
BOUNDS = Claim(
    statement="Margin bounds, though vacuous (> 1) at nearly every n run, fall as the errors fall",
    source="ICLR version, Theorem 3.1",
)
CLAIMS = (ERRORS, BOUNDS)
SHORT = {"network": "network", "nngp": "ReLU kernel", "ntk": "NTK"}
TITLES = {
    "classification": "signs of a teacher",
    "regression": "outputs of a teacher",
    "parity": "parity of two signs",
}


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """Both claims; that on bounds without the regression, which has none."""
    signs = table[table.task != "regression"]
    return [error_claim(table)] + ([bound_claim(signs)] if len(signs) else [])


def tasks_of(rows: pandas.DataFrame) -> list[str]:
    """The tasks that were run."""
    return [task for task in TASKS if (rows.task == task).any()]


def compared(rows: pandas.DataFrame, task: str) -> pandas.DataFrame:
    """The rows of the largest n ≤ d², from where on kernels learn a parity; else of the largest."""
    part = rows[rows.task == task]
    early = part[part.num_samples <= part.dim**2]
    part = early if len(early) else part
    return part[part.num_samples == part.num_samples.max()]


def error_claim(rows: pandas.DataFrame) -> Claim:
    """Differences trial by trial, since all predictors have the same samples, of those solved."""
    parts = {task: compared(rows, task) for task in tasks_of(rows)}
    checks = []
    for task, part in parts.items():
        by_trial = part.set_index(["seed", "predictor"]).unstack()
        errors, solved = by_trial.test_error, by_trial.solved.eq(True)
        runs = f"trials, n = {part.num_samples.iloc[0]}"
        for name in KERNELS:
            change = (errors.network - errors[name])[solved.network & solved[name]]
            what = f"{TITLES[task]}: network − {SHORT[name]}"
            checks.append(_claims.mean(what, change, 0, "≤", runs))
    of = pandas.concat(parts.values()).groupby("predictor").solved
    apart = [
        f"{size - good} of {size} runs of the {SHORT[name]} miss their minimum"
        if good < size
        else ""
        for name, good, size in zip(of.groups, of.sum(), of.size(), strict=True)
    ]
    return ERRORS.on(*checks, apart=apart)


def bound_claim(rows: pandas.DataFrame) -> Claim:
    """Rank correlations of bound and error over n, trial by trial; no error above its bound."""
    correlation = lambda part: part.bound.rank().corr(part.test_error.rank())
    by_trial = rows.groupby(["predictor", "task", "seed"])[["bound", "test_error"]]
    found = by_trial.apply(correlation)
    checks = [
        _claims.mean(
            f"rank correlation, {SHORT[name]}, {task}", found[name, task], 0, "≥", "trials"
        )
        for name in PREDICTORS
        for task in tasks_of(rows)
    ]
    bounds = rows.pivot(index=["task", "num_samples", "seed"], columns="predictor", values="bound")
    less = (bounds.network < bounds.ntk).sum()
    return BOUNDS.on(
        *checks,
        _claims.every("test error less its bound", rows.test_error - rows.bound, 0, "≤", "bounds"),
        _claims.share("vacuous", (rows.bound > 1).sum(), len(rows), runs="bounds"),
        _claims.share("network's bound below the NTK's", less, len(bounds), runs="samples"),
    )


# Figure --------------------------------------------------------------------------------------

SMALLEST, TOP = 1e-4, 200.0  # of the axis of bounds
LABELS = {"network": "network, λ = {lam}", "nngp": "ReLU features (NNGP)", "ntk": "NTK"}


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Errors of each task above, bounds below; means over trials, with 95 % intervals."""
    tasks, lam = tasks_of(rows), _style.number(config.lams[-1])
    looks = {
        name: _style.METHODS[name] | dict(label=LABELS[name].format(lam=lam)) for name in PREDICTORS
    }
    fig, axes = _style.panels(2 * len(tasks), columns=len(tasks), ratio=0.9)
    for number, task in enumerate(tasks):
        part = rows[rows.task == task]
        _errors(axes[number], part, looks)
        axes[number].set_title(f"{TITLES[task]}, d = {config.dim}")
        _bounds(axes[number + len(tasks)], part, looks)
    return fig


def _draw(ax, rows: pandas.DataFrame, column: str, predictor: str, look: _style.Look) -> None:
    of = rows[rows.predictor == predictor]
    values = _statistics.stacked(of, column, "num_samples", "seed")
    values = np.maximum(values, SMALLEST) if ax.get_yscale() == "log" else values
    _style.with_interval(ax, np.unique(of.num_samples), values, **look)


def _errors(ax, rows: pandas.DataFrame, looks: dict[str, _style.Look]) -> None:
    for predictor, look in looks.items():
        _draw(ax, rows, "test_error", predictor, look)
    _style.at_sizes(ax, np.unique(rows.num_samples), "samples n")
    of_signs = LOSSES[rows.task.iloc[0]] == "logistic"
    ax.set_ylabel("share of wrong signs" if of_signs else "mean squared error / Var y")
    ax.set_ylim(0, None)
    _style.legend(ax, above=0.25, loc="upper right")


def _bounds(ax, rows: pandas.DataFrame, looks: dict[str, _style.Look]) -> None:
    """Bounds (filled) and errors (white) on one logarithmic axis, what is vacuous in grey."""
    if rows.bound.isna().all():
        why = "no bound: margins bound\nthe share of wrong signs"
        ax.text(0.5, 0.5, why, ha="center", va="center")
        ax.set_axis_off()
        return
    ax.set_yscale("log")
    for predictor, look in looks.items():
        _draw(ax, rows, "bound", predictor, look)
        _draw(ax, rows, "test_error", predictor, look | _style.HOLLOW | dict(label=None))
    ax.axhspan(1.0, TOP, color=_style.LIGHT, zorder=0, linewidth=0)
    beside = dict(fontsize=6.0, va="bottom", transform=ax.get_yaxis_transform())
    ax.text(0.02, 1.1, "vacuous above 1", **beside)
    _style.at_sizes(ax, np.unique(rows.num_samples), "samples n")
    ax.set(ylim=(SMALLEST / 2, TOP), ylabel=f"probability, at least {SMALLEST:g}")
    ax.set_title("bounds (filled), errors (white)")


EXPERIMENT = Experiment(
    "teacher", Config, PRESETS, points, run, claims, figure, CLAIMS, table,
    static=("num_samples",), host="cpu",
)  # fmt: skip
