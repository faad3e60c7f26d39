"""Groups by what must hold of them, and observables against plain loops."""

import cmath
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import fully_connected
from ntkreg.data import groups
from ntkreg.data.groups import alternating, cyclic, dihedral, product, quaternion, symmetric

GROUPS = [
    cyclic(2), cyclic(3), cyclic(5), cyclic(8), dihedral(2), dihedral(4), dihedral(5),
    symmetric(2), symmetric(3), symmetric(4), alternating(3), alternating(4), alternating(5),
    quaternion(), quaternion(12), product(cyclic(2), symmetric(3)),
    product(cyclic(3), quaternion()), cyclic(53),
]  # fmt: skip
KINDS = {"real": 1, "complex": 0, "quaternionic": -1}
each_group = pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)


@each_group
def test_the_table_is_a_group_s(group):
    n, elements = group.order, np.arange(group.order)
    assert all(sorted(row) == list(elements) for row in [*group.table, *group.table.T])
    assert (group.table[group.identity] == elements).all()
    assert (group.table[elements, group.inverse] == group.identity).all()
    rng = np.random.default_rng(0)
    for a, b, c in rng.integers(n, size=(50, 3)):
        assert group.table[group.table[a, b], c] == group.table[a, group.table[b, c]]


@each_group
def test_characters_are_orthonormal_and_as_many_as_classes(group):
    n = group.order
    rows = [np.ones(n)]
    for rho in group.representations:
        rows += [rho.character] + ([rho.character.conj()] if rho.kind == "complex" else [])
    characters = np.array(rows)
    np.testing.assert_allclose(characters @ characters.conj().T / n, np.eye(len(rows)), atol=1e-12)
    assert len(rows) == len(set(group.classes))
    degrees = characters[:, group.identity].real
    np.testing.assert_allclose(degrees, np.rint(degrees), atol=1e-12)
    assert round((degrees**2).sum()) == n
    classes = group.classes
    conjugate = group.table[group.table[3 % n], group.inverse[3 % n]]
    for rho in group.representations:
        np.testing.assert_allclose(rho.character[conjugate], rho.character, atol=1e-12)
        assert (classes[conjugate] == classes).all()
        squares = np.diagonal(group.table)
        assert rho.character[squares].mean() == pytest.approx(KINDS[rho.kind], abs=1e-12)


@each_group
def test_projectors_split_the_functions(group):
    n, parts = group.order, [group.projector(i) for i in range(len(group.representations))]
    np.testing.assert_allclose(sum(parts) + 1 / n, np.eye(n), atol=1e-12)
    for i, one in enumerate(parts):
        np.testing.assert_allclose(one, one.T, atol=1e-12)
        for j, other in enumerate(parts):
            np.testing.assert_allclose(one @ other, one if i == j else 0 * one, atol=1e-12)
        rho = group.representations[i]
        assert round(np.trace(one)) == rho.degree**2 * (2 if rho.kind == "complex" else 1)


def test_names_and_kinds_that_are_known():
    found = lambda group: [(r.name, r.degree, r.kind) for r in group.representations]
    assert found(cyclic(5)) == [("1", 1, "complex"), ("2", 1, "complex")]
    assert found(cyclic(6))[2] == ("3", 1, "real")
    assert found(symmetric(3)) == [("sgn", 1, "real"), ("std", 2, "real")]
    names = ["sgn", "2a", "std", "3a"]
    assert [name for name, _, _ in found(symmetric(4))] == names
    assert [k for _, d, k in found(quaternion()) if d == 2] == ["quaternionic"]
    assert [k for _, d, k in found(dihedral(4)) if d == 2] == ["real"]
    waves = [rho.real_character for rho in cyclic(7).representations]
    expected = [2 * np.cos(2 * np.pi * k * np.arange(7) / 7) for k in (1, 2, 3)]
    np.testing.assert_allclose(waves, expected, atol=1e-12)


