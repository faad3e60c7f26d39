"""Certificates: the true max margin and the true global minimum of two-layer networks.

A network proves one side and weights on the samples prove the other, by weak duality; both bounds
are computed from exactly the arrays that are returned, in ball arithmetic (`proofs`). Networks may
have any width: n neurons are enough. With V the variation norm of a network (`two_layer`; ‖Θ‖² = 2V
where it is balanced) and M(c) = max over ‖u‖ ≤ 1 of |Σ cᵢ relu(uᵀxᵢ)|:

- margin: γ* = ½ max{min yᵢf(xᵢ) : V ≤ 1} ≤ ½ M(αy) for all weights α ≥ 0 with Σα = 1;
- minimum: F* = min{mean ℓᵢ(f(xᵢ)) + 2λV} ≥ mean −ℓᵢ*(−bᵢ) for all b with M(b/n) ≤ 2λ.

To rank 4, and of few samples beyond it, both are found by cutting planes over all faces
(`refinement`); else by column generation: the best network over known units (`convex`) and
its dual weights; then units that an oracle finds to be worth more under these than any known one;
until the bounds meet. The interior-point method's weights lie amid the optimal ones, not at a
corner, which keeps them from jumping where there are many.

Of the quadratic activation both are semidefinite programmes (`quadratic`); all else is of relu. Of
networks with an output a class both come from all faces, too (`several_classes`).

Sources: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4 (γ* is half the ℓ1-SVM's margin); Bach (JMLR
2017) for the variation norm and column generation; Pilanci and Ergen (ICML 2020) for the programme.
"""

from typing import Any, NamedTuple

import numpy as np
import scipy

from ntkreg._types import Params
from ntkreg.certificates import convex, oracles, quadratic, several_classes, two_layer
from ntkreg.certificates.balls import above, precision, rounded
from ntkreg.certificates.column_generation import (
    NOTHING,
    Bound,
    Found,
    Step,
    generated_units,
    sharpened,
    units_found,
)
from ntkreg.certificates.cutting_planes import smallest_maximum
from ntkreg.certificates.enumeration import exact_rank, num_cells, row_exponents, row_space
from ntkreg.certificates.oracles import SIGNS, of_signs
from ntkreg.certificates.proofs import DUALS, CrossingBounds, Problem, dual_minimum, proved
from ntkreg.certificates.refinement import bound_of_weights, not_separable, scaled, solved_exactly
from ntkreg.certificates.two_layer import Units
from ntkreg.data.dataset import Dataset, check_dataset

LEAST_LAM = 1e-300  # F is about λ log(1/λ)/γ*: beyond it would leave the range of float64
FAR_LAM = 1e-9  # below it Newton's method needs a start whose loss is not e^(1/λ) times too large
ENUMERATED, OF_CLASSES, BOUNDED = 1e-9, 1e-8, 1e-7  # tolerances unless given
QUADRATIC, CLASSES = "activation quadratic, which has no search", "labels of classes"
NORMS = {"relu": (2, (2, 2)), "quadratic": ((2, 3),)}  # in which the problem is convex
EPS = float(np.finfo(float).eps)


