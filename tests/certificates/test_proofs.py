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

from ntkreg.certificates.proofs import DUALS, dual_minimum
from ntkreg.training.objectives import get_loss

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
def test_a_bound_is_the_best_on_the_ray_of_its_weights(name, seed, most):
    """At most `most` times, in the domain, and not below any other size that is allowed."""
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], 6)
    b, dual_value = rng.uniform(0, 2, 6) * y, DUALS[name].dual_value
    bound, found = dual_minimum(name, y, 1 / 6, b, 2 / most)
    size = found[0] / b[0]
    np.testing.assert_allclose(found, size * b, rtol=1e-12)
    assert 0 < size <= most
    others = np.linspace(0, min(most, 1 / np.max(b * y)) if name == "logistic" else most, 50)
    assert all(bound >= np.mean(dual_value(other * b, y)) - 1e-12 for other in others)


def test_weights_against_the_labels_prove_nothing():
    """b·y < 0: no size above 0 is better than 0, and a logistic weight is outside the domain."""
    y, against = np.array([1.0, -1.0]), np.array([-1.0, 1.0])
    for name in NAMES:
        bound, dual = dual_minimum(name, y, 1e-4, against, 100.0)
        assert bound == 0.0 and not dual.any()
    assert (DUALS["logistic"].dual_value(against, y) == -np.inf).all()
