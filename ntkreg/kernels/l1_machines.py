"""ℓ1-SVM over a fixed finite dictionary of neurons, and the ℓ2 machine that it is set against.

Two-layer relu networks of norm 1 have the max margin γ_ℓ1/2 once they are wide enough, γ_ℓ1 the
ℓ1 margin over all unit neurons: on a finite dictionary it can be computed without training.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy

from ntkreg.kernels.kernel_machines import NotSeparable, hard_margin_svm
from ntkreg.kernels.tangent import nngp
from ntkreg.networks.network import fully_connected

# Of HiGHS, relative to the largest feature: each where it finds nothing within the one before.
TOLERANCES = (1e-10, 1e-9, 1e-7)


CLOSED = 1e-8  # a relative gap that is small enough


class Unsolved(RuntimeError):
    """The solver gave up; nothing is said of the problem."""


class L1SVM(NamedTuple):
    """The classifier of largest ℓ1 margin, and how far it can be from optimal.

    Attributes:
      weights: a of shape (m,), ‖a‖₁ = 1, mostly zeros: at most n are not.
      alpha: dual weights of shape (n,), α ≥ 0 and Σα = 1.
      lower: minᵢ yᵢ⟨a, φ(xᵢ)⟩, the margin, which a reaches.
      upper: maxⱼ |Σ αᵢyᵢφⱼ(xᵢ)|, which no weights exceed. Both bounds are computed in float64
        from a and α, not taken from the solver.
    """

    weights: np.ndarray
    alpha: np.ndarray
    lower: float
    upper: float


def l1_svm(features: np.ndarray, y: np.ndarray) -> L1SVM:
    """The weights a with ‖a‖₁ ≤ 1 and the largest minᵢ yᵢ⟨a, φ(xᵢ)⟩, without bias.

    `features` holds φⱼ(xᵢ), shape (n, m); `y` is ±1. A linear programme in a = a₊ − a₋ and the
    margin, solved by HiGHS on the host; its dual is the smallest maxⱼ |Σ αᵢyᵢφⱼ(xᵢ)| over α in the
    simplex. At n = 200, m = 20,000 it takes some seconds on one core. HiGHS's tolerances are
    absolute: where the bounds do not meet, as with rows of different lengths, the programme is
    solved with its columns scaled too, then its rows, and the better of each bound is kept.

    Source: Wei, Lee, Liu, Ma (arXiv 1810.05369, version 1) for the machine; Rosset, Swirszcz,
    Srebro, Zhu (COLT 2007) for its few nonzero weights.

    Raises:
      NotSeparable: where the best margin is zero up to rounding; the error gives its upper bound.
      Unsolved: where HiGHS gives up.
      ValueError: for shapes that do not match, entries that are not finite, labels other than ±1.
    """
    features, y = np.asarray(features, np.float64), np.asarray(y, np.float64)
    _check_features(features, y)
    n, m = features.shape
    signed = y[:, None] * features
    weights, alpha = np.zeros(m), np.full(n, 1.0 / n)
    lower, upper = 0.0, _upper(alpha, signed)
    for rows, columns in _scalings(signed):
        try:
            found = _scaled_solution(signed, rows, columns)
        except Unsolved:
            if not weights.any():
                raise
            continue
        weights = found[0] if _lower(found[0], signed) > lower else weights
        alpha = found[1] if _upper(found[1], signed) <= upper else alpha
        lower, upper = _lower(weights, signed), _upper(alpha, signed)
        if upper - lower <= CLOSED * upper:
            break
    # A margin is a sum of few terms, off by some ε of their sizes: more than that is no rounding.
    sizes = np.abs(features) @ np.abs(weights)
    if not (signed @ weights > 4 * np.finfo(float).eps * sizes).all():
        raise NotSeparable(
            f"no combination of the {m} features separates the {n} samples: the ℓ1 margin is at "
            f"most {upper:.2g}, zero up to rounding"
        )
    return L1SVM(weights, alpha, lower, max(lower, upper))


def _lower(weights: np.ndarray, signed: np.ndarray) -> float:
    return float((signed @ weights).min())


def _upper(alpha: np.ndarray, signed: np.ndarray) -> float:
    return float(np.abs(alpha @ signed).max())


def _powers_of_two(sizes: np.ndarray) -> np.ndarray:
    """2^k, the size within a factor of two; 1 where it is zero."""
    return np.ldexp(1.0, np.frexp(np.where(sizes > 0, sizes, 0.5))[1])


def _scalings(signed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Factors of rows and columns, best known first: of all together, of columns, of rows."""
    rows, columns = (np.abs(signed).max(axis=axis) for axis in (1, 0))
    ones = np.ones(signed.shape[1])
    yield np.full(signed.shape[0], 1.0 / max(rows.max(), np.finfo(float).tiny)), ones
    shortest = _powers_of_two(rows).min()
    # A column that is longer than the shortest row needs little weight for a margin like that.
    yield (
        np.full(signed.shape[0], 1 / shortest),
        1 / _powers_of_two(np.maximum(columns / shortest, 1)),
    )
    yield 1 / _powers_of_two(rows), ones


