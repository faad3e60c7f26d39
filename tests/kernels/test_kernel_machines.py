"""Kernel predictors against clarabel, scipy and their own optimality conditions."""

import itertools

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import sklearn.svm
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkreg.data.dataset import noisy_xor
from ntkreg.kernels import kernel_machines
from ntkreg.kernels.kernel_machines import (
    NotSeparable,
    hard_margin_svm,
    logistic_path,
    min_norm_interpolant,
    ridge,
)
from ntkreg.kernels.tangent import ntk
from ntkreg.networks.network import fully_connected


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


def test_the_svm_ends_where_that_of_scikit_learn_does_but_for_its_bias():
    """On pairs ±x with labels ±1 the best bias is zero, so that both solve one problem."""
    x = np.random.default_rng(0).normal(size=(20, 30))
    x, y = np.concatenate([x, -x]), np.repeat([1.0, -1.0], 20)
    gram = x @ x.T
    machine = sklearn.svm.SVC(kernel="precomputed", C=1e8).fit(gram, y)
    beta = np.zeros(40)
    beta[machine.support_] = machine.dual_coef_[0]
    margin = float(hard_margin_svm(jnp.asarray(gram), jnp.asarray(y)).margin)
    np.testing.assert_allclose(1 / np.sqrt(beta @ gram @ beta), margin, rtol=2e-3)


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


COLLINEAR = np.array([0.1015625, 0.7001953125, -0.30029296875])


