"""Gram matrices as kernel machines take them: checked once, or as operators.

What solves by products alone needs no matrix: `hard_margin_svm`, `ridge` and
`min_norm_interpolant` take a `GramOperator` in its place, also one of your own; its products run on
one device or spread over many. Under a trace values cannot raise: there shapes alone are checked.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
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


# Matrices up to this size are factorised to see that no eigenvalue is negative; of larger ones
# each pair of samples is looked at, which is one pass over the matrix.
LARGEST_FACTORISED = 500


def checked_gram(
    gram: Float[Array, "n n"] | GramOperator,
    labels: Float[Array, " n"],
    signs: bool = False,
    by_products: bool = False,
) -> tuple[Any, Array]:
    """gram and labels as arrays of one float dtype, where they fit together and are sound.

    Integers become the default float, and half precision float32. A matrix must be finite and
    symmetric, and have no negative eigenvalue, both to 4√ε of its largest entry, which is what
    kernels are accurate to at worst: up to n = 500 this is seen from a Cholesky factor, above only
    for every two samples. Of an operator, and of a matrix spread over devices, only that it is
    finite.

    Raises:
      ValueError: where that is not so, where `signs` asks for labels ±1 and there are others, or
        where gram is an operator but `by_products` is not set; the error gives what it found.
    """
    labels = _floating("labels", labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must be of shape (n,), got {labels.shape}")
    n = labels.shape[0]
    if isinstance(gram, GramOperator):
        if not by_products:
            raise ValueError("gram must be an array, since it is factorised, got a GramOperator")
        entries, wanted = gram.diagonal, [n]
    else:
        entries = gram = _floating("gram", gram)
        wanted = [n, n]
    if entries.shape != tuple(wanted) or n == 0:
        raise ValueError(
            f"gram must have shape {tuple(wanted)} for {n} labels, got {entries.shape}"
        )
    if is_concrete(gram, labels):
        _check_labels(np.asarray(labels), signs)
        if isinstance(gram, GramOperator) or not gram.sharding.is_fully_replicated:
            _check_products(as_operator(gram))
        else:
            _check_matrix(gram)
    return gram, labels.astype(entries.dtype)


def _floating(name: str, values: ArrayLike) -> Array:
    array = values if isinstance(values, jax.Array) else np.asarray(values)
    if jnp.issubdtype(array.dtype, jnp.integer):
        return jnp.asarray(array, float)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must hold real numbers, got {array.dtype}")
    return _at_least_single(jnp.asarray(array))


def _at_least_single(array: Array) -> Array:
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def _check_labels(labels: np.ndarray, signs: bool) -> None:
    bad = ~np.isin(labels, (-1, 1)) if signs else ~np.isfinite(labels)
    if bad.any():
        wanted = "−1 or +1" if signs else "finite"
        raise ValueError(f"labels must be {wanted}, got {labels[bad][0]} at [{np.argmax(bad)}]")


def _check_products(operator: GramOperator) -> None:
    # The sum over a row shows each entry, without an array of n × n truth values.
    if not bool(jnp.all(jnp.isfinite(operator.product(jnp.ones_like(operator.diagonal))))):
        raise ValueError("gram must be finite, it holds NaN or inf")


def _check_matrix(gram: Array) -> None:
    is_small = gram.shape[0] <= LARGEST_FACTORISED
    is_finite, size, asymmetry, lowest, factorises = np.asarray(_measures(gram, is_small)).tolist()
    allowed = _allowed(gram.dtype) * size
    if not is_finite:
        raise ValueError("gram must be finite, it holds NaN or inf")
    if asymmetry > allowed:
        raise ValueError(f"gram must be symmetric, got Kᵢⱼ and Kⱼᵢ that differ by {asymmetry:.2g}")
    if is_small and not factorises:
        lowest = float(jnp.linalg.eigvalsh(gram)[0])
    if lowest < -allowed:
        raise ValueError(f"gram must be positive semidefinite, got an eigenvalue of {lowest:.2g}")


def _allowed(dtype: jnp.dtype) -> float:
    return 4 * float(jnp.finfo(dtype).eps) ** 0.5


@functools.partial(jax.jit, static_argnames="is_small")
def _measures(gram: Array, is_small: bool) -> Array:
    """Whether all is finite, max |Kᵢⱼ|, max |Kᵢⱼ − Kⱼᵢ|; of a large one the smallest eigenvalue of
    one or two samples alone, of a small one whether it has a Cholesky factor, the allowance added.
    """
    diagonal, size = jnp.diagonal(gram), jnp.max(jnp.abs(gram))
    is_finite = jnp.all(jnp.isfinite(gram))  # a largest of several numbers can pass over a NaN
    asymmetry = jnp.max(jnp.abs(gram - gram.T))
    if is_small:
        shift = _allowed(gram.dtype) * size
        shifted = gram + jnp.diag(jnp.full_like(diagonal, jnp.where(size > 0, shift, 1.0)))
        factor, _ = jax.scipy.linalg.cho_factor(shifted, lower=True)
        return jnp.stack(
            [is_finite, size, asymmetry, 0.0 * size, jnp.all(jnp.isfinite(jnp.diagonal(factor)))]
        )
    mean, half = ((diagonal[:, None] + sign * diagonal) / 2 for sign in (1, -1))
    pairs = mean - jnp.sqrt(half**2 + gram**2)
    smallest = jnp.min(jnp.where(jnp.eye(gram.shape[0], dtype=bool), mean, pairs))
    return jnp.stack([is_finite, size, asymmetry, smallest, jnp.ones_like(size)])
