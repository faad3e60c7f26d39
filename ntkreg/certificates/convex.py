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


class Programme(NamedTuple):
    """Vectors v of shape (units, dim), each in its cone, and the outputs that they make.

    Attributes:
      features: takes all vectors in one row to the outputs, shape (outputs, units·dim).
      walls: the rows that this row of vectors makes at most 0, shape (walls, units·dim).
      dim: of a vector.
    """

    features: np.ndarray
    walls: "scipy.sparse.spmatrix"
    dim: int

    @property
    def num_units(self) -> int:
        """How many vectors there are."""
        return self.features.shape[1] // self.dim


def widest_margin(x: np.ndarray, y: np.ndarray, units: Units, scale: float) -> Solution:
    """max t with yᵢf(xᵢ) ≥ t and Σ‖v‖ ≤ scale; `dual` is α of the margins, on the simplex.

    A scale near the inverse of the margin at Σ‖v‖ = 1 keeps all numbers near 1.
    """
    longest = np.linalg.norm(x, axis=1).max()  # the solver's tolerances are made for numbers near 1
    programme = _of_units(x / longest, units)
    signed = programme._replace(features=y[:, None] * programme.features)
    found = widest(signed, scale * longest)
    return found._replace(vectors=found.vectors / longest)


def least_objective(
    x: np.ndarray, units: Units, loss: Loss, weight: float, start: np.ndarray
) -> Solution:
    """min (1/n) Σ ℓᵢ(f(xᵢ)) + weight·Σ‖v‖ from vectors `start`; `dual` is −ℓᵢ′ at its end."""
    longest = np.linalg.norm(x, axis=1).max()  # as above
    found = least(_of_units(x / longest, units), loss, weight / longest, start * longest)
    return found._replace(vectors=found.vectors / longest)


def widest(programme: Programme, scale: float) -> Solution:
    """max t with all outputs ≥ t and Σ‖v‖ ≤ scale; `dual` is on the simplex."""
    num_outputs, num_vectors = programme.features.shape
    num_units = programme.num_units
    margins = scipy.sparse.hstack(
        [-scipy.sparse.csc_matrix(programme.features), _zeros(num_outputs, num_units),
         _ones(num_outputs)]
    )  # fmt: skip
    quadratic = scipy.sparse.csc_matrix((num_vectors + num_units + 1,) * 2)
    linear = np.zeros(quadratic.shape[0])
    linear[-1] = -1.0
    primal, dual = _solved(quadratic, linear, programme, scale, margins)
    alpha = np.maximum(dual[-num_outputs:], 0.0)
    return Solution(primal[:num_vectors].reshape(-1, programme.dim), alpha / alpha.sum())


def least(programme: Programme, loss: Loss, weight: float, start: np.ndarray) -> Solution:
    """min (1/n) Σ ℓᵢ + weight·Σ‖v‖ from vectors `start`; `dual` is −∂ℓ by each output at its end.

    Newton's method: each step replaces the loss by its second-order expansion, a cone programme
    without exponentials, and goes as far along it as the objective falls (Armijo's rule). The dual
    is that of the last programme, which is feasible to the solver's precision; the slopes of the
    loss at the vectors are so only to the root of the precision of the objective.
    """
    value, slope, curvature = loss
    features, num_units = programme.features, programme.num_units
    num_outputs, num_vectors = features.shape
    num_samples = len(value(np.zeros(num_outputs)))
    columns = scipy.sparse.csc_matrix(features)
    rest = [_zeros(num_outputs, num_units), -scipy.sparse.eye(num_outputs)]
    objective = lambda v: np.mean(value(features @ v.ravel())) + weight * _total(v)
    vectors, now = start, objective(start)
    for _ in range(NEWTON_STEPS):
        outputs = features @ vectors.ravel()
        mass = max(_total(vectors), 1.0)  # of which the programme's vectors are shares
        unit = num_samples * weight * mass
        bend = _bend(curvature(outputs) / unit)
        lean = slope(outputs) / unit - bend @ outputs
        quadratic = scipy.sparse.block_diag([_zeros(num_vectors + num_units), bend], "csc")
        linear = np.concatenate([np.zeros(num_vectors), np.ones(num_units), lean])
        links = scipy.sparse.hstack([mass * columns, *rest])
        primal, multipliers = _solved(quadratic, linear, programme, None, links)
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
    return Solution(vectors, -multipliers[-num_outputs:] * unit)


def _of_units(x: np.ndarray, units: Units) -> Programme:
    walls = np.where(units.active, -1.0, 1.0)[:, :, None] * x[None]
    return Programme(units.features(x), scipy.sparse.block_diag(list(walls)), x.shape[1])


def _bend(curvature: np.ndarray) -> "scipy.sparse.spmatrix":
    """The matrix of second derivatives, or of these on its diagonal, with no eigenvalue at 0."""
    if curvature.ndim == 1:
        return scipy.sparse.diags(np.maximum(curvature, 1e-12))
    return scipy.sparse.csc_matrix(curvature) + 1e-12 * scipy.sparse.eye(len(curvature))


def _total(vectors: np.ndarray) -> float:
    return float(np.linalg.norm(vectors, axis=1).sum())


def _zeros(rows: int, columns: int | None = None) -> "scipy.sparse.csc_matrix":
    return scipy.sparse.csc_matrix((rows, rows if columns is None else columns))


def _ones(rows: int) -> "scipy.sparse.csc_matrix":
    return scipy.sparse.csc_matrix(np.ones((rows, 1)))


def _solved(quadratic, linear, programme: Programme, scale: float | None, last) -> tuple:
    """clarabel's (primal, dual) over (vectors, their norms, rest), vectors in their cones.

    The norms are at most `scale` together. The rows `last` come at the end, ≤ 0 where there is a
    scale and = 0 else.
    """
    walls, dim, num_units = programme.walls, programme.dim, programme.num_units
    num_vectors, width = num_units * dim, quadratic.shape[0]
    beside = _zeros(walls.shape[0], width - num_vectors)
    # The second-order cones want (‖v‖, v) of one unit after the other.
    rows = np.arange(num_units * (dim + 1)).reshape(num_units, dim + 1)
    rows = np.concatenate([rows[:, 1:].ravel(), rows[:, 0]])
    entries = (-np.ones(len(rows)), (rows, np.arange(len(rows))))
    blocks = [(scipy.sparse.hstack([walls, beside]), 0.0, [("nonnegative", walls.shape[0])])]
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
