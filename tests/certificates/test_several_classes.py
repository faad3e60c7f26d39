"""Certificates of networks with an output a class: both sides by other code, and known answers."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from ntkreg.certificates import global_minimum, max_margin
from ntkreg.certificates.convex import conic_solution
from ntkreg.certificates.several_classes import limit_bound
from ntkreg.data.dataset import Dataset
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.networks.network import fully_connected
from ntkreg.theory.closed_forms import orthonormal_classes_margin
from ntkreg.training.margins import normalized_margin
from ntkreg.training.objectives import get_loss, objective
from ntkreg.training.trainers import train

LAM = 1e-2


def classes(x, labels):
    return Dataset(jnp.asarray(x, float), jnp.asarray(labels, jnp.int32))


def random_classes(seed):
    """d of 2 … 4, k of 3 or 4, at most 12 samples with all classes among them."""
    rng = np.random.default_rng(seed)
    dim, k = int(rng.integers(2, 5)), int(rng.integers(3, 5))
    labels = rng.integers(0, k, int(rng.integers(2 * k, 13)))
    labels[:k] = range(k)
    return classes(rng.normal(size=(len(labels), dim)), labels)


def in_the_plane(seed, num_samples=6, k=3):
    rng = np.random.default_rng(seed)
    return classes(rng.normal(size=(num_samples, 2)), np.arange(num_samples) % k)


def coordinates(*counts):
    return classes(np.eye(sum(counts)), np.repeat(np.arange(len(counts)), counts))


margin_in_plane = functools.cache(lambda seed: max_margin(in_the_plane(seed)))


def network_of(found):
    width, outputs = found.primal[1].shape
    return fully_connected(2, width, outputs)


def vectors_of(weights, labels):
    """a with Σᵢ relu(uᵀxᵢ) aᵢ the vector whose length bounds."""
    own = np.eye(weights.shape[1])[labels]
    return weights.sum(axis=1, keepdims=True) * own - weights


def longest(x, a, points=2000):
    """The largest ‖Σ relu(uᵀxᵢ) aᵢ‖ over unit u, by the patterns of random points of all flats."""
    rng, best = np.random.default_rng(0), 0.0
    for size in range(x.shape[1]):
        for rows in map(list, itertools.combinations(range(len(x)), size)):
            span = scipy.linalg.null_space(x[rows]) if rows else np.eye(x.shape[1])
            rest = np.delete(np.arange(len(x)), rows)
            drawn = rng.normal(size=(points, span.shape[1])) @ span.T
            for active in np.unique(drawn @ x[rest].T > 0, axis=0):
                form = a[rest][active].T @ x[rest][active] @ span
                for u in span @ np.linalg.svd(form)[2][0] * np.array([[1.0], [-1.0]]):
                    best = max(best, np.linalg.norm(np.maximum(x @ u, 0) @ a))
    return best


def on_a_circle(data, points=1500):
    """The max margin of neurons in the directions of a fine circle, the kinks among them."""
    x, labels = map(np.asarray, data)
    k, angles = labels.max() + 1, np.linspace(0, 2 * np.pi, points, endpoint=False)
    u = np.stack([np.cos(angles), np.sin(angles)])
    turned = x @ np.array([[0.0, 1.0], [-1.0, 0.0]]) / np.linalg.norm(x, axis=1, keepdims=True)
    hidden = np.maximum(x @ np.hstack([u, turned.T, -turned.T]), 0.0)
    m = hidden.shape[1]
    rows = [
        np.kron(hidden[i], np.eye(k)[c] - np.eye(k)[labels[i]])
        for i in range(len(x))
        for c in range(k)
        if c != labels[i]
    ]
    # Variables: w of all neurons, their norms, t.
    margins = np.hstack([rows, np.zeros((len(rows), m)), np.ones((len(rows), 1))])
    total = np.concatenate([np.zeros(m * k), np.ones(m), [0.0]])[None]
    entries = scipy.sparse.csc_matrix(-np.eye(m * (k + 1) + 1))
    order = [[m * k + j, *range(j * k, j * k + k)] for j in range(m)]
    matrix = scipy.sparse.vstack([margins, total, entries[np.concatenate(order)]])
    right = np.zeros(matrix.shape[0])
    right[len(rows)] = 1.0
    cones = [("nonnegative", len(rows) + 1)] + [("second_order", k + 1)] * m
    size = matrix.shape[1]
    found = conic_solution(
        scipy.sparse.csc_matrix((size, size)), -np.eye(size)[-1], matrix, right, cones
    )
    return found.x[-1] / 2


def check(data, margin, minimum):
    """Gaps, the networks in the package's own code, and the weights by another search."""
    x, labels = map(np.asarray, data)
    assert margin.gap <= 1e-6 and minimum.gap <= 1e-6
    for found in (margin, minimum):  # "exact" is the tolerance reached, 1e-8
        assert found.kind == ("exact" if found.gap <= 1e-8 else "certified")
    reached = float(normalized_margin(network_of(margin), margin.primal, data))
    assert reached == pytest.approx(margin.lower, rel=1e-9)
    value = objective(
        get_loss("cross_entropy"), network_of(minimum), minimum.primal, data, jnp.log(LAM)
    )
    assert float(value) == pytest.approx(minimum.upper, rel=1e-9)
    assert (margin.dual >= 0).all() and not margin.dual[np.arange(len(x)), labels].any()
    largest = longest(x, vectors_of(margin.dual, labels)) / 2
    assert largest / margin.dual.sum() == pytest.approx(margin.upper, rel=1e-6)
    largest = longest(x, vectors_of(minimum.dual, labels)) / len(x)
    assert largest <= 2 * LAM * (1 + 1e-6)
    whole = minimum.dual.copy()
    whole[np.arange(len(x)), labels] = 1 - whole.sum(axis=1)
    entropy = scipy.stats.entropy(whole, axis=1).mean()
    assert entropy == pytest.approx(minimum.lower, rel=1e-6)


