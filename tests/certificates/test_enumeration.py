"""Activation patterns: as many as theory counts, each of them realised, and none forgotten."""

import itertools

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.certificates.enumeration import faces, num_faces, num_patterns, row_space


def cell_signs(x):
    """The sign patterns of the cells alone, ±1; rows of zeros count as −1."""
    found = faces(x)
    cells = found[-1] if found else np.zeros((1, len(x)), np.int8)
    return np.where(cells == 0, -1, cells)


def gaussian(num_points, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(num_points, dim))


def with_repeats():
    """Rows that repeat, are antipodal, parallel at other lengths, or zero."""
    x = gaussian(4, 3)
    return np.concatenate([x, x[:2], -x[1:3], 4.0 * x[2:], -0.125 * x[3:], np.zeros((1, 3))])


def integers():
    """{−1, 0, 1}³: many planes share a line."""
    return np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))


def turned():
    """The same after a map that leaves fewer zeros and every dependence."""
    return integers() @ np.array([[3.0, 1.0, -2.0], [1.0, 5.0, 0.5], [-4.0, 0.25, 7.0]])


def pencil():
    """Five planes through one line, and two others."""
    around = np.array([[1.0, 0.5], [0.5, 2.0], [-0.25, 1.0], [-3.0, 1.0], [-1.0, 0.125]])
    one, other = np.array([1.0, 2.0, -3.0]), np.array([0.5, -1.0, 4.0])
    return np.concatenate([around[:, :1] * one + around[:, 1:] * other, gaussian(2, 3)])


DEGENERATE = {
    "repeats": with_repeats(),
    "integers": integers(),
    "turned integers": turned(),
    "pencil": pencil(),
    "signs of rank 4": np.array(list(itertools.product((-1.0, 1.0), repeat=4))),
    "one line": np.array([[1.0, 2.0], [-2.0, -4.0], [0.0, 0.0]]),
    "flat in seven dimensions": np.round(4 * gaussian(6, 2)) @ np.round(4 * gaussian(2, 7)),
    "a zero row": np.concatenate([gaussian(5, 2), np.zeros((1, 2))]),
    "gaussian": gaussian(9, 4),
}


def is_realised(x, signs):
    """Whether a linear programme finds u with signᵢ uᵀxᵢ ≥ 1 on all rows but zeros."""
    used = x.any(axis=1)
    signed = (signs[:, None] * x)[used]
    free = [(None, None)] * x.shape[1]
    return (
        scipy.optimize.linprog(
            np.zeros(x.shape[1]), A_ub=-signed, b_ub=-np.ones(len(signed)), bounds=free
        ).status
        == 0
    )


def signs_of(x, directions):
    return {row.tobytes() for row in np.where(directions @ x.T > 0, 1, -1).astype(np.int8)}


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("num_points", [1, 2, 5, 9, 14])
def test_general_position_has_as_many_as_cover_counts(num_points, rank):
    found = cell_signs(gaussian(num_points, rank))
    assert found.shape == (num_patterns(num_points, min(rank, num_points)), num_points)
    assert len(np.unique(found, axis=0)) == len(found)


def test_the_count_by_hand():
    """2 on a line, 2n in the plane, n(n − 1) + 2 in space, 2ⁿ where the rank is n."""
    assert [num_patterns(n, 1) for n in (1, 7)] == [2, 2]
    assert num_patterns(7, 2) == 14
    assert num_patterns(20, 3) == 20 * 19 + 2
    assert num_patterns(5, 5) == num_patterns(5, 9) == 32


@pytest.mark.parametrize("name", DEGENERATE)
def test_all_that_random_directions_find_are_listed(name):
    x = DEGENERATE[name]
    listed = {row.tobytes() for row in cell_signs(x)}
    directions = np.random.default_rng(1).normal(size=(10_000, x.shape[1]))
    found = signs_of(x, directions)
    assert found <= listed
    assert len(found) > 0.7 * len(listed)


@pytest.mark.parametrize("name", DEGENERATE)
def test_all_that_are_listed_are_realised(name):
    x = DEGENERATE[name]
    patterns = cell_signs(x)
    assert all(is_realised(x, signs) for signs in patterns)
    assert (patterns[:, ~x.any(axis=1)] == -1).all()


