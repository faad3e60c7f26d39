"""Certificates: the true max margin and the true global minimum of two-layer ReLU networks.

A network proves one side and weights on the samples prove the other, by weak duality; both bounds
are computed anew in float64 from what is returned. Networks may have any width: n neurons are
enough. With V the variation norm of a network (`two_layer`; ‖Θ‖² = 2V where it is balanced) and
M(c) = max over ‖u‖ ≤ 1 of |Σ cᵢ relu(uᵀxᵢ)|:

- margin: γ* = ½ max{min yᵢf(xᵢ) : V ≤ 1} ≤ ½ M(αy) for all weights α ≥ 0 with Σα = 1;
- minimum: F* = min{mean ℓᵢ(f(xᵢ)) + 2λV} ≥ mean −ℓᵢ*(−bᵢ) for all b with M(b/n) ≤ 2λ.

Both are found by column generation: the best network over known units (`cone_programs`) and its
dual weights; then units that an oracle finds to be worth more under these than any known one; until
the bounds meet. The interior-point method's weights lie amid the optimal ones, not at a corner,
which keeps them from jumping where there are many.

Sources: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4 (γ* is half the ℓ1-SVM's margin); Bach (JMLR
2017) for the variation norm and column generation; Pilanci and Ergen (ICML 2020) for the programme.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.special

from ntkreg import cone_programs, oracles, sphere_search, two_layer
from ntkreg._types import Params
from ntkreg.arrangements import MAX_RANK, row_space
from ntkreg.data import Dataset, check_dataset
from ntkreg.l1_machines import l1_svm, relu_dictionary
from ntkreg.two_layer import Units

SIGNS = (1.0, -1.0)
LEAST_LAM = 1e-9  # below it the loss at the minimum drowns in the rounding of its slopes
NOT_SEPARABLE = 1e-10  # of the largest ‖x‖: a margin that is proved to be smaller is zero
SHARPENINGS = 30  # rounds of linear programmes, at most
KEPT_ROUNDS = 3  # for which a unit that is not used is kept


class Certificate(NamedTuple):
    """A two-sided bound, recomputed in float64 from `primal` and `dual`.

    Attributes:
      lower, upper: the bounds. For a margin `primal` gives `lower`, for a minimum `upper`.
      gap: (upper − lower)/|upper|.
      kind: "exact" where all activation patterns were looked at and the gap closed, "certified"
        where both sides are proved, "heuristic" where the dual one rests on a local search.
      primal: the network's parameters (W₁ of shape (d, m), W₂ of shape (m, 1)), as those of
        `fully_connected(2, m)`.
      dual: weights of the samples: α of the margin; b of the minimum, scaled to be feasible.
      nodes: how many nodes, patterns or starts the oracle took for the dual bound.
    """

    lower: float
    upper: float
    gap: float
    kind: Literal["exact", "certified", "heuristic"]
    primal: Params
    dual: np.ndarray
    nodes: int = 0


def max_margin(
    data: Dataset,
    *,
    params: Params | None = None,
    oracle: str = "auto",
    tolerance: float = 1e-7,
    max_rounds: int = 100,
    **options,
) -> Certificate:
    """The max normalized margin of two-layer ReLU networks of any width, and a network that has it.

    Args:
      data: x of shape (n, d), y of −1 and +1.
      params: of a trained two-layer network, whose units are then known from the start.
      oracle: a name of `oracles.KINDS`; "auto" is enumerate to rank 4, else branch_and_bound.
      tolerance: relative gap at which it ends.
      max_rounds: of column generation; with fewer than it needs the gap is wider.
      **options: of `oracles.make_oracle`.

    Raises:
      ValueError: for bad data or params, an empty class, data that no network separates, an
        unknown oracle, or `enumerate` with a rank above 4.
    """
    x, y, basis = _checked(data, "sign")
    ask, name = _oracle(oracle, x, tolerance, options)
    first = [ask(sign * y / len(y), 0.0) for sign in SIGNS]
    least = _least_margin(x, name)
    scale = 1.0 / max(*(maximum.lower for maximum in first), least)

    def solve(units: Units, vectors: np.ndarray) -> _Step:
        nonlocal scale
        vectors, alpha = cone_programs.widest_margin(x, y, units, scale)
        network = two_layer.network_of(x, units, vectors)
        margin = two_layer.normalized_margin(network, x, y)
        scale = 1.0 / max(2 * margin, 1e-3 / scale)
        return _Step(vectors, network, -margin, alpha * y, 2 * margin, bound)

    def bound(weights: np.ndarray, largest: float) -> tuple[float, np.ndarray]:
        if largest / 2 <= least:
            raise ValueError(
                "data must be separable by a two-layer ReLU network without biases: weights on the "
                f"samples prove that no normalized margin is above {largest / 2:.1e}"
            )
        return -largest / 2, weights * y

    units = _units(x, first, SIGNS)
    if params is not None:
        units = two_layer.joined(_units_of_network(params, x, basis), units)
    found = _generated(ask, x, units, SIGNS, solve, tolerance, max_rounds)
    found = _sharpened(ask, x, y, found, tolerance)
    return _certificate(-found.value, -found.bound, found, name, basis, tolerance)


def global_minimum(
    data: Dataset,
    lam: float,
    *,
    loss: str = "logistic",
    output_sign: int | None = None,
    params: Params | None = None,
    oracle: str = "auto",
    tolerance: float = 1e-7,
    max_rounds: int = 100,
    **options,
) -> Certificate:
    """The minimum of F_λ = mean loss + λ‖Θ‖² over two-layer ReLU networks of any width.

    Args:
      data: x of shape (n, d); y of −1 and +1, or real for the squared loss.
      lam: λ from 1e-9 on.
      loss: "logistic" or "squared" ((f − y)², no factor ½).
      output_sign: +1 or −1 for the minimum over networks whose output weights all have that sign,
        in which a noiseless flow that starts there is trapped; None for all networks.
      params, oracle, tolerance, max_rounds, **options: as in `max_margin`.

    Raises:
      ValueError: for bad data or params, an empty class, λ out of range, an unknown loss, sign or
        oracle, or `enumerate` with a rank above 4.
    """
    if not LEAST_LAM <= lam < np.inf:
        raise ValueError(f"lam must be finite and at least {LEAST_LAM}, got {lam}")
    if output_sign not in (None, 1, -1):
        raise ValueError(f"output_sign must be None, 1 or -1, got {output_sign}")
    if loss not in DUALS:
        raise ValueError(f"loss must be one of {', '.join(DUALS)}, got {loss!r}")
    x, y, basis = _checked(data, "sign" if loss == "logistic" else "real")
    ask, name = _oracle(oracle, x, tolerance, options)
    signs = SIGNS if output_sign is None else (float(output_sign),)
    value, slope, curvature, scaled, dual_value = DUALS[loss]
    per_sample = tuple(lambda f, function=g: function(f, y) for g in (value, slope, curvature))

    def solve(units: Units, vectors: np.ndarray) -> _Step:
        vectors, weights = cone_programs.least_objective(x, units, per_sample, 2 * lam, vectors)
        network = two_layer.network_of(x, units, vectors)
        penalty = lam * two_layer.squared_norm(network)
        objective = float(np.mean(value(two_layer.outputs(network, x), y))) + penalty
        return _Step(vectors, network, objective, weights / len(y), 2 * lam, bound)

    def bound(weights: np.ndarray, largest: float) -> tuple[float, np.ndarray]:
        dual = scaled(len(y) * weights, y, 2 * lam / largest if largest > 0 else np.inf)
        return float(np.mean(dual_value(dual, y))), dual

    first = [ask(sign * -slope(np.zeros(len(y)), y) / len(y), 0.0) for sign in signs]
    units = _units(x, first, signs)
    if params is not None:
        trained = _units_of_network(params, x, basis)
        units = two_layer.joined(trained.chosen(np.isin(trained.sign, signs)), units)
    found = _generated(ask, x, units, signs, solve, tolerance, max_rounds)
    return _certificate(found.bound, found.value, found, name, basis, tolerance)


def polish(params: Params, data: Dataset) -> Params:
    """The network of the widest normalized margin among those with the units of `params`.

    At most n neurons; where the solver finds none better, the network that came in. Its margin is
    never lower.

    Raises:
      ValueError: for bad data or params, or an empty class.
    """
    x, y, basis = _checked(data, "sign")
    first, last = two_layer.weights(params, basis.shape[0])
    units = _units_of_network(params, x, basis)
    if not len(units):
        return first, last
    full = np.asarray(data.x, np.float64)
    margin = two_layer.normalized_margin((first, last), full, y)
    scale = 1.0 / (2 * margin) if margin > 0 else 1.0
    vectors, _ = cone_programs.widest_margin(x, y, units, scale)
    inside, outer = two_layer.network_of(x, units, vectors)
    found = (basis @ inside, outer)
    return found if two_layer.normalized_margin(found, full, y) > margin else (first, last)


def dual_bound(
    data: Dataset,
    params: Params,
    *,
    alpha: np.ndarray | None = None,
    oracle: str = "auto",
    tolerance: float = 1e-6,
    max_rounds: int = 0,
    **options,
) -> Certificate:
    """The bounds that a trained network and weights on the samples put on the max margin.

    Without `alpha` the weights are the network's own, αᵢ ∝ σ(−qᵢ) at its margins qᵢ: those of the
    logistic loss to which it was trained. They are then improved by `max_rounds` rounds of column
    generation; the network is returned as it came in (`polish` betters it).

    Args:
      alpha: weights of the samples ≥ 0, of any sum.
      others: as in `max_margin`.

    Raises:
      ValueError: as `max_margin`; for alpha of another shape, negative, or zero throughout.
    """
    x, y, basis = _checked(data, "sign")
    first, last = two_layer.weights(params, basis.shape[0])
    ask, name = _oracle(oracle, x, tolerance, options)
    inside = (basis.T @ first, last)
    if alpha is None:
        margins = y * two_layer.outputs(inside, x)
        alpha = scipy.special.softmax(-np.logaddexp(0.0, margins))
    alpha = np.asarray(alpha, np.float64)
    if alpha.shape != y.shape or not (alpha >= 0).all() or not 0 < alpha.sum() < np.inf:
        raise ValueError(f"alpha must be {len(y)} weights ≥ 0 with a positive sum, got {alpha}")
    alpha = alpha / alpha.sum()
    maxima = [ask(sign * alpha * y, None) for sign in SIGNS]
    found = _Found(
        (first, last), -two_layer.normalized_margin((first, last), np.asarray(data.x), y), alpha,
        -max(maximum.upper for maximum in maxima) / 2, sum(maximum.nodes for maximum in maxima),
    )  # fmt: skip
    if max_rounds:
        better = max_margin(
            data, params=params, oracle=name, tolerance=tolerance, max_rounds=max_rounds, **options
        )
        if better.upper < -found.bound:
            found = found._replace(dual=better.dual, bound=-better.upper, nodes=better.nodes)
    return _certificate(-found.value, -found.bound, found, name, None, tolerance)


class _Step(NamedTuple):
    """The best network over known units, in the space of x, and what its dual weights ask.

    value is minimised (a margin is negated). Units are worth more than the known ones where their
    value under `weights` is above `worth`. `bound` takes (weights, M(weights)) to a bound of the
    value from below and the dual weights that prove it.
    """

    vectors: np.ndarray
    network: Params
    value: float
    weights: np.ndarray
    worth: float
    bound: Callable[[np.ndarray, float], tuple[float, np.ndarray]]


class _Found(NamedTuple):
    network: Params
    value: float
    dual: np.ndarray
    bound: float
    nodes: int


def _generated(
    ask: oracles.Oracle,
    x: np.ndarray,
    units: Units,
    signs: Sequence[float],
    solve: Callable[[Units, np.ndarray], _Step],
    tolerance: float,
    max_rounds: int,
) -> _Found:
    """Column generation from these units; the best of all rounds, on either side."""
    if not max_rounds >= 1:
        raise ValueError(f"max_rounds must be at least 1, got {max_rounds}")
    if not len(units):  # no unit gains anything at first: begin with any
        units = two_layer.units_of(x, x[:1], np.asarray(signs[:1]))
    found = _Found(None, np.inf, None, -np.inf, 0)
    vectors, born = np.zeros((len(units), x.shape[1])), np.zeros(len(units))
    for number in range(max_rounds):
        step = solve(units, vectors)
        if step.value < found.value:
            found = found._replace(network=step.network, value=step.value)
        mass = np.linalg.norm(step.vectors, axis=1)
        kept = (mass > 1e-8 * mass.sum()) | (born > number - KEPT_ROUNDS)
        units, vectors, born = units.chosen(kept), step.vectors[kept], born[kept]
        largest, nodes, new = _priced(ask, x, step, tolerance, signs, units)
        bound, dual = step.bound(step.weights, largest)
        if bound > found.bound:
            found = found._replace(dual=dual, bound=bound, nodes=nodes)
        if found.value - found.bound <= tolerance * abs(found.value) or len(new) == len(units):
            break
        fresh = len(new) - len(units)
        vectors = np.concatenate([vectors, np.zeros((fresh, x.shape[1]))])
        units, born = new, np.concatenate([born, np.full(fresh, number + 1)])
    return found


def _priced(ask, x: np.ndarray, step: _Step, tolerance: float, signs, units: Units):
    """(upper bound of M(weights), nodes, `units` and all that the oracle finds to be worth more).

    It is asked for a proof only where it finds no new unit without one.
    """
    floor = step.worth * (1 + tolerance / 2)
    for limit in (floor, None):
        maxima = [ask(sign * step.weights, limit) for sign in signs]
        better = [
            maximum._replace(directions=maximum.above(x, sign * step.weights, floor))
            for maximum, sign in zip(maxima, signs, strict=True)
        ]
        new = two_layer.joined(units, _units(x, better, signs))
        largest = max(maximum.upper for maximum in maxima)
        if len(new) > len(units) or np.isfinite(largest):
            break
    return largest, sum(maximum.nodes for maximum in maxima), new


def _sharpened(ask, x: np.ndarray, y: np.ndarray, found: _Found, tolerance: float) -> _Found:
    """`found` bettered by linear programmes over single neurons, its own and those asked for.

    The interior-point method runs out of digits where large neurons cancel to a small margin; the
    simplex method does not, and its networks have the fewest neurons.
    """
    first = found.network[0]
    directions, weights = (first / np.linalg.norm(first, axis=0)).T, found.dual
    for _ in range(SHARPENINGS):
        if found.value >= 0 or not len(directions):
            break
        machine = l1_svm(relu_dictionary(directions, x), y)
        network = two_layer.balanced(directions.T, machine.weights)
        value = -two_layer.normalized_margin(network, x, y)
        if value <= found.value * (1 - 1e-12):
            found = found._replace(network=network, value=value)
        if found.value - found.bound <= tolerance * abs(found.value):
            break
        weights = machine.alpha
        maxima = [ask(sign * weights * y, None) for sign in SIGNS]
        bound = -max(maximum.upper for maximum in maxima) / 2
        if bound > found.bound:
            nodes = sum(maximum.nodes for maximum in maxima)
            found = found._replace(dual=weights, bound=bound, nodes=nodes)
        directions = np.concatenate([directions, *(maximum.directions for maximum in maxima)])
    return found


def _units(x: np.ndarray, maxima: Sequence[oracles.Maximum], signs: Sequence[float]) -> Units:
    """The units of all directions that the oracle found for each sign of output weight."""
    directions = np.concatenate([maximum.directions for maximum in maxima])
    counts = [len(maximum.directions) for maximum in maxima]
    return two_layer.units_of(x, directions, np.repeat(signs, counts))


def _units_of_network(params: Params, x: np.ndarray, basis: np.ndarray) -> Units:
    first, last = two_layer.weights(params, basis.shape[0])
    return two_layer.units_of(x, first.T @ basis, np.where(last[:, 0] > 0, 1.0, -1.0))


def _checked(data: Dataset, labels: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x in the coordinates of its row space, y, the basis of that space) in float64."""
    check_dataset(data, labels)
    y = np.asarray(data.y, np.float64)
    if labels == "sign" and len(set(y)) < 2:
        raise ValueError(f"data.y must hold both classes, got only {y[0]:+.0f}")
    x, basis = row_space(np.asarray(data.x, np.float64))
    if not basis.size:
        raise ValueError("data.x must not be zero throughout")
    return np.ascontiguousarray(x), y, basis


