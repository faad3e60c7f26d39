"""Losses with their slopes and conjugates in NumPy float64: what a dual bound is computed from.

Weak duality: ℓ(f) ≥ −ℓ*(−b) − bf for every b, with equality at b = −ℓ′(f).
"""

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


# Per sample of output f and label y: ℓ, ℓ′, ℓ″; then b scaled to be feasible, and its −ℓ*(−b).
DUALS = {
    "logistic": (
        lambda f, y: np.logaddexp(0.0, -y * f),
        lambda f, y: -y * scipy.special.expit(-y * f),
        lambda f, y: scipy.special.expit(f) * scipy.special.expit(-f),
        _scaled_logistic,
        _entropy,
    ),
    "squared": (
        lambda f, y: (f - y) ** 2,
        lambda f, y: 2.0 * (f - y),
        lambda f, y: np.full_like(f, 2.0),
        _scaled_squared,
        lambda b, y: b * y - b**2 / 4,
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
    *_, scaled, dual_value = DUALS[loss]
    dual = scaled(len(y) * lam * weights, y, 2 / largest if largest > 0 else np.inf)
    values = dual_value(dual, y)
    allowance = len(y) * np.finfo(float).eps * np.mean(np.abs(values))
    return float(np.mean(values) - allowance), dual
