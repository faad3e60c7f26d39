"""Losses with their slopes and conjugates in NumPy float64: what a dual bound is computed from.

Weak duality: ℓ(f) ≥ −ℓ*(−b) − bf for every b, with equality at b = −ℓ′(f).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.special


def _entropy(b: np.ndarray, y: np.ndarray) -> np.ndarray:
    a = np.clip(b * y, 0.0, 1.0)
    return scipy.special.entr(a) - scipy.special.xlog1py(1.0 - a, -a)  # 1 − a rounds to 1


def _scaled_logistic(b: np.ndarray, y: np.ndarray, most: float) -> np.ndarray:
    """b times what makes it feasible: at most `most`, and 0 ≤ by ≤ 1; the better of two choices."""
    most = min(most, 1.0 / max(float(np.max(b * y)), 1e-300))
    return b * max(most, min(most, 1.0), key=lambda size: float(np.mean(_entropy(size * b, y))))


def _scaled_squared(b: np.ndarray, y: np.ndarray, most: float) -> np.ndarray:
    square = float(b @ b)
    return b * min(most, 2.0 * float(b @ y) / square) if square else b


class Dual(NamedTuple):
    """A loss and what duality needs of it, per sample: arrays (n,) in, arrays (n,) out.

    Attributes:
      value, slope, curvature: ℓ, ℓ′ and ℓ″ of outputs f and labels y.
      scaled: (b, y, most) -> b times the number in (0, most] that makes it feasible, with the best
        dual value, or nearly.
      dual_value: −ℓ*(−b) of dual weights b and labels y.
    """

    value: Callable[[np.ndarray, np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray, np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray, np.ndarray], np.ndarray]
    scaled: Callable[[np.ndarray, np.ndarray, float], np.ndarray]
    dual_value: Callable[[np.ndarray, np.ndarray], np.ndarray]


DUALS = {
    "logistic": Dual(
        value=lambda f, y: np.logaddexp(0.0, -y * f),
        slope=lambda f, y: -y * scipy.special.expit(-y * f),
        curvature=lambda f, y: scipy.special.expit(f) * scipy.special.expit(-f),
        scaled=_scaled_logistic,
        dual_value=_entropy,
    ),
    "squared": Dual(
        value=lambda f, y: (f - y) ** 2,
        slope=lambda f, y: 2.0 * (f - y),
        curvature=lambda f, y: np.full_like(f, 2.0),
        scaled=_scaled_squared,
        dual_value=lambda b, y: b * y - b**2 / 4,
    ),
}


def dual_minimum(
    loss: str, y: np.ndarray, lam: float, weights: np.ndarray, largest: float
) -> tuple[float, np.ndarray]:
    """(a bound of min F_λ from below, the dual weights b that prove it), two layers, any width.

    Weak duality: F_λ ≥ mean −ℓ*(−bᵢ) where |Σ (bᵢ/n) relu(uᵀxᵢ)| ≤ 2λ on the unit ball.

    Args:
      weights: c ≈ −ℓ′/(nλ) of the samples, of any size.
      largest: an upper bound of |Σ cᵢ relu(uᵀxᵢ)| on the unit ball.
    """
    most = 2 / largest if largest > 0 else np.inf
    dual = DUALS[loss].scaled(len(y) * lam * weights, y, most)
    values = DUALS[loss].dual_value(dual, y)
    allowance = len(y) * np.finfo(float).eps * np.mean(np.abs(values))
    return float(np.mean(values) - allowance), dual