def test_s3_is_the_dihedral_group_and_q8_is_not():
    orders = lambda group: sorted(_order_of(group, g) for g in range(group.order))
    assert orders(symmetric(3)) == orders(dihedral(3)) == [1, 2, 2, 2, 3, 3]
    assert orders(quaternion()) == [1, 2] + [4] * 6
    assert orders(dihedral(4)) == [1, 2, 2, 2, 2, 2, 4, 4]


def _order_of(group, element):
    power, count = element, 1
    while power != group.identity:
        power, count = group.table[power, element], count + 1
    return count


def test_the_permutations_are_composed_as_functions():
    elements = list(itertools.permutations(range(3)))
    for a, b in itertools.product(range(6), repeat=2):
        together = tuple(elements[a][elements[b][i]] for i in range(3))
        assert elements[symmetric(3).table[a, b]] == together


def test_any_relabelling_of_a_group_is_one():
    order = np.random.default_rng(1).permutation(6)
    back = np.argsort(order)
    table = back[symmetric(3).table[np.ix_(order, order)]]
    group = groups.from_table(table, "relabelled")
    assert group.identity == back[symmetric(3).identity]
    assert [rho.degree for rho in group.representations] == [1, 2]


TABLE = cyclic(4).table


@pytest.mark.parametrize(
    "table, message",
    [
        (np.zeros(3, int), r"table must be square, of at least 2 elements, got shape \(3,\)"),
        (np.zeros((1, 1), int), r"got shape \(1, 1\)"),
        (np.where(np.eye(4), 7, TABLE), r"table must hold 0 … 3, got 7 at \[0, 0\]"),
        (TABLE + 0.5, r"table must hold 0 … 3, got 0.5"),
        ((np.arange(4)[:, None] - np.arange(4)) % 4, r"at \(a, b, c\) = \(0, 0, 1\)"),
        (np.zeros((3, 3), int), "table must have an identity, got none"),
        (np.minimum.outer(np.arange(3), np.arange(3)), "inverses, got none of the element 0"),
        ([[0, 1], [1]], "table must be square, got rows of several lengths"),
        (np.array([["0", "1"], ["1", "0"]]), "table must hold numbers, got <U1"),
        (TABLE + 0j, "table must hold numbers, got complex128"),
        (np.full((2, 2), np.nan), "table must hold 0 … 1, got nan"),
    ],
)
def test_a_table_that_is_no_group_s_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        groups.from_table(table)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: cyclic(1), "order must be a whole number, at least 2, got 1"),
        (lambda: cyclic(5.0), "order must be a whole number, at least 2, got 5.0"),
        (lambda: cyclic("5"), "order must be a whole number, at least 2, got '5'"),
        (lambda: dihedral(1), "num_corners must be a whole number, at least 2, got 1"),
        (lambda: symmetric(1), "degree must be a whole number, at least 2, got 1"),
        (lambda: alternating(2), "degree must be a whole number, at least 3, got 2"),
        (lambda: quaternion(10), "order must be a multiple of 4 from 8 on, got 10"),
        (lambda: product("C5"), "groups must be Groups, got 'C5'"),
        (lambda: symmetric(99), "order of a group must be at most 2000, got S99"),
        (lambda: alternating(8), "order of a group must be at most 2000, got A8"),
        (lambda: cyclic(10**6), "order of a group must be at most 2000, got C1000000"),
        (lambda: groups.named("C200xC200"), "order of a group must be at most 2000, got C200×C200"),
        (lambda: product(), "groups must be at least one, got none"),
    ],
)
def test_sizes_that_no_group_has_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_pairs_are_the_table():
    data = groups.pairs(symmetric(3))
    assert data.x.shape == (36, 12)
    for row, (a, b) in enumerate(itertools.product(range(6), repeat=2)):
        assert np.flatnonzero(data.x[row]).tolist() == [a, 6 + b]
        assert data.y[row] == symmetric(3).table[a, b]


