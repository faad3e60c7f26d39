"""Losses and conjugates in NumPy: against JAX, against each other, and where numbers are tiny."""

import decimal
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ntkreg.conjugates import DUALS
from ntkreg.objectives import get_loss

NAMES = list(DUALS)


def exact_entropy(b):
    """−b log b − (1 − b) log(1 − b) in 450 digits."""
    with decimal.localcontext() as context:
        context.prec, b = 450, decimal.Decimal(b)
        return float(-b * b.ln() - (1 - b) * (1 - b).ln())


@pytest.mark.parametrize("b", [1e-300, 1e-200, 1e-100, 1e-17, 1e-9, 1e-3, 0.3, 0.5, 0.9, 1 - 1e-9])
def test_the_logistic_conjugate_is_an_entropy_to_the_last_digits(b):
    """At b = 1e-200 it is b(1 + log 1/b): the second half is of (1 − b) log(1 − b)."""
    dual_value = DUALS["logistic"].dual_value
    for y in (1.0, -1.0):
        found = float(dual_value(np.array([b * y]), np.array([y]))[0])
        assert found == pytest.approx(exact_entropy(b), rel=1e-14)
    if b < 1e-20:
        assert exact_entropy(b) == pytest.approx(b * (1 + math.log(1 / b)), rel=1e-14)


def test_the_logistic_conjugate_is_zero_at_its_ends():
    dual_value = DUALS["logistic"].dual_value
    np.testing.assert_array_equal(dual_value(np.array([0.0, 1.0]), np.ones(2)), [0.0, 0.0])


@pytest.mark.parametrize("name", NAMES)
@given(st.floats(-30.0, 30.0), st.sampled_from([1.0, -1.0]))
def test_values_slopes_and_curvatures_are_those_of_the_loss_in_jax(name, f, y):
    loss = lambda output: get_loss(name).value(output, y)
    dual = DUALS[name]
    value, slope, curvature = (
        of(np.array([f]), np.array([y]))[0] for of in (dual.value, dual.slope, dual.curvature)
    )
    assert value == pytest.approx(float(loss(jnp.asarray(f))), rel=1e-12)
    assert slope == pytest.approx(float(jax.grad(loss)(jnp.asarray(f))), rel=1e-12)
    assert curvature == pytest.approx(float(jax.grad(jax.grad(loss))(jnp.asarray(f))), rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(st.floats(1e-6, 1 - 1e-6), st.sampled_from([1.0, -1.0]))
def test_the_conjugate_is_the_least_of_loss_and_line(name, share, y):
    """−ℓ*(−b) = min over f of ℓ(f) + bf, by scipy; no f is below."""
    value, dual_value = DUALS[name].value, DUALS[name].dual_value
    b, y = np.array([share * y]), np.array([y])
    above = lambda f: float(value(np.array([f]), y)[0] + b[0] * f)
    best = minimize_scalar(above, bounds=(-30, 30), method="bounded", options={"xatol": 1e-9})
    assert float(dual_value(b, y)[0]) == pytest.approx(best.fun, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_scaled_weights_keep_their_direction_and_are_feasible(name, seed, most):
    """At most `most` times; the logistic ones in [0, 1] and no worse than as large as they may be,
    the squared ones the best on their ray."""
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], 6)
    b = rng.uniform(0, 2, 6) * y
    scaled, dual_value = DUALS[name].scaled, DUALS[name].dual_value
    found = scaled(b, y, most)
    size = found[0] / b[0]
    np.testing.assert_allclose(found, size * b, rtol=1e-12)
    assert 0 < size <= most * (1 + 1e-12)
    value = np.mean(dual_value(found, y))
    if name == "logistic":
        assert (found * y <= 1 + 1e-12).all() and (found * y >= 0).all()
        feasible = min(most, 1 / np.max(b * y))
        assert value >= np.mean(dual_value(feasible * b, y)) - 1e-15
    else:
        for other in np.linspace(0, most, 50):
            assert value >= np.mean(dual_value(other * b, y)) - 1e-12
