"""Homogeneous networks of any depth: a finite network and its infinite-width kernel in one."""

import functools
import itertools
import math
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float, Params, PRNGKey, Shaped
from ntkreg.networks import arc_cosine

FAR, SPARE = 10, 16  # log₂ of the farthest scale of parameters, and of what floats keep in reserve


class Kernels(NamedTuple):
    """Infinite-width kernels of one network in `ntk` scaling."""

    ntk: Float[Array, "n m"]
    nngp: Float[Array, "n m"]


class Network(NamedTuple):
    """A homogeneous network: f(cΘ; x) = c^order f(Θ; x) for every c > 0.

    >>> network = fully_connected(depth=2, width=8)
    >>> params = network.init(jax.random.key(0), 3)
    >>> network.apply(params, jnp.ones((5, 3))).shape, network.order
    ((5,), 2)

    Attributes:
      init: (key, input_dim) -> parameters Θ.
      apply: (Θ, x of shape "n d") -> outputs "n", or "n k" with k > 1 outputs.
      kernel: (x1, x2 or None) -> Kernels, the infinite-width limit; None where it is not known.
      order: the degree of homogeneity in all parameters together.
    """

    init: Callable[[PRNGKey, int], Params]
    apply: Callable[[Params, Array], Array]
    kernel: Callable[[Array, Array | None], Kernels] | None
    order: int


class Activation(NamedTuple):
    """A positively homogeneous function, its degree, its He gain, and (NTK, NNGP) of its networks.

    `kernels` takes x1, x2 and the depth.
    """

    function: Callable[[Array], Array]
    degree: int
    gain: float
    kernels: Callable[[Array, Array, int], tuple[Array, Array]]


LEAK = 0.01

ACTIVATIONS = {
    "relu": Activation(jax.nn.relu, 1, 2.0, arc_cosine.leaky_relu),
    "leaky_relu": Activation(
        functools.partial(jax.nn.leaky_relu, negative_slope=LEAK),
        1,
        2.0 / (1.0 + LEAK**2),
        functools.partial(arc_cosine.leaky_relu, leak=LEAK),
    ),
    "identity": Activation(lambda z: z, 1, 1.0, arc_cosine.linear),
    "quadratic": Activation(jnp.square, 2, 1.0, arc_cosine.quadratic),
}

SCALINGS = ("standard", "ntk", "mean_field")


