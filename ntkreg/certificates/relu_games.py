"""The best ReLU neuron on a group's table, under given weights of the wrong answers, proved.

A neuron (u, v, w) on a group of order n gives f(a, b)[c] = relu(u(a) + v(b)) w(c). Averaged over
the symmetries of the table (`group_games`), it gives wrong answers c with abc⁻¹ in the class C the
margin

    m_C = Σ_x H(x) (w(x) − mean of w(g⁻¹x) over g in C),    H(x) = n⁻² Σ_{ab=x} relu(u(a) + v(b)).

Under weights β of the classes the best w is along r(y) = H(y) − Σ_g β_g H(gy), so that no neuron
with ‖u‖² + ‖v‖² + ‖w‖² = 1 is worth more than

    ½ max over unit z = (u, v) of ‖r(z)‖.

**Proof of the maximum.** The hyperplanes u(a) + v(b) = 0 cut space into cones with finitely many
faces, and a maximum lies in the relative interior of exactly one face. There ‖r‖² is a quadratic
form, and an inner maximum of it on the sphere is a top eigenvector of its restriction to the face's
span. So a face can be left out with all its own faces where that eigenvalue is small enough, and
alone, its own faces still to be searched, where the eigenvector lies outside of it, or where
several are worth as much: a circle of them leaves the face at a smaller one. Once nothing is left
of any cone, no z is worth more, up to rounding.

Cones are pairs of level vectors: u(a) + v(b) > 0 where level(a) + level(b) > k, both with every
level 1 … k in use. By symmetry u and v are largest at the identity.

Source: derived here; Kaneko (1997) for the number of cones, a poly-Bernoulli number.
"""

import functools
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ntkreg.certificates.enumeration import top_vectors
from ntkreg.data.groups import Group

LARGEST = 5  # order of a group up to which all cones are searched: 329,462; in ten seconds
STARTS, STEPS = 1000, 300  # of the ascent
FIRST_STEP, LAST_STEP = 0.5, 1e-4  # of it, in radians
TIES = (1e-1, 3e-2, 1e-2, 1e-3, 1e-5, 0.0)  # of u(a) + v(b), below which it may be 0 at the maximum
TINY = 1e-9  # of u(a) + v(b) for unit z, and of projections: as good as 0
DIGITS = 13  # of weights: those that differ by less are as good
HALF = 18  # trits of a code in one float: 3^18 < 2^53
SAME = 1e-9  # relative distance of eigenvalues that count as one
MARGIN = 1e-12  # relative: above the largest value found, what is proved not to be passed
BATCH = 20_000  # cones at a time


class Neuron(NamedTuple):
    """A neuron with ‖u‖² + ‖v‖² = ‖w‖² = ½, each of shape (n,)."""

    u: np.ndarray
    v: np.ndarray
    w: np.ndarray


class Best(NamedTuple):
    """The best neuron found, and a worth that none passes, or is known to pass.

    Attributes:
      is_proved: whether all cones were searched; else the bound is the neuron's own worth.
    """

    neuron: Neuron
    bound: float
    is_proved: bool


