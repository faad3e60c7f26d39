"""The ℓ1-SVM over a finite dictionary: duality, hand-solved cases, and what networks make of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkreg.certificates.certified import max_margin
from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.kernels import l1_machines
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.kernels.l1_machines import Unsolved, circle, l1_svm, l2_margin, relu_dictionary
from ntkreg.networks.network import fully_connected
from ntkreg.training.margins import normalized_margin
from ntkreg.training.trainers import train


def sphere(num_neurons, dim, seed=0):
    u = np.random.default_rng(seed).normal(size=(num_neurons, dim))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def on_D(num_neurons=400, n=30, dim=5):
    data = noisy_xor(jax.random.key(0), n, dim)
    return sphere(num_neurons, dim), np.asarray(data.x), np.asarray(data.y)


def random_labels(seed=0, num_neurons=400, n=20, dim=6):
    rng = np.random.default_rng(seed)
    labels = rng.choice([-1.0, 1.0], n)
    return sphere(num_neurons, dim, seed), rng.normal(size=(n, dim)), labels


PROBLEMS = {"D": on_D, "random labels": random_labels}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_both_bounds_hold_when_computed_again_and_meet(problem):
    neurons, x, y = PROBLEMS[problem]()
    features = relu_dictionary(neurons, x)
    found = l1_svm(features, y)
    assert np.abs(found.weights).sum() == pytest.approx(1, rel=1e-12)
    assert found.alpha.sum() == pytest.approx(1, rel=1e-12) and (found.alpha >= 0).all()
    np.testing.assert_allclose(found.lower, (y * (features @ found.weights)).min(), rtol=1e-12)
    np.testing.assert_allclose(found.upper, np.abs((y * found.alpha) @ features).max(), rtol=1e-12)
    assert -1e-12 <= 1 - found.lower / found.upper <= 1e-8


@settings(max_examples=5)
@given(st.integers(0, 1000))
def test_margin_agrees_with_the_dual_programme_in_one_piece(seed):
    """min s with |Σ αᵢyᵢφⱼ(xᵢ)| ≤ s for all j at once, α in the simplex."""
    neurons, x, y = random_labels(seed, num_neurons=150, n=10)
    features = relu_dictionary(neurons, x)
    signed = (y[:, None] * features).T
    minus_s = -np.ones((150, 1))
    dual = scipy.optimize.linprog(
        np.append(np.zeros(10), 1.0),
        A_ub=np.vstack([np.hstack([signed, minus_s]), np.hstack([-signed, minus_s])]),
        b_ub=np.zeros(300),
        A_eq=np.append(np.ones(10), 0.0)[None],
        b_eq=[1.0],
    )
    assert l1_svm(features, y).lower == pytest.approx(dual.fun, rel=1e-7)


def test_two_features_by_hand():
    """Each sample has its own: 2a₁ = −a₂ with |a₁| + |a₂| = 1, so 2/3, and α is the same split."""
    found = l1_svm(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0]))
    np.testing.assert_allclose(found.weights, [1 / 3, -2 / 3], rtol=1e-10)
    np.testing.assert_allclose(found.alpha, [1 / 3, 2 / 3], rtol=1e-10)
    np.testing.assert_allclose([found.lower, found.upper], 2 / 3, rtol=1e-10)


def test_a_better_feature_takes_all_the_weight():
    """A third one, ±1 with the label, has margin 1 alone."""
    found = l1_svm(np.array([[2.0, 0.0, 1.0], [0.0, 1.0, -1.0]]), np.array([1.0, -1.0]))
    assert found.lower == pytest.approx(1, rel=1e-10)
    assert found.weights[2] == pytest.approx(1, rel=1e-10)


@given(st.floats(1e-6, 1e6))
def test_margin_scales_with_the_features(scale):
    neurons, x, y = random_labels(num_neurons=60, n=8)
    features = relu_dictionary(neurons, x)
    assert l1_svm(scale * features, y).lower == pytest.approx(
        scale * l1_svm(features, y).lower, rel=1e-8
    )


def test_twenty_thousand_neurons_are_certified():
    neurons, x, y = on_D(20_000, 60, 10)
    found = l1_svm(relu_dictionary(neurons, x), y)
    assert 1 - found.lower / found.upper <= 1e-8
    assert 0 < np.count_nonzero(found.weights) <= 61


def test_the_planted_neurons_have_margin_one_quarter_on_D():
    """In F1 normalisation; half of it is the 1/8 of ‖Θ‖ ≤ 1. Other neurons raise it on a sample."""
    neurons, x, y = on_D(n=60)
    planted = np.zeros((4, 5))
    planted[[0, 1], 0], planted[[2, 3], 1] = (1, -1), (1, -1)
    found = l1_svm(relu_dictionary(planted, x), y)
    assert found.lower == pytest.approx(0.25, rel=1e-10)
    more = l1_svm(relu_dictionary(np.vstack([planted, neurons]), x), y)
    assert more.lower >= 0.25 - 1e-12


def line():
    """A handful of points of alternating classes on a line, as (x, 1)."""
    points = np.array([-2.0, -1.1, -0.3, 0.4, 1.2, 1.9])
    return np.stack([points, np.ones(6)], axis=1), np.array([1.0, -1.0, -1.0, 1.0, 1.0, -1.0])


@pytest.mark.parametrize(
    ("length", "within"), [(3, 0.01), pytest.param(6, 0.005, marks=pytest.mark.slow)]
)
def test_a_network_on_a_line_tends_to_half_the_l1_margin(length, within):
    """The one-dimensional experiment, down to λ = 1e-14 and 1e-100: a circle of 1000 neurons
    against training."""
    x, y = line()
    half = l1_svm(relu_dictionary(circle(1000), x), y).lower / 2
    data, network = Dataset(jnp.asarray(x), jnp.asarray(y)), fully_connected(2, 64)
    path = [1e-4, 1e-8, 1e-14, 1e-32, 1e-64, 1e-100][:length]
    options = {"lam": path, "learning_rate": 0.1, "num_steps": 8000}
    runs = [train(network, data, key=jax.random.key(s), **options) for s in range(2)]
    found = max(float(normalized_margin(network, run.params, data)) for run in runs)
    assert 1 - within < found / half < 1 + 1e-4  # the circle has gaps


def test_circle_is_evenly_spaced_and_unit():
    neurons = circle(8)
    np.testing.assert_allclose(np.linalg.norm(neurons, axis=1), 1, rtol=1e-15)
    np.testing.assert_allclose(neurons[[0, 2]], [[1, 0], [0, 1]], atol=1e-15)
    np.testing.assert_allclose((neurons * np.roll(neurons, 1, axis=0)).sum(1), 0.5**0.5, rtol=1e-12)
    assert circle().shape == (1000, 2)


def test_relu_dictionary_is_its_formula():
    neurons, x, _ = random_labels(num_neurons=5, n=3)
    features = relu_dictionary(neurons, x)
    assert features.shape == (3, 5)
    assert features[1, 4] == pytest.approx(max(neurons[4] @ x[1], 0))
    assert relu_dictionary(neurons.astype(np.float32), x).dtype == np.float64


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("seed", range(3))
def test_l2_margin_is_at_most_the_l1_margin(problem, seed):
    _, x, y = PROBLEMS[problem]()
    neurons = sphere(400, x.shape[1], seed)
    other = l2_margin(x, y, neurons)
    assert 0 < other <= l1_svm(relu_dictionary(neurons, x), y).lower


def test_l1_and_l2_are_equal_with_one_neuron():
    x, y = np.array([[1.0, 0.5], [2.0, -1.0]]), np.ones(2)
    neurons = np.array([[1.0, 0.0]])
    assert l2_margin(x, y, neurons) == pytest.approx(1, rel=1e-9)
    assert l1_svm(relu_dictionary(neurons, x), y).lower == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_l2_margin_tends_to_the_kernels_with_uniform_neurons(problem):
    _, x, y = PROBLEMS[problem]()
    neurons = sphere(40_000, x.shape[1], seed=1)
    np.testing.assert_allclose(l2_margin(x, y, neurons), l2_margin(x, y), rtol=0.02)


@pytest.mark.parametrize(
    "lengths", [[1, 1e-10], [1e-10, 1], [1e8, 1, 1e-8], [1e-200, 1e-190], [1e100, 1]]
)
def test_margins_of_samples_of_any_length(lengths):
    """Each with a feature of its own: 1/Σ(1/φᵢ)."""
    signs = np.array([1.0, -1.0, 1.0])[: len(lengths)]
    found = l1_svm(np.diag(lengths), signs)
    expected = 1 / sum(1 / np.array(lengths))
    np.testing.assert_allclose([found.lower, found.upper], expected, rtol=1e-6)
    assert found.lower <= found.upper


def test_a_short_sample_beside_long_ones_that_share_its_features():
    """Rows times positive numbers: more margin for the long ones does not lessen the least."""
    neurons, x, y = random_labels(num_neurons=60, n=8)
    features = relu_dictionary(neurons, x)
    lengths = 10.0 ** np.array([-7, 0, 3, 0, 0, 0, 0, 0])
    found = l1_svm(lengths[:, None] * features, y)
    assert 0 < found.lower <= found.upper <= found.lower * (1 + 1e-6)


def test_nothing_separates_one_sample_with_both_labels():
    neurons, x, y = on_D()
    x, y = np.vstack([x, x[:1]]), np.append(y, -y[0])
    with pytest.raises(NotSeparable, match=r"400 features separates the 31 samples.*is at most"):
        l1_svm(relu_dictionary(neurons, x), y)
    with pytest.raises(NotSeparable):
        l2_margin(x, y, neurons)


def test_features_that_are_zero_separate_nothing():
    with pytest.raises(NotSeparable, match="at most 0"):
        l1_svm(np.zeros((2, 3)), np.array([1.0, -1.0]))


ONES, SIGNS = np.ones((3, 2)), np.array([1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: l1_svm(ONES, SIGNS[:2]), r"features.*got \(3, 2\) and \(2,\)"),
        (lambda: l1_svm(ONES[0], SIGNS), r"features.*got \(2,\) and \(3,\)"),
        (lambda: l1_svm(ONES[:, :0], SIGNS), r"features.*got \(3, 0\)"),
        (lambda: l1_svm(ONES * np.nan, SIGNS), "features must be finite"),
        (lambda: l1_svm(ONES, 2 * SIGNS), r"y must be −1 or \+1, got 2\.0 at \[0\]"),
        (lambda: relu_dictionary(np.eye(3), ONES), r"neurons.*got \(3, 3\) and \(3, 2\)"),
        (lambda: relu_dictionary(np.diag([1.0, 2.0]), ONES), r"neurons.*got 2\.0 at \[1\]"),
        (lambda: circle(0), "num_neurons.*got 0"),
        (lambda: l2_margin(ONES, SIGNS, 3 * np.eye(2)), r"neurons.*got 3\.0 at \[0\]"),
        (lambda: l2_margin(ONES, 2 * SIGNS), r"labels must be −1 or \+1, got 2\.0"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def giving_up(monkeypatch, times):
    """HiGHS finds nothing the first `times` calls."""
    solve, calls = scipy.optimize.linprog, []

    def linprog(*args, **options):
        calls.append(options["options"])
        if len(calls) <= times:
            return scipy.optimize.OptimizeResult(x=None, message="status unknown")
        return solve(*args, **options)

    monkeypatch.setattr(scipy.optimize, "linprog", linprog)
    return calls


def test_a_solver_that_gives_up_is_asked_for_less(monkeypatch):
    neurons, x, y = on_D()
    features = relu_dictionary(neurons, x)
    known = l1_svm(features, y)
    calls = giving_up(monkeypatch, 1)
    assert l1_svm(features, y).lower == pytest.approx(known.lower, rel=1e-6)
    first, second = (call["primal_feasibility_tolerance"] for call in calls[:2])
    assert first < second


def test_a_solver_that_gives_up_on_a_second_scaling_leaves_the_first(monkeypatch):
    neurons, x, y = on_D()
    features = relu_dictionary(neurons, x)
    known = l1_svm(features, y)
    solve, asked = l1_machines._scaled_solution, []

    def scaled_solution(*args):
        asked.append(args)
        if len(asked) > 1:
            raise Unsolved("given up")
        return solve(*args)

    monkeypatch.setattr(l1_machines, "_scaled_solution", scaled_solution)
    monkeypatch.setattr(l1_machines, "CLOSED", -1.0)
    found = l1_svm(features, y)
    assert len(asked) == 3 and found.lower == known.lower


def test_a_solver_that_gives_up_for_good_is_told_and_ends_no_certificate(monkeypatch):
    neurons, x, y = on_D()
    giving_up(monkeypatch, np.inf)
    with pytest.raises(Unsolved, match="HiGHS gave no solution: status unknown"):
        l1_svm(relu_dictionary(neurons, x), y)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 3)), np.where(np.arange(12) % 2, 1.0, -1.0)
    found = max_margin(Dataset(x, y))
    assert 0 < found.lower <= found.upper and found.gap < 1e-3
