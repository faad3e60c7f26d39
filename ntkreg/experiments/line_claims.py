"""What the line shows: the network's margin, and its function, become those of the ℓ1-SVM."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics, configs
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.lambda_path_claims import LEAST_RATIO, MISSED
from ntkreg.experiments.lambda_path_table import KNOWN
from ntkreg.experiments.line import ALONG, AXIS, LIMITS, MARGINS, Config
from ntkreg.records import Record
from ntkreg.training.stationarity import CONVERGED

SOURCE = "Wei et al., ICLR 2019 submission (arXiv v1, figure 2): points on a line"
PAPERS_LAM = 1e-14
MEDIAN_RATIO = 0.995  # of minimizers' margins at the least λ
SIMILAR = 0.05  # median of the largest difference of two functions, over the range of one
MARGIN = Claim(
    statement="On a line the regularised network's margin tends, as λ falls, to half that of the "
    "ℓ1-SVM over evenly spaced unit neurons",
    source=SOURCE,
    predicted="γ_λ over half the ℓ1-SVM's margin → 1, but for the gaps between its neurons: at the "
    "least λ ≥ 0.985 on all sets, median ≥ 0.995, by networks at the minimum; none above the "
    "certified max margin",
    certified=True,
)
FUNCTION = Claim(
    statement="On a line the regularised network's function at λ = 1e-14 is nearly that of the "
    "ℓ1-SVM",
    source=SOURCE,
    predicted="both of least margin 1: largest difference on [−1, 1] ≤ 5 % of the range of the "
    "ℓ1-SVM's function, median over the sets, of true minimizers and of networks trained to them",
    certified=True,
)
CLAIMS = (MARGIN, FUNCTION)
SET = ("num_samples", "draw")
COLUMNS = (
    "num_samples", "draw", "start", "seed", "lam", "normalized_margin", "max_margin", "svm_margin",
    "ratio", "svm_ratio", "predicted_ratio", "function_gap", "limit_gap", "svm_gap",
    "log_objective", "norm", "stationarity", "converged", "optimality_gap", "max_margin_gap",
    "circle_loss",
)  # fmt: skip


def claims(record: Record) -> list[Claim]:
    """Both claims."""
    rows = table(record)
    return [margin_claim(rows), function_claim(rows)]


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and λ; start is "certified" for the true minimizers.

    max_margin: γ*, certified from above; svm_margin: half the ℓ1-SVM's; circle_loss: by how much
    that can be less at most. ratio, svm_ratio: normalized_margin over each; predicted_ratio: the
    law's over γ*. function_gap: largest difference of the network's function and the ℓ1-SVM's on
    [−1, 1], each of least margin 1, over the range of the latter; limit_gap: the same against the
    network of max margin; svm_gap: the ℓ1-SVM's own from that. Empty where a network errs on some
    sample. stationarity, converged, optimality_gap: as in lambda_path's summary.csv.
    """
    config = configs.restored(Config, record)
    ((_, cells),) = record.axes.items()
    num_lams = len(config.lams)
    found = pandas.DataFrame(np.repeat(np.array(cells, object), num_lams, axis=0), columns=AXIS)
    found = found.infer_objects()
    found["start"] = np.where(found.kind == "certified", "certified", "warm")
    found["lam"] = np.tile(config.lams, len(cells))
    own = {name: record.arrays[name] for name in ALONG}
    known = {name: _of_set(record, name)[:, None] for name in MARGINS}
    known |= {name: _of_set(record, name) for name in ("log_lower", "predicted")}
    functions = record.arrays["functions"] / _positive(own["normalized_margin"])[..., None]
    svm, limit = (
        (_of_set(record, name) / _of_set(record, margin)[:, None])[:, None]
        for name, margin in zip(LIMITS, ("svm_margin", "max_margin"), strict=True)
    )
    span = np.ptp(svm, axis=-1)
    gaps = {
        "function_gap": np.abs(functions - svm).max(-1) / span,
        "limit_gap": np.abs(functions - limit).max(-1) / span,
        "svm_gap": np.abs(svm - limit).max(-1) / span,
    }
    for name, values in (own | known | gaps).items():
        spread = np.broadcast_to(values, (len(cells), num_lams)).reshape(-1)
        found[name] = np.where(np.isposinf(spread), np.nan, spread)
    found["ratio"] = found.normalized_margin / found.max_margin
    found["svm_ratio"] = found.normalized_margin / found.svm_margin
    found["predicted_ratio"] = found.predicted / found.max_margin
    found["stationarity"] = np.exp(np.minimum(found.log_residual, 700.0))
    found["converged"] = found.stationarity < CONVERGED
    found["optimality_gap"] = np.expm1(np.minimum(found.log_objective - found.log_lower, 700.0))
    return found[[*COLUMNS]]


def _of_set(record: Record, name: str) -> np.ndarray:
    """For every cell, what the certified one of its data set has."""
    ((_, cells),) = record.axes.items()
    first = {(n, number): i for i, (kind, n, number, _) in enumerate(cells) if kind == "certified"}
    return record.arrays[name][[first[n, number] for _, n, number, _ in cells]]


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values > 0, values, np.nan)