class _Worth(NamedTuple):
    """r as a linear function of the active pairs: r(y) = Σ_ab maps[y, a, b] relu(u(a) + v(b))."""

    maps: np.ndarray

    def of(self, z: np.ndarray) -> np.ndarray:
        """½ ‖r(z)‖ of vectors z of shape (…, 2n)."""
        return 0.5 * np.linalg.norm(self._r(z)[0], axis=-1)

    def _r(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = np.split(z, 2, axis=-1)
        sums = u[..., :, None] + v[..., None, :]
        return np.einsum("yab,...ab->...y", self.maps, np.maximum(sums, 0.0), optimize=True), sums

    def slope(self, z: np.ndarray) -> np.ndarray:
        """The gradient of ½ ‖r‖² at z."""
        r, sums = self._r(z)
        pairs = np.einsum("yab,...y->...ab", self.maps, r, optimize=True) * (sums > 0)
        return np.concatenate([pairs.sum(-1), pairs.sum(-2)], axis=-1)

    def matrix(self, active: np.ndarray) -> np.ndarray:
        """r = Az on the cone of these active pairs, of shape (…, n, n): A of shape (…, n, 2n)."""
        of_u = np.einsum("yab,...ab->...ya", self.maps, active, optimize=True)
        of_v = np.einsum("yab,...ab->...yb", self.maps, active, optimize=True)
        return np.concatenate([of_u, of_v], axis=-1)


def best(group: Group, weights: np.ndarray, proved: bool = True) -> Best:
    """The best neuron under weights of the wrong answers.

    Args:
      weights: β by the element abc⁻¹, of shape (n,), ≥ 0, the same on conjugates and inverses.
      proved: whether to search all cones, on groups of order up to 5.
    """
    return _best(group, tuple(np.round(weights, DIGITS).tolist()), proved)


@functools.lru_cache(maxsize=256)
def _best(group: Group, weights: tuple[float, ...], proved: bool) -> Best:
    worth = _worth(group, np.array(weights))
    z = _ascended(worth, 2 * group.order)
    while proved and group.order <= LARGEST:
        target = float(worth.of(z)) * (1 + MARGIN)
        better = _passing(group, worth, target, np.array(weights))
        if better is None:
            return Best(_neuron(worth, z), target, True)
        z = better
    return Best(_neuron(worth, z), float(worth.of(z)), False)


def margins(group: Group, neuron: Neuron, classes: tuple[np.ndarray, ...]) -> np.ndarray:
    """m_C of a neuron, averaged over the table's symmetries, for each class of wrong answers."""
    h = np.maximum(neuron.u[:, None] + neuron.v[None, :], 0.0)
    sums = np.bincount(group.table.ravel(), h.ravel(), group.order) / group.order**2
    # [g, x] is the element g⁻¹x
    moved = neuron.w[group.table[group.inverse]]
    return np.array([sums @ (neuron.w - moved[members].mean(axis=0)) for members in classes])


def orbit(group: Group, neuron: Neuron) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All u, v and w, of shape (neurons, n), that the table's symmetries make of a neuron.

    (a, b, c) → (gak, k⁻¹bh, gch), and (b⁻¹, a⁻¹, c⁻¹) with u and v exchanged. Left and right
    translations, and both orders, each once: 2n³ of them, of which many agree where they can.
    """
    inverse = group.inverse
    flipped = Neuron(neuron.v[inverse], neuron.u[inverse], neuron.w[inverse])
    parts = [
        np.concatenate([one[at], other[at]])
        for one, other, at in zip(neuron, flipped, _moves(group), strict=True)
    ]
    _, first = np.unique(np.hstack(parts).round(12), axis=0, return_index=True)
    u, v, w = (part[first] for part in parts)
    return u, v, w


def _moves(group: Group) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where (g, k, h) take every a, b and c: gak, k⁻¹bh and gch, each of shape (n³, n)."""
    table, inverse, n = group.table, group.inverse, group.order
    g, k, h = (index.reshape(-1, 1) for index in np.indices((n, n, n)))
    elements = np.arange(n)[None, :]
    from_left = table[g, elements]
    return table[from_left, k], table[table[inverse[k], elements], h], table[from_left, h]


# The worth of a neuron ------------------------------------------------------------------------


def _worth(group: Group, weights: np.ndarray) -> _Worth:
    n = group.order
    quotients = group.table[:, group.inverse]  # [x, y] is xy⁻¹
    kept = np.eye(n) - np.asarray(weights)[quotients.T]
    return _Worth(kept[:, group.table] / n**2)


def _neuron(worth: _Worth, z: np.ndarray) -> Neuron:
    r = worth._r(z)[0]
    u, v = np.split(z / np.linalg.norm(z) / 2**0.5, 2)
    return Neuron(u, v, r / np.linalg.norm(r) / 2**0.5)


def _ascended(worth: _Worth, size: int) -> np.ndarray:
    """The best unit vector that many ascents end at, set on the kinks that it is near."""
    z = np.random.default_rng(0).normal(size=(STARTS, size))
    for step in np.geomspace(FIRST_STEP, LAST_STEP, STEPS):
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        slope = worth.slope(z)
        slope -= np.sum(slope * z, axis=1, keepdims=True) * z
        length = np.linalg.norm(slope, axis=1, keepdims=True)
        z += step * slope / np.maximum(length, 1e-300)
    z = z[np.argsort(worth.of(z) / np.linalg.norm(z, axis=1))[-20:]]
    return max((_on_kinks(worth, one, tie) for one in z for tie in TIES), key=worth.of)


def _on_kinks(worth: _Worth, z: np.ndarray, tie: float) -> np.ndarray:
    """The top eigenvector of the face near z, where it is better."""
    z = z / np.linalg.norm(z)
    u, v = np.split(z, 2)
    sums = u[:, None] + v[None, :]
    signs = np.where(np.abs(sums) <= tie, 0, np.sign(sums)).astype(int)
    free = _projectors(signs[None])[0]
    matrix = worth.matrix((signs > 0).astype(float)) @ free
    values, vectors = np.linalg.eigh(matrix.T @ matrix)
    top = vectors[:, values >= values[-1] * (1 - SAME)]
    near = top @ (top.T @ z)
    return max(z, near / np.linalg.norm(near), key=worth.of) if near.any() else z


# Faces ----------------------------------------------------------------------------------------


def _passing(group: Group, worth: _Worth, target: float, weights: np.ndarray) -> np.ndarray | None:
    """A unit vector worth more than the target, or None where there is none.

    Faces of one dimension after the other, each once up to symmetry.
    """
    codes = _codes(_places(group, weights))
    signs = np.concatenate(list(_cones(group, worth, target)))
    while len(signs):
        signs = _unlike(signs, codes)
        smaller = []
        for first in range(0, len(signs), BATCH):
            part = signs[first : first + BATCH]
            maps = worth.matrix((part > 0).astype(float))
            values, z = top_vectors(maps, _projectors(part))
            large = 0.25 * values[:, -1] > target**2
            both = np.concatenate([z[large], -z[large]])
            worths = worth.of(both)
            if len(both) and worths.max() > target:
                return both[np.argmax(worths)]
            smaller.append(_facets(part[large]))
        signs = np.concatenate(smaller)
    return None


def _projectors(signs: np.ndarray) -> np.ndarray:
    """Onto the z with u(a) + v(b) = 0 wherever the sign is 0; of shape (faces, 2n, 2n)."""
    zero = (signs == 0).astype(float)
    within = lambda sums: np.eye(signs.shape[1]) * sums[:, None, :]
    rows = np.concatenate([within(zero.sum(2)), zero], axis=2)
    columns = np.concatenate([zero.swapaxes(1, 2), within(zero.sum(1))], axis=2)
    values, vectors = np.linalg.eigh(np.concatenate([rows, columns], axis=1))
    free = vectors * (values < TINY)[:, None, :]
    return free @ free.swapaxes(1, 2)


def _facets(signs: np.ndarray) -> np.ndarray:
    """The faces of faces in which one more pair is 0, with all that this makes 0.

    Such a pair is a smallest positive or a largest negative one: row a has no smaller positive
    entry in a column that is smaller throughout, nor column b in such a row.
    """
    made = []
    for side in (1, -1):
        own = side * signs
        rows, columns = _below(own), _below(own.swapaxes(1, 2))
        positive = own > 0
        passed = (positive @ columns) | (rows.swapaxes(1, 2) @ positive)
        face, a, b = np.nonzero(positive & ~passed)
        new = signs[face]
        new[np.arange(len(new)), a, b] = 0
        made.append(new)
    new = np.concatenate(made)
    free, n = _projectors(new), signs.shape[1]
    on_u = np.diagonal(free, axis1=1, axis2=2)[:, :n, None]
    on_v = np.diagonal(free, axis1=1, axis2=2)[:, None, n:]
    return np.where(on_u + on_v + 2 * free[:, :n, n:] < TINY, 0, new)


def _below(rows: np.ndarray) -> np.ndarray:
    """[i, j]: whether row i is nowhere above row j, and below it somewhere."""
    one, other = rows[:, :, None], rows[:, None, :]
    return np.all(one <= other, axis=-1) & np.any(one < other, axis=-1)


# Cones and symmetries -------------------------------------------------------------------------


def _cones(group: Group, worth: _Worth, target: float) -> Iterator[np.ndarray]:
    """The signs of cones, u and v largest at the identity, on whose span some z is worth more."""
    n = group.order
    place = np.argsort(np.argsort(np.arange(n) != group.identity, kind="stable"))
    for top in range(1, n + 1):
        levels = _levels(n, top)[:, place]
        per_row = max(1, BATCH // len(levels))
        for first in range(0, len(levels), per_row):
            rows = levels[first : first + per_row]
            active = (rows[:, None, :, None] + levels[None, :, None, :] > top).reshape(-1, n, n)
            matrix = worth.matrix(active.astype(float))
            largest = np.linalg.eigvalsh(matrix @ matrix.swapaxes(-1, -2))[:, -1]
            yield np.where(active[0.25 * largest > target**2], 1, -1).astype(np.int8)


def _levels(order: int, top: int) -> np.ndarray:
    """All vectors of levels 0 … top that have every level from 1 on, the first entry the top."""
    rest = itertools.product(range(top + 1), repeat=order - 1)
    found = np.array([(top, *one) for one in rest], int)
    has = np.array([np.any(found == level, axis=1) for level in range(1, top + 1)])
    return found[has.all(axis=0)]


def _codes(places: np.ndarray) -> np.ndarray:
    """Powers of three by pair, of shape (n², symmetries, 2): a face's code is the sum of its signs
    times these, the second in units of 3^18."""
    count, size = places.shape
    powers, high = 3.0 ** (np.arange(size) % HALF), np.arange(size) >= HALF
    codes = np.zeros((size, count, 2))
    for number, place in enumerate(places):
        codes[place, number, 0] = np.where(high, 0.0, powers)
        codes[place, number, 1] = np.where(high, powers, 0.0)
    return codes


def _places(group: Group, weights: np.ndarray) -> np.ndarray:
    """The distinct moves of the n² pairs by the table's symmetries, of shape (symmetries, n²).

    Automorphisms are among them where they keep the weights.
    """
    inverse, n = group.inverse, group.order
    a, b, _ = _moves(group)
    moved = a[:, :, None] * n + b[:, None, :]
    swapped = inverse[b][:, None, :] * n + inverse[a][:, :, None]
    both = np.concatenate([moved.reshape(-1, n * n), swapped.reshape(-1, n * n)])
    kept = [one for one in _automorphisms(group) if np.array_equal(weights[one], weights)]
    pairs = [(one[:, None] * n + one[None, :]).ravel() for one in kept]
    return np.unique(np.concatenate([place[both] for place in pairs]), axis=0)


def _automorphisms(group: Group) -> list[np.ndarray]:
    """All that keep the table, of a small group."""
    found = map(np.array, itertools.permutations(range(group.order)))
    table = group.table
    return [one for one in found if np.array_equal(one[table], table[np.ix_(one, one)])]


def _unlike(signs: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """One of all faces that symmetries make of each other."""
    smallest = []
    for first in range(0, len(signs), BATCH):
        flat = signs[first : first + BATCH].reshape(-1, signs.shape[1] ** 2).astype(float)
        low, high = (np.rint(flat @ codes[..., i]).astype(np.int64) for i in (0, 1))
        smallest.append((low + 3**HALF * high).min(axis=1))
    _, kept = np.unique(np.concatenate(smallest), return_index=True)
    return signs[kept]
