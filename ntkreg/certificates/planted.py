"""When is the planted network of D a sample's max-margin network, or minimizer? Both sides decide.

The planted network |x₁| − |x₂| (`closed_forms.planted_network`) has the normalized margin 1/8 on
every sample of D, and all samples lie on its margin. By duality it has the max margin if and only
if some weights α ≥ 0, Σα = 1, have M(αy) = 1/4 (`certificates`): the value that its four neurons
±e₁, ±e₂ must all attain, with active mass 1/4 each.

Local condition. Near the neuron u = e₁ the function Σ αᵢyᵢ relu(uᵀxᵢ) is linear on the active
samples (x₁ = 1, all positive) and concave at the kinks (x₁ = 0, all negative): e₁ maximises it
nearby if and only if some 0 ≤ βᵢ ≤ αᵢ on the kinks have, in every coordinate other than the first,
Σ_active αᵢxᵢ = Σ_kinks βᵢxᵢ. Likewise for the other three. These are linear conditions on (α, β).

Global condition. |Σ αᵢyᵢ relu(vᵀxᵢ)| ≤ 1/4 for every other unit v: linear too, and added for the v
that an oracle finds, until none is left or the conditions contradict each other.

At finite λ (docs/planted_minimum.md). Networks whose four neurons are the planted ones at sizes of
their own have one margin m_g on each of the four groups of samples, of n_g samples each, so that
their slopes are equal within a group. One of them minimises F_λ if and only if these weights,
αᵢ = 1/(4n_g), are such as above; its margins then solve σ(−m_g) = 2λn/n_g. The condition does not
depend on λ: it holds at every λ < min n_g/(4n), or at none. (From there on a planted neuron is 0.)
"""

from typing import NamedTuple

import numpy as np
import scipy

from ntkreg._checks import check_noisy_xor
from ntkreg.certificates import two_layer
from ntkreg.certificates.certified import Certificate, certificate, oracle_for
from ntkreg.certificates.convex import conic_solution
from ntkreg.certificates.oracles import make_oracle, of_signs
from ntkreg.certificates.proofs import Problem
from ntkreg.data.dataset import Dataset, check_dataset

MASS = 0.25
NEURONS = ((0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0))  # coordinate and sign; −y of the last two
TOLERANCE = 1e-7  # relative, of the value 1/4 at other units
MET = 1e-6  # of the conditions on nα, whose entries are near 1


class Optimality(NamedTuple):
    """What is known of the planted network on one sample.

    Attributes:
      local: whether the local condition can be met; False is a proof that it cannot.
      refuted: whether all conditions together are proved to contradict each other, so that other
        networks have a larger margin.
      upper: M(αy)/2 by the oracle for the last α, an upper bound of the max margin if the oracle
        proves one; infinity where `refuted`. Planted is optimal where it is 1/8.
      alpha: these weights; NaN where `refuted`.
      num_rounds: how often the oracle ran.
      nodes: what its last answers took.
    """

    local: bool
    refuted: bool
    upper: float
    alpha: np.ndarray
    num_rounds: int
    nodes: int

    @property
    def optimal(self) -> bool:
        """Whether the planted network has the max margin, as surely as the oracle knows."""
        return self.upper <= MASS / 2 * (1 + 10 * TOLERANCE)  # the oracle's own tolerance in it


