"""Bounds with margins: their formulas, rates, and certified minimizers that must obey them."""

import functools
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.certificates import two_layer
from ntkreg.certificates.certified import global_minimum, max_margin
from ntkreg.data.dataset import random_labels
from ntkreg.theory.bounds import (
    generalization_bound,
    kernel_bound,
    least_margin,
    theorem_margin,
    two_layer_bound,
)

KEYS = [(0, 10, 2), (3, 10, 3), (4, 15, 2)]  # (seed, n, rank)


@functools.cache
def dataset(seed, num_samples, rank):
    return random_labels(jax.random.key(seed), num_samples, rank)


exact_margin = functools.cache(lambda *key: max_margin(dataset(*key)).lower)
minimum = functools.cache(lambda key, lam: global_minimum(dataset(*key), lam))


def margin_of(params, key):
    data = dataset(*key)
    return two_layer.normalized_margin(params, np.asarray(data.x), np.asarray(data.y))


def objective_of(params, key, lam):
    """F/λ in NumPy, so that nothing is small."""
    data = dataset(*key)
    q = np.asarray(data.y) * two_layer.outputs(params, np.asarray(data.x))
    return np.mean(np.logaddexp(0, -q)) / lam + two_layer.squared_norm(params)


# The test error ----------------------------------------------------------------------------------


def test_generalization_bound_by_hand():
    """γ = 1/8 on D at d = 10: C = 3, q = 2, n = 10⁴, δ = 0.05; Cq^(−q/2) = 3/2."""
    complexity = 1.5 * (math.sqrt(4 * math.log(2)) + 1) / 100
    assert complexity == pytest.approx(0.0399766, rel=1e-5)
    rest = math.sqrt(math.log(math.log2(48)) / 1e4) + math.sqrt(math.log(20) / 2e4)
    found = generalization_bound(1 / 8, 10_000, 3.0, 2)
    assert float(found) == pytest.approx(4 * complexity / (1 / 8) + rest, rel=1e-12)


def test_generalization_bound_of_deeper_networks_and_another_delta_by_hand():
    largest = 2.0 * 3**-1.5
    complexity = largest * (math.sqrt(6 * math.log(2)) + 1) / 20
    rest = math.sqrt(math.log(math.log2(4 * largest / 0.01)) / 400)
    rest += math.sqrt(math.log(1000) / 800)
    found = generalization_bound(0.01, 400, 2.0, 3, delta=1e-3)
    assert float(found) == pytest.approx(400 * complexity + rest, rel=1e-12)


@given(st.floats(1e-8, 0.5), st.integers(1, 10**9), st.integers(1, 6))
def test_four_times_the_samples_halve_it(margin, num_samples, depth):
    once = generalization_bound(margin, num_samples, 1.0, depth)
    assert generalization_bound(margin, 4 * num_samples, 1.0, depth) == pytest.approx(once / 2)


def test_it_falls_with_the_margin_like_its_inverse_where_that_is_small():
    margins = np.geomspace(1e-12, 0.2, 60)
    bounds = generalization_bound(margins, 100, 1.0, 2)
    assert bounds.shape == (60,) and (np.diff(bounds) < 0).all()
    slopes = np.diff(np.log(bounds)) / np.diff(np.log(margins))
    np.testing.assert_allclose(slopes[:20], -1, atol=1e-6)
    complexity = 0.5 * (math.sqrt(4 * math.log(2)) + 1) / 10
    assert bounds[0] * margins[0] == pytest.approx(4 * complexity, rel=1e-8)


@given(st.floats(1e-6, 0.1), st.floats(1e-3, 1e3))
def test_it_does_not_see_the_units_of_the_inputs(margin, scale):
    found = generalization_bound(scale * margin, 50, scale, 2)
    assert found == pytest.approx(generalization_bound(margin, 50, 1.0, 2), rel=1e-12)


def test_without_a_margin_it_says_nothing():
    found = generalization_bound(
        np.array([-1.0, 0.0, 1e-3, 10.0]), np.array([9, 9, 9, 10**6]), 1.0, 2
    )
    assert np.isinf(found[:2]).all() and (found[:2] > 0).all()
    assert np.isfinite(found[2:]).all() and 0 < found[3] < 1 < found[2]


def test_the_two_layer_and_the_kernel_s_bound_by_hand():
    """γ = ½, n = 10⁴, mean square 4, largest 9 = 3²: (6/½)·2/100 and (4/½)·2/100."""
    rest = math.sqrt(math.log(math.log2(4 * 3 / 0.5)) / 1e4) + math.sqrt(math.log(20) / 2e4)
    assert float(two_layer_bound(0.5, 10_000, 4.0, 3.0)) == pytest.approx(0.24 + rest, rel=1e-12)
    assert float(kernel_bound(0.5, 10_000, 4.0, 9.0)) == pytest.approx(0.16 + rest, rel=1e-12)


