"""The semidefinite programmes of quadratic forms xᵀAx, by an interior-point method.

max t with yᵢxᵢᵀAxᵢ ≥ t and ‖A‖_* ≤ 1, min mean ℓᵢ(xᵢᵀAxᵢ)/μ + ‖A‖_*, and their duals over weights c
with ‖Σ cᵢxᵢxᵢᵀ‖_op ≤ θ. With A = P − N, P, N ⪰ 0, and slacks S₊ = θ − C, S₋ = θ + C, C = Σ cᵢxᵢxᵢᵀ,
both are solved alike: PS₊ = NS₋ = τ is followed to τ = 0 by Nesterov and Todd's directions. Since
xᵢxᵢᵀ has rank one, a step is a system of about n unknowns: dP changes the outputs by −Σⱼ
dcⱼ(xᵢᵀWxⱼ)², W of the scaling. Near the end W is of size 1/√τ on P's own space; the products of its
directions stay unknowns of their own, so that no digits are lost.

Sources: Todd, Toh, Tütüncü (SIAM J. Optimization 1998) for the direction; Mehrotra (SIAM J.
Optimization 1992) for predictor and corrector.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from ntkreg.certificates.proofs import DUALS

SEPARABLE = 1e-12  # the margin of the rows at unit length from which data count as separable
STEPS, STALLED = 100, 12  # of the interior-point method: at most, and without a better bound
NUDGE = 1e-15  # of the balanced equations
BOTH = np.array([1.0, -1.0])  # the signs of P and N


class Solution(NamedTuple):
    """The best form found, shape (d, d), and the best weights c, shape (n,), with their bounds."""

    form: np.ndarray
    value: float
    weights: np.ndarray
    bound: float


class State(NamedTuple):
    """An iterate: P and N, shape (2, d, d), c, its slack, θ and t."""

    parts: np.ndarray
    weights: np.ndarray
    slack: np.ndarray
    theta: float = 1.0
    t: float = 0.0


class Step(NamedTuple):
    """Changes of a state; those of P, N and of S₊, S₋ in the coordinates of the scaling."""

    parts: np.ndarray
    duals: np.ndarray
    weights: np.ndarray
    slack: np.ndarray
    theta: float
    t: float


class Rules(NamedTuple):
    """What one problem adds to the method.

    Attributes:
      bounds: state -> (value of its form, which is to be as large as it can be, bound of its c).
      outputs: state -> (the outputs that belong to the weights, minus their derivative by these),
        the slack apart.
      room: (state, step) -> how far slack and weights may go at most, in multiples of the step.
      paired: whether slack∘c = τ, so that c keeps its signs; else there is no slack.
      shares: of t in the outputs, with the labels' signs; None where there is no t and θ = 1.
    """

    bounds: Callable[[State], tuple[float, float]]
    outputs: Callable[[State], tuple[np.ndarray, np.ndarray]]
    room: Callable[[State, Step], tuple[float, float]]
    paired: bool
    shares: np.ndarray | None = None


def widest_form(x: np.ndarray, y: np.ndarray, shares: np.ndarray, tolerance: float) -> Solution:
    """max t with yᵢxᵢᵀAxᵢ ≥ t·sharesᵢ, ‖A‖_* ≤ 1; c = αy with α ≥ 0 and Σ αᵢ·sharesᵢ = 1.

    The rows have length 1.
    """

    def bounds(state: State) -> tuple[float, float]:
        value = margin_of(x, y, shares, state.parts[0] - state.parts[1])
        return value, operator_norm(form_of(x, state.weights)) / float(shares @ (y * state.weights))

    def outputs(state: State) -> tuple[np.ndarray, np.ndarray]:
        return state.t * y * shares, 0 * y

    def room(state: State, step: Step) -> tuple[float, float]:
        return _ratio(state.slack, step.slack), _ratio(state.weights, step.weights)

    (n, d), spread = x.shape, float(shares.sum())
    theta = 1.5 * operator_norm(form_of(x, y / spread)) + 1e-3 * n / spread
    start = State(_identities(d) / (2 * d), y / spread, theta * y, theta, -theta)
    return _followed(x, start, Rules(bounds, outputs, room, True, y * shares), tolerance)


def least_form(x: np.ndarray, y: np.ndarray, loss: str, mu: float, tolerance: float) -> Solution:
    """min mean ℓᵢ(xᵢᵀAxᵢ)/μ + ‖A‖_*, negated; c = b/(nμ). The largest entry of x is near 1."""
    dual, scale = DUALS[loss], len(y) * mu
    inverse = _log_odds if loss == "logistic" else (lambda b, y: y - b / 2)

    def bounds(state: State) -> tuple[float, float]:
        form, c = state.parts[0] - state.parts[1], state.weights
        value = float(np.mean(dual.value(outputs_of(x, form), y) / mu)) + nuclear_norm(form)
        c = c / max(1.0, operator_norm(form_of(x, c)))
        return -value, -float(np.mean(dual.dual_value(scale * c, y) / mu))

    def outputs(state: State) -> tuple[np.ndarray, np.ndarray]:
        f = inverse(scale * state.weights, y)
        return f, scale / dual.curvature(f, y)

    def room(state: State, step: Step) -> tuple[float, float]:
        if loss == "squared":
            return np.inf, np.inf
        a, da = y * state.weights, y * step.weights
        dual = min(_ratio(a, da), _ratio(1 / scale - a, -da))
        return _ratio(state.slack, step.slack), dual

    slope = -dual.slope(0 * y, y)
    half = 0.5 / max(scale, operator_norm(form_of(x, slope)))
    start = State(_identities(x.shape[1]), half * slope, 0 * y)
    most = float(np.mean(dual.value(0 * y, y)) / mu)  # of ‖A‖_*
    size = min(float(np.abs(outputs(start)[0]).max()), most) or 1.0
    start = start._replace(parts=start.parts * size)
    if loss == "logistic":
        start = start._replace(slack=size / start.weights)
    return _followed(x, start, Rules(bounds, outputs, room, loss == "logistic"), tolerance)


def _log_odds(b: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The output at which −ℓ′ of the logistic loss is b."""
    return y * (np.log1p(-y * b) - np.log(y * b))


