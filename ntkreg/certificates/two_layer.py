"""Two-layer ReLU networks in NumPy float64: their units, and networks of few neurons from them.

f(x) = Σ wⱼ relu(uⱼᵀx). A unit is a pattern of active samples and a sign of its output weight; on
the samples relu is linear in the vector v = |w|u as long as v keeps its pattern. The variation norm
is V = Σ‖v‖; balanced neurons, u = v/√‖v‖ and w = ±√‖v‖, have ‖Θ‖² = 2V, and no others less.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from ntkreg._types import Params

NEGLIGIBLE = 1e-10  # share of V below which a vector is what a solver left of zero
PARALLEL = 1 - 1e-11  # cosine from which two directions are one


class Units(NamedTuple):
    """Patterns (active, shape (units, n), bool) and signs of output weights (shape (units,))."""

    active: np.ndarray
    sign: np.ndarray

    def __len__(self) -> int:
        return len(self.sign)

    def chosen(self, kept: np.ndarray) -> "Units":
        """Those that a mask keeps."""
        return Units(self.active[kept], self.sign[kept])

    def features(self, x: np.ndarray) -> np.ndarray:
        """The matrix of shape (n, units·d) that takes all units' vectors to the outputs."""
        rows = self.active.T[:, :, None] * self.sign[None, :, None] * x[:, None, :]
        return rows.reshape(len(x), -1)


def units_of(x: np.ndarray, vectors: np.ndarray, signs: np.ndarray) -> Units:
    """The units to which these vectors of shape (m, d) belong, each once."""
    active = x @ vectors.T > 0
    rows = np.unique(np.concatenate([active.T, signs[:, None] > 0], axis=1), axis=0)
    return Units(rows[:, :-1], np.where(rows[:, -1], 1.0, -1.0))


def units_and_vectors(x: np.ndarray, params: Params) -> tuple[Units, np.ndarray]:
    """The units of a network, each once, and the vector Σ|w|u of each one's neurons."""
    first, last = params
    signs = np.where(last[:, 0] > 0, 1.0, -1.0)
    units = units_of(x, first.T, signs)
    same = (x @ first > 0).T[:, None] == units.active[None]
    mine = same.all(axis=-1) & (signs[:, None] == units.sign[None])
    return units, mine.T @ (first * np.abs(last[:, 0])).T


def scaled_to_lam(
    x: np.ndarray, y: np.ndarray, params: Params, lam: float
) -> tuple[Units, np.ndarray]:
    """Units and vectors of the multiple of a separating network with the smallest logistic F_λ."""
    units, vectors = units_and_vectors(x, params)
    q, norm = y * outputs(params, x), 2 * np.linalg.norm(vectors, axis=1).sum()
    over_lam = lambda scale: np.mean(np.logaddexp(0.0, -scale * q)) / lam + scale * norm
    return units, best_scale(over_lam, q.min(), lam) * vectors


def best_scale(over_lam: Callable[[float], float], smallest: float, lam: float) -> float:
    """The multiple of a network with this smallest margin > 0 at which F_λ/λ is the least."""
    most = np.log((50.0 - np.log(lam)) / smallest)  # beyond it the loss is nothing
    best = scipy.optimize.minimize_scalar(
        lambda t: np.log(over_lam(np.exp(t))), bounds=(most - 10.0, most), method="bounded"
    )
    return float(np.exp(best.x))


def joined(one: Units, other: Units) -> Units:
    """All units of both, each once, those of `one` first."""
    known = {(row.tobytes(), sign) for row, sign in zip(*one, strict=True)}
    new = [(row.tobytes(), sign) not in known for row, sign in zip(*other, strict=True)]
    other = other.chosen(np.asarray(new, bool))
    return Units(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))


