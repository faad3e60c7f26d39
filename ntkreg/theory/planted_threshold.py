"""Where the planted network of D becomes a local maximum of a sample's margin: predicted.

The condition is linear (`certificates.planted`): it can be met if and only if weights w_i, not all
zero, of every sample's noise z_i ∈ {±1}^m, m = d − 2, have Σ_i z_i w_iᵀ = 0 (m × 4 equations). A
sample on the positive half of the first axis has w = (α, 0, −β, −β′) with 0 ≤ β, β′ ≤ α: a cone K
with four edges in four dimensions, one coordinate for each planted neuron; those of the other three
halves permute its coordinates.

For Gaussian noise the threshold of such a problem follows from the min-max theorem of Gaussian
processes, here for four vectors at once. The condition fails where some Y of shape (m, 4) has
Yᵀz_i in the dual cone of K for all i. With Q = YᵀY the law of Yᵀz is that of Q^½g, g standard
normal, and such a Y exists for m > n · V, does not for m < n · V, where

    V = min over Q of max over Λ ≥ 0, tr Λ = 1, of E max over w in Q^½K of 2 gᵀw − wᵀΛ⁻¹w.

Λ weighs the four directions, which have m equations each. Seven equations more do not grow with d;
what they cost is counted in `_signed`. K's symmetries (1 ↔ 2, 3 ↔ 4, and both
pairs) leave Q and Λ three eigenvalues: on (1, 1, 1, 1), on (1, 1, −1, −1), and a double one.

The window: with s the inner maximum, the number of equations that n samples can meet has the
variance n Var s − 2m Σ l², l the eigenvalues of Λ, as the intrinsic volumes of a cone do; so shares
go from 0 to 1 over ∝ √d samples.

The min-max theorem is a proof for one vector; for four at once it is a derivation, whose number is
compared with measured shares. Noise of ±1 has the same threshold as far as that is known
(universality).

Source: derived here; Gordon (1988); Amelunxen, Lotz, McCoy, Tropp (2014) for one vector.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
import scipy

EDGES = np.array([[1, 0, 0, 0], [1, 0, -1, 0], [1, 0, 0, -1], [1, 0, -1, -1]], float).T
# Columns: the eigenvectors of matrices with K's symmetries; the last two have one eigenvalue.
AXES = (
    np.array([[1, 1, 1, 1], [1, 1, -1, -1], [2**0.5, -(2**0.5), 0, 0], [0, 0, 2**0.5, -(2**0.5)]]).T
    / 2
)
FACES = [face for size in (1, 2, 3) for face in itertools.combinations(range(4), size)]
POINTS = 2**14  # of a Sobol sequence: the threshold to some 1e-3
DOUBLE = np.array([1.0, 1.0, 2.0])


class Threshold(NamedTuple):
    """Of n over m = d − 2, as d grows.

    Attributes:
      ratio: n/m at which half of the samples meet the condition.
      spread: the standard deviation of that n, over the root of the number of dimensions.
      extra: the dimensions beyond m that the other equations are worth.
    """

    ratio: float
    spread: float
    extra: float

    def size(self, dim: int) -> float:
        """The n at which half of the samples meet it."""
        return self.ratio * (dim - 2 + self.extra)

    def deviation(self, dim: int) -> float:
        """The standard deviation of that n from sample to sample."""
        return self.spread * (dim - 2 + self.extra) ** 0.5

    def share(self, num_samples: np.ndarray, dim: int) -> np.ndarray:
        """The share of samples of that size that meet it."""
        away = np.asarray(num_samples) - self.size(dim)
        return scipy.stats.norm.cdf(away / self.deviation(dim))


@functools.cache
def local_threshold() -> Threshold:
    """Where the planted network becomes a local maximum of the margin.

    >>> round(local_threshold().ratio, 2)
    3.34
    """
    g = _normal_points()
    found = scipy.optimize.root(lambda x: _slopes(g, x), [-1.2, 0.5, 0.0, 0.0], tol=1e-7)
    if not found.success:
        raise ArithmeticError(f"the saddle point must be found, got {found.message}")
    weights, roots = _unpacked(found.x)
    values, _, inside = _inner(g, weights, roots)
    mean, variance = values.mean(), values.var()
    equations = variance / mean - 2 * np.sum(DOUBLE * weights**2)  # of n = 1/mean samples, over m
    # ∂κ/∂(Q^½g), by Stein's lemma.
    slopes = inside.T @ g / len(g) @ _matrix(1 / roots)
    squares = inside.T @ inside / len(g)
    signed = lambda some: _signed(slopes[np.ix_(some, some)], squares[np.ix_(some, some)])
    # x₁ signs the masses of ±e₁ and, in the samples there, both β; so does x₂; the last equation
    # compares the masses of both axes.
    extra = 2 * signed([0, 2, 3]) + signed([0])
    return Threshold(1 / mean, equations**0.5 / mean, extra)


@functools.cache
def minimum_threshold() -> Threshold:
    """Where a planted neuron becomes a local maximum of what F_λ's minimizer needs, at finite λ.

    There all samples of a group have the same weight (`certificates.planted`). So each neuron has a
    condition of its own: with ν = n/4 active samples, some 0 ≤ β ≤ 1 on the 2ν kinks have
    Σ_active z = Σ_kinks βz. These (1, β)·t make a cone in 3ν dimensions, and m equations can be met
    as long as m is below its statistical dimension ν(1 − min over t of 2E(g − t)₊² + t²), g
    standard normal: one vector, for which Gordon's theorem is a proof where noise is Gaussian.

    >>> round(minimum_threshold().ratio, 2)
    11.86
    """
    normal = scipy.stats.norm
    squares = lambda t: (1 + t * t) * normal.sf(t) - t * normal.pdf(t)  # E(g − t)₊²
    left = scipy.optimize.minimize_scalar(lambda t: 2 * squares(t) + t * t, bounds=(0, 1))
    t, mean = left.x, (1 - left.fun) / 4  # of n
    gained = lambda g: g**2 - (g - np.clip(g, 0, t)) ** 2  # by a kink
    gain, square = normal.expect(gained), normal.expect(lambda g: gained(g) ** 2)
    variance = (2 * (square - gain**2) + 4 * t * t) / 4 - 2 * mean
    squared = normal.expect(lambda g: np.clip(g, 0, t) ** 2)
    extra = _signed(np.array([[normal.cdf(t) - 0.5]]), np.array([[squared]]))  # the other signal's
    return Threshold(1 / mean, (variance / mean) ** 0.5 / mean, extra)


def _signed(slopes: np.ndarray, squares: np.ndarray) -> float:
    """What equations Σ_i ±w_i = 0 take of the sum of maxima, the signs random and one a sample.

    Multipliers t turn a sample's maximum f(h) = max over w of 2hᵀw − (a form in w) into f(h ± t):
    Σf − 2tᵀΣ±w + tᵀ(Σ∂w/∂h)t, at its least over t. Random signs make E(Σ±w)(Σ±w)ᵀ = n E wwᵀ, so
    that tr((E ∂w/∂h)⁻¹ E wwᵀ) is lost: as much as by noise in their place. An equation of signs for
    each of the four neurons would cost one dimension.
    """
    return float(np.trace(np.linalg.solve(slopes, squares)))


def _normal_points() -> np.ndarray:
    """Standard normal vectors of shape (points, 4), spread evenly, each with its negative."""
    sobol = scipy.stats.qmc.Sobol(4, rng=np.random.default_rng(0))
    g = scipy.stats.norm.ppf(sobol.random(POINTS // 2))
    return np.concatenate([g, -g])


def _unpacked(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(eigenvalues of Λ, of trace 1; those of Q^½, the double one 1) from two logarithms each."""
    weights = np.exp([x[0], x[1], 0.0])
    return weights / np.sum(DOUBLE * weights), np.exp([x[2], x[3], 0.0])


