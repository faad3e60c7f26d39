"""Several classes: max margins and minima of two-layer ReLU networks with an output a class.

f(x) = Σⱼ wⱼ relu(uⱼᵀx) with w in R^k; the margins of a sample of class y are f_y − f_c for all
other classes c. As with one output ‖Θ‖² ≥ 2V, V = Σ ‖uⱼ‖‖wⱼ‖, with equality where neurons are
balanced. Weights α_ic ≥ 0 of the margins, 0 at the own class, give every sample the vector
aᵢ = Σ_c α_ic (e_y − e_c). With M(α) = max over ‖u‖ ≤ 1 of ‖Σ relu(uᵀxᵢ) aᵢ‖, by weak duality,

- margin: γ* ≤ ½ M(α) for all α with Σα = 1;
- minimum of mean cross-entropy + λ‖Θ‖², by log Σ e^(−q) = max over π of H(π) − Σ πq:
  F* ≥ mean H(πᵢ) for all distributions πᵢ on the classes with M(π/n) ≤ 2λ, πᵢ at the own class
  left out of M. The best π are the softmax of f.

**The oracle.** On a face of the arrangement (`enumeration`) the sum is a linear map B of u, and an
inner maximum of ‖Bu‖ on the unit sphere of the face's span is a top singular vector. Where the two
largest singular values agree, a circle of vectors is worth as much, and leaves the face at a
smaller one. So M is the largest top singular value among faces whose vector is single and lies in
the face.

Its vectors are the neurons' directions, of which the best network is a convex programme (`convex`);
more are found under its weights, until none is worth more.

Source: derived here; Pilanci and Ergen (ICML 2020) for one output.
"""

from typing import NamedTuple

import flint
import numpy as np
import scipy

from ntkreg._types import Params
from ntkreg.certificates import convex, two_layer
from ntkreg.certificates.balls import above, below, precision
from ntkreg.certificates.column_generation import NOTHING, Bound, Found, Step, generated
from ntkreg.certificates.convex import Programme
from ntkreg.certificates.enumeration import (
    Faces,
    arranged,
    exact_rank,
    row_exponents,
    row_space,
    top_vectors,
)
from ntkreg.certificates.proofs import outputs, squared_norm
from ntkreg.kernels.kernel_machines import NotSeparable

EPS = float(np.finfo(float).eps)
DOUBLE = 1e-8  # relative distance of squared singular values up to which they count as one
SEPARABLE = 1e-9  # margin of the rows at unit length up to which it may be zero
NEAR = 1e-3  # gap to which the max margin is solved for where a minimum starts
NEW = 40  # neurons taken in a round
NEGLIGIBLE = 1e-10  # share of V below which a neuron is what the solver left of zero


class Samples(NamedTuple):
    """Samples of k classes, x of shape (n, d) with its faces, and the bounds' allowance.

    Attributes:
      x: the rows over a power of two, the longest of length about 1.
      labels: 0 … k − 1.
      known: the faces of the rows, each over a power of two, itself of length about 1.
      exponents: of these powers; row i of x is 2^exponentsᵢ times that of `known`.
      lost: of each row, by how much it is off.
    """

    x: np.ndarray
    labels: np.ndarray
    num_classes: int
    known: Faces
    exponents: np.ndarray
    lost: np.ndarray

    def vectors(self, weights: np.ndarray) -> np.ndarray:
        """a of weights α of shape (n, k), by sample."""
        own = np.arange(self.num_classes) == self.labels[:, None]
        return np.where(own, weights.sum(axis=1, keepdims=True), -weights)


class Peaks(NamedTuple):
    """Unit vectors u with the longest Σ relu(uᵀxᵢ) aᵢ, best first, and a bound of the length."""

    units: np.ndarray
    upper: float


class Solved(NamedTuple):
    """A network, weights of shape (n, k), and the bounds that these prove.

    Attributes:
      weights: α of the max margin, on the simplex; of a minimum π, 0 at the own class.
      patterns: how many activation patterns there are.
    """

    primal: Params
    weights: np.ndarray
    lower: float
    upper: float
    patterns: int


def widest(x: np.ndarray, labels: np.ndarray, tolerance: float, max_rounds: int) -> Solved:
    """The max margin min over c ≠ y of f_y − f_c at ‖Θ‖ ≤ 1.

    Raises:
      NotSeparable: where weights bound the margin of the rows at unit length by 1e-9.
      ValueError: for a single class, or too many faces.
    """
    samples, exponent, basis = _samples(x, labels)
    found = _widest(samples, tolerance / 2, max_rounds)
    primal = basis @ found.network[0], found.network[1]
    with precision():
        margin, size = _exact_margins(primal, x, labels).min(), squared_norm(primal)
        lower = below(margin / size) if size > 0 else 0.0
    largest = peaks(samples, found.dual).upper
    upper = float(np.ldexp(largest / (2 * found.dual.sum()) * (1 + 64 * EPS), exponent))
    return Solved(primal, found.dual, lower, upper, _patterns(samples))


