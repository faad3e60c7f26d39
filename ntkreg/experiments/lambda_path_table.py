"""What the λ-path's record says, in one table: every network at every λ beside its reference."""

import numpy as np
import pandas

from ntkreg.certificates.arrangements import MAX_RANK
from ntkreg.experiments import path_problems
from ntkreg.experiments.path_minimizers import OWN_LAWS, UNKNOWN
from ntkreg.experiments.path_problems import Problem
from ntkreg.records import Record
from ntkreg.theory import path_law
from ntkreg.training.stationarity import CONVERGED

KNOWN = 1e-4  # F/F* − 1 up to which a certified minimum is known well enough
PROBLEM = (*Problem._fields, "draw")
COLUMNS = (
    "dataset", "draw", "depth", "width", "activation", "power", "start", "seed", "lam",
    "normalized_margin", "reference_margin", "reference_kind", "ratio", "predicted_ratio",
    "dual_weighted_margin", "log_objective", "norm", "stationarity", "converged", "optimality_gap",
)  # fmt: skip


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and λ.

    reference_margin: the exact max margin, a closed form, or the best margin that any network
    here reached; reference_kind says which ("exact" to rank 4, "certified" beyond). ratio:
    normalized_margin over it. predicted_ratio: what the law says of the minimizer, from the max
    margin's dual weights. stationarity: the relative
    residual; converged: whether it is below 0.001. optimality_gap: F/F* − 1 against the certified
    lower bound of F*. Empty where unknown.
    """
    long = record.table(lam=record.identity["config"]["lams"]).replace(UNKNOWN, np.nan)
    trained = np.where(long.warm.astype(bool), "warm", "cold")
    long["start"] = np.where(long.certified.astype(bool), "certified", trained)
    parts = [_beside_reference(part) for _, part in long.groupby(list(PROBLEM), sort=False)]
    long = pandas.concat(parts)
    long["ratio"] = long.normalized_margin / long.reference_margin.where(long.reference_margin > 0)
    long["predicted_ratio"] = long.predicted / long.reference_margin
    long["stationarity"] = np.exp(np.minimum(long.log_residual, 700.0))
    long["converged"] = long.stationarity < CONVERGED
    long["optimality_gap"] = np.expm1(np.minimum(long.log_objective - long.log_lower, 700.0))
    return long[[*COLUMNS, *OWN_LAWS, "reference_gap"]].reset_index(drop=True)


def _beside_reference(part: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of one problem and draw, with what is known of it in every row."""
    part = part.copy()
    num_lams = part.lam.nunique()
    certified = part[part.start == "certified"]
    repeats = len(part) // num_lams
    first = part.iloc[0]
    problem = Problem(*(first[name] for name in Problem._fields))
    if len(certified):
        for name in ("reference_margin", "reference_gap", "log_lower", "predicted"):
            part[name] = np.tile(certified[name].to_numpy(), repeats)
        part["reference_kind"] = "exact" if problem.sizes[0] <= MAX_RANK else "certified"
        return part
    known = path_problems.known(problem, int(first.draw))
    if known is None:
        part["reference_margin"] = part.normalized_margin.max()
        part["reference_kind"] = "best found"
        return part
    part["reference_margin"], part["reference_kind"] = known.margin, known.kind
    if known.alpha is None:
        return part
    lams = part.lam.to_numpy()[:num_lams]
    order = path_problems.network(problem).order
    law = path_law.predicted(
        np.log(lams), known.margin, known.alpha, problem.num_samples, order=order,
        power=problem.power,
    )  # fmt: skip
    part["predicted"] = np.tile(law.normalized_margin, repeats)
    return part


def within(lams: pandas.Series, most: float, least: float = 0.0) -> pandas.Series:
    """Which λ lie between `least` and `most`, both ends included however they were rounded."""
    return (lams >= least * (1 - 1e-9)) & (lams <= most * (1 + 1e-9))


def best_of_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """At every λ the warm network of the least objective, of each problem and draw.

    It is the nearest to the minimizer, of which the theorem speaks, whatever its margin.
    """
    warm = rows[(rows.start == "warm") & rows.normalized_margin.notna()]
    best = warm.groupby([*PROBLEM, "lam"], sort=False).log_objective.idxmin()
    return warm.loc[best]


def random_sets(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of certified random data sets; those that no network separates are left out."""
    is_random = rows.dataset.str.startswith("random")
    return rows[is_random & (rows.reference_kind == "exact") & (rows.reference_margin > 0)]


def is_multiclass(rows: pandas.DataFrame) -> pandas.Series:
    """Which rows are of more than two classes."""
    is_split = rows.dataset.str.startswith("orthonormal") & (rows.dataset.str.count(":") > 2)
    return is_split | rows.dataset.str.startswith("digits")
