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
    return in_cone & (seen[:, k:] >= -1e-12).all(1)


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
@pytest.mark.parametrize("seed", range(3))
def test_no_unit_of_a_zone_exceeds_its_bound(seed, max_steps):
    """Weights of any signs, large enough that no bound ends at 1/4; any number of steps."""
    x, _ = sample(seed, 16, 5)
    rng = np.random.default_rng(seed)
    c = rng.normal(size=len(x)) * 10
    units = units_around(x, 0, rng)
    values = np.maximum(units @ x.T, 0.0) @ c
    for zone in zones(x, 0):
        upper, steps = zone_bound(zone, x, c, max_steps)
        assert steps == max_steps
        assert upper >= values[inside(zone, x, units)].max() - 1e-9


def test_the_bound_of_a_zone_is_near_the_largest_value_there():
    x, y = sample(0, 16, 5)
    rng = np.random.default_rng(0)
    rest = zones(x, 0)[-1]
    units = units_around(x, 0, rng)
    units = units[inside(rest, x, units)]
    c = 40.0 * y / len(y)
    largest = (np.maximum(units @ x.T, 0.0) @ c).max()
    upper, _ = zone_bound(rest, x, c, 2000)
    assert largest <= upper <= 1.25 * largest


@pytest.mark.parametrize("seed", range(8))
def test_what_is_proved_is_so_and_what_is_refuted_never_proved(seed):
    """d = 4, n = 16, near the transition: against the enumeration of all faces."""
    x, y = sample(seed, 16, 4)
    weights = spread_weights(x, y, 5, 0)
    refuted = planted_optimality(data.Dataset(x, y)).refuted
    if weights is None:
        assert refuted
        return
    upper, _ = bound(x, y, weights, 400)
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


@pytest.mark.slow
def test_a_sample_in_twenty_dimensions_is_proved():
    x, y = sample(1, 100, 20)
    found = planted_proof(data.Dataset(x, y))
    assert found.optimal and 5000 < found.nodes < 9000


def test_weights_that_miss_the_local_condition_are_not_proved_near_the_neurons():
    x, y = sample(0, 40, 6)
    weights = spread_weights(x, y, 3, 0)
    assert near_bound(x, weights) == pytest.approx(MASS, abs=1e-8)
    weights[np.flatnonzero(weights[: len(y)])[0]] += 0.05
    assert near_bound(x, weights) > MASS * 1.01


def test_too_few_steps_leave_it_open(monkeypatch):
    monkeypatch.setattr(planted_relaxation, "APART", (0.0,))
    x, y = sample(0, 40, 6)
    found = planted_proof(data.Dataset(x, y), max_rounds=2, max_steps=1)
    assert not found.optimal and not found.refuted and np.isinf(found.upper)