def checked_weights(params: Params, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """(W₁ of shape (d, m), W₂ of shape (m, 1)) of a two-layer network, in float64.

    Raises:
      ValueError: where `params` are not those of such a network, or not finite.
    """
    shapes = [np.shape(p) for p in params] if isinstance(params, tuple | list) else []
    layers = len(shapes) == 2 and len(shapes[0]) == 2
    if not (layers and shapes[0][0] == dim and shapes[1] == (shapes[0][1], 1)):
        raise ValueError(
            f"params must be (W₁, W₂) of a two-layer network, of shapes ({dim}, m) and (m, 1), "
            f"got {shapes or type(params).__name__}"
        )
    first, last = (np.asarray(p, np.float64) for p in params)
    if not (np.isfinite(first).all() and np.isfinite(last).all()):
        raise ValueError("params must be finite, got NaN or infinity among them")
    return first, last


def outputs(params: Params, x: np.ndarray) -> np.ndarray:
    """f(x), shape (n,)."""
    first, last = params
    return (np.maximum(x @ first, 0.0) @ last)[:, 0]


def squared_norm(params: Params) -> float:
    """‖Θ‖²."""
    return sum(float(np.sum(p**2)) for p in params)


def normalized_margin(params: Params, x: np.ndarray, y: np.ndarray) -> float:
    """min yᵢf(xᵢ)/‖Θ‖²; 0 of the zero network."""
    return float(np.min(y * outputs(params, x))) / (squared_norm(params) or 1.0)


def network_of(x: np.ndarray, units: Units, vectors: np.ndarray) -> Params:
    """The balanced network of these vectors, of at most n neurons, with W₁ in the space of x."""
    vectors, sign = _merged(vectors, units.sign)
    mass = np.linalg.norm(vectors, axis=1)
    directions = vectors / mass[:, None]
    mass = fewest(np.maximum(x @ directions.T, 0.0) * sign, mass)
    return balanced(directions.T, mass * sign)


def balanced(directions: np.ndarray, mass: np.ndarray) -> Params:
    """The balanced network Σ massⱼ relu(uⱼᵀx) of unit directions u, shape (d, m)."""
    used = mass != 0
    root = np.sqrt(np.abs(mass[used]))
    return directions[:, used] * root, (np.sign(mass[used]) * root)[:, None]


def _merged(vectors: np.ndarray, sign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of one direction and sign as their sum; those that are next to nothing left out.

    A vector on a hyperplane belongs to the units of both sides, and solvers spread it over them.
    """
    mass = np.linalg.norm(vectors, axis=1)
    order = np.argsort(-mass)
    order = order[mass[order] > NEGLIGIBLE * mass.sum()]
    sums: list[np.ndarray] = []
    signs: list[float] = []
    for i in order:
        near = [
            k
            for k, total in enumerate(sums)
            if signs[k] == sign[i]
            and total @ vectors[i] >= PARALLEL * np.linalg.norm(total) * mass[i]
        ]
        if near:
            sums[near[0]] = sums[near[0]] + vectors[i]
        else:
            sums.append(vectors[i])
            signs.append(float(sign[i]))
    return np.reshape(sums, (-1, vectors.shape[1])), np.asarray(signs)


def fewest(features: np.ndarray, mass: np.ndarray) -> np.ndarray:
    """Masses, at most n of them positive, with the same outputs `features @ mass`, and no more sum.

    While there are more columns than rows, some change of the masses leaves the outputs as they
    are; it is followed, in the direction in which the sum does not grow, until a mass is zero.
    Source: Carathéodory's theorem; for networks Rosset, Swirszcz, Srebro, Zhu (COLT 2007).
    """
    mass = mass.copy()
    while (kept := np.flatnonzero(mass)).size > len(features):
        kept = kept[: len(features) + 1]
        change = np.linalg.svd(features[:, kept])[2][-1]
        change = -change if change.sum() > 0 else change
        falling = np.flatnonzero(change < 0)
        steps = mass[kept[falling]] / -change[falling]
        first = np.argmin(steps)
        mass[kept] = np.maximum(mass[kept] + steps[first] * change, 0.0)
        mass[kept[falling[first]]] = 0.0
    return mass
