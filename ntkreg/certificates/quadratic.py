"""Two-layer networks with the activation z²: max margins and minima are semidefinite programmes.

f(x) = Σ wⱼ(uⱼᵀx)² = xᵀAx with A = Σ wⱼuⱼuⱼᵀ, and the norm is ‖Θ‖_{2,3} = (Σ ‖(uⱼ, wⱼ)‖₂³)^(1/3).
A neuron of ‖u‖² + w² = 1 adds w‖u‖² to an eigenvalue, at most κ = 2/(3√3), where ‖u‖² = 2/3 and
w² = 1/3; both sides have degree 3. So Σ ‖θⱼ‖³ ≥ Σ |wⱼ|‖uⱼ‖²/κ ≥ ‖A‖_*/κ (the sum of the sizes of
the eigenvalues, a norm), and one neuron along each eigenvector is equality. Hence, with the largest
size of an eigenvalue ‖·‖_op, which is the norm dual to ‖·‖_*,

- margin: γ* = max min yᵢxᵢᵀAxᵢ over ‖A‖_* ≤ κ. By A ↦ Σ αᵢyᵢxᵢᵀAxᵢ = ⟨A, Σ αᵢyᵢxᵢxᵢᵀ⟩ it is at
  most κ‖Σ αᵢyᵢxᵢxᵢᵀ‖_op for all weights α ≥ 0 with Σα = 1;
- minimum: F* = min mean ℓᵢ(xᵢᵀAxᵢ) + μ‖A‖_* with μ = λ/κ. By ℓ(f) ≥ −ℓ*(−b) − bf it is at least
  mean −ℓᵢ*(−bᵢ) for all b with ‖Σ bᵢxᵢxᵢᵀ/n‖_op ≤ μ.

There is equality at the best α and b (Slater), at any width of at least the rank of x.

The programmes are solved in `semidefinite`. In the Euclidean norm an eigenvalue would cost its
2/3rd power, which is not convex.

Source: derived here; Morwani, Edelman, Oncescu, Zhao, Kakade (ICLR 2024) for ‖·‖_{2,3}.
"""

from collections.abc import Callable

import flint
import numpy as np

from ntkreg._types import Params
from ntkreg.certificates.balls import above, balls, precision, product, rounded
from ntkreg.certificates.enumeration import row_exponents, row_space
from ntkreg.certificates.proofs import DUALS, Problem, bits, proved
from ntkreg.certificates.semidefinite import (
    SEPARABLE,
    form_of,
    least_form,
    margin_of,
    nuclear_norm,
    operator_norm,
    outputs_of,
    symmetric,
    widest_form,
)
from ntkreg.kernels.kernel_machines import NotSeparable

VALUE = 2 / 27**0.5  # κ, the largest value of a neuron of norm 1 on an input of length 1
SHARES = (0.0, 1e-15, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8)  # of A, to leave out
RANGE = 1e-300, 1e300  # of λ/‖x‖², ‖x‖ the longest row: what float64 carries
SIZES = 1e-150, 1e150  # of x, whose squares float64 must hold
ROUNDING = 1e-15  # of an output of a row of length 1


def widest(problem: Problem, tolerance: float) -> tuple[Params, np.ndarray]:
    """(a network of the max margin, its weights α with Σα = 1).

    Raises:
      NotSeparable: where weights prove that no form separates.
      ValueError: for x whose squares leave the range of float64.
    """
    _check_size(problem.x)
    lengths = _lengths(problem.x)
    if not lengths.all():  # f = 0 on a row of zeros
        raise _not_separable(0.0)
    points, basis = row_space(problem.x / lengths[:, None])
    shares = np.maximum((lengths.min() / lengths) ** 2, RANGE[0])
    found = widest_form(points, problem.y, shares, tolerance)
    alpha, forms = problem.y * found.weights, [found.form]
    _check_separable(problem, alpha, lengths)
    if found.value <= 0:  # is it the long rows that nothing separates?
        of_unit_rows = widest_form(points, problem.y, np.ones(len(shares)), tolerance)
        _check_separable(problem, problem.y * of_unit_rows.weights, lengths)
        forms = [of_unit_rows.form]
    elif tolerance * found.value * shares.min() < ROUNDING:  # which would use up the margin
        more = shares + ROUNDING / found.value
        forms += [widest_form(points, problem.y, more, tolerance).form]
    alpha = alpha * shares / float(alpha @ shares)
    margin = lambda form: margin_of(points, problem.y, shares, form)
    networks = [_network(basis, _fewest(form, margin)) for form in forms]
    return max(networks, key=lambda one: proved(problem, one, alpha, np.inf)[0]), alpha