# Observables, written again with loops ---------------------------------------------------------


def looped_fractions(group, logits):
    n = group.order
    f = np.array(logits).reshape(n, n, n)
    f = f - f.mean(axis=2, keepdims=True)
    size, found = math.sqrt((f**2).sum()), []
    for rho in group.representations:
        psi = np.zeros((n, n, n), complex)
        for a, b, c in itertools.product(range(n), repeat=3):
            ab = group.table[a, b]
            psi[a, b, c] = rho.character[group.table[ab, group.inverse[c]]]
        parts = [psi.real, psi.imag] if rho.kind == "complex" else [psi.real]
        basis, _ = np.linalg.qr(np.array([part.ravel() for part in parts]).T)
        found.append(np.linalg.norm(basis.T @ f.ravel()) / size)
    return np.array(found)


def looped_purities(group, u, v, w):
    n, found = group.order, []
    for vectors in zip(u, v, w, strict=True):
        vectors = [x - x.mean() for x in np.array(vectors)]
        total = sum(float(x @ x) for x in vectors)
        row = []
        for rho in group.representations:
            kept = 0.0
            for x in vectors:
                for g in range(n):
                    value = 0.0
                    for h in range(n):
                        chi = rho.character[group.table[g, group.inverse[h]]]
                        value += (chi + (chi.conjugate() if rho.kind == "complex" else 0)) * x[h]
                    kept += abs(rho.degree / n * value) ** 2
            row.append(kept / total)
        found.append(row)
    return np.array(found)


def looped_count(shares, delta):
    squares, total = sorted((float(s) ** 2 for s in shares), reverse=True), 0.0
    whole = sum(squares)
    for count, square in enumerate(squares, 1):
        total += square
        if total >= (1 - delta) * whole:
            return count
    return 0


@pytest.mark.parametrize("group", [cyclic(5), symmetric(3), quaternion(), alternating(4)])
@pytest.mark.parametrize("activation", ["quadratic", "relu"])
def test_observables_are_those_of_loops(group, activation):
    n = group.order
    network = fully_connected(2, 4, n, activation)
    for seed in range(2):
        params = network.init(jax.random.key(seed), 2 * n)
        logits = network.apply(params, groups.pairs(group).x)
        found = groups.neurons(params)
        u, v, w = (np.array(part) for part in found)
        by_hand = np.zeros((n, n, n))
        act = (lambda z: z**2) if activation == "quadratic" else (lambda z: max(z, 0.0))
        for a, b, c, i in itertools.product(range(n), range(n), range(n), range(4)):
            by_hand[a, b, c] += act(u[i, a] + v[i, b]) * w[i, c]
        np.testing.assert_allclose(logits, by_hand.reshape(n * n, n), atol=1e-12)
        shares = groups.fractions(group, logits)
        np.testing.assert_allclose(shares, looped_fractions(group, logits), atol=1e-12)
        assert (shares**2).sum() <= 1 + 1e-12
        pure = groups.purities(group, found)
        np.testing.assert_allclose(pure, looped_purities(group, u, v, w), atol=1e-12)
        np.testing.assert_allclose(pure.sum(axis=1), 1.0, atol=1e-12)
        for delta in (0.05, 0.3, 0.6):
            assert groups.spectral_count(shares, delta) == looped_count(shares, delta)
            expected = (np.array(pure) >= 1 - delta).mean(axis=0)
            np.testing.assert_allclose(groups.multiplicities(pure, delta), expected)


@pytest.mark.parametrize("group", [cyclic(5), symmetric(3), symmetric(4)])
def test_a_perfect_fit_has_the_shares_of_the_regular_representation(group):
    logits = jax.nn.one_hot(groups.pairs(group).y, group.order) * 7.0 + 2.0
    pair = [rho.degree**2 * (2 if rho.kind == "complex" else 1) for rho in group.representations]
    expected = np.sqrt(np.array(pair) / (group.order - 1))
    np.testing.assert_allclose(groups.fractions(group, logits), expected, atol=1e-12)
    assert groups.key_set(expected, 0.005).all()