def _oracle(name: str, x: np.ndarray, tolerance: float, options: dict):
    if name == "auto":
        name = "enumerate" if x.shape[1] <= MAX_RANK else "branch_and_bound"
    return oracles.make_oracle(name, x, tolerance=tolerance / 4, **options), name


def _least_margin(x: np.ndarray, oracle: str) -> float:
    """The margin below which data is not separable, as far as the oracle's proofs can tell."""
    longest = np.linalg.norm(x, axis=1)
    least = NOT_SEPARABLE * float(longest.max())
    if oracle == "enumerate":
        return least
    return max(least, sphere_search.rounding_allowance(x, longest == longest.max()))


def _certificate(
    lower: float,
    upper: float,
    found: _Found,
    oracle: str,
    basis: np.ndarray | None,
    tolerance: float,
) -> Certificate:
    """The certificate of what was found; a network in the space of x is taken out of it."""
    gap = (upper - lower) / abs(upper) if upper else 0.0
    kind = oracles.KINDS[oracle]
    if kind == "exact" and not gap <= tolerance:
        kind = "certified"  # the solver stopped early: both bounds hold, and leave a gap
    first, last = found.network
    primal = (first if basis is None else basis @ first, last)
    return Certificate(
        float(lower), float(upper), float(gap), kind, primal, found.dual, found.nodes
    )


