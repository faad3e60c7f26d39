"""Gram matrices as operators: products with vectors, on one device or spread over many.

What solves by products alone needs no matrix: `hard_margin_svm`, `ridge` and
`min_norm_interpolant` take a `GramOperator` in its place, also one of your own.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import Partial

from ntkreg._compat import is_concrete
from ntkreg._types import Array, ArrayLike, Float
from ntkreg.kernels.tangent import block_starts, checked_block_size

MAX_STEPS = 2_000  # of conjugate gradients


class GramOperator(NamedTuple):
    """K of n samples by what can be done with it; a pytree, so that it goes through `jit`.

    Attributes:
      product: v -> Kv, added up in the wider of the dtypes of K and v.
      diagonal: K(xᵢ, xᵢ), in the dtype of the entries.
    """

    product: Callable[[Array], Array]
    diagonal: Float[Array, " n"]


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


def _matrix_product(gram: Array, v: Array) -> Array:
    if v.dtype == gram.dtype:
        return gram @ v
    # In blocks, or the compiler keeps a copy of the whole matrix in the wider dtype.
    dtype, size = jnp.promote_types(gram.dtype, v.dtype), gram.shape[0]
    height = min(checked_block_size(None), size)
    starts = block_starts(size, height)
    rows = lambda start: jax.lax.dynamic_slice_in_dim(gram, start, height).astype(dtype)
    values = jax.lax.map(lambda start: rows(start) @ v.astype(dtype), jnp.asarray(starts))
    # The last block begins inside the one before it.
    return jnp.concatenate([values[:-1].reshape(-1), values[-1, len(starts) * height - size :]])


@functools.cache
def _spread_product(mesh: jax.sharding.Mesh, axis: str) -> Callable:
    spread, whole = PartitionSpec(axis), PartitionSpec()
    return jax.shard_map(_matrix_product, mesh=mesh, in_specs=(spread, whole), out_specs=spread)


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
