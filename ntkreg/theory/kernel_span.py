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

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from ntkreg._checks import check_noisy_xor
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Bool, Float, Scalar

REFINEMENTS = 3  # of the solution: M has a condition of 1e10 and more
TRIED = 32  # samples on which the kernel must be the function of products that is computed
AGREEMENT = 1e-9  # relative to K(x, x)
OPPOSITE, ORTHOGONAL, SAME = range(3)  # signals of two samples, whose product is −1, 0, 1


class BestRatio(NamedTuple):
    """The best that any coefficients can do on the population.

    Attributes:
      r_squared: max over β of (E y f)²/E f² = mᵀM⁺m, m = E[y Kᵢ], M = E[Kᵢ Kⱼ]: the largest share
        of y that f can explain, in [0, 1].
      ratio: the largest signal-to-noise ratio (E y f)²/Var(y f) = R²/(1 − R²).
      coefficients: β that has it, scaled so that E y f = E f².
      residual: rᵀM⁻¹r of r = m − Mβ, by which r_squared may be too small.
    """

    r_squared: Float[Array, ""]
    ratio: Float[Array, ""]
    coefficients: Float[Array, " n"]
    residual: Float[Array, ""]


def best_signal_to_noise(network, samples) -> BestRatio:
    """The largest signal-to-noise ratio of any Σᵢ βᵢ K(xᵢ, ·) on D, K the exact NTK of `network`.

    Below n ≈ d²/2 it depends on n/d² alone and is small; near n = d(d + 1)/2, the number of
    quadratic features, it jumps (`kernel_jump`). So for n ≲ d² no coefficients of the NTK at the
    samples learn D.

    Args:
      network: its `kernel` is a function of ⟨x, x′⟩, ‖x‖ and ‖x′‖, as of fully connected ones.
      samples: of D (`data.noisy_xor`). Of equal ones the first alone has a coefficient.

    Raises:
      ValueError: for samples that are not of D, a network whose kernel is unknown or no such
        function, and where JAX has float64 switched off, in which M has no inverse.
    """
    x, y = (np.asarray(a, np.float64) for a in samples)
    check_noisy_xor(x, y)
    kappa = checked_kernel(network, x)
    is_first = np.zeros(len(y), bool)
    is_first[np.unique(x, axis=0, return_index=True)[1]] = True
    return jit_quickly(best)(kappa, x, y, is_first)


def predictions(
    network, samples, coefficients: Float[Array, " n"], x: Float[Array, "m d"]
) -> Float[Array, " m"]:
    """Σᵢ βᵢ K(xᵢ, x) at points of D, the kernel looked up."""
    points = jnp.asarray(samples.x, float)
    kappa = kernel_of_products(network, points.shape[1])
    return _at(kappa, jnp.asarray(x, float) @ points.T) @ coefficients


def kernel_of_products(network, dim: int) -> Float[Array, " t"]:
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
    places = (points @ points[0]).round().astype(int) + dim - 1
    kernel = jit_quickly(network.kernel)(*(jnp.asarray(a, float) for a in (points[:1], points)))
    return jnp.zeros(2 * dim - 1).at[places].set(kernel.ntk[0])


def checked_kernel(network, x: Float[Array | np.ndarray, "n d"]) -> Float[Array, " t"]:
    """`kernel_of_products`, which some of the points x agree with.

    Raises:
      ValueError: where they do not, and as `kernel_of_products`.
    """
    kappa, some = kernel_of_products(network, x.shape[1]), jnp.asarray(x[:TRIED])
    exact = jit_quickly(network.kernel)(some).ntk
    error = float(jnp.abs(exact - _at(kappa, some @ some.T)).max() / kappa[-1])
    if not error <= AGREEMENT:
        raise ValueError(
            f"network must have a kernel of ⟨x, x′⟩ alone on D, got one that is {error:.1e} off"
        )
    return kappa


