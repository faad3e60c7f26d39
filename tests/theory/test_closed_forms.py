"""Closed-form margins: reached by the networks they belong to and by training, and not exceeded."""

import functools
import itertools
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from samples import orthonormal, population

from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.kernels.kernel_machines import hard_margin_svm
from ntkreg.networks.network import fully_connected
from ntkreg.theory.closed_forms import (
    linear_margin,
    orthonormal_classes_margin,
    orthonormal_margin,
    orthonormal_quadratic_margin,
    planted_margin,
    planted_network,
    population_margin,
    population_margin_bound,
    population_network,
)
from ntkreg.training.margins import margin_pairs, margins, normalized_margin
from ntkreg.training.trainers import train

DEPTHS = range(2, 7)
PROVED, TRAINED = (
    [depth if depth <= least else pytest.param(depth, marks=pytest.mark.slow) for depth in DEPTHS]
    for least in (2, 3)
)


def orthonormal_classes(counts):
    """Class indices for labels."""
    labels = jnp.repeat(jnp.arange(len(counts)), jnp.array(counts))
    return Dataset(jnp.eye(sum(counts)), labels)


def linearly_separable():
    x = jax.random.normal(jax.random.key(5), (12, 4))
    return Dataset(x, jnp.sign(x @ jnp.ones(4)))


def svm_margin(data):
    return float(hard_margin_svm(data.x @ data.x.T, data.y).margin)


# depth: (learning rate, path of λ, steps for each). Deeper networks fall into f = 0 at larger
# rates, or where λ drops by too much at once.
PATH = (1e-4, 1e-16, 1e-64, 1e-250)
SETTINGS = {
    2: (0.1, PATH, 6000),
    3: (0.05, PATH, 6000),
    4: (0.05, PATH, 6000),
    5: (0.03, PATH, 8000),
    6: (0.02, (*PATH[:3], 1e-128, PATH[3]), 8000),
}


def trained_margins(data, depth, activation="relu", num_seeds=4, num_outputs=1):
    network = fully_connected(depth, 16, num_outputs, activation)
    rate, path, num_steps = SETTINGS[depth]
    options = {"lam": path, "learning_rate": rate, "num_steps": num_steps}
    options["loss"] = "logistic" if num_outputs == 1 else "cross_entropy"
    results = [train(network, data, key=jax.random.key(s), **options) for s in range(num_seeds)]
    return [float(normalized_margin(network, result.params, data)) for result in results]


@pytest.mark.parametrize("depth", [2, 3, 9])
@pytest.mark.parametrize("dim", [3, 10])
@pytest.mark.parametrize(
    ("weights", "margin"),
    [(planted_network, planted_margin), (population_network, population_margin)],
)
def test_networks_have_margin_one_and_the_closed_form_on_D(weights, margin, dim, depth):
    params, network = weights(dim, depth), fully_connected(depth, 2)
    for data in (population(3), noisy_xor(jax.random.key(0), 64, 10)):
        if data.x.shape[1] == dim:
            np.testing.assert_allclose(margins(network, params, data), 1, rtol=1e-12)
            found = float(normalized_margin(network, params, data))
            assert found == pytest.approx(margin(depth), rel=1e-12)


@pytest.mark.parametrize("depth", DEPTHS)
def test_planted_network_is_balanced_at_its_norm(depth):
    squares = [float(jnp.sum(weights**2)) for weights in planted_network(5, depth)]
    np.testing.assert_allclose(squares, 2 * 4 ** (1 / depth), rtol=1e-13)


def test_planted_network_of_depth_two_has_unit_weights():
    first, last = planted_network(4)
    np.testing.assert_array_equal(first[:2], [[1, -1, 0, 0], [0, 0, 1, -1]])
    np.testing.assert_array_equal(first[2:], 0)
    np.testing.assert_array_equal(last[:, 0], [1, 1, -1, -1])


@pytest.mark.parametrize("depth", DEPTHS)
def test_no_small_change_of_the_population_network_helps(depth):
    """On the population the margin falls in every one of 200 random directions."""
    network, data, params = fully_connected(depth, 2), population(3), population_network(3, depth)

    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def moved(direction):
        step = 1e-3 * jnp.linalg.norm(flat) * direction / jnp.linalg.norm(direction)
        return normalized_margin(network, unravel(flat + step), data)

    directions = jax.random.normal(jax.random.key(0), (200, flat.size))
    assert float(jnp.max(jax.vmap(moved)(directions))) < population_margin(depth)


