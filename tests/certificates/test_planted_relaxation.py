"""The relaxation's bounds against exact maxima, and what it must never prove."""

import jax
import numpy as np
import pytest

from ntkreg import data
from ntkreg.certificates import planted_relaxation
from ntkreg.certificates.oracles import make_oracle, of_signs
from ntkreg.certificates.planted import MASS, planted_optimality
from ntkreg.certificates.planted_relaxation import (
    bound,
    halves,
    near_bound,
    planted_proof,
    spread_weights,
    zone_bound,
    zones,
)


def sample(seed, num_samples, dim):
    drawn = data.noisy_xor(jax.random.key(seed), num_samples, dim)
    return np.asarray(drawn.x, np.float64), np.asarray(drawn.y, np.float64)


def inside(zone, x, units):
    """Which units are in the zone, from its rows alone, up to rounding."""
    p = np.maximum(units @ x.T, 0.0)
    seen = np.column_stack([np.ones(len(units)), units, p]) @ zone.rows.T
    k = zone.num_cone
    in_cone = seen[:, 0] + 1e-12 >= np.linalg.norm(seen[:, 1:k], axis=1)
    zero = np.diag(zone.empty)[k:]
    return in_cone & (seen[:, k:] >= -1e-12).all(1) & (seen[:, k:][:, zero] <= 1e-12).all(1)


def units_around(x, axis, rng):
    """Random units, and units at all distances from ±e_axis."""
    far = rng.normal(size=(20_000, x.shape[1]))
    near = far * rng.uniform(0, 0.6, (len(far), 1)) + 0.0
    near[:, axis] = rng.choice([-1.0, 1.0], len(far)) * np.sqrt(x.shape[1])
    units = np.concatenate([far, near])
    return units / np.linalg.norm(units, axis=1, keepdims=True)


@pytest.mark.parametrize("axis", [0, 1])
def test_zones_cover_all_but_what_is_near(axis):
    x, _ = sample(0, 16, 5)
    units = units_around(x, axis, np.random.default_rng(0))
    near = np.abs(units[:, axis]) >= 1 / np.sqrt(1 + 1 / 3)
    covered = np.any([inside(zone, x, units) for zone in zones(x, axis)], axis=0)
    assert 0.01 < near.mean() < 0.99
    assert (covered | near).all()


@pytest.mark.parametrize("max_steps", [50, 600])
@pytest.mark.parametrize("seed", range(2))
def test_no_unit_of_a_zone_exceeds_its_bound(seed, max_steps):
    """Weights of any signs, large enough that no bound ends at 1/4; any number of steps."""
    x, _ = sample(seed, 16, 5)
    rng = np.random.default_rng(seed)
    c = rng.normal(size=len(x)) * 10
    units = units_around(x, 0, rng)
    values = np.maximum(units @ x.T, 0.0) @ c
    for zone in zones(x, 0):
        found = zone_bound(zone, x, c, max_steps)
        assert found.steps == max_steps
        assert found.upper >= values[inside(zone, x, units)].max() - 1e-9
        for half in halves(zone, x, c, found.mean):
            here = inside(half, x, units)
            assert zone_bound(half, x, c, max_steps).upper >= values[here].max(initial=0) - 1e-9


def test_the_bound_of_a_zone_is_near_the_largest_value_there():
    x, y = sample(0, 16, 5)
    rng = np.random.default_rng(0)
    rest = zones(x, 0)[-1]
    units = units_around(x, 0, rng)
    units = units[inside(rest, x, units)]
    c = 40.0 * y / len(y)
    largest = (np.maximum(units @ x.T, 0.0) @ c).max()
    upper = zone_bound(rest, x, c, 2000).upper
    assert largest <= upper <= 1.25 * largest


def test_halves_are_all_of_a_zone_and_know_a_sign():
    """That of the unit the relaxation is least sure of, among those with c > 0."""
    x, _ = sample(0, 16, 5)
    c = np.where(np.arange(16) == 3, 2.0, -1.0)
    c[7] = 1.0
    rest, rng = zones(x, 0)[-1], np.random.default_rng(0)
    units = units_around(x, 0, rng)
    u = 0.1 * x[0]
    p = np.full(16, 1.0)
    on, off = halves(rest, x, c, np.concatenate([[1.0], u, p]))
    signs = np.array([inside(half, x, units) for half in (on, off)])
    assert (signs.any(axis=0) == inside(rest, x, units)).all()
    z = units[signs[0]] @ x[3], units[signs[1]] @ x[3]
    assert z[0].min() >= 0 >= z[1].max() and len(z[0]) > 1000 < len(z[1])


@pytest.mark.parametrize("seed", range(8))
def test_what_is_proved_is_so_and_what_is_refuted_never_proved(seed):
    """d = 4, n = 16, near the transition: against the enumeration of all faces."""
    x, y = sample(seed, 16, 4)
    weights = spread_weights(x, y, 5, 0)
    refuted = planted_optimality(data.Dataset(x, y)).refuted
    if weights is None:
        assert refuted
        return
    upper, _ = bound(x, y, weights, 400, 50)
    exact = of_signs(make_oracle("enumerate", x), weights[: len(y)] * y).lower
    assert upper >= exact * (1 - 1e-12)
    assert not (refuted and upper <= MASS * (1 + 1e-7))


def test_a_sample_is_proved_and_a_search_finds_no_more():
    x, y = sample(0, 40, 6)
    found = planted_proof(data.Dataset(x, y))
    assert found.optimal and found.nodes > 0
    exact = of_signs(make_oracle("multistart", x), found.alpha * y)
    assert exact.lower <= 2 * found.upper * (1 + 1e-12)
    assert found.alpha.sum() == pytest.approx(1)


@pytest.mark.parametrize("dim", [3, 4, 5])
def test_on_all_of_the_population_it_is_proved(dim):
    assert planted_proof(data.noisy_xor_population(dim)).optimal


@pytest.mark.parametrize("count", [1, 4])
def test_samples_without_one_of_the_signals_are_refuted(count):
    whole = data.noisy_xor_population(4)
    found = planted_proof(data.Dataset(whole.x[:count], whole.y[:count]))
    assert found.refuted and not found.optimal and np.isinf(found.upper)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "num_samples"), [(0, 100), (8, 100), pytest.param(2, 80, id="few samples")]
)
def test_a_sample_in_twenty_dimensions_is_proved(seed, num_samples):
    """Once ten zones are enough; where zones have to be halved; and with less slack."""
    x, y = sample(seed, num_samples, 20)
    assert planted_proof(data.Dataset(x, y)).optimal


def test_weights_that_miss_the_local_condition_are_not_proved_near_the_neurons():
    x, y = sample(0, 40, 6)
    weights = spread_weights(x, y, 3, 0)
    assert near_bound(x, weights) == pytest.approx(MASS, abs=1e-8)
    weights[np.flatnonzero(weights[: len(y)])[0]] += 0.05
    assert near_bound(x, weights) > MASS * 1.01


def test_too_few_steps_leave_it_open(monkeypatch):
    monkeypatch.setattr(planted_relaxation, "APART", (0.0,))
    x, y = sample(0, 40, 6)
    found = planted_proof(data.Dataset(x, y), max_rounds=2, max_steps=1, max_zones=30)
    assert not found.optimal and not found.refuted and np.isinf(found.upper)
