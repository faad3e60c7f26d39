"""The law of the λ-path: against certified minima, and where minimizers are found by hand."""

import functools
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from ntkreg.certificates import two_layer
from ntkreg.certificates.certified import global_minimum, max_margin
from ntkreg.data.dataset import random_labels
from ntkreg.theory import path_law
from ntkreg.theory.closed_forms import orthonormal_classes_margin, orthonormal_margin
from ntkreg.theory.path_law import entropy, min_entropy, predicted

KEYS = [(3, 10, 3), (2, 20, 2), (4, 15, 2)]  # (seed, n, rank), where second order shows clearly
PRECISE = [(4, 15, 2), (5, 12, 2), (1, 12, 3), (6, 14, 3)]  # where minima are to the last digits
EVEN = np.full(4, 0.25)


@functools.cache
def dataset(seed, num_samples, rank):
    return random_labels(jax.random.key(seed), num_samples, rank)


exact_margin = functools.cache(lambda *key: max_margin(dataset(*key)))


@functools.cache
def minimizer(key, lam):
    """(normalized margin, ‖Θ‖², weights α, dual-weighted margin) of the certified minimum."""
    data = dataset(*key)
    found = global_minimum(data, lam)
    y = np.asarray(data.y)
    q = y * two_layer.outputs(found.primal, np.asarray(data.x))
    radius, alpha = two_layer.squared_norm(found.primal), found.dual * y
    alpha = alpha / alpha.sum()
    return q.min() / radius, radius, alpha, alpha @ q / radius


def simplex(seed, size):
    return np.random.default_rng(seed).dirichlet(np.ones(size))


@given(st.integers(0, 1000), st.integers(1, 30))
def test_entropies_of_even_weights_are_the_log_of_their_number_and_others_lie_below(seed, size):
    even, alpha = np.full(size, 1 / size), simplex(seed, size)
    for of in (entropy, min_entropy):
        assert of(even) == pytest.approx(math.log(size), abs=1e-14)
    assert 0 <= min_entropy(alpha) <= entropy(alpha) <= math.log(size) * (1 + 1e-14)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0.0, 1.0))
def test_entropy_of_a_mixture_is_its_parts_and_the_choice_between_them(one, other, share):
    p, q = simplex(one, 5), simplex(other, 3)
    mixture = np.concatenate([share * p, (1 - share) * q])
    choice = entropy(np.array([share, 1 - share]))
    parts = share * entropy(p) + (1 - share) * entropy(q)
    assert entropy(mixture) == pytest.approx(choice + parts, rel=1e-12)


def test_a_sample_of_weight_zero_adds_nothing():
    alpha = np.array([0.0, 0.25, 0.75, 0.0])
    assert entropy(alpha) == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert min_entropy(alpha) == pytest.approx(-math.log(0.75))
    np.testing.assert_equal(predicted(-50.0, 0.1, alpha, 4), predicted(-50.0, 0.1, alpha[1:3], 4))


def residual_of_two(radius, log_lam, dual_value, alpha, n, order, power):
    """R·D less the right-hand side of equation (2)."""
    right = -log_lam + math.log(order * dual_value / power) + (1 - power / order) * math.log(radius)
    return radius * dual_value - right - entropy(alpha) + math.log(n)


@pytest.mark.parametrize(
    ("order", "power"), [(1, 1), (1, 2), (2, 2), (3, 2), (6, 2), (4, 1), (2, 4), (2, 0.5), (3, 3)]
)
@pytest.mark.parametrize("dual_value", [1e-3, 0.1, 2.0])
def test_radius_solves_its_equation_and_the_margin_is_read_off_there(order, power, dual_value):
    alpha, log_lams = simplex(order, 7), -np.array([30.0, 100.0, 690.0])
    found = predicted(log_lams, dual_value, alpha, 9, order=order, power=power)
    for radius, log_lam in zip(found.radius, log_lams, strict=True):
        off = residual_of_two(radius, log_lam, dual_value, alpha, 9, order, power)
        assert abs(off) < 1e-10
    apart = entropy(alpha) - min_entropy(alpha)
    np.testing.assert_allclose(found.normalized_margin, dual_value - apart / found.radius)


