"""Losses with their slopes and conjugates: what a dual bound is computed from.

Weak duality: ℓ(f) ≥ −ℓ*(−b) − bf for every b, with equality at b = −ℓ′(f).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy


class Dual(NamedTuple):
    """A loss and what duality needs of it, per sample: arrays (n,) in, arrays (n,) out.

    Attributes:
      value, slope, curvature: ℓ, ℓ′ and ℓ″ of outputs f and labels y, in float64.
      dual_value: −ℓ*(−b) of dual weights b and labels y, −∞ outside its domain.
      best_size: (b, y) -> the number t ≥ 0 at which Σ dual_value(t·b) is largest, or nearly; 0
        where no t > 0 is in the domain or better than 0.
      ball_value, ball_dual_value: `value` and `dual_value` in balls; the second is None where a
        weight is outside the domain.
    """

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray, np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]
    dual_value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    best_size: Callable[[np.ndarray, np.ndarray], float]
    ball_value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ball_dual_value: Callable[[np.ndarray, np.ndarray], np.ndarray | None]


def _entropy(b: np.ndarray, y: np.ndarray) -> np.ndarray:
    a = b * y
    inside = (a >= 0) & (a <= 1)
    a = np.where(inside, a, 0.0)
    values = scipy.special.entr(a) - scipy.special.xlog1py(1.0 - a, -a)  # 1 − a rounds to 1
    return np.where(inside, values, -np.inf)


def _logistic_size(b: np.ndarray, y: np.ndarray) -> float:
    """Where Σ log((1 − tβ)/(tβ))·β = 0, β = by: by bisection in log t."""
    a = b * y
    if (a < 0).any() or not (a > 0).any():
        return 0.0
    a, high = a / a.max(), 1.0
    low = 1e-300
    slope = lambda t: float(
        a @ np.where(a > 0, np.log1p(-t * a) - np.log(t * np.maximum(a, 1e-300)), 0)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(100):
            middle = np.sqrt(low * high)
            low, high = (middle, high) if slope(middle) > 0 else (low, middle)
    return low / float((b * y).max())


def _squared_size(b: np.ndarray, y: np.ndarray) -> float:
    square = float(b @ b)
    return max(0.0, 2.0 * float(b @ y) / square) if square else 0.0


_ball_loss = np.frompyfunc(lambda q: (-q).exp().log1p(), 1, 1)


def _ball_entropy(b: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    a = b * y
    if not all(0 <= value <= 1 for value in a):
        return None
    at = lambda v: 0 * v if v == 0 or v == 1 else -v * v.log() - (1 - v) * (-v).log1p()
    return np.array([at(value) for value in a], object)


DUALS = {
    "logistic": Dual(
        value=lambda f, y: np.logaddexp(0.0, -y * f),
        slope=lambda f, y: -y * scipy.special.expit(-y * f),
        curvature=lambda f, y: scipy.special.expit(f) * scipy.special.expit(-f),
        dual_value=_entropy,
        best_size=_logistic_size,
        ball_value=lambda f, y: np.asarray(_ball_loss(y * f), object),
        ball_dual_value=_ball_entropy,
    ),
    "squared": Dual(
        value=lambda f, y: (f - y) ** 2,
        slope=lambda f, y: 2.0 * (f - y),
        curvature=lambda f, y: np.full_like(f, 2.0),
        dual_value=lambda b, y: b * y - b**2 / 4,
        best_size=_squared_size,
        ball_value=lambda f, y: (f - y) ** 2,
        ball_dual_value=lambda b, y: b * y - b**2 / 4,
    ),
}


def dual_minimum(
    loss: str, y: np.ndarray, lam: float, weights: np.ndarray, largest: float
) -> tuple[float, np.ndarray]:
    """(a bound of min F_λ from below, dual weights b ∝ weights that give it), any width.

    Weak duality: F_λ ≥ mean −ℓ*(−bᵢ) where |Σ (bᵢ/n) relu(uᵀxᵢ)| ≤ 2λ on the unit ball. Of all
    sizes of b that `largest` allows the best is taken, or nearly; none is negative.

    Args:
      weights: c ≈ −ℓ′/(nλ) of the samples, of any size.
      largest: an upper bound of |Σ cᵢ relu(uᵀxᵢ)| on the unit ball.
    """
    b = len(y) * lam * weights
    most = 2 / largest if largest > 0 else np.inf
    # A little less than allowed, since a product rounded out of the domain would prove nothing.
    dual = b * (min(most, DUALS[loss].best_size(b, y)) * (1 - 4 * np.finfo(float).eps))
    values = DUALS[loss].dual_value(dual, y)
    allowance = 4 * len(y) * np.finfo(float).eps * np.mean(np.abs(values))
    return float(np.mean(values) - allowance), dual
