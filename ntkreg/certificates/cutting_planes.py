"""Dual weights against all neurons: cutting planes, each round by an interior-point method.

In units in which nothing is long or short (`refinement`) every problem of certificates is

    max Σ ψᵢ(aᵢ)  with  |Σ aᵢtᵢ relu(uᵀxᵢ)| ≤ 1 for all ‖u‖ ≤ 1,  ψ concave,

and its multipliers are the masses of the neurons of the best network. Constraints are known for
some neurons u; the arrangement's faces have those that the weights violate (`enumeration`). The
same code runs in float64 and, where digits cancel, in balls.

Without a list of faces the cuts come from an oracle, and the weights from the level method
(`smallest_maximum`): a linear programme over the cuts has many solutions, and jumps between
corners; it steps instead to the point nearest to the best weights so far at which all cuts lie
below a level between the known bounds.

Sources: Kelley (J. SIAM 1960) for cutting planes; Mehrotra (SIAM J. Optim. 1992) for the steps;
Lemaréchal, Nemirovskii, Nesterov (Mathematical Programming 1995) for the level method.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import scipy

from ntkreg.certificates.balls import balls, is_balls, middle, product, rounded, solve
from ntkreg.certificates.convex import conic_solution
from ntkreg.certificates.enumeration import Faces, exact_units, float_units, peaks
from ntkreg.certificates.oracles import Oracle, of_signs

NEWTON_STEPS = 100
CIRCLES = 10  # steps without a gain after which steps stay near the centre
TO_BOUNDARY = 0.995  # of the way that a step may go
REACH = 1e14  # of Σ|a|: beyond it a margin may be zero
PEAKS = 40  # taken of one sign in a round
IDLE = 50  # steps without a gain after which the method has met its limits in float64
STALLS = 3  # rounds without a gain after which float64 has no more to give
UNUSED = 1e-9  # share of what a cut does below which it is dropped
NEARLY_TIGHT = 0.99  # values from which a cut is kept that has no multiplier


class Concave(NamedTuple):
    """Σ ψᵢ(aᵢ): functions of arrays (n,), float64 or balls.

    Attributes:
      target: tᵢ, the sign that aᵢ ≥ 0 stands for; None where a has any sign.
      slope, curvature: ψ′ and −ψ″.
      top: aᵢ < top.
    """

    target: np.ndarray | None
    slope: Callable[[np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray], np.ndarray]
    top: np.ndarray


def is_linear(concave: Concave, a: np.ndarray) -> bool:
    """Whether there is no curvature, as at a, anywhere."""
    return not (concave.curvature(a) != 0).any()


class Cuts(NamedTuple):
    """Neurons u, signs of their output weights, and in which of the known faces they lie."""

    units: np.ndarray
    sign: np.ndarray
    faces: np.ndarray

    def features(self, known: Faces) -> np.ndarray:
        """sign·relu(uᵀxᵢ), shape (cuts, n), exactly zero where the face says so."""
        active = np.maximum(known.signs[self.faces], 0) * self.sign[:, None]
        x = balls(known.x) if is_balls(self.units) else known.x
        return active * product(self.units, x.T)

    def chosen(self, kept: np.ndarray) -> "Cuts":
        """Those at some places."""
        return Cuts(*(part[kept] for part in self))


class Round(NamedTuple):
    """Weights c = a·t and cuts with their multipliers, and by how much c violates all neurons.

    Attributes:
      c: the weights, which satisfy the known cuts.
      cuts, masses: the cuts that bind, and their multipliers.
      violation: M(c) − 1, an upper bound.
      accuracy: to which the known cuts were solved.
    """

    c: np.ndarray
    cuts: Cuts
    masses: np.ndarray
    violation: float
    accuracy: float


def all_rays(known: Faces, signs: Sequence[int], exact: bool) -> Cuts:
    """The neurons along the rays, where most hyperplanes meet: h is zero throughout if it is there.

    So with them for cuts the weights are bounded, unless some have h = 0 throughout. In float64
    those are left out whose rays it cannot find.
    """
    faces = np.flatnonzero(known.codimension[known.flat] == known.normals.shape[1])
    if exact:
        units = exact_units(known, product(known.signs[faces], balls(known.x)), faces)
    else:
        units = float_units(known, known.signs[faces] @ known.x, faces)
        found = np.isfinite(units).all(axis=1)
        units, faces = units[found], faces[found]
    many = len(signs)
    return Cuts(
        np.tile(units, (many, 1)), np.repeat(np.asarray(signs), len(units)), np.tile(faces, many)
    )


def interior(features: np.ndarray) -> np.ndarray:
    """Equal weights well inside all cuts, in balls."""
    equal = balls(np.full(features.shape[1], 1e-3))
    return equal * (0.5 / max(0.5, float(max(features.dot(equal)))))


def _in_balls(known: Faces, cuts: Cuts) -> Cuts:
    """Cuts found in float64, projected to their faces, without those that rounding put outside."""
    units = exact_units(known, cuts.units, cuts.faces)
    inner = known.signs[cuts.faces] * product(units, balls(known.x).T)
    return cuts._replace(units=units).chosen(np.flatnonzero(~(inner < 0).any(axis=1)))


def rounds(
    known: Faces, concave: Concave, signs: Sequence[int], start: Round | None, tolerance: float
) -> Iterator[Round]:
    """Rounds from `start` or from all rays; in float64, or in balls where `concave` is in balls.

    In float64 it ends where rounding gains no more (at once where it cannot find any ray); in balls
    the caller ends it.
    """
    exact, target = is_balls(concave.top), concave.target
    convert = balls if exact else rounded
    centre = np.minimum(convert(np.full(len(known.x), 1e-3)), concave.top / 2)
    given = None if start is None else _in_balls(known, start.cuts) if exact else start.cuts
    cuts = given if given and len(given.sign) else all_rays(known, signs, exact)
    accuracy = 1e-2 if start is None else max(1e-20, min(1e-2, start.accuracy))
    smallest, stalled = np.inf, 0
    while len(cuts.sign) and stalled < (4 * STALLS if exact else STALLS):
        features = cuts.features(known) * (1 if target is None else target)
        # Not from the weights before: near the boundary the method makes small steps.
        tightest = max(0.5, float(max(features.dot(centre))))
        found = None
        if not exact and is_linear(concave, centre):
            found = _simplex(features, concave.slope(centre))
        if found is None:
            found = solved(concave, features, centre * (0.5 / tightest), accuracy)
        a, masses, reached = found
        c = a if target is None else a * target
        above = [(sign, peaks(known, sign * c, 1.0)) for sign in signs]
        violation = max(peak.upper for _, peak in above) - 1
        excess = max(float(value) for _, peak in above for value in (1.0, *peak.values[:1])) - 1
        tight = rounded(features.dot(a)) > NEARLY_TIGHT
        used = ~(_shares(concave, features, a, masses) < UNUSED)  # NaN where all masses are 0
        kept = np.flatnonzero(tight | used | (stalled > 0))  # what comes back was dropped too early
        cuts = cuts.chosen(kept)
        yield Round(c, cuts, masses[kept], violation, reached)
        worst = max(excess, reached)
        if not exact and (worst <= tolerance or not np.isfinite(worst)):
            return
        if exact and excess <= 0 and reached > accuracy:  # nothing would be different the next time
            return
        smallest, stalled = (worst, 0) if worst < 0.9 * smallest else (smallest, stalled + 1)
        new = [
            Cuts(peak.units[:PEAKS], np.full(len(peak.units[:PEAKS]), sign),
                 peak.faces[:PEAKS])
            for sign, peak in above if len(peak.units)
        ]  # fmt: skip
        cuts = Cuts(*(np.concatenate(parts) for parts in zip(cuts, *new, strict=True)))
        following = 0.1 * min(accuracy, excess) if excess > 0 else 0.01 * accuracy
        accuracy = max(following, 1e-40 if exact else 1e-12)


def _shares(concave: Concave, features, a, masses) -> np.ndarray:
    """What would be missed without each cut: of some sample's slope, or of the objective.

    A share of the masses would not show it: where they cancel, little of them counts.
    """
    effects = masses[:, None] * features
    if is_linear(concave, a):
        return rounded(abs(effects) / concave.slope(a)).max(axis=1)
    bend = concave.curvature(a)
    scale = abs(concave.slope(a) * a).sum() + (bend * a * a).sum()
    missed = product(effects**2, 1 / (bend * scale))
    return np.maximum(rounded(masses / masses.sum()), rounded(missed))


def _simplex(features: np.ndarray, slope: np.ndarray):
    """`solved` in float64 where the objective is linear; None where HiGHS finds nothing.

    Its corners have all the digits of float64 where the interior-point method's equations do not.
    """
    found = scipy.optimize.linprog(
        -slope,
        A_ub=features,
        b_ub=np.ones(len(features)),
        method="highs-ds",
        options=dict.fromkeys(
            ("primal_feasibility_tolerance", "dual_feasibility_tolerance"), 1e-10
        ),
    )
    if found.x is None:
        return None
    a, masses = np.maximum(found.x, 0.0), np.maximum(-found.ineqlin.marginals, 0.0)
    missed = 1 - min(features.T @ masses / slope)
    return a, masses, max(1e-10, float(missed), float(abs(1 - slope @ a / masses.sum())))


def solved(concave: Concave, features, a, accuracy: float, reach: float = REACH):
    """(a, masses, their relative error) of the known cuts: the interior-point method's best."""
    exact, n, linear = is_balls(a), len(a), is_linear(concave, a)
    signed = concave.target is not None
    convert = balls if exact else rounded
    g = features
    if linear:  # and may be unbounded
        bounds = np.array([[1.0], [-1.0]])[: 1 if signed else 2] / reach
        g = np.concatenate([g, convert(np.tile(bounds, n))])
    count = len(g) + (n if signed else 0)
    slack = 1 - g.dot(a)
    mu = abs((concave.slope(a) * a).sum()) / count
    m, z = mu / slack, (mu / a if signed else 0 * a)
    best, idle = (np.inf, a, m), 0
    for _ in range(4 * NEWTON_STEPS if exact else NEWTON_STEPS):
        slope, bend = concave.slope(a), concave.curvature(a)
        rest = product(g.T, m) - slope - z
        mu = (m.dot(slack) + z.dot(a)) / count
        scale = abs(slope * a).sum() + (bend * a * a).sum()
        # By as much as neurons of masses m miss the slopes, the objective misses its optimum: in
        # the first order, and in the second, which is what counts where a is next to nothing.
        missed = [abs(rest * a).sum()] + ([] if linear else [(rest * rest / bend).sum()])
        off = max(float(part / scale) for part in (mu * count, *missed))
        if not np.isfinite(off):
            break
        idle = 0 if off < best[0] else idle + 1
        if off < best[0]:
            best = (off, a, m)
        if off <= accuracy or (not exact and idle >= IDLE):
            break
        weights = m / slack
        matrix = product(g.T, weights[:, None] * g)
        matrix[np.diag_indices(n)] += bend + (z / a if signed else 0)
        if linear and not signed:  # equal samples leave their difference free
            matrix[np.diag_indices(n)] += 1e-40 * max(np.diag(matrix))
        matrix = middle(matrix)

        def moved(to_slack, to_a, right, matrix=matrix, weights=weights, a=a, z=z):
            step = solve(matrix, middle(right))
            ds = -g.dot(step)
            return step, ds, to_slack - weights * ds, (to_a - z / a * step if signed else 0 * a)

        step, ds, dm, dz = moved(-m, -z, slope)
        size = _reach(concave, signed, a, step, slack, ds, m, dm, z, dz)
        ahead = (m + size * dm).dot(slack + size * ds) + (z + size * dz).dot(a + size * step)
        centre = (ahead / (mu * count)) ** 3 * mu
        bent = 1.0
        if idle >= CIRCLES:  # as where the second order of steps that are cut short misleads
            centre, bent = 0.3 * mu, 0.0
        to_slack = (centre - m * slack - bent * ds * dm) / slack
        to_a = (centre - a * z - bent * step * dz) / a if signed else 0 * a
        step, ds, dm, dz = moved(to_slack, to_a, to_a - rest - product(g.T, to_slack))
        if not np.isfinite(rounded(step)).all():
            break
        size = _reach(concave, signed, a, step, slack, ds, m, dm, z, dz)
        size = size if size == 1.0 else TO_BOUNDARY * size
        a, m, z = middle(a + size * step), middle(m + size * dm), middle(z + size * dz)
        slack = middle(1 - g.dot(a)) if exact else slack + size * ds
    return best[1], best[2][: len(features)], best[0]


