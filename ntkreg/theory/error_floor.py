"""A floor under the error on D of every predictor in the span of a kernel at a sample, proved.

For noise z the four inputs (±e₁, z), (±e₂, z) have the labels +1, +1, −1, −1. With g and h the mean
of f and of y f over the four, all four are right only where |g(z)| < h(z). So f errs on at least
¼ P(|g| ≥ |h|), and of f = Σᵢ βᵢ K(xᵢ, ·) both are sums of functions of ⟨zᵢ, z⟩:

    g = Σᵢ βᵢ k(⟨zᵢ, z⟩),      4 k(u) = κ(u + 1) + κ(u − 1) + 2 κ(u),
    h = Σᵢ βᵢ yᵢ l(⟨zᵢ, z⟩),   4 l(u) = κ(u + 1) + κ(u − 1) − 2 κ(u).

With p + r = g, p of degree 2 in the signs z, let ρ be the largest E (|h| + |r|)²/E p² of any β, a
generalized eigenvalue. Then P(|g| ≥ |h|) ≥ P(|p| ≥ |h| + |r|) ≥ (1 − ρ)² (E p²)²/E p⁴ by Cauchy and
Schwarz, and E p⁴ ≤ 16.2 (E p²)² for every polynomial of degree 2 in signs: docs/error_floor.md.

Source: derived here; Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1, says that there is a floor.
"""

from typing import NamedTuple

import numpy as np
import scipy

from ntkreg._checks import check_noisy_xor
from ntkreg._types import Float
from ntkreg.theory import kernel_span

KURTOSIS = 16.2  # E p⁴ ≤ 16.2 (E p²)² for p of degree 2 in independent signs
POWERS = 40  # of the matrices whose largest eigenvalue is estimated
LOG_S, SEARCH = (-4.0, 1.0), 10  # where s is looked for, and how often
SLACK = 1e-3  # relative, by which ρ is above the estimate, so that it can be proved
TRIES = 8  # to prove ρ, the slack doubled each time


class ErrorFloor(NamedTuple):
    """What no coefficients can beat on the population.

    Attributes:
      error: every Σᵢ βᵢ K(xᵢ, ·) has at least this 0/1 error on D, zero counted as an error:
        (1 − ρ)²/64.8, or 0 where ρ ≥ 1.
      ratio: ρ, proved to be at least every E (|h| + |r|)²/E p²; ∞ where p can vanish.
    """

    error: float
    ratio: float


def error_floor(network, samples) -> ErrorFloor:
    """A floor under the error of Σᵢ βᵢ K(xᵢ, ·) for every β, K the exact NTK of `network`.

    For the two-layer ReLU kernel it is about 0.011 at n = 0.3 d², 1/64.8 = 0.015 at most, and 0
    before n = d²/2, where p can vanish. So too where samples of different labels share their
    noise, as is likely for d below 16. That ρ is no less than claimed rests on a Cholesky
    factorization, with an allowance for its rounding.

    Args:
      network: its `kernel` is a function of ⟨x, x′⟩, ‖x‖ and ‖x′‖, as of fully connected ones.
      samples: of D (`data.noisy_xor`).

    Raises:
      ValueError: as `kernel_span.best_signal_to_noise`.
    """
    x, y = (np.asarray(a, np.float64) for a in samples)
    check_noisy_xor(x, y)
    kappa = np.asarray(kernel_span.checked_kernel(network, x))
    # g and h do not depend on the sign of the signal: of samples equal but for it one is enough.
    first = np.unique(np.c_[y, x[:, 2:]], axis=0, return_index=True)[1]
    return _floor(*energies(kappa, x[first], y[first]))


