"""Kernel predictors against clarabel, scipy and their own optimality conditions."""

import itertools

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkreg import kernel_machines
from ntkreg.data import noisy_xor
from ntkreg.kernel_machines import (
    NotSeparable,
    hard_margin_svm,
    logistic_path,
    min_norm_interpolant,
    ridge,
)
from ntkreg.kernels import ntk
from ntkreg.networks import fully_connected


def on_D(n=40, dim=6):
    data = noisy_xor(jax.random.key(0), n, dim)
    return ntk(fully_connected(2, 1), data.x), data.y


def gaussian(n=40, rank=50, seed=0):
    """A Wishart Gram matrix and random labels: separable where rank ≥ n."""
    first, second = jax.random.split(jax.random.key(seed))
    x = jax.random.normal(first, (n, rank))
    return x @ x.T, jax.random.rademacher(second, (n,), float)


def low_rank(n=40, dim=3):
    """A linear kernel of rank 3 and labels that a linear function gives with some margin."""
    x = jax.random.normal(jax.random.key(0), (4 * n, dim))
    scores = x @ jnp.ones(dim)
    kept = jnp.argsort(-jnp.abs(scores))[:n]
    return x[kept] @ x[kept].T, jnp.sign(scores[kept])


def clarabel_margin(gram, labels):
    """The best margin by the QP min ½αᵀQα − 1ᵀα, α ≥ 0: 1/√(Σα) at its solution."""
    y, n = np.asarray(labels), len(labels)
    scale = np.diag(gram).max()
    q = scipy.sparse.csc_matrix(np.triu(np.outer(y, y) * np.asarray(gram) / scale))
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-12
    minus = scipy.sparse.csc_matrix(-np.eye(n))
    cones = [clarabel.NonnegativeConeT(n)]
    solution = clarabel.DefaultSolver(q, -np.ones(n), minus, np.zeros(n), cones, settings).solve()
    return np.sqrt(scale / sum(solution.x))


PROBLEMS = {"D": on_D, "gaussian": gaussian, "low rank": low_rank}
# The active set is made for positive definite matrices.
SOLVED = [
    *(("interior_point", problem) for problem in PROBLEMS),
    ("active_set", "D"),
    ("active_set", "gaussian"),
]


@pytest.mark.parametrize("problem", PROBLEMS)
def test_svm_agrees_with_clarabel(problem):
    gram, labels = PROBLEMS[problem]()
    found = hard_margin_svm(gram, labels)
    np.testing.assert_allclose(found.margin, clarabel_margin(gram, labels), rtol=1e-7)


@pytest.mark.parametrize(("solver", "problem"), SOLVED)
def test_both_bounds_hold_when_computed_again(problem, solver):
    """The lower from f = Kβ, the upper from α = yβ by weak duality, in numpy."""
    gram, labels = map(np.asarray, PROBLEMS[problem]())
    found = hard_margin_svm(jnp.asarray(gram), jnp.asarray(labels), solver)
    beta = np.asarray(found.coefficients)
    alpha = labels * beta
    assert (alpha >= 0).all()
    norm = np.sqrt(beta @ gram @ beta)
    margins = labels * (gram @ beta)
    np.testing.assert_allclose(margins.min(), 1, rtol=1e-9)
    np.testing.assert_allclose(found.margin, margins.min() / norm, rtol=1e-9)
    np.testing.assert_allclose(found.margin_upper, norm / alpha.sum(), rtol=1e-9)
    assert found.margin <= found.margin_upper * (1 + 1e-12)
    gap = (found.margin_upper - found.margin) / found.margin_upper
    np.testing.assert_allclose(found.relative_gap, gap, atol=1e-12)


def test_gap_is_tiny_at_four_hundred_samples():
    gram, labels = on_D(400, 10)
    found = hard_margin_svm(gram, labels)
    assert -1e-12 < found.relative_gap <= 1e-8
    assert found.num_iterations < 40


