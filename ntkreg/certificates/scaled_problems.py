"""Problems of certificates in units in which nothing is long or short.

Rows, labels and λ are divided by powers of two, so that the problem solved has rows of length about
1 however long those of the data are; powers of two come out again without error.
"""

from typing import NamedTuple

import flint
import numpy as np

from ntkreg.certificates.balls import balls, precision, rounded
from ntkreg.certificates.cutting_planes import Concave
from ntkreg.certificates.face_search import Faces, arranged, largest
from ntkreg.certificates.proofs import Problem, bits


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
      ValueError: where there are too many faces (`arrangements.can_list`).
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
