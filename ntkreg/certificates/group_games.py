"""Max margins and minima of networks on a group's table, z² and ReLU, by small programmes.

f(a, b)[c] = Σᵢ (uᵢ(a) + vᵢ(b))² wᵢ(c) on a group of order n, ‖Θ‖³ = Σᵢ ‖ωᵢ‖₂³ over the neurons
ωᵢ = (u, v, w); with ReLU the norm is ‖Θ‖² = Σᵢ ‖ωᵢ‖₂², the Euclidean one. Averaging over
(a, b, c) → (gak, k⁻¹bh, gch), and (b⁻¹, a⁻¹, c⁻¹) with u and v exchanged, changes neither norm nor
labels, and both problems are convex in the masses ‖ω‖³, or ‖ω‖², of unit neurons.

With z² masses M_ρ ≥ 0 of representations are all there is to choose: averaged, a neuron of mass 1
in the functions of ρ is at best k_ρ X_ρ(abc⁻¹), with the real character X_ρ and

    k_ρ = 2κ/(3√3) (nd)^(−3/2),     κ = 1 for real ρ, 1/√2 for quaternionic, 1/√8 for complex.

Proof: the average takes 2uvw alone, which is at ρ the trace of ûv̂ŵ, with û of Frobenius norm
√(n/d)‖u‖ for real ρ; the trace is at most the product of the norms, with equality at rank one, and
‖u‖ = ‖v‖ = ‖w‖ = 1/√3 is best; a smaller trace only loses, since X(1) ≥ X(C). For complex ρ half of
‖u‖² lies at its conjugate; a quaternionic û has its singular values in pairs. A neuron in several ρ
is worth Σ_ρ k_ρ √27 ‖u_ρ‖‖v_ρ‖‖w_ρ‖ (X_ρ(1) − X_ρ(C)), at most the largest single one by Hölder's
inequality.

**Max margin.** Wrong answers c are told apart by the class C of abc⁻¹ (conjugates and inverses
together). With A_ρC = k_ρ(X_ρ(1) − X_ρ(C)) the margins are MA, and weights β_C ≥ 0 of the classes,
Σβ = 1, prove that none exceeds max_ρ (Aβ)_ρ: γ* is the value of the matrix game A.

**Minimum** of mean cross-entropy + λ Σᵢ ‖ωᵢ‖³. By log Σ e^(−q) = max over π of H(π) − Σπq,

    F* = min over M ≥ 0 of log(1 + Σ_C |C| e^(−(MA)_C)) + λ Σ M
       ≥ H(π) for every distribution π on the n answers with Σ_C π_C A_ρC ≤ λ for every ρ.

With ReLU A has a row for every unit neuron, the margins that it gives once averaged. Rows are
generated: the best neuron under the weights so far (`relu_games`), until none is worth more.

The network's side of a certificate is its own margin, or objective, on the whole table.

Source: derived here; Morwani, Edelman, Oncescu, Zhao, Kakade (ICLR 2024) for the margin of C_p.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import scipy

from ntkreg._types import Params
from ntkreg.certificates import relu_games
from ntkreg.certificates.certified import Certificate
from ntkreg.certificates.oracles import Kind
from ntkreg.certificates.proofs import CrossingBounds
from ntkreg.data.groups import Group

KAPPA = {"real": 1.0, "quaternionic": 2**-0.5, "complex": 8**-0.5}
ALLOWANCE = 1e-13  # relative, for the rounding of both bounds: sums of at most some thousand terms
NEWTON_STEPS = 20
# Rows of neurons that margins can't tell apart make F straight along some masses: relative
# curvature, and share of the slope that curvature doesn't explain, from which F counts as straight.
FLAT, STRAIGHT = 1e-11, 1e-3
SMALLEST_LAM = 1e-300  # F, about λ log(1/λ)/γ*, would leave the range of float64
CLOSED = 1e-11  # the gap up to which a proved certificate is exact, and a worth no larger
Activation = Literal["quadratic", "relu"]
ACTIVATIONS: dict[Activation, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "quadratic": (np.square, 3), "relu": (lambda z: np.maximum(z, 0.0), 2),
}  # each with the network's order  # fmt: skip


class Game(NamedTuple):
    """The matrix game of a group.

    Attributes:
      classes: of wrong answers; for each the elements abc⁻¹ in it.
      gains: A of shape (rows, classes): margins that a unit of mass gives, of a representation
        with z², of a neuron with ReLU.
    """

    classes: tuple[np.ndarray, ...]
    gains: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        """|C|."""
        return np.array([len(members) for members in self.classes])


def game(group: Group) -> Game:
    """The game whose value is the max margin.

    Raises:
      ValueError: for what is no Group.
    """
    if not isinstance(group, Group):
        raise ValueError(f"group must be a Group of data.groups, got {group!r}")
    labels = np.minimum(group.classes, group.classes[group.inverse])
    names = [name for name in np.unique(labels) if name != group.identity]
    classes = tuple(np.flatnonzero(labels == name) for name in names)
    rows = []
    for rho in group.representations:
        strength = 2 * KAPPA[rho.kind] / (3 * 3**0.5) * (group.order * rho.degree) ** -1.5
        at_one = rho.real_character[group.identity]
        rows.append([strength * (at_one - rho.real_character[c[0]]) for c in classes])
    return Game(classes, np.array(rows))


class Solved(NamedTuple):
    """A network, weights of the classes of wrong answers, and what they allow a unit neuron.

    Attributes:
      worth: the largest Σ_C weight_C · margin_C of a neuron of mass 1.
      is_proved: whether that is proved, or the largest of many found.
    """

    primal: Params
    weights: np.ndarray
    worth: float
    is_proved: bool


Solve = Callable[[Game], tuple[np.ndarray, np.ndarray]]  # -> (masses of rows, weights of classes)


def group_margin(group: Group, activation: Activation = "quadratic") -> Certificate:
    """The max margin f_ab − f_c of networks of any width on a group's table.

    At ‖Θ‖_{2,3} ≤ 1 with z², ‖Θ‖₂ ≤ 1 with ReLU.

    >>> found = group_margin(cyclic(5))
    >>> found.kind, round(found.upper, 12)
    ('exact', 0.030429030973)
    >>> round(group_margin(cyclic(3), "relu").upper * 6 * 6**0.5, 9)
    1.0

    Returns:
      The certificate; `primal` are parameters of `fully_connected(2, m, n, activation)`, `dual`
      the weights of the wrong answers by the element abc⁻¹, of the sum 1. With ReLU on groups of
      order above 5 it is heuristic: none of many searches found a neuron of more worth.

    Raises:
      ValueError: for another activation, or what is no Group.
      ArithmeticError: where the linear programme is not solved.
    """
    found = _solved(group, activation, _played)
    lower = _margin(group, found.primal, activation) * (1 - ALLOWANCE)
    upper = found.worth * (1 + ALLOWANCE)
    return _certificate(group, lower, upper, found, found.weights)


def group_minimum(group: Group, lam: float, activation: Activation = "quadratic") -> Certificate:
    """min of mean cross-entropy + λ‖Θ‖^order over networks of any width on a group's table.

    λ Σᵢ ‖ωᵢ‖₂³ with z², λ‖Θ‖₂² with ReLU.

    >>> found = group_minimum(cyclic(5), 1e-2)
    >>> round(found.upper, 9), found.gap < 1e-9
    (1.088789516, True)

    Returns:
      The certificate; `dual` is π on the wrong answers by the element abc⁻¹.

    Raises:
      ValueError: for λ below 1e-300 or not finite, another activation, or what is no Group.
    """
    if not isinstance(lam, int | float | np.number) or not SMALLEST_LAM <= lam < np.inf:
        raise ValueError(f"lam must be a number, finite and at least {SMALLEST_LAM}, got {lam!r}")

    def solve(played: Game) -> tuple[np.ndarray, np.ndarray]:
        masses = _best_masses(played.sizes, played.gains, lam)
        logs = np.log(played.sizes) - masses @ played.gains
        return masses, np.exp(logs - np.logaddexp(0.0, scipy.special.logsumexp(logs)))

    found = _solved(group, activation, solve)
    wrong = found.weights
    wrong = wrong * min(1.0, lam / found.worth) if found.worth > 0 else wrong
    dual = _by_element(group, game(group), wrong)
    entropy = float(scipy.special.entr(dual).sum() - (1 - dual.sum()) * np.log1p(-dual.sum()))
    upper = _objective(group, found.primal, lam, activation)
    return _certificate(group, entropy * (1 - ALLOWANCE), upper * (1 + ALLOWANCE), found, wrong)


def _solved(group: Group, activation: Activation, solve: Solve) -> Solved:
    """The game solved over all neurons."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    played = game(group)
    if activation == "relu":
        return _generated(group, played, solve)
    masses, weights = solve(played)
    worth = float((played.gains @ weights).max())
    return Solved(network_of_masses(group, masses), weights, worth, True)