class Certificate(NamedTuple):
    """A two-sided bound, proved by `primal` and `dual` (`proofs.proved`).

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> found = max_margin(two)
    >>> found.kind, found.lower <= 0.25 <= found.upper
    ('exact', True)

    Attributes:
      lower, upper: the bounds. For a margin `primal` gives `lower`, for a minimum `upper`.
      gap: (upper − lower)/|upper|.
      kind: "exact" where all activation patterns were looked at and the gap closed, or on a group
        all representations; "certified" where both sides are proved, "heuristic" where the dual
        one rests on a local search.
      primal: the network's parameters (W₁ of shape (d, m), W₂ of shape (m, 1)), as those of
        `fully_connected(2, m)`; W₂ of shape (m, k) of k classes.
      dual: weights of the samples: α of the margin, of any sum; b of the minimum, feasible at
        min(1, 2λ/M) times its size, M as in `proofs.proved`. Of k classes of shape (n, k):
        `several_classes.Solved.weights`.
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
    tolerance: float | None = None,
    max_rounds: int = 100,
    activation: str = "relu",
    norm: int | tuple[int, int] = 2,
    **options,
) -> Certificate:
    """The max normalized margin of two-layer networks of any width, and a network that has it.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> round(max_margin(two).upper, 9)  # the margin of relu(x) − relu(−x)
    0.25

    To rank 4, and beyond it with up to 5,000 faces (9 samples at rank 5), the gap closes to 1e-9
    whatever the rows' lengths, as long as float64 can hold the network and the weights: the margin
    of the rows at unit length should be above 1e-12.

    >>> three = Dataset(jnp.eye(3), jnp.arange(3))  # a network with three outputs
    >>> round(max_margin(three).upper, 7)  # of f_y − f_c for both other classes c
    0.2041241

    Args:
      data: x of shape (n, d), y of −1 and +1; one sample or one class will do. Labels of an integer
        dtype that are not ±1 are classes 0 … k − 1, of a network with k outputs: to rank 4, or of
        few samples, and with tolerance alone to choose, 1e-8 unless given.
      params: of a trained two-layer network: `lower` is at least its margin.
      oracle: a name of `oracles.KINDS`; "auto" is enumerate where faces can be listed, else
        branch_and_bound.
      tolerance: relative gap at which it ends; 1e-9 for enumerate and 1e-7 else, unless given.
      max_rounds: of column generation; with fewer than it needs the gap is wider.
      activation: "relu", or "quadratic", z², whose margin is min yᵢf(xᵢ)/‖Θ‖_{2,3}³: an eigenvalue
        is its oracle, so that the gap closes to 1e-9 at any rank. Time grows as n³, memory as n².
      norm: 2 or (2, 2), the Euclidean norm, of relu; (2, 3) of z², (Σⱼ ‖(uⱼ, wⱼ)‖₂³)^(1/3).
      **options: of `oracles.make_oracle`.

    Raises:
      NotSeparable: for data that no network separates (a ValueError, too): the margin of the rows
        at unit length is proved to be at most 1e-12, or what branch and bound may miss.
      ValueError: for bad data, params or options, an option that z² does not have, a norm that is
        not the activation's, or `enumerate` of too many faces.
    """
    if _is_quadratic(activation, norm):
        _check_unused(
            QUADRATIC, oracle=(oracle, "auto"), max_rounds=(max_rounds, 100), **_given(options)
        )
        return _quadratic(data, None, "logistic", params, tolerance)
    if _has_classes(data):
        _check_unused(CLASSES, params=(params, None), oracle=(oracle, "auto"), **_given(options))
        return _of_classes(data, None, tolerance, max_rounds)
    problem, name, tolerance = _posed(data, None, "logistic", None, oracle, tolerance, max_rounds)
    _check_rows(problem.x)
    if name == "enumerate":
        return _enumerated(problem, params, tolerance, max_rounds, options)
    full, (problem, shrink), basis = problem, *_in_row_space(problem)
    x, y = problem.x, problem.y
    maximize = oracles.make_oracle(name, x, tolerance=tolerance / 4, **options)
    first, lengths = of_signs(maximize, y / len(y), 0.0), np.linalg.norm(x, axis=1)
    smallest = oracles.least_separable(name, x)
    scale = 1.0 / max(first.lower, smallest * float(lengths.min()))

    def solve(units: Units, vectors: np.ndarray) -> Step:
        nonlocal scale
        vectors, alpha = convex.widest_margin(x, y, units, scale)
        network = two_layer.network_of(x, units, vectors)
        margin = two_layer.normalized_margin(network, x, y)
        if margin > 0:
            scale = 1.0 / max(2 * margin, 1e-3 / scale)
        return Step(vectors, network, -margin, alpha * y, 2 * margin, bound)

    def bound(weights: np.ndarray, largest: float) -> Bound:
        of_unit_rows = largest / (2 * float(np.abs(weights) @ lengths))
        if of_unit_rows <= smallest:
            raise not_separable(of_unit_rows)
        return Bound(-largest / 2, weights * y, largest)

    units, found = units_found(x, first), NOTHING._replace(dual=np.full(len(y), 1 / len(y)))
    if params is not None:
        network = _inside(params, basis)
        units = two_layer.joined(two_layer.units_and_vectors(x, network)[0], units)
        found = found._replace(network=network, value=-two_layer.normalized_margin(network, x, y))
    found = generated_units(maximize, x, units, SIGNS, solve, tolerance, max_rounds, found)
    found = sharpened(maximize, x, y, found, tolerance)
    return _outside(full, found, basis, shrink, name, tolerance)


def global_minimum(
    data: Dataset,
    lam: float,
    *,
    loss: str = "logistic",
    output_sign: int | None = None,
    params: Params | None = None,
    limit: Certificate | None = None,
    oracle: str = "auto",
    tolerance: float | None = None,
    max_rounds: int = 100,
    activation: str = "relu",
    norm: int | tuple[int, int] = 2,
    **options,
) -> Certificate:
    """The minimum of F_λ = mean loss + λ‖Θ‖² over two-layer networks of any width.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> found = global_minimum(two, lam=1e-2)
    >>> found.kind, found.gap < 1e-9
    ('exact', True)

    The gap closes as in `max_margin`, but for λ below some 1e-15 of the data's scale where no
    network separates: there weights must cancel exactly, and networks may have to tell samples
    apart by their last bits; float64 may hold none that do.

    Args:
      data: x of shape (n, d); y of −1 and +1, or real for the squared loss. One sample or one class
        will do. Classes as in `max_margin`, whose logistic loss is the cross-entropy.
      lam: λ from 1e-300 on.
      loss: "logistic" or "squared" ((f − y)², no factor ½).
      output_sign: +1 or −1 for the minimum over networks whose output weights all have that sign,
        in which a noiseless flow that starts there is trapped; None for all networks.
      limit: the certificate of the max margin, where it is known already. Without enumeration and
        below λ = 1e-9 the search starts at its network, whose direction the minimizer tends to, and
        its weights bound the minimum too; there it is computed if it is not given.
      activation: as in `max_margin`. Of z² it is the minimum of mean loss + λ‖Θ‖_{2,3}³, for
        λ over the longest row's squared length from 1e-300 on where some network fits the samples,
        and from about 1e-9 on where none does, or where rows differ by six orders of magnitude.

    The other arguments are those of `max_margin`.

    Raises:
      NotSeparable: where only a margin of the unit rows below 1e-12 would lower F at so small
        a λ, which float64 cannot hold; without enumeration, below λ = 1e-9 and no `limit`, for data
        that no network separates.
      ValueError: for bad data, params, norm or options, λ out of range, or `enumerate` of too many
        faces.
    """
    if not LEAST_LAM <= lam < np.inf:
        raise ValueError(f"lam must be finite and at least {LEAST_LAM}, got {lam}")
    if output_sign not in (None, 1, -1):
        raise ValueError(f"output_sign must be None, 1 or -1, got {output_sign}")
    if loss not in DUALS:
        raise ValueError(f"loss must be one of {', '.join(DUALS)}, got {loss!r}")
    if _is_quadratic(activation, norm):
        _check_unused(
            QUADRATIC,
            output_sign=(output_sign, None),
            limit=(limit, None),
            oracle=(oracle, "auto"),
            max_rounds=(max_rounds, 100),
            **_given(options),
        )
        return _quadratic(data, lam, loss, params, tolerance)
    if loss == "logistic" and _has_classes(data):
        _check_unused(
            CLASSES,
            output_sign=(output_sign, None),
            limit=(limit, None),
            params=(params, None),
            oracle=(oracle, "auto"),
            **_given(options),
        )
        return _of_classes(data, lam, tolerance, max_rounds)
    problem, name, tolerance = _posed(data, lam, loss, output_sign, oracle, tolerance, max_rounds)
    if name == "enumerate":
        return _enumerated(problem, params, tolerance, max_rounds, options)
    full, (problem, shrink), basis = problem, *_in_row_space(problem)
    x, y, signs = problem.x, problem.y, problem.signs
    lam = float(np.ldexp(lam, shrink))
    maximize = oracles.make_oracle(name, x, tolerance=tolerance / 4, **options)
    value, slope, curvature = DUALS[loss].value, DUALS[loss].slope, DUALS[loss].curvature
    # Everything is of F/λ, so that nothing underflows where λ is small.
    over_lam = lambda g: lambda f: g(f, y) / lam
    per_sample = (over_lam(value), over_lam(slope), over_lam(curvature))

    def solve(units: Units, vectors: np.ndarray) -> Step:
        vectors, weights = convex.least_objective(x, units, per_sample, 2.0, vectors)
        if loss == "logistic":
            weights = y * np.maximum(y * weights, 0.0)  # outside −ℓ* is infinite
        network = two_layer.network_of(x, units, vectors)
        penalty = lam * two_layer.squared_norm(network)
        objective = float(np.mean(value(two_layer.outputs(network, x), y))) + penalty
        return Step(vectors, network, objective, weights / len(y), 2.0, bound)

    def bound(weights: np.ndarray, largest: float) -> Bound:
        smallest, dual = dual_minimum(loss, y, lam, weights, largest)
        size = float(np.abs(weights).max())
        return Bound(smallest, dual, largest * (float(np.abs(dual).max()) / len(y) / (size or 1.0)))

    first = of_signs(maximize, -slope(np.zeros(len(y)), y) / len(y), 0.0, signs)
    units, start = units_found(x, first), None
    if params is not None:
        trained, _ = two_layer.units_and_vectors(x, _inside(params, basis))
        units = two_layer.joined(trained.chosen(np.isin(trained.sign, signs)), units)
    known = NOTHING._replace(dual=0 * y, bound=0.0, largest=0.0)  # b = 0 bounds by 0
    if lam < FAR_LAM and loss == "logistic" and output_sign is None:
        limit = limit or max_margin(data, oracle=oracle, max_rounds=max_rounds, **options)
        near, start = two_layer.scaled_to_lam(x, y, _inside(limit.primal, basis), lam)
        units = two_layer.joined(near, units)
        start = np.concatenate([start, np.zeros((len(units) - len(near), x.shape[1]))])
        maxima = of_signs(maximize, limit.dual * y, None, signs)
        smallest, dual, largest = bound(maxima.weights, maxima.upper)
        known = known._replace(dual=dual, bound=smallest, largest=largest, nodes=maxima.nodes)
    found = generated_units(maximize, x, units, signs, solve, tolerance, max_rounds, known, start)
    return _outside(full, found, basis, shrink, name, tolerance)


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
    vectors, _ = convex.widest_margin(x, y, units, scale)
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

    The other arguments are those of `max_margin`.

    Raises:
      ValueError: for bad data, params or options, an empty class, or alpha of another shape,
        negative, or zero throughout. Data that no network separates gives an upper bound near 0.
    """
    x, y, basis = _checked(data, "sign")
    first, last = two_layer.checked_weights(params, basis.shape[0])
    maximize, name = _oracle(oracle, x, tolerance, options)
    if alpha is None:
        margins = y * two_layer.outputs(_inside(params, basis), x)
        alpha = scipy.special.softmax(-np.logaddexp(0.0, margins))
    alpha = np.asarray(alpha, np.float64)
    if alpha.shape != y.shape or not (alpha >= 0).all() or not 0 < alpha.sum() < np.inf:
        raise ValueError(f"alpha must be {len(y)} weights ≥ 0 with a positive sum, got {alpha}")
    alpha = alpha / alpha.sum()
    full = np.asarray(data.x, np.float64)
    margin = two_layer.normalized_margin((first, last), full, y)
    best = smallest_maximum(maximize, x, y, alpha, 2 * margin, tolerance, max_rounds)
    return certificate(
        Problem(full, y), (first, last), best.alpha, name, tolerance, best.largest, best.nodes
    )


