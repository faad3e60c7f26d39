"""Certificates from all faces to the last digits: cutting planes in float64, then in balls.

Rows, labels and λ are divided by powers of two, so that the problem solved has rows of length about
1 however long those of the data are; powers of two come out again without error.

Each round's weights and network are rounded to float64 and judged by what these arrays prove. All
that is lost of a certificate solved in balls is lost there. Rounded one by one the errors of
numbers that cancel do not, so that weights and neurons are rounded together, to the point of the
float64 lattice at which the errors that count cancel; small neurons make up for the rest.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flint
import numpy as np

from ntkreg._types import Params
from ntkreg.certificates.balls import (
    BITS,
    above,
    balls,
    is_balls,
    middle,
    precision,
    product,
    rounded,
    solve,
)
from ntkreg.certificates.cutting_planes import (
    Concave,
    Cuts,
    Round,
    all_rays,
    interior,
    rounds,
    solved,
)
from ntkreg.certificates.enumeration import Faces, arranged, largest
from ntkreg.certificates.oracles import SEPARABLE
from ntkreg.certificates.proofs import Problem, bits, outputs, proved
from ntkreg.certificates.two_layer import fewest
from ntkreg.kernels.kernel_machines import NotSeparable


class Scaled(NamedTuple):
    """A problem in units in which rows are of length about 1.

    Attributes:
      known: the faces of the rows that are not zero.
      used: which rows these are.
      shrink: ρᵢ: 2^exponent/2^eᵢ, by which row i is shorter than the longest, in balls.
      exponent: of the longest row; even.
      label_exponent: of the largest label of the squared loss; even, else 0.
    """

    known: Faces
    used: np.ndarray
    shrink: np.ndarray
    exponent: int
    label_exponent: int


def power(exponent: int) -> flint.arb:
    """2^exponent as a ball."""
    return flint.arb(2) ** int(exponent)


def _even(exponent: int) -> int:
    return int(exponent) + int(exponent) % 2


def scaled(problem: Problem) -> Scaled:
    """The problem's rows in units of their own.

    Raises:
      ValueError: where there are too many faces (`enumeration.can_list`).
    """
    exponents = np.frexp(np.abs(problem.x).max(axis=1))[1]
    used = np.any(problem.x, axis=1)
    top = _even(exponents[used].max())
    known = arranged(np.ldexp(problem.x[used], -exponents[used, None]))
    shrink = np.array([power(top - e) for e in exponents[used]], object)
    is_squared = not problem.is_margin and problem.loss == "squared"
    label = _even(np.frexp(np.abs(problem.y).max())[1]) if is_squared else 0
    return Scaled(known, used, shrink, top, label)


def concave(problem: Problem, units: Scaled, exact: bool) -> Concave:
    """The dual objective over the weights a of the scaled rows, in balls or in float64."""
    convert = balls if exact else rounded
    y, rho = balls(problem.y[units.used]), units.shrink
    if problem.is_margin:
        rho = convert(rho / max(rho))
        return Concave(convert(y), lambda a: rho, lambda a: 0 * a, convert(np.full(len(y), np.inf)))
    lam = flint.arb(problem.lam) / power(units.exponent + units.label_exponent)
    kappa = convert(2 * len(problem.y) * lam * rho)
    rho = convert(rho)
    if problem.loss == "squared":
        y = convert(y / power(units.label_exponent))
        top = convert(np.full(len(y), np.inf))
        return Concave(
            None, lambda a: rho * (y - kappa * a / 2), lambda a: rho * kappa / 2 + 0 * a, top
        )
    log1p = _ball_log1p if exact else np.log1p
    return Concave(
        convert(y),
        lambda a: rho * (log1p(-kappa * a) - np.log(kappa * a)),
        lambda a: rho / (a * (1 - kappa * a)),
        1 / kappa,
    )


_ball_log1p = np.frompyfunc(lambda ball: ball.log1p(), 1, 1)


def bound_of_weights(problem: Problem, units: Scaled, dual: np.ndarray) -> flint.arb:
    """A proved bound of |Σ cᵢ relu(uᵀxᵢ)| for the problem's `weights` of `dual`."""
    with precision(bits(problem)):
        # The mean is divided at the end: terms that cancel exactly are to stay exact.
        whole = problem.weights(dual) if problem.is_margin else balls(dual)
        bound = flint.arb(largest(units.known, whole[units.used] / units.shrink, problem.signs))
        return bound * power(units.exponent) / (1 if problem.is_margin else len(dual))


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

    `vanishing` lets the weights themselves cancel up to it, not their errors: those of the
    smallest λ. Then weights of which the objective has next to nothing are 0.
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

    With `exact`, small neurons are added that make up for what rounding the others changed:
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