@given(st.integers(0, 1000), st.integers(3, 7))
def test_a_unit_of_norm_one_gains_at_most_a_quarter_on_D(seed, dim):
    """E[y relu(uᵀx)] = ¼ E[max(|u₁|, |Z|) − max(|u₂|, |Z|)]: the proof at depth 2."""
    data = population(dim)
    u = np.random.default_rng(seed).normal(size=dim)
    u /= np.linalg.norm(u)
    z = np.abs(np.asarray(data.x)[:, 2:] @ u[2:])
    expected = np.mean(np.maximum(abs(u[0]), z) - np.maximum(abs(u[1]), z)) / 4
    gain = np.mean(np.asarray(data.y) * np.maximum(np.asarray(data.x) @ u, 0))
    assert gain == pytest.approx(expected, abs=1e-14)
    assert abs(gain) <= 0.25


@functools.cache
def class_points(dim):
    """D's classes, each with the axes (sign of the signal, noise, coordinate)."""
    return np.asarray(population(dim).x).reshape(2, 2, -1, dim)


def linked(rng, shape):
    """Weights τ, t in [0, 1] of shape (2, noise), most of them 0 or 1, with equal column sums."""
    tau, t = rng.integers(0, 2, (2, *shape)) if rng.random() < 0.7 else rng.random((2, *shape))
    least = np.minimum(tau.sum(0), t.sum(0))
    return tau * least / np.maximum(tau.sum(0), 1e-9), t * least / np.maximum(t.sum(0), 1e-9)


@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 3))
def test_no_unit_has_more_than_half_the_root_on_linked_points(seed, dim, depth):
    """(1) and (2) of docs/depth_three.md: |α E₊τg − λ E₋tg| ≤ ½ Π‖W_l‖ R, at any depth."""
    rng = np.random.default_rng(seed)
    plus, minus = class_points(dim)
    sizes = [dim, *rng.integers(1, 6, depth - 1), 1]
    layers = [rng.normal(size=shape) for shape in itertools.pairwise(sizes)]
    layers[0] *= rng.exponential(size=(dim, 1)) * rng.integers(0, 2, (dim, 1))
    alpha, share = rng.random(2)
    lam = alpha * share
    of_plus, of_minus = (_units(layers, x)[..., 0] for x in (plus, minus))
    tau, t = linked(rng, of_plus.shape)
    a, b, *c = np.sum(layers[0] ** 2, 1)
    root = np.sqrt(alpha**2 * a + lam**2 * b + (alpha - lam) ** 2 * np.sum(c))
    above = np.prod([np.linalg.norm(weights) for weights in layers[1:]])
    gain = alpha * np.mean(tau * of_plus) - lam * np.mean(t * of_minus)
    assert abs(gain) <= 0.5 * above * root + 1e-12


def _units(layers, x):
    for weights in layers:
        x = np.maximum(x @ weights, 0)
    return x


@given(st.floats(0, 1), st.floats(0, 1))
def test_weights_of_the_proof_are_allowed_and_make_both_classes_small(first, second):
    """The last step of docs/depth_three.md, for shares a, b, c of the first layer."""
    a, b, c = first * (1 - second), (1 - first) * (1 - second), second
    assume(max(a, b) < 1 - 1e-9)
    alpha = np.sqrt(1 - a) / (np.sqrt(1 - a) + np.sqrt(1 - b))
    beta = 1 - alpha
    lam, mu = alpha * c / (1 - a), beta * c / (1 - b)
    assert 0 <= max(lam, mu) <= min(alpha, beta) * (1 + 1e-6)
    plus = alpha**2 * a + lam**2 * b + (alpha - lam) ** 2 * c
    minus = beta**2 * b + mu**2 * a + (beta - mu) ** 2 * c
    assert 0.5 * max(plus, minus) ** 0.5 <= (3**0.5 - 1) / 4 + 1e-9


def test_the_network_of_depth_three_reads_noise_as_the_proof_says():
    squares = np.sum(np.asarray(population_network(3, 3)[0]) ** 2, 1)
    expected = [1 - 3**-0.5, 1 - 3**-0.5, 2 / 3**0.5 - 1]
    np.testing.assert_allclose(squares / squares.sum(), expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("depth", "dim", "least"), [(3, 3, 0.995), (3, 5, 0.99), (4, 3, 0)])