def _inside(params: Params, basis: np.ndarray) -> Params:
    """The network in the coordinates of the row space: the same outputs, and no larger norm."""
    first, last = two_layer.checked_weights(params, basis.shape[0])
    return basis.T @ first, last


def certificate(
    problem: Problem,
    primal: Params,
    dual: np.ndarray,
    oracle: str,
    tolerance: float,
    largest: float,
    nodes: int,
) -> Certificate:
    """The certificate of a network and weights: its bounds are what these arrays prove.

    Args:
      oracle: of `oracles.KINDS`, what `largest` is of.
      tolerance: the gap up to which all activation patterns make it "exact".
      largest: a bound of |Σ cᵢ relu(uᵀxᵢ)| for the problem's weights c of `dual` that this oracle
        proved in the row space of x. Of faces that can be listed it is proved anew.

    Raises:
      CrossingBounds: for a proved lower bound above the upper one.
    """
    kind = oracles.KINDS[oracle]
    proof: Any
    if oracle == "enumerate" and exact_rank(problem.x) is not None:
        proof = bound_of_weights(problem, scaled(problem), dual)
    else:
        proof = largest + _allowance(problem, dual)
    return _judged(problem, primal, dual, proof, kind, tolerance, nodes)


def _judged(
    problem: Problem, primal: Params, dual: np.ndarray, proof, kind, tolerance: float, nodes: int
) -> Certificate:
    lower, upper = proved(problem, primal, dual, proof)
    if kind == "heuristic":  # where a search fell short the network itself knows better
        lower, upper = (
            (lower, max(lower, upper)) if problem.is_margin else (min(lower, upper), upper)
        )
    gap = _gap(lower, upper)
    if kind == "exact" and not gap <= tolerance:
        kind = "certified"  # both bounds hold, and leave a gap
    return Certificate(lower, upper, gap, kind, primal, dual, nodes)


