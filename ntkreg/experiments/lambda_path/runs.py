"""What is run on each problem, and its table: trained networks and true minimizers at every λ.

A problem is a data set, a network and a penalty, with what theory knows of them.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import certificates, data, networks
from ntkreg._types import Array, Params, PRNGKey, Scalar
from ntkreg.certificates import several_classes, two_layer
from ntkreg.certificates.certified import Certificate
from ntkreg.certificates.enumeration import MAX_RANK
from ntkreg.data import dataset
from ntkreg.data.dataset import Dataset
from ntkreg.kernels import kernel_machines
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.networks.network import Network
from ntkreg.theory import closed_forms, path_law
from ntkreg.training import paths
from ntkreg.training.margins import dual_weights
from ntkreg.training.objectives import get_loss
from ntkreg.training.stationarity import CONVERGED

DATASETS = {  # and how many sizes each takes
    "random": 2, "classes": 3, "D": 2, "halfspace": 2, "digits": 1,
}  # fmt: skip
DRAWN = ("random", "classes")  # Gaussian points, of which there are many draws
MAX_DIM = 6  # in which branch and bound takes seconds on D
MODERATE = 1e-8  # λ from which minima of several classes are certified in seconds
WANTED = (
    "dataset/depth/width/activation/power, dataset one of random:DIM:N, D:DIM:N, halfspace:DIM:N, "
    "classes:K:DIM:N with K ≥ 3, orthonormal:N:N[:N…] (samples of each class) and digits:N"
)


class Problem(NamedTuple):
    """A data set with its sizes, a fully connected network, and the exponent r of ‖Θ‖^r."""

    dataset: str
    depth: int
    width: int
    activation: str
    power: float

    @property
    def name(self) -> str:
        """The kind of data, without its sizes."""
        return self.dataset.split(":")[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers after the name, as many as `DATASETS` says."""
        return tuple(map(int, self.dataset.split(":")[1:]))

    @property
    def num_samples(self) -> int:
        """Samples of all classes together."""
        return sum(self.sizes) if self.name == "orthonormal" else self.sizes[-1]

    @property
    def dim(self) -> int:
        """Of random points."""
        return self.sizes[-2]

    @property
    def num_classes(self) -> int:
        """2 where labels are ±1."""
        known = {"digits": 10, "orthonormal": len(self.sizes), "classes": self.sizes[0]}
        return known.get(self.name, 2)

    @property
    def loss(self) -> str:
        """The name in `objectives.LOSSES` of the loss for that many classes."""
        return "logistic" if self.num_classes == 2 else "cross_entropy"

    @property
    def is_certifiable(self) -> bool:
        """Whether the true minimizer is computed: two layers of relu, and few dimensions."""
        two_layers = (self.depth, self.activation, self.power) == (2, "relu", 2.0)
        most = {"random": MAX_RANK, "classes": MAX_RANK, "D": MAX_DIM}.get(self.name)
        return two_layers and most is not None and self.dim <= most


class Reference(NamedTuple):
    """The max margin, the dual weights of its margins where they are known, and how it is known.

    kind is "exact", "closed form" (proved) or "best known" (a lower bound that training has never
    exceeded).
    """

    margin: float
    alpha: np.ndarray | None
    kind: str


def parsed(text: str) -> Problem:
    """The problem that "dataset:sizes/depth/width/activation/power" names.

    Raises:
      ValueError: where it names none.
    """
    parts = text.split("/")
    try:
        dataset, depth, width, activation, power = parts
        problem = Problem(dataset, int(depth), int(width), activation, float(power))
        sizes = problem.sizes
    except ValueError:
        raise ValueError(f"problems must be {WANTED}, got {text!r}") from None
    fits = DATASETS.get(problem.name) == len(sizes) or (
        problem.name == "orthonormal" and len(sizes) >= 2
    )
    fits &= problem.name != "classes" or sizes[0] >= 3
    if not fits or min(sizes) < 1 or problem.num_samples < 2 or not 0 < problem.power < np.inf:
        raise ValueError(f"problems must be {WANTED}, got {text!r}")
    network_of(problem)  # names depth, width or activation where they are bad
    return problem


def network_of(problem: Problem) -> Network:
    """The network that is trained."""
    outputs = 1 if problem.num_classes == 2 else problem.num_classes
    return networks.fully_connected(
        problem.depth, problem.width, num_outputs=outputs, activation=problem.activation
    )