def test_no_ascent_of_the_class_means_passes_the_bound(depth, dim, least):
    """The smaller of the means of yf over the classes is ≥ the margin, and bounded as well."""
    network, x = fully_connected(depth, 12), jnp.asarray(class_points(dim)).reshape(2, -1, dim)

    def smaller(params):
        plus, minus = jax.vmap(lambda points: jnp.mean(network.apply(params, points)))(x)
        norm = jnp.linalg.norm(jax.flatten_util.ravel_pytree(params)[0])
        return jnp.minimum(plus, -minus) / norm**depth / population_margin_bound(depth)

    def ascent(key):
        rate = optax.cosine_decay_schedule(0.03, 4000)
        adam = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(rate))

        def step(carry, _):
            params, state = carry
            value, slope = jax.value_and_grad(lambda p: -smaller(p))(params)
            updates, state = adam.update(slope, state)
            return (optax.apply_updates(params, updates), state), -value

        params = network.init(key, dim)
        return jnp.max(jax.lax.scan(step, (params, adam.init(params)), length=4000)[1])

    found = jax.jit(jax.vmap(ascent))(jax.random.split(jax.random.key(0), 16))
    assert least <= float(jnp.max(found)) <= 1 + 1e-9


def test_population_margins_order_and_limits():
    assert population_margin(2) == planted_margin(2) == pytest.approx(1 / 8, rel=1e-15)
    for depth in range(3, 30):
        ratio = population_margin(depth) / planted_margin(depth)
        assert 1.03 < ratio < 2 / 12**0.25
        assert population_margin(depth) <= population_margin_bound(depth)
    assert population_margin_bound(3) == pytest.approx(3**-1.5 * (3**0.5 - 1) / 4, rel=1e-15)
    assert population_margin_bound(3) == population_margin(3)
    assert population_margin_bound(4) < 1.4 * population_margin(4)
    assert population_margin(120) / planted_margin(120) == pytest.approx(2 / 12**0.25, rel=1e-3)


@pytest.mark.parametrize("depth", TRAINED)
def test_training_reaches_the_population_margin_and_no_more(depth):
    """Proved at depths 2 and 3. A larger one above would be news, and end the docstring's claim."""
    found = np.array(trained_margins(population(3), depth)) / population_margin(depth)
    assert 0.997 <= found.max() <= 1 + 1e-9


@pytest.mark.parametrize("depth", PROVED)
def test_training_reaches_the_orthonormal_margin_and_no_more(depth):
    """Proved at depths 2 and 3, as above."""
    found = np.array(trained_margins(orthonormal(3, 2), depth)) / orthonormal_margin(depth, 3, 2)
    assert 0.997 <= found.max() <= 1 + 1e-9


@pytest.mark.parametrize("depth", PROVED)
def test_training_reaches_the_linear_margin_and_no_more(depth):
    data = linearly_separable()
    best = linear_margin(depth, svm_margin(data))
    found = np.array(trained_margins(data, depth, "identity", num_seeds=2)) / best
    assert 0.997 <= found.max() <= 1 + 1e-9


def chains(depth, num_positive, num_negative):
    """For each class a chain of single neurons along the sum of its inputs, in equal parts."""
    n = num_positive + num_negative
    first = np.zeros((n, 2))
    sizes = np.array([count ** (1 / (2 * depth)) for count in (num_positive, num_negative)])
    first[:num_positive, 0] = sizes[0] / num_positive**0.5
    first[num_positive:, 1] = sizes[1] / num_negative**0.5
    last = np.array([[sizes[0]], [-sizes[1]]])
    return tuple(map(jnp.asarray, [first, *[np.diag(sizes)] * (depth - 2), last]))


@settings(max_examples=4)
@given(st.integers(2, 8), st.integers(1, 9), st.integers(1, 9))
def test_chains_of_neurons_reach_the_orthonormal_margin(depth, positive, negative):
    data, params = orthonormal(positive, negative), chains(depth, positive, negative)
    found = float(normalized_margin(fully_connected(depth, 2), params, data))
    assert found == pytest.approx(orthonormal_margin(depth, positive, negative), rel=1e-12)