def _entropy(b: np.ndarray, y: np.ndarray) -> np.ndarray:
    a = np.clip(b * y, 0.0, 1.0)
    return scipy.special.entr(a) + scipy.special.entr(1.0 - a)


def _scaled_logistic(b: np.ndarray, y: np.ndarray, most: float) -> np.ndarray:
    """b times what makes it feasible: at most `most`, and 0 ≤ by ≤ 1; the better of two choices."""
    most = min(most, 1.0 / max(float(np.max(b * y)), 1e-300))
    return b * max(most, min(most, 1.0), key=lambda size: float(np.mean(_entropy(size * b, y))))


def _scaled_squared(b: np.ndarray, y: np.ndarray, most: float) -> np.ndarray:
    square = float(b @ b)
    return b * min(most, 2.0 * float(b @ y) / square) if square else b


# Per sample of output f and label y: ℓ, ℓ′, ℓ″; then b scaled to be feasible, and its −ℓ*(−b).
DUALS = {
    "logistic": (
        lambda f, y: np.logaddexp(0.0, -y * f),
        lambda f, y: -y * scipy.special.expit(-y * f),
        lambda f, y: scipy.special.expit(f) * scipy.special.expit(-f),
        _scaled_logistic,
        _entropy,
    ),
    "squared": (
        lambda f, y: (f - y) ** 2,
        lambda f, y: 2.0 * (f - y),
        lambda f, y: np.full_like(f, 2.0),
        _scaled_squared,
        lambda b, y: b * y - b**2 / 4,
    ),
}