def test_svm_on_a_line_by_hand():
    """x = 1, 3 with +1 and −2 with −1, linear kernel: f = x, margin 1 from the nearest alone."""
    x, labels = jnp.array([1.0, 3.0, -2.0]), jnp.array([1.0, 1.0, -1.0])
    found = hard_margin_svm(jnp.outer(x, x), labels)
    np.testing.assert_allclose(found.margin, 1, rtol=1e-9)
    np.testing.assert_allclose(x @ found.coefficients, 1, rtol=1e-9)


@settings(max_examples=5)
@given(st.integers(0, 1000), st.floats(1e-6, 1e6))
def test_margin_scales_with_the_root_of_the_kernel(seed, scale):
    gram, labels = gaussian(seed=seed)
    one, other = hard_margin_svm(gram, labels), hard_margin_svm(scale * gram, labels)
    np.testing.assert_allclose(other.margin, one.margin * np.sqrt(scale), rtol=1e-8)


def repeated(gram, labels):
    rows = np.r_[np.arange(len(labels)), np.arange(len(labels))]
    return gram[np.ix_(rows, rows)], labels[rows]


def test_repeated_samples_do_not_change_the_margin():
    once, twice = hard_margin_svm(*on_D()), hard_margin_svm(*repeated(*on_D()))
    np.testing.assert_allclose(twice.margin, once.margin, rtol=1e-8)
    assert twice.relative_gap < 1e-8


def test_opposite_labels_of_one_sample_are_not_separable():
    gram, labels = repeated(*on_D())
    with pytest.raises(NotSeparable, match="separates the 80 samples"):
        hard_margin_svm(gram, labels.at[0].multiply(-1))


@pytest.mark.parametrize("seed", range(3))
def test_random_labels_of_low_rank_are_not_separable(seed):
    with pytest.raises(NotSeparable, match="zero up to rounding"):
        hard_margin_svm(*gaussian(40, 3, seed))


def test_a_zero_kernel_separates_nothing():
    with pytest.raises(NotSeparable):
        hard_margin_svm(jnp.zeros((2, 2)), jnp.array([1.0, -1.0]))


@pytest.mark.parametrize("label", [1.0, -1.0])
def test_one_sample(label):
    found = hard_margin_svm(jnp.array([[4.0]]), jnp.array([label]))
    np.testing.assert_allclose(found.margin, 2, rtol=1e-9)
    np.testing.assert_allclose(found.coefficients, [label / 4], rtol=1e-9)


@pytest.mark.parametrize("label", [1.0, -1.0])
def test_one_class_only(label):
    """Without bias the margin is the distance of the convex hull from the origin: here 2^(−1/2)."""
    found = hard_margin_svm(jnp.eye(2), jnp.full(2, label))
    np.testing.assert_allclose(found.margin, 0.5**0.5, rtol=1e-9)
    np.testing.assert_allclose(found.coefficients, [label, label], rtol=1e-9)


@pytest.mark.parametrize("problem", ["D", "gaussian"])
def test_active_set_agrees_with_interior_point(problem):
    gram, labels = PROBLEMS[problem]()
    first, second = (hard_margin_svm(gram, labels, s) for s in ("interior_point", "active_set"))
    np.testing.assert_allclose(second.margin, first.margin, rtol=1e-8)


def test_active_set_certifies_a_float32_matrix_to_a_millionth():
    """Rounding α or the sums to float32 would leave a gap above 1e-6."""
    gram, labels = on_D(2100, 30)
    found = hard_margin_svm(gram.astype(jnp.float32), labels, tolerance=1e-6)
    q = labels * (np.asarray(gram.astype(jnp.float32), np.float64) @ found.coefficients)
    upper = np.sqrt(q @ (labels * found.coefficients)) / np.abs(found.coefficients).sum()
    lower = q.min() / np.sqrt(q @ (labels * found.coefficients))
    assert 0 <= 1 - lower / upper < 1.01e-6
    np.testing.assert_allclose(found.margin, lower, rtol=1e-10)


def test_auto_factorises_where_the_active_set_does_not_settle(monkeypatch):
    gram, labels = low_rank(60, 12)
    assert not hard_margin_svm(gram, labels, "active_set").relative_gap < 1e-8
    monkeypatch.setattr(kernel_machines, "SMALL", 10)
    assert hard_margin_svm(gram, labels).relative_gap < 1e-8