def _followed(x: np.ndarray, state: State, rules: Rules, tolerance: float) -> Solution:
    """The best form and weights on the way from `state` along the central path."""
    best, stalled = Solution(0 * state.parts[0], -np.inf, state.weights, np.inf), 0
    for _ in range(STEPS):
        best, stalled = _bettered(best, state, rules, stalled)
        if stalled > STALLED or best.bound - best.value <= tolerance * abs(best.value):
            break
        if rules.shares is not None and operator_norm(form_of(x, best.weights)) <= (
            SEPARABLE / 10 * np.abs(best.weights).sum()
        ):
            break  # nothing separates
        try:
            system = _system(x, state, rules)
        except np.linalg.LinAlgError:  # float64 has no more digits
            break
        state = _advanced(system, state, rules)
    return best


def _bettered(best: Solution, state: State, rules: Rules, stalled: int) -> tuple[Solution, int]:
    """The better of both on either side, and for how many steps the gap has not become smaller."""
    value, bound = rules.bounds(state)
    gap = best.bound - best.value
    if value > best.value:
        best = best._replace(form=state.parts[0] - state.parts[1], value=value)
    if bound < best.bound:
        best = best._replace(weights=state.weights, bound=bound)
    return best, 0 if best.bound - best.value < gap * (1 - 1e-3) else stalled + 1