def least(problem: Problem, tolerance: float) -> tuple[Params, np.ndarray]:
    """(a network of the smallest F_λ, its weights b).

    Raises:
      ValueError: for λ or x that leave the range of float64.
    """
    _check_size(problem.x)
    shift = -int(row_exponents(problem.x).max())
    with np.errstate(over="ignore"):  # x·2^shift is solved, with λ·4^shift
        mu = float(np.ldexp(_lam(problem) / VALUE, 2 * shift))
    if not RANGE[0] <= mu <= RANGE[1]:
        raise ValueError(
            f"lam divided by the longest row's squared length must lie between {RANGE[0]} and "
            f"{RANGE[1]}, got about {mu * VALUE:.1e}"
        )
    lengths = _lengths(problem.x)
    rows = problem.x[lengths > 0] / lengths[lengths > 0, None]
    basis = row_space(rows)[1]
    points = np.ldexp(problem.x, shift) @ basis
    found = least_form(points, problem.y, problem.loss, mu, tolerance)
    value = DUALS[problem.loss].value
    loss = lambda form: float(np.mean(value(outputs_of(points, form), problem.y) / mu))
    form = _fewest(found.form, lambda form: -loss(form) - nuclear_norm(form))
    return _network(basis, np.ldexp(form, 2 * shift)), found.weights * (len(points) * mu)


def better(problem: Problem, one: Params, other: Params) -> Params:
    """The network of the wider margin, or of the smaller F; the first where they are equal."""
    return max(one, other, key=lambda params: _score(problem, params))


def _score(problem: Problem, params: Params) -> float:
    first, last = params
    outputs = ((problem.x @ first) ** 2 @ last)[:, 0]
    cost = float((np.sum(first**2, axis=0) + last[:, 0] ** 2) ** 1.5 @ np.ones(len(last)))
    if problem.is_margin:
        return float((problem.y * outputs).min()) / (cost or 1.0)
    return -float(np.mean(DUALS[problem.loss].value(outputs, problem.y))) - _lam(problem) * cost


def _lam(problem: Problem) -> float:
    return float(problem.lam or 0.0)


def largest(problem: Problem, dual: np.ndarray) -> flint.arb:
    """2κ‖Σ cᵢxᵢxᵢᵀ‖_op of the problem's weights c of `dual`, from above: M of `proofs.proved`.

    With Q of float64's eigenvectors and E = QᵀQ − I it is at most ‖QᵀCQ‖/(1 − ‖E‖); sums of the
    sizes in a row bound both norms (Gershgorin).
    """
    with precision(bits(problem)):
        x, c = balls(problem.x), problem.weights(dual)
        form = product((c[:, None] * x).T, x)
        size = max(abs(entry.mid()) for entry in form.ravel())
        if size == 0:
            return _row_sum(form)
        q = balls(np.linalg.eigh(symmetric(rounded(form / size)))[1])
        rotated = product(product(q.T, form), q)
        error = _row_sum(product(q.T, q) - balls(np.eye(len(q))))
        return _row_sum(rotated) / (1 - error) * 4 / flint.arb(27).sqrt()


def _row_sum(matrix: np.ndarray) -> flint.arb:
    return max(row.sum() for row in abs(matrix))


def _network(basis: np.ndarray, form: np.ndarray) -> Params:
    """One neuron for each eigenvector, ‖u‖² = 2w²: there its norm is the least."""
    values, vectors = np.linalg.eigh(form)
    values, vectors = values[values != 0], vectors[:, values != 0]
    last = np.cbrt(values / 2)
    return basis @ (vectors * (2**0.5 * np.abs(last))), last[:, None]


def _fewest(form: np.ndarray, value: Callable[[np.ndarray], float]) -> np.ndarray:
    """The form without its smallest eigenvalues, as many as leave the value as it is, or nearly."""
    values, vectors = np.linalg.eigh(form)
    sizes = np.abs(values)
    if not sizes.any():
        return form
    kept = [np.where(sizes > share * sizes.sum(), values, 0.0) for share in SHARES]
    forms = [(vectors * some) @ vectors.T for some in kept]
    worth = np.array([value(some) for some in forms])
    return forms[int(np.flatnonzero(worth >= worth.max() - 1e-13 * abs(worth.max()))[-1])]


def _check_size(x: np.ndarray) -> None:
    size = float(np.abs(x).max())
    if not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(
            f"data.x must have its largest entry between {SIZES[0]} and {SIZES[1]} in size, whose "
            f"square float64 holds, got {size}"
        )


def _check_separable(problem: Problem, weights: np.ndarray, lengths: np.ndarray) -> None:
    """Whether `weights`, ≥ 0 of the rows at unit length, prove that no form separates."""
    rows = problem._replace(x=problem.x / lengths[:, None])
    if VALUE * operator_norm(form_of(rows.x, weights * rows.y)) > 2 * SEPARABLE * weights.sum():
        return
    margin = above(largest(rows, weights) / 2 / float(weights.sum()))
    if margin <= SEPARABLE:
        raise _not_separable(margin)


def _not_separable(margin: float) -> NotSeparable:
    return NotSeparable(
        "data must be separable by a quadratic form xᵀAx: weights on the samples bound the "
        f"normalized margin of the rows at unit length by {margin:.1e}"
    )


def _lengths(x: np.ndarray) -> np.ndarray:
    """‖xᵢ‖, also where its square would leave the range of float64."""
    sizes = np.abs(x).max(axis=1)
    return sizes * np.linalg.norm(x / np.where(sizes > 0, sizes, 1.0)[:, None], axis=1)
