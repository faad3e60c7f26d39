"""Stationarity on kinks: known shortest gradients, certified minima, and what it does not see."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.sparse as sp

from ntkreg.certificates.certified import global_minimum
from ntkreg.certificates.convex import conic_solution
from ntkreg.data.dataset import Dataset, random_labels
from ntkreg.networks.network import Network, fully_connected
from ntkreg.training.margins import normalized_margin
from ntkreg.training.objectives import get_loss, log_objective
from ntkreg.training.stationarity import log_residual, shortest_gradient

DATA = random_labels(jax.random.key(0), 10, 2)
NETWORK = fully_connected(2, 12)
UNTRAINED = NETWORK.init(jax.random.key(1), 2)
LOGISTIC = get_loss("logistic")
RESIDUAL = jax.jit(log_residual, static_argnums=(0, 1, 5))


@functools.cache
def minimizer(lam, output_sign=None):
    """The certified global minimizer, with neurons of zeros up to twelve."""
    first, last = global_minimum(DATA, lam, output_sign=output_sign).primal
    more = 12 - first.shape[1]
    return jnp.pad(first, [(0, 0), (0, more)]), jnp.pad(last, [(0, more), (0, 0)])


def residual(params, log_lam, data=DATA, network=NETWORK, loss=LOGISTIC, power=2.0):
    return float(RESIDUAL(loss, network, params, data, log_lam, power))


@jax.jit
def log_relative_gradient(params, log_lam):
    """log of ‖∇F‖/‖∇λ‖Θ‖²‖, by the gradient that JAX gives on a kink."""
    value, slope = jax.value_and_grad(log_objective, argnums=2)(
        LOGISTIC, NETWORK, params, DATA, log_lam
    )
    penalty = log_lam + jnp.log(2.0) + jnp.log(optax.tree.norm(params))
    return value + jnp.log(optax.tree.norm(slope)) - penalty


# Functions whose subdifferential is known --------------------------------------------------------

KINKED = {  # name: (function of two numbers, shortest element of its subdifferential at zero)
    "smooth": (lambda p: 3 * p[0] - 4 * p[1], 5.0),
    "a valley": (lambda p: jnp.abs(p[0]) + 2 * jnp.abs(p[1]) + 0.5 * p[0], 0.0),
    "a tilted valley": (lambda p: jnp.abs(p[0]) + 1.5 * p[0] + jnp.abs(p[1]), 0.5),
    "a segment": (lambda p: p[0] + 2 * jnp.abs(p[1]), 1.0),
    "a triangle": (lambda p: jnp.maximum(jnp.maximum(p[0] + p[1], p[0] - p[1]), 3 * p[0]), 1.0),
    "a norm of order one": (lambda p: jnp.abs(p[0] + p[1]) + jnp.abs(p[0] - p[1]), 0.0),
    "a ridge, which descends on both sides": (lambda p: p[1] - jnp.abs(p[0]), 2**0.5),
}


@jax.jit
def shortest_near_zero(number):
    """Of one of the functions by its number, so that all are compiled at once."""
    functions = [function for function, _ in KINKED.values()]
    value = lambda p: jax.lax.switch(number, functions, p)
    return shortest_gradient(jax.grad(value), jnp.array([1e-5, -3e-6]), 1e-3)


@pytest.mark.parametrize("name", KINKED)
def test_shortest_gradient_near_a_kink_is_the_least_combination_of_its_sides(name):
    expected, found = KINKED[name][1], float(shortest_near_zero(list(KINKED).index(name)))
    assert found == pytest.approx(expected, abs=1e-6)
    assert found >= expected - 1e-12


def test_a_ball_that_does_not_reach_the_kink_leaves_the_gradient():
    gradient = jax.grad(KINKED["a valley"][0])
    found = shortest_gradient(gradient, jnp.array([0.3, -0.3]), 0.1)
    assert float(found) == pytest.approx(math.hypot(1.5, 2), rel=1e-14)


@jax.jit
@jax.vmap
def shortest_of_cone(vectors):
    value = lambda p: jnp.max(vectors @ p)
    return shortest_gradient(jax.grad(value), jnp.zeros(4), 1.0)


def clarabels(vectors):
    """min ‖Σ wv‖ over weights w on the simplex; some hulls hold the origin."""
    matrix, right = np.vstack([np.ones(6), -np.eye(6)]), np.eye(7)[0]
    gram, cones = sp.csc_matrix(2 * vectors @ vectors.T), [("zero", 1), ("nonnegative", 6)]
    weights = np.asarray(conic_solution(gram, np.zeros(6), matrix, right, cones).x)
    return np.linalg.norm(weights @ vectors)


def test_shortest_gradient_of_the_largest_of_linear_functions_is_clarabels():
    """Never below, and to 1e-6 on 95 of a hundred draws: its steps are few, and of first order."""
    draws = [np.random.default_rng(seed).normal(size=(6, 4)) + 0.4 for seed in range(100)]
    found = np.asarray(shortest_of_cone(jnp.asarray(draws)))
    above = found - [clarabels(vectors) for vectors in draws]
    assert above.min() > -1e-8 and above.max() < 1e-2
    assert np.mean(above < 1e-6) >= 0.95


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_shortest_gradient_follows_the_dtype_and_opposites_cancel(dtype):
    """sign at zero and beside it: −1 and 1 lie in the ball."""
    for centre in (0.0, 1e-4):
        found = shortest_gradient(jnp.sign, jnp.full(1, centre, dtype), jnp.asarray(1e-3, dtype))
        assert found.dtype == dtype
        assert float(found) == pytest.approx(0, abs=1e-6)


# Networks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", [1e-2, 1e-4, 1e-9, 1e-32, 1e-100])
def test_a_certified_minimizer_on_kinks_is_stationary_though_its_gradient_is_not_small(lam):
    log_lam = jnp.log(lam)
    params = minimizer(lam)
    assert math.exp(residual(params, log_lam)) < 0.02
    assert float(jnp.exp(log_relative_gradient(params, log_lam))) > 0.2


@pytest.mark.parametrize("lam", [1e-2, 1e-4, 1e-9, 1e-32, 1e-100])
def test_one_percent_off_the_minimizer_is_not_stationary(lam):
    """In the directions of all weights; ‖Θ‖ alone hardly changes."""
    noise = jax.random.normal(jax.random.key(5), (3, 12))
    first, last = minimizer(lam)
    moved = (first * (1 + 0.01 * noise[:2]), last * (1 + 0.01 * noise[2:].T))
    log_lam = jnp.log(lam)
    residuals = [residual(p, log_lam) for p in (minimizer(lam), moved)]
    assert residuals[1] > math.log(0.1) > math.log(0.02) > residuals[0]


@pytest.mark.parametrize("lam", [1e-1, 1e-9, 1e-300])
def test_away_from_kinks_it_is_the_relative_gradient(lam):
    """At an untrained network it is about 1/λ."""
    log_lam = jnp.log(lam)
    found = residual(UNTRAINED, log_lam)
    expected = float(log_relative_gradient(UNTRAINED, log_lam))
    assert found <= expected + 1e-12
    assert found == pytest.approx(expected, abs=2e-3)
    assert found > -math.log(lam) - 3


def test_it_keeps_where_inputs_parameters_and_lambda_are_counted_in_other_units():
    """f(cx) of c^(−1/L) Θ is f(x) of Θ, so with λc^(r/L) F is the same function of the two."""
    data, depth, power = random_labels(jax.random.key(2), 8, 3), 3, 1.5
    network = fully_connected(depth, 5)
    params = network.init(jax.random.key(0), 3)
    known = residual(params, jnp.log(1e-3), data, network, power=power)
    for scale in (1e-6, 7.0, 2.0**20):
        other = Dataset(scale * data.x, data.y)
        log_lam = jnp.log(1e-3) + power / depth * jnp.log(scale)
        smaller = optax.tree.scale(scale ** (-1 / depth), params)
        found = residual(smaller, log_lam, other, network, power=power)
        assert found == pytest.approx(known)


def test_it_keeps_at_the_minimizer_in_other_units():
    """By powers of four, which keep every bit of the weights: another factor rounds some of them to
    the other side of their kinks, and the residual at a minimizer is no more than that rounding."""
    lam = 1e-9
    known = residual(minimizer(lam), jnp.log(lam))
    for scale in (4.0**-10, 4.0):
        other = Dataset(scale * DATA.x, DATA.y)
        smaller = optax.tree.scale(scale**-0.5, minimizer(lam))
        found = residual(smaller, jnp.log(scale * lam), other)
        assert found == pytest.approx(known, abs=1e-3)


def test_it_keeps_where_loss_and_lambda_are_multiplied_by_one_number():
    """exp(−y(f − y log c)) is c exp(−yf)."""
    scale = 1e-100
    shifted = Network(
        None, lambda params, x: NETWORK.apply(params, x) - math.log(scale) * DATA.y, None, 2
    )
    loss, log_lam = get_loss("exponential"), jnp.log(1e-3)
    known = residual(UNTRAINED, log_lam, loss=loss)
    found = residual(UNTRAINED, log_lam + math.log(scale), network=shifted, loss=loss)
    assert found == pytest.approx(known, rel=1e-12)


@pytest.mark.parametrize("size", [1e-131, 1e-150])
def test_it_is_that_of_a_larger_network_where_products_of_its_gradients_underflow(size):
    """Of order 2 both terms' gradients are linear in small parameters: their ratio stays."""
    at = lambda scale: residual(jax.tree.map(lambda p: scale * p, UNTRAINED), math.log(0.1))
    assert at(size) == pytest.approx(at(1e-20), rel=1e-6)


def test_it_is_infinite_at_the_zero_network():
    nothing = optax.tree.scale(0.0, UNTRAINED)
    assert residual(nothing, jnp.log(1e-3)) == math.inf


def test_a_network_that_does_not_separate_is_far_from_stationary_at_tiny_lambda():
    """The best of output weights of one sign: stationary at its λ, and wrong on a class."""
    stuck = minimizer(1e-3, output_sign=1)
    assert float(normalized_margin(NETWORK, stuck, DATA)) <= 0
    assert residual(stuck, jnp.log(1e-3)) < math.log(0.02)
    assert residual(stuck, jnp.log(1e-100)) > 200


def test_one_residual_does_not_spoil_the_next():
    """vmapped over a minimizer, NaN and the zero network."""
    lam, broken = 1e-2, optax.tree.scale(jnp.nan, UNTRAINED)
    three = (minimizer(lam), broken, optax.tree.scale(0.0, UNTRAINED))
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *three)
    of_one = lambda params: log_residual(LOGISTIC, NETWORK, params, DATA, jnp.log(lam))
    found = jax.jit(jax.vmap(of_one))(stacked)
    assert float(found[0]) < math.log(0.02)
    assert not found[1] < 0 and float(found[2]) == math.inf
