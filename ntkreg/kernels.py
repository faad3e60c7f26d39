"""Kernels of a network: exact NTK and NNGP at infinite width, empirical NTK at finite width."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from ntkreg._compat import neural_tangents
from ntkreg._types import Array, Float, Params
from ntkreg.networks import Network

# neural-tangents keeps about ten arrays of the Gram matrix's size at once, so a larger matrix is
# made in blocks of rows of this many entries.
BLOCK_ENTRIES = 2**21


def ntk(
    network: Network,
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"] | None = None,
    block_entries: int = BLOCK_ENTRIES,
) -> Float[Array, "n m"]:
    """The exact infinite-width NTK of `network` (in `ntk` scaling) between x1 and x2.

    K(x, x′) = E⟨∇f(Θ; x), ∇f(Θ; x′)⟩ over the gradients of all layers. Without x2 it is the Gram
    matrix of x1, symmetric. Matrices of more than `block_entries` entries are made in blocks of
    rows. Entries are accurate to rounding ε, but those between a point and itself, whose angle
    comes out of a cancellation, only to √ε: 2e-8 in float64, 1e-4 in float32.

    Source: Jacot, Gabriel, Hongler (NeurIPS 2018); Arora et al. (NeurIPS 2019); depth 2 is the
    kernel of Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.

    Raises:
      ValueError: where the network has no known kernel, or the feature dimensions differ.
    """
    return _gram(_kernel_of(network), "ntk", x1, x2, block_entries)


def nngp(
    network: Network,
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"] | None = None,
    block_entries: int = BLOCK_ENTRIES,
) -> Float[Array, "n m"]:
    """The covariance E f(Θ; x) f(Θ; x′) of the infinitely wide network at initialisation.

    Arguments and errors as in `ntk`.

    Source: Neal (1996); Lee et al. (ICLR 2018).
    """
    return _gram(_kernel_of(network), "nngp", x1, x2, block_entries)


def empirical_ntk(
    network: Network,
    params: Params,
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"] | None = None,
) -> Float[Array, "n m"]:
    """⟨∇f(Θ; x), ∇f(Θ; x′)⟩ at these parameters, averaged over outputs where there are several.

    In `ntk` scaling it tends to `ntk` like width^(−1/2).
    """
    # Outputs of shape "n" get their axis of one: the last axis is what the average runs over.
    outputs = lambda params, x: network.apply(params, x).reshape(x.shape[0], -1)
    return neural_tangents().empirical_ntk_fn(outputs)(x1, x2, params)


def _kernel_of(network: Network) -> Callable:
    if network.kernel is None:
        raise ValueError("network.kernel is None: the infinite-width kernel of it is not known")
    return network.kernel


@functools.partial(jax.jit, static_argnames=("kernel", "which", "block_entries"))
def _gram(kernel, which, x1, x2, block_entries):
    if x2 is not None and x1.shape[1] != x2.shape[1]:
        raise ValueError(f"x1 and x2 must share the dimension, got {x1.shape} and {x2.shape}")
    dtype = jnp.result_type(x1, float)  # neural-tangents answers float32 in float64 where it may
    entries = lambda a, b: getattr(kernel(a, b), which).astype(dtype)
    columns = x1 if x2 is None else x2
    num_rows = x1.shape[0]
    block = max(1, block_entries // columns.shape[0])
    if block >= num_rows:
        return entries(x1, x2)
    # Whole blocks of rows, the last one filled up with the first rows.
    rows = jnp.resize(x1, (-(-num_rows // block), block, x1.shape[1]))
    gram = jax.lax.map(lambda block_of_rows: entries(block_of_rows, columns), rows)
    gram = gram.reshape(-1, columns.shape[0])[:num_rows]
    return gram if x2 is not None else (gram + gram.T) / 2
