"""Two-layer relu networks whose passes write no n × width activations to memory.

f_i = Σ_j relu(x_iᵀw_j) a_j, and for g = ∂loss/∂f all gradients follow from one d × width matrix,

    V = xᵀ(g ∘ 1[xW > 0]),     ∂W = V ∘ a,     ∂a_j = w_jᵀV_j,

the last because relu(z) = z·1[z > 0]. Both passes need xW only block by block, so it is computed
twice and kept on chip. On a CPU that pays with several λ at once, or where the activations outgrow
the caches. On an H100 it has not paid: the plain step of 1024 λ runs at the speed of the memory,
and the Triton kernels, which move less than half of its bytes, take as long at d = 20 and twice as
long at d = 80.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

from ntkreg._types import Array, Float, Params
from ntkreg.networks.network import Network, fully_connected

Backend = Literal["auto", "pallas", "xla"]

BLOCK = 32  # rows and neurons that a Triton program holds at a time: registers spill with 64
MAX_TRITON_DIM = 128  # beyond it they spill again, and arithmetic outweighs memory traffic
PAYS_TO_DIM = 32  # on an H100 they are as fast as the plain passes at d = 20, half as fast at 80
MAX_UNROLLED_DIM = 32  # beyond it unrolled arithmetic costs more time than the traffic it saves


class Passes(NamedTuple):
    """The two passes over the data: (x, W, a) -> f, and (x, W, g) -> V = xᵀ(g ∘ 1[xW > 0])."""

    forward: Callable[[Array, Array, Array], Array]
    backward: Callable[[Array, Array, Array], Array]


@functools.cache
def two_layer(width: int, backend: Backend = "auto", interpret: bool = False) -> Network:
    """`fully_connected(2, width)` with passes that keep its activations on chip.

    Initial parameters, kernel and order are those of `networks.fully_connected`, outputs and
    gradients too, up to rounding: a neuron with xᵀw = 0 only up to rounding may count as active in
    one and not in the other. There are no forward-mode derivatives (`jax.jvp`, Hessians).

    Equal arguments return the same object, so that compiled functions are found again.

    Args:
      backend: "xla" writes the passes so that XLA fuses them: forward writes no n × width array,
        backward one. "pallas" is two Triton kernels for a GPU, which write none, in float32
        arithmetic (no TF32); without a GPU or with more than 128 input dimensions it warns, once,
        and is "xla". "auto" is "pallas" where that can run, up to 32 input dimensions, and silent.
        All are "xla" in float64.
      interpret: run the Triton kernels in Pallas' interpreter, on any device: for tests.

    Raises:
      ValueError: for width < 1 or an unknown backend.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    evaluate = _evaluate(backend, interpret)

    def apply(params: Params, x: Float[Array, "n d"]) -> Float[Array, " n"]:
        w, a = params
        return evaluate(x, w, a[:, 0])

    return fully_connected(2, width)._replace(apply=apply)


def _evaluate(backend: Backend, interpret: bool) -> Callable[[Array, Array, Array], Array]:
    """(x: "n d", W: "d m", a: "m") -> f: "n", with gradients by the formulas above."""

    @jax.custom_vjp
    def evaluate(x, w, a):
        return _passes(backend, interpret, x, w, a).forward(x, w, a)

    def backward(saved, g):
        x, w, a = saved
        v = _passes(backend, interpret, x, w, a).backward(x, w, g)
        # Training never asks for the first, and compiled programs drop it.
        return (g[:, None] * (x @ w > 0)) @ (w * a).T, v * a, jnp.sum(w * v, axis=0)

    evaluate.defvjp(lambda x, w, a: (evaluate(x, w, a), (x, w, a)), backward)
    return evaluate


def _passes(backend: Backend, interpret: bool, x: Array, w: Array, a: Array) -> Passes:
    """The passes that `backend` stands for, with inputs of this dtype and dimension."""
    if backend == "xla" or jnp.result_type(x, w, a) != jnp.float32:
        return XLA
    if backend == "auto" and x.shape[1] > PAYS_TO_DIM:
        return XLA
    obstacle = _obstacle(interpret, x.shape[1])
    if obstacle is None:
        return TRITON_INTERPRETED if interpret else TRITON
    if backend == "pallas":
        _warn_once(obstacle)
    return XLA


def _obstacle(interpret: bool, input_dim: int) -> str | None:
    """Why the Triton kernels cannot run, or None."""
    if not interpret and jax.default_backend() != "gpu":
        return f"it needs a GPU, and JAX runs on {jax.default_backend()}"
    if input_dim > MAX_TRITON_DIM:
        return f"it takes up to {MAX_TRITON_DIM} input dimensions, and there are {input_dim}"
    return None


@functools.cache
def _warn_once(obstacle: str) -> None:
    warnings.warn(f"backend 'pallas' falls back to 'xla': {obstacle}", stacklevel=2)


def _lanewise(function: Callable[..., Array]) -> Callable[..., Array]:
    """`function`, whose lanes under vmap each get their own copy of what they share.

    With one x for all lanes the batched products come out transposed, and then XLA fuses nothing.
    """
    lanes = custom_vmap(function)

    @lanes.def_vmap
    def _(size, batched, *arrays):
        whole = [
            v if is_batched else jnp.broadcast_to(v, (size, *v.shape))
            for v, is_batched in zip(arrays, batched, strict=True)
        ]
        return _lanewise(jax.vmap(function))(*whole), True

    return lanes


def _xla_forward(x: Array, w: Array, a: Array) -> Array:
    # XLA makes one kernel of product, relu and sum; of product, relu and product it makes three.
    return jnp.sum(jnp.maximum(x @ w, 0) * a, axis=1)


