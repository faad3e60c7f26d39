"""Max margins and minima on groups: the programme, the closed form, networks and dual weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import fully_connected, normalized_margin, train_path
from ntkreg.certificates import group_games, group_margin, group_minimum
from ntkreg.data.groups import (
    alternating,
    cyclic,
    dihedral,
    pairs,
    product,
    purities,
    quaternion,
    symmetric,
)
from ntkreg.data.groups import neurons as neurons_of
from ntkreg.theory import closed_forms
from ntkreg.training import objectives

KNOWN = {
    "C3": 0.078567420132, "C4": 0.050268709175, "C5": 0.030429030973, "C6": 0.023604969310,
    "C7": 0.017144816662, "C8": 0.014346729224, "C9": 0.011340230291, "C11": 0.008206099399,
    "C13": 0.006290427967, "S3": 0.023604969310,
}  # fmt: skip
GROUPS = [*map(cyclic, range(3, 14)), symmetric(3), symmetric(4), quaternion(), dihedral(4)]
CROSS_ENTROPY = objectives.get_loss("cross_entropy")
each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
few = pytest.mark.parametrize(
    "group", [cyclic(5), cyclic(4), symmetric(3), quaternion()], ids=lambda group: group.name
)


def network_of(params):
    width, n = params[1].shape
    return fully_connected(2, width, n, "quadratic")


@each_group
def test_the_programme_and_the_closed_form_agree(group):
    found = group_margin(group)
    assert found.kind == "exact"
    assert 0 <= found.gap < 1e-12
    assert closed_forms.group_margin(group) == pytest.approx(found.upper, rel=1e-12)
    if group.name in KNOWN:
        assert found.upper == pytest.approx(KNOWN[group.name], abs=5e-13)


def test_the_margin_of_odd_cyclic_groups_is_the_theorem_s():
    for p in (3, 5, 7, 9, 53):
        expected = (2 / 27) ** 0.5 / (p**0.5 * (p - 1))
        assert closed_forms.group_margin(cyclic(p)) == pytest.approx(expected, rel=1e-12)


def test_where_the_closed_form_does_not_hold_the_programme_does():
    with pytest.raises(ValueError, match=r"group must have S\(g\) ≤ 0 .* on A5"):
        closed_forms.group_margin(alternating(5))
    found = group_margin(alternating(5))
    assert found.gap < 1e-12
    # The masses that make all margins equal are not the best there.
    sums = sum(
        rho.degree**2.5 * {"real": 1, "complex": 8**0.5, "quaternionic": 2**0.5}[rho.kind]
        for rho in alternating(5).representations
    )
    assert found.lower > 2 / (3 * (3 * 60) ** 0.5 * sums) * (1 + 1e-6)


@few
def test_the_network_of_the_certificate_has_its_margin_and_is_pure(group):
    found = group_margin(group)
    network, params = network_of(found.primal), tuple(map(jnp.asarray, found.primal))
    margin = normalized_margin(network, params, pairs(group), (2, 3))
    assert float(margin) == pytest.approx(found.lower, rel=1e-12)
    pure = np.array(purities(group, neurons_of(params)))
    np.testing.assert_allclose(np.sort(pure, axis=1)[:, -1], 1.0, atol=1e-12)
    assert (pure.max(axis=0) > 0.5).all()  # all representations are there


@few
def test_no_neuron_is_worth_more_than_the_weights_allow(group):
    """Alternating maximisation over single neurons, on the whole table and without symmetry."""
    n, found = group.order, group_margin(group)
    quotient = group.table[group.table[:, :, None], group.inverse]  # [a, b, c] is abc⁻¹
    weights = -found.dual[quotient]
    weights[quotient == group.identity] = 1.0
    weights /= n * n
    rng, best = np.random.default_rng(0), []
    for _ in range(200):
        u, v, w = rng.normal(size=(3, n))
        for _ in range(60):  # w given (u, v) is linear; (u, v) given w is an eigenvector
            squares = (u[:, None] + v) ** 2
            w = np.einsum("ab,abc->c", squares, weights)
            form = np.einsum("abc,c->ab", weights, w)
            matrix = np.block([[np.diag(form.sum(1)), form], [form.T, np.diag(form.sum(0))]])
            u, v = np.linalg.eigh(matrix)[1][:, -1].reshape(2, n)
        length = np.sqrt(np.sum(u**2) + np.sum(v**2))
        u, v, w = u / length * (2 / 3) ** 0.5, v / length * (2 / 3) ** 0.5, w / np.linalg.norm(w)
        value = np.einsum("ab,c,abc->", (u[:, None] + v) ** 2, w / 3**0.5, weights)
        best.append(value)
    assert max(best) <= found.upper * (1 + 1e-12)
    assert max(best) == pytest.approx(found.upper, rel=1e-9)


def test_six_neurons_a_frequency_are_enough():
    for p in (3, 5, 7, 11):
        params = closed_forms.cyclic_network(p)
        network = network_of(params)
        assert params[1].shape == (3 * (p - 1), p)
        margin = normalized_margin(network, params, pairs(cyclic(p)), (2, 3))
        assert float(margin) == pytest.approx(closed_forms.group_margin(cyclic(p)), rel=1e-12)


@pytest.mark.parametrize(
    "group, lam, value",
    [
        (cyclic(5), 1e-2, 1.0887895155), (cyclic(5), 1e-4, 0.0266279646),
        (symmetric(3), 1e-2, 1.34407400), (symmetric(3), 1e-4, 0.03400160),
        (symmetric(3), 1e-6, 0.00053520), (cyclic(5), 1.0, np.log(5)),
    ],
)  # fmt: skip
def test_minima_that_are_known(group, lam, value):
    found = group_minimum(group, lam)
    assert found.gap < 1e-11
    assert found.upper == pytest.approx(value, abs=6e-9)


@few
@pytest.mark.parametrize("lam", [1.0, 1e-2, 1e-4, 1e-12, 1e-100, 1e-300])
def test_minima_are_of_the_returned_network(group, lam):
    found = group_minimum(group, lam)
    assert 0 <= found.gap < 1e-11
    params = tuple(map(jnp.asarray, found.primal))
    log = objectives.log_objective(
        CROSS_ENTROPY, network_of(params), params, pairs(group), np.log(lam), norm=(2, 3)
    )
    assert float(log) == pytest.approx(np.log(found.upper), abs=1e-11)


def test_minima_of_odd_cyclic_groups_have_a_closed_form():
    for p, lam in [(3, 1e-2), (5, 1e-2), (5, 0.0243), (5, 0.03), (7, 1e-8), (13, 1e-5)]:
        found = group_minimum(cyclic(p), lam)
        assert closed_forms.cyclic_minimum(p, lam) == pytest.approx(found.upper, rel=1e-11)


@pytest.mark.parametrize("group", [cyclic(3), cyclic(5)], ids=lambda group: group.name)
def test_training_reaches_both_and_passes_neither(group):
    network = fully_connected(2, 16, group.order, "quadratic")
    lams = [1e-2, 1e-4, 1e-8]
    path = train_path(
        network, pairs(group), lams=lams, key=jax.random.key(0), loss="cross_entropy",
        norm=(2, 3), num_steps=2000, finish_steps=300,
    )  # fmt: skip
    best = group_margin(group)
    assert (path.info.normalized_margin <= best.upper).all()
    assert path.info.normalized_margin[-1] >= 0.999 * best.lower
    for lam, reached in zip(lams, jnp.exp(path.info.log_objective), strict=True):
        minimum = group_minimum(group, lam)
        assert minimum.lower <= reached <= minimum.upper * (1 + 1e-4)


def test_a_product_of_groups_is_a_group_like_any():
    together = product(cyclic(2), cyclic(3))
    assert group_margin(together).upper == pytest.approx(group_margin(cyclic(6)).upper, rel=1e-12)


def test_masses_of_nothing_are_the_zero_network():
    params = group_games.network_of_masses(cyclic(5), np.zeros(2))
    assert not any(leaf.any() for leaf in params)


def test_bad_numbers_are_refused():
    for lam in (0.0, 1e-310, -1.0, np.nan, np.inf, [0.1, 0.2]):
        with pytest.raises(ValueError, match="lam must be a number, finite and at least 1e-300"):
            group_minimum(cyclic(5), lam)
    for group in ("C5", cyclic(5).table):
        with pytest.raises(ValueError, match=r"group must be a Group of data\.groups, got"):
            group_margin(group)
    for masses in ([1.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="masses must be 2 numbers ≥ 0 on C5, got"):
            group_games.network_of_masses(cyclic(5), masses)
    with pytest.raises(ValueError, match="order must be odd, got 4"):
        closed_forms.cyclic_minimum(4, 0.1)
    with pytest.raises(ValueError, match="order must be odd, got 6"):
        closed_forms.cyclic_network(6)
