"""Descent on kernels against networks that move by it: linearised, centred, wide."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkreg import data, fully_connected, kernels
from ntkreg.kernels.kernel_machines import min_norm_interpolant
from ntkreg.networks.network import check_homogeneous
from ntkreg.training import objectives, trainers
from ntkreg.training.kernel_regime import (
    FromStart,
    centred,
    kernel_descent,
    kernel_flow,
    linearised,
    relative_change,
)

TRAIN = data.noisy_xor(jax.random.key(0), 16, 6)
TEST = data.noisy_xor(jax.random.key(1), 8, 6)
NETWORK = fully_connected(3, 12, scaling="ntk")
RATE = 0.3


def pair_at(key):
    """Parameters away from their start."""
    one, two = (NETWORK.init(k, 6) for k in jax.random.split(key))
    return FromStart(one, two)


def trained(network, start, loss, steps):
    options = dict(optimizer=optax.sgd, schedule=trainers.constant, descend="plain")
    result = trainers.train(
        network, TRAIN, lam=0.0, key=jax.random.key(0), learning_rate=RATE, params=start,
        loss=loss, num_steps=steps, **options,
    )  # fmt: skip
    return result.params


@pytest.mark.parametrize("make", [centred, linearised])
def test_functions_start_at_zero_and_are_homogeneous_in_both(make):
    network = make(NETWORK)
    start = network.init(jax.random.key(0), 6)
    np.testing.assert_array_equal(network.apply(start, TEST.x), 0.0)
    check_homogeneous(network, pair_at(jax.random.key(1)), TEST.x)
    assert make(NETWORK) is network  # so that compiled functions are found again


def test_linearised_is_the_first_order_of_centred():
    pair = pair_at(jax.random.key(2))
    off = lambda size: FromStart(jax.tree.map(lambda a, b: b + size * (a - b), *pair), pair.start)
    gaps = [
        jnp.linalg.norm(
            centred(NETWORK).apply(off(e), TEST.x) - linearised(NETWORK).apply(off(e), TEST.x)
        )
        for e in (1e-2, 1e-3)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(100, rel=0.05)


@pytest.mark.parametrize("loss", ["logistic", pytest.param("squared", marks=pytest.mark.slow)])
def test_a_linearised_network_descends_as_its_empirical_kernel(loss):
    start = linearised(NETWORK).init(jax.random.key(0), 6)
    end = trained(linearised(NETWORK), start, loss, 200)
    for before, after in zip(start.start, end.start, strict=True):
        np.testing.assert_array_equal(before, after)
    gram = kernels.empirical_ntk(NETWORK, start.start, TRAIN.x)
    cross = kernels.empirical_ntk(NETWORK, start.start, TEST.x, TRAIN.x)
    beta = kernel_descent(objectives.get_loss(loss), gram, TRAIN.y, RATE, 200)
    for x, matrix in ((TRAIN.x, gram), (TEST.x, cross)):
        np.testing.assert_allclose(linearised(NETWORK).apply(end, x), matrix @ beta, rtol=1e-10)


def test_squared_descent_is_the_power_of_its_matrix_from_any_start():
    gram = kernels.ntk(NETWORK, TRAIN.x)
    start = jnp.linspace(-1.0, 1.0, 16)
    beta = kernel_descent(objectives.get_loss("squared"), gram, TRAIN.y, RATE, 50, start)
    power = np.linalg.matrix_power(np.eye(16) - 2 * RATE * gram / 16, 50)
    np.testing.assert_allclose(start + gram @ beta, TRAIN.y + power @ (start - TRAIN.y), rtol=1e-9)


def test_descent_in_two_parts_is_descent_in_one():
    gram, loss = kernels.ntk(NETWORK, TRAIN.x), objectives.get_loss("logistic")
    half = kernel_descent(loss, gram, TRAIN.y, RATE, 30)
    whole = kernel_descent(loss, gram, TRAIN.y, RATE, 60)
    again = kernel_descent(loss, gram, TRAIN.y, RATE, 30, coefficients=half)
    np.testing.assert_array_equal(whole, again)


def test_small_steps_tend_to_the_flow_at_first_order():
    gram = kernels.ntk(NETWORK, TRAIN.x)
    flow = kernel_flow(gram, TRAIN.y, jnp.array([10.0]))[0]
    loss = objectives.get_loss("squared")
    gaps = [
        jnp.linalg.norm(kernel_descent(loss, gram, TRAIN.y, 10.0 / n, n) - flow)
        for n in (400, 4000)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(10, rel=0.02)


def test_the_flow_starts_at_rest_and_ends_at_the_interpolant():
    gram, start = kernels.ntk(NETWORK, TRAIN.x), jnp.linspace(-1.0, 1.0, 16)
    none, late = kernel_flow(gram, TRAIN.y, jnp.array([0.0, 1e6]), start)
    np.testing.assert_array_equal(none, 0.0)
    np.testing.assert_allclose(late, min_norm_interpolant(gram, TRAIN.y - start), rtol=1e-8)


def test_the_flow_of_a_singular_kernel_is_finite():
    gram = jnp.zeros((16, 16)).at[0, 0].set(1.0)
    beta = kernel_flow(gram, TRAIN.y, jnp.array([3.0]))[0]
    np.testing.assert_allclose(beta[1:], 2 * 3.0 / 16 * TRAIN.y[1:])
    np.testing.assert_allclose(beta[0], -np.expm1(-6 / 16) * TRAIN.y[0])


def test_training_gets_lazy_like_one_over_the_output_scale():
    """From s·Θ₀ at the rate η s²/α² the centred network leaves its linearisation as 1/α."""
    start, network = NETWORK.init(jax.random.key(5), 6), centred(NETWORK)

    def distance(output_scale):
        scale = output_scale ** (1 / NETWORK.order)
        rate = RATE * scale**2 / output_scale**2
        scaled = optax.tree.scale(scale, start)
        options = dict(optimizer=optax.sgd, schedule=trainers.constant, descend="plain")
        end = [
            trainers.train(
                made(NETWORK), TRAIN, lam=0.0, key=jax.random.key(0), learning_rate=rate,
                params=FromStart(scaled, scaled), loss="squared", num_steps=100, **options,
            ).params
            for made in (centred, linearised)
        ]  # fmt: skip
        return relative_change(
            network.apply(end[0], TEST.x), linearised(NETWORK).apply(end[1], TEST.x)
        )

    near, far = distance(30.0), distance(300.0)
    assert near / far == pytest.approx(10, rel=0.1) and far < 0.01


def test_relative_change_is_of_all_entries():
    assert relative_change(jnp.array([[3.0, 0.0]]), jnp.array([[3.0, 4.0]])) == 0.8
