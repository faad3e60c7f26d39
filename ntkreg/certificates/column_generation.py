"""Column generation: the best network over known units, and units that are worth more.

One loop serves the max margin and the minimum of an objective; a margin enters negated, as a value
to be minimised. Source: Bach (JMLR 2017), Section 4.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ntkreg._types import Params
from ntkreg.certificates import two_layer
from ntkreg.certificates.oracles import Maxima, Oracle, of_signs
from ntkreg.certificates.two_layer import Units
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.kernels.l1_machines import Unsolved, l1_svm, relu_dictionary

SHARPENINGS = 30  # rounds of linear programmes, at most
KEPT_ROUNDS = 3  # for which a unit that is not used is kept


class Bound(NamedTuple):
    """A bound of the value from below, the dual weights that prove it, and M of these."""

    value: float
    dual: np.ndarray
    largest: float


class Step(NamedTuple):
    """The best network over known units, in the space of x, and its dual weights.

    value is minimised (a margin is negated). Units are worth more than the known ones where their
    value under `weights` is above `worth`. `bound` takes (weights, M(weights)) to a `Bound`.
    """

    vectors: np.ndarray
    network: Params
    value: float
    weights: np.ndarray
    worth: float
    bound: Callable[[np.ndarray, float], Bound]


class Found(NamedTuple):
    """The best network and its value; the best dual weights, their bound, and M of them."""

    network: Params
    value: float
    dual: np.ndarray
    bound: float
    largest: float
    nodes: int


NOTHING = Found(None, np.inf, np.zeros(0), -np.inf, np.inf, 0)
# (step, units) -> (upper bound of M(weights), nodes, the units and those that are worth more)
Price = Callable[[Step, Any], tuple[float, int, Any]]


def generated(
    price: Price,
    units: Any,
    vectors: np.ndarray,
    solve: Callable[[Any, np.ndarray], Step],
    tolerance: float,
    max_rounds: int,
    found: Found,
) -> Found:
    """Column generation from these units; the best of `found` and all rounds, on either side.

    Units are `two_layer.Units` or alike, with `chosen` and a length; `solve` begins at `vectors`.
    """
    born = np.zeros(len(units))
    for number in range(max_rounds):
        step = solve(units, vectors)
        if step.value < found.value:
            found = found._replace(network=step.network, value=step.value)
        mass = np.linalg.norm(step.vectors, axis=1)
        kept = (mass > 1e-8 * mass.sum()) | (born > number - KEPT_ROUNDS)
        units, vectors, born = units.chosen(kept), step.vectors[kept], born[kept]
        largest, nodes, new = price(step, units)
        bound = step.bound(step.weights, largest)
        if bound.value > found.bound:
            found = found._replace(
                dual=bound.dual, bound=bound.value, largest=bound.largest, nodes=nodes
            )
        if found.value - found.bound <= tolerance * abs(found.value) or len(new) == len(units):
            break
        fresh = len(new) - len(units)
        vectors = np.concatenate([vectors, np.zeros((fresh, vectors.shape[1]))])
        units, born = new, np.concatenate([born, np.full(fresh, number + 1)])
    return found


def generated_units(
    maximize: Oracle,
    x: np.ndarray,
    units: Units,
    signs: Sequence[float],
    solve: Callable[[Units, np.ndarray], Step],
    tolerance: float,
    max_rounds: int,
    found: Found,
    start: np.ndarray | None = None,
) -> Found:
    """`generated` with units that an oracle finds, from their vectors `start`, by default 0."""
    if not len(units):  # no unit gains anything at first: begin with any
        units = two_layer.units_of(x, x[:1], np.asarray(signs[:1]))
    vectors = np.zeros((len(units), x.shape[1])) if start is None else start
    price = lambda step, units: _priced(maximize, x, step, tolerance, signs, units)
    return generated(price, units, vectors, solve, tolerance, max_rounds, found)


def _priced(maximize, x: np.ndarray, step: Step, tolerance: float, signs, units: Units):
    """(upper bound of M(weights), nodes, `units` and all that the oracle finds to be worth more).

    The oracle proves its bound only where it finds no new unit without a proof.
    """
    floor = step.worth * (1 + tolerance / 2)
    for limit in (floor, None):
        maxima = of_signs(maximize, step.weights, limit, signs)
        new = two_layer.joined(units, units_found(x, maxima.above(x, floor)))
        if len(new) > len(units) or np.isfinite(maxima.upper):
            break
    return maxima.upper, maxima.nodes, new


def units_found(x: np.ndarray, maxima: Maxima) -> Units:
    """The units of all directions that the oracle found."""
    return two_layer.units_of(x, *maxima.units())


def sharpened(maximize, x: np.ndarray, y: np.ndarray, found: Found, tolerance: float) -> Found:
    """A max margin, found negated, bettered by linear programmes over single neurons.

    The neurons are the network's own and those that the oracle finds for the programme's dual.
    The interior-point method runs out of digits where large neurons cancel to a small margin; the
    simplex method does not, and its networks have the fewest neurons.
    """
    first = found.network[0][:, found.network[0].any(axis=0)]
    directions, weights = (first / np.linalg.norm(first, axis=0)).T, found.dual
    for _ in range(SHARPENINGS):
        if found.value >= 0 or not len(directions):
            break
        try:
            machine = l1_svm(relu_dictionary(directions, x), y)
        except (Unsolved, NotSeparable):  # the network itself separates: the solver fell short
            break
        network = two_layer.balanced(directions.T, machine.weights)
        value = -two_layer.normalized_margin(network, x, y)
        if value <= found.value * (1 - 1e-12):
            found = found._replace(network=network, value=value)
        if found.value - found.bound <= tolerance * abs(found.value):
            break
        weights = machine.alpha
        maxima = of_signs(maximize, weights * y)
        if (bound := -maxima.upper / 2) > found.bound:
            found = found._replace(
                dual=weights, bound=bound, largest=maxima.upper, nodes=maxima.nodes
            )
        directions = np.concatenate([directions, maxima.units()[0]])
    return found
