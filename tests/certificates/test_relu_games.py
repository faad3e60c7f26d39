"""ReLU neurons on groups: the best one proved, margins known in closed form, orbits, minima."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from ntkreg import fully_connected, normalized_margin
from ntkreg.certificates import group_games, group_margin, group_minimum, relu_games
from ntkreg.data.groups import cyclic, pairs, symmetric
from ntkreg.training import objectives

CROSS_ENTROPY = objectives.get_loss("cross_entropy")
# (u | v) of the best neurons, up to scale, where it is known in closed form
KNOWN = {3: (1 / 216**0.5, (1, -1, 0, -1, 0, 1)), 5: ((7 / 8000) ** 0.5, None)}
small = pytest.mark.parametrize("group", [cyclic(3), cyclic(4)], ids=lambda group: group.name)


def uniform(group):
    weights = np.full(group.order, 1 / (group.order - 1))
    weights[group.identity] = 0.0
    return weights


def worth_on_the_table(group, weights, u, v):
    """½ ‖Σ_ab relu(u(a) + v(b)) (e_ab − Σ_g β_g e_{g⁻¹ab})‖/n² of unit (u, v), by loops."""
    n, r = group.order, np.zeros(group.order)
    for a, b in itertools.product(range(n), repeat=2):
        h = max(u[a] + v[b], 0.0) / n**2
        r[group.table[a, b]] += h
        for g in range(n):
            r[group.table[group.inverse[g], group.table[a, b]]] -= weights[g] * h
    return np.linalg.norm(r) / 2


@pytest.mark.parametrize("group", [cyclic(4), symmetric(3)], ids=lambda group: group.name)
def test_the_worth_of_a_neuron_is_that_on_the_whole_table(group):
    rng = np.random.default_rng(0)
    raw = rng.random(group.order)
    weights = np.array([raw[group.classes == c].mean() for c in group.classes])
    weights = weights + weights[group.inverse]
    z = rng.normal(size=2 * group.order)
    z /= np.linalg.norm(z)
    expected = worth_on_the_table(group, weights, *np.split(z, 2))
    assert relu_games._worth(group, weights).of(z) == pytest.approx(expected, rel=1e-12)


@small
def test_the_best_neuron_is_proved_and_is_worth_its_margins(group):
    weights = uniform(group)
    found = relu_games.best(group, weights)
    neuron = found.neuron
    assert found.is_proved
    assert sum(np.sum(part**2) for part in neuron) == pytest.approx(1.0, rel=1e-12)
    classes = group_games.game(group).classes
    sizes = np.array([len(members) for members in classes])
    mean = relu_games.margins(group, neuron, classes) @ sizes / sizes.sum()
    assert mean == pytest.approx(found.bound, rel=1e-11)


@small
def test_no_local_search_passes_the_proof(group):
    """By scipy, from other random vectors, on the worth as the loops have it."""
    weights, rng = uniform(group), np.random.default_rng(5)
    bound = relu_games.best(group, weights).bound

    def negative(z):
        z = z / np.linalg.norm(z)
        return -worth_on_the_table(group, weights, *np.split(z, 2))

    reached = [
        -scipy.optimize.minimize(
            negative, rng.normal(size=2 * group.order), method="L-BFGS-B"
        ).fun
        for _ in range(20)
    ]  # fmt: skip
    assert 0.95 * bound < max(reached) <= bound


def test_a_search_that_starts_from_a_worse_neuron_is_bettered_by_the_proof(monkeypatch):
    group = cyclic(3)
    honest = relu_games.best(group, uniform(group))
    start = np.array([1.0, 0.2, 0.0, 0.3, 0.0, 0.1])
    monkeypatch.setattr(relu_games, "_ascended", lambda worth, size: start / np.linalg.norm(start))
    found = relu_games.best(group, uniform(group))
    assert found.bound == pytest.approx(honest.bound, rel=1e-10)


def test_cones_are_as_many_as_the_poly_bernoulli_number():
    """230 for order 3; those with u and v largest at the identity alone are counted by hand."""

    def patterns(order):
        rng = np.random.default_rng(0)
        u, v = rng.normal(size=(2, 200_000, order))
        signs = (u[:, :, None] + v[:, None, :] > 0).reshape(-1, order**2)
        return {row.tobytes() for row in np.unique(signs, axis=0)}

    count = 0
    for top in (0, 1, 2, 3):
        levels = [
            row for row in itertools.product(range(top + 1), repeat=3)
            if set(range(1, top + 1)) <= set(row)
        ]  # fmt: skip
        count += len(levels) ** 2
    assert count == len(patterns(3)) == 230
    group = cyclic(3)
    nothing = relu_games._Worth(np.ones((3, 3, 3)))
    cones = np.concatenate(list(relu_games._cones(group, nothing, 0.0)))
    seen = patterns(3)
    assert {(cone > 0).reshape(-1).tobytes() for cone in cones} <= seen
    assert len(np.unique(cones, axis=0)) == len(cones)


def test_facets_of_a_cone_are_those_that_a_linear_programme_finds():
    """A pair bounds the cone u(a) + v(b) > 0 ⇔ sign > 0 where it can be 0 with all others kept."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        u, v = rng.normal(size=(2, 4))
        signs = np.sign(u[:, None] + v[None, :]).astype(np.int8)
        found = {face.tobytes() for face in relu_games._facets(signs[None])}
        rows = np.zeros((16, 8))
        for number, (a, b) in enumerate(itertools.product(range(4), repeat=2)):
            rows[number, a] = rows[number, 4 + b] = signs[a, b]
        expected = set()
        for number in range(16):
            others = np.delete(np.arange(16), number)
            solved = scipy.optimize.linprog(
                np.zeros(8), A_ub=-rows[others], b_ub=-np.ones(15), A_eq=rows[[number]],
                b_eq=[0.0], bounds=[(None, None)] * 8,
            )  # fmt: skip
            if solved.success:
                face = signs.copy()
                face.flat[number] = 0
                expected.add(face.tobytes())
        assert found == expected


