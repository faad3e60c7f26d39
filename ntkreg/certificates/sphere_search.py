"""Compiled searches for max over ‖u‖ ≤ 1 of h(u) = Σ cᵢ relu(uᵀxᵢ): local ascent.

Units with cᵢ > 0 are called positive, the others negative; zᵢ = uᵀxᵢ. Two facts carry all:

- For a fixed set S of positive units, h_S(u) = Σ_S cᵢzᵢ − Σ_neg |cⱼ| relu(zⱼ) is concave and
  h = max over S of h_S. Its maximum on the ball is the distance min ‖Σ_S cᵢxᵢ + Σ_neg wⱼxⱼ‖ over
  −|cⱼ| ≤ wⱼ ≤ 0, and any such w bounds it from above.
- Where the signs sᵢ of some zᵢ are given, multipliers wᵢ of sign sᵢ may be added: for every u with
  those signs the term wᵢzᵢ only raises the bound.

`branch_and_bound` proves what these find. Source: Schneider, "Convex Bodies" (support functions of
zonotopes).
"""

import numba
import numpy as np

STALL = 1e-10  # relative gain of a sweep below which more are not worth it
compiled = numba.njit(cache=True, error_model="numpy", nogil=True)
# Sums in any order, so that they use the processor's vectors; NaN and infinity keep their meaning.
_fast = numba.njit(
    cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract", "nsz"}
)


@compiled
def value(x, c, u):
    """h(u)."""
    return np.sum(c * np.maximum(x @ u, 0.0))


@compiled
def squared_lengths(x):
    """‖xᵢ‖² of every row. A loop, since a sum over an axis takes ten times as long to compile."""
    squares = np.zeros(len(x))
    for i in range(len(x)):
        for k in range(x.shape[1]):
            squares[i] += x[i, k] * x[i, k]
    return squares


@_fast
def shorten(x, low, high, w, r, max_sweeps, stall, goal):
    """Lowers ‖r‖ over low ≤ w ≤ high, r = fixed part + Σ wᵢxᵢ, by coordinate descent; in place.

    Ends early where ‖r‖ ≤ goal, or where a sweep gains no more than `stall`, relative. Returns ‖r‖.
    """
    num_units, dim = x.shape
    squares = squared_lengths(x)
    last = np.sqrt(np.sum(r * r))
    for _ in range(max_sweeps):
        for i in range(num_units):
            if low[i] == high[i] or squares[i] == 0.0:
                continue
            inner = 0.0
            for k in range(dim):
                inner += r[k] * x[i, k]
            new = min(max(w[i] - inner / squares[i], low[i]), high[i])
            step = new - w[i]
            if step != 0.0:
                w[i] = new
                for k in range(dim):
                    r[k] += step * x[i, k]
        length = np.sqrt(np.sum(r * r))
        if length <= goal or last - length <= stall * last:
            return length
        last = length
    return last


@compiled
def ascend(x, c, u, max_rounds, max_sweeps):
    """A local maximizer of h on the sphere from u: the convex–concave procedure.

    Every round maximises the concave h_S of the current active set S; h falls by no more than the
    coordinate descent leaves open. The zero vector where h ≤ 0 all around. Source: Yuille and
    Rangarajan (Neural Computation 2003).
    """
    low, high = np.minimum(c, 0.0), np.zeros_like(c)
    w = np.zeros_like(c)
    active = np.zeros(len(c), np.bool_)
    largest = np.sqrt(np.max(squared_lengths(x))) * np.max(np.abs(c))
    for _ in range(max_rounds):
        now = (x @ u > 0.0) & (c > 0.0)
        if np.array_equal(now, active):
            break
        active = now
        r = (active * c + w) @ x
        length = shorten(x, low, high, w, r, max_sweeps, STALL, 0.0)
        if length <= 1e-14 * largest:
            return np.zeros_like(u)
        u = r / length
    return u


@compiled
def ascend_all(x, c, starts, max_rounds, max_sweeps):
    """(local maximizers, their values) from every row of `starts`."""
    ends, values = np.empty_like(starts), np.empty(len(starts))
    for i in range(len(starts)):
        ends[i] = ascend(x, c, starts[i], max_rounds, max_sweeps)
        values[i] = value(x, c, ends[i])
    return ends, values


@compiled
def nnls(a, b, max_iterations):
    """(μ, residual b − aμ) of min ‖aμ − b‖ over μ ≥ 0. Source: Lawson and Hanson (1974), ch. 23."""
    num_rows, num_columns = a.shape
    mu = np.zeros(num_columns)
    kept = np.zeros(num_columns, np.bool_)
    residual = b.copy()
    tolerance = 1e-14 * np.sqrt(np.max(squared_lengths(a.T))) * np.sqrt(np.sum(b * b))
    for _ in range(max_iterations):
        slope = residual @ a
        slope[kept] = -1.0
        entering = np.argmax(slope)
        if slope[entering] <= tolerance or np.sum(kept) >= num_rows:
            break
        kept[entering] = True
        while True:
            chosen = np.flatnonzero(kept)
            solution = np.linalg.lstsq(np.ascontiguousarray(a[:, chosen]), b)[0]
            if np.all(solution > 0.0):
                mu[:] = 0.0
                mu[chosen] = solution
                break
            fraction = 1.0
            for k in range(len(chosen)):
                if solution[k] <= 0.0:
                    old = mu[chosen[k]]
                    fraction = min(fraction, old / (old - solution[k]))
            for k in range(len(chosen)):
                i = chosen[k]
                mu[i] += fraction * (solution[k] - mu[i])
                if mu[i] <= 1e-16 or (solution[k] <= 0.0 and fraction == 0.0):
                    mu[i], kept[i] = 0.0, False
            if not np.any(kept):
                break
        new = b - a @ mu
        if np.sum(new * new) >= np.sum(residual * residual):
            break
        residual = new
    return mu, residual