class System(NamedTuple):
    """The equations of a step at one state, factored.

    G of the scaling W = GGᵀ has GᵀSG = G⁻¹PG⁻ᵀ = diag(spectrum). GR has orthogonal columns, of
    which the `large` ones are P's own space near the end.

    Attributes:
      scaling, spectrum, rotation: G, the diagonal, R; for P and for N.
      points: the rows GRᵀxᵢ.
      metric: RᵀGᵀGR.
      large: which columns of GR are large, shape (2, d).
      matrix, balance, factors: of the equations; balance·matrix·balance is what is factored.
    """

    scaling: np.ndarray
    spectrum: np.ndarray
    rotation: np.ndarray
    points: np.ndarray
    metric: np.ndarray
    large: np.ndarray
    matrix: np.ndarray
    balance: np.ndarray
    factors: tuple


def _system(x: np.ndarray, state: State, rules: Rules) -> System:
    """The equations for (dc, Y of the large pairs, dθ, dt), where Y = −dS in coordinates of GR.

    With all products Y would be n + d(d + 1) equations that stay well-conditioned to the end, and
    with none n. Those of the large columns alone keep the digits.
    """
    slacks = state.theta * np.eye(x.shape[1]) - BOTH[:, None, None] * form_of(x, state.weights)
    scaling, spectrum = _scaling(state.parts, slacks)
    rotation = _transposed(np.linalg.svd(scaling)[2])
    columns = scaling @ rotation
    middle = (_norms(state.parts).max() / _norms(slacks).max()) ** 0.5
    large = np.sum(columns**2, axis=1) > 10 * middle
    points, metric = x @ columns, _transposed(columns) @ columns
    diagonal = rules.outputs(state)[1]
    if rules.paired:
        diagonal = diagonal + state.slack / state.weights
    matrix = _matrix(points, metric, large, diagonal, rules.shares)
    balance = _balance(matrix)
    scaled = matrix * balance * balance[:, None]
    scaled[np.diag_indices(len(x))] += NUDGE  # where weights are not unique nothing else is there
    factors = scipy.linalg.lu_factor(scaled, overwrite_a=True)
    return System(scaling, spectrum, rotation, points, metric, large, matrix, balance, factors)


def _matrix(
    points: np.ndarray,
    metric: np.ndarray,
    large: np.ndarray,
    diagonal: np.ndarray,
    shares: np.ndarray | None,
) -> np.ndarray:
    """The symmetric matrix of the equations: of the outputs, of Y, of tr(P + N) = 1, of Σ = 1."""
    inner = np.diag(diagonal)
    for part, own in zip(points, large, strict=True):
        of_large, of_small = (part[:, some] @ part[:, some].T for some in (own, ~own))
        inner += (2 * of_large + of_small) * of_small  # (a + b)² − a² without its cancellation
    packed = [_packed(part[:, own]) for part, own in zip(points, large, strict=True)]
    pairs = np.concatenate([packed[0], -packed[1]], axis=1)
    matrix = np.block([[inner, pairs], [pairs.T, -np.eye(pairs.shape[1])]])
    if shares is None:
        return matrix
    rest = np.where(large[:, :, None] & large[:, None, :], 0.0, metric)
    traces = BOTH @ np.sum((points @ rest) * points, axis=2)
    of_pairs = [_upper(part[own][:, own]) for part, own in zip(metric, large, strict=True)]
    first = np.concatenate([traces, *of_pairs])
    second = np.concatenate([shares, np.zeros(pairs.shape[1])])
    edge = -np.stack([first, second], axis=1)
    return np.block([[matrix, edge], [edge.T, np.diag([np.sum(rest**2), 0.0])]])


