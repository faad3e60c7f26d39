"""What is run on each data set, and its table: trained networks and true minimizers at every λ."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pandas

from ntkreg import certificates
from ntkreg._types import Array, Params
from ntkreg.certificates import two_layer
from ntkreg.certificates.arrangements import MAX_RANK
from ntkreg.certificates.certified import Certificate
from ntkreg.data.dataset import Dataset
from ntkreg.experiments.lambda_path import problems
from ntkreg.experiments.lambda_path.problems import Problem, Reference
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.networks.network import Network
from ntkreg.theory import path_law
from ntkreg.training import paths
from ntkreg.training.margins import dual_weights
from ntkreg.training.objectives import get_loss
from ntkreg.training.stationarity import CONVERGED

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
    key, samples = problems.draw(posed, draw)
    samples = jax.tree.map(lambda a: a.astype(float) if a.dtype.kind == "f" else a, samples)
    if certified:
        return _certified(samples, config.lams)
    network = problems.network(posed)
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
    network = problems.network(problem)
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
        kind = "exact" if problem.sizes[0] <= MAX_RANK else "certified"
        get = lambda name: certified.get(name, np.nan)
        gap, log_lower, alpha = map(get, ("max_margin_gap", "log_lower", "max_margin_alpha"))
        reference = Reference(get("max_margin"), alpha, kind)
    else:
        margins = [np.ravel(point.get("normalized_margin", np.nan)) for point in points]
        best = np.nanmax(np.concatenate(margins))
        found = problems.reference(problem, points[0]["draw"])
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


def within(lams: pandas.Series, most: float, least: float = 0.0) -> pandas.Series:
    """Which λ lie between `least` and `most`, both ends included however they were rounded."""
    return (lams >= least * (1 - 1e-9)) & (lams <= most * (1 + 1e-9))


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


def is_multiclass(rows: pandas.DataFrame) -> pandas.Series:
    """Which rows are of more than two classes."""
    is_split = rows.dataset.str.startswith("orthonormal") & (rows.dataset.str.count(":") > 2)
    return is_split | rows.dataset.str.startswith("digits")
