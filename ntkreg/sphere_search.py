"""Compiled searches for max over ‖u‖ ≤ 1 of h(u) = Σ cᵢ relu(uᵀxᵢ): local ascent, branch and bound.

Units with cᵢ > 0 are called positive, the others negative; zᵢ = uᵀxᵢ. Two facts carry both:

- For a fixed set S of positive units, h_S(u) = Σ_S cᵢzᵢ − Σ_neg |cⱼ| relu(zⱼ) is concave and
  h = max over S of h_S. Its maximum on the ball is the distance min ‖Σ_S cᵢxᵢ + Σ_neg wⱼxⱼ‖ over
  −|cⱼ| ≤ wⱼ ≤ 0, and *any* such w bounds it from above.
- Where the signs sᵢ of some zᵢ are given, multipliers wᵢ of sign sᵢ may be added: for every u with
  those signs the term wᵢzᵢ only raises the bound.

Sources: Schneider, "Convex Bodies" (support functions of zonotopes); Horst and Tuy, "Global
Optimization" (branch and bound with convex envelopes).
"""

import heapq

import numba
import numpy as np

STALL = 1e-10  # relative gain of a sweep below which more are not worth it
GENERIC = 1e-11  # relative distance to every hyperplane that a maximizer may be moved to
_njit = numba.njit(cache=True, error_model="numpy", nogil=True)
# Sums in any order, so that they use the processor's vectors; NaN and infinity keep their meaning.
_fast = numba.njit(
    cache=True, error_model="numpy", nogil=True, fastmath={"reassoc", "contract", "nsz"}
)


@_njit
def value(x, c, u):
    """h(u)."""
    return np.sum(c * np.maximum(x @ u, 0.0))


@_fast
def shorten(x, low, high, w, r, max_sweeps, stall, goal):
    """Lowers ‖r‖ over low ≤ w ≤ high, r = fixed part + Σ wᵢxᵢ, by coordinate descent; in place.

    Ends early where ‖r‖ ≤ goal, or where a sweep gains no more than `stall`, relative. Returns ‖r‖.
    """
    num_units, dim = x.shape
    squares = np.sum(x * x, axis=1)
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


@_njit
def ascend(x, c, u, max_rounds, max_sweeps):
    """A local maximizer of h on the sphere from u: the convex–concave procedure.

    Every round maximises the concave h_S of the current active set S; h falls by no more than the
    coordinate descent leaves open. The zero vector where h ≤ 0 all around. Source: Yuille and
    Rangarajan (Neural Computation 2003).
    """
    low, high = np.minimum(c, 0.0), np.zeros_like(c)
    w = np.zeros_like(c)
    active = np.zeros(len(c), np.bool_)
    largest = np.sqrt(np.max(np.sum(x * x, axis=1))) * np.max(np.abs(c))
    for _ in range(max_rounds):
        now = (x @ u > 0.0) & (c > 0.0)
        if np.array_equal(now, active):
            break
        active = now
        r = (np.where(active, c, 0.0) + w) @ x
        length = shorten(x, low, high, w, r, max_sweeps, STALL, 0.0)
        if length <= 1e-14 * largest:
            return np.zeros_like(u)
        u = r / length
    return u


@_njit
def ascend_all(x, c, starts, max_rounds, max_sweeps):
    """(local maximizers, their values) from every row of `starts`."""
    ends, values = np.empty_like(starts), np.empty(len(starts))
    for i in range(len(starts)):
        ends[i] = ascend(x, c, starts[i], max_rounds, max_sweeps)
        values[i] = value(x, c, ends[i])
    return ends, values


@_njit
def nnls(a, b, max_iterations):
    """(μ, residual b − aμ) of min ‖aμ − b‖ over μ ≥ 0. Source: Lawson and Hanson (1974), ch. 23."""
    num_rows, num_columns = a.shape
    mu = np.zeros(num_columns)
    kept = np.zeros(num_columns, np.bool_)
    residual = b.copy()
    tolerance = 1e-14 * np.sqrt(np.max(np.sum(a * a, axis=0))) * np.sqrt(np.sum(b * b))
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


