"""The planted network's max margin proved where branch and bound does not end: by a relaxation.

For weights α on samples of D let h(u) = Σ cᵢ relu(uᵀxᵢ), c = ±αy, and e = ±u₁ (±u₂ for c = −αy),
so that e = 1 at the planted neurons. To prove is h ≤ 1/4 on the unit sphere, in zones of e:

- Near, where tan ∠(u, neuron) ≤ 1/√(d − 2): the units of the neuron's axis are all on or off, and
  h(u) ≤ uᵀ(Σ_active cᵢxᵢ − Σ_kinks βᵢxᵢ) for all 0 ≤ βᵢ ≤ αᵢ. The local condition makes it e/4.
- Two shells around that, and all else. With p = relu(Xu), q = relu(−Xu) and y = (1, u, p), every
  matrix Y = yyᵀ has products of p, q and of what is ≥ 0 in the zone that are ≥ 0, pᵢqᵢ = 0, and
  ‖E u s‖ ≤ E s for every such s. Of all positive semidefinite Y that do so the largest cᵀp is a
  semidefinite programme; the multipliers of any step of a solver prove a bound. A zone that stays
  above 1/4 is halved by the sign of one uᵀxᵢ: qᵢ = 0 in one half, pᵢ = 0 in the other.

The weights are chosen for it: of those that meet the local condition, with β away from 0 and α, the
ones whose largest local maximum away from the planted neurons is least. Source: Burer (Mathematical
Programming 2009), for products of what is ≥ 0; Anstreicher (2009), for those with a ball.
"""

from typing import NamedTuple

import numpy as np
import scipy

from ntkreg.certificates.convex import conic_solution
from ntkreg.certificates.oracles import SIGNS
from ntkreg.certificates.planted import (
    MASS,
    NEURONS,
    Optimality,
    checked,
    local_conditions,
    planted_optimality,
)
from ntkreg.data.dataset import Dataset

APART = (0.15, 0.05, 0.0)  # of α, by which β stays away from 0 and α, tried in turn
FAR = 0.2  # distance from the axes at which a local maximum is away from the planted neurons
SHELLS = (1.0 - 1e-12, 1.3, 1.8)  # tangents of the zones' ends, times √(d − 2)
STRIDE, RELAXED, BALANCED = 50, 1.6, 400  # steps between two looks, over-relaxation, ρ moves until


def planted_proof(
    data: Dataset,
    *,
    max_rounds: int = 15,
    max_steps: int = 1000,
    max_zones: int = 1000,
    seed: int = 0,
) -> Optimality:
    """Whether the planted network has the max margin: proved, refuted or left open.

    Args:
      data: samples of D (`data.noisy_xor`).
      max_rounds: of the search for weights.
      max_steps: of the solver in each zone, after which the zone is halved.
      max_zones: of all zones, halves included, after which the sample is left open.
      seed: of the search's starts.

    Returns:
      `nodes` counts the solver's steps; `upper` is proved.

    Raises:
      ValueError: for samples that are not of D.
      ArithmeticError: as `planted_optimality`.
    """
    x, y = checked(data)
    found = planted_optimality(data)
    if found.refuted:
        return found
    weights = spread_weights(x, y, max_rounds, seed)
    if weights is None:
        return found._replace(upper=np.inf, nodes=0)
    upper, steps = bound(x, y, weights, max_steps, max_zones)
    return found._replace(upper=upper / 2, alpha=weights[: len(y)], nodes=steps)


def bound(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, max_steps: int, max_zones: int
) -> tuple[float, int]:
    """(a proved upper bound of M(αy), steps) for weights (α, β), Σα = 1, `local_conditions`'.

    Infinity where zones above 1/4 are left after `max_zones`.
    """
    upper, steps = near_bound(x, weights), 0
    dual = weights[: len(y)] * y
    todo = [(zone, sign * dual) for axis, sign in enumerate(SIGNS) for zone in zones(x, axis)]
    for _ in range(max_zones):
        zone, c = todo.pop()
        found = zone_bound(zone, x, c, max_steps)
        steps += found.steps
        if found.upper <= MASS:
            upper = max(upper, found.upper)
        else:
            todo += [(half, c) for half in halves(zone, x, c, found.mean)]
        if not todo:
            return upper, steps
    return np.inf, steps