@functools.cache
def fully_connected(
    depth: int,
    width: int,
    num_outputs: int = 1,
    activation: str = "relu",
    scaling: str = "standard",
) -> Network:
    """A bias-free fully connected network with `depth` weight layers, and its kernel.

    >>> fully_connected(depth=3, width=8).order
    3

    f(Θ; x) = W_depthᵀ φ(… φ(W₁ᵀ x)), with a multiplier in each layer that `scaling` sets:

    - `standard`: none, so that ‖Θ‖ is the norm of the theorems. Entries start at N(0, g/fan-in)
      with He's gain g of the activation (2 for relu), N(0, 1/fan-in) in the last layer.
    - `ntk`: 1/√fan-in in every layer, entries start at N(0, 1).
    - `mean_field`: 1/fan-in in the last layer, entries there start at N(0, 1); the rest `standard`.

    `kernel` is always the infinite-width limit in `ntk` scaling with unit variances, accurate to
    rounding for equal, opposite and nearly collinear inputs too (`arc_cosine`). At depth 2
    and with relu it is 1/input_dim times the paper's K with r_w = r_u = 1. With an activation of
    degree k the order is 1 + k + … + k^(depth − 1), which is `depth` for k = 1.

    Equal arguments return the same object, so that compiled functions are found again.

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Sections 2 and 4; Jacot, Gabriel, Hongler (NeurIPS
    2018) for `ntk`; Mei, Montanari, Nguyen (PNAS 2018) for `mean_field`.

    Raises:
      ValueError: for depth, width or num_outputs < 1, an unknown activation or scaling.
    """
    for name, value in (("depth", depth), ("width", width), ("num_outputs", num_outputs)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")
    act = ACTIVATIONS[activation]

    def init(key: PRNGKey, input_dim: int) -> Params:
        sizes = [input_dim, *[width] * (depth - 1), num_outputs]
        shapes = list(itertools.pairwise(sizes))
        # One draw for all layers: each further one would be as slow to compile again.
        ends = np.cumsum([fan_in * fan_out for fan_in, fan_out in shapes])
        flat = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
        return tuple(
            _initial_std(scaling, act.gain, shape[0], is_last=layer == depth - 1)
            * entries.reshape(shape)
            for layer, (entries, shape) in enumerate(zip(flat, shapes, strict=True))
        )

    def apply(params: Params, x: Array) -> Array:
        *hidden, last = params
        for weights in hidden:
            x = act.function(_multiplier(scaling, weights, is_last=False) * (x @ weights))
        outputs = _multiplier(scaling, last, is_last=True) * (x @ last)
        return outputs[..., 0] if num_outputs == 1 else outputs

    order = sum(act.degree**layer for layer in range(depth))
    return Network(init, apply, _infinite_width_kernel(depth, act), order)


def _initial_std(scaling: str, gain: float, fan_in: int, is_last: bool) -> float:
    if scaling == "ntk" or (scaling == "mean_field" and is_last):
        return 1.0
    return math.sqrt((1.0 if is_last else gain) / fan_in)


def _multiplier(scaling: str, weights: Array, is_last: bool) -> float:
    fan_in = weights.shape[0]
    if scaling == "ntk":
        return 1.0 / math.sqrt(fan_in)
    return 1.0 / fan_in if scaling == "mean_field" and is_last else 1.0


def _infinite_width_kernel(depth: int, act: Activation) -> Callable[..., Kernels]:
    def kernel(x1: Array, x2: Array | None = None) -> Kernels:
        # Halves of the width of a float would not carry the recursion.
        dtype = jnp.result_type(x1, x1 if x2 is None else x2, jnp.float32)
        first = jnp.asarray(x1, dtype)
        return Kernels(*act.kernels(first, first if x2 is None else jnp.asarray(x2, dtype), depth))

    return kernel


def measured_order(network: Network, params: Params, x: Float[Array, "n d"]) -> Float[Array, ""]:
    """The order that Euler's identity ⟨∇f(Θ), Θ⟩ = order · f(Θ) gives, by least squares over x."""
    outputs, slope = jax.jvp(lambda p: network.apply(p, x), (params,), (params,))
    return jnp.vdot(slope, outputs) / jnp.vdot(outputs, outputs)


def homogeneity_error(
    network: Network, params: Params, x: Float[Array, "n d"], scale: float = 2.0
) -> Float[Array, ""]:
    """max |f(cΘ; x) − c^order f(Θ; x)| / max |c^order f(Θ; x)| at c = scale: 0 up to rounding."""
    scaled = network.apply(optax.tree.scale(scale, params), x)
    expected = scale**network.order * network.apply(params, x)
    return jnp.max(jnp.abs(scaled - expected)) / jnp.max(jnp.abs(expected))


def scales(outputs: Shaped[Array | np.ndarray, "..."], order: int) -> tuple[float, ...]:
    """Where f(cΘ) = c^order f(Θ) is tested: c = 2^±1 and as near to 2^±10 as floats allow.

    At the far ones what normalisation adds to its variance is no longer nothing, and powers of two
    are disturbed by no rounding. There is none where the outputs f(Θ) are 0, which is of every
    order, or too small or large to be doubled so often.
    """
    info, largest = jnp.finfo(outputs.dtype), float(np.abs(outputs).max())
    if not np.isfinite(largest):
        return (2.0,)
    with np.errstate(divide="ignore"):
        log = np.log2(largest)
    room = min(info.maxexp - log, log - info.minexp) - SPARE
    if room < order:
        return ()
    far = min(FAR, room // order)
    return 2.0**-far, 0.5, 2.0, 2.0**far


def check_homogeneous(network: Network, params: Params, x: Float[Array, "n d"]) -> None:
    """Raises ValueError where `network` is not homogeneous of its order at these parameters.

    It is tried at several scales of them (`scales`). The bound allows for float32 rounding in
    networks of any usual depth: 1e-3, relative. Under a trace nothing is looked at: values do not
    exist there.
    """
    if not is_concrete(params, x):
        return
    for scale in scales(network.apply(params, x), network.order):
        error = float(homogeneity_error(network, params, x, scale))
        if not error < 1e-3:
            raise ValueError(
                f"network is not homogeneous of order {network.order}: f({scale}Θ) is off "
                f"{scale}^{network.order} f(Θ) by {error:.2g}, and Euler's identity gives order "
                f"{float(measured_order(network, params, x)):.3g} (biases after the first "
                "layer and normalisation break homogeneity)"
            )


def save_params(path: str | os.PathLike, params: Params) -> None:
    """Writes parameters of any tree structure to an npz file, one entry per array.

    Raises:
      ValueError: for a dtype that such files do not keep, as bfloat16.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    arrays: dict[str, Any] = {jax.tree_util.keystr(k): np.asarray(leaf) for k, leaf in leaves}
    for name, array in arrays.items():
        if not issubclass(array.dtype.type, np.number | np.bool_):
            raise ValueError(
                f"params must be of a dtype that npz files keep, got {array.dtype} at {name} "
                "(float32 holds all of bfloat16)"
            )
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def load_params(path: str | os.PathLike, like: Params) -> Params:
    """Parameters that `save_params` wrote, in the structure of `like`.

    Args:
      like: a tree with the wanted structure and shapes; `jax.eval_shape(network.init, key, dim)`
        does, no array is read from it.

    Raises:
      ValueError: where names or shapes in the file differ from those of `like`; pickled content
        is refused.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(like)
    with np.load(path, allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    wanted = {jax.tree_util.keystr(name): leaf.shape for name, leaf in leaves}
    found = {name: array.shape for name, array in stored.items()}
    if wanted != found:
        raise ValueError(f"{path} must hold arrays {wanted}, got {found}")
    return jax.tree.unflatten(treedef, [jnp.asarray(stored[name]) for name in wanted])
