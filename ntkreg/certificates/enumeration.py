"""All activation patterns of a sample, and the maximum of h(u) = Σ cᵢ relu(uᵀxᵢ) from them.

The hyperplanes uᵀxᵢ = 0 cut the space of neurons into faces. A float64 number is an integer times a
power of two, so that every sign here is decided exactly, in integers: rows may repeat, be parallel,
or differ by their last bits.

On a face h is linear, h(u) = gᵀu with g = Σ_active cᵢxᵢ. A maximizer over the unit ball lies inside
some face, and is there the normalised projection of g to the face's span: the largest projection
that lies in its own face is the maximum. Projections are computed in float64, with a bound of their
error; those that this leaves in doubt are computed again in ball arithmetic.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import flint
import numpy as np

from ntkreg.certificates.balls import above, balls, is_balls, middle, precision, rounded

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


EPS = float(np.finfo(float).eps)


class Faces(NamedTuple):
    """All faces of an arrangement, and what projects to their spans.

    Attributes:
      x: rows of norm about 1, shape (n, d), or zero.
      signs: sign vectors, int8 of shape (faces, n).
      flat: which flat (the span of a face) each belongs to.
      normals: of each flat an orthonormal basis of its complement in the row space, filled up with
        zeros, shape (flats, rank − 1, d).
      codimension: of each flat, the number of its normals.
      vanishing: of each flat the rows that are zero on it.
      condition: of each flat, by how much rounding errors of its normals are magnified.
    """

    x: np.ndarray
    signs: np.ndarray
    flat: np.ndarray
    normals: np.ndarray
    codimension: np.ndarray
    vanishing: list[np.ndarray]
    condition: np.ndarray


class Peaks(NamedTuple):
    """Projections that lie in their own faces, best first: local maxima are among them.

    Attributes:
      units: of norm 1, shape (k, d); float64 or midpoints of balls.
      values: h of them.
      faces: their indices.
      upper: a proved bound of the maximum of h, float64.
    """

    units: np.ndarray
    values: np.ndarray
    faces: np.ndarray
    upper: float


def arranged(x: np.ndarray) -> Faces:
    """The faces of rows x of norm about 1.

    Raises:
      ValueError: where there are too many faces (`enumeration.can_list`).
    """
    listed = faces(x)
    rank, used = len(listed), x.any(axis=1)
    signs = np.concatenate(listed)
    codimension = np.repeat(rank - 1 - np.arange(rank), [len(part) for part in listed])
    zeros, first, flat = np.unique(
        (signs == 0) & used, axis=0, return_index=True, return_inverse=True
    )
    codimension, vanishing = codimension[first], [np.flatnonzero(row) for row in zeros]
    normals, condition = np.zeros((len(zeros), rank - 1, x.shape[1])), np.zeros(len(zeros))
    for flat_index, (rows, size) in enumerate(zip(vanishing, codimension, strict=True)):
        if size:
            _, sizes, basis = np.linalg.svd(x[rows], full_matrices=False)
            normals[flat_index, :size] = basis[:size]
            smallest = abs(sizes[size - 1])  # LAPACK may find −0
            condition[flat_index] = 2 * np.sqrt(len(rows)) / smallest if smallest else np.inf
    return Faces(x, signs, flat.ravel(), normals, codimension, vanishing, condition)


def peaks(known: Faces, c: np.ndarray, floor: float = 0.0) -> Peaks:
    """The peaks of h that are above `floor`, and a bound of its maximum (at least `floor`).

    Args:
      c: float64, or balls: then faces that float64 leaves in doubt are computed again in balls.
    """
    c, size = _sized(c)
    found = _sized_peaks(known, c, floor / size)
    return found._replace(values=found.values * size, upper=above(found.upper * flint.arb(size)))


def _sized(c: np.ndarray) -> tuple[np.ndarray, float | flint.arb]:
    """(c/2ᵏ with a largest entry of about 1, 2ᵏ): weights of any size, without overflow."""
    if is_balls(c):
        top = max(abs(value) for value in c)
        size = flint.arb(2) ** int(float(top.log() / flint.arb(2).log())) if top > 0 else 1.0
    else:
        size = float(np.ldexp(1.0, np.frexp(np.abs(c).max())[1]))
    return c / size, size


def _sized_peaks(known: Faces, c: np.ndarray, floor) -> Peaks:
    units, norms, errors, inside = _projected(known, rounded(c))
    if is_balls(c):
        chosen = ~(norms + errors <= float(floor)) & ~(inside < -errors)
        return _exact_peaks(known, c, floor, chosen)
    values = np.where(inside > errors, norms, 0.0)
    smallest = max(floor, float((values - errors).max(initial=0.0)))
    doubtful = ~(norms + errors <= smallest) & ~(inside < -errors)
    upper = _worst([smallest, float((norms + errors)[doubtful].max(initial=0.0))])
    kept = np.flatnonzero((norms > floor) & (inside >= -errors))
    kept = kept[np.argsort(-norms[kept])]
    return Peaks(units[kept] / norms[kept, None], norms[kept], kept, upper)


def _projected(known: Faces, c: np.ndarray):
    """(projections, their norms, bounds of their errors, how far inside their faces they lie)."""
    x, signs = known.x, known.signs
    gradients = (np.maximum(signs, 0) * c) @ x
    projections = _onto_spans(known, gradients, np.arange(len(signs)))
    norms = np.linalg.norm(projections, axis=1)
    total = float(np.abs(c) @ np.linalg.norm(x, axis=1))
    lengths = np.linalg.norm(gradients, axis=1)
    with np.errstate(invalid="ignore"):  # NaN: no bound, like infinity
        errors = 8 * sum(x.shape) * EPS * (total + known.condition[known.flat] * lengths)
    signed = np.where(signs == 0, np.inf, signs * (projections @ x.T))
    return projections, norms, 2 * errors, signed.min(axis=1)


def _exact_peaks(known: Faces, c: np.ndarray, floor: float, chosen: np.ndarray) -> Peaks:
    with precision():
        x = balls(known.x)
        cx = c[:, None] * x
        units, values, where, bounds = [], [], [], [floor]
        normals: dict[int, np.ndarray] = {}
        for face in np.flatnonzero(chosen):
            flat = int(known.flat[face])
            if flat not in normals:
                normals[flat] = _orthonormal(x[known.vanishing[flat]], int(known.codimension[flat]))
            u = _projection(cx, known.signs[face], normals[flat])
            inner = known.signs[face] * x.dot(u)
            if any(z < 0 for z in inner):
                continue
            square = u.dot(u)
            bounds.append(above(square.abs_upper().sqrt()))  # a ball around 0 has no root
            norm = square.sqrt()
            if norm > floor:
                units.append(middle(u / norm))
                values.append(norm.mid())
                where.append(face)
        order = np.argsort([-float(v) for v in values], kind="stable")
        return Peaks(
            balls(np.zeros((0, x.shape[1]))) if not units else np.array(units, object)[order],
            np.array(values, object)[order], np.array(where, int)[order], _worst(bounds),
        )  # fmt: skip


def _worst(bounds: list) -> Any:
    """The largest; infinity where one is NaN, of which nothing is known."""
    return max(bounds) if all(bound == bound for bound in bounds) else np.inf


def _projection(cx: np.ndarray, signs: np.ndarray, normals: np.ndarray) -> np.ndarray:
    active = cx[signs > 0]
    u = active.sum(axis=0) if len(active) else balls(np.zeros(cx.shape[1]))
    for normal in normals:
        u = u - normal * normal.dot(u)
    return u


def _orthonormal(rows: np.ndarray, rank: int) -> np.ndarray:
    """An orthonormal basis of the span of rows in balls: Gram and Schmidt, longest rest first."""
    left, found = rows, []
    for _ in range(rank):
        squares = [row.dot(row) for row in left]
        longest = int(np.argmax([float(square) for square in squares]))
        found.append(left[longest] / np.sqrt(squares[longest]))
        left = left - (left.dot(found[-1]))[:, None] * found[-1]
    return np.array(found, object).reshape(rank, rows.shape[1])


def top_vectors(maps: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the critical values of ‖Bz‖² over unit vectors z in a span, rising, and z of the last).

    Args:
      maps: B, shape (…, k, d).
      spans: the orthogonal projections to the spans, shape (…, d, d).
    """
    within = maps @ spans
    values, vectors = np.linalg.eigh(within @ within.swapaxes(-1, -2))
    z = (within.swapaxes(-1, -2) @ vectors[..., -1:])[..., 0]
    length = np.linalg.norm(z, axis=-1, keepdims=True)
    return values, z / np.where(length > 0, length, 1.0)