def _reach(concave, signed: bool, a, step, slack, ds, m, dm, z, dz) -> float:
    """How far, at most 1, everything that must stay positive does."""
    pairs = [(slack, ds), (m, dm), (concave.top - a, -step)]
    pairs += [(a, step), (z, dz)] if signed else []
    return min(_length(value, step) for value, step in pairs)


def _length(value: np.ndarray, step: np.ndarray) -> float:
    """The largest t ≤ 1 with value + t·step ≥ 0, a little less where it is below 1."""
    most = float(np.fmax.reduce(rounded(-step / value), initial=0.0))  # passes over 0/0
    return 1.0 if most < 1.0 else (1 - 1e-12) / most  # 1.0 may be a little more, rounded


LEVEL = 0.3  # of the way from the lower to the upper bound


class Weights(NamedTuple):
    """Weights α on the simplex, M(αy) by the oracle, and what its answer took."""

    alpha: np.ndarray
    largest: float
    nodes: int


def smallest_maximum(
    maximize: Oracle,
    x: np.ndarray,
    y: np.ndarray,
    alpha: np.ndarray,
    smallest: float,
    tolerance: float,
    max_rounds: int,
) -> Weights:
    """The best weights of some rounds from `alpha`, until M(αy) is within tolerance of its least.

    `smallest` is a lower bound of M, twice the margin of any network.
    """
    cuts = np.zeros((0, len(y)))
    best = Weights(alpha, np.inf, 0)
    for _ in range(max_rounds + 1):
        maxima = of_signs(maximize, alpha * y)
        if maxima.upper < best.largest:
            best = Weights(alpha, maxima.upper, maxima.nodes)
        answers = zip(maxima.found, maxima.signs, strict=True)
        cuts = np.concatenate(
            [cuts, *(sign * y * np.maximum(m.directions @ x.T, 0) for m, sign in answers)]
        )
        nearest = None
        while nearest is None and best.largest > max(smallest, 0.0) * (1 + tolerance):
            level = smallest + LEVEL * (best.largest - smallest)
            nearest = _nearest(best.alpha, cuts, level)
            if nearest is None:
                if level >= best.largest * (1 - tolerance):
                    return best
                smallest = level  # the cuts themselves forbid less
        if nearest is None:
            break
        alpha = nearest
    return best


def _nearest(centre: np.ndarray, cuts: np.ndarray, level: float) -> np.ndarray | None:
    """The weights nearest to `centre` at which all cuts are at most `level`; None where none are.

    Solved for nα and cuts over the level, so that all numbers are near 1.
    """
    n = len(centre)
    matrix = np.concatenate([np.ones((1, n)), -np.eye(n), cuts / max(level, 1e-300)])
    right = n * np.concatenate([[1.0], np.zeros(n), np.ones(len(cuts))])
    cones = [("zero", 1), ("nonnegative", n + len(cuts))]
    solution = conic_solution(
        scipy.sparse.eye(n), -n * centre, scipy.sparse.csc_matrix(matrix), right, cones, 1e-8
    )
    if "Solved" not in str(solution.status):
        return None
    alpha = np.maximum(np.asarray(solution.x), 0.0)
    return alpha / alpha.sum()
