"""The law of the λ-path: how far from the max margin the minimizer of F_λ is, with the constant.

Let f be homogeneous of order a in Θ, F_λ = mean ℓ + λ‖Θ‖^r, γ* the max normalized margin, R = ‖Θ‖^a
and q̄ = q/R the margins at norm one. Below, α are weights of the margins with Σα = 1, H(α) =
−Σα log α their entropy, H∞(α) = −log max α their min-entropy.

**At a given norm.** The logistic loss is e^(−q) up to the factor 1 + O(e^(−q)). Let
G(R) = min log Σ e^(−R q̄ᵢ) over ‖Θ‖ = 1, and D(α) = max Σ αᵢq̄ᵢ over ‖Θ‖ = 1. By
log Σ e^(−qᵢ) = max over α of H(α) − Σαᵢqᵢ,

    G(R) = max over α of H(α) − R·D(α),      at αᵢ ∝ e^(−qᵢ) of the minimizer,

with equality where the margins q̄ that networks reach form a convex set up to smaller ones, as they
do at depth 2; ≥ always. So −log αᵢ = qᵢ + G at the minimizer, and its smallest margin is

    γ_R = D(α_R) − (H(α_R) − H∞(α_R))/R,     α_R = argmin R·D(α) − H(α).          (1)

D is convex, and smallest at the max margin's dual weights α*, where it is γ*. As α_R minimises
R·D − H, 0 ≤ D(α_R) − γ* ≤ (H(α_R) − H(α*))/R, which is O(1/R²) where |α_R − α*| = O(1/R). So
γ_R = γ* − (H(α*) − H∞(α*))/R + O(1/R²). Where D is smallest on a face, α_R tends to the point of
the face with the largest entropy, which α* then stands for. D(α_R) is Σ αᵢqᵢ/R, the dual-weighted
margin: ≥ γ*, and known from the network alone.

**At deeper networks** the same holds to first order without convexity, near a maximizer Θ* at which
its multipliers are unique: Σ αᵢ∇q̄ᵢ = 0 along the sphere, so moves of size 1/R change Σαᵢ·Rq̄ᵢ by
O(1/R); they can set the other combinations of Rq̄ᵢ freely, and Rq̄ᵢ = Rγ* − log αᵢ − H(α) is where
Σe^(−Rq̄ᵢ) is smallest. Where a further path through the network could begin at zero weights, this
gains ε^a at the cost ε² of its norm: above a = 2 nothing to first order.

**The norm that λ chooses.** dF/dR = 0 reads (D(α_R)/n) e^G = λ (r/a) R^(r/a − 1), or

    R·D = log(1/λ) + log(aD/r) + (1 − r/a) log R + H(α_R) − log n.                 (2)

**Several classes.** The cross-entropy is Σ over j ≠ yᵢ of e^(−(f_y − f_j)), to the same order.
Every pair (i, j) is a margin of its own with its own weight, and n stays the number of samples.

Source: derived here; λ → 0 is of Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 4.1.
"""

from typing import NamedTuple

import numpy as np
import scipy

from ntkreg._checks import check_positive
from ntkreg._types import Float

FIXED_POINT_STEPS = 200
FIRST_GUESS = 20.0  # of R·D, at least: from above it comes to the larger root, where there are two


class Prediction(NamedTuple):
    """What the law says of the minimizer at one λ, or at several.

    Attributes:
      radius: R = ‖Θ‖^order; NaN where λ is too large for the law.
      normalized_margin: its smallest margin over R.
    """

    radius: np.ndarray
    normalized_margin: np.ndarray


def entropy(alpha: Float[np.ndarray, " m"]) -> float:
    """H(α) = −Σ α log α in nats, with 0 log 0 = 0."""
    return float(np.sum(scipy.special.entr(alpha)))


def min_entropy(alpha: Float[np.ndarray, " m"]) -> float:
    """H∞(α) = −log max α in nats, at most H(α)."""
    return float(-np.log(np.max(alpha)))


def predicted(
    log_lam: float | np.ndarray,
    dual_value: float,
    alpha: Float[np.ndarray, " m"],
    num_samples: int,
    *,
    order: int = 2,
    power: float = 2.0,
) -> Prediction:
    """The minimizer of F_λ by (1) and (2) with these weights.

    With the max margin's own, α* and D(α*) = γ*, it is right to first order in 1/R; with the path's
    own weights at this λ, exact up to the logistic loss's difference from e^(−q), which is O(λ).

    Args:
      log_lam: log λ.
      dual_value: D(α) > 0, for the max margin's weights γ* itself.
      alpha: weights of the margins, Σα = 1; of all pairs (i, j ≠ yᵢ) with several classes. Where
        the max margin's are not unique, those of the largest entropy are meant; a solver may give
        others, and then the constant is off.
      num_samples: n, over which the loss is averaged.
      order: a of the network.
      power: r of the penalty.

    Raises:
      ValueError: where dual_value, order, power or num_samples is not positive, or alpha is not on
        the simplex.
    """
    check_positive(dual_value=dual_value, order=order, power=power)
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    alpha = np.asarray(alpha, np.float64)
    if not (alpha >= 0).all() or abs(alpha.sum() - 1) > 1e-6:
        raise ValueError(f"alpha must be at least 0 with the sum 1, got the sum {alpha.sum()}")
    h = entropy(alpha)
    smallest = np.log(order * dual_value / power) + h - np.log(num_samples)
    share = 1 - power / order
    constant = smallest - np.asarray(log_lam, np.float64)
    radius = np.maximum(constant, FIRST_GUESS) / dual_value
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(FIXED_POINT_STEPS):  # contracts by share/(R·D) each time
            radius = (constant + share * np.log(radius)) / dual_value
        radius = np.where(radius > 0, radius, np.nan)
    return Prediction(radius, dual_value - (h - min_entropy(alpha)) / radius)