@pytest.mark.parametrize(("solver", "problem"), SOLVED)
def test_svm_works_in_float32(problem, solver):
    gram, labels = PROBLEMS[problem]()
    found = hard_margin_svm(gram.astype(jnp.float32), labels.astype(jnp.float32), solver)
    assert {leaf.dtype for leaf in found[:4]} == {jnp.dtype(jnp.float64)}
    np.testing.assert_allclose(found.margin, hard_margin_svm(gram, labels).margin, rtol=2e-3)


def test_svm_under_jit_and_vmap_is_the_plain_one():
    grams, labels = map(jnp.stack, zip(*(gaussian(seed=s) for s in range(3)), strict=True))
    batched = jax.jit(jax.vmap(hard_margin_svm))(grams, labels)
    for i in range(3):
        plain = hard_margin_svm(grams[i], labels[i])
        np.testing.assert_allclose(batched.margin[i], plain.margin, rtol=1e-9)
        np.testing.assert_allclose(
            labels[i] @ batched.coefficients[i], labels[i] @ plain.coefficients, rtol=1e-7
        )


def test_svm_under_jit_tells_by_the_margin_where_nothing_separates():
    found = jax.jit(hard_margin_svm)(*gaussian(40, 3))
    assert not found.margin > 0
    assert found.margin_upper < 1e-6


@pytest.mark.parametrize("problem", PROBLEMS)
def test_logistic_path_is_stationary(problem):
    """With ∂F/∂f = 0 in the kernel's space: 2λβᵢ = yᵢσ(−yᵢfᵢ)/n."""
    gram, labels = map(np.asarray, PROBLEMS[problem]())
    lams = np.array([1.0, 1e-2, 1e-4, 1e-6])
    path = logistic_path(jnp.asarray(gram), jnp.asarray(labels), jnp.asarray(lams))
    for beta, lam, reported in zip(*map(np.asarray, (path[0], lams, path[1])), strict=True):
        pull = labels / (1 + np.exp(labels * (gram @ beta))) / len(labels)
        error = np.linalg.norm(gram @ (2 * lam * beta - pull)) / np.linalg.norm(gram @ pull)
        assert error < 1e-8
        assert reported < 1e-6


def test_logistic_path_tends_to_the_max_margin_from_below():
    gram, labels = on_D()
    best = float(hard_margin_svm(gram, labels).margin)
    path = logistic_path(gram, labels, jnp.logspace(0, -9, 4))
    ratios = [
        float(jnp.min(labels * (gram @ beta)) / jnp.sqrt(beta @ gram @ beta)) / best
        for beta in path.coefficients
    ]
    assert all(a < b for a, b in itertools.pairwise(ratios))
    assert 0.8 < ratios[-1] < 1


def test_logistic_path_agrees_with_scipy():
    """Over the coordinates v of f = Lv with K = LLᵀ, where ‖f‖_H = ‖v‖."""
    gram, labels = map(np.asarray, gaussian(15, 20))
    root, lam = np.linalg.cholesky(gram), 0.01

    def value_and_gradient(v):
        q = labels * (root @ v)
        value = np.logaddexp(0, -q).mean() + lam * v @ v
        return value, -root.T @ (labels / (1 + np.exp(q))) / 15 + 2 * lam * v

    start = np.zeros(15)
    solved = scipy.optimize.minimize(value_and_gradient, start, jac=True, tol=1e-12)
    beta = logistic_path(jnp.asarray(gram), jnp.asarray(labels), jnp.array([lam])).coefficients[0]
    np.testing.assert_allclose(gram @ beta, root @ solved.x, rtol=1e-5)
    assert value_and_gradient(root.T @ beta)[0] <= solved.fun + 1e-12


@pytest.mark.parametrize("problem", PROBLEMS)
def test_ridge_solves_its_equation(problem):
    gram, labels = PROBLEMS[problem]()
    lams = jnp.array([1.0, 1e-3, 1e-5])
    betas = ridge(gram, labels, lams)
    assert betas.shape == (3, len(labels))
    for beta, lam in zip(betas, lams, strict=True):
        expected = gram @ beta + len(labels) * lam * beta
        np.testing.assert_allclose(expected, labels, rtol=1e-8, atol=1e-8)


