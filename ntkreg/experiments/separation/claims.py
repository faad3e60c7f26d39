"""What the separation shows: the network's O(d) samples and the kernel's Ω(d²)."""

import math

import numpy as np
import pandas

from ntkreg.experiments import _claims, _statistics
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments.separation.runs import NETWORK, NTK, ORACLE, Config, curve, predicted

LEVEL = 0.25  # of the test error, at which sample sizes are compared
PREDICTED_FROM, WITHIN = 16, 0.05  # the d, and how near n at R² = ½ is to its prediction
BELOW = 0.3  # n/d² at which the kernels have learned next to nothing
THEOREM = "Wei et al., Theorem 2.1"
LEARNS = Claim(
    "With ℓ2 regularisation a network learns D from O(d) samples: error ≤ √(d/n)", THEOREM
)
SPAN = Claim(
    "No coefficients let the NTK at n ≲ d² samples learn D", f"{THEOREM}, constants here",
    certified=True,
)  # fmt: skip
CURED = Claim(
    "Networks that provably missed the minimum reach it on the same λ-path run again",
    "derived here",
)
MACHINE = Claim("The NTK's max-margin predictor learns D only from n ∝ d² samples", THEOREM)
JUMP = Claim(
    "The largest R² of any coefficients jumps where the NTK's exact spectrum predicts it",
    "derived here (kernel_jump)",
)
CLAIMS = (LEARNS, CURED, SPAN, JUMP, MACHINE)


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """Of each kind of predictor that was run."""
    judged = {NETWORK: learns, ORACLE: span, NTK: machine}
    there = set(rows.predictor)
    if (rows.num_samples < 5 * rows.dim).all():  # sizes at which the network may miss the minimum
        there -= {NETWORK}
    found = [claim(rows) for predictor, claim in judged.items() if predictor in there]
    if ORACLE in there and (jumped := jumps(rows)).checks:
        found.append(jumped)
    missed = rows[rows.first_residual > 0] if "first_residual" in rows else rows[:0]
    return [*found, cured(rows, missed)] if len(missed) else found


def cured(rows: pandas.DataFrame, missed: pandas.DataFrame) -> Claim:
    """Of networks above the planted one's objective after the first path, in the largest d."""
    largest = missed.dim.max()
    there = of(rows, NETWORK)[of(rows, NETWORK).dim == largest]
    own, reached = missed[missed.dim == largest], lambda part: len(minimizers(part))
    at = f"networks at d = {largest}"
    return CURED.on(
        _claims.share("missed networks that reach F(planted)", reached(own), len(own), runs=at),
        _claims.share("all networks that do", reached(there), len(there), runs=at),
        _claims.share("networks that missed it at first", len(own), len(there), runs=at),
    )


def learns(rows: pandas.DataFrame) -> Claim:
    """Of networks that reach the planted network's objective; the others are no minimizers."""
    mine, solved = of(rows, NETWORK), minimizers(rows)
    later = solved[solved.num_samples >= 5 * solved.dim]
    of_all = f"of {len(mine)} networks"
    return LEARNS.on(
        _claims.every(
            "largest error · √(n/d)", _statistics.scaled_errors(solved), 1.0, "≤", of_all
        ),
        _claims.every("largest error from n = 5d on", later.test_error, 0.01, "≤", of_all),
        _claims.slope("exponent of n in d, network at 25 % error", scaling(rows, NETWORK)),
        _growth("exponent of sup error · √(n/d), network", _statistics.growth(solved)),
        apart=[
            f"d = {dim}: {missed} of {len(part)} networks end above the planted network's objective"
            for dim, part in mine.groupby("dim")
            if (missed := len(part) - len(minimizers(part)))
        ],
    )


def span(rows: pandas.DataFrame) -> Claim:
    """Of the best coefficients on each sample, the worst dimension."""
    below = at_share(solved_kernels(rows, ORACLE))
    return SPAN.on(
        _worst_dim("largest R² at n = 0.3 d², every β", below, "r_squared", 0.12, "≤"),
        _worst_dim("smallest error at n = 0.3 d², best β", below, "test_error", 0.35, "≥"),
        _at_half(rows),
        apart=[_unsolved(rows, ORACLE)],
    )


