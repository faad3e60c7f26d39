"""Kernels of a network: exact NTK and NNGP at infinite width, empirical NTK at finite width."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ntkreg._types import Array, Float, Params
from ntkreg.networks.network import Network

# Rows and columns of the blocks that a matrix is made of: on a CPU a block's intermediate arrays
# stay in the cache, on an accelerator a block keeps all of it busy.
CPU_BLOCK, ACCELERATOR_BLOCK = 256, 2048

ROWS = "rows"  # the axis of devices that the rows of a matrix are spread over


def ntk(
    network: Network,
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"] | None = None,
    block_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Float[Array, "n m"]:
    """The exact infinite-width NTK of `network` (in `ntk` scaling) between x1 and x2.

    >>> ntk(fully_connected(depth=3, width=8), jnp.eye(4)).shape
    (4, 4)

    K(x, x′) = E⟨∇f(Θ; x), ∇f(Θ; x′)⟩ over the gradients of all layers. Without x2 it is the Gram
    matrix of x1, symmetric. It is made in square blocks of `block_size` rows, of a Gram matrix
    half of them, so that little memory is needed beside it. Entries of `fully_connected` networks
    are accurate to some ε of √(K(x, x)K(x′, x′)), and to 20ε of their own size where θ is small or
    near π, at every depth. Those of other networks are neural-tangents' or as accurate as the
    kernel that was given: between a point and itself or its opposite, whose angle neural-tangents
    takes out of a cancellation, only to √ε, which is 2e-8 in float64 and 1e-4 in float32.

    With `devices` the rows are spread over them: each makes its n/len(devices) rows in blocks, and
    none holds more of the matrix. Of a Gram matrix both halves are made then, symmetric up to
    rounding.

    Source: Jacot, Gabriel, Hongler (NeurIPS 2018); Arora et al. (NeurIPS 2019); depth 2 is the
    kernel of Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.

    Raises:
      ValueError: where the network has no known kernel, the feature dimensions differ, or
        block_size is below 1, `devices` is empty, or their number does not divide n.
    """
    return _gram(_kernel_of(network), "ntk", x1, x2, block_size, devices)


def nngp(
    network: Network,
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"] | None = None,
    block_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Float[Array, "n m"]:
    """The covariance E f(Θ; x) f(Θ; x′) of the infinitely wide network at initialisation.

    >>> nngp(fully_connected(depth=2, width=8), jnp.eye(4), jnp.ones((1, 4))).shape
    (4, 1)

    Arguments and errors as in `ntk`.

    Source: Neal (1996); Lee et al. (ICLR 2018).
    """
    return _gram(_kernel_of(network), "nngp", x1, x2, block_size, devices)


def empirical_ntk(
    network: Network,
    params: Params,
    x1: Float[Array, "n d"],
    x2: Float[Array, "m d"] | None = None,
) -> Float[Array, "n m"]:
    """⟨∇f(Θ; x), ∇f(Θ; x′)⟩ at these parameters, averaged over outputs where there are several.

    >>> network = fully_connected(depth=2, width=8, scaling="ntk")
    >>> empirical_ntk(network, network.init(jax.random.key(0), 4), jnp.eye(4)).shape
    (4, 4)

    In `ntk` scaling it tends to `ntk` like width^(−1/2).
    """
    from ntkreg import neural_tangents as nt  # seconds, which nothing else waits for

    # Outputs of shape "n" get their axis of one: the last axis is what the average runs over.
    outputs = lambda params, x: network.apply(params, x).reshape(x.shape[0], -1)
    return nt.empirical_ntk_fn(outputs)(x1, x2, params)


def _kernel_of(network: Network) -> Callable:
    if network.kernel is None:
        raise ValueError("network.kernel is None: the infinite-width kernel of it is not known")
    return network.kernel


def _gram(kernel, which, x1, x2, block_size, devices):
    if x2 is not None and x1.shape[1] != x2.shape[1]:
        raise ValueError(f"x1 and x2 must share the dimension, got {x1.shape} and {x2.shape}")
    block_size = checked_block_size(block_size)
    if devices is None:
        return _in_blocks(kernel, which, x1, x2, block_size)
    mesh = _mesh(devices, x1.shape[0])
    own = jax.device_put(x1, NamedSharding(mesh, PartitionSpec(ROWS)))
    every = jax.device_put(x1 if x2 is None else x2, NamedSharding(mesh, PartitionSpec()))
    return _in_shards(kernel, which, own, every, block_size, mesh)


def checked_block_size(block_size: int | None) -> int:
    """`block_size`, or where it is None the one for the default backend; ValueError below 1."""
    if block_size is None:
        return CPU_BLOCK if jax.default_backend() == "cpu" else ACCELERATOR_BLOCK
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    return block_size


def _mesh(devices: Sequence[jax.Device], num_rows: int) -> Mesh:
    if not len(devices):
        raise ValueError(f"devices must name at least one device, got {devices}")
    if num_rows % len(devices):
        raise ValueError(
            f"the number of devices must divide the rows of x1: got {len(devices)} devices and "
            f"x1 with {num_rows} rows"
        )
    return Mesh(np.array(devices), (ROWS,))


@functools.partial(jax.jit, static_argnames=("kernel", "which", "block_size", "mesh"))
def _in_shards(kernel, which, x1, x2, block_size, mesh):
    spread, whole = PartitionSpec(ROWS), PartitionSpec()
    own_rows = lambda own, every: _in_blocks(kernel, which, own, every, block_size)
    # A loop that starts from zeros, equal on all devices, and ends in rows that differ: the check
    # of what varies over devices would want that said inside `_in_blocks`.
    shards = jax.shard_map(
        own_rows, mesh=mesh, in_specs=(spread, whole), out_specs=spread, check_vma=False
    )
    return shards(x1, x2)


@functools.partial(jax.jit, static_argnames=("kernel", "which", "block_size"))
def _in_blocks(kernel, which, x1, x2, block_size):
    dtype = jnp.result_type(x1, float)  # neural-tangents answers float32 in float64 where it may
    is_gram = x2 is None
    columns = x1 if is_gram else x2
    height, width = (min(block_size, points.shape[0]) for points in (x1, columns))
    tops, lefts = block_starts(x1.shape[0], height), block_starts(columns.shape[0], width)
    top, left = np.meshgrid(tops, lefts, indexing="ij")
    wanted = top <= left if is_gram else np.full(top.shape, True)

    def write(matrix: Array, corner: Array) -> tuple[Array, None]:
        top, left = corner
        rows = jax.lax.dynamic_slice_in_dim(x1, top, height)
        block = getattr(kernel(rows, jax.lax.dynamic_slice_in_dim(columns, left, width)), which)
        block = block.astype(dtype)
        if is_gram:
            # Sums in another order: a block on the diagonal is symmetric only up to rounding.
            block = jnp.where(top == left, (block + block.T) / 2, block)
            matrix = jax.lax.dynamic_update_slice(matrix, block.T, (left, top))
        return jax.lax.dynamic_update_slice(matrix, block, (top, left)), None

    corners = jnp.asarray(np.stack([top[wanted], left[wanted]], axis=1))
    matrix = jnp.zeros((x1.shape[0], columns.shape[0]), dtype)
    return jax.lax.scan(write, matrix, corners)[0]


def block_starts(length: int, block_size: int) -> np.ndarray:
    """Where blocks begin that cover `length`; the last one overlaps the one before."""
    return np.minimum(np.arange(0, length, block_size), length - block_size)