def test_ridge_is_the_minimizer_of_its_objective():
    gram, targets = gaussian(40, 50)
    beta = ridge(gram, targets, jnp.array([0.1, 0.2, 0.3]))[0]
    value = lambda b: jnp.mean((gram @ b - targets) ** 2) + 0.1 * b @ gram @ b
    slope = jax.jit(lambda b: jnp.linalg.norm(jax.grad(value)(b)))
    assert float(slope(beta)) < 1e-10
    assert float(slope(1.01 * beta)) > 1e-3


def test_min_norm_interpolates_and_ridge_tends_to_it():
    gram, targets = gaussian()
    beta = min_norm_interpolant(gram, targets)
    np.testing.assert_allclose(gram @ beta, targets, rtol=1e-9)
    distances = [
        float(jnp.linalg.norm(near - beta)) for near in ridge(gram, targets, jnp.logspace(0, -8, 3))
    ]
    assert all(a > b for a, b in itertools.pairwise(distances))
    assert distances[-1] < 1e-4 * float(jnp.linalg.norm(beta))


def test_min_norm_of_repeated_samples_is_that_of_single_ones():
    once, (gram, targets) = gaussian(), repeated(*gaussian())
    beta, single = min_norm_interpolant(gram, targets), min_norm_interpolant(*once)
    np.testing.assert_allclose(gram @ beta, targets, rtol=1e-8)
    np.testing.assert_allclose(beta[:40] + beta[40:], single, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(beta @ gram @ beta, single @ once[0] @ single, rtol=1e-9)


def test_min_norm_is_least_squares_where_nothing_fits():
    gram, targets = gaussian(40, 3)
    found = gram @ min_norm_interpolant(gram, targets)
    expected = gram @ np.linalg.lstsq(gram, targets, rcond=1e-10)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


EYE, SIGNS = jnp.eye(3), jnp.array([1.0, -1.0, 1.0])
ALL = {
    "svm": hard_margin_svm,
    "logistic": lambda gram, labels: logistic_path(gram, labels, jnp.ones(1)),
    "ridge": lambda gram, labels: ridge(gram, labels, jnp.ones(1)),
    "min norm": min_norm_interpolant,
}


@pytest.mark.parametrize("machine", ALL)
@pytest.mark.parametrize(
    ("gram", "labels", "said"),
    [
        (EYE.at[1, 2].set(jnp.nan), SIGNS, "gram must be finite"),
        (EYE.at[1, 2].set(jnp.inf), SIGNS, "gram must be finite"),
        (EYE, SIGNS[:2], r"gram.*\(2, 2\).*got \(3, 3\)"),
        (EYE[:2], SIGNS, r"gram.*\(3, 3\).*got \(2, 3\)"),
        (EYE, SIGNS.at[1].set(jnp.nan), r"labels.*nan at \[1\]"),
    ],
)
def test_every_machine_names_bad_data(machine, gram, labels, said):
    with pytest.raises(ValueError, match=said):
        ALL[machine](gram, labels)


@pytest.mark.parametrize("machine", ["svm", "logistic"])
def test_classifiers_refuse_other_labels(machine):
    with pytest.raises(ValueError, match=r"labels must be −1 or \+1, got 0\.0 at \[2\]"):
        ALL[machine](EYE, SIGNS.at[2].set(0))


@pytest.mark.parametrize("machine", [ridge, logistic_path])
@pytest.mark.parametrize("lam", [0.0, -1.0, jnp.nan, jnp.inf])
def test_paths_refuse_lambdas_that_are_not_positive(machine, lam):
    with pytest.raises(ValueError, match="lams must be positive"):
        machine(EYE, SIGNS, jnp.array([1.0, lam]))


def test_unknown_solver_is_named():
    with pytest.raises(ValueError, match=r"solver.*interior_point.*'simplex'"):
        hard_margin_svm(EYE, SIGNS, "simplex")
