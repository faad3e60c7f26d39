"""The perturbed flow: its steps, its noise, traps and escapes, and the step that is stable."""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkreg import certificates, data, networks
from ntkreg.training import flows, mean_field, trainers
from ntkreg.training.flows import Flow
from ntkreg.training.mean_field import RELU, Model

SAMPLES = data.random_labels(jax.random.key(0), num_samples=8, dim=2)
LAM = 0.02


def begun(num=200, seed=1):
    start = mean_field.uniform_start(jax.random.key(seed), num, 2)
    return flows.init(start, jax.random.key(seed + 50))


def test_one_step_is_descent_on_the_objective_of_the_network_with_the_same_step():
    """A particle flow is gradient descent at finite width: trainers take the same steps."""
    state, eta = begun(num=6), 0.05
    flow = Flow(num_steps=10)
    end = flows.advance(flow, SAMPLES, flows.settings(LAM, eta), state, 10)
    network = networks.fully_connected(2, 6)
    result = trainers.train(
        network, SAMPLES, lam=LAM, key=jax.random.key(0), learning_rate=eta, descend="plain",
        params=mean_field.as_network(state.particles), optimizer=optax.sgd, num_steps=10,
        schedule=trainers.constant,
    )  # fmt: skip
    chex.assert_trees_all_close(mean_field.as_network(end.particles), result.params, rtol=1e-10)


@pytest.mark.parametrize("noise", ["resample", "langevin"])
def test_cutting_a_run_into_calls_does_not_change_a_bit(noise):
    flow = Flow(noise=noise, num_steps=50)
    settings = flows.settings(LAM, 0.05, 0.5)
    whole = flows.advance(flow, SAMPLES, settings, begun(), 99)
    parts = begun()
    for length in (1, 7, 30, 40):
        parts = flows.advance(flow, SAMPLES, settings, parts, length)
    chex.assert_trees_all_equal(
        whole._replace(key=jax.random.key_data(whole.key)),
        parts._replace(key=jax.random.key_data(parts.key)),
    )
    assert int(whole.step) == 50 and bool(flows.is_done(flow, whole))


def test_particles_are_drawn_anew_with_probability_sigma_eta_at_each_step():
    state, flow = begun(num=2000), Flow(num_steps=1000)
    settings = flows.settings(
        LAM, 1e-9, 2e7, noisy_steps=25
    )  # ση = 0.02, and no descent to speak of
    counts, hits = [], np.zeros(2000, int)
    step = jax.jit(lambda s: flows.step(flow, SAMPLES, settings, s))
    for _ in range(25):
        new = step(state)
        moved = np.asarray(jnp.abs(new.particles - state.particles).max(axis=1) > 1e-6)
        counts.append(moved.sum())
        hits += moved
        state = new
    # 25 · 2000 trials at 0.02: mean 1000, standard deviation 31.3; and memoryless ones.
    assert abs(sum(counts) - 1000) < 4 * 31.3
    twice = (hits >= 2).mean()
    assert twice == pytest.approx(1 - 0.98**25 - 25 * 0.02 * 0.98**24, abs=0.03)
    drawn = np.asarray(state.particles)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1.0, atol=1e-6)
    after = step(state)
    assert float(jnp.abs(after.particles - state.particles).max()) < 1e-6  # the noise has ended


def test_langevin_noise_spreads_by_the_root_of_two_sigma_eta_each_step():
    state, flow = begun(num=20_000), Flow(noise="langevin")
    end = flows.advance(flow, SAMPLES, flows.settings(LAM, 1e-6, 50.0), state, 9)
    moves = np.asarray(end.particles - state.particles)
    assert moves.std() == pytest.approx((9 * 2 * 1e-6 * 50.0) ** 0.5, rel=0.02)
    still = flows.advance(flow, SAMPLES, flows.settings(LAM, 1e-6, 50.0, 0), state, 9)
    assert float(jnp.abs(still.particles - state.particles).max()) < 1e-4


def test_noise_escapes_from_the_trap_in_which_the_plain_flow_stays():
    samples = data.noisy_xor_population(3)
    best = certificates.global_minimum(samples, 1e-2)
    trap = certificates.global_minimum(samples, 1e-2, output_sign=1)
    start = mean_field.one_sign_start(jax.random.key(0), 500, 3)
    options = dict(lam=1e-2, key=jax.random.key(1), particles=start, num_steps=8000)
    stuck = flows.noisy_flow(samples, **options)
    assert float(stuck.info.objective) == pytest.approx(trap.upper, rel=0.01)
    assert (stuck.particles[:, 0] >= 0).all()
    freed = flows.noisy_flow(samples, sigma=2e-3, noisy_steps=6000, **options)
    assert best.lower <= float(freed.info.objective) < 1.002 * best.upper
    assert trap.upper > 1.7 * best.upper


