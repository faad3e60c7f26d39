"""What a network and weights on the samples prove: both bounds of a certificate, in balls.

Weak duality: ℓ(f) ≥ −ℓ*(−b) − bf for every b, with equality at b = −ℓ′(f); so losses come with
their slopes and conjugates.

Everything that is printed as a bound passes through `proved`, which takes exactly the float64
arrays that are returned. Sums, products, exponentials and logarithms are enclosed in balls
(`balls`), so that the allowance for rounding is the ball's own radius: relative 2⁻⁵⁰⁰ before the
result is rounded outwards to the next float64.
"""

from collections.abc import Callable
from typing import NamedTuple

import flint
import numpy as np
import scipy

from ntkreg._types import Params
from ntkreg.certificates.balls import BITS, above, balls, below, precision, product


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


class Problem(NamedTuple):
    """A max margin, or where λ is given the minimum of F_λ = mean loss + λ‖Θ‖².

    Attributes:
      x, y: samples in float64, shapes (n, d) and (n,).
      lam: λ, or None for the max margin.
      loss: of `proofs.DUALS`.
      signs: of the output weights that networks may have.
      activation: "relu", or "quadratic" with ‖Θ‖_{2,3}³ in place of ‖Θ‖² throughout.
    """

    x: np.ndarray
    y: np.ndarray
    lam: float | flint.arb | None = None
    loss: str = "logistic"
    signs: tuple[int, ...] = (1, -1)
    activation: str = "relu"

    @property
    def is_margin(self) -> bool:
        """Whether it is the max margin."""
        return self.lam is None

    def weights(self, dual: np.ndarray) -> np.ndarray:
        """c of Σ cᵢ relu(uᵀxᵢ), whose maximum over the unit ball makes `dual` a bound; in balls."""
        with precision():
            return balls(dual) * balls(self.y) if self.is_margin else balls(dual) / len(self.y)


class CrossingBounds(AssertionError):
    """A lower bound above an upper one: a fault of this package, never of the data."""


def bits(problem: Problem, times: int = 1) -> int:
    """Enough for weights and networks of size 1/λ that cancel to 1, so many times over."""
    if problem.is_margin:
        return BITS
    with precision():
        size = flint.arb(float(np.abs(problem.x).max())) / flint.arb(problem.lam)
        if problem.loss == "squared":
            size *= max(1.0, float(np.abs(problem.y).max()))
        return BITS + (times * int(float(size.log() / flint.arb(2).log())) if size > 1 else 0)


def proved(
    problem: Problem, primal: Params, dual: np.ndarray, largest: float | flint.arb
) -> tuple[float, float]:
    """(proved lower, proved upper) bound, from a network and weights on the samples.

    margin:  min yᵢf(xᵢ)/‖Θ‖² ≤ γ* ≤ M/(2 Σαᵢ),  M ≥ Σ αᵢyᵢ relu(uᵀxᵢ) of both signs;
    minimum: mean −ℓ*(−s·bᵢ) ≤ F* ≤ F_λ(Θ),  s = min(1, 2λ/M),  M ≥ Σ (bᵢ/n) relu(uᵀxᵢ) of the
    problem's signs. A dual point outside the domain of ℓ* proves nothing, −∞. Of z² M is
    `quadratic.largest`, twice the largest value of a neuron of norm 1.

    Args:
      primal: (W₁ of shape (d, m), W₂ of shape (m, 1)).
      dual: α ≥ 0, or b.
      largest: M, an upper bound that is proved itself (or taken for one).
    """
    with precision(bits(problem)):
        if problem.is_margin:
            return below(_margin(problem, primal)), above(_margin_bound(dual, largest))
        lower = _minimum_bound(problem, dual, flint.arb(largest))
        return lower, above(_objective(problem, primal))


def outputs(primal: Params, x: np.ndarray, activation: str = "relu") -> np.ndarray:
    """f(xᵢ) in balls."""
    first, last = (balls(np.asarray(part, np.float64)) for part in primal)
    if not len(last):
        return balls(np.zeros(len(x)))
    hidden = product(balls(x), first)
    if activation == "quadratic":
        return product(hidden * hidden, last[:, 0])
    return product(np.where(hidden > 0, hidden, hidden * 0 + _positive(hidden)), last[:, 0])


_positive = np.frompyfunc(lambda ball: max(ball.upper(), 0) if ball.contains(0) else 0, 1, 1)


def squared_norm(primal: Params) -> flint.arb:
    """‖Θ‖² in a ball."""
    entries = balls(np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in primal]))
    return entries.dot(entries) if len(entries) else flint.arb(0)


def cubed_norm(primal: Params) -> flint.arb:
    """‖Θ‖_{2,3}³ = Σ ‖(uⱼ, wⱼ)‖₂³ in a ball."""
    first, last = (balls(np.asarray(part, np.float64)) for part in primal)
    squares = [u.dot(u) + w * w for u, w in zip(first.T, last[:, 0], strict=True)]
    return sum((square * square.sqrt() for square in squares), flint.arb(0))


def _cost(problem: Problem, primal: Params) -> flint.arb:
    return (squared_norm if problem.activation == "relu" else cubed_norm)(primal)


def _margin(problem: Problem, primal: Params) -> flint.arb:
    margins = balls(problem.y) * outputs(primal, problem.x, problem.activation)
    size = _cost(problem, primal)
    return min(margin.lower() for margin in margins) / size if size > 0 else flint.arb(0)


def _margin_bound(alpha: np.ndarray, largest) -> flint.arb:
    total = balls(alpha).sum()
    if (alpha < 0).any() or not total > 0 or not flint.arb(largest) >= 0:
        return flint.arb("inf")
    return flint.arb(largest) / (2 * total)


def _objective(problem: Problem, primal: Params) -> flint.arb:
    f = outputs(primal, problem.x, problem.activation)
    losses = DUALS[problem.loss].ball_value(f, balls(problem.y))
    return losses.sum() / len(losses) + flint.arb(problem.lam) * _cost(problem, primal)


def _minimum_bound(problem: Problem, dual: np.ndarray, largest: flint.arb) -> float:
    """The smaller of the values at the size that M allows and at one larger by rounding.

    The value is concave in the size, so that it is proved at all sizes between them: at that of
    the true maximum too, of which `largest` is an upper bound.
    """
    largest = largest.upper()
    if not largest >= 0:  # NaN
        return -np.inf
    most = 2 * flint.arb(problem.lam) / largest if largest > 0 else flint.arb(1)
    size = (most if most < 1 else flint.arb(1)).lower()
    larger = size * (1 + flint.arb(2) ** -50)
    sizes = [size, larger if larger < 1 else flint.arb(1)]
    value = DUALS[problem.loss].ball_dual_value
    return min(_mean_or_nothing(value, size * balls(dual), problem) for size in sizes)


def _mean_or_nothing(value: Callable, dual: np.ndarray, problem: Problem) -> float:
    values = value(dual, balls(problem.y))
    return -np.inf if values is None else below(values.sum() / len(values))
