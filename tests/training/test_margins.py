"""Margins, their normalisation, and the dual weights."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.networks.network import Network, fully_connected
from ntkreg.training.margins import (
    activation_patterns,
    dual_weighted_margin,
    dual_weights,
    margin_pairs,
    margins,
    normalized_margin,
)
from ntkreg.training.objectives import Loss, get_loss

LOGISTIC, CROSS_ENTROPY = get_loss("logistic"), get_loss("cross_entropy")
DATA = noisy_xor(jax.random.key(0), 15, 5)
LINEAR = fully_connected(1, 1)


def random_network(seed, depth=3):
    network = fully_connected(depth, 6)
    return network, network.init(jax.random.key(seed), 5)


def with_margins(q):
    """A linear network and data on which its margins are q."""
    q = jnp.asarray(q)
    return LINEAR, (jnp.ones((1, 1)),), Dataset(q[:, None], jnp.ones(q.shape[0]))


@pytest.mark.parametrize("dim", [3, 10])
def test_planted_four_neurons_have_margin_one_eighth_on_D(dim):
    """u = ±e₁ with w = 1 and ±e₂ with w = −1: y f(x) = 1 at every x of D, and ‖Θ‖² = 8."""
    first = np.zeros((dim, 4))
    first[0, :2], first[1, 2:] = (1, -1), (1, -1)
    params = (jnp.asarray(first), jnp.array([[1.0], [1.0], [-1.0], [-1.0]]))
    network, data = fully_connected(2, 4), noisy_xor(jax.random.key(0), 64, dim)
    assert np.array_equal(margins(network, params, data), np.ones(64))
    assert float(normalized_margin(network, params, data)) == pytest.approx(1 / 8, rel=1e-15)
    weighted = dual_weighted_margin(LOGISTIC, network, params, data)
    assert float(weighted) == pytest.approx(1 / 8, rel=1e-14)


@given(st.integers(0, 100), st.integers(1, 4), st.floats(0.01, 100.0))
def test_normalized_margin_does_not_see_the_scale(seed, depth, scale):
    network, params = random_network(seed, depth)
    one = normalized_margin(network, params, DATA)
    assert float(one) != 0
    other = normalized_margin(network, optax.tree.scale(scale, params), DATA)
    np.testing.assert_allclose(other, one, rtol=1e-10)


def test_normalized_margin_is_its_formula():
    network, params = random_network(0)
    norm = np.sqrt(sum((np.asarray(w) ** 2).sum() for w in params))
    expected = (np.asarray(DATA.y) * np.asarray(network.apply(params, DATA.x))).min() / norm**3
    np.testing.assert_allclose(normalized_margin(network, params, DATA), expected, rtol=1e-12)


@given(st.integers(0, 100))
def test_margins_of_several_classes_agree_with_brute_force(seed):
    outputs = jax.random.normal(jax.random.key(seed), (6, 4))
    labels = jax.random.randint(jax.random.key(seed + 1), (6,), 0, 4)
    network = Network(None, lambda params, x: params * x, None, 1)
    found = margins(network, jnp.asarray(1.0), Dataset(outputs, labels))
    expected = [
        min(f[y] - f[j] for j in range(4) if j != y)
        for f, y in zip(np.asarray(outputs), labels.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_margins_of_two_classes_are_those_of_the_difference():
    outputs = jax.random.normal(jax.random.key(0), (6, 2))
    labels = jnp.arange(6) % 2
    network = Network(None, lambda params, x: params * x, None, 1)
    found = margins(network, jnp.asarray(1.0), Dataset(outputs, labels))
    signed = (2.0 * labels - 1.0) * (outputs[:, 1] - outputs[:, 0])
    np.testing.assert_allclose(found, signed, rtol=1e-14)


@given(st.lists(st.floats(-300.0, 300.0), min_size=5, max_size=5))
def test_dual_weights_are_proportional_to_the_sigmoid(q):
    weights = np.asarray(dual_weights(LOGISTIC, *with_margins(q)))
    sigmoid = 1 / (1 + np.exp(q))
    assert weights.sum() == pytest.approx(1, rel=1e-13)
    np.testing.assert_allclose(weights, sigmoid / sigmoid.sum(), rtol=1e-10, atol=1e-300)


def test_dual_weights_of_the_exponential_loss_are_its_softmax():
    q = jnp.array([0.3, -2.0, 5.0])
    weights = dual_weights(get_loss("exponential"), *with_margins(q))
    np.testing.assert_allclose(weights, jax.nn.softmax(-q), rtol=1e-13)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_dual_weights_do_not_underflow_far_out(sign):
    """At q ~ 1e4 σ(−q) is 0 in float64, at q ~ −1e4 it is 1 for all samples."""
    weights = dual_weights(LOGISTIC, *with_margins(sign * jnp.array([1e4, 1e4 + 1, 1e4 + 50])))
    expected = jax.nn.softmax(-jnp.array([0.0, 1.0, 50.0])) if sign > 0 else jnp.full(3, 1 / 3)
    np.testing.assert_allclose(weights, expected, rtol=1e-10)


@given(st.integers(0, 100), st.floats(0.1, 10.0))
def test_dual_weighted_margin_is_at_least_the_normalized_margin(seed, scale):
    network, params = random_network(seed, 2)
    params = optax.tree.scale(scale, params)
    weighted = dual_weighted_margin(LOGISTIC, network, params, DATA)
    smallest = normalized_margin(network, params, DATA)
    assert float(weighted) > float(smallest)


def test_dual_weighted_margin_is_its_formula():
    network, params = random_network(4, 2)
    q = np.asarray(margins(network, params, DATA))
    sigmoid = 1 / (1 + np.exp(q))
    norm_squared = sum((np.asarray(w) ** 2).sum() for w in params)
    expected = (sigmoid @ q) / sigmoid.sum() / norm_squared
    weighted = dual_weighted_margin(LOGISTIC, network, params, DATA)
    np.testing.assert_allclose(weighted, expected, rtol=1e-11)


# Several classes ---------------------------------------------------------------------------------

OUTPUTS = Network(None, lambda params, x: params * x, None, 1)  # x themselves, times a number


def classes(seed, scale=1.0, n=6, k=4):
    """(network, params, data) of random outputs and labels."""
    outputs = scale * jax.random.normal(jax.random.key(seed), (n, k))
    return OUTPUTS, jnp.ones(()), Dataset(outputs, jnp.arange(n) % k)


def pairs_by_hand(data):
    """f_y − f_j for the classes after y, and round from the last to the first."""
    k = data.x.shape[1]
    return np.array(
        [
            [f[y] - f[(y + step) % k] for step in range(1, k)]
            for f, y in zip(np.asarray(data.x), data.y.tolist(), strict=True)
        ]
    )


@given(st.integers(0, 100))
def test_margin_pairs_are_differences_from_the_own_output_and_the_least_is_the_margin(seed):
    problem = classes(seed)
    pairs = margin_pairs(*problem)
    np.testing.assert_allclose(pairs, pairs_by_hand(problem[2]), rtol=1e-14)
    np.testing.assert_array_equal(margins(*problem), np.asarray(pairs).min(axis=1))


def test_margin_pairs_of_one_output_are_the_margins():
    network, params = random_network(3)
    pairs = margin_pairs(network, params, DATA)
    np.testing.assert_array_equal(pairs, DATA.y * network.apply(params, DATA.x))
    np.testing.assert_array_equal(margins(network, params, DATA), pairs)


@given(st.integers(0, 100), st.floats(0.1, 30.0))
def test_dual_weights_of_several_classes_are_the_slope_of_the_loss_in_the_pairs(seed, scale):
    """Σ log(1 + Σ_j e^(−pairᵢⱼ)) is the cross-entropy, and jax.grad its slope."""
    problem = classes(seed, scale)
    pairs, data = margin_pairs(*problem), problem[2]
    loss_of_pairs = lambda p: jnp.sum(jnp.log1p(jnp.sum(jnp.exp(-p), axis=1)))
    loss = jnp.sum(CROSS_ENTROPY.value(data.x, data.y))
    np.testing.assert_allclose(loss_of_pairs(pairs), loss, rtol=1e-10)
    slope = -jax.grad(loss_of_pairs)(pairs)
    weights = np.asarray(dual_weights(CROSS_ENTROPY, *problem))
    assert weights.shape == (6, 3)
    assert weights.sum() == pytest.approx(1, rel=1e-13)
    np.testing.assert_allclose(weights, slope / jnp.sum(slope), rtol=1e-9, atol=1e-300)


def test_dual_weights_of_several_classes_do_not_underflow_far_out():
    """Outputs of some thousands: all right, where softmax(f)ⱼ is 0 in float64; and all wrong."""
    right = jnp.array([[4e3, 0.0, -1.0], [0.0, 4e3, -50.0], [-2.0, -2.0, 4e3]])
    network, params, data = OUTPUTS, jnp.ones(()), Dataset(right, jnp.arange(3))
    weights = dual_weights(CROSS_ENTROPY, network, params, data)
    expected = jax.nn.softmax(-margin_pairs(network, params, data) + 4e3, axis=(0, 1))
    np.testing.assert_allclose(weights, expected, rtol=1e-10)
    wrong = Dataset(right, jnp.array([1, 2, 0]))
    weights = dual_weights(CROSS_ENTROPY, network, params, wrong)
    np.testing.assert_allclose(weights.max(axis=1), 1 / 3, rtol=1e-12)
    assert float(weights.sum()) == pytest.approx(1, rel=1e-12)


@given(st.integers(0, 100))
def test_dual_weights_at_outputs_of_thousands_are_finite_and_sum_to_one(seed):
    weights = np.asarray(dual_weights(CROSS_ENTROPY, *classes(seed, 1e3)))
    assert np.isfinite(weights).all() and weights.sum() == pytest.approx(1, rel=1e-12)


def test_dual_weights_of_another_loss_of_several_classes_are_its_own_slopes():
    """Σ_{j≠y} exp(f_j − f_y), of which no softmax over all outputs is the slope."""

    def log_value(f, y):
        others = jnp.where(jax.nn.one_hot(y, f.shape[-1], dtype=bool), -jnp.inf, f)
        own = jnp.take_along_axis(f, y[:, None], axis=-1)[:, 0]
        return jax.nn.logsumexp(others, axis=-1) - own

    loss = Loss(lambda f, y: jnp.exp(log_value(f, y)), log_value, "class")
    network, params, data = classes(3, 2.0)
    pairs = margin_pairs(network, params, data)
    expected = np.exp(-pairs) / np.exp(-pairs).sum()
    np.testing.assert_allclose(dual_weights(loss, network, params, data), expected, rtol=1e-12)


@given(st.integers(0, 100), st.floats(0.1, 1000.0))
def test_two_classes_have_the_weights_and_margins_of_the_logistic_loss_of_their_difference(
    seed, scale
):
    network, params, data = classes(seed, scale, k=2)
    signs = 2.0 * data.y - 1.0
    single = (LINEAR, (jnp.ones((1, 1)),), Dataset(jnp.diff(data.x, axis=1), signs))
    several = dual_weights(CROSS_ENTROPY, network, params, data)
    np.testing.assert_allclose(several[:, 0], dual_weights(LOGISTIC, *single), rtol=1e-9)
    found = dual_weighted_margin(CROSS_ENTROPY, network, params, data)
    np.testing.assert_allclose(found, dual_weighted_margin(LOGISTIC, *single), rtol=1e-9)


def test_dual_weighted_margin_of_several_classes_is_its_formula_and_at_least_the_margin():
    network, data = fully_connected(2, 6, 3), Dataset(DATA.x, jnp.arange(15) % 3)
    for seed in range(4):
        params = network.init(jax.random.key(seed), 5)
        outputs = np.asarray(network.apply(params, data.x))
        shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
        own = np.asarray(data.y)[:, None] == np.arange(3)
        alpha = np.where(own, 0.0, shares)
        pairs = (outputs * own).sum(axis=1, keepdims=True) - outputs
        norm_squared = sum((np.asarray(w) ** 2).sum() for w in params)
        expected = (alpha * pairs).sum() / alpha.sum() / norm_squared
        found = float(dual_weighted_margin(CROSS_ENTROPY, network, params, data))
        assert found == pytest.approx(expected, rel=1e-11)
        assert found > float(normalized_margin(network, params, data))


def test_activation_patterns_agree_with_brute_force():
    first, x = jnp.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0]]), jnp.array([[1.0, 0.0], [2.0, 3.0]])
    patterns = np.asarray(activation_patterns(first, x))
    assert patterns.shape == (2, 3) and patterns.dtype == bool
    for i, j in itertools.product(range(2), range(3)):
        assert patterns[i, j] == (float(first[:, j] @ x[i]) > 0)
