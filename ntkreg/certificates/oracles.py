"""Oracles: the maximum over the unit ball of h(u) = Σ cᵢ relu(uᵀxᵢ), which every dual bound needs.

One interface, three ways: `enumerate` lists all activation patterns (to rank 4, and of few samples
beyond it), `branch_and_bound` certifies an interval and can be stopped anywhere, `multistart` is a
local search that proves nothing.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from ntkreg.certificates import enumeration
from ntkreg.certificates.enumeration import Faces, can_list, row_exponents

Kind = Literal["exact", "certified", "heuristic"]
KINDS: dict[str, Kind] = {
    "enumerate": "exact",
    "branch_and_bound": "certified",
    "multistart": "heuristic",
}
SIGNS = (1.0, -1.0)  # of output weights
# Margin of the rows at unit length up to which they count as not separable: what rounding of
# float64 inputs may feign, with some digits to spare.
SEPARABLE = 1e-12
MAX_DIRECTIONS = 30  # that one call returns
CCP_ROUNDS, CCP_SWEEPS = 100, 300
STARTS_AT_ONCE = 100  # after which is looked whether enough have passed the floor


class Maximum(NamedTuple):
    """What an oracle knows of max over ‖u‖ ≤ 1 of h(u), which is at least h(0) = 0.

    Attributes:
      lower: the largest value found, at the first of `directions`.
      upper: a bound from above, its rounding allowance in it; infinity where the call ended at
        `floor`; of `multistart` merely `lower`.
      directions: unit vectors of shape (k, d) with large values, best first.
      nodes: how many nodes branch and bound took; the number of patterns or starts of the others.
    """

    lower: float
    upper: float
    directions: np.ndarray
    nodes: int

    def above(self, x: np.ndarray, c: np.ndarray, floor: float) -> np.ndarray:
        """The directions with values above the floor."""
        return self.directions[np.maximum(self.directions @ x.T, 0.0) @ c > floor]


# (c, floor) -> Maximum. With a floor only directions above it are of interest, and as soon as one
# is found an oracle may return; without one it proves a bound.
Oracle = Callable[[np.ndarray, float | None], Maximum]


class Maxima(NamedTuple):
    """What an oracle knows of max over ‖u‖ ≤ 1 of sign·h(u), for each sign of output weight.

    Attributes:
      weights: c of h(u) = Σ cᵢ relu(uᵀxᵢ), shape (n,).
      signs: which were searched; both make it M(c) = max |h|.
      found: the answer to each of them.
    """

    weights: np.ndarray
    signs: Sequence[float]
    found: list[Maximum]

    @property
    def upper(self) -> float:
        """A bound from above of sign·h for all the signs."""
        return max(maximum.upper for maximum in self.found)

    @property
    def lower(self) -> float:
        """The largest value found."""
        return max(maximum.lower for maximum in self.found)

    @property
    def nodes(self) -> int:
        """Of the sign that took more."""
        return max(maximum.nodes for maximum in self.found)

    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """(directions of shape (k, d), their signs of shape (k,)), the first sign's first."""
        counts = [len(maximum.directions) for maximum in self.found]
        directions = np.concatenate([maximum.directions for maximum in self.found])
        return directions, np.repeat(self.signs, counts)

    def above(self, x: np.ndarray, floor: float) -> "Maxima":
        """With those directions only whose values are above the floor."""
        kept = [
            maximum._replace(directions=maximum.above(x, sign * self.weights, floor))
            for maximum, sign in zip(self.found, self.signs, strict=True)
        ]
        return self._replace(found=kept)


def of_signs(
    maximize: Oracle,
    weights: np.ndarray,
    floor: float | None = None,
    signs: Sequence[float] = SIGNS,
) -> Maxima:
    """What the oracle answers to sign·c of each sign, for weights c of shape (n,).

    M(c) = max over ‖u‖ ≤ 1 of |Σ cᵢ relu(uᵀxᵢ)| lies between `lower` and `upper` of both signs'.
    `floor` is the oracle's.
    """
    return Maxima(weights, signs, [maximize(sign * weights, floor) for sign in signs])