def test_how_many_hyperplanes_there_are_is_all_that_counts():
    """Repeated, parallel and antipodal rows add no cell; 13 planes cut {−1, 0, 1}³ into 96."""
    assert len(cell_signs(with_repeats())) == num_patterns(4, 3)
    assert len(cell_signs(integers())) == len(cell_signs(turned())) == 96
    # Five planes of a pencil make 10 wedges. A further plane adds as many cells as the others cut
    # it into: 10 by five lines, then 12 by six.
    assert len(cell_signs(pencil())) == 10 + 10 + 12


@given(st.integers(0, 1000), st.integers(2, 4))
def test_no_linear_map_or_length_changes_them(seed, rank):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, size=(8, rank)).astype(float)
    turn = rng.integers(-9, 10, size=(rank, rank)) + 100.0 * np.eye(rank)
    moved = 2.0 ** rng.integers(-60, 60, size=(8, 1)) * x @ turn
    same = [np.unique(cell_signs(points), axis=0) for points in (moved, x)]
    np.testing.assert_array_equal(*same)


@given(st.integers(0, 1000))
def test_rows_a_hair_apart_lose_no_pattern(seed):
    """Of rows that differ by 1e-9 the cells between are thin; all others must be there."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 3))
    x = np.concatenate([x, x + 1e-9 * rng.normal(size=x.shape)])
    listed = {row.tobytes() for row in cell_signs(x)}
    assert signs_of(x, rng.normal(size=(1000, 3))) <= listed


@pytest.mark.parametrize("x", [np.zeros((3, 2)), np.zeros((1, 4))])
def test_zeros_alone_have_one_pattern(x):
    np.testing.assert_array_equal(cell_signs(x), -np.ones((1, len(x))))


@pytest.mark.parametrize(("n", "dim", "rank"), [(5, 3, 3), (3, 8, 3), (9, 7, 2), (1, 4, 1)])
def test_row_space_reproduces_x(n, dim, rank):
    x = gaussian(n, rank) @ gaussian(rank, dim, seed=1)
    points, basis = row_space(x)
    assert points.shape == (n, rank) and basis.shape == (dim, rank)
    np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-14)
    np.testing.assert_allclose(points @ basis.T, x, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-200, 1e-8, 1.0, 1e8, 1e200])
def test_rank_does_not_depend_on_the_scale(scale):
    assert row_space(scale * gaussian(6, 3) @ gaussian(3, 5))[0].shape == (6, 3)


def test_too_large_a_rank_is_told_with_what_to_do():
    said = r"rank at most 4.*got more: n = 12.*16,370 faces at rank 5.*branch_and_bound or multis"
    assert num_faces(12, 5) == 16_370
    with pytest.raises(ValueError, match=said):
        faces(gaussian(12, 5))


@pytest.mark.parametrize(("num_points", "rank"), [(5, 3), (6, 4), (6, 5), (7, 5), (6, 6)])
def test_faces_of_any_dimension_are_counted_in_general_position(num_points, rank):
    found = faces(gaussian(num_points, rank))
    assert sum(map(len, found)) == num_faces(num_points, rank)
    assert len(found[-1]) == num_patterns(num_points, rank)


def test_independent_rows_have_every_sign_vector():
    found = faces(gaussian(6, 6))
    every = {signs for signs in itertools.product((-1, 0, 1), repeat=6) if any(signs)}
    assert {tuple(row) for row in np.concatenate(found).tolist()} == every


def test_parallel_rows_count_once_where_faces_are_counted():
    x = gaussian(6, 5)
    found = faces(np.concatenate([x, -4 * x, x]))
    assert sum(map(len, found)) == num_faces(6, 5)


@given(st.integers(0, 1000), st.integers(2, 5))
def test_faces_obey_euler(seed, rank):
    """Σ (−1)^dimension over the faces of a sphere of dimension k is 1 + (−1)^k."""
    x = np.random.default_rng(seed).integers(-2, 3, size=(7, rank)).astype(float)
    found = faces(x)
    total = sum((-1) ** dimension * len(signs) for dimension, signs in enumerate(found))
    assert total == 1 + (-1) ** (len(found) - 1)


def test_rows_that_differ_by_their_last_bits_are_told_apart():
    one = np.array([1.0, 1.0 / 3.0])
    other = np.array([1.0, np.nextafter(1.0 / 3.0, 1.0)])
    assert len(cell_signs(np.stack([one, other]))) == 4
    assert len(cell_signs(np.stack([one, 3.0 * one]))) == 4  # 3·fl(1/3) is not 1, but rounds to it
    assert len(cell_signs(np.stack([one, 4.0 * one, -one]))) == 2
