"""What every predictor in the span of a kernel at samples of D can do, exactly.

A kernel machine predicts by f(x) = Σᵢ βᵢ K(xᵢ, x), whatever it was trained with. On D all points
have ‖x‖² = d − 1, so a kernel that depends on angles and norms alone is κ(⟨xᵢ, x⟩), and ⟨xᵢ, x⟩ is
σ + ⟨zᵢ, z⟩: σ in {−1, 0, 1} from the two signal coordinates, z uniform signs. Both moments of the
functions Kᵢ = K(xᵢ, ·) over the population are finite sums over binomials. With S_m a sum of m
independent signs,

    E[y Kᵢ] = yᵢ c,   c = ¼ E κ(S + 1) + ¼ E κ(S − 1) − ½ E κ(S),   S = S_{d−2},

and E[Kᵢ Kⱼ] is the mean of E κ(A + B + σᵢ) κ(A − B + σⱼ) over the four signals that x may have,
with A = S_a and B = S_{d−2−a} independent where zᵢ and zⱼ agree in a coordinates: one table of
3(d − 1) numbers. No training, no test set and no Monte Carlo.

Source: derived here; Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1, has the bound that it decides.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy

from ntkreg._checks import check_noisy_xor
from ntkreg._compat import jit_quickly
from ntkreg._types import Float

REFINEMENTS = 3  # of the solution: M has a condition of 1e10 and more
TRIED = 32  # samples on which the kernel must be the function of products that is computed
AGREEMENT = 1e-9  # relative to K(x, x)
SAME, OPPOSITE, ORTHOGONAL = range(3)  # signals of two samples


class BestRatio(NamedTuple):
    """The best that any coefficients can do on the population.

    Attributes:
      r_squared: max over β of (E y f)²/E f² = mᵀM⁺m, m = E[y Kᵢ], M = E[Kᵢ Kⱼ]: the largest share
        of y that f can explain, in [0, 1].
      ratio: the largest signal-to-noise ratio (E y f)²/Var(y f) = R²/(1 − R²).
      coefficients: β that has it, scaled so that E y f = E f².
      residual: rᵀM⁻¹r of r = m − Mβ, by which r_squared may be too small.
    """

    r_squared: float
    ratio: float
    coefficients: Float[np.ndarray, " n"]
    residual: float


def best_signal_to_noise(network, samples) -> BestRatio:
    """The largest signal-to-noise ratio of any Σᵢ βᵢ K(xᵢ, ·) on D, K the exact NTK of `network`.

    Below n ≈ d²/2 it depends on n/d² alone and is small; at n = d(d + 1)/2, the number of quadratic
    features, it jumps. So for n ≲ d² no coefficients of the NTK at the samples learn D.

    Args:
      network: its `kernel` is a function of ⟨x, x′⟩, ‖x‖ and ‖x′‖, as of fully connected ones.
      samples: of D (`data.noisy_xor`). Of equal ones the first alone has a coefficient.

    Raises:
      ValueError: for samples that are not of D, a network whose kernel is unknown or no such
        function, and where JAX has float64 switched off, in which M has no inverse.
    """
    x, y = (np.asarray(a, np.float64) for a in samples)
    check_noisy_xor(x, y)
    kappa = kernel_of_products(network, x.shape[1])
    _check_kernel(network, kappa, x[:TRIED])
    _, first = np.unique(x, axis=0, return_index=True)
    found = _best(*moments(kappa, x[first], y[first]))
    coefficients = np.zeros(len(y))
    coefficients[first] = found.coefficients
    return found._replace(coefficients=coefficients)


def predictions(
    network, samples, coefficients: Float[np.ndarray, " n"], x: Float[np.ndarray, "m d"]
) -> Float[np.ndarray, " m"]:
    """Σᵢ βᵢ K(xᵢ, x) at points of D, the kernel looked up."""
    points = np.asarray(samples.x, np.float64)
    kappa = kernel_of_products(network, points.shape[1])
    return _at(kappa, np.asarray(x, np.float64) @ points.T) @ coefficients


def kernel_of_products(network, dim: int) -> Float[np.ndarray, " t"]:
    """κ(t) for t = −(d − 1), …, d − 1: the exact NTK between points of D whose product is t.

    Raises:
      ValueError: where the network has no known kernel, or JAX no float64.
    """
    if network.kernel is None:
        raise ValueError("network must have a known infinite-width kernel, got none")
    if jnp.result_type(float) != jnp.float64:
        raise ValueError("jax_enable_x64 must be on: float32 has too few digits for the moments")
    signals = np.array([[1, 0], [0, 1], [-1, 0]])  # products 1, 0 and −1 with the first
    noise = np.sign(np.arange(dim - 2)[None] - np.arange(dim - 1)[:, None] + 0.5)
    points = np.concatenate([np.c_[np.tile(signal, (dim - 1, 1)), noise] for signal in signals])
    products = (points @ points[0]).round().astype(int)
    kappa = np.zeros(2 * dim - 1)
    kernel = jit_quickly(network.kernel)(*(jnp.asarray(a, float) for a in (points[:1], points)))
    kappa[products + dim - 1] = np.asarray(kernel.ntk)[0]
    return kappa


def _check_kernel(network, kappa: np.ndarray, x: np.ndarray) -> None:
    exact = np.asarray(jit_quickly(network.kernel)(jnp.asarray(x)).ntk)
    error = np.abs(exact - _at(kappa, x @ x.T)).max() / kappa[-1]
    if not error <= AGREEMENT:
        raise ValueError(
            f"network must have a kernel of ⟨x, x′⟩ alone on D, got one that is {error:.1e} off"
        )


def _at(kappa: np.ndarray, products: np.ndarray) -> np.ndarray:
    return kappa[products.round().astype(int) + len(kappa) // 2]


def moments(
    kappa: Float[np.ndarray, " t"], x: Float[np.ndarray, "n d"], y: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, "n n"]]:
    """(E[y Kᵢ], E[Kᵢ Kⱼ]) over the population of D."""
    noise, signal = x[:, 2:], x[:, :2]
    agree = ((noise @ noise.T + noise.shape[1]) / 2).round().astype(int)
    kind = np.array([OPPOSITE, ORTHOGONAL, SAME])[(signal @ signal.T).round().astype(int) + 1]
    return y * _mean_of_signal(kappa), _mean_products(kappa)[kind, agree]


def _mean_of_signal(kappa: np.ndarray) -> float:
    sums, weights = _sum_of_signs(len(kappa) // 2 - 1)
    at = lambda shift: weights @ _at(kappa, sums + shift)
    return at(1) / 4 + at(-1) / 4 - at(0) / 2


def _mean_products(kappa: np.ndarray) -> Float[np.ndarray, "3 a"]:
    """E[Kᵢ Kⱼ] by the kind of the two signals and the number of coordinates that agree."""
    num = len(kappa) // 2 - 1  # coordinates of noise
    found = np.zeros((3, num + 1))
    for agree in range(num + 1):
        (a, of_a), (b, of_b) = _sum_of_signs(agree), _sum_of_signs(num - agree)
        weights = of_a[:, None] * of_b
        first = [_at(kappa, a[:, None] + b + shift) for shift in (-1, 0, 1)]
        second = [_at(kappa, a[:, None] - b + shift) for shift in (-1, 0, 1)]
        mean = lambda i, j: np.sum(weights * first[i + 1] * second[j + 1])  # noqa: B023
        still = mean(0, 0) / 2
        found[SAME, agree] = (mean(1, 1) + mean(-1, -1)) / 4 + still
        found[OPPOSITE, agree] = (mean(1, -1) + mean(-1, 1)) / 4 + still
        found[ORTHOGONAL, agree] = (mean(1, 0) + mean(-1, 0) + mean(0, 1) + mean(0, -1)) / 4
    return found


def _sum_of_signs(num: int) -> tuple[np.ndarray, np.ndarray]:
    """(values, probabilities) of a sum of so many independent uniform signs."""
    minus = np.arange(num + 1)
    return num - 2 * minus, scipy.stats.binom.pmf(minus, num, 0.5)


def _best(first: np.ndarray, second: np.ndarray) -> BestRatio:
    """mᵀM⁺m and β = M⁺m, the rows and columns of M scaled to a diagonal of one."""
    size = np.sqrt(np.diag(second))
    m, matrix = first / size, second / np.outer(size, size)
    solve = _solver(matrix)
    beta = solve(m)
    for _ in range(REFINEMENTS):
        beta = beta + solve(m - matrix @ beta)
    left = m - matrix @ beta
    r_squared = float((m @ beta) ** 2 / (beta @ matrix @ beta))
    return BestRatio(r_squared, r_squared / (1 - r_squared), beta / size, float(left @ solve(left)))


def _solver(matrix: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """M⁻¹; where rounding leaves no Cholesky factor M⁺ without what is below rounding."""
    try:
        factor = scipy.linalg.cho_factor(matrix, lower=True)
    except np.linalg.LinAlgError:
        values, vectors = scipy.linalg.eigh(matrix)
        kept = values > len(matrix) * np.finfo(float).eps * values[-1]
        values, vectors = values[kept], vectors[:, kept]
        return lambda right: vectors @ ((vectors.T @ right) / values)
    return lambda right: scipy.linalg.cho_solve(factor, right)