def planted_optimality(
    data: Dataset, *, oracle: str = "multistart", max_rounds: int = 100, **options
) -> Optimality:
    """Whether the planted network has the max margin on these samples of D.

    Among the weights that meet the conditions known so far, those nearest to uniform are taken:
    they are unique, so that they move little from one round to the next.

    Args:
      data: samples of D (`data.noisy_xor`).
      oracle: "multistart" (`upper` is heuristic) or "branch_and_bound" (it is proved).
      max_rounds: after which it is left undecided: neither `refuted` nor `optimal`.
      **options: of `oracles.make_oracle`.

    Raises:
      ValueError: for samples that are not of D.
      ArithmeticError: where the solver neither meets nor refutes the conditions.
    """
    x, y = checked(data)
    axes, ends = map(np.array, zip(*NEURONS, strict=True))
    neurons = ends[:, None] * np.eye(x.shape[1])[axes]
    maximize = make_oracle(oracle, x, known=neurons, **options)
    conditions = local_conditions(x)
    unknown = np.full(len(y), np.nan)
    units, signs = np.zeros((0, x.shape[1])), np.zeros(0)
    found = Optimality(True, False, np.inf, unknown, 0, 0)
    for number in range(max_rounds):
        values = (np.maximum(x @ units.T, 0.0) * signs * y[:, None]).T
        alpha = _nearest_to_uniform(len(y), *conditions, values)
        if alpha is None:
            return Optimality(number > 0, True, np.inf, unknown, number, 0)
        floor = MASS * (1 + TOLERANCE)
        for limit in (floor, None):  # a proof only where no unit is found without
            maxima = of_signs(maximize, alpha * y, limit)
            new, new_signs = maxima.above(x, floor).units()
            if len(new):
                break
        found = Optimality(True, False, maxima.upper / 2, alpha, number + 1, maxima.nodes)
        if not len(new):
            break
        units, signs = np.concatenate([units, new]), np.concatenate([signs, new_signs])
    return found


def is_local_maximum(data: Dataset) -> bool:
    """Whether the planted network is a local maximum of the margin: the local condition alone.

    Weights that meet it are found; that there are none is proved.

    Raises:
      ValueError: for samples that are not of D.
      ArithmeticError: where the solver neither meets nor refutes the conditions.
    """
    x, y = checked(data)
    conditions = local_conditions(x)
    return _nearest_to_uniform(len(y), *conditions, np.zeros((0, len(y)))) is not None


def planted_minimum(
    data: Dataset, lam: float, *, oracle: str = "auto", tolerance: float = 1e-6, **options
) -> Certificate:
    """What the best network of the four planted neurons proves of the minimum of F_λ.

    Its margins are m_g = log(n_g/(2λn) − 1) on the group g of n_g samples, its own dual weights
    bᵢ = yᵢ·2λn/n_g. The gap is 0, up to the oracle's, if and only if it is the global minimizer.

    Args:
      data: samples of D (`data.noisy_xor`).
      lam: 0 < λ < min n_g/(4n), so that no planted neuron is 0. The others are those of
        `max_margin`.

    Raises:
      ValueError: for samples that are not of D, a group without samples, or another λ.
    """
    x, y = checked(data)
    active, counts = _groups(x)
    most = counts.min() / (4 * len(y))
    if not 0 < lam < most:
        raise ValueError(f"lam must lie between 0 and min n_g/(4n) = {most}, got {lam}")
    slopes = 2 * lam * len(y) / counts
    axes, ends = map(np.array, zip(*NEURONS, strict=True))
    directions, signs = ends * np.eye(x.shape[1])[:, axes], np.where(axes == 0, 1.0, -1.0)
    network = two_layer.balanced(directions, (np.log1p(-slopes) - np.log(slopes)) * signs)
    dual = y * (slopes @ active)
    name = oracle_for(oracle, x)
    maximize = make_oracle(name, x, tolerance=tolerance / 4, **options)
    maxima = of_signs(maximize, dual / len(y))
    problem = Problem(x, y, lam)
    return certificate(problem, network, dual, name, tolerance, maxima.upper, maxima.nodes)


def is_local_minimum(data: Dataset) -> bool:
    """Whether the best network of the planted neurons meets the local condition at small λ.

    Raises:
      ValueError: for samples that are not of D.
      ArithmeticError: where the solver neither meets nor refutes the conditions.
    """
    x, y = checked(data)
    active, counts = _groups(x)
    if not counts.all():
        return False
    equal, right, most = local_conditions(x)
    equal = np.concatenate([equal, np.eye(len(y), equal.shape[1])])
    right = np.concatenate([right, MASS / counts @ active])
    return _nearest_to_uniform(len(y), equal, right, most, np.zeros((0, len(y)))) is not None