@given(st.integers(0, 1000))
def test_the_complexities_behind_both_bounds_are_those_of_random_signs(seed):
    """Networks of unit norm are at most ½ max over ‖u‖ ≤ 1 of |Σ sᵢ relu(uᵀxᵢ)|, kernels √(sᵀKs):
    means over signs s, at dimension 1, where u = ±1."""
    rng = np.random.default_rng(seed)
    x, signs = rng.normal(size=40), rng.choice((-1.0, 1.0), size=(4000, 40))
    sides = np.stack([signs @ np.maximum(x, 0), signs @ np.maximum(-x, 0)])
    network = 0.5 * np.abs(sides).max(0).mean() / 40
    kernel = np.abs(signs @ x).mean() / 40  # K = xxᵀ
    bound = math.sqrt(x @ x) / 40  # √(D/n) = √(tr K)/n
    assert network < bound and kernel < bound
    n = 10**12  # ε is little of it: what is left is the factor times the complexity
    terms = [of(1e-6, n, x @ x / 40, 1.0) * 1e-6 * math.sqrt(n) for of in
             (two_layer_bound, kernel_bound)]  # fmt: skip
    np.testing.assert_allclose(terms, np.array([6, 4]) * math.sqrt(x @ x / 40), rtol=1e-5)


def test_bounds_of_many_margins_are_vacuous_without_one():
    margins, sizes = np.array([0.5, 0.0, -1.0]), np.array([10**6, 10, 10])
    for of in (two_layer_bound, kernel_bound):
        found = of(margins, sizes, np.ones(3), np.ones(3))
        assert found[0] < 1 and np.isinf(found[1:]).all()


# Approximate minimizers --------------------------------------------------------------------------


def test_theorem_margin_is_its_formula():
    assert theorem_margin(0.3, 1.0) == pytest.approx(0.03, rel=1e-15)
    np.testing.assert_allclose(theorem_margin(0.3, np.array([1.0, 1.5, 2.0])), [0.03, 0.02, 0.015])
    assert theorem_margin(0.3, 2.0, order=3, power=2.0) == pytest.approx(0.03 / 2**1.5, rel=1e-14)
    assert theorem_margin(0.3, 2.0, order=2, power=4.0) == pytest.approx(0.03 / 2**0.5, rel=1e-14)


@pytest.mark.parametrize("lam", [1e-9, 1e-16, 1e-64, 1e-300])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_the_certified_minimizer_has_the_least_margin_and_little_more(key, lam):
    """β = 1: what is lost is of the order log log(1/λ)/log(1/λ)."""
    found = minimum(key, lam)
    least = least_margin(math.log(found.upper), math.log(lam), 1.0, key[1])
    assert 0 < least <= margin_of(found.primal, key)
    assert least >= margin_of(found.primal, key) * (1 - 8 / math.log(1 / lam))


@pytest.mark.parametrize("beta", [1.0, 1.5, 2.0, 10.0])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_it_tends_to_the_max_margin_over_beta(key, beta):
    """And is far above what the theorem grants."""
    best, ratios = exact_margin(*key), []
    for lam in (1e-16, 1e-64, 1e-300):
        log_minimum = math.log(minimum(key, lam).upper)
        least = least_margin(log_minimum, math.log(lam), beta, key[1])
        ratios.append(least * beta / best)
        if beta <= 2:
            assert least > 8 * theorem_margin(best, beta)
    assert ratios == sorted(ratios) and ratios[-1] <= 1
    assert ratios[-1] > 1 - 8 / math.log(1e300)


@pytest.mark.parametrize("beta", [1.01, 1.5, 2.0, 10.0])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_a_minimizer_made_heavier_has_that_margin_and_not_much_more(key, beta):
    """Layers out of balance: the outputs stay, and ‖Θ‖² grows until F = βF*. No bound is better."""
    lam, found = 1e-300, minimum(key, 1e-300)
    first, last = found.primal
    least = objective_of(found.primal, key, lam)
    more = 1 + (beta - 1) * least / two_layer.squared_norm(found.primal)
    stretch = math.sqrt(more + math.sqrt(more**2 - 1))  # (s² + s⁻²)/2 = more
    heavier = (stretch * first, last / stretch)
    assert objective_of(heavier, key, lam) == pytest.approx(beta * least, rel=1e-9)
    bound = least_margin(math.log(found.upper), math.log(lam), beta, key[1])
    assert bound <= margin_of(heavier, key) <= bound * (1 + 8 / math.log(1 / lam))