def _generated(group: Group, played: Game, solve: Solve) -> Solved:
    """The game over ReLU neurons, of which rows are found until none is worth more.

    First those of the max margin: on them all margins can grow, as a small λ needs.
    """
    neurons, *_ = _with_best(group, played, _played, [], proved=False)
    neurons, masses, weights, best = _with_best(group, played, solve, neurons, proved=True)
    worth = max(best.bound * weights.sum(), float((_rows(group, played, neurons) @ weights).max()))
    return Solved(_network_of_orbits(group, neurons, masses), weights, worth, best.is_proved)


def _rows(group: Group, played: Game, neurons: list[relu_games.Neuron]) -> np.ndarray:
    found = [relu_games.margins(group, neuron, played.classes) for neuron in neurons]
    return np.array(found).reshape(-1, len(played.classes))


def _with_best(
    group: Group, played: Game, solve: Solve, neurons: list[relu_games.Neuron], proved: bool
) -> tuple[list[relu_games.Neuron], np.ndarray, np.ndarray, relu_games.Best]:
    """(neurons, more than these where others are worth more, their masses, weights, the best)."""
    masses, weights, worth = np.zeros(0), played.sizes / group.order, 0.0
    while True:
        if neurons:
            rows = _rows(group, played, neurons)
            masses, weights = solve(played._replace(gains=rows))
            worth = float((rows @ weights).max())
        share = weights.sum()
        by_element = _by_element(group, played, weights / share)
        is_more = lambda found, now=worth * (1 + CLOSED), share=share: found.bound * share > now
        best = relu_games.best(group, by_element, proved=False)
        if proved and not is_more(best):
            best = relu_games.best(group, by_element)
        if not is_more(best):
            return neurons, masses, weights, best
        neurons = [*neurons, best.neuron]