def test_both_problems_close_and_other_code_agrees():
    data = in_the_plane(0)
    check(data, margin_in_plane(0), global_minimum(data, LAM))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_thirty_random_sets_close_and_training_finds_nothing_better(seed):
    data = random_classes(seed)
    margin, minimum = max_margin(data), global_minimum(data, LAM)
    check(data, margin, minimum)
    network = fully_connected(2, 64, margin.primal[1].shape[1])
    for key in jax.random.split(jax.random.key(seed), 2):
        trained = train(network, data, lam=LAM, key=key, loss="cross_entropy", num_steps=3000)
        value = objective(get_loss("cross_entropy"), network, trained.params, data, jnp.log(LAM))
        assert float(value) >= minimum.lower * (1 - 1e-9)
        assert float(normalized_margin(network, trained.params, data)) <= margin.upper


@pytest.mark.parametrize("seed", [0, 1])
def test_a_convex_programme_over_a_fine_circle_has_the_same_margin(seed):
    found = margin_in_plane(seed)
    reference = on_a_circle(in_the_plane(seed))
    assert found.lower * (1 - 1e-5) <= reference <= found.upper * (1 + 1e-8)


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1), (2, 1, 1), (2, 2, 1)])
def test_orthonormal_inputs_have_the_closed_form(counts):
    found = max_margin(coordinates(*counts), tolerance=1e-9)
    expected = orthonormal_classes_margin(2, counts)
    assert found.lower == pytest.approx(expected, rel=1e-9)
    assert found.upper == pytest.approx(expected, rel=1e-9)


def test_two_classes_are_two_signs():
    """Two outputs make a difference of length √2: γ√2, and the minimum of λ/√2."""
    data = in_the_plane(2, k=2)
    signs = Dataset(data.x, 1.0 - 2.0 * data.y)
    found, known = max_margin(data), max_margin(signs)
    assert found.lower == pytest.approx(2**0.5 * known.lower, rel=1e-7)
    found, known = global_minimum(data, LAM), global_minimum(signs, LAM / 2**0.5)
    assert found.lower == pytest.approx(known.lower, rel=1e-7)