def test_a_shifted_wave_counts_as_its_frequency():
    # cos and sin of 2πζ(a + b − c)/p are one representation.
    a, b, c = np.meshgrid(*[np.arange(5)] * 3, indexing="ij")
    logits = np.cos(2 * np.pi * 2 * (a + b - c) / 5 + 0.7).reshape(25, 5)
    np.testing.assert_allclose(groups.fractions(cyclic(5), logits), [0, 1], atol=1e-12)
    assert groups.spectral_count(groups.fractions(cyclic(5), logits), 0.05) == 1


def test_nothing_is_pure_for_nothing():
    zero = groups.Neurons(*(jnp.ones((2, 5)) * x for x in (0.3, -1.7, 0.0)))
    assert (groups.purities(cyclic(5), zero) == 0).all()
    assert (groups.fractions(cyclic(5), jnp.full((25, 5), 0.1)) == 0).all()
    assert groups.spectral_count(jnp.zeros(2), 0.05) == 0
    wave = np.array([[cmath.exp(2j * math.pi * g / 5).real for g in range(5)]])
    pure = groups.purities(cyclic(5), groups.Neurons(1 + wave, 1e-9 * wave, 5 - 3 * wave))
    np.testing.assert_allclose(pure, [[1, 0]], atol=1e-12)


def test_what_is_of_another_group_is_refused():
    with pytest.raises(ValueError, match=r"logits must be of shape \(25, 5\) on C5, got \(9, 3\)"):
        groups.fractions(cyclic(5), jnp.zeros((9, 3)))
    with pytest.raises(ValueError, match="found must be neurons on 5 elements, got 3"):
        groups.purities(cyclic(5), groups.Neurons(*jnp.zeros((3, 2, 3))))
    with pytest.raises(ValueError, match="name must be a text as 'C5', got 5"):
        groups.named(5)
    for params in ((), {"a": 1}, (jnp.ones(3), jnp.ones(3))):
        with pytest.raises(ValueError, match=r"params must be of shapes \(2n, m\) and \(m, n\)"):
            groups.neurons(params)


def test_parameters_of_another_network_are_refused():
    network = fully_connected(2, 4, 5, "quadratic")
    params = network.init(jax.random.key(0), 9)
    with pytest.raises(ValueError, match=r"params must be of shapes \(2n, m\) and \(m, n\)"):
        groups.neurons(params)


SMALL = [group for group in GROUPS if group.order <= 30]  # all pairs of matrices are multiplied


@pytest.mark.parametrize("group", SMALL, ids=lambda group: group.name)
def test_matrices_are_the_representation(group):
    n = group.order
    for number, rho in enumerate(group.representations):
        matrices = group.matrices(number)
        size = rho.degree * (1 if rho.kind == "real" else 2)
        assert matrices.shape == (n, size, size)
        products = np.einsum("aij,bjk->abik", matrices, matrices)
        np.testing.assert_allclose(products, matrices[group.table], atol=1e-11)
        traces = np.trace(matrices, axis1=1, axis2=2)
        times = 2 if rho.kind == "quaternionic" else 1
        np.testing.assert_allclose(traces, times * rho.real_character, atol=1e-11)
        np.testing.assert_allclose(matrices[group.identity], np.eye(size), atol=1e-11)


def test_names_are_those_of_the_makers():
    assert groups.named("C5") is cyclic(5) and groups.named("Q8") is quaternion(8)
    assert groups.named("C2xS3").name == groups.named("C2×S3").name == "C2×S3"
    for name in ("", "5", "C", "Cx", "C5x", "K4", "c5", "C-5"):
        with pytest.raises(ValueError, match="name must be C, D, S, A, Q and a number, got"):
            groups.named(name)
