"""What differs between versions of JAX; what neural-tangents needs is in `neural_tangents`."""

import functools
from collections.abc import Callable

import jax


def is_concrete(*trees) -> bool:
    """True where every array in `trees` has a value, so that bad values can raise."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees))


# Not optimised, and without XLA's newer emitters of fused loops, programs compile for CPUs in a
# quarter of the time or a little more. They run up to twice as long, loops of training steps three
# to eight times as long: for programs that run once.
_QUICK: dict[str, str | bool] = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": False,
}


@functools.cache
def quick_compilation(platform: str) -> dict[str, str | bool]:
    """Compiler options for programs on `platform`, of those that this XLA knows."""
    if platform != "cpu":
        return {}
    return {name: value for name, value in _QUICK.items() if _is_known(name, value)}


def _is_known(name: str, value: str | bool) -> bool:
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def jit_quickly(function: Callable, static_argnames: str | tuple[str, ...] = ()) -> Callable:
    """`jax.jit`, compiled quickly on a CPU: for programs that run once. In a trace, `function`."""

    @functools.cache
    def jitted() -> Callable:
        options = quick_compilation(jax.default_backend())
        return jax.jit(function, static_argnames=static_argnames, compiler_options=options or None)

    @functools.wraps(function)
    def call(*args, **kwargs):
        is_traced = not is_concrete(args, kwargs)  # options are the outer program's to give
        return function(*args, **kwargs) if is_traced else jitted()(*args, **kwargs)

    return call
