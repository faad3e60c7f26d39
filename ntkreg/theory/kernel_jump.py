"""Where the best R² of a kernel on D jumps as samples are added, predicted from its spectrum.

On D a point is (signal, signs z): one of four signals in a circle, ±e₁ and ±e₂, and m = d − 2
signs. A kernel κ(⟨x, x′⟩) does not change when both points move along the circle or have the same
sign flipped, so the products of a character of the circle (1; x₁ and x₂; the label y) and of j of
the signs are its eigenfunctions on the population. With ∇g(u) = ½ g(u + 1) − ½ g(u − 1) and S_k a
sum of k independent signs the eigenvalues are

    λ = E (∇ʲ g)(S_{m−j}),   g(u) = ¼ κ(u + 1) + ¼ κ(u − 1) + ½ κ(u),   for 1,
                             g(u) = ¼ κ(u + 1) − ¼ κ(u − 1),            for x₁ and x₂,
                             g(u) = ¼ κ(u + 1) + ¼ κ(u − 1) − ½ κ(u),   for y.

The largest R² of any Σᵢ βᵢ K(xᵢ, ·) is the squared length of y's projection on the span of the n
vectors (λ φ(xᵢ)), one entry for each eigenfunction φ. Of independent random vectors with the
covariances λ² that is

    R² = λ_y²/(λ_y² + ν),   with ν > 0 that solves   Σ λ²/(λ² + ν) = n

up to fluctuations. That the φ(xᵢ) may be taken for such vectors is not proved here:
docs/kernel_jump.md derives it and compares it with measured R².

Source: derived here; Bach (2024) for projections on vectors with independent entries.
"""

from typing import NamedTuple

import numpy as np
import scipy
from scipy.optimize import elementwise

from ntkreg._types import Float
from ntkreg.theory import kernel_span

# Signs in an eigenfunction. Of more λ² is far below any ν that matters: only their sum counts.
MOST_SIGNS = 8
FLATTEST, STEEPEST = -25.0, 60.0  # log ν/λ_y², from all but 1e-11 of y to none of it
ROUNDING = 1e-12  # of eigenvalues, relative to the largest


class Spectrum(NamedTuple):
    """Of a kernel on the population of D.

    Attributes:
      eigenvalues: λ, a row for every number of signs, a column for 1, for x₁ and x₂, and for y.
      multiplicities: how many eigenfunctions have them.
      rest: Σ λ² over the eigenfunctions with more signs.
    """

    eigenvalues: Float[np.ndarray, "j 3"]
    multiplicities: Float[np.ndarray, "j 3"]
    rest: float

    def size(self, r_squared: Float[np.ndarray, "*s"] | float) -> Float[np.ndarray, "*s"]:
        """The n at which the best R² is predicted to be `r_squared`: Σ λ²/(λ² + ν) there.

        Raises:
          ValueError: for r_squared not between 0 and 1.
        """
        share = np.asarray(r_squared, float)
        if not ((share > 0) & (share < 1)).all():
            raise ValueError(f"r_squared must be between 0 and 1, got {r_squared}")
        return self._size(np.log(1 / share - 1))

    def r_squared(self, num_samples: Float[np.ndarray, "*s"] | float) -> Float[np.ndarray, "*s"]:
        """The predicted R² of the best coefficients at n independent samples.

        Raises:
          ValueError: for num_samples < 1.
        """
        n = np.asarray(num_samples, float)
        if not (n >= 1).all():
            raise ValueError(f"num_samples must be at least 1, got {num_samples}")
        n = np.minimum(n, self._size(np.array(FLATTEST)))
        found = elementwise.find_root(
            lambda log_ratio, n: self._size(log_ratio) - n, (FLATTEST, STEEPEST), args=(n,)
        )
        return scipy.special.expit(-found.x)

    def _size(self, log_ratio: np.ndarray) -> np.ndarray:
        """n at ν = λ_y² exp(log_ratio)."""
        squares = self.eigenvalues**2
        nu = squares[0, 2] * np.exp(log_ratio)[..., None, None]
        counted = np.sum(self.multiplicities * squares / (squares + nu), axis=(-2, -1))
        return counted + self.rest / nu[..., 0, 0]


def spectrum(network, dim: int) -> Spectrum:
    """The exact spectrum of the NTK of `network` on D, which says where its best R² jumps.

    >>> from ntkreg.networks import fully_connected
    >>> found = spectrum(fully_connected(2, 1), dim=40)
    >>> (found.size([0.25, 0.5, 0.75]) / (40 * 41 / 2)).round(3)
    array([0.826, 0.934, 0.984])

    Args:
      network: its `kernel` is a function of ⟨x, x′⟩, ‖x‖ and ‖x′‖, as of fully connected ones.
      dim: d.

    Raises:
      ValueError: for dim < 3, a kernel that is unknown or no such function, one in whose span y
        is not, and where JAX has float64 switched off.
    """
    if dim < 3:
        raise ValueError(f"dim must be at least 3, got {dim}")
    rng = np.random.default_rng(0)
    points = rng.choice([-1.0, 1.0], (kernel_span.TRIED, dim))
    points[np.arange(len(points)), rng.integers(2, size=len(points))] = 0.0
    return spectrum_of(np.asarray(kernel_span.checked_kernel(network, points)))


def spectrum_of(kappa: Float[np.ndarray, " t"]) -> Spectrum:
    """The spectrum of κ(t), t = −(d − 1), …, d − 1 (`kernel_span.kernel_of_products`).

    Raises:
      ValueError: for a kernel in whose span y is not.
    """
    num = len(kappa) // 2 - 1  # signs
    low, middle, high = kappa[:-2:2], kappa[1:-1:2], kappa[2::2]
    chances = lambda signs: scipy.stats.binom.pmf(np.arange(signs + 1), signs, 0.5)
    values = np.stack([low + high + 2 * middle, high - low, low + high - 2 * middle]) / 4
    total = chances(num) @ (low**2 + high**2 + 2 * middle**2) / 4  # E K(x, x′)²
    rows = []
    for signs in range(min(MOST_SIGNS, num) + 1):
        rows.append(values @ chances(num - signs))
        values = np.diff(values) / 2
    eigenvalues = np.array(rows)
    if not abs(eigenvalues[0, 2]) > ROUNDING * np.abs(eigenvalues).max():
        raise ValueError(f"network must have y in its kernel's span, got λ_y = {rows[0][2]:.1e}")
    counts = scipy.special.comb(num, np.arange(len(rows)))[:, None] * np.array([1, 2, 1])
    return Spectrum(eigenvalues, counts, max(total - np.sum(counts * eigenvalues**2), 0.0))