def make_oracle(
    name: str,
    x: np.ndarray,
    *,
    tolerance: float = 1e-7,
    max_nodes: int = 1_000_000,
    num_starts: int = 300,
    seed: int = 0,
    known: np.ndarray | None = None,
) -> Oracle:
    """The oracle of that name for samples x of shape (n, d), float64.

    Args:
      tolerance: relative gap at which branch_and_bound ends.
      max_nodes: after which branch_and_bound ends with the bound that it then has.
      num_starts: of the local search; up to half of them are directions ±xᵢ, the rest random.
      seed: of these starts.
      known: unit vectors of shape (k, d) that the local search starts from too, and keeps as they
        are: it finds no less than the value at each of them.

    Raises:
      ValueError: for an unknown name, or `enumerate` with too many faces (`enumeration.can_list`).
    """
    if name not in KINDS:
        raise ValueError(f"oracle must be one of {', '.join(KINDS)}, got {name!r}")
    if name == "enumerate":
        exponents = row_exponents(x)
        return functools.partial(
            _enumerated, enumeration.arranged(np.ldexp(x, -exponents[:, None])), exponents
        )
    rng = np.random.default_rng(seed)
    samples = rng.permutation(np.concatenate([x, -x]))[: num_starts // 2]
    starts = np.concatenate([samples, rng.normal(size=(num_starts - len(samples), x.shape[1]))])
    starts = starts / np.maximum(np.linalg.norm(starts, axis=1, keepdims=True), 1e-300)
    starts = rng.permutation(starts)
    search = functools.partial(_multistarted, x, starts, starts[:0] if known is None else known)
    if name == "multistart":
        return search
    return functools.partial(_branched, x, search, tolerance, max_nodes)


def check_options(*, max_nodes: int = 1, num_starts: int = 1, seed: int = 0) -> None:
    """Takes the options of `make_oracle`: TypeError for any other."""


def oracle_name(name: str, x: np.ndarray) -> str:
    """What "auto" stands for on samples x in their row space: enumerate where faces are few."""
    if name != "auto":
        return name
    return "enumerate" if can_list(*x.shape) else "branch_and_bound"


def least_separable(name: str, x: np.ndarray) -> float:
    """The margin of the rows at unit length up to which samples count as not separable.

    That is 1e-12 where all faces are looked at, and what branch and bound may miss elsewhere.
    """
    if name == "enumerate":
        return SEPARABLE
    from ntkreg.certificates import branch_and_bound  # loads numba

    unit_rows = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-300)
    allowed = branch_and_bound.rounding_allowance(unit_rows, np.ones(len(x))) / len(x)
    return max(1e-10, allowed)


def _enumerated(known: Faces, exponents: np.ndarray, c: np.ndarray, floor: float | None) -> Maximum:
    found = enumeration.peaks(known, np.ldexp(c, exponents), floor or 0.0)
    lower = float(found.values[0]) if len(found.values) else 0.0
    cells = int((known.codimension[known.flat] == 0).sum())
    _, first = np.unique(found.units @ known.x.T > 0, axis=0, return_index=True)
    return Maximum(lower, found.upper, found.units[np.sort(first)[:MAX_DIRECTIONS]], cells)


def _multistarted(
    x: np.ndarray, starts: np.ndarray, known: np.ndarray, c: np.ndarray, floor: float | None
) -> Maximum:
    from ntkreg.certificates import sphere_search  # loads numba

    ends, limit, above = known, np.inf if floor is None else floor, 0
    starts = np.concatenate([starts, known])
    for begun in range(0, len(starts), STARTS_AT_ONCE):
        some = starts[begun : begun + STARTS_AT_ONCE]
        reached, values = sphere_search.ascend_all(x, c, some, CCP_ROUNDS, CCP_SWEEPS)
        ends = np.concatenate([ends, reached])
        above += int((values > limit).sum())
        if above >= MAX_DIRECTIONS:
            break
    found = _sorted(x, c, ends[ends.any(axis=1)], np.inf, len(ends))
    return found._replace(upper=found.lower)


def _branched(
    x: np.ndarray,
    search: Oracle,
    tolerance: float,
    max_nodes: int,
    c: np.ndarray,
    floor: float | None,
) -> Maximum:
    from ntkreg.certificates import branch_and_bound  # loads numba

    local = search(c, floor)
    if floor is not None and local.lower > floor:
        return local._replace(upper=np.inf, nodes=0)
    used = x.any(axis=1) & (c != 0)  # the others do nothing
    start = local.directions[0] if len(local.directions) else np.zeros(x.shape[1])
    upper, best, nodes = branch_and_bound.branch_and_bound(
        np.ascontiguousarray(x[used]), c[used], start, tolerance, max_nodes
    )
    upper += branch_and_bound.rounding_allowance(x, c)
    directions = np.concatenate([best[None], local.directions])
    return _sorted(x, c, directions[directions.any(axis=1)], float(upper), nodes)


def _sorted(x: np.ndarray, c: np.ndarray, units: np.ndarray, upper: float, nodes: int) -> Maximum:
    """The best directions, one for each activation pattern."""
    values = np.maximum(units @ x.T, 0.0) @ c
    order = np.argsort(-values)
    _, first = np.unique(units[order] @ x.T > 0, axis=0, return_index=True)
    chosen = order[np.sort(first)][:MAX_DIRECTIONS]
    lower = float(values[chosen[0]]) if len(chosen) else 0.0
    return Maximum(max(lower, 0.0), max(upper, 0.0), units[chosen], nodes)