def _at(kappa: Array, products: Array) -> Array:
    return kappa[jnp.round(products).astype(int) + len(kappa) // 2]


def best(
    kappa: Float[Array, " t"],
    x: Float[Array, "n d"],
    y: Float[Array, " n"],
    counted: Bool[Array, " n"],
) -> BestRatio:
    """mᵀM⁺m and β = M⁺m of the samples that are counted, which must differ; a pure function."""
    first, second = moments(kappa, x, y)
    size = jnp.sqrt(jnp.diag(second))
    both = counted[:, None] & counted
    matrix = jnp.where(both, second / jnp.outer(size, size), jnp.eye(len(size)))
    m = jnp.where(counted, first / size, 0.0)

    def found(solve: Callable[[Array], Array]) -> BestRatio:
        refined = lambda _, beta: beta + solve(m - matrix @ beta)
        beta = jax.lax.fori_loop(0, REFINEMENTS, refined, solve(m))
        left = m - matrix @ beta
        energy = beta @ matrix @ beta
        r_squared = jnp.where(energy > 0, (m @ beta) ** 2 / energy, 0.0)
        return BestRatio(r_squared, r_squared / (1 - r_squared), beta / size, left @ solve(left))

    factor = jnp.linalg.cholesky(matrix)
    return jax.lax.cond(
        jnp.isfinite(factor).all(),
        lambda: found(lambda right: jax.scipy.linalg.cho_solve((factor, True), right)),
        lambda: found(_pseudo_inverse(matrix)),
    )


def _pseudo_inverse(matrix: Float[Array, "n n"]) -> Callable[[Array], Array]:
    """M⁺ without what is below rounding, for M that has no Cholesky factor."""
    values, vectors = jnp.linalg.eigh(matrix)
    kept = values > len(matrix) * jnp.finfo(values.dtype).eps * values[-1]
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1.0), 0.0)
    return lambda right: vectors @ (inverse * (vectors.T @ right))


def moments(
    kappa: Float[Array, " t"], x: Float[Array, "n d"], y: Float[Array, " n"]
) -> tuple[Float[Array, " n"], Float[Array, "n n"]]:
    """(E[y Kᵢ], E[Kᵢ Kⱼ]) over the population of D."""
    noise, signal = x[:, 2:], x[:, :2]
    agree = jnp.round((noise @ noise.T + noise.shape[1]) / 2).astype(int)
    kind = jnp.round(signal @ signal.T).astype(int) + 1
    return y * _mean_of_signal(kappa), _mean_products(kappa)[kind, agree]


def _mean_of_signal(kappa: Float[Array, " t"]) -> Scalar:
    num = len(kappa) // 2 - 1
    sums, weights = _sums_of_signs(num)[0][num], _sums_of_signs(num)[1][num]
    at = lambda shift: weights @ _at(kappa, sums + shift)
    return at(1) / 4 + at(-1) / 4 - at(0) / 2


def _mean_products(kappa: Float[Array, " t"]) -> Float[Array, "3 a"]:
    """E[Kᵢ Kⱼ] by the kind of the two signals and the number of coordinates that agree."""
    num = len(kappa) // 2 - 1  # coordinates of noise
    sums, weights = _sums_of_signs(num)

    def of_agreeing(agree: Array) -> Float[Array, " 3"]:
        a, b = sums[agree][:, None], sums[num - agree]
        joint = weights[agree][:, None] * weights[num - agree]
        shifts = (-1, 0, 1)
        first, second = ([_at(kappa, s + shift) for shift in shifts] for s in (a + b, a - b))
        mean = lambda i, j: jnp.sum(joint * first[i + 1] * second[j + 1])
        still = mean(0, 0) / 2
        opposite = (mean(1, -1) + mean(-1, 1)) / 4 + still
        orthogonal = (mean(1, 0) + mean(-1, 0) + mean(0, 1) + mean(0, -1)) / 4
        return jnp.stack([opposite, orthogonal, (mean(1, 1) + mean(-1, -1)) / 4 + still])

    return jax.lax.map(of_agreeing, jnp.arange(num + 1)).T


def _sums_of_signs(largest: int) -> tuple[Float[Array, "s s"], Float[Array, "s s"]]:
    """(values, probabilities) of a sum of 0, 1, …, largest independent uniform signs, row by row.

    Rows are filled with values of probability zero.
    """
    num, minus = np.arange(largest + 1)[:, None], np.arange(largest + 1)
    return jnp.asarray(num - 2.0 * np.minimum(minus, num)), jnp.asarray(
        scipy.stats.binom.pmf(minus, num, 0.5)
    )