@pytest.mark.parametrize("lam", [1e-9, 1e-32, 1e-200])
@pytest.mark.parametrize("key", PRECISE, ids=str)
def test_with_the_paths_own_weights_the_law_is_the_certified_minimizer(key, lam):
    margin, radius, alpha, dual_value = minimizer(key, lam)
    found = predicted(math.log(lam), dual_value, alpha, key[1])
    assert found.normalized_margin == pytest.approx(margin, rel=1e-6)
    assert found.radius == pytest.approx(radius, rel=1e-6)


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_with_the_max_margins_weights_the_error_falls_like_the_squared_radius(key):
    known, lams = exact_margin(*key), np.array([1e-12, 1e-16, 1e-24, 1e-32, 1e-64])
    law = predicted(np.log(lams), known.lower, known.dual, key[1]).normalized_margin
    margins, radii = np.array([minimizer(key, lam)[:2] for lam in lams]).T
    # Minimizers are known to 1e-6 of the margin: smaller errors are theirs and not the law's.
    seen = np.abs(law - margins) > 1e-6 * known.lower
    slope = np.polyfit(np.log(radii[seen]), np.log(np.abs(law - margins)[seen]), 1)[0]
    assert seen.sum() >= 3 and -2.15 < slope < -1.85
    # Of first order: without its correction the law would be off by 1/R.
    slope = np.polyfit(np.log(radii), np.log(known.lower - margins), 1)[0]
    assert -1.05 < slope < -0.95


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_dual_weighted_margin_nears_the_max_margin_like_the_squared_radius(key):
    """D(α_R) − γ* of the module's docstring; it lies above."""
    known, lams = exact_margin(*key), (1e-12, 1e-16, 1e-24, 1e-32)
    found = [minimizer(key, lam) for lam in lams]
    above = np.array([dual_value - known.lower for *_, dual_value in found])
    assert (above > 0).all()
    slope = np.polyfit(np.log([radius for _, radius, *_ in found]), np.log(above), 1)[0]
    assert -2.3 < slope < -1.7


# Orthonormal inputs, where a chain of neurons for each class is the minimizer --------------------


def chains_by_hand(depth, counts, lam, several=False):
    """(normalized margin, ‖Θ‖^L) of the best chains, each class's margin by its own equation.

    A class of c samples at margin q costs λL(q²c)^(1/L) and has the loss (c/n) log(1 + m e^(−q)),
    m = 1; with k classes m = k − 1 and the cost has c(k − 1)/k for c.
    """
    k, n = len(counts), sum(counts)
    others, share = (k - 1, (k - 1) / k) if several else (1, 1.0)
    margins = []
    for count in counts:

        def slope(q, count=count):  # log of −∂loss/∂q over ∂cost/∂q
            log_loss = math.log(count / n) - np.logaddexp(0.0, q - math.log(others))
            log_cost = math.log(2 * lam) + (2 / depth - 1) * math.log(q)
            return log_loss - log_cost - math.log(count * share) / depth

        margins.append(brentq(slope, 1.0, 2000.0, xtol=1e-13))
    costs = [(q**2 * c * share) ** (1 / depth) for q, c in zip(margins, counts, strict=True)]
    radius = (depth * sum(costs)) ** (depth / 2)
    return min(margins) / radius, radius


def chain_weights(depth, counts, pairs=1):
    """α ∝ n_c^(1/L − 1) on class c, in equal parts on the pairs of each sample."""
    alpha = np.concatenate([np.full(c * pairs, c ** (1 / depth - 1)) for c in counts])
    return alpha / alpha.sum()


def test_chains_of_six_and_two_at_depth_two():
    margin, _ = chains_by_hand(2, (6, 2), 1e-100)
    best = orthonormal_margin(2, 6, 2)
    assert margin / best == pytest.approx(0.9985, abs=5e-5)
    law = predicted(math.log(1e-100), best, chain_weights(2, (6, 2)), 8)
    assert law.normalized_margin == pytest.approx(margin, rel=1e-12)


@pytest.mark.parametrize("lam", [1e-3, 1e-5, 1e-8, 1e-12, 1e-300])
@pytest.mark.parametrize("counts", [(6, 2), (1, 9), (3, 3)])
def test_at_depth_two_the_law_is_chains_but_for_lambda(counts, lam):
    """Their weights are the max margin's at every λ, so it is exact up to the loss: O(λn)."""
    margin, radius = chains_by_hand(2, counts, lam)
    best, alpha = orthonormal_margin(2, *counts), chain_weights(2, counts)
    law = predicted(math.log(lam), best, alpha, sum(counts))
    assert law.normalized_margin == pytest.approx(margin, rel=2 * lam * sum(counts) + 1e-12)
    assert law.radius == pytest.approx(radius, rel=2 * lam * sum(counts) + 1e-12)


