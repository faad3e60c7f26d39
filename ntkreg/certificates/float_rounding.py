"""Weights and networks of the scaled problems, rounded to the float64 arrays that are returned.

All that is lost of a certificate solved in balls is lost here. Rounded one by one the errors of
numbers that cancel do not, so that weights and neurons are rounded together, to the point of the
float64 lattice at which the errors that count cancel; small neurons make up for the rest.
"""

import flint
import numpy as np

from ntkreg._types import Params
from ntkreg.certificates.balls import balls, is_balls, middle, product, rounded, solve
from ntkreg.certificates.cutting_planes import Concave, Cuts, Round, all_rays, interior, solved
from ntkreg.certificates.face_search import Faces
from ntkreg.certificates.proofs import Problem, outputs
from ntkreg.certificates.scaled_problems import Scaled, concave, power
from ntkreg.certificates.two_layer import fewest

TIGHT = (1e-12, 1e-8, 1e-5)  # errors of a cell's gradient that do no harm, tried in turn
FREE, BEND = 1e-6, 1e-6  # relative errors of weights and of neurons that do none by themselves
NOTHING = 1e-12  # share of the objective that may go


def float_weights(
    problem: Problem,
    units: Scaled,
    step: Round,
    tight: float | None = None,
    vanishing: bool = False,
) -> np.ndarray:
    """The problem's dual in float64, with errors that cancel up to `tight` where that is given.

    `vanishing` lets the weights themselves cancel up to it, not their errors: those of the least λ.
    Then weights of which the objective has next to nothing are 0.
    """
    y = problem.y
    if problem.is_margin:
        factors = units.shrink * balls(y[units.used])
        factors = factors / (step.c * factors).sum()
        dual = np.zeros(len(y))
    else:
        factors = 2 * len(y) * flint.arb(problem.lam) / power(units.exponent) * units.shrink
        dual = 2 * y if problem.loss == "squared" else y / 2
    dual[units.used] = rounded(factors * step.c)
    if tight is not None:
        c = middle(balls(step.c))
        count = 1 if problem.is_margin else len(y)
        odd = count // (count & -count)  # so that b/n, too, cancels without rounding
        kept = _worth(problem, units, c) if vanishing else np.arange(len(c))
        dual[np.flatnonzero(units.used)] = 0.0
        dual[np.flatnonzero(units.used)[kept]] = _cancelling(
            units, kept, c[kept], factors[kept], tight, odd, vanishing, problem.is_margin
        )
    return dual


def _worth(problem: Problem, units: Scaled, c: np.ndarray) -> np.ndarray:
    """The weights that have more than a share of NOTHING in the dual objective."""
    goal = concave(problem, units, True)
    a = c if goal.target is None else c * goal.target
    parts = abs(goal.slope(a) * a)
    return np.flatnonzero(parts > NOTHING * max(parts))


def _cancelling(
    units, kept, c: np.ndarray, factors, tight: float, multiple: int, vanishing: bool, scale_free
):
    """Float64 numbers near factors·c whose error cancels as c does, in steps of `multiple` bits.

    Rounded one by one the errors do not cancel, and where c is of size 1/γ they raise M(c) = 1 by
    2⁻⁵³/γ. Here errors e of c are measured by Σ_active eᵢxᵢ of all cells, and hardly by anything
    else.
    """
    x, count = balls(units.known.x[kept]), len(c)
    cells = units.known.signs[units.known.flat == _cell_flat(units.known)]
    active = (cells[:, kept] > 0).astype(float)
    norm = (active.T @ active) * product(x, x.T) / tight**2
    free = 1 / (np.maximum(abs(c), max(abs(c)) * 1e-40) * FREE) ** 2
    norm[np.diag_indices(count)] += free
    if vanishing:  # the nearest weights that cancel
        c = solve(norm, free * c)
    grid = multiple * np.spacing(np.abs(rounded(c * factors)))
    if scale_free:  # of an error that is a multiple of c nothing counts
        large = rounded(abs(c)) > 1e-3 * float(max(abs(c)))
        mean = np.where(large, 1 / c, 0 * c) / int(large.sum())
        across = balls(np.eye(count)) - c[:, None] * mean
        norm = product(across.T, product(norm, across)) + 1e6 * mean[:, None] * mean
        grid = 2 * grid  # so that all of them may grow into the next binade
    return _nearest_in_lattice(c * factors, norm / (factors[:, None] * factors), grid)