def test_the_plain_flow_descends_at_the_stable_step_and_diverges_far_beyond_it():
    step_size = flows.stable_step(SAMPLES, LAM)
    state, flow = begun(), Flow(num_steps=500)
    advance = jax.jit(lambda s: flows.advance(flow, SAMPLES, flows.settings(LAM, step_size), s, 1))
    values = []
    for _ in range(200):
        state = advance(state)
        values.append(float(state.objective))
    assert np.all(np.diff(values) < 1e-9)
    with pytest.raises(ValueError, match=r"step_size=.*diverge.*1/\(κ·λmax\(XᵀX/n\)·M\)"):
        flows.noisy_flow(SAMPLES, lam=LAM, key=jax.random.key(0), step_size=400.0, num_steps=300)


def test_the_stable_step_is_its_formula():
    x = np.asarray(SAMPLES.x)
    spectral = np.linalg.eigvalsh(x.T @ x / 8)[-1]
    assert float(flows.stable_step(SAMPLES, LAM)) == pytest.approx(
        4 / (spectral * np.log(2.0) / LAM)
    )
    reals = SAMPLES._replace(y=2.0 * SAMPLES.y)
    assert float(flows.stable_step(reals, LAM, "squared")) == pytest.approx(
        1 / (2 * spectral * 4.0 / LAM)
    )


def test_the_squared_loss_comes_to_its_certified_minimum():
    reals = SAMPLES._replace(y=SAMPLES.y + 0.3)
    options = dict(lam=LAM, key=jax.random.key(0), num_steps=5000, num_particles=300)
    end = flows.noisy_flow(reals, model=Model(loss="squared"), **options)
    best = certificates.global_minimum(reals, LAM, loss="squared")
    assert best.lower <= float(end.info.objective) < 1.002 * best.upper


@pytest.mark.slow
def test_the_soft_unit_flows_to_rest():
    options = dict(lam=LAM, key=jax.random.key(0), num_steps=3000, num_particles=300)
    end = flows.noisy_flow(SAMPLES, model=Model("soft_relu"), **options)
    start = mean_field.uniform_start(jax.random.key(0), 300, 2)
    before = mean_field.measure(Model("soft_relu"), start, SAMPLES, LAM)
    assert float(end.info.objective) < 0.8 * float(before.objective)
    assert float(end.info.gradient_norm) < 0.02 * float(before.gradient_norm)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_flow_has_the_dtype_of_its_data(dtype):
    samples = jax.tree.map(lambda a: a.astype(dtype), SAMPLES)
    result = flows.noisy_flow(
        samples, lam=LAM, key=jax.random.key(0), sigma=1e-2, num_steps=20, num_particles=10
    )
    assert result.particles.dtype == result.info.objective.dtype == dtype


def test_settings_of_all_values_share_one_compilation():
    traced = chex.assert_max_traces(lambda k, s: flows.step(Flow(), SAMPLES, k, s), n=1)
    step = jax.jit(traced)
    state = begun()
    for lam, eta, sigma in ((0.1, 0.2, 0.0), (0.01, 0.1, 0.5)):
        state = step(flows.settings(lam, eta, sigma, 7), state)
    assert int(state.step) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: flows.settings(LAM, 0.1, -1.0), "sigma must be at least 0 and finite, got -1.0"),
        (
            lambda: flows.settings(LAM, 0.1, 11.0),
            r"sigma·step_size must be at most 1.*got 11.0·0.1",
        ),
        (lambda: flows.settings(0.0, 0.1), "lam must be positive and finite, got 0.0"),
        (
            lambda: flows.settings(LAM, float("nan")),
            "step_size must be positive and finite, got nan",
        ),
        (lambda: Flow(noise="white"), "noise must be 'resample' or 'langevin', got 'white'"),
        (lambda: Flow(num_steps=0), "num_steps must be at least 1, got 0"),
        (
            lambda: flows.noisy_flow(SAMPLES, lam=LAM, key=jax.random.key(0), num_particles=0),
            "num_particles must be at least 1, got 0",
        ),
        (
            lambda: flows.noisy_flow(
                SAMPLES, lam=LAM, key=jax.random.key(0), particles=jnp.ones((4, 2))
            ),
            r"particles must have shape \(m ≥ 1, 3\), got \(4, 2\)",
        ),
        (
            lambda: flows.noisy_flow(
                SAMPLES, lam=LAM, key=jax.random.key(0), particles=[[1, 2, 3], [0, math.nan, 1]]
            ),
            r"^particles must be finite, got nan at \[1, 1\]$",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_flow_is_what_a_compilation_is_for():
    assert hash(Flow()) == hash(dataclasses.replace(Flow(), model=RELU))