@given(st.integers(0, 1000), st.sampled_from([1e-9, 1e-16, 1e-100]))
def test_no_network_near_a_minimizer_falls_below_it(seed, lam):
    """Random changes of the weights, rescaled at random; each at the β that it has."""
    key, rng = KEYS[1], np.random.default_rng(seed)
    found = minimum(key, lam)
    least = found.lower / lam
    for size in (1e-4, 1e-3, 1e-2):
        moved = tuple(p * (1 + size * rng.normal(size=p.shape)) for p in found.primal)
        moved = tuple(p * (1 + size * rng.uniform(0, 30)) for p in moved)
        beta = objective_of(moved, key, lam) / least
        bound = least_margin(math.log(found.lower), math.log(lam), beta, key[1])
        assert margin_of(moved, key) >= bound


@pytest.mark.parametrize(("order", "power"), [(2, 2.0), (3, 2.0), (2, 3.0)])
def test_the_worst_split_is_found_by_another_search(order, power):
    """min over u of ℓ⁻¹(n(1 − u)βF*)/(uβF*/λ)^(a/r), scipy on log(1 − u)."""
    from scipy.optimize import minimize_scalar

    log_minimum, lam, beta, n = math.log(3e-14), 1e-16, 1.7, 20

    def margin(log_rest):
        loss = n * beta * math.exp(log_rest + log_minimum)
        penalty = (1 - math.exp(log_rest)) * beta * math.exp(log_minimum) / lam
        return -math.log(math.expm1(loss)) / penalty ** (order / power)

    best = minimize_scalar(margin, bounds=(-20.0, -1e-3), method="bounded", options={"xatol": 1e-9})
    found = least_margin(log_minimum, math.log(lam), beta, n, order, power)
    assert found == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("beta", [1.0, 1.9])
def test_it_is_positive_where_n_times_the_objective_is_below_log_two(beta):
    """Else all of the objective may be the loss of one sample that is wrong."""
    for num_samples in (5, 100):
        limit = math.log(math.log(2) / (num_samples * beta))
        assert least_margin(limit - 1e-3, math.log(1e-9), beta, num_samples) > 0
        assert least_margin(limit + 1e-3, math.log(1e-9), beta, num_samples) < 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: generalization_bound(0.1, 0, 1.0, 2), "num_samples must be at least 1, got 0"),
        (lambda: generalization_bound(0.1, np.array([5, 0]), 1.0, 2), "num_samples.*got 0"),
        (lambda: generalization_bound(0.1, 9, 1.0, 0), "depth must be at least 1, got 0"),
        (lambda: generalization_bound(0.1, 9, 0.0, 2), "largest_norm must be positive.*got 0.0"),
        (lambda: generalization_bound(0.1, 9, math.inf, 2), "largest_norm.*finite, got inf"),
        (lambda: generalization_bound(0.1, 9, math.nan, 2), "largest_norm.*got nan"),
        (
            lambda: generalization_bound(0.1, 9, 1.0, 2, 0.0),
            "delta must lie between 0 and 1, got 0",
        ),
        (lambda: generalization_bound(0.1, 9, 1.0, 2, 1.0), "delta.*got 1.0"),
        (lambda: generalization_bound(0.1, 9, 1.0, 2, math.nan), "delta.*got nan"),
        (lambda: two_layer_bound(0.1, 0, 1.0, 1.0), "num_samples must be at least 1, got 0"),
        (lambda: two_layer_bound(0.1, 9, 0.0, 1.0), "mean_square_norm must be positive.*got 0.0"),
        (lambda: two_layer_bound(0.1, 9, 1.0, math.inf), "largest_norm must be.*finite, got inf"),
        (
            lambda: kernel_bound(0.1, 9, np.array([1.0, -2.0]), 1.0),
            "mean_diagonal must be positive and finite, got -2.0",
        ),
        (lambda: kernel_bound(0.1, 9, 1.0, math.nan), "largest_diagonal must be.*got nan"),
        (lambda: kernel_bound(0.1, 9, 1.0, 1.0, 1.5), "delta.*got 1.5"),
        (lambda: theorem_margin(0.1, 0.9), r"beta must lie in \[1, 2\], got 0.9"),
        (lambda: theorem_margin(0.1, 2.1), r"beta.*got 2.1"),
        (lambda: theorem_margin(0.1, np.array([1.0, 3.0])), r"beta.*got \[1. 3.\]"),
        (lambda: theorem_margin(0.1, math.nan), "beta.*got nan"),
        (lambda: least_margin(-20.0, -21.0, 0.99, 5), "beta must be at least 1, got 0.99"),
        (lambda: least_margin(-20.0, -21.0, math.nan, 5), "beta.*got nan"),
    ],
)
def test_bad_values_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