def _matrix(eigenvalues: np.ndarray) -> np.ndarray:
    return AXES * eigenvalues[[0, 1, 2, 2]] @ AXES.T


def _inner(
    g: np.ndarray, weights: np.ndarray, roots: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(the maximum of 2gᵀw − wᵀΛ⁻¹w over w in Q^½K, w, κ in K with w = Q^½κ), for each g.

    A projection onto a cone: the largest over its faces among those with coefficients ≥ 0.
    """
    edges = _matrix(roots) @ EDGES
    inverse = _matrix(1 / weights)
    best, inside = np.zeros(len(g)), np.zeros_like(g)
    for face in FACES:
        some = edges[:, face]
        form = some.T @ inverse @ some
        coefficients = np.linalg.solve(form, (g @ some).T).T
        value = np.einsum("pi,ij,pj->p", coefficients, form, coefficients)
        is_better = np.all(coefficients >= 0, axis=1) & (value > best)
        best = np.where(is_better, value, best)
        inside[is_better] = coefficients[is_better] @ EDGES[:, face].T
    return best, inside @ _matrix(roots).T, inside


def _slopes(g: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of V in the logarithms: zero at the saddle point."""
    weights, roots = _unpacked(x)
    _, w, inside = _inner(g, weights, roots)
    along = w @ AXES / weights[[0, 1, 2, 2]]  # Λ⁻¹w, in the axes
    squares = np.mean(along**2, axis=0)
    by_weight = np.array([squares[0], squares[1], (squares[2] + squares[3]) / 2])
    left = np.mean((g @ AXES - along) * (inside @ AXES), axis=0)
    mean = np.sum(DOUBLE * weights * by_weight)
    return np.array([by_weight[0] - mean, by_weight[1] - mean, left[0], left[1]])