def _direction(
    system: System, state: State, rules: Rules, tau: float, bend: np.ndarray, turn: np.ndarray
) -> Step:
    """The step to PS = τ, where `bend` and `turn` are the second order of slack and of parts."""
    target, n = _diagonals(tau / system.spectrum) - turn, len(state.weights)
    outputs = rules.outputs(state)[0]
    if rules.paired:
        outputs = outputs + (tau - bend) / state.weights
    solution = _solution(system, _right(system, state, rules, target, outputs))
    theta, t = (0.0, 0.0) if rules.shares is None else solution[-2:]
    change = _change(system, solution[:n], solution[n:], theta)
    slack = 0 * state.slack
    if rules.paired:
        slack = (tau - bend - state.slack * solution[:n]) / state.weights - state.slack
    parts = target - _diagonals(system.spectrum) + change
    return Step(parts, -change, solution[:n], slack, float(theta), float(t))


def _right(
    system: System, state: State, rules: Rules, target: np.ndarray, outputs: np.ndarray
) -> np.ndarray:
    turned = _transposed(system.rotation) @ target @ system.rotation
    right = np.zeros(len(system.matrix))
    reached = BOTH @ np.sum((system.points @ turned) * system.points, axis=2)
    right[: len(outputs)] = outputs - reached
    if rules.shares is not None:
        right[-2:] = np.sum(system.metric * turned) - 1, rules.shares @ state.weights - 1
    return right


def _change(system: System, weights: np.ndarray, pairs: np.ndarray, theta: float) -> np.ndarray:
    """Y = −dS in the coordinates of G, of the large pairs as they were solved for."""
    change = np.stack(
        [form_of(part, sign * weights) for sign, part in zip(BOTH, system.points, strict=True)]
    )
    change = change - theta * system.metric
    start = 0
    for part, own in zip(change, system.large, strict=True):
        size = int(own.sum())
        end = start + size * (size + 1) // 2
        part[np.ix_(own, own)] = _unpacked(pairs[start:end], size)
        start = end
    return system.rotation @ change @ _transposed(system.rotation)


def _solution(system: System, right: np.ndarray) -> np.ndarray:
    """Of the equations, refined once."""
    solve = lambda b: system.balance * scipy.linalg.lu_solve(system.factors, system.balance * b)
    first = solve(right)
    return first + solve(right - system.matrix @ first)


def _advanced(system: System, state: State, rules: Rules) -> State:
    """The next state: Mehrotra's predictor says how far τ can fall and how the path bends."""
    middle, c = _diagonals(system.spectrum), state.weights
    step = _direction(system, state, rules, 0.0, 0 * c, 0 * middle)
    primal, dual = _room(system, state, rules, step, 1.0)
    now = float(np.sum(system.spectrum**2) + c @ state.slack)
    of_parts = np.sum((middle + primal * step.parts) * (middle + dual * step.duals))
    of_slack = (c + dual * step.weights) @ (state.slack + primal * step.slack)
    left = min(max(float(of_parts + of_slack) / now, 0.0), 1.0)
    count = system.spectrum.size + (len(c) if rules.paired else 0)
    tau = max(left**3, 1e-8) * now / count
    turn = _second_order(step, system.spectrum)
    step = _direction(system, state, rules, tau, step.weights * step.slack, turn)
    primal, dual = _room(system, state, rules, step, min(max(0.9, 1 - left), 0.99))
    moved = system.scaling @ step.parts @ _transposed(system.scaling)
    return State(
        symmetric(state.parts + primal * moved),
        c + dual * step.weights,
        state.slack + primal * step.slack,
        state.theta + dual * step.theta,
        state.t + primal * step.t,
    )


def _room(
    system: System, state: State, rules: Rules, step: Step, share: float
) -> tuple[float, float]:
    """How far to go: not beyond the step, nor beyond this share of the way to the border."""
    of_forms, of_weights = rules.room(state, step)
    primal = min(of_forms, _reach(system.spectrum, step.parts))
    dual = min(of_weights, _reach(system.spectrum, step.duals))
    return min(1.0, share * primal), min(1.0, share * dual)


def _reach(spectrum: np.ndarray, change: np.ndarray) -> float:
    """The largest a with diag(spectrum) + a·change ⪰ 0."""
    root = np.sqrt(spectrum)
    least = float(np.linalg.eigvalsh(change / root[:, :, None] / root[:, None, :]).min())
    return -1 / least if least < 0 else np.inf


