"""Branch and bound, compiled: a proved maximum over ‖u‖ ≤ 1 of h(u) = Σ cᵢ relu(uᵀxᵢ).

Notation and the two facts that every bound rests on are those of `sphere_search`. Branched on are
the signs of positive units; undecided ones are replaced by chords, on the intervals that the
decided signs leave them. Source: Horst and Tuy, "Global Optimization" (branch and bound with convex
envelopes); Tawarmalani and Sahinidis (2002), chapter 5 (intervals shortened in every node).
"""

import heapq

import numpy as np

from ntkreg.certificates.sphere_search import STALL, compiled, nnls, shorten, squared_lengths, value

GENERIC = 1e-11  # relative distance to every hyperplane that a maximizer may be moved to
EPS = float(np.finfo(float).eps)
REACH_SWEEPS, REACH_STALL = 20, 1e-3  # of descent on an interval's end: it need not be sharp


@compiled
def _rounding(x):
    """What float64 may lose of ‖wᵀx‖, relative to Σ |wᵢ|‖xᵢ‖."""
    return 4 * (x.shape[0] + x.shape[1]) * EPS


@compiled
def point_of_cone(x, state):
    """(empty, u): whether no generic u has the signs `state` (0: free), else one that has.

    The point of smallest norm in the hull of the rows sᵢxᵢ/‖xᵢ‖ is zero, or it has all those signs
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


@compiled
def intervals(x, c, lengths, state):
    """Bounds (low, high) of the zᵢ of undecided positive units where the signs are `state`.

    By the second fact, zᵢ ≤ ‖xᵢ + Σ wⱼxⱼ‖ for all multipliers wⱼ of the signs; −zᵢ alike. Rounding
    is added. The bounds of the other units are ±‖xᵢ‖.
    """
    low_z, high_z = -lengths.copy(), lengths.copy()
    decided = state != 0
    if not np.any(decided):
        return low_z, high_z
    rows, sizes, signs = x[decided], lengths[decided], state[decided]
    low = np.where(signs < 0, -np.inf, 0.0)
    high = np.where(signs > 0, np.inf, 0.0)
    for i in range(len(c)):
        if c[i] <= 0.0 or state[i] != 0:
            continue
        for side in (1.0, -1.0):
            w, r = np.zeros(len(rows)), side * x[i]
            shorten(rows, low, high, w, r, REACH_SWEEPS, REACH_STALL, REACH_STALL * lengths[i])
            r = side * x[i] + w @ rows
            size = lengths[i] + np.sum(np.abs(w) * sizes)
            reach = np.sqrt(np.sum(r * r)) + _rounding(rows) * size
            if side > 0.0:
                high_z[i] = min(high_z[i], reach)
            else:
                low_z[i] = max(low_z[i], -reach)
    return low_z, high_z


@compiled
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


@compiled
def _bound(x, c, lengths, state, low_z, high_z, w, incumbent, cut, max_sweeps, stall):
    """(upper bound of h in the node, u where the relaxation attains it, loosest unit or −1).

    Undecided units are replaced by their chords: h ≤ constant + rᵀu in the node. Where the constant
    is below the incumbent, a better u lies in the cap rᵀu ≥ incumbent − constant; there the
    intervals of the zᵢ are shorter, and the chords tighter: so again, until that gains little.
    The intervals are shortened in place.
    """
    num_units = len(c)
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
        weights = np.maximum(c, 0.0) * slope + w
        r = weights @ x  # anew: without the rounding of many steps
        length = np.sqrt(np.sum(r * r))
        bound = constant + length + _rounding(x) * np.sum(np.abs(weights) * lengths)
        gain = best - bound
        if gain > 0.0:
            best = bound
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


@compiled
def branch_and_bound(x, c, u, tolerance, max_nodes):
    """(upper bound of max h, best u found, nodes) from a start u, best bound first.

    A node fixes the signs of some positive units. It ends where its bound is within `tolerance`,
    relative, of the best value found, or where its cone is empty. Nodes whose relaxation is tight
    are solved; what rounding leaves there enters the bound. Valid wherever it stops, up to
    `rounding_allowance`. Rows of x must not be zero where c is positive.
    """
    num_units, dim = x.shape
    lengths = np.sqrt(squared_lengths(x))
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
        low_z, high_z = intervals(x, c, lengths, state)
        for sweeps, stall in ((30, STALL), (30_000, 1e-15)):  # few, unless they leave it open
            bound, at, loosest = _bound(
                x, c, lengths, state, low_z, high_z, w, incumbent, cut, sweeps, stall
            )
            if bound <= cut or loosest >= 0:
                break
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
                empty, point = point_of_cone(x, child)
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
    return slope * (2 * radius + _rounding(x))