def _nearest_in_lattice(target: np.ndarray, norm: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Multiples of `grid` near `target` in a norm, √(eᵀ·norm·e).

    Source: Lenstra, Lenstra, Lovász (Math. Annalen 1982); Babai (Combinatorica 1986), rounding off.
    """
    plain = grid * np.round(rounded(target) / np.where(grid > 0, grid, 1.0))
    root = _cholesky(middle(norm))
    whole = flint.fmpz_mat(
        [[_nearest(v * power(160)) for v in column] for column in (root * balls(grid)).T]
    )
    reduced, unimodular = whole.lll(True)
    rest = root.dot(target - balls(plain)) * power(160)
    try:
        shares = flint.arb_mat(reduced.transpose()).solve(flint.arb_mat(rest[:, None].tolist()))
        whole_shares = flint.fmpz_mat([[_nearest(row[0]) for row in shares.tolist()]])
    except ZeroDivisionError:
        return plain
    steps = (whole_shares * unimodular).tolist()[0]
    return plain + grid * np.array([float(int(k)) for k in steps])


_nearest = lambda ball: (ball.mid() + 0.5).floor().unique_fmpz()


def _cell_flat(known: Faces) -> int:
    return int(np.flatnonzero(known.codimension == 0)[0])


def _cholesky(matrix: np.ndarray) -> np.ndarray:
    """The upper triangular R with RᵀR = matrix, in midpoints of balls."""
    left, rows = matrix.copy(), []
    for k in range(len(matrix)):
        row = left[k] / np.sqrt(left[k, k])
        row[:k] = flint.arb(0)
        rows.append(row)
        left = middle(left - row[:, None] * row)
    return np.array(rows, object)


def float_network(problem: Problem, units: Scaled, step: Round, exact: bool) -> Params:
    """The network of the multipliers in float64, neurons of one closed cell in one.

    Where `exact` asks, small neurons are added that make up for what rounding the others changed:
    their own rounding is smaller by as much as they are.
    """
    half = 0 if problem.is_margin else (units.label_exponent - units.exponent) // 2
    neurons = merged(units.known, step)
    if not exact:
        return _rounded_network(_at_most_n(units.known.x, *neurons), half, None)
    stiffness = _stiffness(units, step)
    (first, last) = _rounded_network(neurons, half, stiffness)
    goal = concave(problem, units, True)
    signs = balls(np.ones(len(step.c))) if goal.target is None else goal.target
    reached = signs * outputs((first, last), units.known.x) * power(-2 * half)
    missing = middle(goal.slope(step.c * signs) - reached)
    small = _corrections(problem, units, goal, signs, step, missing)
    more_first, more_last = _rounded_network(small, half, stiffness)
    return np.concatenate([first, more_first], axis=1), np.concatenate([last, more_last])


def _at_most_n(x: np.ndarray, vectors: np.ndarray, signs: np.ndarray):
    """The same outputs by at most n neurons, to the accuracy of float64."""
    if len(vectors) <= len(x):
        return vectors, signs
    plain = rounded(vectors)
    lengths = np.linalg.norm(plain, axis=1)
    vectors, signs, plain, lengths = (a[lengths > 0] for a in (vectors, signs, plain, lengths))
    features = np.maximum(x @ (plain / lengths[:, None]).T, 0.0) * signs
    kept = fewest(features, lengths)
    return vectors[kept > 0] * balls(kept / lengths)[kept > 0, None], signs[kept > 0]


def _stiffness(units: Scaled, step: Round) -> np.ndarray:
    """The norm of an error e of a neuron's vector, relative to the network's size: Σ (aᵢ xᵢᵀe)²."""
    total = step.masses.sum()
    weights = np.maximum(abs(step.c) / total, 1e-5 / units.shrink * min(units.shrink))
    scaled_rows = weights[:, None] * balls(units.known.x)
    return product(scaled_rows.T, scaled_rows)


def _corrections(problem, units, goal: Concave, signs, step: Round, missing):
    """The smallest neurons that add `missing` to the scaled outputs, or more where that is good."""
    rays = all_rays(units.known, problem.signs, True)
    cuts = Cuts(*(np.concatenate(pair) for pair in zip(step.cuts, rays, strict=True)))
    if goal.target is not None:
        missing = np.maximum(missing, -1e3 * max(missing))
    size = max(abs(missing))
    wanted = goal._replace(slope=lambda a: missing / size, curvature=lambda a: 0 * a)
    features = cuts.features(units.known) * signs
    _, masses, _ = solved(wanted, features, interior(features), 1e-10)
    return merged(units.known, Round(step.c, cuts, masses * size, 0.0, 0.0))


def _rounded_network(neurons, half: int, stiffness: np.ndarray | None) -> Params:
    vectors, signs = neurons
    if not len(vectors):
        return np.zeros((vectors.shape[1], 1)), np.zeros((1, 1))
    first, last = [], []
    for vector, sign in zip(vectors, signs, strict=True):
        mass = np.sqrt(vector.dot(vector))
        w = vector / np.sqrt(mass)
        column = rounded(w)
        if stiffness is not None:
            norm = stiffness * mass / TIGHT[0] ** 2
            norm[np.diag_indices(len(w))] += 1 / (mass * BEND**2)
            column = _nearest_in_lattice(w, norm, np.spacing(np.abs(column)))
        length = np.sqrt(balls(column).dot(balls(column)))
        first.append(column)
        last.append(float(mass / length) * sign)
    return np.ldexp(np.transpose(first), half), np.ldexp(np.array(last)[:, None], half)


def merged(known: Faces, step: Round) -> tuple[np.ndarray, np.ndarray]:
    """(Σ m u over neurons that share a closed cell and a sign, those signs).

    Where no two of their sign vectors disagree relu is linear over them: the outputs stay, and the
    norm of a sum is at most the sum of the norms.
    """
    masses = rounded(step.masses)
    order = np.argsort(-masses)
    order = order[masses[order] > (1e-40 if is_balls(step.masses) else 1e-13) * masses.sum()]
    groups: list[tuple[np.ndarray, int, np.ndarray]] = []
    for i in order:
        vector = balls(step.masses[i : i + 1]) * balls(step.cuts.units[i])
        sign, face = step.cuts.sign[i], known.signs[step.cuts.faces[i]]
        for k, (total, group_sign, pattern) in enumerate(groups):
            if sign == group_sign and (pattern * face >= 0).all():
                groups[k] = (total + vector, sign, np.sign(pattern + face))
                break
        else:
            groups.append((vector, sign, face))
    return (
        balls(np.zeros((0, step.cuts.units.shape[1])))
        if not groups
        else np.array([middle(total) for total, _, _ in groups], object),
        np.array([sign for _, sign, _ in groups]),
    )