def least(
    x: np.ndarray, labels: np.ndarray, lam: float, tolerance: float, max_rounds: int
) -> Solved:
    """The minimum of mean cross-entropy + λ‖Θ‖².

    Raises:
      ValueError: for a single class, or too many faces.
    """
    samples, exponent, basis = _samples(x, labels)
    own_lam = float(np.ldexp(lam, -exponent))
    found = _least(samples, own_lam, tolerance / 2, max_rounds)
    root = 2.0 ** (-exponent / 2)
    primal = basis @ found.network[0] * root, found.network[1] * root
    with precision():
        losses = [sum((-q).exp() for q in row).log1p() for row in _exact_margins(primal, x, labels)]
        cost = flint.arb(lam) * squared_norm(primal)
        upper = above(sum(losses, flint.arb(0)) / len(losses) + cost)
    largest = peaks(samples, found.dual / len(x)).upper
    share = min(1.0, 2 * own_lam / largest) if largest > 0 else 1.0
    lower = _entropy(share * found.dual) * (1 - 64 * EPS)
    return Solved(primal, found.dual, lower, upper, _patterns(samples))


def limit_bound(weights: np.ndarray, margin: float, lam: float) -> float:
    """What weights that bound the max margin by `margin` prove of the minimum of F_λ, from below.

    M(π/n) = 2λ at π = λnα/margin, Σα = 1, or less where a row of π would pass 1. As λ → 0 its
    distance from the minimum vanishes, relative to it.
    """
    share = lam * len(weights) / (margin * weights.sum())
    share = min(share, 1 / float(weights.sum(axis=1).max()))
    return _entropy(share * weights) * (1 - 64 * EPS)


