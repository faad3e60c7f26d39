"""Finite groups: tables, representations, their data, and which of them a network's outputs hold.

A group of order n is its multiplication table on the elements 0 … n − 1. The task is to learn it:
the input is the pair (a, b), the label is ab. A network of one hidden layer has the outputs

    f(a, b)[c] = Σᵢ σ(uᵢ(a) + vᵢ(b)) wᵢ(c),

and functions on a group split by its irreducible representations ρ. Here a *representation* is a
nontrivial one together with its complex conjugate, since networks are real.

Sources: Serre, "Linear Representations of Finite Groups"; Morwani, Edelman, Oncescu, Zhao, Kakade
(ICLR 2024) for the task.
"""

import dataclasses
import functools
import itertools
import math
import numbers
import string
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkreg._types import Array, Bool, Float, Int, Params, Scalar
from ntkreg.data.dataset import Dataset

Kind = Literal["real", "complex", "quaternionic"]
LARGEST = 2000  # order of a group: characters and checks take n³ operations and n² memory
ROUNDING = 1e-8  # of characters, which are computed to some 1e-14
TRIALS = 10  # combinations of class sums, of which the one that tells characters apart best counts


class Representation(NamedTuple):
    """A nontrivial irreducible representation ρ, together with its complex conjugate.

    Attributes:
      name: the frequency on a cyclic group, sgn or std on a symmetric one, else degree and letter.
      degree: d of ρ.
      kind: "real" where ρ is one of real matrices, "complex" where it is not its conjugate, else
        "quaternionic" (Frobenius and Schur).
      character: χ_ρ on the elements, complex.
    """

    name: str
    degree: int
    kind: Kind
    character: np.ndarray

    @property
    def real_character(self) -> np.ndarray:
        """χ_ρ, or χ_ρ and its conjugate together where these are two."""
        return self.character.real * (2 if self.kind == "complex" else 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """A finite group. Made by the functions below, or from a table by `from_table`.

    >>> symmetric(3).order, [rho.name for rho in symmetric(3).representations]
    (6, ['sgn', 'std'])

    Attributes:
      name: as "C5".
      table: of shape (n, n); entry [a, b] is the element ab.
      identity: the element 1.
      inverse: of every element.
      representations: all but the trivial one, by degree.
    """

    name: str
    table: np.ndarray
    identity: int
    inverse: np.ndarray
    representations: tuple[Representation, ...]

    @property
    def order(self) -> int:
        """n, the number of elements."""
        return len(self.table)

    @property
    def classes(self) -> np.ndarray:
        """For every element the smallest of its conjugates gag⁻¹, which names their class."""
        return _classes(self.table, self.inverse)

    def projector(self, number: int) -> np.ndarray:
        """The orthogonal projection of functions on the group onto those of one representation.

        (Πx)(g) = (d/n) Σ_h χ(gh⁻¹) x(h) with the real character; shape (n, n). Those of all
        representations, and the mean, add up to the identity.
        """
        rho = self.representations[number]
        quotients = self.table[:, self.inverse]
        return rho.degree / self.order * rho.real_character[quotients]

    def matrices(self, number: int) -> np.ndarray:
        """Real orthogonal matrices R(g) of one representation, R(a)R(b) = R(ab); shape (n, D, D).

        D is the degree d where ρ is real, else 2d: there R is irreducible over the real numbers
        and holds ρ and its conjugate. They are R(g) = BᵀL_gB on a smallest space of functions, with
        the orthonormal basis B, that the translations (L_gx)(h) = x(g⁻¹h) leave alone; translations
        from the other side commute with these, and an eigenspace of theirs is such a space.
        """
        rho, n = self.representations[number], self.order
        size = rho.degree * (1 if rho.kind == "real" else 2)
        values, vectors = np.linalg.eigh(self.projector(number))
        inside = vectors[:, values > 0.5]
        weights = np.random.default_rng(1).normal(size=n)
        # [g, h] is the weight of g⁻¹h: convolution from the right.
        right = (weights + weights[self.inverse])[self.table[self.inverse]]
        basis = inside @ np.linalg.eigh(inside.T @ right @ inside)[1][:, :size]
        moved = basis[self.table[self.inverse]]  # [g, h] is the row g⁻¹h
        return np.einsum("hi,ghj->gij", basis, moved)


# Groups ---------------------------------------------------------------------------------------


@functools.cache
def cyclic(order: int) -> Group:
    """C_n: addition modulo n. Its representations are frequencies, k and n − k together."""
    _check_size("order", order, 2, f"C{order}", lambda n: n)
    elements = np.arange(order)
    waves = {str(k): np.exp(2j * np.pi * k * elements / order) for k in range(1, order // 2 + 1)}
    return from_table((elements[:, None] + elements) % order, f"C{order}", waves)


@functools.cache
def dihedral(num_corners: int) -> Group:
    """D_n of order 2n: the element k + n·j is the rotation rᵏ after j reflections s, srs = r⁻¹."""
    _check_size("num_corners", num_corners, 2, f"D{num_corners}", lambda n: 2 * n)
    n = num_corners
    turn, flip = np.arange(2 * n) % n, np.arange(2 * n) // n
    turns = turn[:, None] + np.where(flip == 0, 1, -1)[:, None] * turn
    return from_table(turns % n + n * ((flip[:, None] + flip) % 2), f"D{n}")


@functools.cache
def symmetric(degree: int) -> Group:
    """S_k: the permutations of k things, in lexicographic order; ab is b first, then a."""
    _check_size("degree", degree, 2, f"S{degree}", math.factorial)
    return _of_permutations(list(itertools.permutations(range(degree))), f"S{degree}")


@functools.cache
def alternating(degree: int) -> Group:
    """A_k: the even permutations of k things, in lexicographic order; ab is b first, then a."""
    _check_size("degree", degree, 3, f"A{degree}", lambda k: math.factorial(k) // 2)
    even = [p for p in itertools.permutations(range(degree)) if _sign(p) > 0]
    return _of_permutations(even, f"A{degree}")


@functools.cache
def quaternion(order: int = 8) -> Group:
    """Q_8, or Q_4k: x of order 2k, y² = xᵏ, yxy⁻¹ = x⁻¹; the element i + 2k·j is xⁱyʲ.

    Raises:
      ValueError: for an order that is not 8, 12, 16, …
    """
    _check_size("order", order, 8, f"Q{order}", lambda n: n)
    if order % 4:
        raise ValueError(f"order must be a multiple of 4 from 8 on, got {order}")
    half = order // 2
    i, j = np.arange(order) % half, np.arange(order) // half
    turns = i[:, None] + np.where(j == 0, 1, -1)[:, None] * i + half // 2 * (j[:, None] & j)
    return from_table(turns % half + half * (j[:, None] ^ j), f"Q{order}")


@functools.cache
def product(*groups: Group) -> Group:
    """The direct product: pairs of elements, the last group's running fastest.

    >>> product(cyclic(2), cyclic(2)).name
    'C2×C2'

    Raises:
      ValueError: for no group at all.
    """
    if not groups:
        raise ValueError("groups must be at least one, got none")
    for group in groups:
        if not isinstance(group, Group):
            raise ValueError(f"groups must be Groups, got {group!r}")
    name = "×".join(group.name for group in groups)
    _check_order(math.prod(group.order for group in groups), name)
    table = np.zeros((1, 1), int)
    for group in groups:
        pairs = table[:, None, :, None] * group.order + group.table[None, :, None, :]
        size = len(table) * group.order
        table = pairs.reshape(size, size)
    return from_table(table, name)


def from_table(
    table: np.ndarray, name: str = "G", named: Mapping[str, np.ndarray] | None = None
) -> Group:
    """The group of a multiplication table, with its representations.

    Args:
      table: integers 0 … n − 1 of shape (n, n), n ≥ 2; entry [a, b] is ab.
      named: names for the representations that have these characters.

    Raises:
      ValueError: for a table that is no group's; where it is not associative, with the first triple
        at which it fails.
    """
    try:
        table = np.asarray(table)
    except ValueError:
        raise ValueError("table must be square, got rows of several lengths") from None
    table = _checked_table(table)
    identity = _identity(table)
    inverse = np.argmax(table == identity, axis=1)
    characters = _characters(table, identity, inverse)
    return Group(name, table, identity, inverse, _representations(table, characters, named or {}))


def named(name: str) -> Group:
    """The group of a name: C, D, S, A or Q with its number, or several joined by "×" or "x".

    >>> named("C2xS3").order
    12

    Raises:
      ValueError: for a name of no group.
    """
    if not isinstance(name, str):
        raise ValueError(f"name must be a text as 'C5', got {name!r}")
    factors = name.replace("x", "×").split("×")
    for factor in factors:
        if factor[:1] not in MAKERS or not factor[1:].isdecimal():
            raise ValueError(f"name must be {', '.join(MAKERS)} and a number, got {name!r}")
    made = [MAKERS[factor[0]](int(factor[1:])) for factor in factors]
    return made[0] if len(made) == 1 else product(*made)


MAKERS = {"C": cyclic, "D": dihedral, "S": symmetric, "A": alternating, "Q": quaternion}


def _of_permutations(elements: list[tuple[int, ...]], name: str) -> Group:
    number = {p: i for i, p in enumerate(elements)}
    compose = lambda p, q: tuple(p[i] for i in q)
    table = np.array([[number[compose(p, q)] for q in elements] for p in elements])
    degree = len(elements[0])
    fixed = np.array([sum(i == image for i, image in enumerate(p)) for p in elements])
    named = {"sgn": np.array([_sign(p) for p in elements])}
    return from_table(table, name, named | ({"std": fixed - 1} if degree > 2 else {}))


def _sign(permutation: tuple[int, ...]) -> int:
    pairs = itertools.combinations(permutation, 2)
    return (-1) ** sum(first > second for first, second in pairs)


def _check_size(
    name: str, value: int, smallest: int, group: str, order: Callable[[int], int]
) -> None:
    """Raises ValueError for a size that no group has, or whose group's order is too large."""
    if not isinstance(value, numbers.Integral) or value < smallest:
        raise ValueError(f"{name} must be a whole number, at least {smallest}, got {value!r}")
    too_large = value > LARGEST  # whose factorial nobody needs
    _check_order(LARGEST + 1 if too_large else order(int(value)), group)


def _check_order(order: int, group: str) -> None:
    if order > LARGEST:
        raise ValueError(f"the order of a group must be at most {LARGEST}, got {group}")


def _checked_table(table: np.ndarray) -> np.ndarray:
    """The table as integers, where it is a group's."""
    n = len(table) if table.ndim else 0
    if table.shape != (n, n) or n < 2:
        raise ValueError(f"table must be square, of at least 2 elements, got shape {table.shape}")
    if table.dtype.kind not in "iuf":
        raise ValueError(f"table must hold numbers, got {table.dtype}")
    _check_order(n, f"a table of {n}")
    inside = np.isin(table, np.arange(n))
    if not inside.all():
        a, b = np.argwhere(~inside)[0]
        raise ValueError(f"table must hold 0 … {n - 1}, got {table[a, b]} at [{a}, {b}]")
    table = table.astype(int)
    for a in range(n):  # n² triples at a time
        left, right = table[table[a]], table[a][table]
        if (left != right).any():
            b, c = np.argwhere(left != right)[0]
            raise ValueError(
                f"table must be associative, got (ab)c = {left[b, c]} and a(bc) = {right[b, c]} "
                f"at (a, b, c) = ({a}, {b}, {c})"
            )
    identity = _identity(table)
    lacking = np.flatnonzero(~(table == identity).any(axis=1))
    if lacking.size:
        raise ValueError(f"table must have inverses, got none of the element {lacking[0]}")
    return table


def _identity(table: np.ndarray) -> int:
    elements = np.arange(len(table))
    is_one = (table == elements).all(axis=1) & (elements == table.T).all(axis=1)
    if not is_one.any():
        raise ValueError("table must have an identity, got none")
    return int(np.argmax(is_one))


# Characters -----------------------------------------------------------------------------------


def _classes(table: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    conjugates = table[table, inverse[:, None]]  # [g, a] is gag⁻¹
    return conjugates.min(axis=0)


def _characters(table: np.ndarray, identity: int, inverse: np.ndarray) -> np.ndarray:
    """The irreducible characters on the elements, complex, one a row.

    Sums over conjugacy classes commute with everything. On the functions that are constant on
    classes, convolution with them has the characters as common eigenvectors; one Hermitian
    combination of them tells all apart, the better the farther its eigenvalues are apart.

    Source: Burnside's method; Dixon (Numerische Mathematik 1967).
    """
    n, labels = len(table), _classes(table, inverse)
    names, member, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    basis = np.eye(len(names))[member] / np.sqrt(sizes)  # orthonormal, constant on classes
    quotients, rng = table[:, inverse], np.random.default_rng(0)
    best, vectors = 0.0, basis
    for _ in range(TRIALS):
        weights = np.array([1.0, 1j]) @ rng.normal(size=(2, len(names)))
        kernel = weights[member] + weights[member][inverse].conj()
        values, found = np.linalg.eigh(basis.T @ kernel[quotients] @ basis)
        gap = np.diff(values).min() / np.abs(values).max()
        if gap > best:
            best, vectors = gap, found
    characters = (basis @ vectors).T * np.sqrt(n)
    at_one = characters[:, identity]
    return characters * (np.abs(at_one) / at_one)[:, None]


def _representations(
    table: np.ndarray, characters: np.ndarray, named: Mapping[str, np.ndarray]
) -> tuple[Representation, ...]:
    """The nontrivial characters, of conjugate ones the first, in order and with names."""
    squares = table[np.arange(len(table)), np.arange(len(table))]
    degrees = np.rint(np.abs(characters).max(axis=1)).astype(int)
    order = lambda row: (degrees[row], *np.round(-_parts(characters[row]), 6))
    found: list[Representation] = []
    for row in sorted(range(len(characters)), key=order):
        chi = characters[row]
        is_known = any(np.abs(other.character - chi.conj()).max() < ROUNDING for other in found)
        if is_known or np.abs(chi - 1).max() < ROUNDING:
            continue
        kind = _kind(chi, squares)
        names = [k for k, c in named.items() if np.abs((c - chi).real).max() < ROUNDING]
        name = names[0] if names else _letter(degrees[row], found)
        chi = chi.real + 0j if kind != "complex" else chi
        found.append(Representation(name, int(degrees[row]), kind, chi))
    return tuple(found)


def _parts(character: np.ndarray) -> np.ndarray:
    return np.concatenate([character.real, character.imag])


def _kind(character: np.ndarray, squares: np.ndarray) -> Kind:
    """By the mean of χ(g²), which is 1, 0 or −1."""
    kinds: dict[int, Kind] = {1: "real", 0: "complex", -1: "quaternionic"}
    return kinds[round(character[squares].mean().real)]


def _letter(degree: int, found: list[Representation]) -> str:
    used = {rho.name for rho in found}
    letters = (f"{degree}{letter}" for letter in string.ascii_lowercase)
    return next((name for name in letters if name not in used), f"{degree}-{len(found)}")


# The task -------------------------------------------------------------------------------------


def pairs(group: Group) -> Dataset:
    """All pairs (a, b) of elements with the class ab: x of shape (n², 2n), one-hot a beside b.

    For a part of the table to learn from take `split` of it, as in
    `split(key, pairs(cyclic(53)), num_train)`.

    >>> pairs(cyclic(3)).x[5].tolist(), int(pairs(cyclic(3)).y[5])  # 1 + 2
    ([0.0, 1.0, 0.0, 0.0, 0.0, 1.0], 0)
    """
    one_hot = jnp.eye(group.order)
    both = jnp.repeat(one_hot, group.order, axis=0), jnp.tile(one_hot, (group.order, 1))
    return Dataset(jnp.concatenate(both, axis=1), jnp.asarray(group.table.ravel(), jnp.int32))


class Neurons(NamedTuple):
    """The vectors of a network's neurons, each of shape (m, n): f = Σ σ(u(a) + v(b)) w(c)."""

    u: Float[Array, "m n"]
    v: Float[Array, "m n"]
    w: Float[Array, "m n"]


def neurons(params: Params) -> Neurons:
    """Those of `fully_connected(2, m, num_outputs=n)` on `pairs`, whose parameters these are.

    Raises:
      ValueError: for parameters of other shapes.
    """
    shapes = [jnp.shape(leaf) for leaf in params] if isinstance(params, tuple) else []
    is_pair = len(shapes) == 2 and all(len(shape) == 2 for shape in shapes)
    n = shapes[-1][-1] if is_pair else 0
    if not is_pair or shapes[0] != (2 * n, shapes[1][0]):
        raise ValueError(f"params must be of shapes (2n, m) and (m, n), got {shapes}")
    first, last = params
    return Neurons(first[:n].T, first[n:].T, last)


def fractions(group: Group, logits: Float[Array, "p n"]) -> Float[Array, " r"]:
    """The share of each representation in the outputs: ‖projection of f°‖/‖f°‖.

    f° is f less its mean over c, and the projection is onto the functions χ_ρ(abc⁻¹) of ρ and its
    conjugate, whose squares add up to at most 1. A network that fits perfectly, f° = 1[c = ab] −
    1/n, has the shares √(d²/(n − 1)), with 2d² for a complex pair. All are 0 where f° is.

    Args:
      logits: f on `pairs`, of shape (n², n).

    Raises:
      ValueError: for logits of another shape.
    """
    n = group.order
    if jnp.shape(logits) != (n * n, n):
        shape = jnp.shape(logits)
        raise ValueError(f"logits must be of shape {(n * n, n)} on {group.name}, got {shape}")
    outputs = jnp.reshape(logits, (n, n, n))
    centred = outputs - outputs.mean(axis=-1, keepdims=True)
    # c with abc⁻¹ = g is g⁻¹ab.
    label = group.table[group.inverse[:, None, None], group.table]
    a, b = np.arange(n)[:, None], np.arange(n)
    by_quotient = centred[a, b, label].sum(axis=(1, 2))
    characters = jnp.asarray(np.array([rho.character for rho in group.representations]))
    inner = jnp.abs(characters.conj() @ by_quotient)
    pair = np.array([2.0 if rho.kind == "complex" else 1.0 for rho in group.representations])
    size = jnp.linalg.norm(centred)
    return jnp.where(size > 0, jnp.sqrt(pair / n**3) * inner / jnp.where(size > 0, size, 1.0), 0.0)


def key_set(shares: Float[Array, " r"], threshold: Scalar) -> Bool[Array, " r"]:
    """Which representations have a share of at least `threshold`."""
    return shares >= threshold


def spectral_count(shares: Float[Array, " r"], delta: Scalar) -> Int[Array, ""]:
    """The smallest number of representations with 1 − δ of the sum of all squared shares."""
    squares = jnp.sort(shares**2)[::-1]
    sums = jnp.cumsum(squares)
    # A sum is at its end up to rounding; where all shares are 0, none is needed.
    enough = sums >= (1 - delta) * sums[-1] * (1 - 4 * jnp.finfo(sums.dtype).eps)
    return jnp.where(sums[-1] > 0, jnp.argmax(enough) + 1, 0)


def purities(group: Group, found: Neurons) -> Float[Array, "m r"]:
    """For every neuron and representation the share of ‖u‖² + ‖v‖² + ‖w‖² in its functions.

    The means of u, v and w are taken off first. A neuron of which nothing is left then has 0.

    Raises:
      ValueError: for the neurons of another group.
    """
    if found.u.shape[-1] != group.order:
        n = found.u.shape[-1]
        raise ValueError(f"found must be neurons on {group.order} elements, got {n}")
    vectors = jnp.stack(found, axis=1)  # (m, 3, n)
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    total = jnp.sum(centred**2, axis=(1, 2))
    projectors = np.array([group.projector(i) for i in range(len(group.representations))])
    kept = jnp.einsum("rgh,mkh->mrkg", projectors, centred)
    share = jnp.sum(kept**2, axis=(2, 3)) / jnp.where(total > 0, total, 1.0)[:, None]
    rounding = jnp.sum(vectors**2, axis=(1, 2)) * (4 * jnp.finfo(vectors.dtype).eps) ** 2
    return jnp.where((total > rounding)[:, None], share, 0.0)


def multiplicities(shares: Float[Array, "m r"], delta: Scalar) -> Float[Array, " r"]:
    """For every representation the part of the neurons whose purity is at least 1 − δ."""
    return jnp.mean(shares >= 1 - delta, axis=0)
