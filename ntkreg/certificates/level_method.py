"""Weights on the samples with the least M(αy): a stabilised cutting-plane method.

Every unit v that an oracle finds bounds M from below by the linear |Σ αᵢyᵢ relu(vᵀxᵢ)|. A linear
programme over these cuts has many solutions, and jumps between corners. The level method steps
instead to the point nearest to the best weights so far at which all cuts lie below a level between
the known bounds. Source: Lemaréchal, Nemirovskii, Nesterov (Mathematical Programming 1995).
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from ntkreg.certificates.conic import solved
from ntkreg.certificates.oracles import Oracle, of_signs

LEVEL = 0.3  # of the way from the lower to the upper bound


class Weights(NamedTuple):
    """Weights α on the simplex, M(αy) by the oracle, and what its answer took."""

    alpha: np.ndarray
    largest: float
    nodes: int


def least_maximum(
    maximize: Oracle,
    x: np.ndarray,
    y: np.ndarray,
    alpha: np.ndarray,
    least: float,
    tolerance: float,
    max_rounds: int,
) -> Weights:
    """The best weights of some rounds from `alpha`, until M(αy) is within tolerance of its least.

    `least` is a lower bound of M, twice the margin of any network.
    """
    cuts = np.zeros((0, len(y)))
    best = Weights(alpha, np.inf, 0)
    for _ in range(max_rounds + 1):
        maxima = of_signs(maximize, alpha * y)
        if maxima.upper < best.largest:
            best = Weights(alpha, maxima.upper, maxima.nodes)
        answers = zip(maxima.found, maxima.signs, strict=True)
        cuts = np.concatenate(
            [cuts, *(sign * y * np.maximum(m.directions @ x.T, 0) for m, sign in answers)]
        )
        nearest = None
        while nearest is None and best.largest > max(least, 0.0) * (1 + tolerance):
            level = least + LEVEL * (best.largest - least)
            nearest = _nearest(best.alpha, cuts, level)
            if nearest is None:
                if level >= best.largest * (1 - tolerance):
                    return best
                least = level  # the cuts themselves forbid less
        if nearest is None:
            break
        alpha = nearest
    return best


def _nearest(centre: np.ndarray, cuts: np.ndarray, level: float) -> np.ndarray | None:
    """The weights nearest to `centre` at which all cuts are at most `level`; None where none are.

    Solved for nα and cuts over the level, so that all numbers are near 1.
    """
    n = len(centre)
    matrix = np.concatenate([np.ones((1, n)), -np.eye(n), cuts / max(level, 1e-300)])
    right = n * np.concatenate([[1.0], np.zeros(n), np.ones(len(cuts))])
    cones = [("zero", 1), ("nonnegative", n + len(cuts))]
    solution = solved(sp.eye(n), -n * centre, sp.csc_matrix(matrix), right, cones, 1e-8)
    if "Solved" not in str(solution.status):
        return None
    alpha = np.maximum(np.asarray(solution.x), 0.0)
    return alpha / alpha.sum()