ROUNDS = 100
NEARLY = 1e-2  # by which errors may differ of rounds of which the later is the better
EXACT = 100  # samples up to which what float64 leaves open is solved in balls, in minutes at most
IDLE = 1e-8  # share of the masses below which a neuron may go
CAREFUL = 24  # samples up to which rounding is done with care
DIGITS = 5  # times those of λ: weights that cancel, squared twice in Newton's equations
MANY_BITS = 1000  # beyond which a gentle λ is tried before balls
GENTLE = (1e-14, 1e-18, 1e-23, 1e-32)  # λ of the scaled problem


class Refined(NamedTuple):
    """The best arrays found, and what they prove."""

    primal: Params
    dual: np.ndarray
    lower: float
    upper: float


def solved_exactly(
    problem: Problem, tolerance: float, max_rounds: int = ROUNDS, given: Params | None = None
) -> Refined:
    """The certificate of a problem whose faces can be listed.

    Args:
      given: a network that the one returned is at least as good as.

    Raises:
      NotSeparable: for a margin of the unit rows that is proved to be at most SEPARABLE; and for
        a λ so small that only such a margin, which float64 cannot hold, would lower F.
    """
    units, nothing = scaled(problem), np.zeros(len(problem.y))
    found: Any = None
    if given is not None:
        found = _judged(problem, units, given, nothing + problem.is_margin, None)
    if not problem.is_margin:
        zero = np.zeros((problem.x.shape[1], 1)), np.zeros((1, 1))
        found = _judged(problem, units, zero, nothing, found)
    budget = iter(range(max_rounds))
    start = _solved_in_floats(problem, units, tolerance, budget)
    if start is not None:
        found = _judged_round(problem, units, start, found)
    done = lambda: _closed(found, tolerance) or next(budget, None) is None
    if len(problem.y) > EXACT or done():
        return _without_idle_neurons(problem, units, found, tolerance)
    may_be_gentle = not problem.is_margin and len(problem.y) <= CAREFUL
    balls_are_long = bits(problem, DIGITS) > MANY_BITS
    if may_be_gentle and balls_are_long:
        found = _solved_gently(problem, units, tolerance, found)
    if not done():
        found = _solved_in_balls(problem, units, tolerance, budget, start, found)
    if not done():
        if may_be_gentle and not balls_are_long:
            found = _solved_gently(problem, units, tolerance, found)
        if problem.loss == "logistic" and not problem.is_margin and not _closed(found, 1e-7):
            _check_apart(problem, units)
    return _without_idle_neurons(problem, units, found, tolerance)


def _solved_in_balls(
    problem: Problem, units: Scaled, tolerance: float, budget: Iterator[int], start, found: Any
) -> Any:
    """The better of `found` and what rounds in balls give, rounded with care at the end."""
    with precision(bits(problem, DIGITS)):
        step = start
        for step in _ball_steps(problem, units, tolerance, budget, start):
            found = _judged_round(problem, units, step, found)
            if _closed(found, tolerance):
                return found
        if step is None or len(problem.y) > CAREFUL or next(budget, None) is None:
            return found
        return _rounded_with_care(problem, units, step, step, problem, found, tolerance)


def _without_idle_neurons(problem: Problem, units: Scaled, found: Refined, tolerance: float):
    """`found` without the neurons that a solver left next to nothing of, if it stays closed."""
    if not _closed(found, tolerance):
        return found
    first, last = found.primal
    masses = np.linalg.norm(first, axis=0) * np.abs(last[:, 0])
    kept = masses >= IDLE * masses.sum()
    if kept.all():
        return found
    fewer = _judged(problem, units, (first[:, kept], last[kept]), found.dual, None)
    return fewer if _closed(fewer, tolerance) else found


def _solved_gently(problem: Problem, units: Scaled, tolerance: float, found: Refined) -> Refined:
    """The better of `found` and what other λ give, where this one is too small for float64.

    Where no network separates the samples the minimizers hardly depend on a small λ; but at the
    smallest nothing keeps networks small, and weights must cancel to within λ.
    """
    for lam in GENTLE:
        gentle = problem._replace(lam=lam * power(units.exponent + units.label_exponent))
        budget = iter(range(ROUNDS))
        start = _solved_in_floats(gentle, units, tolerance, budget)
        with precision(bits(gentle, DIGITS)):
            *_, last = start, *_ball_steps(gentle, units, tolerance, budget, start)
        with precision(bits(problem, DIGITS)):
            step = last._replace(c=last.c * (flint.arb(gentle.lam) / flint.arb(problem.lam)))
            found = _rounded_with_care(problem, units, step, last, gentle, found, tolerance)
        if _closed(found, tolerance):
            break
    return found


