"""Activation patterns: the faces into which the hyperplanes uᵀxᵢ = 0 cut the space of neurons.

A float64 number is an integer times a power of two, so that every sign here is decided exactly, in
integers: rows may repeat, be parallel, or differ by their last bits.
"""

import functools
import itertools
import math

import numpy as np

MAX_RANK = 4  # to which faces are listed, however many
MAX_FACES = 5_000  # to which they are at any rank


def row_space(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coordinates of shape (n, rank), orthonormal basis of shape (d, rank)) of the rows of x.

    What a neuron has outside this space costs norm and changes no output. The rank is numerical:
    directions of less than rounding, relative to the longest one, are left out.
    """
    _, sizes, basis = np.linalg.svd(x, full_matrices=False)
    rank = int((sizes > max(x.shape) * np.finfo(float).eps * sizes[:1]).sum())
    return x @ basis[:rank].T, basis[:rank].T


def row_exponents(x: np.ndarray) -> np.ndarray:
    """e with the largest entry of every row in [½, 1)·2^e; 0 for a row of zeros."""
    return np.frexp(np.abs(x).max(axis=1))[1]


def num_patterns(num_points: int, rank: int) -> int:
    """The number of cells of n hyperplanes through 0 in general position: 2 Σ_{k<rank} C(n−1, k).

    No position has more. Source: Cover (IEEE Trans. Electronic Computers 1965), Theorem 1.
    """
    return 2 * sum(math.comb(num_points - 1, k) for k in range(rank))


def num_faces(num_points: int, rank: int) -> int:
    """The number of faces of all dimensions of n hyperplanes through 0 in general position.

    k of them meet in a flat, which the n − k others cut into cells of its own.
    """
    return sum(
        math.comb(num_points, k) * num_patterns(num_points - k, rank - k) for k in range(rank)
    )


def can_list(num_points: int, rank: int) -> bool:
    """Whether `faces` lists them: to rank 4, and beyond it where there are at most MAX_FACES."""
    return rank <= MAX_RANK or num_faces(num_points, rank) <= MAX_FACES


def faces(x: np.ndarray) -> list[np.ndarray]:
    """All sign vectors of (uᵀx₁, …, uᵀxₙ) over u ≠ 0 in the row space, by the face's dimension.

    Entry k − 1 has the faces of dimension k, int8 of shape (faces, n): rays first, cells last. A
    row of zeros counts as 0.

    Raises:
      ValueError: for a rank above 4, unless the samples are few (`can_list`).
    """
    points = _independent_columns(_integers(x))
    if points is None:
        raise ValueError(
            f"data of rank at most {MAX_RANK}, or of at most {MAX_FACES:,} faces, can be "
            f"enumerated, got more: n = {len(x)} would have {num_faces(len(x), MAX_RANK + 1):,} "
            f"faces at rank {MAX_RANK + 1}; use the oracle branch_and_bound or multistart"
        )
    return _faces(points, {}) if points.shape[1] else []


def exact_rank(x: np.ndarray) -> int | None:
    """The rank of x as exact numbers where its faces can be listed, else None."""
    points = _independent_columns(_integers(x))
    return None if points is None else points.shape[1]


def num_cells(x: np.ndarray) -> int:
    """At most how many activation patterns x has: `num_patterns` at its rank."""
    return num_patterns(len(x), row_space(x)[1].shape[1])


def _integers(x: np.ndarray) -> np.ndarray:
    """Integer rows (Python's integers) that are positive multiples of the rows of x."""
    mantissas, exponents = np.frexp(np.asarray(x, np.float64))
    whole = np.ldexp(mantissas, 53).astype(np.int64).astype(object)
    lowest = np.where(mantissas != 0, exponents, 2**30).min(axis=1, keepdims=True)
    shifts = np.where(mantissas != 0, exponents - lowest, 0).astype(object)
    return _primitive(whole << shifts)


def _primitive(rows: np.ndarray) -> np.ndarray:
    """The rows without the factors that all their entries share."""
    factors = [math.gcd(*row) or 1 for row in rows]
    return rows // np.array(factors, object)[:, None]


def _signs(values: np.ndarray) -> np.ndarray:
    return (values > 0).astype(np.int8) - (values < 0).astype(np.int8)


def _independent_columns(rows: np.ndarray) -> np.ndarray | None:
    """As many columns as the rank, which tell all rows apart; None where faces are too many."""
    left, count = rows, len({max(tuple(row), tuple(-row)) for row in rows if row.any()})
    chosen: list[int] = []
    while (left != 0).any():
        if not can_list(count, len(chosen) + 1):
            return None
        pivot = np.argmax((left != 0).any(axis=1))
        column = int(np.argmax(left[pivot] != 0))
        chosen.append(column)
        left = _primitive(left * left[pivot, column] - left[:, column : column + 1] * left[pivot])
    return rows[:, chosen]


def _faces(rows: np.ndarray, known: dict[bytes, list[np.ndarray]]) -> list[np.ndarray]:
    """`faces` of integer rows whose columns are independent.

    A cell has a facet, on the hyperplane of some row; and every cell of the arrangement that the
    others cut out of that hyperplane is a facet of two cells, one on either side. `known` has what
    was found in flats before, by the rows that are zero on them: hyperplanes meet in any order.
    """
    rank = rows.shape[1]
    if rank == 1:
        signs = _signs(rows[:, 0])
        return [np.stack([signs, -signs])]
    if rank == 2:
        return _faces_in_plane(rows)
    found: list[list[np.ndarray]] = [[] for _ in range(rank)]
    left = (rows != 0).any(axis=1)
    while left.any():
        row = int(np.argmax(left))
        pivot = int(np.argmax(rows[row] != 0))
        sign = 1 if rows[row, pivot] > 0 else -1
        inside = rows * abs(rows[row, pivot]) - sign * rows[:, pivot : pivot + 1] * rows[row]
        inside = _primitive(np.delete(inside, pivot, axis=1))
        parallel = (rows != 0).any(axis=1) & ~(inside != 0).any(axis=1)
        side = np.where(parallel, sign * _signs(rows[:, pivot]), 0).astype(np.int8)
        left &= ~parallel
        flat = (inside != 0).any(axis=1).tobytes()
        if flat not in known:
            known[flat] = _faces(inside, known)
        below = known[flat]
        for dimension, signs in enumerate(below):
            found[dimension].append(signs)
        found[-1] += [below[-1] + side, below[-1] - side]
    return [np.unique(np.concatenate(signs), axis=0) for signs in found]


def _faces_in_plane(rows: np.ndarray) -> list[np.ndarray]:
    """`faces` of rank 2: lines in the order of their angles, which one sweep crosses."""
    used = (rows != 0).any(axis=1)
    upper = (rows[:, 1] > 0) | ((rows[:, 1] == 0) & (rows[:, 0] > 0))
    flip = np.where(used, np.where(upper, 1, -1), 0)
    turned = (rows * flip[:, None]).tolist()
    cross = lambda i, j: turned[i][0] * turned[j][1] - turned[i][1] * turned[j][0]
    by_angle = functools.cmp_to_key(lambda i, j: (cross(i, j) < 0) - (cross(i, j) > 0))
    order = sorted(np.flatnonzero(used).tolist(), key=by_angle)
    place = np.zeros(len(rows), int)
    for before, after in itertools.pairwise(order):
        place[after] = place[before] + (cross(before, after) != 0)
    lines = np.arange(place[order[-1]] + 1)[:, None]
    rays = np.sign(place - lines) * flip
    cells = np.sign(place - lines - 0.5) * flip
    return [np.concatenate([signs, -signs]).astype(np.int8) for signs in (rays, cells)]