def machine(rows: pandas.DataFrame) -> Claim:
    """Of the SVM, in the dimensions that have all sizes; where they end early n is not ∝ d²."""
    mine = solved_kernels(rows, NTK)
    below = at_share(mine)
    errors = [part.test_error.to_numpy() for _, part in below.groupby("dim")]
    flat = _statistics.log_slope_of_means(sorted(set(below.dim)), errors)
    complete = mine[mine.dim.isin(below.dim)]
    return MACHINE.on(
        _worst_dim("smallest error at n = 0.3 d², SVM", below, "test_error", LEVEL, "≥"),
        _growth("exponent of the error in d at n = 0.3 d²", flat, -0.1, "≥"),
        _growth("exponent of sup error · √(n/d), SVM", _statistics.growth(complete), 0.25, "≥"),
        _claims.slope("exponent of n in d, SVM at 25 % error", scaling(rows, NTK)),
        apart=[_unsolved(rows, NTK)],
    )


def _worst_dim(
    what: str, rows: pandas.DataFrame, column: str, bound: float, relation: _claims.Relation
) -> Check:
    """The mean of a column in the dimension in which it is furthest from keeping the bound."""
    parts = rows.groupby("dim")[column] if len(rows) else [("none", ())]
    return _claims.worst(
        _claims.mean(what, part, bound, relation, f"samples at d = {dim}") for dim, part in parts
    )


def _half(rows: pandas.DataFrame) -> tuple[int, np.ndarray]:
    """(the largest dimension in which R² passes ½, the n at which it does with its interval)."""
    found = jump(rows)
    if not found.dims:
        return 0, np.full(3, math.nan)
    return found.dims[-1], np.array([found.sizes[-1], *found.intervals[-1]])


def _check_of(what: str, values: np.ndarray, dim: int) -> Check:
    at, low, high = (float(value) for value in values)
    return Check(what, at, low, high, runs=f"samples at d = {dim}")


def _at_half(rows: pandas.DataFrame) -> Check:
    """Where R² passes ½, in units of the number of quadratic features."""
    dim, n = _half(rows)
    return _check_of("n/(d(d + 1)/2) at which R² is ½", n / max(dim * (dim + 1) / 2, 1), dim)


def jumps(rows: pandas.DataFrame) -> Claim:
    """The n at which R² passes ½ over the predicted, both read between the sizes that were run.

    The prediction is one of many dimensions: in fewer than 16 it is some percent off.
    """
    dim, n = _half(rows)
    if dim < PREDICTED_FROM:
        return JUMP.on()
    sizes = np.unique(of(rows, ORACLE)[of(rows, ORACLE).dim == dim].num_samples)
    crossing = _statistics.crossing(sizes, 1 - predicted(dim).r_squared(sizes), 0.5)
    over = _check_of("n at which R² is ½, over the predicted", n / crossing, dim)
    under = over._replace(what="the same, from below")
    return JUMP.on(
        over._replace(bound=1 + WITHIN, relation="≤"),
        under._replace(bound=1 - WITHIN, relation="≥"),
    )


def of(rows: pandas.DataFrame, predictor: str) -> pandas.DataFrame:
    """The rows of one predictor."""
    return rows[rows.predictor == predictor]


def minimizers(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The regularised networks that are not proved to miss the minimum: F ≤ F(planted)."""
    return rows[(rows.predictor == NETWORK) & (rows.residual <= 0)]


def solved_kernels(rows: pandas.DataFrame, predictor: str) -> pandas.DataFrame:
    """The runs of a kernel predictor that are solved."""
    return rows[(rows.predictor == predictor) & rows.solved.astype(bool)]


def _unsolved(rows: pandas.DataFrame, predictor: str) -> str:
    mine, solved = of(rows, predictor), solved_kernels(rows, predictor)
    return f"{len(mine) - len(solved)} of {len(mine)} not solved" if len(solved) < len(mine) else ""


def at_share(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows at n = 0.3 d²."""
    return rows[rows.num_samples == (BELOW * rows.dim**2).round()]


def _growth(
    what: str,
    found: tuple[float, tuple[float, float]],
    bound: float | None = None,
    relation: _claims.Relation = "",
) -> Check:
    return Check(what, found[0], *found[1], bound, relation, "seeds")


def scaling(rows: pandas.DataFrame, predictor: str) -> _statistics.Scaling:
    """Where the mean test error of one predictor crosses 25 %, and how that grows with d."""
    dims = sorted(set(of(rows, predictor).dim))
    curves = {dim: curve(rows, predictor, dim, "test_error") for dim in dims}
    return _statistics.scaling(curves, LEVEL)


def jump(rows: pandas.DataFrame) -> _statistics.Scaling:
    """Where the largest R² of any coefficients passes ½."""
    dims = sorted(set(of(rows, ORACLE).dim))
    curves = {dim: curve(rows, ORACLE, dim, "r_squared") for dim in dims}
    return _statistics.scaling({d: (n, 1 - r2) for d, (n, r2) in curves.items()}, 0.5)
