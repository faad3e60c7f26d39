"""Gram matrices as operators: products with vectors, from memory, many devices, or made anew.

What solves by products alone needs no matrix: `hard_margin_svm`, `ridge` and
`min_norm_interpolant` take a `GramOperator` in its place. One that is made anew or looked up needs
memory linear in n.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import Partial

from ntkreg._compat import is_concrete
from ntkreg._types import Array, ArrayLike, Float
from ntkreg.kernels.tangent import block_starts, checked_block_size, ntk
from ntkreg.networks.network import Network

# Integers up to this are exact in the shortest format that a matrix product may round inputs to
# (bfloat16), and inner products up to LARGEST_SQUARE in what it adds up in (float32).
LARGEST_ENTRY, LARGEST_SQUARE = 2**8, 2**24

MAX_STEPS = 2_000  # of conjugate gradients


class GramOperator(NamedTuple):
    """K of n samples by what can be done with it; a pytree, so that it goes through `jit`.

    Attributes:
      product: v -> Kv, added up in the wider of the dtypes of K and v.
      diagonal: K(xᵢ, xᵢ), in the dtype of the entries.
      predict: (x of m points, v) -> K(x, X)v, made in blocks of rows; None where the samples
        are not known.
    """

    product: Callable[[Array], Array]
    diagonal: Float[Array, " n"]
    predict: Callable[[Array, Array], Array] | None = None


def from_matrix(gram: Float[Array, "n n"]) -> GramOperator:
    """The operator of a matrix that is there, whole or with its rows spread over devices.

    In the second case, as `ntk(…, devices=…)` makes it, each device multiplies its own
    rows, and nothing but vectors goes between them.

    Raises:
      ValueError: where gram is not square, or spread over devices otherwise than by rows.
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1]:
        raise ValueError(f"gram must be square, got shape {gram.shape}")
    sharding = gram.sharding if is_concrete(gram) and isinstance(gram, jax.Array) else None
    if sharding is None or sharding.is_fully_replicated:
        return GramOperator(Partial(_matrix_product, gram), jnp.diagonal(gram))
    if not isinstance(sharding, NamedSharding) or any(sharding.spec[1:]):
        raise ValueError(f"gram must be spread over devices by its rows, got {sharding}")
    product = _spread_product(sharding.mesh, sharding.spec[0])
    return GramOperator(Partial(product, gram), jax.jit(jnp.diagonal)(gram))


def as_operator(gram: Float[Array, "n n"] | GramOperator) -> GramOperator:
    """`gram` where it is an operator, else `from_matrix` of it."""
    return gram if isinstance(gram, GramOperator) else from_matrix(gram)


def recomputed(
    network: Network, x: Float[Array, "n d"], block_size: int | None = None
) -> GramOperator:
    """The NTK's Gram matrix of x, made anew in every product: memory O(n · block_size).

    Entries are those of `ntk`, of which a product makes `block_size` rows at a time.

    Raises:
      ValueError: where the network has no known kernel, or block_size is below 1.
    """
    return _of_entries(_ntk_entries(network), x, block_size)


def from_inner_products(
    network: Network, x: Float[Array, "n d"], block_size: int | None = None
) -> GramOperator:
    """The NTK's Gram matrix of integer points of one norm, such as D's, by a table of its values.

    The NTK of a fully connected network is a function of ‖x‖², ‖x′‖² and ⟨x, x′⟩. Here the first
    two are one number, and ⟨x, x′⟩ is one of 2‖x‖² + 1 integers, which a matrix product gives
    exactly: a block of K is looked up, in memory O(n · block_size). `predict` takes points of the
    same kind.

    Raises:
      ValueError: where an entry of x is no integer or above 256 in size, rows differ in norm, the
        norm is 0 or its square above 2²⁴, x has less than two columns or no concrete value, the
        network has no known kernel or one that is no function of inner products, or block_size is
        below 1.
    """
    if not is_concrete(x):
        raise ValueError("x must be concrete: the table's size is its squared norm, got a tracer")
    square = _common_square(np.asarray(x, np.float64))
    table = ntk_by_inner_product(network, square, x.shape[1]).astype(jnp.result_type(x, float))
    entries = Partial(_looked_up, table)
    _check_table(network, entries, x[:8])
    operator = _of_entries(entries, x, block_size)
    return operator._replace(predict=Partial(_predict_on_lattice, operator.predict))


def ntk_by_inner_product(network: Network, square: int, dim: int) -> Float[Array, " k"]:
    """K(x, x′) for ⟨x, x′⟩ = −square, …, square, where ‖x‖² = ‖x′‖² = square, in R^dim.

    Of points in a plane, which the network's kernel cannot tell from others of these angles.
    """
    inner = np.arange(-square, square + 1, dtype=np.float64)
    points = np.zeros((inner.size, dim))
    points[:, 0] = inner / np.sqrt(square)
    points[:, 1] = np.sqrt((square - inner) * (square + inner) / square)
    return ntk(network, jnp.asarray(points, float), jnp.asarray(points[-1:], float))[:, 0]


def _of_entries(entries: Partial, x: Array, block_size: int | None) -> GramOperator:
    """The operator of K(xᵢ, xⱼ), where `entries` makes K(x1, x2)."""
    block_size = checked_block_size(block_size)
    predict, diagonal = _programs(block_size)
    return GramOperator(
        Partial(predict, entries, x, x), diagonal(entries, x), Partial(predict, entries, x)
    )