def _network_of_orbits(
    group: Group, neurons: list[relu_games.Neuron], masses: np.ndarray
) -> Params:
    """The network whose neurons are those of the symmetries' orbits, of these masses Σ‖ω‖²."""
    parts = []
    for neuron, mass in zip(neurons, masses, strict=True):
        if mass > 0:
            vectors = np.stack(relu_games.orbit(group, neuron))
            parts.append(vectors * (mass / vectors.shape[1]) ** 0.5)
    if not parts:
        return np.zeros((2 * group.order, 1)), np.zeros((1, group.order))
    u, v, w = np.concatenate(parts, axis=1)
    return np.concatenate([u.T, v.T]), w


def _played(played: Game) -> tuple[np.ndarray, np.ndarray]:
    """The solution of the matrix game, both of the sum 1."""
    unit = played.gains.max()
    gains = played.gains / unit
    count = len(played.classes)
    ones = np.ones((1, count))
    found = scipy.optimize.linprog(
        np.append(np.zeros(count), 1.0),
        A_ub=np.hstack([gains, -np.ones((len(gains), 1))]), b_ub=np.zeros(len(gains)),
        A_eq=np.hstack([ones, [[0.0]]]), b_eq=[1.0],
        bounds=[(0, None)] * count + [(None, None)], method="highs-ds",
    )  # fmt: skip
    if not found.success:
        raise ArithmeticError(f"the game must have a solution, got {found.message}")
    masses = np.maximum(-found.ineqlin.marginals, 0.0)
    weights = np.maximum(found.x[:-1], 0.0)
    return masses / masses.sum(), weights / weights.sum()


def network_of_masses(group: Group, masses: np.ndarray) -> Params:
    """The network that has these masses Σ‖ω‖³ of the representations, every neuron pure.

    Σ R_ij(a) R_jk(b) R_ik(c) over i, j, k is the trace of R(abc⁻¹), with the real matrices R of ρ;
    and (u + v)²w − (u − v)²w is 4uvw. So it has 2D³ neurons for each ρ, of equal masses; 16 for a
    frequency of a cyclic group, of which `closed_forms.cyclic_network` needs six.

    Args:
      masses: of shape (representations,), ≥ 0.

    Raises:
      ValueError: for masses of another shape, or negative.
    """
    count = len(group.representations)
    if np.shape(masses) != (count,) or not np.all(np.asarray(masses) >= 0):
        raise ValueError(f"masses must be {count} numbers ≥ 0 on {group.name}, got {masses}")
    parts = []
    for number, mass in enumerate(masses):
        if mass == 0:
            continue
        matrices = group.matrices(number)
        size = matrices.shape[1]
        i, j, k = (index.ravel() for index in np.indices((size, size, size)))
        u, v, w = matrices[:, i, j], matrices[:, j, k], matrices[:, i, k]
        vectors = np.stack([np.hstack([u, u]), np.hstack([v, -v]), np.hstack([w, -w])])
        # Each has the length (mass/2D³)^(1/3); its three parts √(n/D) before.
        length = (mass / (2 * size**3)) ** (1 / 3) / (3 * group.order / size) ** 0.5
        parts.append(length * vectors)
    if not parts:
        return np.zeros((2 * group.order, 1)), np.zeros((1, group.order))
    u, v, w = np.concatenate(parts, axis=2)
    return np.concatenate([u, v]), w.T