@pytest.mark.parametrize("depth", [3, 4, 6])
def test_at_deeper_chains_the_law_is_right_to_first_order(depth):
    lams = np.array([1e-12, 1e-25, 1e-50, 1e-100, 1e-200])
    margins, radii = np.array([chains_by_hand(depth, (6, 2), lam) for lam in lams]).T
    best, alpha = orthonormal_margin(depth, 6, 2), chain_weights(depth, (6, 2))
    law = predicted(np.log(lams), best, alpha, 8, order=depth)
    np.testing.assert_allclose(law.radius, radii, rtol=2e-4)
    errors = np.abs(law.normalized_margin / margins - 1)
    slope = np.polyfit(np.log(radii), np.log(errors), 1)[0]
    assert -2.1 < slope < -1.9
    assert errors[-1] < 1e-5 < 9e-4 < 1 - margins[-1] / best


@pytest.mark.parametrize("counts", [(3, 2, 1), (4, 1), (2, 2, 2, 5)])
@pytest.mark.parametrize("depth", [2, 3])
def test_several_classes_have_a_weight_for_each_pair(depth, counts):
    """The pairs' entropy has the k − 1 pairs of a sample; n stays the number of samples."""
    k, lams = len(counts), (1e-16, 1e-200)
    best, alpha = orthonormal_classes_margin(depth, counts), chain_weights(depth, counts, k - 1)
    law = predicted(np.log(lams), best, alpha, sum(counts), order=depth)
    by_hand = np.array([chains_by_hand(depth, counts, lam, several=True) for lam in lams])
    tolerance = 1e-12 if depth == 2 else 2e-4
    np.testing.assert_allclose(law.normalized_margin, by_hand[:, 0], rtol=tolerance)
    np.testing.assert_allclose(law.radius, by_hand[:, 1], rtol=tolerance)


# The range of the law, and bad input -------------------------------------------------------------


def test_too_large_a_lambda_is_nan_and_spoils_no_other():
    found = predicted(np.log([10.0, 1.0, 1e-20]), 0.1, EVEN, 4)
    assert np.isnan(found.radius).tolist() == [True, True, False]
    assert np.isnan(found.normalized_margin).tolist() == [True, True, False]
    np.testing.assert_equal(found.radius[2], predicted(math.log(1e-20), 0.1, EVEN, 4).radius)


@pytest.mark.parametrize("lam", [1e-3, 1e-2])
def test_the_law_of_a_deep_network_reaches_as_far_up_as_that_of_a_shallow_one(lam):
    """γ* is 3e-4 at depth 6, so log(aD/r) is −7; (1 − r/a) log R is as much above zero."""
    for depth in (2, 6):
        margin, radius = chains_by_hand(depth, (6, 2), lam)
        best, alpha = orthonormal_margin(depth, 6, 2), chain_weights(depth, (6, 2))
        law = predicted(math.log(lam), best, alpha, 8, order=depth)
        assert law.radius == pytest.approx(radius, rel=0.05)
        assert law.normalized_margin == pytest.approx(margin, rel=0.05)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dual_value": 0.0}, "dual_value must be positive and finite, got 0.0"),
        ({"dual_value": -0.1}, "dual_value.*got -0.1"),
        ({"dual_value": math.nan}, "dual_value.*got nan"),
        ({"dual_value": math.inf}, "dual_value.*got inf"),
        ({"order": 0}, "order must be positive and finite, got 0"),
        ({"power": -2.0}, "power.*got -2.0"),
        ({"power": math.nan}, "power.*got nan"),
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"alpha": 2 * EVEN}, "alpha.*sum 1, got the sum 2.0"),
        ({"alpha": np.array([1.5, -0.5])}, "alpha must be at least 0"),
        ({"alpha": np.full(4, np.nan)}, "alpha.*nan"),
    ],
)
def test_bad_values_are_named(change, said):
    good = {"log_lam": -50.0, "dual_value": 0.1, "alpha": EVEN, "num_samples": 4}
    assert np.isfinite(path_law.predicted(**good).radius)
    with pytest.raises(ValueError, match=said):
        path_law.predicted(**{**good, **change})