@functools.cache
def _programs(block_size: int) -> tuple[Callable, Callable]:
    """K(x, X)v and the diagonal of K by blocks: one object for each size, compiled once."""

    def predict(entries, x, points, v):
        return _product_by_blocks(lambda rows: entries(rows, x), points, v, block_size)

    def diagonal(entries, x):
        return _by_blocks(lambda rows: jnp.diagonal(entries(rows, rows)), x, block_size)

    return jax.jit(predict), jax.jit(diagonal)


@functools.cache
def _ntk_entries(network: Network) -> Partial:
    return Partial(functools.partial(ntk, network))


def _looked_up(table: Array, x1: Array, x2: Array) -> Array:
    # All that may be rounded is exact: this lets an accelerator use its fastest product.
    fastest = jax.lax.Precision.DEFAULT
    inner = jnp.matmul(x1.astype(jnp.float32), x2.astype(jnp.float32).T, precision=fastest)
    return jnp.take(table, inner.astype(jnp.int32) + table.size // 2, mode="clip")


def _predict_on_lattice(predict: Partial, points: Array, v: Array) -> Array:
    table = predict.args[0].args[0]
    if is_concrete(points):
        _common_square(np.asarray(points, np.float64), table.size // 2)
    return predict(points, v)


def _common_square(x: np.ndarray, square: float | None = None) -> int:
    """‖xᵢ‖², which all rows share (with `square`, where it is given)."""
    bad = ~((np.round(x) == x) & (np.abs(x) <= LARGEST_ENTRY))
    if bad.any():
        i, j = np.argwhere(bad)[0]
        raise ValueError(
            f"x must hold integers of at most {LARGEST_ENTRY} in size, got {x[i, j]} at [{i}, {j}]"
        )
    squares = (x**2).sum(axis=1)
    square = squares[0] if square is None else square
    if (squares != square).any():
        i = np.argmax(squares != square)
        raise ValueError(f"x must have rows of ‖x‖² = {square:g}, got {squares[i]:g} at [{i}]")
    if x.shape[1] < 2 or not 0 < square <= LARGEST_SQUARE:
        raise ValueError(
            f"x must have at least two columns and 0 < ‖x‖² ≤ {LARGEST_SQUARE}, got shape "
            f"{x.shape} and ‖x‖² = {square:g}"
        )
    return int(square)


def _check_table(network: Network, entries: Partial, x: Array) -> None:
    found, expected = entries(x, x), ntk(network, x, x)
    error = float(jnp.max(jnp.abs(found - expected)) / jnp.max(jnp.abs(expected)))
    if not error <= 10 * np.sqrt(jnp.finfo(expected.dtype).eps):
        raise ValueError(
            "network.kernel must be a function of inner products, as a fully connected "
            f"network's is: between the first samples it is off by {error:.2g} of its size"
        )


def _matrix_product(gram: Array, v: Array) -> Array:
    if v.dtype == gram.dtype:
        return gram @ v
    # In blocks, or the compiler keeps a copy of the whole matrix in the dtype of v.
    return _product_by_blocks(lambda rows: rows, gram, v, checked_block_size(None))


@functools.cache
def _spread_product(mesh: jax.sharding.Mesh, axis: str) -> Callable:
    spread, whole = PartitionSpec(axis), PartitionSpec()
    return jax.shard_map(_matrix_product, mesh=mesh, in_specs=(spread, whole), out_specs=spread)


def _product_by_blocks(make_rows: Callable, points: Array, v: Array, block_size: int) -> Array:
    """Mv, where `make_rows` makes the rows of M that belong to some of the points."""

    def part(some: Array) -> Array:
        rows = make_rows(some)
        dtype = jnp.promote_types(rows.dtype, v.dtype)
        return rows.astype(dtype) @ v.astype(dtype)

    return _by_blocks(part, points, block_size)


def _by_blocks(part: Callable[[Array], Array], points: Array, block_size: int) -> Array:
    """The values of `part` at all points, `block_size` points at a time."""
    size = points.shape[0]
    height = min(block_size, size)
    starts = block_starts(size, height)
    take = lambda start: part(jax.lax.dynamic_slice_in_dim(points, start, height))
    values = jax.lax.map(take, jnp.asarray(starts))
    # The last block begins inside the one before it.
    return jnp.concatenate([values[:-1].reshape(-1), values[-1, len(starts) * height - size :]])


class Solution(NamedTuple):
    """Solutions for p shifts, and ‖y − (K + shift·I)β‖/‖y‖ of each, computed again from β."""

    coefficients: Float[Array, "p n"]
    residuals: Float[Array, " p"]


@jax.jit
def solve_shifted(
    operator: GramOperator,
    shifts: Float[Array, " p"],
    targets: Float[Array, " n"],
    tolerance: ArrayLike,
) -> Solution:
    """β with (K + shift·I)β = y for each shift ≥ 0, by conjugate gradients up to `tolerance`.

    All shifts share each product, so that a block of K is made once for all of them. Vectors are
    in float64 where JAX has it.

    Source: Hestenes, Stiefel (J. Res. Natl. Bur. Stand. 1952).
    """
    dtype = jnp.promote_types(operator.diagonal.dtype, jnp.result_type(float))
    targets = targets.astype(dtype)

    def solve(shift: Array) -> Solution:
        shifted = lambda v: operator.product(v) + shift * v
        beta, _ = jax.scipy.sparse.linalg.cg(shifted, targets, tol=tolerance, maxiter=MAX_STEPS)
        size = jnp.maximum(jnp.linalg.norm(targets), jnp.finfo(dtype).tiny)
        residual = jnp.linalg.norm(targets - shifted(beta)) / size
        return Solution(beta, residual)

    return jax.vmap(solve)(shifts.astype(dtype))