@pytest.mark.parametrize("order", [3, pytest.param(5, marks=pytest.mark.slow)])
def test_margins_that_are_known(order):
    found = group_margin(cyclic(order), "relu")
    assert found.kind == "exact" and found.gap < 1e-11
    assert found.upper == pytest.approx(KNOWN[order][0], rel=1e-10)


@small
def test_the_network_of_the_certificate_has_its_margin_and_objective(group):
    data, lam = pairs(group), 1e-3
    best, minimum = group_margin(group, "relu"), group_minimum(group, lam, "relu")
    networks = [
        (fully_connected(2, found.primal[1].shape[0], group.order), found)
        for found in (best, minimum)
    ]
    params = [tuple(map(jnp.asarray, found.primal)) for _, found in networks]
    assert float(normalized_margin(networks[0][0], params[0], data)) == pytest.approx(
        best.lower, rel=1e-11
    )
    log = objectives.log_objective(CROSS_ENTROPY, networks[1][0], params[1], data, np.log(lam))
    assert float(log) == pytest.approx(np.log(minimum.upper), abs=1e-11)
    assert 0 <= minimum.gap < 1e-11 and minimum.kind == "exact"


@pytest.mark.parametrize("lam", [1.0, 1e-8, 1e-64, 1e-250])
def test_minima_are_known_at_any_lam(lam):
    """On C4 the first neuron that is found loses some margins: alone it can't make F small."""
    found = group_minimum(cyclic(4), lam, "relu")
    assert 0 <= found.gap < 1e-11 and found.kind == "exact"
    assert found.upper <= np.log(4) * (1 + 1e-12)
    if lam < 1e-4:  # F/λ is about log(1/λ)/γ*
        assert found.upper / lam == pytest.approx(
            -np.log(lam) / group_margin(cyclic(4), "relu").upper, rel=0.1
        )


@pytest.mark.parametrize("lam", [1e-2, 1e-4])
def test_minima_of_odd_cyclic_groups_have_the_closed_form_of_their_margin(lam):
    """Where all wrong answers weigh the same: 1 − π = the softmax at margin γ*M, π = λ/γ* …"""
    p = 3
    margin = group_margin(cyclic(p), "relu").upper
    wrong = lam / margin  # Σ over wrong answers
    mass = np.log((p - 1) * (1 - wrong) / wrong) / margin
    expected = -np.log1p(-wrong) + lam * mass
    assert group_minimum(cyclic(p), lam, "relu").upper == pytest.approx(expected, rel=1e-10)


def test_an_orbit_averages_a_neuron_over_the_table():
    """On the orbit's network all wrong answers of a class have the same margin, `margins`."""
    group = symmetric(3)
    rng = np.random.default_rng(2)
    u, v, w = rng.normal(size=(3, 6))
    scale = lambda x, y: (x / np.linalg.norm([x, y]) / 2**0.5, y / np.linalg.norm([x, y]) / 2**0.5)
    neuron = relu_games.Neuron(*scale(u, v), w / np.linalg.norm(w) / 2**0.5)
    us, vs, ws = relu_games.orbit(group, neuron)
    outputs = np.einsum("kab,kc->abc", np.maximum(us[:, :, None] + vs[:, None, :], 0), ws) / len(us)
    classes = group_games.game(group).classes
    expected = relu_games.margins(group, neuron, classes)
    for a, b in itertools.product(range(6), repeat=2):
        ab = group.table[a, b]
        for members, margin in zip(classes, expected, strict=True):
            wrong = group.table[group.inverse[members], ab]
            np.testing.assert_allclose(outputs[a, b, ab] - outputs[a, b, wrong], margin, atol=1e-13)


def test_above_order_five_the_bound_is_heuristic():
    found = relu_games.best(cyclic(7), uniform(cyclic(7)))
    assert not found.is_proved
    assert found.bound == pytest.approx(0.0187332332, abs=1e-9)


def test_another_activation_is_refused():
    for function in (group_margin, lambda group, name: group_minimum(group, 0.1, name)):
        with pytest.raises(
            ValueError, match="activation must be one of quadratic, relu, got 'tanh'"
        ):
            function(cyclic(3), "tanh")
