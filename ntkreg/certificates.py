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

import functools
from typing import NamedTuple

import numpy as np
import scipy.special

from ntkreg import cone_programs, oracles, two_layer
from ntkreg._types import Params
from ntkreg.arrangements import row_space
from ntkreg.column_generation import NOTHING, Found, Step, generated, sharpened, units_found
from ntkreg.conjugates import DUALS, dual_minimum
from ntkreg.data import Dataset, check_dataset
from ntkreg.kernel_machines import NotSeparable
from ntkreg.level_method import least_maximum
from ntkreg.oracles import SIGNS, of_signs
from ntkreg.two_layer import Units

LEAST_LAM = 1e-300  # F is about λ log(1/λ)/γ*: beyond it would leave the range of float64
FAR_LAM = 1e-9  # below it Newton's method needs a start whose loss is not e^(1/λ) times too large


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
      nodes: nodes, patterns or starts that the oracle took for the dual bound, of the sign of
        output weight that took more.
    """

    lower: float
    upper: float
    gap: float
    kind: oracles.Kind
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
      params: of a trained two-layer network, known with its units from the start: `lower` is at
        least its margin.
      oracle: a name of `oracles.KINDS`; "auto" is enumerate to rank 4, else branch_and_bound.
      tolerance: relative gap at which it ends.
      max_rounds: of column generation; with fewer than it needs the gap is wider.
      **options: of `oracles.make_oracle`.

    Raises:
      NotSeparable: for data that no network separates (a ValueError, too).
      ValueError: for bad data, params or options, an empty class, or `enumerate` above rank 4.
    """
    x, y, basis = _checked(data, "sign")
    ask, name = _oracle(oracle, x, tolerance, options)
    first = of_signs(ask, y / len(y), 0.0)
    least = oracles.least_separable(name, x)
    scale = 1.0 / max(first.lower, least)

    def solve(units: Units, vectors: np.ndarray) -> Step:
        nonlocal scale
        vectors, alpha = cone_programs.widest_margin(x, y, units, scale)
        network = two_layer.network_of(x, units, vectors)
        margin = two_layer.normalized_margin(network, x, y)
        if margin > least:
            scale = 1.0 / max(2 * margin, 1e-3 / scale)
        return Step(vectors, network, -margin, alpha * y, 2 * margin, bound)

    def bound(weights: np.ndarray, largest: float) -> tuple[float, np.ndarray]:
        if largest / 2 <= least:
            raise NotSeparable(
                "data must be separable by a two-layer ReLU network without biases: weights on the "
                f"samples bound every normalized margin by {largest / 2:.1e}"
            )
        return -largest / 2, weights * y

    units, found = units_found(x, first), NOTHING
    if params is not None:
        network = _inside(params, basis)
        units = two_layer.joined(two_layer.units_and_vectors(x, network)[0], units)
        found = found._replace(network=network, value=-two_layer.normalized_margin(network, x, y))
    found = generated(ask, x, units, SIGNS, solve, tolerance, max_rounds, found)
    found = sharpened(ask, x, y, found, tolerance)
    return _certificate(found, name, basis, tolerance, is_margin=True)


def global_minimum(
    data: Dataset,
    lam: float,
    *,
    loss: str = "logistic",
    output_sign: int | None = None,
    params: Params | None = None,
    limit: Certificate | None = None,
    oracle: str = "auto",
    tolerance: float = 1e-7,
    max_rounds: int = 100,
    **options,
) -> Certificate:
    """The minimum of F_λ = mean loss + λ‖Θ‖² over two-layer ReLU networks of any width.

    Args:
      data: x of shape (n, d); y of −1 and +1, or real for the squared loss.
      lam: λ from 1e-9 on; for the logistic loss from 1e-300 on.
      loss: "logistic" or "squared" ((f − y)², no factor ½).
      output_sign: +1 or −1 for the minimum over networks whose output weights all have that sign,
        in which a noiseless flow that starts there is trapped; None for all networks.
      limit: the certificate of the max margin, where it is known already. Below λ = 1e-9 the
        search starts at its network, whose direction the minimizer tends to, and its weights bound
        the minimum too; there it is computed if it is not given.
      params, oracle, tolerance, max_rounds, **options: as in `max_margin`.

    Raises:
      NotSeparable: below λ = 1e-9 without `limit`, for data that no network separates.
      ValueError: for bad data, params or options, an empty class, λ out of range, or `enumerate`
        above rank 4.
    """
    least_lam = LEAST_LAM if loss == "logistic" and output_sign is None else FAR_LAM
    if not least_lam <= lam < np.inf:
        raise ValueError(f"lam must be finite and at least {least_lam}, got {lam}")
    if output_sign not in (None, 1, -1):
        raise ValueError(f"output_sign must be None, 1 or -1, got {output_sign}")
    if loss not in DUALS:
        raise ValueError(f"loss must be one of {', '.join(DUALS)}, got {loss!r}")
    x, y, basis = _checked(data, "sign" if loss == "logistic" else "real")
    ask, name = _oracle(oracle, x, tolerance, options)
    signs = SIGNS if output_sign is None else (float(output_sign),)
    value, slope, curvature = DUALS[loss].value, DUALS[loss].slope, DUALS[loss].curvature
    # Everything is of F/λ, so that nothing underflows where λ is small.
    over_lam = lambda g: lambda f: g(f, y) / lam
    per_sample = (over_lam(value), over_lam(slope), over_lam(curvature))

    def solve(units: Units, vectors: np.ndarray) -> Step:
        vectors, weights = cone_programs.least_objective(x, units, per_sample, 2.0, vectors)
        if loss == "logistic":
            weights = y * np.maximum(y * weights, 0.0)  # outside −ℓ* is infinite
        network = two_layer.network_of(x, units, vectors)
        penalty = lam * two_layer.squared_norm(network)
        objective = float(np.mean(value(two_layer.outputs(network, x), y))) + penalty
        return Step(vectors, network, objective, weights / len(y), 2.0, bound)

    bound = functools.partial(dual_minimum, loss, y, lam)
    first = of_signs(ask, -slope(np.zeros(len(y)), y) / len(y), 0.0, signs)
    units, start = units_found(x, first), None
    if params is not None:
        trained, _ = two_layer.units_and_vectors(x, _inside(params, basis))
        units = two_layer.joined(trained.chosen(np.isin(trained.sign, signs)), units)
    known = NOTHING
    if lam < FAR_LAM:
        limit = limit or max_margin(data, oracle=oracle, max_rounds=max_rounds, **options)
        near, start = two_layer.scaled_to_lam(x, y, _inside(limit.primal, basis), lam)
        units = two_layer.joined(near, units)
        start = np.concatenate([start, np.zeros((len(units) - len(near), x.shape[1]))])
        maxima = of_signs(ask, limit.dual * y, None, signs)
        least, dual = bound(maxima.weights, maxima.upper)
        known = NOTHING._replace(dual=dual, bound=least, nodes=maxima.nodes)
    found = generated(ask, x, units, signs, solve, tolerance, max_rounds, known, start)
    return _certificate(found, name, basis, tolerance)