def _scaled_solution(
    signed: np.ndarray, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(a, α) by the programme with rows and columns times these factors."""
    largest = rows.max()
    scaled = rows[:, None] * signed * columns
    weights, alpha = _solve(scaled, rows / largest, columns)
    weights, alpha = weights * columns, alpha * rows
    size = np.abs(weights).sum()
    return weights / (size if size > 0 else 1.0), alpha / alpha.sum()


def _solve(
    signed: np.ndarray, wanted: np.ndarray, costs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(a, α) of `_programme` over all columns, of which few are ever needed at once.

    Solved over some columns, its α says by how much each other one exceeds their bound: the most
    violating 2n join, until none does. That gives the whole programme's optimum.
    """
    n, m = signed.shape
    used, bound, alpha = np.zeros(m, bool), 0.0, np.full(n, 1.0 / n)
    weights = np.zeros(m)
    while True:
        excess = np.where(used, -1.0, np.abs(alpha @ signed) / costs - (1 + 1e-13) * bound)
        joining = np.argsort(-excess)[: 2 * n]
        joining = joining[excess[joining] > 0]
        if joining.size == 0:
            return weights, alpha
        used[joining] = True
        weights[used], alpha = _programme(signed[:, used], wanted, costs[used])
        bound = (np.abs(alpha @ signed[:, used]) / costs[used]).max()


def _programme(
    signed: np.ndarray, wanted: np.ndarray, costs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(a, α) of the programme max t with signed·(a₊ − a₋) ≥ t·wanted and Σ costs·(a₊ + a₋) ≤ 1."""
    n, m = signed.shape
    margins = np.hstack([-signed, signed, wanted[:, None]])
    norm = np.concatenate([costs, costs, [0.0]])
    for tolerance in TOLERANCES:
        result = scipy.optimize.linprog(
            np.append(np.zeros(2 * m), -1.0),
            A_ub=np.vstack([margins, norm]),
            b_ub=np.append(np.zeros(n), 1.0),
            bounds=[(0, None)] * (2 * m) + [(None, None)],
            method="highs",
            options=dict.fromkeys(
                ("primal_feasibility_tolerance", "dual_feasibility_tolerance"), tolerance
            ),
        )
        if result.x is not None:
            break
    else:
        raise Unsolved(f"HiGHS gave no solution: {result.message}")
    weights = result.x[:m] - result.x[m : 2 * m]
    alpha = np.maximum(-result.ineqlin.marginals[:n], 0.0)
    total = alpha @ wanted
    return weights, alpha / total if total > 0 else np.full(n, 1.0 / wanted.sum())


def relu_dictionary(neurons: np.ndarray, x: np.ndarray) -> np.ndarray:
    """relu(x uᵀ) of shape (n, m), in float64: what each unit neuron u of `neurons` gives on x.

    `neurons` has shape (m, d), `x` shape (n, d).

    Raises:
      ValueError: where the dimensions differ or a neuron is not of norm 1.
    """
    neurons, x = np.asarray(neurons, np.float64), np.asarray(x, np.float64)
    if neurons.ndim != 2 or x.ndim != 2 or neurons.shape[1] != x.shape[1]:
        raise ValueError(
            f"neurons must be (m, d) and x (n, d) of one d, got {neurons.shape} and {x.shape}"
        )
    norms = np.linalg.norm(neurons, axis=1)
    bad = ~(np.abs(norms - 1.0) < 1e-5)  # what float32 may have rounded away
    if bad.any():
        raise ValueError(f"neurons must have norm 1, got {norms[bad][0]} at [{np.argmax(bad)}]")
    return np.maximum(x @ neurons.T, 0.0)


def circle(num_neurons: int = 1000) -> np.ndarray:
    """Neurons (w, b) evenly spaced on w² + b² = 1, shape (num_neurons, 2), the first at (1, 0).

    For points on a line, given as inputs (x, 1).

    Source: Wei, Lee, Liu, Ma (arXiv 1810.05369, version 1), one-dimensional experiment.

    Raises:
      ValueError: for num_neurons < 1.
    """
    if num_neurons < 1:
        raise ValueError(f"num_neurons must be at least 1, got {num_neurons}")
    angles = 2.0 * math.pi * np.arange(num_neurons) / num_neurons
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def l2_margin(x: np.ndarray, y: np.ndarray, neurons: np.ndarray | None = None) -> float:
    """γ_ℓ2, the best margin of the ℓ2 machine with relu features (the top layer alone, no NTK).

    γ_ℓ2 = max minᵢ yᵢ∫α(u) relu(uᵀxᵢ)du over √κ‖α‖₂ ≤ 1, with κ the volume of the unit sphere. In
    the density a = κα against the uniform probability measure, √κ‖α‖₂ is (E a²)^(1/2) and the
    integral E[a(u) relu(uᵀx)]: the hard-margin SVM of the kernel E[relu(uᵀx) relu(uᵀx′)]. For
    uniform unit u that is the NNGP kernel of depth 2 in `ntk` scaling, since a Gaussian u has
    E‖u‖² = d and that scaling divides by d.

    Given `neurons` (unit, shape (m, d)), the measure is uniform on these: κ = m, weights a with
    √m‖a‖₂ ≤ 1, kernel (1/m) Σⱼ relu(uⱼᵀx) relu(uⱼᵀx′). Cauchy–Schwarz gives ‖a‖₁ ≤ √κ‖a‖₂
    either way, so that γ_ℓ2 ≤ γ_ℓ1 over the same neurons.

    Source: Wei, Lee, Liu, Ma (arXiv 1810.05369, version 1) for the machine; Cho and Saul
    (NeurIPS 2009) for the kernel.

    Raises:
      NotSeparable: where the best margin is zero up to rounding.
      ValueError: for shapes that do not match, neurons that are not unit, labels other than ±1.
    """
    if neurons is None:
        gram = nngp(fully_connected(2, 1), jnp.asarray(x, float))
    else:
        features = relu_dictionary(neurons, x)
        gram = jnp.asarray(features @ features.T / features.shape[1])
    return float(hard_margin_svm(gram, jnp.asarray(y, gram.dtype)).margin)


def _check_features(features: np.ndarray, y: np.ndarray) -> None:
    if features.ndim != 2 or y.shape != features.shape[:1] or 0 in features.shape:
        raise ValueError(
            f"features must be of shape (n, m) and y (n,), both n and m at least 1, got "
            f"{features.shape} and {y.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError("features must be finite, they hold NaN or inf")
    bad = ~np.isin(y, (-1, 1))
    if bad.any():
        raise ValueError(f"y must be −1 or +1, got {y[bad][0]} at [{np.argmax(bad)}]")