def class_chains(depth, counts):
    """For each class a chain of single neurons that ends in e_c − 1/k, in equal parts."""
    labels, k = np.repeat(np.arange(len(counts)), counts), len(counts)
    sizes = (np.array(counts) * (k - 1) / k) ** (1 / (2 * depth))
    first = np.eye(k)[labels] * sizes / np.sqrt(counts)
    last = sizes[:, None] * (np.eye(k) - 1 / k) / ((k - 1) / k) ** 0.5
    return tuple(map(jnp.asarray, [first, *[np.diag(sizes)] * (depth - 2), last]))


CLASSES = st.lists(st.integers(1, 6), min_size=2, max_size=5)


@pytest.mark.parametrize(("depth", "counts"), [(2, (3, 2, 1)), (6, (1, 2, 3, 2))], ids=str)
def test_chains_of_neurons_reach_the_margin_of_several_classes(depth, counts):
    """With all margins f_y − f_j equal to 1."""
    data, params = orthonormal_classes(counts), class_chains(depth, counts)
    network = fully_connected(depth, len(counts), len(counts))
    np.testing.assert_allclose(margin_pairs(network, params, data), 1, rtol=1e-12)
    found = float(normalized_margin(network, params, data))
    assert found == pytest.approx(orthonormal_classes_margin(depth, counts), rel=1e-12)


@given(st.integers(2, 8), st.integers(1, 9), st.integers(1, 9))
def test_two_classes_gain_root_two_by_a_second_output(depth, one, other):
    """Of ±γ/2 on two outputs each is half as large, and ‖w‖ of the two is γ/√2."""
    found = orthonormal_classes_margin(depth, (one, other))
    assert found == pytest.approx(2**0.5 * orthonormal_margin(depth, one, other), rel=1e-14)


@given(st.integers(2, 8), CLASSES)
def test_the_order_of_classes_does_not_matter_and_more_samples_cost(depth, counts):
    found = orthonormal_classes_margin(depth, counts)
    assert found == pytest.approx(orthonormal_classes_margin(depth, counts[::-1]), rel=1e-14)
    assert orthonormal_classes_margin(depth, [*counts[:-1], counts[-1] + 1]) < found
    assert orthonormal_classes_margin(depth, [*counts, 1]) < found


@given(st.integers(0, 1000), CLASSES)
def test_a_unit_of_norm_one_gains_at_most_twice_the_margin_of_several_classes(seed, counts):
    """The proof at depth 2: Σ αᵢⱼ(w_yᵢ − wⱼ) relu(uᵀxᵢ) with its α, over ‖u‖ = ‖w‖ = 1."""
    rng, k, labels = (
        np.random.default_rng(seed),
        len(counts),
        np.repeat(np.arange(len(counts)), counts),
    )
    alpha = 1 / ((k - 1) * np.sqrt(counts)[labels] * np.sqrt(counts).sum())
    assert (k - 1) * alpha.sum() == pytest.approx(1, rel=1e-12)
    limit = 2 * orthonormal_classes_margin(2, counts)

    def gain(u):  # of the best w
        pull = (k * np.eye(k)[labels] - 1).T @ (alpha * np.maximum(u / np.linalg.norm(u), 0))
        return np.linalg.norm(pull)

    assert max(map(gain, rng.normal(size=(200, sum(counts))))) <= limit * (1 + 1e-12)
    for along in np.eye(k)[labels].T:
        assert gain(along) == pytest.approx(limit, rel=1e-12)


@pytest.mark.parametrize("depth", [2, 3])
def test_training_reaches_the_margin_of_several_classes_and_no_more(depth):
    """Proved at depths 2 and 3, as above."""
    data, best = orthonormal_classes((3, 2, 1)), orthonormal_classes_margin(depth, (3, 2, 1))
    found = np.array(trained_margins(data, depth, num_outputs=3)) / best
    assert 0.99 <= found.max() <= 1 + 1e-9