def near_bound(x: np.ndarray, weights: np.ndarray) -> float:
    """The largest ‖Σ_active αx − Σ_kinks βx‖ of the four neurons, β cut to 0 ≤ β ≤ α."""
    alpha, rest, largest = weights[: len(x)], weights[len(x) :], 0.0
    for axis, sign in NEURONS:
        kink, active = x[:, axis] == 0, sign * x[:, axis] > 0
        beta, rest = rest[: kink.sum()], rest[kink.sum() :]
        slope = alpha[active] @ x[active] - np.clip(beta, 0.0, alpha[kink]) @ x[kink]
        largest = max(largest, float(np.linalg.norm(slope)))
    return largest + 8 * len(x) * np.finfo(float).eps * float(np.linalg.norm(x, axis=1).max())


def spread_weights(x: np.ndarray, y: np.ndarray, max_rounds: int, seed: int) -> np.ndarray | None:
    """(α, β) of the local condition, with local maxima below 1/4 elsewhere; None without any."""
    for apart in APART:
        found = _spread(x, y, apart, max_rounds, np.random.default_rng(seed))
        if found is not None:
            return found
    return None


def _spread(x, y, apart: float, max_rounds: int, rng: np.random.Generator) -> np.ndarray | None:
    """Cutting planes: the best of the rounds' weights, each half way from the last."""
    cuts, best, last, least = np.zeros((0, len(y))), None, None, np.inf
    for _ in range(max_rounds):
        new = _least_maximum(x, cuts, apart)
        if new is None:
            break
        last = weights = new if last is None else (last + new) / 2
        alpha = weights[: len(y)]
        starts = rng.normal(size=(200, x.shape[1]))
        found = [sign * y * _far_units(x, sign * alpha * y, starts) for sign in SIGNS]
        cuts = np.concatenate([cuts[np.argsort(-cuts @ alpha)[:200]], *found])
        largest = float((cuts @ alpha).max(initial=0.0))
        if largest < least:
            best, least = weights, largest
    return best if least < MASS else None


