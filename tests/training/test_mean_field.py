"""Networks as measures: homogeneity, the first variation, the gap that it bounds, and widths."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings

from ntkreg import certificates, data, networks
from ntkreg.certificates import oracles
from ntkreg.data.dataset import Dataset
from ntkreg.theory import closed_forms
from ntkreg.training import mean_field, objectives
from ntkreg.training.mean_field import RELU, UNITS, Model

SAMPLES = data.random_labels(jax.random.key(0), num_samples=9, dim=3)
REALS = Dataset(SAMPLES.x, jax.random.normal(jax.random.key(5), (9,)))
LAM = 0.02


def particles(seed=1, num=12, scale=1.0):
    return scale * mean_field.uniform_start(jax.random.key(seed), num, 3)


@pytest.mark.parametrize("unit", UNITS)
@settings(max_examples=15, deadline=None)
@given(scale=st.floats(0.01, 100.0), seed=st.integers(0, 99))
def test_units_are_2_homogeneous(unit, scale, seed):
    theta = particles(seed)
    np.testing.assert_allclose(
        UNITS[unit](scale * theta, SAMPLES.x), scale**2 * UNITS[unit](theta, SAMPLES.x), rtol=1e-9
    )


def test_the_soft_unit_is_differentiable_where_relu_s_is_not():
    theta = jnp.array([[1.0, 0.0, 1.0]])  # uᵀx = 0 at the sample (1, 0)
    x = jnp.array([[1.0, 0.0]])
    slope = lambda unit, shift: jax.grad(lambda p: UNITS[unit](p, x)[0, 0])(
        theta.at[0, 1].set(shift)
    )[0, 1]
    jump = lambda unit: abs(float(slope(unit, 1e-6) - slope(unit, -1e-6)))
    assert jump("relu") == 1.0 and jump("soft_relu") < 1e-4


def test_particles_are_a_network_of_that_width_with_the_same_objective():
    theta = particles()
    params = mean_field.as_network(theta)
    network = networks.fully_connected(2, 12)
    np.testing.assert_allclose(
        network.apply(params, SAMPLES.x), mean_field.outputs(RELU, theta, SAMPLES.x), rtol=1e-12
    )
    loss = objectives.get_loss("logistic")
    of_network = objectives.objective(loss, network, params, SAMPLES, jnp.log(LAM))
    assert float(of_network) == pytest.approx(
        float(mean_field.objective(RELU, theta, SAMPLES, LAM)), rel=1e-12
    )
    np.testing.assert_allclose(mean_field.from_network(params), theta, rtol=1e-12)


@pytest.mark.parametrize("model", [Model(), Model("soft_relu"), Model("relu", "squared")])
def test_the_first_variation_is_what_a_small_mass_of_new_particles_adds(model):
    samples = REALS if model.loss == "squared" else SAMPLES
    theta, new = particles(), particles(2, 1)
    mass = 1e-5
    # A particle of mass ε beside the others: L[ρ + εδ], by 2-homogeneity a particle √(ε m)·θ.
    both = lambda eps: jnp.concatenate([theta, jnp.sqrt(eps * 12) * new]) * (13 / 12) ** 0.5
    value = lambda eps: float(mean_field.objective(model, both(eps), samples, LAM))
    slope = (value(mass) - value(0.0)) / mass
    expected = mean_field.first_variation(model, theta, samples, LAM, new)[0]
    assert slope == pytest.approx(float(expected), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("model", [Model(), Model("soft_relu", "squared")])
def test_descent_is_the_gradient_of_the_first_variation(model):
    samples = REALS if model.loss == "squared" else SAMPLES
    theta = particles()
    at_rest = lambda at: jnp.sum(mean_field.first_variation(model, theta, samples, LAM, at))
    value, gradient = mean_field.descent(model, theta, samples, LAM)
    np.testing.assert_allclose(gradient, jax.grad(at_rest)(theta), rtol=1e-9, atol=1e-12)
    assert float(value) == float(mean_field.objective(model, theta, samples, LAM))
    whole = jax.grad(lambda p: mean_field.objective(model, p, samples, LAM))(theta)
    np.testing.assert_allclose(gradient, len(theta) * whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_first_variation_bounds_the_true_gap(seed):
    theta = particles(seed, num=40, scale=3.0)
    info = mean_field.measure(RELU, theta, SAMPLES, LAM)
    slopes = np.asarray(
        mean_field.slopes(RELU, mean_field.outputs(RELU, theta, SAMPLES.x), SAMPLES)
    )
    maximize = oracles.make_oracle("enumerate", np.asarray(SAMPLES.x))
    lowest = LAM - oracles.of_signs(maximize, slopes).upper / 2
    tried = mean_field.uniform_start(jax.random.key(9), 20_000, 3)
    seen = mean_field.first_variation(RELU, theta, SAMPLES, LAM, tried).min()
    assert lowest <= float(seen) <= lowest + 0.05 * abs(lowest)
    best = certificates.global_minimum(SAMPLES, LAM)
    bound = float(mean_field.optimality_gap(info, lowest, LAM))
    assert 0 < float(info.objective) - best.upper <= bound


def test_the_certified_minimizer_has_no_gap():
    best = certificates.global_minimum(SAMPLES, LAM, tolerance=1e-9)
    theta = mean_field.from_network(tuple(map(jnp.asarray, best.primal)))
    info = mean_field.measure(RELU, theta, SAMPLES, LAM)
    assert float(info.objective) == pytest.approx(best.upper, rel=1e-9)
    assert abs(float(info.variation)) < 1e-6
    assert float(info.mass) == pytest.approx(sum(float(np.sum(p**2)) for p in best.primal))


def test_starts_lie_on_the_sphere_and_keep_their_sign():
    theta = mean_field.one_sign_start(jax.random.key(0), 50, 3, sign=-1)
    np.testing.assert_allclose(jnp.sum(theta**2, axis=1), 1.0)
    assert (theta[:, 0] < -jnp.linalg.norm(theta[:, 1:], axis=1)).all()
    assert set(np.sign(mean_field.one_sign_start(jax.random.key(0), 50, 1)[:, 1])) == {1.0, -1.0}
    uniform = mean_field.uniform_start(jax.random.key(0), 20_000, 3)
    np.testing.assert_allclose(uniform.T @ uniform / 20_000, np.eye(4) / 4, atol=0.01)


def test_the_spread_is_the_share_of_particles_that_carry_the_mass():
    theta = jnp.zeros((10, 4)).at[:3].set(particles(num=3))
    assert float(mean_field.measure(RELU, theta, SAMPLES, LAM).spread) == pytest.approx(0.3)


@pytest.mark.parametrize("dim", [3, 4])
@pytest.mark.parametrize("lam", [1e-2, 0.05, 0.1])
def test_the_levels_of_the_population_of_d_are_certified(dim, lam):
    samples = data.noisy_xor_population(dim)
    both = certificates.global_minimum(samples, lam)
    assert closed_forms.population_minimum(lam) == pytest.approx(both.upper, rel=1e-7)
    for sign in (1, -1):
        one = certificates.global_minimum(samples, lam, output_sign=sign)
        assert closed_forms.population_one_sign_minimum(lam) == pytest.approx(one.upper, rel=1e-7)


def test_the_population_of_d_has_every_point_once():
    samples = data.noisy_xor_population(5)
    drawn = data.noisy_xor(jax.random.key(0), 2000, 5)
    points = lambda d: {(*map(float, x), float(y)) for x, y in zip(d.x, d.y, strict=True)}
    assert len(points(samples)) == len(samples.y) == 32 and points(samples) == points(drawn)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(unit="tanh"), "unit must be one of relu, soft_relu, got 'tanh'"),
        (dict(loss="cross_entropy"), "loss must be one of logistic, squared, got 'cross_entropy'"),
    ],
)
def test_a_bad_model_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Model(**fields)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: particles(num=0), "num_particles must be at least 1, got 0"),
        (lambda: data.noisy_xor_population(2), "dim must be at least 3"),
        (lambda: closed_forms.population_minimum(0.0), "lam must be positive and finite, got 0"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