def test_a_sample_twice_changes_nothing_of_the_margin():
    data = in_the_plane(0)
    twice = classes(np.concatenate([data.x, data.x[:2]]), np.append(data.y, data.y[:2]))
    found = max_margin(twice)
    assert found.gap <= 1e-6
    assert found.lower == pytest.approx(margin_in_plane(0).lower, rel=1e-7)


def test_the_margin_scales_with_the_inputs_and_is_the_same_in_more_dimensions():
    data, known = in_the_plane(0), margin_in_plane(0)
    into = np.linalg.qr(np.random.default_rng(1).normal(size=(6, 2)))[0].T
    found = max_margin(classes(1e-9 * np.asarray(data.x) @ into, data.y))
    assert found.primal[0].shape[0] == 6 and found.gap <= 1e-6
    assert found.lower == pytest.approx(1e-9 * known.lower, rel=1e-6)


def test_no_network_tells_equal_samples_of_two_classes_apart():
    data = classes([[1.0, 0.5], [1.0, 0.5], [0.0, 1.0]], [0, 1, 2])
    with pytest.raises(NotSeparable):
        max_margin(data)
    found = global_minimum(data, LAM)
    assert found.gap <= 1e-6 and found.lower >= 2 / 3 * np.log(2)
    with pytest.raises(NotSeparable):
        max_margin(classes([[1.0, 0.5], [0.0, 0.0]], [0, 1]))
    with pytest.raises(NotSeparable):
        max_margin(classes([[1.0, 0.5], [1.0, 0.5]], [0, 1]))


def test_where_lam_is_large_the_zero_network_is_best():
    found = global_minimum(in_the_plane(0), 10.0)
    assert found.gap <= 1e-6 and found.lower <= np.log(3)
    assert found.upper == pytest.approx(np.log(3), rel=1e-6)
    assert np.sum(found.primal[0] ** 2) < 1e-6


def test_a_tiny_lam_leads_to_the_max_margin():
    """F is λ(log(1/λ) + …)/γ: its network is near the max margin, and never above it."""
    found, best = global_minimum(in_the_plane(0), 1e-100), margin_in_plane(0)
    assert found.gap <= 1e-6
    margin = float(normalized_margin(network_of(found), found.primal, in_the_plane(0)))
    assert 0.95 * best.lower <= margin <= best.upper


def test_weights_of_the_max_margin_bound_the_minimum_and_meet_it_as_lam_falls():
    """What they miss is O(1/log²(1/λ)) of it: a quarter where λ is squared."""
    best, missed = margin_in_plane(0), []
    for lam in (LAM, 1e-8, 1e-16):
        found = global_minimum(in_the_plane(0), lam)
        bound = limit_bound(best.dual, best.upper, lam)
        assert 0 < bound <= found.upper
        assert limit_bound(7 * best.dual, best.upper, lam) == pytest.approx(bound, rel=1e-9)
        missed.append(1 - bound / found.upper)
    assert missed[2] < missed[1] / 3 < 0.01


def test_weights_of_the_max_margin_bound_by_distributions_where_lam_is_large():
    """At most log 3, the loss of the zero network."""
    best = margin_in_plane(0)
    assert 0 < limit_bound(best.dual, best.upper, 10.0) <= np.log(3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: max_margin(classes(np.eye(2), [0, 0])), "at least two classes"),
        (lambda: max_margin(classes(np.eye(2), [0, -2])), "class indices"),
        (lambda: max_margin(coordinates(1, 1), oracle="multistart"), "oracle must not be given"),
        (lambda: global_minimum(coordinates(1, 1), LAM, output_sign=1), "output_sign must not"),
        (lambda: max_margin(classes(np.eye(9), np.arange(9))), "rank at most 4"),
    ],
)
def test_bad_calls_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