@functools.partial(jax.jit, static_argnames="problem")
def samples_of(problem: Problem, number: Scalar) -> tuple[PRNGKey, Dataset]:
    """A key that depends on problem and number alone, and the samples of that number."""
    key = jax.random.fold_in(jax.random.key(number), problem.num_samples)
    key, data_key = jax.random.split(key)
    if problem.name == "orthonormal":
        return key, orthonormal(problem.sizes)
    if problem.name == "digits":
        return key, data.split(data_key, data.digits(), problem.num_samples)[0]
    if problem.name == "classes":
        return key, classes(data_key, *problem.sizes)
    samplers = {"D": data.noisy_xor, "halfspace": data.halfspace, "random": data.random_labels}
    return key, samplers[problem.name](data_key, problem.num_samples, problem.sizes[0])


def orthonormal(counts: tuple[int, ...]) -> Dataset:
    """The coordinate vectors, so many of each class; two classes are +1 and −1."""
    labels = np.repeat(np.arange(len(counts)), counts)
    y = jnp.asarray(1.0 - 2.0 * labels) if len(counts) == 2 else jnp.asarray(labels, jnp.int32)
    return Dataset(jnp.eye(len(labels)), y)


def classes(key: PRNGKey, num_classes: int, dim: int, num_samples: int) -> Dataset:
    """Standard Gaussian points, the classes in turn."""
    x = dataset.normal(key, (num_samples, dim))
    return Dataset(x, jnp.arange(num_samples, dtype=jnp.int32) % num_classes)


def reference_of(problem: Problem, number: int) -> Reference | None:
    """What theory says of the max margin; None where nothing does."""
    if problem.activation == "identity" and problem.num_classes == 2:
        x, y = samples_of(problem, number)[1]
        try:
            machine = kernel_machines.hard_margin_svm(x @ x.T, y)
        except kernel_machines.NotSeparable:
            return None
        margin = closed_forms.linear_margin(problem.depth, float(machine.margin))
        weights = np.asarray(machine.coefficients * y)
        return Reference(margin, weights / weights.sum(), "closed form")
    if problem.name != "orthonormal":
        return None
    depth, counts = problem.depth, problem.sizes
    if problem.activation == "quadratic" and (depth, len(counts)) == (2, 2):
        margin = closed_forms.orthonormal_quadratic_margin(*counts)
        return Reference(margin, _shares(counts, 2 / 3), "closed form")
    if problem.activation != "relu" or depth < 2:
        return None
    is_proved = depth <= (3 if len(counts) == 2 else 2)
    kind = "closed form" if is_proved else "best known"
    if len(counts) == 2:
        margin = closed_forms.orthonormal_margin(depth, *counts)
    else:
        margin = closed_forms.orthonormal_classes_margin(depth, counts)
    return Reference(margin, _shares(counts, 1 / depth), kind)


def _shares(counts: tuple[int, ...], exponent: float) -> np.ndarray:
    """Weights of all margins: class c has a share ∝ n_c^exponent, spread evenly over its margins.

    The chain of class c costs ∝ n_c^exponent, and a multiplier is what its margins, moved together,
    would save.
    """
    shares = np.asarray(counts, float) ** exponent
    pairs = len(counts) - 1  # of every sample
    return np.repeat(shares / shares.sum() / counts / pairs, np.multiply(counts, pairs))


CLOSED = 1e-10  # relative gap that certificates aim at
LARGEST_LOG = 700.0  # e to it is still a float64
PROBLEM = (*Problem._fields, "draw")
MEASURED = ("normalized_margin", "dual_weighted_margin", "log_objective", "norm", "log_residual")
COLUMNS = (
    "dataset", "draw", "depth", "width", "activation", "power", "start", "seed", "lam",
    "normalized_margin", "reference_margin", "reference_kind", "reference_gap", "ratio",
    "shortfall", "predicted_ratio", "law_error", "self_predicted", "end_predicted",
    "dual_weighted_margin", "weighted_error", "log_objective", "norm", "stationarity", "converged",
    "optimality_gap", "failed",
)  # fmt: skip


def run(
    config: Any, certified: bool, warm: bool, draw: int, seed: int, **problem: Any
) -> dict[str, Any]:
    """What is known of one path on one data set: arrays with an entry for every λ."""
    posed = Problem(**problem)
    key, samples = samples_of(posed, draw)
    samples = jax.tree.map(lambda a: a.astype(float) if a.dtype.kind == "f" else a, samples)
    if certified:
        is_split = posed.name == "classes"
        return (_certified_classes if is_split else _certified)(samples, config.lams)
    network = network_of(posed)
    ends, info = paths.train_path(
        network, samples, lams=config.lams, key=jax.random.fold_in(key, seed), warm=warm,
        learning_rate=config.learning_rate, num_steps=config.num_steps,
        finish_steps=config.finish_steps, loss=posed.loss, power=posed.power,
    )  # fmt: skip
    alpha = _weights(network, posed.loss, samples, ends)
    # The residual of the zero network is infinite; its path has not diverged.
    log_residual = np.minimum(info.log_residual, LARGEST_LOG)
    return {**info._asdict(), "log_residual": log_residual, "alpha": alpha}