def _gap(lower: float, upper: float) -> float:
    if lower > upper:
        raise CrossingBounds(f"lower must be at most upper, got {lower} and {upper}")
    return (upper - lower) / abs(upper) if upper and upper < np.inf else upper


def _allowance(problem: Problem, dual: np.ndarray) -> float:
    """What a bound in coordinates of the row space may miss of |Σ cᵢ relu(uᵀxᵢ)|.

    With z = fl(xB) it is at most Σ |cᵢ|‖xᵢ − Bzᵢ‖, and ‖B‖ and the scaling of weights are off by
    some ε, which is as much of Σ |cᵢ|‖xᵢ‖.
    """
    x, c = problem.x, np.abs(rounded(problem.weights(dual)))
    z, basis = row_space(x)
    lost = np.linalg.norm(x - z @ basis.T, axis=1)
    return float(c @ (lost + 32 * sum(x.shape) * EPS * np.linalg.norm(x, axis=1)))


def _posed(
    data: Dataset, lam, loss: str, output_sign, oracle: str, tolerance: float | None, max_rounds
) -> tuple[Problem, str, float]:
    """(the problem, the oracle's name, the tolerance), checked."""
    x, y = _checked_arrays(data, "real" if loss == "squared" else "sign")
    signs = (1, -1) if output_sign is None else (int(output_sign),)
    name = oracle_for(oracle, x)
    if tolerance is None:
        tolerance = ENUMERATED if name == "enumerate" else BOUNDED
    _check_search(x, tolerance, max_rounds)
    return Problem(x, y, lam, loss, signs), name, tolerance