def _by_element(group: Group, played: Game, weights: np.ndarray) -> np.ndarray:
    """Weights of classes, spread evenly over their elements; 0 at the identity."""
    found = np.zeros(group.order)
    for members, weight in zip(played.classes, weights, strict=True):
        found[members] = weight / len(members)
    return found


def _best_masses(sizes: np.ndarray, gains: np.ndarray, lam: float) -> np.ndarray:
    """M of the minimum: L-BFGS with bounds on F/λ, then Newton's method on the masses above 0."""
    unit = gains.max()  # masses in 1/unit
    gains = gains / unit

    def value(masses: np.ndarray) -> tuple[float, np.ndarray]:
        logs = np.log(sizes) - masses @ gains
        loss = np.logaddexp(0.0, scipy.special.logsumexp(logs))
        return loss * unit / lam + masses.sum(), 1 - gains @ np.exp(logs - loss) * unit / lam

    # Towards small λ all margins are about log(1/λ).
    sums = gains.sum(axis=0)
    smallest = sums.min() if sums.min() > 0 else sums.max()  # a neuron may lose some margins
    start = np.full(len(gains), max(-np.log(lam), 1.0) / smallest)
    first = value(start)[0]  # the unit, so that no line search leaves the range of float64
    found = scipy.optimize.minimize(
        lambda masses: tuple(part / first for part in value(masses)), start, jac=True,
        method="L-BFGS-B", bounds=[(0, None)] * len(gains),
        options=dict(ftol=0.0, gtol=1e-13, maxiter=10_000, maxfun=100_000),
    )  # fmt: skip
    masses = np.maximum(found.x, 0.0)
    for _ in range(NEWTON_STEPS):
        slope, free = value(masses)[1], masses > 0
        logs = np.log(sizes) - masses @ gains
        wrong = np.exp(logs - np.logaddexp(0.0, scipy.special.logsumexp(logs)))
        bend = (gains * wrong) @ gains.T - np.outer(gains @ wrong, gains @ wrong)
        curved = bend[np.ix_(free, free)] * unit / lam
        step = np.zeros(len(masses))
        step[free] = np.linalg.lstsq(curved, -slope[free], rcond=FLAT)[0]
        left = -slope[free] - curved @ step[free]
        size = np.abs(left).max(initial=0.0)
        if size > STRAIGHT * np.abs(slope[free]).max(initial=0.0):
            step[free] = left / size * masses.sum() / STRAIGHT  # as far as it goes
        ends = masses + step < 0  # one that would fall below 0 ends there, and is no longer free
        if ends.any():
            share = masses[ends] / -step[ends]
            masses = np.maximum(masses + share.min() * step, 0.0)
            masses[np.flatnonzero(ends)[share.argmin()]] = 0.0
            continue
        moved = masses + step
        if not np.abs(value(moved)[1][free]).max(initial=0) < np.abs(slope[free]).max(initial=0):
            break
        masses = moved
    return masses / unit


def _margin(group: Group, params: Params, activation: Activation) -> float:
    """min f_ab − f_c over the table, over ‖Θ‖^order, in float64."""
    smallest = min(pairs.min() for pairs in _margin_pairs(group, params, activation))
    return float(smallest / _mass(params, activation))


def _objective(group: Group, params: Params, lam: float, activation: Activation) -> float:
    losses = [
        np.log1p(np.exp(scipy.special.logsumexp(-pairs, axis=1)))
        for pairs in _margin_pairs(group, params, activation)
    ]
    return float(np.mean(losses) + lam * _mass(params, activation))


def _mass(params: Params, activation: Activation) -> float:
    """Σ‖ω‖^order over the neurons."""
    first, last = params
    squares = np.sum(first**2, axis=0) + np.sum(last**2, axis=1)
    return float(np.sum(squares ** (ACTIVATIONS[activation][1] / 2)))


def _margin_pairs(group: Group, params: Params, activation: Activation) -> Iterator[np.ndarray]:
    """f_ab − f_c for every b and wrong answer c, of shape (n, n − 1), a after a."""
    first, last = params
    n, function = group.order, ACTIVATIONS[activation][0]
    for a, labels in enumerate(group.table):
        outputs = function(first[a] + first[n:]) @ last
        own = np.arange(n) == labels[:, None]
        yield outputs[own][:, None] - outputs[~own].reshape(n, n - 1)


def _certificate(
    group: Group, lower: float, upper: float, found: Solved, weights: np.ndarray
) -> Certificate:
    if lower > upper:
        raise CrossingBounds(f"lower must be at most upper, got {lower} and {upper}")
    gap = (upper - lower) / upper
    kind: Kind = "exact" if gap <= CLOSED else "certified"
    kind = kind if found.is_proved else "heuristic"
    dual = _by_element(group, game(group), weights)
    return Certificate(lower, upper, gap, kind, found.primal, dual)
