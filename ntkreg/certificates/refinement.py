"""Certificates from all faces to the last digits: cutting planes in float64, then in balls.

Each round's weights and network are rounded to float64 and judged by what these arrays prove.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flint
import numpy as np

from ntkreg._types import Params
from ntkreg.certificates.balls import BITS, above, balls, precision, rounded
from ntkreg.certificates.cutting_planes import Concave, Round, all_rays, interior, rounds, solved
from ntkreg.certificates.face_search import largest
from ntkreg.certificates.float_rounding import TIGHT, float_network, float_weights
from ntkreg.certificates.oracles import SEPARABLE
from ntkreg.certificates.proofs import Problem, bits, proved
from ntkreg.certificates.scaled_problems import Scaled, bound_of_weights, concave, power, scaled
from ntkreg.kernels.kernel_machines import NotSeparable

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
