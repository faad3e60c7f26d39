"""The maximum of h(u) = Σ cᵢ relu(uᵀxᵢ) over the unit ball, from all faces of the arrangement.

On a face of the arrangement h is linear, h(u) = gᵀu with g = Σ_active cᵢxᵢ. A maximizer lies inside
some face, and is there the normalised projection of g to the face's span: the largest projection
that lies in its own face is the maximum. Projections are computed in float64, with a bound of their
error; those that this leaves in doubt are computed again in ball arithmetic.
"""

from typing import Any, NamedTuple

import flint
import numpy as np

from ntkreg.certificates.arrangements import faces
from ntkreg.certificates.balls import above, balls, is_balls, middle, precision, rounded

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
      ValueError: where there are too many faces (`arrangements.can_list`).
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
    least = max(floor, float((values - errors).max(initial=0.0)))
    doubtful = ~(norms + errors <= least) & ~(inside < -errors)
    upper = _worst([least, float((norms + errors)[doubtful].max(initial=0.0))])
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
        least = max(0.0, float(np.where(inside > errors, norms - errors, 0.0).max(initial=0.0)))
        # Not `norms + errors > least`: what is NaN has to be looked at.
        chosen = ~(norms + errors <= least) & ~(inside < -errors)
        bounds.append(_exact_peaks(known, balls(sign * c), least, chosen).upper)
    return above(_worst(bounds) * flint.arb(size))