def parallel(seed):
    """Random points of which the second is an exact multiple of the first, with the other label."""
    rng = np.random.default_rng(seed)
    n, dim = (3, 25)[seed % 2], (2, 7)[seed // 2 % 2]
    x = rng.normal(size=(n, dim)).astype(np.float32)
    x[0] = np.round(x[0] * 2**12) / 2**12
    x[1] = (1, 0.75, 3, 5)[seed // 4 % 4] * x[0]
    labels = rng.choice([-1.0, 1.0], n)
    labels[1] = -labels[0]
    return x, labels


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_parallel_points_of_both_labels_are_never_separable(dtype):
    """f(cx) = cf(x) for every f of the space."""
    network = fully_connected(2, 1)
    for seed in range(32):
        x, labels = parallel(seed)
        with pytest.raises(NotSeparable):
            hard_margin_svm(ntk(network, jnp.asarray(x, dtype)), jnp.asarray(labels, dtype))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_point_and_three_times_it(dtype):
    """Nothing separates them; least squares of f(3a) = 3f(a) to 1 and −1 is f(a) = −0.2."""
    x = jnp.asarray(np.stack([COLLINEAR, 3 * COLLINEAR, [0.5, 0.25, 1]]), dtype)
    gram, labels = ntk(fully_connected(2, 64), x), jnp.asarray([1, -1, 1], dtype)
    with pytest.raises(NotSeparable):
        hard_margin_svm(gram, labels)
    outputs = gram @ min_norm_interpolant(gram, labels)
    np.testing.assert_allclose(outputs, [-0.2, -0.6, 1], rtol=10 * jnp.finfo(dtype).eps)


C = 1 - 2.0**-20  # exact in float32


@pytest.mark.parametrize(
    ("gram", "dtype", "margin", "within"),
    [
        ([[1, C], [C, 1]], jnp.float32, ((1 - C) / 2) ** 0.5, 1e-3),
        (np.diag([1, 1e-16]), jnp.float64, 1e-8, 1e-6),
        (np.diag([1e8, 1, 1e-8]), jnp.float64, 1e-4, 1e-6),
        (np.diag([1e-30, 1e-36]), jnp.float32, 1e-18, 1e-3),
    ],
)
def test_small_margins_are_not_taken_for_none(gram, dtype, margin, within):
    """Of a diagonal matrix (Σ 1/Kᵢᵢ)^(−1/2); of two samples at the cosine c √((1 − c)/2)."""
    labels = jnp.array([1, -1, 1], dtype)[: len(gram)]
    found = hard_margin_svm(jnp.asarray(gram, dtype), labels)
    np.testing.assert_allclose(found.margin, margin, rtol=within)
    assert 0 <= found.relative_gap <= within and found.margin <= found.margin_upper


@pytest.mark.parametrize("solver", ["interior_point", "active_set"])
def test_a_long_sample_that_is_met_anyway_changes_nothing(solver):
    """2^k times sample 0, with its label: its margin is 2^k times as large, f the same."""
    gram, labels = gaussian(15)
    lengths = np.append(np.ones(15), 2.0**20)
    rows = np.append(np.arange(15), 0)
    longer = np.outer(lengths, lengths) * np.asarray(gram)[np.ix_(rows, rows)]
    found = hard_margin_svm(jnp.asarray(longer), labels[rows], solver)
    np.testing.assert_allclose(found.margin, hard_margin_svm(gram, labels).margin, rtol=1e-9)


def test_random_labels_of_many_points_in_space_are_not_separable():
    """Above the size that is factorised at once: the better of each bound decides."""
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.normal(size=(501, 3))), rng.choice([-1.0, 1.0], 501)
    with pytest.raises(NotSeparable, match="separates the 501 samples"):
        hard_margin_svm(x @ x.T, labels)


def test_the_better_of_each_bound_is_kept():
    of = lambda lower, upper: kernel_machines.HardMarginSVM(
        jnp.array([lower]), *map(jnp.asarray, (lower, upper, 1 - lower / upper)), jnp.int32(1)
    )
    kept = kernel_machines._better_of_each(of(1.0, 4.0), of(0.5, 2.0))
    assert (float(kept.margin), float(kept.margin_upper), float(kept.relative_gap)) == (1, 2, 0.5)
    assert float(kept.coefficients[0]) == 1


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


XS = np.linspace(-10 * np.pi, 10 * np.pi, 100)


def on_a_line(dtype):
    """Gram matrix of rank two, targets, and K between 1, 10, −20 and the points."""
    network, x = fully_connected(2, 64), jnp.asarray(XS[:, None], dtype)
    new = jnp.asarray([[1.0], [10.0], [-20.0]], dtype)
    return ntk(network, x), jnp.asarray(np.sin(XS) + np.sin(2 * XS), dtype), ntk(network, new, x)


def line_fit(lam):
    """The fit of span{relu(x), relu(−x)}: ‖w · relu(x)‖² = w² since K(x, x) = x²."""
    y = np.sin(XS) + np.sin(2 * XS)
    slope = lambda z: z @ y / (z @ z + 100 * lam)
    right, left = slope(np.maximum(XS, 0)), slope(np.maximum(-XS, 0))
    return [right, 10 * right, 20 * left]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_least_norm_on_a_line_is_least_squares(dtype):
    gram, targets, cross = on_a_line(dtype)
    found = cross @ min_norm_interpolant(gram, targets)
    np.testing.assert_allclose(found, [-0.00412, -0.0412, 0.0824], rtol=1e-3)
    np.testing.assert_allclose(found, line_fit(0), rtol=1e-4 if dtype == jnp.float32 else 1e-10)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_ridge_on_a_line_is_right_however_small_lambda_is(dtype):
    gram, targets, cross = on_a_line(dtype)
    lams = [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-12, 1e-20, 1e-35]
    for lam, beta in zip(lams, ridge(gram, targets, jnp.asarray(lams, dtype)), strict=True):
        within = 1e-3 if dtype == jnp.float32 else 1e-6
        np.testing.assert_allclose(cross @ beta, line_fit(lam), rtol=within)


def test_min_norm_of_samples_of_any_length_interpolates():
    gram = jnp.diag(jnp.array([1.0, 1e-20, 1e20]))
    np.testing.assert_allclose(min_norm_interpolant(gram, jnp.ones(3)), [1, 1e20, 1e-20])


IRIS = np.array(
    [
        [5.1, 3.5, 1.4, 0.2],
        [4.9, 3.0, 1.4, 0.2],
        [7.0, 3.2, 4.7, 1.4],
        [6.4, 3.2, 4.5, 1.5],
        [6.3, 3.3, 6.0, 2.5],
        [5.1, 3.5, 1.4, 0.2],
    ]
)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_logistic_path_of_one_sample_with_both_labels(dtype):
    """There f tends to 0, where stationarity gives |β| = 1/(4nλ) of both."""
    gram = jnp.asarray(IRIS @ IRIS.T, dtype)
    labels, lams = jnp.asarray([1, 1, -1, -1, 1, -1], dtype), np.array([1e-2, 1e-6, 1e-10])
    path = logistic_path(gram, labels, jnp.asarray(lams, dtype))
    assert path.coefficients.dtype == dtype
    assert (path.gradient_norm < 1e-5).all()
    limit = 1 / (4 * 6 * lams[-1])
    np.testing.assert_allclose(path.coefficients[-1, [0, 5]], [limit, -limit], rtol=1e-3)
    traced = jax.jit(logistic_path)(gram, labels, jnp.asarray(lams, dtype))
    assert np.isfinite(traced.coefficients).all()


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
        (EYE, SIGNS[:, None], r"labels must be of shape \(n,\), got \(3, 1\)"),
        (EYE[:0, :0], SIGNS[:0], r"gram must have shape \(0, 0\) for 0 labels"),
        (EYE * 1j, SIGNS, "gram must hold real numbers, got complex"),
        (EYE, ["a", "b", "c"], "labels must hold real numbers, got <U1"),
        (EYE.at[0, 1].set(1e-3), SIGNS, "gram must be symmetric, got .* differ by 0.001"),
        (-EYE, SIGNS, "gram must be positive semidefinite, got an eigenvalue of -1$"),
        ([[1, 2], [2, 1]], [1, 1], "positive semidefinite, got an eigenvalue of -1$"),
        (jnp.eye(600).at[3, 4].set(2.0).at[4, 3].set(2.0), np.ones(600), "an eigenvalue of -1$"),
        (jnp.eye(600).at[3, 3].set(-2.0), np.ones(600), "an eigenvalue of -2$"),
        (jnp.eye(600).at[3, 4].set(jnp.nan), np.ones(600), "gram must be finite"),
        (jnp.eye(600).at[3, 4].set(0.1), np.ones(600), "gram must be symmetric.*0.1"),
    ],
)
def test_every_machine_names_bad_data(machine, gram, labels, said):
    with pytest.raises(ValueError, match=said):
        ALL[machine](gram, labels)


def first_array(result):
    return np.asarray(jax.tree.leaves(result)[0])


@pytest.mark.parametrize("machine", ALL)
def test_integers_and_half_precision_are_computed_in_floats(machine):
    gram, labels = np.array([[2, 1, 0], [1, 2, 1], [0, 1, 2]]), np.array([1, -1, 1])
    wanted = first_array(ALL[machine](jnp.asarray(gram, float), jnp.asarray(labels, float)))
    np.testing.assert_allclose(first_array(ALL[machine](gram, labels)), wanted, rtol=1e-12)
    for dtype in (jnp.float16, jnp.bfloat16):
        found = first_array(ALL[machine](jnp.asarray(gram, dtype), labels))
        np.testing.assert_allclose(found, wanted, rtol=1e-3)


@pytest.mark.parametrize("machine", ALL)
def test_rounding_of_a_kernel_is_no_fault_of_a_gram_matrix(machine):
    """√ε, as kernels of convolutional networks have between a point and itself."""
    gram, labels = on_D()
    noisy = gram + 1e-8 * jax.random.normal(jax.random.key(0), gram.shape)
    assert np.isfinite(first_array(ALL[machine](noisy, labels))).all()


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