def _groups(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(on which samples each planted neuron is active, shape (4, n); how many these are)."""
    active = np.array([sign * x[:, axis] > 0 for axis, sign in NEURONS])
    return active, active.sum(axis=1)


def checked(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """x and y in float64.

    Raises:
      ValueError: for samples that are not of D.
    """
    check_dataset(data, "sign")
    x, y = np.asarray(data.x, np.float64), np.asarray(data.y, np.float64)
    check_noisy_xor(x, y)
    return x, y


def local_conditions(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(equalities, their right sides, upper bounds ≤ 0) of (α, β of the kinks of each neuron)."""
    num_samples, dim = x.shape
    kinks = [np.flatnonzero(x[:, axis] == 0) for axis, _ in NEURONS]
    starts = num_samples + np.cumsum([0, *map(len, kinks)])
    equal, right, most = [], [], []
    for (axis, sign), kink, start in zip(NEURONS, kinks, starts, strict=False):
        active, beside = np.flatnonzero(sign * x[:, axis] > 0), np.arange(dim) != axis
        balance = np.zeros((dim, starts[-1]))
        balance[:-1, active] = x[active][:, beside].T
        balance[:-1, start : start + len(kink)] = -x[kink][:, beside].T
        balance[-1, active] = 1.0
        equal.append(balance)
        right.append(np.append(np.zeros(dim - 1), MASS))
        below = np.zeros((len(kink), starts[-1]))
        below[np.arange(len(kink)), start + np.arange(len(kink))] = 1.0
        below[np.arange(len(kink)), kink] = -1.0
        most.append(below)
    return (
        np.concatenate(equal),
        np.concatenate(right),
        np.concatenate([*most, -np.eye(starts[-1])]),
    )


def _nearest_to_uniform(
    num_samples: int, equal: np.ndarray, right: np.ndarray, most: np.ndarray, values: np.ndarray
) -> np.ndarray | None:
    """The α nearest to uniform that meets the conditions; None where it is proved that none does.

    Solved for nα, so that entries are near 1. The proof is Farkas': multipliers z of the rows, ≥ 0
    on those of inequalities, with Aᵀz ≈ 0 and bᵀz < 0. As Σα = 1, and every sample is a kink of two
    neurons, Σnα + Σnβ ≤ 3n bounds what is left of Aᵀz.

    Raises:
      ArithmeticError: where the solver's result is neither.
    """
    num_variables = equal.shape[1]
    cuts = np.pad(values, ((0, 0), (0, num_variables - num_samples)))
    matrix = np.concatenate([equal, most, cuts])
    bound = num_samples * np.concatenate([right, np.zeros(len(most)), np.full(len(cuts), MASS)])
    weight = np.zeros(num_variables)
    weight[:num_samples] = 1.0
    cones = [("zero", len(equal)), ("nonnegative", len(most) + len(cuts))]
    rows = scipy.sparse.csc_matrix(matrix)
    # With the distance to be least the solver misses, rarely, a proof that it finds without.
    for pull in (weight, np.zeros_like(weight)):
        solution = conic_solution(scipy.sparse.diags(pull), -pull, rows, bound, cones)
        z = np.asarray(solution.z)
        z[len(equal) :] = np.maximum(z[len(equal) :], 0.0)
        if bound @ z + 3 * num_samples * np.abs(matrix.T @ z).max() < 0:
            return None
        left = bound - matrix @ np.asarray(solution.x)
        off = max(np.abs(left[: len(equal)]).max(), -left[len(equal) :].min())
        if off <= MET:
            alpha = np.maximum(np.asarray(solution.x)[:num_samples], 0.0)
            return alpha / alpha.sum()
    raise ArithmeticError(
        f"the conditions must be met or refuted, got {solution.status} with {off:.1e} between"
    )
