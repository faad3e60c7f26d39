"""Activation patterns: the cells into which the hyperplanes uᵀxᵢ = 0 cut the space of neurons."""

import math

import numpy as np

MAX_RANK = 4
PARALLEL = 1e-12  # sine of the angle below which two hyperplanes are one


def row_space(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(coordinates of shape (n, rank), orthonormal basis of shape (d, rank)) of the rows of x.

    What a neuron has outside this space costs norm and changes no output.
    """
    _, sizes, basis = np.linalg.svd(x, full_matrices=False)
    rank = int((sizes > max(x.shape) * np.finfo(float).eps * sizes[:1]).sum())
    return x @ basis[:rank].T, basis[:rank].T


def num_patterns(num_points: int, rank: int) -> int:
    """The number of cells of n hyperplanes through 0 in general position: 2 Σ_{k<rank} C(n−1, k).

    No position has more. Source: Cover (IEEE Trans. Electronic Computers 1965), Theorem 1.
    """
    return 2 * sum(math.comb(num_points - 1, k) for k in range(rank))


def cell_signs(x: np.ndarray) -> np.ndarray:
    """All sign patterns of (uᵀx₁, …, uᵀxₙ) over u in general position, shape (patterns, n), ±1.

    Every u lies in the closure of such a cell, and relu is linear there; points on a hyperplane
    belong to the cells of both sides. Rows may repeat, be parallel or lie in any position; a row of
    zeros, on which no neuron acts, counts as −1.

    Raises:
      ValueError: for a rank above 4, where there are too many to list.
    """
    points, _ = row_space(x)
    num_points, rank = points.shape
    if rank > MAX_RANK:
        raise ValueError(
            f"data of rank at most {MAX_RANK} can be enumerated, got rank {rank}: n = {num_points} "
            f"would have up to {num_patterns(num_points, rank):,} activation patterns; use the "
            "oracle branch_and_bound or multistart"
        )
    if rank == 0:
        return np.full((1, num_points), -1, np.int8)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    signs = _cells(points / np.where(lengths > 0, lengths, 1.0))
    return np.unique(np.where(signs == 0, -1, signs), axis=0)


def _cells(normals: np.ndarray) -> np.ndarray:
    """The cells' signs, 0 on rows that are zero.

    A cell has a facet, on the hyperplane of some row k; and every cell of the arrangement that the
    others cut out of that hyperplane is a facet of two cells, with the signs ± in place k.
    """
    rank = normals.shape[1]
    if rank == 1:
        signs = np.sign(normals[:, 0]).astype(np.int8)
        return np.stack([signs, -signs])
    found = []
    for row in normals[normals.any(axis=1)]:
        within = np.linalg.svd(row[None])[2][1:].T  # a basis of the hyperplane
        inside = normals @ within
        cosine = normals @ row
        parallel = (np.linalg.norm(inside, axis=1) <= PARALLEL) & (cosine != 0)
        inside[parallel] = 0.0
        lengths = np.linalg.norm(inside, axis=1, keepdims=True)
        facets = _cells(inside / np.where(lengths > 0, lengths, 1.0))
        side = np.where(parallel, np.sign(cosine), 0).astype(np.int8)
        found += [facets + side, facets - side]
    return np.unique(np.concatenate(found), axis=0)