@functools.partial(jax.jit, static_argnames=("network", "loss"))
def _weights(network: Network, loss: str, samples: Dataset, ends: Params) -> Array:
    """The dual weights of all margins at the end of every λ."""
    weights = lambda params: dual_weights(get_loss(loss), network, params, samples).ravel()
    return jax.lax.map(weights, ends)


def _certified(samples: Dataset, lams: Sequence[float]) -> dict[str, Any]:
    """The true minimizers of F_λ over two-layer networks of any width, and the max margin.

    Data that no network separates have the max margin 0, and nothing else.
    """
    try:
        best = certificates.max_margin(samples, tolerance=CLOSED)
    except NotSeparable:
        return {"max_margin": 0.0}
    known = {"max_margin": best.upper, "max_margin_gap": best.gap, "max_margin_alpha": best.dual}
    return known | measure_minimizers(samples, minima(samples, lams, best))


def _certified_classes(samples: Dataset, lams: Sequence[float]) -> dict[str, Any]:
    """The max margin of several classes, and the minimum of F_λ from below.

    It is certified at moderate λ; at smaller ones the weights of the max margin bound it.
    """
    best = certificates.max_margin(samples)

    def lower(lam: float) -> float:
        if lam >= MODERATE:
            return certificates.global_minimum(samples, lam).lower
        return several_classes.limit_bound(best.dual, best.upper, lam)

    return {
        "max_margin": best.upper,
        "max_margin_gap": best.gap,
        "max_margin_alpha": best.dual / best.dual.sum(),
        "log_lower": np.log([lower(lam) for lam in lams]),
    }


def minima(samples: Dataset, lams: Sequence[float], best: Certificate) -> list[Certificate]:
    """The certified global minimum of F_λ at every λ; `best` certifies the max margin."""
    return [certificates.global_minimum(samples, lam, limit=best, tolerance=CLOSED) for lam in lams]


def measure_minimizers(samples: Dataset, found: Sequence[Certificate]) -> dict[str, np.ndarray]:
    """What certified minimizers have in common with trained networks, and what they prove."""
    x, y = (np.asarray(a, np.float64) for a in samples)

    def measured(minimum: Certificate) -> dict[str, float | np.ndarray]:
        squared = two_layer.squared_norm(minimum.primal)
        weights = np.maximum(minimum.dual * y, 0.0)
        alpha = weights / weights.sum()
        weighted = alpha @ (y * two_layer.outputs(minimum.primal, x)) / (squared or 1.0)
        return {
            "normalized_margin": two_layer.normalized_margin(minimum.primal, x, y),
            "dual_weighted_margin": weighted,
            "log_objective": np.log(minimum.upper),
            "log_lower": np.log(minimum.lower),
            "norm": squared**0.5,
            "alpha": alpha,
        }

    return {name: np.stack(values) for name, values in _by_name(map(measured, found)).items()}


def _by_name(rows) -> dict[str, list]:
    rows = list(rows)
    return {name: [row[name] for row in rows] for name in rows[0]}


def table(swept: pandas.DataFrame, config: Any) -> pandas.DataFrame:
    """One row for every network and λ; start is "certified" for the true minimizers.

    reference_margin: the exact max margin with its relative gap, a closed form, or the best margin
    that any network here reached; reference_kind says which ("exact" to rank 4, "certified"
    beyond). ratio: normalized_margin over it; shortfall: 1 − ratio. predicted_ratio: what the law
    says of the minimizer, from the max margin's dual weights; law_error: ratio − predicted_ratio.
    self_predicted, end_predicted: the law's margin from the path's own dual weights, at this λ and
    at the last. weighted_error: of the dual-weighted margin as an estimate of the reference,
    relative. stationarity: the relative residual; converged: whether it is below 0.001.
    optimality_gap: F/F* − 1 against the certified lower bound of F*. Empty where unknown.
    """
    sets = swept.groupby([*PROBLEM], sort=False)
    found = [_of_set(points.to_dict("records"), np.array(config.lams)) for _, points in sets]
    rows = pandas.concat(found, ignore_index=True)
    reference = rows.reference_margin.where(rows.reference_margin > 0)
    rows["ratio"] = rows.normalized_margin / reference
    rows["shortfall"] = 1 - rows.ratio
    rows["predicted_ratio"] = rows.predicted / reference
    rows["law_error"] = rows.ratio - rows.predicted_ratio
    rows["weighted_error"] = rows.dual_weighted_margin / reference - 1
    rows["stationarity"] = np.exp(rows.log_residual.where(rows.log_residual < LARGEST_LOG))
    rows["converged"] = rows.stationarity < CONVERGED
    excess = np.minimum(rows.log_objective - rows.log_lower, LARGEST_LOG)
    rows["optimality_gap"] = np.expm1(excess)
    return rows[[*COLUMNS]]