def _exact_margins(primal: Params, x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """f_y − f_c of all samples and other classes in balls, shape (n, k − 1)."""
    first, last = primal
    f = np.stack([outputs((first, column[:, None]), x) for column in last.T], axis=1)
    return np.array([row[y] - np.delete(row, y) for row, y in zip(f, labels, strict=True)])


def _entropy(weights: np.ndarray) -> float:
    """Mean H(πᵢ), of π without the own class, which has what is left of 1."""
    rest = np.minimum(weights.sum(axis=1), 1.0)
    own = -scipy.special.xlog1py(1.0 - rest, -rest)
    return float(np.mean(scipy.special.entr(weights).sum(axis=1) + own))


# The oracle ---------------------------------------------------------------------------------------


def peaks(samples: Samples, weights: np.ndarray, floor: float = 0.0) -> Peaks:
    """The maxima of ‖Σ relu(uᵀxᵢ) aᵢ‖ that are above the floor, and M(α), from above.

    Computed in float64. Errors of B are of size e = O(ε) Σ ‖aᵢ‖‖xᵢ‖, magnified where rows are
    nearly dependent; those of its top vector of size e σ₁/(σ₁² − σ₂²), by which it may seem to lie
    outside its face.
    """
    known, a = samples.known, samples.vectors(weights)
    sizes = np.linalg.norm(a, axis=1)
    total, missed = sizes @ np.linalg.norm(samples.x, axis=1), float(sizes @ samples.lost)
    a = np.ldexp(a, samples.exponents[:, None])
    maps = np.maximum(known.signs, 0) @ (a[:, :, None] * known.x[:, None, :]).reshape(len(a), -1)
    values, z = top_vectors(maps.reshape(len(maps), a.shape[1], -1), _spans(known))
    top, gap = np.sqrt(np.maximum(values[:, -1], 0.0)), values[:, -1] - values[:, -2]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = 16 * sum(known.x.shape) * EPS * total * (1 + known.condition[known.flat])
        reach = 8 * error * top / gap
    z *= np.where(_depth(known, z) >= _depth(known, -z), 1.0, -1.0)[:, None]
    entered = ~(_depth(known, z) < -reach)
    units = z[entered]
    found = np.linalg.norm(np.maximum(units @ known.x.T, 0.0) @ a, axis=1)
    best = found.max(initial=0.0)
    is_double = gap < DOUBLE * values[:, -1]
    left_out = is_double & (top + error > best)
    upper = max(best, float((top + error)[entered & ~is_double].max(initial=0.0)))
    lost = known.x.shape[1] * float((gap[left_out] / values[left_out, -1]).max(initial=0.0))
    order = np.argsort(-found)
    order = order[found[order] > floor][:NEW]
    upper = upper * (1 + lost) + missed
    return Peaks(units[order], upper if upper == upper else np.inf)


def _spans(known: Faces) -> np.ndarray:
    normals = known.normals
    return (np.eye(known.x.shape[1]) - normals.swapaxes(1, 2) @ normals)[known.flat]


def _depth(known: Faces, z: np.ndarray) -> np.ndarray:
    """How far inside its face each vector lies, negative where outside."""
    return np.where(known.signs == 0, np.inf, known.signs * (z @ known.x.T)).min(axis=1)


def _patterns(samples: Samples) -> int:
    return int((samples.known.codimension[samples.known.flat] == 0).sum())


def _samples(x: np.ndarray, labels: np.ndarray) -> tuple[Samples, int, np.ndarray]:
    """(the samples over 2^exponent, that exponent, what leads back from their coordinates).

    They are those of the row space where x has more dimensions by rounding alone.
    """
    num_classes = int(labels.max()) + 1
    if num_classes < 2:
        raise ValueError("data.y must name at least two classes, got 0 throughout")
    exponent = int(row_exponents(x).max())
    whole = np.ldexp(x, -exponent)
    points, basis = row_space(whole)
    lost = np.linalg.norm(whole - points @ basis.T, axis=1)
    lost += 32 * sum(x.shape) * EPS * np.linalg.norm(whole, axis=1)
    if exact_rank(whole) == basis.shape[1]:
        points, basis, lost = whole, np.eye(x.shape[1]), 0 * lost
    exponents = row_exponents(points)
    known = arranged(np.ldexp(points, -exponents[:, None]))
    return Samples(points, labels, num_classes, known, exponents, lost), exponent, basis


# The search ---------------------------------------------------------------------------------------


class Directions(NamedTuple):
    """Unit vectors u of neurons, shape (m, d)."""

    units: np.ndarray

    def __len__(self) -> int:
        return len(self.units)

    def chosen(self, kept: np.ndarray) -> "Directions":
        """Those that a mask keeps."""
        return Directions(self.units[kept])


def _widest(samples: Samples, tolerance: float, max_rounds: int) -> Found:
    """The max margin of the scaled samples, negated."""
    lengths, scale = np.linalg.norm(samples.x, axis=1), 2.0

    def solve(directions: Directions, vectors: np.ndarray) -> Step:
        nonlocal scale
        vectors, alpha = convex.widest(_programme(samples, directions), scale)
        network = _network(directions, vectors)
        margin = float(_margins(samples, network).min()) / (two_layer.squared_norm(network) or 1.0)
        scale = 1.0 / max(2 * margin, 1e-3 / scale)
        return Step(vectors, network, -margin, _by_class(samples, alpha), 2 * margin, bound)

    def bound(weights: np.ndarray, largest: float) -> Bound:
        if largest / 2 <= SEPARABLE * float(weights.sum(axis=1) @ lengths):
            raise NotSeparable(
                "data must be separable by a network: weights on the samples bound the normalized "
                f"margin of the rows at unit length by {SEPARABLE}"
            )
        return Bound(-largest / 2, weights, largest)

    return _generated(samples, *_first(samples), solve, tolerance, max_rounds, NOTHING)


def _least(samples: Samples, lam: float, tolerance: float, max_rounds: int) -> Found:
    """The minimum of F_λ of the scaled samples, from the max-margin network where there is one.

    On its neurons all margins can grow, as a small λ needs.
    """
    count, rows = len(samples.labels), (len(samples.labels), samples.num_classes - 1)
    of_lam = lambda g: lambda q: g(q.reshape(rows)) / lam
    losses = of_lam(_loss), of_lam(_slope), of_lam(_curvature)

    def solve(directions: Directions, vectors: np.ndarray) -> Step:
        vectors, dual = convex.least(_programme(samples, directions), losses, 2.0, vectors)
        network = _network(directions, vectors)
        value = float(np.mean(_loss(_margins(samples, network))))
        value += lam * two_layer.squared_norm(network)
        weights = _by_class(samples, np.maximum(dual, 0.0) / count)
        return Step(vectors, network, value, weights, 2.0, bound)

    def bound(weights: np.ndarray, largest: float) -> Bound:
        probabilities = count * lam * weights
        share = 1 / max(1.0, largest / 2, float(probabilities.sum(axis=1).max()))
        return Bound(_entropy(share * probabilities), share * probabilities, share * largest)

    try:
        units, vectors = _scaled(samples, _widest(samples, NEAR, max_rounds).network, lam)
    except NotSeparable:
        units, vectors = _first(samples)
    known = NOTHING._replace(dual=_uniform(samples) * 0, bound=0.0)
    return _generated(samples, units, vectors, solve, tolerance, max_rounds, known)


def _first(samples: Samples) -> tuple[Directions, np.ndarray]:
    """The directions that are worth most under equal weights, and no output vectors."""
    units = peaks(samples, _uniform(samples)).units
    if not len(units):  # none gains anything at first: begin with any
        longest = samples.x[np.argmax(np.linalg.norm(samples.x, axis=1))]
        units = longest[None] / np.linalg.norm(longest)
    return Directions(units), np.zeros((len(units), samples.num_classes))


def _scaled(samples: Samples, primal: Params, lam: float) -> tuple[Directions, np.ndarray]:
    """Directions and vectors of the multiple of a network with the smallest F_λ."""
    first, last = primal
    lengths, cost = np.linalg.norm(first, axis=0), two_layer.squared_norm(primal)
    q = _margins(samples, primal)
    if q.min() <= 0:
        return _first(samples)
    scale = two_layer.best_scale(lambda t: np.mean(_loss(t * q)) / lam + t * cost, q.min(), lam)
    return Directions((first / lengths).T), scale * lengths[:, None] * last


def _generated(samples: Samples, units, vectors, solve, tolerance, max_rounds, found) -> Found:
    def price(step: Step, units: Directions) -> tuple[float, int, Directions]:
        best = peaks(samples, step.weights, step.worth * (1 + tolerance / 2))
        return best.upper, 0, Directions(np.concatenate([units.units, best.units]))

    found = generated(price, units, vectors, solve, tolerance, max_rounds, found)
    return found._replace(network=_fewest(samples, found.network))


def _fewest(samples: Samples, primal: Params) -> Params:
    """The network with at most as many neurons as there are margins, and the same margins."""
    first, last = primal
    lengths, sizes = np.linalg.norm(first, axis=0), np.linalg.norm(last, axis=1)
    units, ends = Directions((first / lengths).T), last / sizes[:, None]
    programme = _programme(samples, units)
    features = programme.features.reshape(-1, *ends.shape)
    mass = two_layer.fewest(np.einsum("pmk,mk->pm", features, ends), lengths * sizes)
    return _network(units, mass[:, None] * ends)


def _uniform(samples: Samples) -> np.ndarray:
    return _others(samples) / _others(samples).sum()


def _others(samples: Samples) -> np.ndarray:
    """The classes other than each sample's own, shape (n, k)."""
    return np.arange(samples.num_classes) != samples.labels[:, None]


def _by_class(samples: Samples, weights: np.ndarray) -> np.ndarray:
    """Weights of all margins, in one row, in shape (n, k)."""
    found = np.zeros((len(samples.labels), samples.num_classes))
    found[_others(samples)] = weights
    return found


def _programme(samples: Samples, directions: Directions) -> Programme:
    """All margins as functions of the output vectors, one of each direction."""
    hidden = np.maximum(samples.x @ directions.units.T, 0.0)
    sample, other = np.nonzero(_others(samples))
    pairs = np.eye(samples.num_classes)
    pairs = pairs[samples.labels[sample]] - pairs[other]
    features = hidden[sample][:, :, None] * pairs[:, None, :]
    features = features.reshape(len(sample), -1)
    return Programme(features, scipy.sparse.csc_matrix((0, features.shape[1])), pairs.shape[1])


def _network(directions: Directions, vectors: np.ndarray) -> Params:
    """The balanced network with these output vectors."""
    mass = np.linalg.norm(vectors, axis=1)
    used = mass > NEGLIGIBLE * mass.sum()
    root = np.sqrt(mass[used])[:, None]
    return (directions.units[used] * root).T, vectors[used] / root


def _margins(samples: Samples, primal: Params) -> np.ndarray:
    """f_y − f_c of all other classes, shape (n, k − 1)."""
    first, last = primal
    f = np.maximum(samples.x @ first, 0.0) @ last
    own = f[np.arange(len(f)), samples.labels]
    return (own[:, None] - f)[_others(samples)].reshape(len(f), -1)


# The cross-entropy as a function of margins q, shape (n, k − 1) -----------------------------------


def _loss(q: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, scipy.special.logsumexp(-q, axis=1))


def _probabilities(q: np.ndarray) -> np.ndarray:
    return np.exp(-q - _loss(q)[:, None])


def _slope(q: np.ndarray) -> np.ndarray:
    return -_probabilities(q).ravel()


def _curvature(q: np.ndarray) -> np.ndarray:
    blocks = [np.diag(p) - np.outer(p, p) for p in _probabilities(q)]
    return scipy.linalg.block_diag(*blocks)