def _check_search(x: np.ndarray, tolerance: float, max_rounds: int = 1) -> None:
    if not x.any():
        raise ValueError("data.x must not be zero throughout")
    if not max_rounds >= 1:
        raise ValueError(f"max_rounds must be at least 1, got {max_rounds}")
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance}")


def _check_rows(x: np.ndarray) -> None:
    """f = 0 on a row of zeros."""
    if not x.any(axis=1).all():
        raise not_separable(0.0)


def _is_quadratic(activation: str, norm) -> bool:
    """Whether the activation is `quadratic`.

    Raises:
      ValueError: for an unknown activation, or a norm in which its problem is not convex.
    """
    if not isinstance(activation, str) or activation not in NORMS:
        raise ValueError(f"activation must be relu or quadratic, got {activation!r}")
    if not isinstance(norm, int | float | tuple) or norm not in NORMS[activation]:
        rule = (
            "2 or (2, 2) with relu"
            if activation == "relu"
            else ("(2, 3) with activation quadratic, the only one in which its problem is convex")
        )
        raise ValueError(f"norm must be {rule}, got {norm!r}")
    return activation == "quadratic"


def _given(options: dict) -> dict:
    return {name: (value, None) for name, value in options.items()}


def _check_unused(where: str, **options) -> None:
    """Options (value, default) that there are not with the quadratic activation, or classes.

    Raises:
      ValueError: for one that is not its default.
    """
    for name, (value, default) in options.items():
        if value is not default and value != default:
            shown = "a certificate" if isinstance(value, Certificate) else repr(value)
            raise ValueError(f"{name} must not be given with {where}, got {shown}")


def _quadratic(
    data: Dataset, lam: float | None, loss: str, params: Params | None, tolerance: float | None
) -> Certificate:
    """The certificate of a network with the activation z² in the norm ‖·‖_{2,3}."""
    x, y = _checked_arrays(data, "real" if loss == "squared" else "sign")
    tolerance = ENUMERATED if tolerance is None else tolerance
    _check_search(x, tolerance)
    given = None if params is None else two_layer.checked_weights(params, x.shape[1])
    problem = Problem(x, y, lam, loss, activation="quadratic")
    solve = quadratic.widest if lam is None else quadratic.least
    primal, dual = solve(problem, tolerance / 4)
    if given is not None:
        primal = quadratic.better(problem, primal, given)
    proof = quadratic.largest(problem, dual)
    return _judged(problem, primal, dual, proof, "certified", tolerance, 0)