def _far_units(x: np.ndarray, c: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """relu(Xu) of the 40 largest local maxima u of h away from the axes, one a row."""
    from ntkreg.certificates import sphere_search  # loads numba

    starts = starts / np.linalg.norm(starts, axis=1, keepdims=True)
    ends, values = sphere_search.ascend_all(x, c, starts, 100, 300)
    far = np.linalg.norm(ends[:, 2:], axis=1) > FAR
    ends, values = ends[far], values[far]
    _, first = np.unique(-values.round(9), return_index=True)
    return np.maximum(ends[first[:40]] @ x.T, 0.0)


def _least_maximum(x: np.ndarray, cuts: np.ndarray, apart: float) -> np.ndarray | None:
    """(α, β) with the least max of cuts·α, and a little of |nα − 1|²; None where there is none."""
    n = len(x)
    equal, right, most = local_conditions(x)
    count = equal.shape[1]
    kinks = most[: count - n]  # β − α
    alpha = -np.pad(kinks[:, :n], ((0, 0), (0, count - n)))
    beta = kinks + alpha
    rows = [beta - (1 - apart) * alpha, apart * alpha - beta, -np.eye(count)[:n]]
    below = np.concatenate([*rows, np.pad(cuts, ((0, 0), (0, count - n)))])
    last = np.append(np.zeros(len(below) - len(cuts)), np.full(len(cuts), -n / 4.0))
    top = np.append(np.zeros(len(equal)), last)
    matrix = np.column_stack([np.concatenate([equal, below]), top])
    bend, slope = np.full(count + 1, 1e-9), np.zeros(count + 1)
    bend[:n], slope[:n], slope[-1] = 1e-3 / n, -1e-3 / n, 1.0
    solution = conic_solution(
        scipy.sparse.diags(bend), slope, scipy.sparse.csc_matrix(matrix),
        np.append(n * right, np.zeros(len(below))),
        [("zero", len(equal)), ("nonnegative", len(below))], 1e-10,
    )  # fmt: skip
    if "Solved" not in str(solution.status):
        return None
    weights = np.maximum(np.asarray(solution.x)[:-1], 0.0)
    return weights / weights[:n].sum()


class Zone(NamedTuple):
    """What is known of y = (1, u, p) in a part of the sphere.

    Attributes:
      rows: L: the first `num_cone` entries of Ly are a cone's, first ≥ ‖others‖; the rest are ≥ 0.
      num_cone: their number.
      empty: where (Ly)(Ly)ᵀ is 0: pᵢqᵢ, and all products of what is 0 in the zone.
    """

    rows: np.ndarray
    num_cone: int
    empty: np.ndarray


def zones(x: np.ndarray, axis: int) -> list[Zone]:
    """All of the sphere but what is near ±e_axis: the rest of it, and two shells around each."""
    n, dim = x.shape
    one, units, p = np.split(np.eye(1 + dim + n), [1, 1 + dim])
    q = p - np.pad(x, ((0, 0), (1, n)))
    tangents = np.array(SHELLS) / np.sqrt(max(dim - 2, 1))
    ends = 1 / np.sqrt(1 + tangents**2)
    found = []
    for sign in SIGNS:
        e, others = sign * units[axis : axis + 1], np.delete(units, axis, 0)
        for high, low, tangent in zip(ends, ends[1:], tangents[1:], strict=False):
            cone = np.concatenate([tangent * (1 + 1e-12) * e, others])
            found.append(_zone(cone, p, q, [one, e - low * one, high * one - e]))
    e = units[axis : axis + 1]
    rest = _zone(np.concatenate([one, units]), p, q, [ends[-1] * one - e, ends[-1] * one + e])
    return [*found, rest]


def _zone(cone: np.ndarray, p: np.ndarray, q: np.ndarray, others: list[np.ndarray]) -> Zone:
    rows, at = np.concatenate([cone, p, q, *others]), len(cone) + np.arange(len(p))
    empty = np.zeros((len(rows), len(rows)), bool)
    empty[at, len(p) + at] = empty[len(p) + at, at] = True
    return Zone(rows, len(cone), empty)


def halves(zone: Zone, x: np.ndarray, c: np.ndarray, mean: np.ndarray) -> list[Zone]:
    """The zone where uᵀxᵢ ≥ 0, and where ≤ 0: the i whose sign the relaxation is least sure of.

    `mean` is its E y. Where cᵢ ≤ 0 a sign that is not known makes no bound worse.
    """
    dim, n = x.shape[1], len(x)
    p = mean[1 + dim :]
    q = p - x @ mean[1 : 1 + dim]
    first = zone.num_cone + int(np.argmax(np.minimum(p, q) * c))
    found = []
    for at in (first + n, first):  # q = 0, p = 0
        empty = zone.empty.copy()
        empty[at, zone.num_cone :], empty[zone.num_cone :, at] = True, True
        found.append(zone._replace(empty=empty))
    return found


class ZoneBound(NamedTuple):
    """What the relaxation says of a zone.

    Attributes:
      upper: the least proved bound of cᵀp in it.
      steps: of the solver.
      mean: E y, as the solver ended with.
    """

    upper: float
    steps: int
    mean: np.ndarray


def zone_bound(zone: Zone, x: np.ndarray, c: np.ndarray, max_steps: int) -> ZoneBound:
    """A bound of cᵀp in the zone: ends where 1/4 is proved, or after `max_steps`.

    The alternating direction method of multipliers on max ⟨C, Y⟩ with Y ≽ 0, LYLᵀ in its cone,
    Y₁₁ = 1 and tr Y_uu = 1. Source: Boyd et al. (2011), sections 3 and 5.
    """
    rows, dim = zone.rows, x.shape[1]
    goal, ends = _programme(c, dim)
    values, vectors = np.linalg.eigh(rows.T @ rows)
    damping = 1 / (1 + np.outer(values, values))
    smooth = lambda a: vectors @ ((vectors.T @ a @ vectors) * damping) @ vectors.T
    smoothed = [smooth(end) for end in ends]
    inner = np.array([[np.sum(a * b) for b in smoothed] for a in ends])
    z, w = np.zeros_like(goal), np.zeros(zone.empty.shape)
    off_z, off_w, rho, best = z, w, 0.6 / len(c), np.inf
    for step in range(1, max_steps + 1):
        matrix = smooth(z - off_z + rows.T @ (w - off_w) @ rows + goal / rho)
        heights = np.linalg.solve(inner, [1 - np.sum(end * matrix) for end in ends])
        matrix += heights[0] * smoothed[0] + heights[1] * smoothed[1]
        products = rows @ matrix @ rows.T
        old_z, old_w = z, w
        ahead = _symmetric(RELAXED * matrix + (1 - RELAXED) * z + off_z)
        z = _semidefinite(ahead)
        off_z = ahead - z
        ahead = _symmetric(RELAXED * products + (1 - RELAXED) * w + off_w)
        w = _in_cone(zone, ahead)
        off_w = ahead - w
        if step % STRIDE == 0:
            best = min(best, _proved(zone, x, c, -rho * off_w, -rho * heights))
            if best <= MASS:
                break
        if step % STRIDE == 0 and step <= BALANCED:
            missed = _size(matrix - z, products - w) / _size(z, w)
            moved = _size(z - old_z, w - old_w) / _size(off_z, off_w)
            factor = np.clip(np.sqrt(missed / moved), 0.5, 2.0)
            rho, off_z, off_w = rho * factor, off_z / factor, off_w / factor
    return ZoneBound(best, step, matrix[0])


def _programme(c: np.ndarray, dim: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """(C with ⟨C, yyᵀ⟩ = cᵀp, [the matrices of Y₁₁ and of tr Y_uu])."""
    size = 1 + dim + len(c)
    goal = np.zeros((size, size))
    goal[0, 1 + dim :] = goal[1 + dim :, 0] = c / 2
    at = np.arange(size)
    return goal, [np.diag((at == 0) * 1.0), np.diag(((at > 0) & (at <= dim)) * 1.0)]


def _size(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.sum(a * a) + np.sum(b * b)))


def _symmetric(a: np.ndarray) -> np.ndarray:
    return (a + a.T) / 2


def _semidefinite(a: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(a)
    kept = values > 0
    return (vectors[:, kept] * values[kept]) @ vectors[:, kept].T


def _in_cone(zone: Zone, a: np.ndarray) -> np.ndarray:
    """The nearest products: ≥ 0, 0 where `empty`, and columns of the cone's rows in that cone."""
    k, found = zone.num_cone, a.copy()
    found[k:, k:] = np.maximum(a[k:, k:], 0.0)
    found[zone.empty] = 0.0
    found[:k, k:] = _second_order(a[:k, k:])
    found[k:, :k] = found[:k, k:].T
    return found


def _second_order(columns: np.ndarray) -> np.ndarray:
    """The projections of columns (t, v) onto t ≥ ‖v‖."""
    t, v = columns[0], columns[1:]
    length = np.linalg.norm(v, axis=0)
    half = np.maximum(t + length, 0.0) / 2
    first = np.where(length <= t, t, half)
    shrink = np.where(length <= t, 1.0, half / np.maximum(length, 1e-300))
    return np.concatenate([first[None], v * shrink])


def _proved(zone: Zone, x, c: np.ndarray, multipliers: np.ndarray, heights: np.ndarray) -> float:
    """A bound of cᵀp in the zone from any multipliers N of products and heights (a, b).

    With N made ≥ 0, or free where products are 0, and its columns in the cone, which is its own
    dual, M = aE₁₁ + bE_uu − C − LᵀNL has yᵀMy ≤ a + b − cᵀp. Its least eigenvalue −ε relative to
    diag(1, 1, w) gives cᵀp ≤ a + b + ε(2 + w‖X‖²).
    """
    k, eps, dim = zone.num_cone, np.finfo(float).eps, x.shape[1]
    free = np.where(zone.empty, multipliers, 0.0)
    n = _in_cone(zone, multipliers) + free
    n[:k, :k] = 0.0
    n[0, k:] = n[k:, 0] = np.maximum(n[0, k:], np.linalg.norm(n[1:k, k:], axis=0)) * (1 + 1e-14)
    goal, ends = _programme(c, dim)
    matrix = heights[0] * ends[0] + heights[1] * ends[1] - goal - zone.rows.T @ n @ zone.rows
    size = np.linalg.norm(zone.rows) ** 2 * np.linalg.norm(n) + np.linalg.norm(matrix)
    rounding, square = 8 * len(n) * eps * size, np.linalg.norm(x, 2) ** 2 * (1 + 1e-12)
    found = []
    for weight in (1.0, 0.1, 0.01):
        scale = np.ones(len(matrix))
        scale[1 + dim :] = weight**-0.5
        low = np.linalg.eigvalsh(scale[:, None] * matrix * scale)[0] - rounding / weight
        found.append(float(heights.sum() + max(-low, 0.0) * (2 + weight * square)))
    return min(found)