def _check_apart(problem: Problem, units: Scaled) -> None:
    """Raises NotSeparable where a positive margin keeps samples apart, but less than SEPARABLE.

    Weights with h = 0 throughout grow without bound; a margin γ > 0 stops them at 1/γ.
    """
    with precision(8 * BITS):
        y = balls(problem.y[units.used])
        cuts, top = all_rays(units.known, (1, -1), True), balls(np.full(len(y), np.inf))
        objective = Concave(y, lambda a: 1 + 0 * a, lambda a: 0 * a, top)
        features = cuts.features(units.known) * y
        a, _, _ = solved(objective, features, interior(features), 1e-3, 1e150)
        size = float(a.sum())
        lam = float(flint.arb(problem.lam) / power(units.exponent))
    if 1 / SEPARABLE < size < min(1e100, 1 / lam):  # beyond it F gains nothing by the margin
        raise NotSeparable(
            f"data must be separable by more than their last bits where lam is {problem.lam}, got "
            f"a margin of the rows at unit length of {0.5 / size:.1e}, below {SEPARABLE}"
        )


def _rounded_with_care(
    problem: Problem, units: Scaled, dual_step, primal_step, primal_problem, found, tolerance
) -> Refined:
    """The better of `found` and a round whose rounding to float64 cancels as its terms do."""
    primal = float_network(primal_problem, units, primal_step, True)
    vanishing = [True] if primal_problem is not problem else [False, not problem.is_margin]
    for vanishes, tight in itertools.product(vanishing, TIGHT):
        dual = float_weights(problem, units, dual_step, tight, vanishes)
        found = _judged(problem, units, primal, dual, found)
        if _closed(found, tolerance):
            break
    return found


def _solved_in_floats(
    problem: Problem, units: Scaled, tolerance: float, budget: Iterator[int]
) -> Round | None:
    """The best round in float64; None where it finds nothing."""
    best: Round | None = None
    with np.errstate(all="ignore"):
        steps = rounds(
            units.known, concave(problem, units, False), problem.signs, None, tolerance / 4
        )
        for _, step in zip(budget, steps, strict=False):
            _check_separable(problem, units, step)
            if best is None or _error(step) <= (1 + NEARLY) * _error(best):
                best = step
    return best


def _ball_steps(
    problem: Problem, units: Scaled, tolerance: float, budget: Iterator[int], start: Round | None
) -> Iterator[Round]:
    """Rounds in balls until they converge, from one in float64 where that is near."""
    start = start if start is not None and _error(start) < 1e-3 else None
    if start is not None:
        worth = rounded(start.masses / start.masses.sum())
        start = start._replace(cuts=start.cuts.chosen(np.flatnonzero(worth > 1e-3 * _error(start))))
    steps = rounds(units.known, concave(problem, units, True), problem.signs, start, tolerance)
    for _, step in zip(budget, steps, strict=False):
        _check_separable(problem, units, step)
        yield step
        if _error(step) < tolerance / 100:
            break


def _error(step: Round) -> float:
    worst = max(step.violation, step.accuracy)
    return worst if np.isfinite(worst) else np.inf


def _judged_round(problem: Problem, units: Scaled, step: Round, found: Refined | None) -> Refined:
    primal = float_network(problem, units, step, False)
    return _judged(problem, units, primal, float_weights(problem, units, step), found)


def _judged(problem: Problem, units: Scaled, primal: Params, dual, found: Refined | None):
    """The better of `found` and what these arrays prove, on either side."""
    bound = bound_of_weights(problem, units, dual)
    lower, upper = proved(problem, primal, dual, bound)
    return _better(problem, found, Refined(primal, dual, lower, upper))


def _closed(found: Refined | None, tolerance: float) -> bool:
    if found is None:
        return False
    return found.upper < np.inf and found.upper - found.lower <= tolerance * abs(found.upper)


def not_separable(margin: float) -> NotSeparable:
    """The error of samples whose rows at unit length are proved to have at most this margin."""
    return NotSeparable(
        "data must be separable by a two-layer ReLU network without biases: weights on the samples "
        f"bound the normalized margin of the rows at unit length by {margin:.1e}"
    )


def _check_separable(problem: Problem, units: Scaled, step: Round) -> None:
    if problem.is_margin and 0.5 * (1 + step.violation) <= SEPARABLE * float(abs(step.c).sum()):
        c = balls(step.c)
        margin = above(largest(units.known, c, problem.signs) / (2 * abs(c).sum()))
        if margin <= SEPARABLE:
            raise not_separable(margin)


def _better(problem: Problem, old: Refined | None, new: Refined) -> Refined:
    if old is None:
        return new
    primal_is_lower = problem.is_margin
    lower, upper = max(old.lower, new.lower), min(old.upper, new.upper)
    best_low = old if old.lower >= new.lower else new
    best_up = old if old.upper <= new.upper else new
    by_primal, by_dual = (best_low, best_up) if primal_is_lower else (best_up, best_low)
    return Refined(by_primal.primal, by_dual.dual, lower, upper)