@pytest.mark.parametrize(("positive", "negative"), [(3, 2), (1, 1), (4, 0), (0, 2), (1, 7)])
def test_two_quadratic_neurons_reach_the_margin_of_quadratic_networks(positive, negative):
    """Along the sums of the classes, ‖u‖² = 2w²: w(uᵀx)² = ±1 where |w|‖u‖² is their number."""
    sizes = np.array([positive, negative], float)
    last = (sizes / 2) ** (1 / 3)
    first = np.zeros((positive + negative, 2))
    first[:positive, 0] = (2 / max(positive, 1)) ** 0.5 * last[0]
    first[positive:, 1] = (2 / max(negative, 1)) ** 0.5 * last[1]
    params = (jnp.asarray(first), jnp.asarray([[last[0]], [-last[1]]]))
    data, network = orthonormal(positive, negative), fully_connected(2, 2, activation="quadratic")
    assert network.order == 3
    np.testing.assert_allclose(margins(network, params, data), 1, rtol=1e-12)
    found = float(normalized_margin(network, params, data))
    best = orthonormal_quadratic_margin(positive, negative)
    assert found == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize(("positive", "negative"), [(3, 2), (4, 1)])
def test_training_reaches_the_quadratic_margin_and_no_more(positive, negative):
    best = orthonormal_quadratic_margin(positive, negative)
    data = orthonormal(positive, negative)
    found = np.array(trained_margins(data, 2, "quadratic", num_seeds=2)) / best
    assert 0.997 <= found.max() <= 1 + 1e-9


@pytest.mark.parametrize("depth", DEPTHS)
def test_one_class_of_orthonormal_inputs_is_a_linear_problem(depth):
    expected = linear_margin(depth, svm_margin(orthonormal(5, 0)))
    assert orthonormal_margin(depth, 5, 0) == pytest.approx(expected, rel=1e-9)
    assert orthonormal_margin(depth, 0, 5) == orthonormal_margin(depth, 5, 0)


def test_linear_margin_of_depth_one_is_the_svm():
    assert linear_margin(1, 0.3) == 0.3
    assert linear_margin(4, 0.8) == pytest.approx(0.05, rel=1e-15)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: population_margin(1), "depth.*at least 2, got 1"),
        (lambda: population_margin(2.5), "depth.*got 2.5"),
        (lambda: population_margin(math.nan), "depth.*got nan"),
        (lambda: population_margin_bound(1), "depth.*at least 2, got 1"),
        (lambda: population_margin_bound(3.5), "depth.*got 3.5"),
        (lambda: population_margin_bound(math.nan), "depth.*got nan"),
        (lambda: planted_margin(0), "depth.*got 0"),
        (lambda: planted_network(2), "dim.*at least 3, got 2"),
        (lambda: planted_network(5, 1), "depth.*at least 2, got 1"),
        (lambda: population_network(2), "dim.*at least 3, got 2"),
        (lambda: population_network(2, 4), "dim.*at least 3, got 2"),
        (lambda: population_network(5, 1), "depth.*at least 2, got 1"),
        (lambda: orthonormal_margin(1, 2, 2), "depth.*got 1"),
        (lambda: orthonormal_margin(2, -1, 2), "num_positive.*got -1"),
        (lambda: orthonormal_margin(2, 1, 1.5), "num_negative.*got 1.5"),
        (lambda: orthonormal_margin(2, 0, 0), r"num_positive \+ num_negative.*got 0"),
        (lambda: orthonormal_classes_margin(1, (2, 2)), "depth.*at least 2, got 1"),
        (lambda: orthonormal_classes_margin(2, (2,)), r"counts.*two classes, got \(2,\)"),
        (lambda: orthonormal_classes_margin(2, []), r"counts.*got \(\)"),
        (lambda: orthonormal_classes_margin(2, (2, 0)), "counts.*at least 1, got 0"),
        (lambda: orthonormal_classes_margin(2, (2, 1.5)), "counts.*got 1.5"),
        (lambda: orthonormal_quadratic_margin(-1, 2), "num_positive.*got -1"),
        (lambda: orthonormal_quadratic_margin(1, 0.5), "num_negative.*got 0.5"),
        (lambda: orthonormal_quadratic_margin(0, 0), r"num_positive \+ num_negative.*got 0"),
        (lambda: linear_margin(0, 1.0), "depth.*at least 1, got 0"),
        (lambda: linear_margin(2, 0.0), "svm_margin.*got 0.0"),
        (lambda: linear_margin(2, -0.1), "svm_margin.*got -0.1"),
        (lambda: linear_margin(2, math.nan), "svm_margin.*got nan"),
        (lambda: linear_margin(2, math.inf), "svm_margin.*got inf"),
    ],
)
def test_bad_values_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