@_njit
def distances_in_cells(x, c, signs, floor):
    """For every sign pattern, max of Σ_active cᵢzᵢ over its closed cell within the ball.

    It is ‖g + Σ μᵢsᵢxᵢ‖ at the best μ ≥ 0, and at most that at any. Cells that cannot pass `floor`
    are bounded by ‖g‖ and not solved.

    Returns:
      (upper bound of each cell, its maximizer or the zero vector).
    """
    bounds, units = np.empty(len(signs)), np.zeros((len(signs), x.shape[1]))
    for cell in range(len(signs)):
        g = np.where(signs[cell] > 0, c, 0.0) @ x
        bounds[cell] = np.sqrt(np.sum(g * g))
        if bounds[cell] <= floor:
            continue
        walls = -np.ascontiguousarray((x * signs[cell].reshape(-1, 1)).T)
        mu, _ = nnls(walls, g, 10 * len(c))
        r = g - walls @ mu
        bounds[cell] = np.sqrt(np.sum(r * r))
        if bounds[cell] > 0.0:
            units[cell] = r / bounds[cell]
    return bounds, units


@_njit
def interior_point(x, state):
    """(empty, u): whether no generic u has the signs `state` (0: free), else one that has.

    The point of least norm in the hull of the rows sᵢxᵢ/‖xᵢ‖ is zero, or it has all those signs
    (Gordan's alternative). "Empty" is proved by weights μ ≥ 0 with ‖Σ μᵢsᵢxᵢ/‖xᵢ‖‖ below
    GENERIC · Σμ: then not all signed zᵢ can be above GENERIC · ‖xᵢ‖.
    """
    num_signs, dim = np.sum(state != 0), x.shape[1]
    a = np.empty((dim + 1, num_signs))
    k = 0
    for i in range(len(state)):
        if state[i] != 0:
            a[:dim, k] = state[i] * x[i] / np.sqrt(np.sum(x[i] * x[i]))
            k += 1
    a[dim] = 1.0
    b = np.zeros(dim + 1)
    b[dim] = 1.0
    mu, _ = nnls(a, b, 10 * num_signs)
    r = a[:dim] @ mu
    length, total = np.sqrt(np.sum(r * r)), np.sum(mu)
    if length < GENERIC * total:
        return True, r
    return False, r / length


@_njit
def _chords(c, state, low_z, high_z, slope, offset):
    """Fills in the lines slope·z + offset ≥ relu(z) on the interval of every positive unit."""
    for i in range(len(c)):
        slope[i], offset[i] = 0.0, 0.0
        if c[i] <= 0.0 or state[i] < 0 or high_z[i] <= 0.0:
            continue
        if state[i] > 0 or low_z[i] >= 0.0:
            slope[i] = 1.0
        else:
            slope[i] = high_z[i] / (high_z[i] - low_z[i])
            offset[i] = -slope[i] * low_z[i]


@_njit
def _bound(x, c, lengths, state, w, incumbent, cut, max_sweeps, stall):
    """(upper bound of h in the node, u where the relaxation attains it, loosest unit or −1).

    Undecided units are replaced by their chords: h ≤ constant + rᵀu in the node. Where the constant
    is below the incumbent, a better u lies in the cap rᵀu ≥ incumbent − constant; there the
    intervals of the zᵢ are shorter, and the chords tighter: so again, until that gains little.
    """
    num_units = len(c)
    low_z, high_z = -lengths.copy(), lengths.copy()
    slope, offset = np.zeros(num_units), np.zeros(num_units)
    low, high = np.minimum(c, 0.0), np.zeros(num_units)
    for i in range(num_units):
        if state[i] > 0:
            high[i] = np.inf
        elif state[i] < 0:
            low[i] = -np.inf
    best, best_u = np.inf, np.zeros(x.shape[1])
    flat = 1e-13 * np.sum(np.abs(c) * lengths)
    for _ in range(8):
        _chords(c, state, low_z, high_z, slope, offset)
        constant = np.sum(np.maximum(c, 0.0) * offset)
        r = (np.maximum(c, 0.0) * slope + w) @ x
        shorten(x, low, high, w, r, max_sweeps, stall, cut - constant)
        r = (np.maximum(c, 0.0) * slope + w) @ x  # anew: without the rounding of many steps
        length = np.sqrt(np.sum(r * r))
        gain = best - (constant + length)
        if gain > 0.0:
            best = constant + length
        # Where r is but rounding its direction means nothing: the maximum is constant, and at 0.
        best_u = r / length if length > flat else np.zeros_like(r)
        if best <= cut or constant >= incumbent or length == 0.0 or gain <= 0.02 * (best - cut):
            break
        angle = np.arccos(min(1.0, max(-1.0, (incumbent - constant) / length))) + 1e-9
        z = x @ best_u
        for i in range(num_units):
            if c[i] > 0.0 and state[i] == 0:
                to_axis = np.arccos(min(1.0, max(-1.0, z[i] / lengths[i])))
                high_z[i] = min(high_z[i], lengths[i] * np.cos(max(0.0, to_axis - angle)))
                low_z[i] = max(low_z[i], lengths[i] * np.cos(min(np.pi, to_axis + angle)))
    z = x @ best_u
    loosest, most = -1, 0.0
    for i in range(num_units):
        if c[i] > 0.0 and state[i] == 0:
            gap = c[i] * (slope[i] * z[i] + offset[i] - max(z[i], 0.0))
            if gap > most:
                loosest, most = i, gap
    return best, best_u, loosest if most > 1e-3 * (best - cut) else -1


