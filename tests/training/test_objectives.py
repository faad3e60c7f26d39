"""Losses and the objective, plain against log domain."""

from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.networks.network import fully_connected
from ntkreg.training.objectives import (
    LOSSES,
    Loss,
    get_loss,
    log_mean_loss,
    log_objective,
    log_softplus_neg,
    mean_loss,
    objective,
    soft_margin,
)

DATA = noisy_xor(jax.random.key(0), 12, 5)
NETWORK = fully_connected(2, 6)
PARAMS = NETWORK.init(jax.random.key(1), 5)


def exact_log_softplus_neg(q: float) -> Decimal:
    with localcontext(prec=400):
        return (1 + (-Decimal(q)).exp()).ln().ln()


def outputs_and_labels(name, seed, scale):
    """Four samples for the loss of that name, with the labels that it takes."""
    first, second = jax.random.split(jax.random.key(seed))
    if LOSSES[name].labels == "class":
        return scale * jax.random.normal(first, (4, 3)), jax.random.randint(second, (4,), 0, 3)
    sign = jax.random.rademacher(second, (4,), float)
    labels = sign if LOSSES[name].labels == "sign" else 3.7 * sign
    return scale * jax.random.normal(first, (4,)), labels


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 100.0))
def test_log_value_is_the_log_of_value(name, seed, scale):
    loss = get_loss(name)
    f, y = outputs_and_labels(name, seed, scale)
    value = loss.value(f, y)
    assert bool(jnp.all(value > 0))
    np.testing.assert_allclose(loss.log_value(f, y), jnp.log(value), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", LOSSES)
@given(seed=st.integers(0, 1000), scale=st.floats(0.1, 100.0))
def test_log_value_has_the_gradient_of_the_log_of_value(name, seed, scale):
    loss = get_loss(name)
    f, y = outputs_and_labels(name, seed, scale)
    logs = jax.grad(lambda f: jnp.sum(loss.log_value(f, y)))(f)
    value = loss.value(f, y).reshape(-1, *[1] * (f.ndim - 1))
    plain = jax.grad(lambda f: jnp.sum(loss.value(f, y)))(f) / value
    np.testing.assert_allclose(logs, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "f", "y", "expected"),
    [
        ("logistic", 0.3, -1.0, np.log1p(np.exp(0.3))),
        ("exponential", 0.3, -1.0, np.exp(0.3)),
        ("squared", 0.3, -1.0, 1.69),
    ],
)
def test_losses_are_their_formulas(name, f, y, expected):
    value = get_loss(name).value(jnp.array([f]), jnp.array([y]))
    np.testing.assert_allclose(value, [expected], rtol=1e-14)


@pytest.mark.parametrize("q", [-800.0, -5.0, 0.0, 5.0, 19.0, 19.999, 20.0, 20.001, 25.0, 700.0])
def test_log_softplus_neg_is_accurate_on_both_sides_of_its_switch(q):
    np.testing.assert_allclose(
        float(log_softplus_neg(q)), float(exact_log_softplus_neg(q)), rtol=1e-15, atol=1e-15
    )


@pytest.mark.parametrize("q", [-5.0, 0.0, 19.999, 20.0, 20.001, 25.0])
def test_log_softplus_neg_has_an_accurate_slope(q):
    """d/dq log log(1 + e^(−q)) = −σ(−q)/log(1 + e^(−q))."""
    with localcontext(prec=60):
        tail = (-Decimal(q)).exp()
        expected = -(tail / (1 + tail)) / (1 + tail).ln()
    np.testing.assert_allclose(jax.grad(log_softplus_neg)(q), float(expected), rtol=1e-14)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_log_softplus_neg_far_out_is_minus_q_with_slope_minus_one(dtype):
    value, slope = jax.value_and_grad(log_softplus_neg)(jnp.asarray(1e4, dtype))
    assert (float(value), float(slope)) == (-1e4, -1.0)
    assert value.dtype == dtype


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_log_softplus_neg_has_a_finite_slope_where_a_run_diverges(dtype):
    """At q = −10⁴ e^(−q) overflows; the slope is −1/softplus(−q) there."""
    slope = jax.grad(log_softplus_neg)(jnp.asarray(-1e4, dtype))
    np.testing.assert_allclose(slope, -1e-4, rtol=1e-6)


@given(st.integers(0, 1000), st.floats(0.1, 50.0))
def test_cross_entropy_is_minus_log_softmax(seed, scale):
    f, y = outputs_and_labels("cross_entropy", seed, scale)
    expected = -jax.nn.log_softmax(f)[jnp.arange(4), y]
    np.testing.assert_allclose(get_loss("cross_entropy").value(f, y), expected, atol=1e-12)


def test_cross_entropy_of_two_classes_is_logistic_in_their_difference():
    f = 3 * jax.random.normal(jax.random.key(0), (8, 2))
    y = jnp.arange(8) % 2
    sign, difference = 2.0 * y - 1.0, f[:, 1] - f[:, 0]
    np.testing.assert_allclose(soft_margin(f, y), sign * difference, rtol=1e-13)
    for plain in ("value", "log_value"):
        classes = getattr(get_loss("cross_entropy"), plain)(f, y)
        signs = getattr(get_loss("logistic"), plain)(difference, sign)
        np.testing.assert_allclose(classes, signs, rtol=1e-12)