def energies(
    kappa: Float[np.ndarray, " t"], x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n n"], Float[np.ndarray, "n n"], Float[np.ndarray, "n n"]]:
    """Matrices P, H, R of E p² = βᵀPβ, E h² = βᵀHβ and E r² = βᵀRβ."""
    noise = x[:, 2:]
    products = noise @ noise.T
    agree = np.round((products + noise.shape[1]) / 2).astype(int)
    common, label = _of_products(kappa)
    a, b, c = coefficients(common)
    u = np.arange(len(common)) - len(common) // 2
    rest = common - (a + b * u + c * _pairs(u, noise.shape[1]))
    of_p = a**2 + b**2 * products + c**2 * _pairs(products, noise.shape[1])
    return of_p, np.outer(y, y) * _mean_square(label)[agree], _mean_square(rest)[agree]


def _of_products(kappa: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """k and l at u = −m, …, m, by the m coordinates of noise."""
    up, down, still = kappa[2:], kappa[:-2], kappa[1:-1]
    return (up + down + 2 * still) / 4, (up + down - 2 * still) / 4


def _pairs(u: np.ndarray, num: int) -> np.ndarray:
    """Σ z_j z_k over pairs j < k of `num` signs whose sum is u."""
    return (u**2 - num) / 2


def coefficients(function: Float[np.ndarray, " t"]) -> tuple[float, float, float]:
    """a, b, c of the polynomial a + b Σ z_j + c Σ z_j z_k nearest to a function of Σ z_j.

    The function is given at −m, …, m.
    """
    num = len(function) // 2
    sums = num - 2 * np.arange(num + 1)
    weighted = scipy.stats.binom.pmf(np.arange(num + 1), num, 0.5) * function[sums + num]
    pairs = max(num * (num - 1) / 2, 1)
    return weighted.sum(), weighted @ sums / num, weighted @ _pairs(sums, num) / pairs


def _mean_square(function: Float[np.ndarray, " t"]) -> Float[np.ndarray, " a"]:
    """E φ(⟨z, w⟩) φ(⟨z, v⟩), z uniform, by the number of coordinates in which w and v agree."""
    num = len(function) // 2

    def of_agreeing(agree: int) -> float:
        plus, minus = np.arange(agree + 1)[:, None], np.arange(num - agree + 1)
        a, b = agree - 2 * plus, num - agree - 2 * minus
        first, second = function[a + b + num], function[a - b + num]
        weights = scipy.stats.binom.pmf(plus, agree, 0.5)
        return float(
            np.sum(weights * scipy.stats.binom.pmf(minus, num - agree, 0.5) * first * second)
        )

    return np.array([of_agreeing(agree) for agree in range(num + 1)])


def _floor(of_p: np.ndarray, of_h: np.ndarray, of_r: np.ndarray) -> ErrorFloor:
    """The floor, ρ being proved for some s with (|h| + |r|)² ≤ (1 + s) h² + (1 + 1/s) r²."""
    try:
        factor = scipy.linalg.cho_factor(of_p, lower=True)
    except scipy.linalg.LinAlgError:
        return ErrorFloor(0.0, np.inf)
    both = lambda log_s: (1 + np.exp(log_s)) * of_h + (1 + np.exp(-log_s)) * of_r
    # Any s gives a proof. The eigenvalue is convex in log s.
    found = scipy.optimize.minimize_scalar(
        lambda log_s: _largest(factor, both(log_s)),
        bounds=LOG_S, method="bounded", options=dict(maxiter=SEARCH),
    )  # fmt: skip
    bounded = both(found.x)
    for attempt in range(TRIES):
        ratio = float(found.fun) * (1 + SLACK * 2**attempt)
        if ratio >= 1:
            break
        if is_positive(ratio * of_p - bounded):
            return ErrorFloor((1 - ratio) ** 2 / (4 * KURTOSIS), ratio)
    return ErrorFloor(0.0, np.inf)


def _largest(factor: tuple[np.ndarray, bool], matrix: np.ndarray) -> float:
    """The largest eigenvalue of P⁻¹M, by powers of it: a lower bound."""
    v = np.ones(len(matrix))
    for _ in range(POWERS):
        v = scipy.linalg.cho_solve(factor, matrix @ v)
        v /= np.abs(v).max()
    half = np.tril(factor[0]).T @ v
    return float(v @ matrix @ v / (half @ half))


def is_positive(matrix: Float[np.ndarray, "n n"]) -> bool:
    """Whether the matrix is proved to be positive definite, in spite of all rounding.

    Cholesky's factors are those of a matrix at most (n + 2) ε/2 tr M away, and errors of entries
    of 50 ε times the mean of the diagonal are another 50 ε tr M: more than both is taken off.
    """
    allowance = (len(matrix) + 100) * np.finfo(float).eps * np.trace(matrix)
    try:
        np.linalg.cholesky(matrix - allowance * np.eye(len(matrix)))
    except np.linalg.LinAlgError:
        return False
    return True