def polish(params: Params, data: Dataset) -> Params:
    """The network of the widest normalized margin among those with the units of `params`.

    At most n neurons; where the solver finds none better, the network that came in. Its margin is
    never lower.

    Raises:
      ValueError: for bad data or params, or an empty class.
    """
    x, y, basis = _checked(data, "sign")
    first, last = two_layer.checked_weights(params, basis.shape[0])
    units, _ = two_layer.units_and_vectors(x, (basis.T @ first, last))
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
    params: Params,
    data: Dataset,
    *,
    alpha: np.ndarray | None = None,
    oracle: str = "auto",
    tolerance: float = 1e-6,
    max_rounds: int = 0,
    **options,
) -> Certificate:
    """The bounds that a trained network and weights on the samples put on the max margin.

    Without `alpha` the weights are the network's own, αᵢ ∝ σ(−qᵢ) at its margins qᵢ: those of the
    logistic loss to which it was trained. They are then improved by at most `max_rounds` rounds of
    the level method; the network is returned as it came in (`polish` betters it).

    Args:
      alpha: weights of the samples ≥ 0, of any sum.
      others: as in `max_margin`.

    Raises:
      ValueError: for bad data, params or options, an empty class, or alpha of another shape,
        negative, or zero throughout. Data that no network separates gives an upper bound near 0.
    """
    x, y, basis = _checked(data, "sign")
    first, last = two_layer.checked_weights(params, basis.shape[0])
    ask, name = _oracle(oracle, x, tolerance, options)
    if alpha is None:
        margins = y * two_layer.outputs(_inside(params, basis), x)
        alpha = scipy.special.softmax(-np.logaddexp(0.0, margins))
    alpha = np.asarray(alpha, np.float64)
    if alpha.shape != y.shape or not (alpha >= 0).all() or not 0 < alpha.sum() < np.inf:
        raise ValueError(f"alpha must be {len(y)} weights ≥ 0 with a positive sum, got {alpha}")
    alpha = alpha / alpha.sum()
    margin = two_layer.normalized_margin((first, last), np.asarray(data.x, np.float64), y)
    best = least_maximum(ask, x, y, alpha, 2 * margin, tolerance, max_rounds)
    found = Found((first, last), -margin, best.alpha, -best.largest / 2, best.nodes)
    return _certificate(found, name, None, tolerance, is_margin=True)


def _inside(params: Params, basis: np.ndarray) -> Params:
    """The network in the coordinates of the row space: the same outputs, and no larger norm."""
    first, last = two_layer.checked_weights(params, basis.shape[0])
    return basis.T @ first, last


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
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance}")
    name = oracles.oracle_name(name, x)
    return oracles.make_oracle(name, x, tolerance=tolerance / 4, **options), name


def _certificate(
    found: Found, oracle: str, basis: np.ndarray | None, tolerance: float, is_margin: bool = False
) -> Certificate:
    """The certificate of what was found; a network in the space of x is taken out of it."""
    kind, bound = oracles.KINDS[oracle], found.bound
    if kind == "heuristic":
        bound = min(bound, found.value)  # where a search fell short the network itself knows better
    lower, upper = (-found.value, -bound) if is_margin else (bound, found.value)
    gap = (upper - lower) / abs(upper) if upper else 0.0
    if kind == "exact" and not gap <= tolerance:
        kind = "certified"  # the solver stopped early: both bounds hold, and leave a gap
    first, last = found.network
    primal = (first if basis is None else basis @ first, last)
    return Certificate(
        float(lower), float(upper), float(gap), kind, primal, found.dual, found.nodes
    )