def _of_set(points: list[dict[str, Any]], lams: np.ndarray) -> pandas.DataFrame:
    """The rows of one problem and draw, with what is known of it in every row."""
    problem = Problem(*(points[0][name] for name in Problem._fields))
    network = network_of(problem)
    shape = dict(num_samples=problem.num_samples, order=network.order, power=problem.power)
    known = _known(problem, points, np.log(lams), shape)
    found = []
    for point in points:
        own = {name: point[name] for name in (*PROBLEM, "seed", "failed")}
        own |= {name: point.get(name, np.nan) for name in MEASURED}
        own["start"] = "warm" if point["warm"] else "cold"
        if point["certified"]:
            has_minima = isinstance(point.get("alpha"), np.ndarray)
            own |= {"start": "certified", "log_residual": -np.inf if has_minima else np.nan}
        own |= _own_laws(point, np.log(lams), shape)
        found.append(pandas.DataFrame({"lam": lams, **own, **known}))
    return pandas.concat(found)


def _known(problem: Problem, points, log_lams: np.ndarray, shape) -> dict[str, Any]:
    """The reference of a data set, the law from its dual weights, and the certified minima."""
    certified = next((point for point in points if point["certified"]), None)
    if certified:
        kind = "exact" if problem.dim <= MAX_RANK else "certified"
        get = lambda name: certified.get(name, np.nan)
        gap, log_lower, alpha = map(get, ("max_margin_gap", "log_lower", "max_margin_alpha"))
        reference = Reference(get("max_margin"), alpha, kind)
    else:
        margins = [np.ravel(point.get("normalized_margin", np.nan)) for point in points]
        best = np.nanmax(np.concatenate(margins))
        found = reference_of(problem, points[0]["draw"])
        reference = found or Reference(best, None, "best found")
        gap = log_lower = np.nan
    predicted: Any = np.nan
    if isinstance(reference.alpha, np.ndarray):
        law = path_law.predicted(log_lams, reference.margin, reference.alpha, **shape)
        predicted = law.normalized_margin
    return {
        "reference_margin": reference.margin,
        "reference_kind": reference.kind,
        "reference_gap": gap,
        "log_lower": log_lower,
        "predicted": predicted,
    }


def _own_laws(point: dict[str, Any], log_lams: np.ndarray, shape) -> dict[str, Any]:
    """The law's margins from a path's own weights at the λ at hand, and from those at the last.

    The limits of the weights predict the whole path, also where many prove the max margin.
    """
    if not isinstance(point.get("alpha"), np.ndarray):
        return dict.fromkeys(("self_predicted", "end_predicted"), np.nan)
    alphas, values = point["alpha"], point["dual_weighted_margin"]

    def law(at: int, weights_of: int) -> float:
        if not values[weights_of] > 0:
            return np.nan
        found = path_law.predicted(log_lams[at], values[weights_of], alphas[weights_of], **shape)
        return float(found.normalized_margin)

    each = range(len(log_lams))
    return {
        "self_predicted": [law(i, i) for i in each],
        "end_predicted": [law(i, -1) for i in each],
    }


def within(lams: pandas.Series, most: float, smallest: float = 0.0) -> pandas.Series:
    """Which λ lie between `smallest` and `most`, both ends included however they were rounded."""
    return (lams >= smallest * (1 - 1e-9)) & (lams <= most * (1 + 1e-9))


def best_of_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """At every λ the warm network of smallest objective, of each problem and draw.

    It is the nearest to the minimizer, of which the theorem speaks, whatever its margin.
    """
    warm = rows[(rows.start == "warm") & rows.normalized_margin.notna()]
    return warm.loc[warm.groupby([*PROBLEM, "lam"], sort=False).log_objective.idxmin()]


def random_sets(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of certified random data sets; those that no network separates are left out."""
    is_random = rows.dataset.str.startswith("random")
    return rows[is_random & (rows.reference_kind == "exact") & ~(rows.reference_margin <= 0)]


def class_sets(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of networks trained on random data sets of several classes."""
    is_split = rows.dataset.str.startswith("classes")
    return rows[is_split & (rows.reference_kind == "exact") & (rows.start != "certified")]


def is_multiclass(rows: pandas.DataFrame) -> pandas.Series:
    """Which rows are of more than two classes."""
    is_split = rows.dataset.str.startswith("orthonormal") & (rows.dataset.str.count(":") > 2)
    return is_split | rows.dataset.str.startswith(("classes", "digits"))