def test_cross_entropy_stays_in_the_log_domain_far_out():
    """Margins of 1e4, where the loss itself is 0 in any precision."""
    f, y = jnp.array([[1e4, 0.0, 0.0]]), jnp.array([0])
    log_value = lambda f: get_loss("cross_entropy").log_value(f, y)[0]
    value, slope = jax.jit(jax.value_and_grad(log_value))(f)
    np.testing.assert_allclose(value, -1e4 + np.log(2), rtol=1e-14)
    np.testing.assert_allclose(slope, [[-1.0, 0.5, 0.5]], rtol=1e-12)


def test_squared_loss_of_an_exact_fit_has_a_finite_log_and_gradient():
    log_value = lambda f: get_loss("squared").log_value(f, jnp.ones(1))[0]
    value, slope = jax.value_and_grad(log_value)(jnp.ones(1))
    assert np.isfinite(value) and np.isfinite(slope).all()


@pytest.mark.parametrize("name", ["logistic", "exponential", "squared"])
@given(lam=st.floats(1e-12, 10.0), power=st.floats(0.5, 4.0))
def test_log_objective_is_the_log_of_the_objective(name, lam, power):
    arguments = (get_loss(name), NETWORK, PARAMS, DATA, np.log(lam), power)
    plain, log = objective(*arguments), log_objective(*arguments)
    np.testing.assert_allclose(log, np.log(plain), rtol=1e-12, atol=1e-12)


def test_objective_is_its_formula():
    w1, w2 = map(np.asarray, PARAMS)
    f = (np.maximum(DATA.x @ w1, 0) @ w2)[:, 0]
    norm = np.sqrt((w1**2).sum() + (w2**2).sum())
    expected = np.log1p(np.exp(-DATA.y * f)).mean() + 0.03 * norm**3
    measured = objective(get_loss("logistic"), NETWORK, PARAMS, DATA, np.log(0.03), 3.0)
    np.testing.assert_allclose(measured, expected, rtol=1e-13)


def test_gradient_of_log_objective_is_the_gradient_over_the_objective():
    arguments = (get_loss("logistic"), NETWORK, PARAMS, DATA, np.log(0.03))
    differentiate = lambda f: jax.jit(jax.value_and_grad(f, 2), static_argnums=(0, 1))(*arguments)
    (value, plain), (_, logs) = differentiate(objective), differentiate(log_objective)
    for log, gradient in zip(logs, plain, strict=True):
        np.testing.assert_allclose(log, gradient / value, rtol=1e-10, atol=1e-14)


def test_log_mean_loss_is_the_log_of_the_mean_loss():
    arguments = (get_loss("logistic"), NETWORK, PARAMS, DATA)
    np.testing.assert_allclose(log_mean_loss(*arguments), np.log(mean_loss(*arguments)), rtol=1e-13)


def test_log_objective_knows_a_lambda_that_float32_does_not():
    """λ = 1e-200 with margins of 1e4: the penalty is all of F, and has all of its gradient."""
    assert np.float32(1e-200) == 0
    x, params = jnp.ones((1, 1), jnp.float32), (jnp.full((1, 1), 1e4, jnp.float32),)
    data, linear = Dataset(x, x[:, 0]), fully_connected(1, 1)
    log_f = lambda p, log_lam: log_objective(
        get_loss("logistic"), linear, p, data, jnp.float32(log_lam)
    )
    value, (slope,) = jax.jit(jax.value_and_grad(log_f))(params, -460.5)
    assert value.dtype == slope.dtype == jnp.float32
    np.testing.assert_allclose(value, -460.5 + 2 * np.log(1e4), rtol=1e-6)
    np.testing.assert_allclose(slope, [[2e-4]], rtol=1e-6)
    assert float(log_f(params, -np.inf)) == -1e4


@pytest.mark.parametrize("value", [objective, log_objective])
def test_lambda_zero_is_the_loss_alone(value):
    loss = get_loss("logistic")
    found, gradient = jax.value_and_grad(value, argnums=2)(loss, NETWORK, PARAMS, DATA, -jnp.inf)
    alone = mean_loss if value is objective else log_mean_loss
    expected, slope = jax.value_and_grad(alone, argnums=2)(loss, NETWORK, PARAMS, DATA)
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    for a, b in zip(gradient, slope, strict=True):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-15)


def test_unknown_loss_is_named():
    with pytest.raises(ValueError, match=r"loss must be one of logistic.*'hinge'"):
        get_loss("hinge")


def test_a_loss_of_one_s_own_goes_where_a_name_does():
    own = Loss(lambda f, y: jnp.exp(-y * f), lambda f, y: -y * f, "sign")
    assert get_loss(own) is own
    with pytest.raises(ValueError, match="labels must be one of sign, class, real, got 'rank'"):
        get_loss(own._replace(labels="rank"))