def _ratio(values: np.ndarray, change: np.ndarray) -> float:
    """The largest a at which values + a·change have the signs of the values."""
    least = float((change / values).min())
    return -1 / least if least < 0 else np.inf


def _second_order(step: Step, spectrum: np.ndarray) -> np.ndarray:
    """Z with spectrum ∘ Z = dP ∘ dS, where A ∘ B = (AB + BA)/2."""
    return 2 * symmetric(step.parts @ step.duals) / (spectrum[:, :, None] + spectrum[:, None, :])


def _scaling(parts: np.ndarray, slacks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(G, spectrum) with GᵀSG = G⁻¹PG⁻ᵀ = diag(spectrum)."""
    of_parts, of_slacks = np.linalg.cholesky(parts), np.linalg.cholesky(slacks)
    _, spectrum, right = np.linalg.svd(_transposed(of_slacks) @ of_parts)
    return of_parts @ _transposed(right) / np.sqrt(spectrum)[:, None, :], spectrum


def _balance(matrix: np.ndarray) -> np.ndarray:
    """Factors of rows and columns that bring the largest entry of each near 1 (Ruiz)."""
    factors = np.ones(len(matrix))
    for _ in range(3):
        largest_entry = np.abs(matrix * factors * factors[:, None]).max(axis=1)
        factors /= np.sqrt(np.where(largest_entry > 0, largest_entry, 1.0))
    return factors


def _packed(points: np.ndarray) -> np.ndarray:
    """The upper triangles of zzᵀ for rows z, packed so that products are those of the forms."""
    i, j = np.triu_indices(points.shape[1])
    return points[:, i] * points[:, j] * np.where(i == j, 1.0, 2**0.5)


def _upper(matrix: np.ndarray) -> np.ndarray:
    """The same of one matrix."""
    i, j = np.triu_indices(len(matrix))
    return matrix[i, j] * np.where(i == j, 1.0, 2**0.5)


def _unpacked(entries: np.ndarray, size: int) -> np.ndarray:
    i, j = np.triu_indices(size)
    matrix = np.zeros((size, size))
    matrix[i, j] = matrix[j, i] = entries / np.where(i == j, 1.0, 2**0.5)
    return matrix


def margin_of(x: np.ndarray, y: np.ndarray, shares: np.ndarray, form: np.ndarray) -> float:
    """min yᵢxᵢᵀAxᵢ/sharesᵢ at ‖A‖_* = 1; 0 of the zero form."""
    return float((y * outputs_of(x, form) / shares).min()) / (nuclear_norm(form) or 1.0)


def form_of(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Σ cᵢxᵢxᵢᵀ."""
    return (x.T * weights) @ x


def outputs_of(x: np.ndarray, form: np.ndarray) -> np.ndarray:
    """xᵢᵀAxᵢ."""
    return np.sum((x @ form) * x, axis=1)


def operator_norm(form: np.ndarray) -> float:
    """‖A‖_op."""
    return float(np.abs(np.linalg.eigvalsh(form)).max())


def nuclear_norm(form: np.ndarray) -> float:
    """‖A‖_*."""
    return float(np.abs(np.linalg.eigvalsh(form)).sum())


def _norms(forms: np.ndarray) -> np.ndarray:
    return np.linalg.norm(forms, 2, axis=(1, 2))


def _identities(size: int) -> np.ndarray:
    return np.stack([np.eye(size)] * 2)


def _diagonals(values: np.ndarray) -> np.ndarray:
    return values[:, :, None] * np.eye(values.shape[1])


def _transposed(matrices: np.ndarray) -> np.ndarray:
    return np.swapaxes(matrices, -1, -2)


def symmetric(matrices: np.ndarray) -> np.ndarray:
    """The symmetric parts."""
    return (matrices + _transposed(matrices)) / 2