def _has_classes(data: Dataset) -> bool:
    """Whether labels are of an integer dtype and not −1 and +1."""
    if not isinstance(data, Dataset) or not np.issubdtype(np.asarray(data.y).dtype, np.integer):
        return False
    return not np.isin(np.asarray(data.y), (-1, 1)).all()


def _of_classes(
    data: Dataset, lam: float | None, tolerance: float | None, max_rounds: int
) -> Certificate:
    """The certificate of a network with an output a class."""
    data = check_dataset(data, "class")
    x, labels = np.asarray(data.x, np.float64), np.asarray(data.y)
    tolerance = OF_CLASSES if tolerance is None else tolerance
    _check_search(x, tolerance, max_rounds)
    if lam is None:
        _check_rows(x)
        found = several_classes.widest(x, labels, tolerance, max_rounds)
    else:
        found = several_classes.least(x, labels, lam, tolerance, max_rounds)
    gap = _gap(found.lower, found.upper)
    kind: oracles.Kind = "exact" if gap <= tolerance else "certified"
    return Certificate(
        found.lower, found.upper, gap, kind, found.primal, found.weights, found.patterns
    )


def oracle_for(name: str, x: np.ndarray) -> str:
    """What "auto" stands for on samples x.

    It is enumerate where the faces can be listed, of the rows or of their numerical row space.
    """
    if name != "auto":
        return name
    if exact_rank(x) is not None:
        return "enumerate"
    return oracles.oracle_name(name, row_space(x)[0])


def _enumerated(
    problem: Problem, params: Params | None, tolerance: float, max_rounds: int, options: dict
) -> Certificate:
    """The certificate from all faces; in the row space where the rank is 4 up to rounding alone."""
    oracles.check_options(**options)
    given = None
    if params is not None:
        given = two_layer.checked_weights(params, problem.x.shape[1])
    if exact_rank(problem.x) is None:
        points, basis = row_space(problem.x)
        inside = problem._replace(x=np.ascontiguousarray(points))
        found = solved_exactly(inside, tolerance, max_rounds, given and _inside(given, basis))
        primal = basis @ found.primal[0], found.primal[1]
        with precision():
            largest = above(bound_of_weights(inside, scaled(inside), found.dual))
    else:
        found = solved_exactly(problem, tolerance, max_rounds, given)
        primal, largest = found.primal, np.inf
    cells = num_cells(problem.x)
    return certificate(problem, primal, found.dual, "enumerate", tolerance, largest, cells)


def _in_row_space(problem: Problem) -> tuple[tuple[Problem, int], np.ndarray]:
    """((the problem in the row space, rows at most 1 long, the power of two), the basis).

    The power k has x·2^k solved in place of x, with λ·2^k: the networks differ by 2^(k/2).
    """
    shrink = -2 * (int(row_exponents(problem.x).max()) // 2)
    points, basis = row_space(np.ldexp(problem.x, shrink))
    lam = None if problem.lam is None else float(np.ldexp(float(problem.lam), shrink))
    return (problem._replace(x=np.ascontiguousarray(points), lam=lam), shrink), basis


def _outside(
    problem: Problem, found: Found, basis: np.ndarray, shrink: int, oracle: str, tolerance: float
) -> Certificate:
    first, last = (
        np.ldexp(part, 0 if problem.is_margin else shrink // 2) for part in found.network
    )
    largest = float(np.ldexp(found.largest, -shrink))
    primal = basis @ first, last
    return certificate(problem, primal, found.dual, oracle, tolerance, largest, found.nodes)


def _checked_arrays(data: Dataset, labels: str) -> tuple[np.ndarray, np.ndarray]:
    data = check_dataset(data, labels)
    return np.asarray(data.x, np.float64), np.asarray(data.y, np.float64)


def _checked(data: Dataset, labels: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x in the coordinates of its row space, y, the basis of that space) in float64."""
    x, y = _checked_arrays(data, labels)
    points, basis = row_space(x)
    if not basis.size:
        raise ValueError("data.x must not be zero throughout")
    return np.ascontiguousarray(points), y, basis


def _oracle(name: str, x: np.ndarray, tolerance: float, options: dict):
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must lie between 0 and 1, got {tolerance}")
    name = oracles.oracle_name(name, x)
    return oracles.make_oracle(name, x, tolerance=tolerance / 4, **options), name