@_njit
def branch_and_bound(x, c, u, tolerance, max_nodes):
    """(upper bound of max h, best u found, nodes) from a start u, best bound first.

    A node fixes the signs of some positive units. It ends where its bound is within `tolerance`,
    relative, of the best value found, or where its cone is empty. Nodes whose relaxation is tight
    are solved; what rounding leaves there enters the bound. Valid wherever it stops, up to
    `rounding_allowance`. Rows of x must not be zero where c is positive.
    """
    num_units, dim = x.shape
    lengths = np.sqrt(np.sum(x * x, axis=1))
    best_u, incumbent = u.copy(), max(0.0, value(x, c, u))
    states, multipliers = np.zeros((64, num_units), np.int8), np.zeros((64, num_units), np.float32)
    insides = np.zeros((64, dim), np.float32)
    closed = 0.0  # the largest bound of a node that has ended
    queue = [(-np.inf, 0)]
    free = [0]
    free.pop()
    used, nodes = 1, 0
    while len(queue) > 0 and nodes < max_nodes:
        cut = incumbent * (1.0 + tolerance)
        if -queue[0][0] <= cut:
            break
        parent_bound, slot = heapq.heappop(queue)
        state, w = states[slot].copy(), multipliers[slot].astype(np.float64)
        inside = insides[slot].astype(np.float64)
        free.append(slot)
        nodes += 1
        bound, at, loosest = _bound(x, c, lengths, state, w, incumbent, cut, 30, STALL)
        if bound > cut and loosest < 0:
            bound, at, loosest = _bound(x, c, lengths, state, w, incumbent, cut, 30_000, 1e-15)
        bound = min(bound, -parent_bound)
        found = value(x, c, at)
        if found > incumbent:
            best_u, incumbent = at, found
            cut = incumbent * (1.0 + tolerance)
        if bound <= cut or loosest < 0:
            closed = max(closed, bound)
            continue
        for sign in (-1, 1):
            child = state.copy()
            child[loosest] = sign
            point = inside
            if not sign * np.sum(x[loosest] * inside) > GENERIC * lengths[loosest]:
                empty, point = interior_point(x, child)
                if empty:
                    continue
            if len(free) > 0:
                slot = free.pop()
            else:
                slot = used
                used += 1
                if slot == len(states):
                    states = np.concatenate((states, np.zeros_like(states)))
                    multipliers = np.concatenate((multipliers, np.zeros_like(multipliers)))
                    insides = np.concatenate((insides, np.zeros_like(insides)))
            states[slot], multipliers[slot], insides[slot] = child, w, point
            heapq.heappush(queue, (-bound, slot))
    upper = max(incumbent, closed)
    if len(queue) > 0:
        upper = max(upper, -queue[0][0])
    return upper, best_u, nodes


def rounding_allowance(x: np.ndarray, c: np.ndarray) -> float:
    """What `branch_and_bound` may miss: a bound of float64 rounding and of the generic signs.

    Empty cones are proved only for u at least GENERIC · ‖xᵢ‖ away from every hyperplane of a
    positive unit. The slabs around these, of half width δ, cover less than a ball of radius
    ρ = 2nδ√((d + 1)/2π), so that every maximizer has such a u within ρ; h is Lipschitz with
    constant Σ|cᵢ|‖xᵢ‖, and u may be longer than 1 by ρ.
    """
    num_units, dim = x.shape
    slope = float(np.abs(c) @ np.linalg.norm(x, axis=1))
    radius = 2 * num_units * GENERIC * np.sqrt((dim + 1) / (2 * np.pi))
    rounding = 4 * (num_units + dim) * np.finfo(float).eps
    return slope * (2 * radius + rounding)