def _onto_spans(known: Faces, vectors: np.ndarray, where: np.ndarray) -> np.ndarray:
    normals = known.normals[known.flat[where]]
    for _ in range(2):  # the second takes away what the rounding of the first left
        along = np.einsum("fkd,fd->fk", normals, vectors)
        vectors = vectors - np.einsum("fk,fkd->fd", along, normals)
    return vectors


def float_units(known: Faces, vectors: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The vectors projected to the spans of their faces, of norm 1; NaN where nothing is left."""
    units = _onto_spans(known, vectors, where)
    return units / np.linalg.norm(units, axis=1, keepdims=True)


def exact_units(known: Faces, units: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The units projected to the spans of their faces, of norm 1, in midpoints of balls."""
    normals: dict[int, np.ndarray] = {}
    found = []
    for u, face in zip(balls(units), where, strict=True):
        flat = int(known.flat[face])
        if flat not in normals:
            rows = balls(known.x[known.vanishing[flat]])
            normals[flat] = _orthonormal(rows, int(known.codimension[flat]))
        for normal in normals[flat]:
            u = u - normal * normal.dot(u)
        found.append(middle(u / np.sqrt(u.dot(u))))
    return np.array(found, object)


def largest(known: Faces, c: np.ndarray, signs=(1, -1)) -> float:
    """A proved bound of |Σ cᵢ relu(uᵀxᵢ)| over the unit ball, tight to rounding."""
    c, size = _sized(c)
    bounds = []
    for sign in signs:
        _, norms, errors, inside = _projected(known, rounded(sign * c))
        smallest = max(0.0, float(np.where(inside > errors, norms - errors, 0.0).max(initial=0.0)))
        # Not `norms + errors > smallest`: what is NaN has to be looked at.
        chosen = ~(norms + errors <= smallest) & ~(inside < -errors)
        bounds.append(_exact_peaks(known, balls(sign * c), smallest, chosen).upper)
    return above(_worst(bounds) * flint.arb(size))
