"""neural-tangents on current JAX, and the few other places where versions differ.

neural-tangents 0.6.5 is the last release. It looks for names where JAX kept them before 0.6, and
its `experimental` sub-package imports TensorFlow, which nothing here needs. Both are mended before
its first import, which waits until a kernel is asked for.
"""

import functools
import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Callable

import jax

_CORE_NAMES = (
    "AbstractValue",
    "Jaxpr",
    "JaxprEqn",
    "Literal",
    "Primitive",
    "ShapedArray",
    "Value",
    "Var",
    "eval_context",
)


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
    """Compiler options for programs on `platform`; none where this XLA does not know them."""
    if platform != "cpu":
        return {}
    try:
        jax.jit(lambda: 0).lower().compile(compiler_options=_QUICK)
    except jax.errors.JaxRuntimeError:
        return {}
    return _QUICK


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


_importing = threading.Lock()


def neural_tangents() -> types.ModuleType:
    """The module `neural_tangents`, imported once, without TensorFlow.

    Raises:
      ImportError: where this JAX lacks a name that neural-tangents needs; the error gives it.
    """
    with _importing:  # several workers may ask first at the same time
        if "neural_tangents" not in sys.modules:
            _restore_core_names()
            _restore_jax_util()
            _restore_zeros_like()
            experimental = "neural_tangents.experimental"
            sys.modules.setdefault(experimental, types.ModuleType(experimental))
        return importlib.import_module("neural_tangents")


def _restore_core_names() -> None:
    sources = [importlib.import_module(m) for m in ("jax.extend.core", "jax._src.core")]
    # `vars` and not `hasattr`: the deprecated names answer with a warning or an error.
    for name in _CORE_NAMES:
        if name not in vars(jax.core):
            setattr(jax.core, name, _first(sources, name))


def _restore_jax_util() -> None:
    if "jax.util" not in sys.modules and importlib.util.find_spec("jax.util") is None:
        util = types.ModuleType("jax.util")
        source = importlib.import_module("jax._src.util")
        vars(util).update(safe_map=source.safe_map, safe_zip=source.safe_zip)
        sys.modules["jax.util"] = vars(jax)["util"] = util


def _restore_zeros_like() -> None:
    ad = importlib.import_module("jax.interpreters.ad")
    if "zeros_like_p" not in vars(ad):
        vars(ad)["zeros_like_p"] = importlib.import_module("jax._src.ad_util").zeros_like_p


def _first(sources: list[types.ModuleType], name: str):
    for source in sources:
        if hasattr(source, name):
            return getattr(source, name)
    raise ImportError(
        f"neural-tangents 0.6.5 needs jax.core.{name}, which JAX {jax.__version__} has nowhere"
    )
