"""What theory bounds with a margin: the test error, and the margins of approximate minimizers."""

import math

import numpy as np

from ntkreg._checks import check_positive

MARGIN_FACTOR = 4.0  # of the Rademacher complexity, for all margins at once
TWO_LAYER_FACTOR = 6.0  # of the two-layer bound, as its authors have it
THEOREM_FACTOR = 10.0  # of the theorem on approximate minimizers
SHARES = 100_001  # points of the search for the worst split of the objective


def generalization_bound(
    normalized_margin: float | np.ndarray,
    num_samples: int | np.ndarray,
    largest_norm: float,
    depth: int,
    delta: float = 0.05,
) -> np.ndarray:
    """A bound of the test error that holds with probability 1 − δ, for all networks at once.

    At ‖Θ‖ = 1 the Frobenius norms of q layers multiply to at most q^(−q/2), and the networks'
    Rademacher complexity is at most C(√(2q log 2) + 1) q^(−q/2)/√n, C = sup ‖x‖. With

        ε(γ) = √(log log₂(4Cq^(−q/2)/γ)/n) + √(log(1/δ)/(2n)),

    a network that has the normalized margin γ > 0 on n samples errs with probability at most
    4C(√(2q log 2) + 1) q^(−q/2)/(γ√n) + ε(γ). Above 1 it says nothing; +∞ where γ ≤ 0.

    `largest_norm` C bounds the norm of all inputs that the distribution has, not of the sample's.

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4, which has it up to constants; Golowich,
    Rakhlin, Shamir (COLT 2018), Theorem 1, for the complexity; Kakade, Sridharan, Tewari (NeurIPS
    2008), Corollary 4, for the factor 4 and ε.

    Raises:
      ValueError: where num_samples or depth is below 1, largest_norm is not positive and finite, or
        δ does not lie between 0 and 1.
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    check_positive(largest_norm=largest_norm)
    largest_output = largest_norm * depth ** (-depth / 2)
    factor = MARGIN_FACTOR * largest_output * (math.sqrt(2 * depth * math.log(2)) + 1)
    return _margin_bound(factor, normalized_margin, num_samples, largest_output, delta)


def two_layer_bound(
    normalized_margin: float | np.ndarray,
    num_samples: int | np.ndarray,
    mean_square_norm: float | np.ndarray,
    largest_norm: float | np.ndarray,
    delta: float = 0.05,
) -> np.ndarray:
    """A bound of a two-layer ReLU network's test error, with probability 1 − δ.

    With the normalized margin γ > 0 on n samples and D = ‖X‖_F²/n, the error is at most

        (6/γ)√(D/n) + ε(γ),   ε(γ) = √(log log₂(4C/γ)/n) + √(log(1/δ)/(2n)),   C = sup ‖x‖.

    Above 1 it is vacuous; +∞ where γ ≤ 0. The networks with ‖Θ‖ ≤ 1 have a Rademacher complexity of
    at most √(D/n), of which the factor is 4 in Corollary 4 of Kakade, Sridharan, Tewari (NeurIPS
    2008): 6 is not tight. Where inputs have no bounded norm, as Gaussian ones, the sample's largest
    has to stand for C; it enters through log log only.

    Args:
      mean_square_norm: D.
      largest_norm: C.

    Source: Wei, Lee, Liu, Ma (ICLR 2019 submission), Theorem 3.1.

    Raises:
      ValueError: where num_samples is below 1, a norm is not positive and finite, or δ does not lie
        between 0 and 1.
    """
    check_positive(mean_square_norm=mean_square_norm)
    check_positive(largest_norm=largest_norm)
    factor = TWO_LAYER_FACTOR * np.sqrt(mean_square_norm)
    return _margin_bound(factor, normalized_margin, num_samples, largest_norm, delta)


def kernel_bound(
    normalized_margin: float | np.ndarray,
    num_samples: int | np.ndarray,
    mean_diagonal: float | np.ndarray,
    largest_diagonal: float | np.ndarray,
    delta: float = 0.05,
) -> np.ndarray:
    """A bound of a kernel classifier's test error, with probability 1 − δ.

    The unit ball of the kernel's space has a Rademacher complexity of at most √(tr K)/n on n
    samples. So a function with the margin γ = minᵢ yᵢf(xᵢ)/‖f‖_H > 0 errs with probability at most
    4√(tr K/n)/(γ√n) + ε(γ), ε as in `two_layer_bound` with C = sup √K(x, x). Above 1 it is vacuous;
    +∞ where γ ≤ 0.

    Args:
      mean_diagonal: tr K/n.
      largest_diagonal: C², or the sample's largest K(x, x) where that has no bound.

    Source: Bartlett and Mendelson (JMLR 2002), Lemma 22, for the complexity; Kakade, Sridharan,
    Tewari (NeurIPS 2008), Corollary 4, for the factor 4 and ε.

    Raises:
      ValueError: as `two_layer_bound`.
    """
    check_positive(mean_diagonal=mean_diagonal)
    check_positive(largest_diagonal=largest_diagonal)
    factor = MARGIN_FACTOR * np.sqrt(mean_diagonal)
    largest = np.sqrt(largest_diagonal)
    return _margin_bound(factor, normalized_margin, num_samples, largest, delta)


def _margin_bound(factor, margin, num_samples, largest_output, delta: float) -> np.ndarray:
    """factor/(γ√n) + √(log log₂(4 largest_output/γ)/n) + √(log(1/δ)/(2n)); +∞ where γ ≤ 0."""
    if np.min(num_samples) < 1:
        raise ValueError(f"num_samples must be at least 1, got {np.min(num_samples)}")
    if not 0 < delta < 1:
        raise ValueError(f"delta must lie between 0 and 1, got {delta}")
    margin, n = np.asarray(margin, float), np.asarray(num_samples, float)
    safe = np.where(margin > 0, margin, largest_output)
    # Margins above the largest output do not occur; 4 keeps the inner logarithm at 2 and above.
    scales = np.log(np.log2(np.maximum(4 * largest_output / safe, 4.0)))
    rest = np.sqrt(scales / n) + np.sqrt(math.log(1 / delta) / (2 * n))
    return np.where(margin > 0, factor / (np.sqrt(n) * safe) + rest, np.inf)


def theorem_margin(
    max_margin: float, beta: float | np.ndarray, order: int = 2, power: float = 2.0
) -> np.ndarray:
    """γ*/(10 β^(a/r)): what the theorem grants every β-approximate minimizer, F ≤ βF*, at small λ.

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4, for 1 ≤ β ≤ 2 and λ below a polynomial in
    1/n and γ*.

    Raises:
      ValueError: for β outside [1, 2].
    """
    if not (np.min(beta) >= 1 and np.max(beta) <= 2):
        raise ValueError(f"beta must lie in [1, 2], got {beta}")
    return max_margin / (THEOREM_FACTOR * np.asarray(beta, float) ** (order / power))


def least_margin(
    log_minimum: float,
    log_lam: float,
    beta: float,
    num_samples: int,
    order: int = 2,
    power: float = 2.0,
) -> float:
    """A normalized margin that no β-approximate minimizer of the logistic F_λ falls below.

    Where F ≤ βF*, a part u of βF* at most is penalty, λ‖Θ‖^r = uβF*, and the worst sample's loss
    at most n times the rest: q ≥ ℓ⁻¹(n(1 − u)βF*). So γ ≥ min over u in (0, 1) of
    ℓ⁻¹(n(1 − u)βF*)/(uβF*/λ)^(a/r), ℓ⁻¹(t) = −log(e^t − 1). It is proved as far as F* is; an upper
    bound of F* serves. Positive where nβF* < log 2; else −∞: nothing is proved. As λ → 0 it tends
    to γ*/β^(a/r), ten times what the theorem grants, and no constant is better: the minimizer made
    heavier at the same outputs, by layers out of balance, has nearly that margin.

    Args:
      log_minimum: log F*.

    Source: derived here, on the setting of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4.

    Raises:
      ValueError: for β < 1.
    """
    if not beta >= 1:
        raise ValueError(f"beta must be at least 1, got {beta}")
    if math.log(num_samples * beta) + log_minimum >= math.log(math.log(2)):
        return -math.inf
    # u is near 1 where λ is small, and its distance from 1 many decades wide.
    rest = np.exp(np.linspace(-50.0, 0.0, SHARES))[:-1]
    log_loss = math.log(num_samples * beta) + log_minimum + np.log(rest)
    log_expm1 = np.where(log_loss < -30, log_loss, np.log(np.expm1(np.exp(log_loss))))
    log_size = (order / power) * (np.log1p(-rest) + math.log(beta) + log_minimum - log_lam)
    return float(np.min(-log_expm1 / np.exp(log_size)))
