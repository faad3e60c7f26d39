"""Convex programmes over given units: two-layer networks whose activation patterns are fixed.

The vector v of each unit ranges over the cone in which relu(Xv) = D·Xv, D its pattern, and costs
‖v‖. Source: Pilanci and Ergen (ICML 2020), Theorem 1.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy

from ntkreg.certificates.two_layer import Units


def conic_solution(
    quadratic: "scipy.sparse.spmatrix",
    linear: np.ndarray,
    matrix: "scipy.sparse.spmatrix",
    right: np.ndarray,
    cones: Sequence[tuple[str, int]],
    tolerance: float = 1e-10,
) -> Any:
    """clarabel's solution (x, z, status) of min ½xᵀPx + qᵀx with b − Ax in a product of cones.

    `cones` names the blocks of rows in order, each ("zero" | "nonnegative" | "second_order", rows).
    What the solver says of itself is not checked here.
    """
    import clarabel  # not needed until something is solved

    kinds = {
        "zero": clarabel.ZeroConeT,
        "nonnegative": clarabel.NonnegativeConeT,
        "second_order": clarabel.SecondOrderConeT,
    }
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_iter = False, 100
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    return clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(scipy.sparse.triu(quadratic)), linear,
        scipy.sparse.csc_matrix(matrix), right,
        [kinds[kind](rows) for kind, rows in cones], settings,
    ).solve()  # fmt: skip


NEWTON_STEPS = 50
ROUNDING = 1e-14  # relative, of an objective
Loss = tuple[Callable, Callable, Callable]  # value, slope and curvature per sample, of the output


class Solution(NamedTuple):
    """What a solver returned: vectors (units, d) and dual weights of the samples. Not checked."""

    vectors: np.ndarray
    dual: np.ndarray


def widest_margin(x: np.ndarray, y: np.ndarray, units: Units, scale: float) -> Solution:
    """max t with yᵢf(xᵢ) ≥ t and Σ‖v‖ ≤ scale; `dual` is α of the margins, on the simplex.

    A scale near the inverse of the margin at Σ‖v‖ = 1 keeps all numbers near 1.
    """
    longest = np.linalg.norm(x, axis=1).max()  # the solver's tolerances are made for numbers near 1
    x, scale = x / longest, scale * longest
    num_vectors = len(units) * x.shape[1]
    features = y[:, None] * units.features(x)
    margins = scipy.sparse.hstack(
        [-scipy.sparse.csc_matrix(features), _zeros(len(x), len(units)), _ones(len(x))]
    )
    quadratic = scipy.sparse.csc_matrix((num_vectors + len(units) + 1,) * 2)
    linear = np.zeros(quadratic.shape[0])
    linear[-1] = -1.0
    primal, dual = _solved(quadratic, linear, x, units, scale, margins)
    alpha = np.maximum(dual[-len(x) :], 0.0)
    return Solution(primal[:num_vectors].reshape(-1, x.shape[1]) / longest, alpha / alpha.sum())


def least_objective(
    x: np.ndarray, units: Units, loss: Loss, weight: float, start: np.ndarray
) -> Solution:
    """min (1/n) Σ ℓᵢ(f(xᵢ)) + weight·Σ‖v‖ from vectors `start`; `dual` is −ℓᵢ′ at its end.

    Newton's method: each step replaces the loss by its second-order expansion, a cone programme
    without exponentials, and goes as far along it as the objective falls (Armijo's rule). The dual
    is that of the last programme, which is feasible to the solver's precision; the slopes of the
    loss at the vectors are so only to the root of the precision of the objective.
    """
    value, slope, curvature = loss
    longest = np.linalg.norm(x, axis=1).max()  # as above
    x, weight, start = x / longest, weight / longest, start * longest
    features = units.features(x)
    num_samples, num_vectors = features.shape
    columns = scipy.sparse.csc_matrix(features)
    rest = [_zeros(num_samples, len(units)), -scipy.sparse.eye(num_samples)]
    objective = lambda v: np.mean(value(features @ v.ravel())) + weight * _total(v)
    vectors, now = start, objective(start)
    for _ in range(NEWTON_STEPS):
        outputs = features @ vectors.ravel()
        mass = max(_total(vectors), 1.0)  # of which the programme's vectors are shares
        unit = num_samples * weight * mass
        bend = np.maximum(curvature(outputs) / unit, 1e-12)
        lean = slope(outputs) / unit - bend * outputs
        quadratic = scipy.sparse.block_diag(
            [_zeros(num_vectors + len(units)), scipy.sparse.diags(bend)], "csc"
        )
        linear = np.concatenate([np.zeros(num_vectors), np.ones(len(units)), lean])
        links = scipy.sparse.hstack([mass * columns, *rest])
        primal, multipliers = _solved(quadratic, linear, x, units, None, links)
        step = mass * primal[:num_vectors].reshape(vectors.shape) - vectors
        change = features @ step.ravel()
        expected = slope(outputs) @ change / num_samples
        expected += weight * (_total(vectors + step) - _total(vectors))
        size, new = 1.0, objective(vectors + step)
        while not new <= now + max(0.1 * size * expected, -ROUNDING * now) and size > 1e-8:
            size /= 2
            new = objective(vectors + size * step)
        if new <= now * (1 + ROUNDING):
            vectors, now = vectors + size * step, new
        if size < 1e-8 or -expected <= ROUNDING * now:
            break
    return Solution(vectors / longest, -multipliers[-num_samples:] * unit)


def _total(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=1).sum())


def _zeros(rows: int, columns: int | None = None) -> "scipy.sparse.csc_matrix":
    return scipy.sparse.csc_matrix((rows, rows if columns is None else columns))


def _ones(rows: int) -> "scipy.sparse.csc_matrix":
    return scipy.sparse.csc_matrix(np.ones((rows, 1)))


def _solved(quadratic, linear, x, units: Units, scale: float | None, last) -> tuple:
    """clarabel's (primal, dual) over (vectors, their norms, rest), vectors in their cones.

    The norms are at most `scale` together. The rows `last` come at the end, ≤ 0 where there is a
    scale and = 0 else.
    """
    num_units, (num_samples, dim) = len(units), x.shape
    num_vectors, width = num_units * dim, quadratic.shape[0]
    walls = np.where(units.active, -1.0, 1.0)[:, :, None] * x[None]
    beside = _zeros(num_units * num_samples, width - num_vectors)
    # The second-order cones want (‖v‖, v) of one unit after the other.
    rows = np.arange(num_units * (dim + 1)).reshape(num_units, dim + 1)
    rows = np.concatenate([rows[:, 1:].ravel(), rows[:, 0]])
    entries = (-np.ones(len(rows)), (rows, np.arange(len(rows))))
    inside = [("nonnegative", num_units * num_samples)]
    blocks = [(scipy.sparse.hstack([scipy.sparse.block_diag(list(walls)), beside]), 0.0, inside)]
    balls = [("second_order", dim + 1)] * num_units
    blocks += [(scipy.sparse.csc_matrix(entries, (len(rows), width)), 0.0, balls)]
    if scale is None:
        blocks += [(last, 0.0, [("zero", last.shape[0])])]
    else:
        norms = np.zeros((1, width))
        norms[0, num_vectors : num_vectors + num_units] = 1.0
        blocks += [(scipy.sparse.csc_matrix(norms), scale, [("nonnegative", 1)])]
        blocks += [(last, 0.0, [("nonnegative", last.shape[0])])]
    matrices = scipy.sparse.vstack([matrix for matrix, _, _ in blocks])
    right = np.concatenate([np.full(matrix.shape[0], bound) for matrix, bound, _ in blocks])
    cones = [cone for _, _, group in blocks for cone in group]
    solution = conic_solution(quadratic, linear, matrices, right, cones)
    return np.asarray(solution.x), np.asarray(solution.z)