def minimizers(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The true minimizers' rows."""
    return rows[rows.start == "certified"]


def best_of_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """At every λ the trained network of the least objective on each data set."""
    trained = rows[rows.start != "certified"]
    best = trained.groupby([*SET, "lam"], sort=False).log_objective.idxmin()
    return trained.loc[best]


def margin_claim(rows: pandas.DataFrame) -> Claim:
    """True minimizers at the least λ; no network above γ*; and trained ones that come near.

    A trained network that is short speaks against the claim only if its objective is within MISSED
    of the certified minimum; else the optimizer failed, and it is counted. The ℓ1-SVM's margin must
    lie between γ* and what the gaps of its circle can cost.
    """
    last = rows[rows.lam == rows.lam.min()]
    true, best = minimizers(last), best_of_seeds(last)
    if not len(best):
        return MARGIN
    trained = rows[rows.start != "certified"]
    above = int((trained.ratio > 1 + trained.max_margin_gap + 1e-12).sum())
    short = ~(best.svm_ratio >= LEAST_RATIO)
    unexplained = int((short & ~(best.optimality_gap >= MISSED)).sum())
    between = (true.svm_margin <= true.max_margin * (1 + 1e-9)) & (
        true.svm_margin >= true.max_margin * (1 - true.max_margin_gap) - true.circle_loss
    )
    good = (true.svm_ratio >= LEAST_RATIO).all() and true.svm_ratio.median() >= MEDIAN_RATIO
    good &= (true.optimality_gap <= KNOWN).all() and between.all() and not above
    low, high = _statistics.interval(best.svm_ratio.to_numpy(), 0.9)
    circle = true.svm_margin / true.max_margin
    return dataclasses.replace(
        MARGIN,
        measured=f"γ_λ over half the ℓ1-SVM's at λ = {rows.lam.min():.0e} on {len(best)} sets: "
        f"true minimizers median {true.svm_ratio.median():.4f}, least {true.svm_ratio.min():.4f}; "
        f"trained, best of seeds, median {best.svm_ratio.median():.4f}, ≥ {LEAST_RATIO} on "
        f"{int((~short).sum())}; of the others training missed the certified minimum by "
        f"{MISSED:.0%} or more on {int(short.sum()) - unexplained}; {above} of {len(trained)} "
        f"networks above γ*. Half the ℓ1-SVM's over γ*: median {circle.median():.4f}, least "
        f"{circle.min():.4f}. {_at_the_papers_lam(rows)}",
        interval=f"[{low:.4f}, {high:.4f}]: 90 % of the sets, trained",
        status="holds" if good and not unexplained else "fails",
    )


def _at_the_papers_lam(rows: pandas.DataFrame) -> str:
    part = rows[np.isclose(rows.lam, PAPERS_LAM, rtol=1e-6, atol=0)]
    if not len(part):
        return ""
    true, best = minimizers(part), best_of_seeds(part)
    return (
        f"γ_λ/γ* at λ = {PAPERS_LAM:.0e}, medians: {true.predicted_ratio.median():.4f} by the law, "
        f"{true.ratio.median():.4f} true minimizers, {best.ratio.median():.4f} trained"
    )


def function_claim(rows: pandas.DataFrame) -> Claim:
    """The median difference, of true minimizers and of those trained networks that came to them.

    Trained networks MISSED or more above the certified minimum are counted and told apart: what
    their functions are like says nothing of the minimizer's.
    """
    part = rows[np.isclose(rows.lam, PAPERS_LAM, rtol=1e-6, atol=0)]
    if not len(part):
        return FUNCTION
    true, best = minimizers(part), best_of_seeds(part)
    came = best[best.optimality_gap < MISSED]
    last = rows[rows.lam == rows.lam.min()]
    good = bool(true.function_gap.median(skipna=False) <= SIMILAR)
    good &= bool(came.function_gap.median(skipna=False) <= SIMILAR)
    ends = f"{_told(minimizers(last))} true minimizers, {_told(best_of_seeds(last))} trained"
    return dataclasses.replace(
        FUNCTION,
        measured=f"{len(true)} sets, medians (and largest): {_told(true)} true minimizers; "
        f"{_told(came)} the {len(came)} best of seeds within {MISSED:.0%} of the certified "
        f"minimum; {_told(best)} all best of seeds; at λ = {rows.lam.min():.0e} {ends}; the "
        f"ℓ1-SVM from the network of max margin {_told(true, 'svm_gap')}",
        interval=f"[{came.function_gap.min():.1%}, {came.function_gap.max():.1%}]: all sets on "
        "which training came to the minimum",
        status="holds" if good else "fails",
    )


def _told(rows: pandas.DataFrame, name: str = "function_gap") -> str:
    return f"{rows[name].median():.1%} ({rows[name].max():.1%})"