def _xla_backward(x: Array, w: Array, g: Array) -> Array:
    # Behind the barrier xW and 0 are not those of the forward pass: shared, they would be written.
    x, w, g, zero = jax.lax.optimization_barrier((x, w, g, jnp.zeros((), x.dtype)))
    if x.shape[1] <= MAX_UNROLLED_DIM:
        # Sums of products fuse into the comparison; the result of a matrix product is written.
        z = sum(x[:, k, None] * w[k] for k in range(x.shape[1]))
    else:
        z = x @ w
    return x.T @ jnp.where(z > zero, g[:, None], zero)


def _triton_or_xla(triton: Callable[..., Array], xla: Callable[..., Array]) -> Callable[..., Array]:
    """`triton` in programs for a GPU, `xla` in others: a machine with a GPU compiles both kinds."""
    return lambda *arrays: jax.lax.platform_dependent(
        *arrays, cuda=triton, rocm=triton, default=xla
    )


def _triton_forward(x: Array, w: Array, a: Array, interpret: bool = False) -> Array:
    """f: each program takes a block of rows and adds up its outputs over blocks of neurons."""
    pl, call = _pallas(x.shape[1], interpret)
    n, m = x.shape[0], w.shape[1]
    x, w, a = _padded(x, {0: BLOCK}, 1), _padded(w, {1: BLOCK}, 0), _padded(a, {0: BLOCK})

    def kernel(x_ref, w_ref, a_ref, f_ref):
        samples = x_ref[...]

        def add(block, f):
            neurons = pl.ds(block * BLOCK, BLOCK)
            z = _product(samples, w_ref[:, neurons], 1)
            return f + jnp.sum(jnp.maximum(z, 0) * a_ref[neurons][None, :], axis=1)

        f_ref[...] = jax.lax.fori_loop(0, pl.cdiv(m, BLOCK), add, jnp.zeros(BLOCK, x.dtype))

    outputs = call(
        kernel,
        grid=(pl.cdiv(n, BLOCK),),
        in_specs=[
            pl.BlockSpec((BLOCK, x.shape[1]), lambda i: (i, 0)),
            pl.BlockSpec(w.shape, lambda i: (0, 0)),
            pl.BlockSpec(a.shape, lambda i: (0,)),
        ],
        out_specs=pl.BlockSpec((BLOCK,), lambda i: (i,)),
        out_shape=jax.ShapeDtypeStruct(x.shape[:1], x.dtype),
    )(x, w, a)
    return outputs[:n]


def _triton_backward(x: Array, w: Array, g: Array, interpret: bool = False) -> Array:
    """V: each program takes a block of neurons and adds up its columns over blocks of rows."""
    n, (d, m) = x.shape[0], w.shape
    pl, call = _pallas(d, interpret)
    x, w, g = _padded(x, {0: BLOCK}, 1), _padded(w, {1: BLOCK}, 0), _padded(g, {0: BLOCK})

    def kernel(x_ref, w_ref, g_ref, v_ref):
        neurons = w_ref[...]

        def add(block, v):
            rows = pl.ds(block * BLOCK, BLOCK)
            samples = x_ref[rows, :]
            active = _product(samples, neurons, 1) > 0
            return v + _product(samples, jnp.where(active, g_ref[rows][:, None], 0), 0)

        v_ref[...] = jax.lax.fori_loop(0, pl.cdiv(n, BLOCK), add, jnp.zeros_like(neurons))

    block = pl.BlockSpec((w.shape[0], BLOCK), lambda j: (0, j))
    v = call(
        kernel,
        grid=(pl.cdiv(m, BLOCK),),
        in_specs=[
            pl.BlockSpec(x.shape, lambda j: (0, 0)),
            block,
            pl.BlockSpec(g.shape, lambda j: (0,)),
        ],
        out_specs=block,
        out_shape=jax.ShapeDtypeStruct(w.shape, w.dtype),
    )(x, w, g)
    return v[:d, :m]


def _product(left: Array, right: Array, axis: int) -> Array:
    """The product over `axis` of left and axis 0 of right, in float32 and not TF32."""
    return jax.lax.dot_general(
        left, right, (((axis,), (0,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )


def _padded(array: Array, blocks: dict[int, int], power_axis: int | None = None) -> Array:
    """`array` with zeros up to a multiple of its block, and to a power of 2 ≥ 16 on one axis.

    Triton takes no other sizes. Zero rows of x, columns of W, and entries of a and g add nothing.
    """
    sizes = list(array.shape)
    for axis, block in blocks.items():
        sizes[axis] += -sizes[axis] % block
    if power_axis is not None:
        sizes[power_axis] = max(16, 1 << (sizes[power_axis] - 1).bit_length())
    return jnp.pad(array, [(0, to - size) for to, size in zip(sizes, array.shape, strict=True)])


def _pallas(input_dim: int, interpret: bool):
    """The module, and its `pallas_call` for Triton; imported late, since few programs need it."""
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    # With these numbers of threads no register spills on Hopper (read off the compiled kernels).
    params = triton.CompilerParams(num_warps=4 if input_dim <= 64 else 8, num_stages=2)
    return pl, functools.partial(pl.pallas_call, compiler_params=params, interpret=interpret)


XLA = Passes(_lanewise(_xla_forward), _lanewise(_xla_backward))
TRITON = Passes(
    _triton_or_xla(_triton_forward, XLA.forward), _triton_or_xla(_triton_backward, XLA.backward)
)
TRITON_INTERPRETED = Passes(
    functools.partial(_triton_forward, interpret=True),
    functools.partial(_triton_backward, interpret=True),
)
