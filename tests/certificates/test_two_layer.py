"""Two-layer networks as sets of units: their outputs, norms, and how few neurons they need."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ntkreg.certificates import two_layer
from ntkreg.certificates.two_layer import Units
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import fully_connected
from ntkreg.training.margins import normalized_margin

seeds = st.integers(0, 10_000)


def random_units(seed, num_points=8, dim=3, count=20):
    """(x, units, vectors) with every vector in the cone of its unit."""
    rng = np.random.default_rng(seed)
    x, vectors = rng.normal(size=(num_points, dim)), rng.normal(size=(count, dim))
    vectors *= np.exp(rng.normal(size=(count, 1)))
    return x, Units(vectors @ x.T > 0, rng.choice([-1.0, 1.0], count)), vectors


def sum_of_relus(x, units, vectors):
    return sum(s * np.maximum(x @ v, 0) for s, v in zip(units.sign, vectors, strict=True))


@given(seeds)
def test_features_of_units_are_their_relus(seed):
    x, units, vectors = random_units(seed)
    outputs = units.features(x) @ vectors.ravel()
    np.testing.assert_allclose(outputs, sum_of_relus(x, units, vectors), atol=1e-12)


@given(seeds)
def test_a_network_of_vectors_is_the_sum_of_their_relus(seed):
    """With at most n neurons, balanced, and ‖Θ‖² ≤ 2Σ‖v‖."""
    x, units, vectors = random_units(seed)
    first, last = two_layer.network_of(x, units, vectors)
    expected = sum_of_relus(x, units, vectors)
    np.testing.assert_allclose(two_layer.outputs((first, last), x), expected, atol=1e-10)
    assert first.shape[1] <= len(x)
    np.testing.assert_allclose(np.linalg.norm(first, axis=0), np.abs(last[:, 0]), rtol=1e-12)
    total = np.linalg.norm(vectors, axis=1).sum()
    assert two_layer.squared_norm((first, last)) <= 2 * total * (1 + 1e-12)


@given(seeds)
def test_vectors_of_one_direction_and_sign_become_one_neuron(seed):
    """Of opposite signs they stay two; those that are next to nothing go."""
    x, units, vectors = random_units(seed, num_points=9, count=3)
    dust = 1e-13 * (vectors + vectors[[1, 2, 0]])
    shares = np.concatenate([0.25 * vectors, 0.75 * vectors, dust, vectors[:1]])
    order = np.concatenate([np.tile(units.sign, 3), -units.sign[:1]])
    many = Units(shares @ x.T > 0, order)
    first, last = two_layer.network_of(x, many, shares)
    assert last.shape == (4, 1)
    outputs = two_layer.outputs((first, last), x)
    np.testing.assert_allclose(outputs, sum_of_relus(x, many, shares), atol=1e-9)


@given(seeds, st.integers(1, 9), st.integers(0, 30))
def test_fewest_keeps_outputs_and_no_more_sum(seed, num_rows, num_columns):
    rng = np.random.default_rng(seed)
    features, mass = rng.normal(size=(num_rows, num_columns)), rng.exponential(size=num_columns)
    kept = two_layer.fewest(features, mass)
    assert (kept >= 0).all() and np.count_nonzero(kept) <= num_rows
    np.testing.assert_allclose(features @ kept, features @ mass, atol=1e-9)
    assert kept.sum() <= mass.sum() * (1 + 1e-12)


def test_fewest_changes_nothing_where_columns_are_few():
    features, mass = np.random.default_rng(0).normal(size=(5, 5)), np.arange(5.0)
    np.testing.assert_array_equal(two_layer.fewest(features, mass), mass)
    assert mass.tolist() == [0, 1, 2, 3, 4]


def test_fewest_takes_the_cheaper_of_two_ways():
    """One output that a column gives at half the price of the other."""
    np.testing.assert_allclose(
        two_layer.fewest(np.array([[1.0, 2.0]]), np.array([1.0, 1.0])), [0, 1.5]
    )


@given(seeds)
def test_units_are_found_once_each(seed):
    x, units, vectors = random_units(seed, num_points=3, dim=2, count=40)
    found = two_layer.units_of(x, vectors, units.sign)
    expected = {(row.tobytes(), s) for row, s in zip(*units, strict=True)}
    assert {(row.tobytes(), s) for row, s in zip(*found, strict=True)} == expected
    assert len(found) == len(expected) < 40


@given(seeds)
def test_units_and_vectors_of_a_network_have_its_outputs_and_no_more_norm(seed):
    """Unbalanced neurons, many to a unit; each vector in the cone of its unit."""
    rng = np.random.default_rng(seed)
    x, first, last = (rng.normal(size=shape) for shape in ((5, 2), (2, 30), (30, 1)))
    last[:3], first[:, 4] = 0.0, 0.0
    units, vectors = two_layer.units_and_vectors(x, (first, last))
    assert vectors.shape == (len(units), 2) and len(units) < 30
    rows = {(row.tobytes(), sign) for row, sign in zip(*units, strict=True)}
    assert len(rows) == len(units)
    outputs = two_layer.outputs((first, last), x)
    np.testing.assert_allclose(units.features(x) @ vectors.ravel(), outputs, atol=1e-12)
    np.testing.assert_allclose(sum_of_relus(x, units, vectors), outputs, atol=1e-12)
    norms = np.linalg.norm(first, axis=0) * np.abs(last[:, 0])
    assert np.linalg.norm(vectors, axis=1).sum() < norms.sum()
    assert 2 * norms.sum() < two_layer.squared_norm((first, last))


@given(seeds)
def test_units_and_vectors_give_back_what_a_network_was_made_of(seed):
    """Where every vector has a unit of its own."""
    x, units, vectors = random_units(seed, num_points=12, count=6)
    assume(len(two_layer.units_of(x, vectors, units.sign)) == 6)
    params = two_layer.network_of(x, units, vectors)
    again, found = two_layer.units_and_vectors(x, params)
    ours = sorted(zip(map(tuple, units.active), units.sign, map(tuple, vectors), strict=True))
    theirs = sorted(zip(map(tuple, again.active), again.sign, map(tuple, found), strict=True))
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    np.testing.assert_allclose([row[2] for row in ours], [row[2] for row in theirs], atol=1e-10)


@given(seeds)
def test_joined_holds_all_units_once_and_the_first_ones_first(seed):
    x, units, vectors = random_units(seed, num_points=3, dim=2, count=12)
    one = two_layer.units_of(x, vectors[:7], units.sign[:7])
    other = two_layer.units_of(x, vectors[4:], units.sign[4:])
    both = two_layer.joined(one, other)
    np.testing.assert_array_equal(both.active[: len(one)], one.active)
    np.testing.assert_array_equal(both.sign[: len(one)], one.sign)
    known = [(row.tobytes(), s) for row, s in zip(*both, strict=True)]
    whole = two_layer.units_of(x, vectors, units.sign)
    assert len(known) == len(set(known)) == len(whole)
    assert len(two_layer.joined(both, one)) == len(both)


def test_outputs_and_margin_are_those_of_the_package():
    """Two implementations, NumPy and JAX."""
    x = jax.random.normal(jax.random.key(0), (7, 4))
    data = Dataset(x, jnp.array([1.0, -1, 1, 1, -1, -1, 1]))
    network = fully_connected(2, 5)
    params = network.init(jax.random.key(1), 4)
    plain = tuple(map(np.asarray, params))
    np.testing.assert_allclose(
        two_layer.outputs(plain, np.asarray(x)), network.apply(params, x), rtol=1e-12
    )
    assert two_layer.normalized_margin(plain, np.asarray(x), np.asarray(data.y)) == pytest.approx(
        float(normalized_margin(network, params, data)), rel=1e-12
    )


def test_the_zero_network_has_margin_zero():
    empty = (np.zeros((3, 0)), np.zeros((0, 1)))
    assert two_layer.normalized_margin(empty, np.ones((2, 3)), np.array([1.0, -1.0])) == 0


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ((np.ones((3, 4)),), r"params.*\(3, m\) and \(m, 1\), got \[\(3, 4\)\]"),
        ((np.ones((2, 4)), np.ones((4, 1))), r"params.*got \[\(2, 4\), \(4, 1\)\]"),
        ((np.ones((3, 4)), np.ones(4)), r"params.*got \[\(3, 4\), \(4,\)\]"),
        ((np.ones((3, 4)), np.ones((5, 1))), r"params.*got \[\(3, 4\), \(5, 1\)\]"),
        ({"w": np.ones(2)}, "params.*got dict"),
        ((np.full((3, 1), np.nan), np.ones((1, 1))), "params must be finite"),
        ((np.ones((3, 1)), np.full((1, 1), np.inf)), "params must be finite"),
    ],
)
def test_params_of_another_kind_are_named(params, said):
    with pytest.raises(ValueError, match=said):
        two_layer.checked_weights(params, 3)
