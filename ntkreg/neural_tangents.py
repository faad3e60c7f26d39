"""All of neural-tangents, working on current JAX: import this module in place of that one.

>>> from ntkreg import neural_tangents as nt
>>> init_fn, apply_fn, kernel_fn = nt.stax.serial(nt.stax.Dense(512), nt.stax.Relu())
>>> kernel_fn(jnp.eye(3), None, "ntk").shape
(3, 3)

neural-tangents 0.6.5, the last release, looks for names where JAX kept them before 0.6, and reads
what JAX no longer writes. While it is imported here it finds the old names, which are gone again
afterwards; what it calls later are stand-ins, under the names that its own modules look up. JAX's
and SciPy's modules stay as they are, and what imports neural-tangents itself afterwards gets the
same library. Its `experimental` is there where TensorFlow and tf2jax are.

Raises:
  ImportError: where another version of neural-tangents is installed, or none, or where this JAX
    lacks a name that it needs; the error says which.

Source: Novak, Sohl-Dickstein, Schoenholz, "Fast Finite Width Neural Tangent Kernel" (ICML 2022),
for the structured derivatives.
"""

import contextlib
import importlib
import importlib.metadata
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.extend
import jax.interpreters.ad
import jax.numpy as jnp
import numpy as np
import scipy
import scipy.linalg

KNOWN_VERSION = "0.6.5"

# Names that JAX 0.10 has in `jax.extend.core` alone, no longer in `jax.core`.
_MOVED = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")


class _Overlay:
    """A module as another sees it: `names` first, and otherwise what the module has."""

    def __init__(self, module: Any, **names: Any):
        vars(self).update(names, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


# ---- the import ----


def _check_version() -> None:
    version = importlib.metadata.version("neural-tangents")
    if version != KNOWN_VERSION:
        raise ImportError(
            f"ntkreg.neural_tangents knows neural-tangents {KNOWN_VERSION}, got {version}"
        )


@contextlib.contextmanager
def _for_now(namespace: dict, names: dict[str, Any]) -> Iterator[None]:
    """`names` in `namespace` for as long as the context lasts."""
    before = {name: namespace[name] for name in names if name in namespace}
    namespace.update(names)
    try:
        yield
    finally:
        for name in names:
            namespace.pop(name, None)
        namespace.update(before)


def _moved_names() -> dict[str, Any]:
    extend = importlib.import_module("jax.extend.core")
    missing = [name for name in _MOVED if not hasattr(extend, name)]
    if missing:
        raise ImportError(
            f"neural-tangents needs jax.extend.core.{missing[0]}: not in JAX {jax.__version__}"
        )
    return {name: getattr(extend, name) for name in _MOVED}


def _strict_map(function: Callable, *lists) -> list:
    return [function(*row) for row in zip(*lists, strict=True)]


def _strict_zip(*lists) -> list:
    return list(zip(*lists, strict=True))


def _import_with_old_names() -> types.ModuleType:
    """The library, imported while JAX shows it the names that it knows.

    Python runs this module once, under the module's lock: threads that import it wait for the
    first. What others see meanwhile are a few names more in two of JAX's modules.
    """
    util = types.ModuleType("jax.util")  # gone from JAX 0.10
    vars(util).update(safe_map=_strict_map, safe_zip=_strict_zip)
    # Gone from JAX 0.10, where nothing binds it: the library keeps a rule under it, no more.
    ad_names = {"zeros_like_p": _moved_names()["Primitive"]("zeros_like")}
    # It imports TensorFlow, which takes seconds, and is not there where nobody needs it.
    experimental = types.ModuleType("neural_tangents.experimental")
    with (
        _for_now(vars(jax.core), _moved_names()),
        _for_now(vars(jax.interpreters.ad), ad_names),
        _for_now(sys.modules, {"jax.util": util, experimental.__name__: experimental}),
    ):
        library = importlib.import_module("neural_tangents")
    if vars(library).get("experimental") is experimental:
        del vars(library)["experimental"]
    return library


def _experimental() -> types.ModuleType:
    try:
        return importlib.import_module("neural_tangents.experimental")
    except ImportError as error:
        raise ImportError(
            f"neural_tangents.experimental needs TensorFlow and tf2jax: {error}"
        ) from error


def __getattr__(name: str) -> Any:
    """`experimental`, imported when asked for."""
    if name == "experimental":
        return _experimental()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


# ---- structured derivatives ----
#
# The library walks over the linear program of a network's derivative, equation by equation. It
# gets that program, and the transposes of single equations, from what JAX 0.10 no longer has:
# `ad.linearize` of a wrapped function, which returned partial values, `Primitive.map_primitive` and
# `ad.reducing_transposes`. Public transformations say the same.


class _LinearProgram(NamedTuple):
    """What the library reads of a jaxpr, for one with equations that are linear in `invars`."""

    constvars: list
    invars: list
    outvars: list
    eqns: list


def _is_literal(atom) -> bool:
    return hasattr(atom, "val")


def _variables(atoms) -> set:
    return {atom for atom in atoms if not _is_literal(atom)}


def _read(values: dict, atoms) -> list:
    return [atom.val if _is_literal(atom) else values[atom] for atom in atoms]


def _results(eqn, args: list) -> list:
    """What an equation makes of `args`."""
    if eqn.primitive.name == "split":  # what jnp.split is on JAX 0.10: many results are refused
        ends = np.cumsum(eqn.params["sizes"])
        pieces = zip(ends - np.array(eqn.params["sizes"]), ends, strict=True)
        axis = eqn.params["axis"]
        return [jax.lax.slice_in_dim(args[0], int(i), int(j), axis=axis) for i, j in pieces]
    results = eqn.primitive.bind(*args, **eqn.primitive.get_bind_params(eqn.params))
    return results if eqn.primitive.multiple_results else [results]


def _evaluate(jaxpr, consts, args) -> list:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
    for eqn in jaxpr.eqns:
        values.update(zip(eqn.outvars, _results(eqn, _read(values, eqn.invars)), strict=True))
    return _read(values, jaxpr.outvars)


def _used(eqns: list, outvars: list) -> list:
    """The equations that `outvars` depend on."""
    needed, used = _variables(outvars), []
    for eqn in reversed(eqns):
        if not needed.isdisjoint(eqn.outvars):
            used.append(eqn)
            needed |= _variables(eqn.invars)
    return used[::-1]


def _linear_program(function: Callable, args: list) -> tuple[_LinearProgram, list]:
    """The program of a linear function, and the values of its constants.

    What does not depend on the arguments is computed here: only linear equations are left.
    """
    first = jax.make_jaxpr(function)(*args)
    closed = jax.make_jaxpr(lambda *xs: _evaluate(first.jaxpr, first.consts, xs))(*args)
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    linear, eqns = set(jaxpr.invars), []
    for eqn in _used(jaxpr.eqns, jaxpr.outvars):
        if linear.isdisjoint(_variables(eqn.invars)):
            known.update(zip(eqn.outvars, _results(eqn, _read(known, eqn.invars)), strict=True))
        else:
            eqns.append(eqn)
            linear.update(eqn.outvars)
    program = _LinearProgram(list(known), jaxpr.invars, jaxpr.outvars, eqns)
    return program, list(known.values())


def _outputs_and_pullback(backward_pass: Callable) -> Callable:
    """The stand-in for `_get_primals_out_and_pullback`, around the library's `_backward_pass`."""
    undefined = jax.interpreters.ad.UndefinedPrimal

    def outputs_and_pullback(function, mode, j_rules, s_rules, fwd, *inputs):
        leaves, tree = jax.tree.flatten(inputs)
        flat = lambda *xs: function(*jax.tree.unflatten(tree, xs))
        with jax.disable_jit():
            outputs, derivative = jax.linearize(flat, *leaves)
            tangents = [jax.typeof(leaf).to_tangent_aval() for leaf in leaves]
            program, consts = _linear_program(
                lambda *xs: jax.tree.leaves(derivative(*xs)),
                [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in tangents],
            )

        def pullback(*cotangents):
            results = backward_pass(
                program,
                mode=mode,
                consts=consts,
                primals_in=[undefined(var.aval) for var in program.invars],
                cotangents_in=tuple(jax.tree.leaves(cotangents)),
                _j_rules=j_rules,
                _s_rules=s_rules,
                _fwd=fwd,
            )
            return jax.tree.unflatten(tree, results)

        return outputs, pullback

    return outputs_and_pullback


def _or_zeros(value):
    """`value`, or zeros where the library gives its shape alone: any value would do there."""
    aval = getattr(value, "aval", value)
    no_value = isinstance(value, jax.core.ShapedArray | jax.interpreters.ad.UndefinedPrimal)
    return jnp.zeros(aval.shape, aval.dtype) if no_value else value


def _transposed(eqn, cotangent, *args) -> tuple:
    """The stand-in for `_eqn_vjp_fn`: cotangents where `args` are undefined, None elsewhere."""
    if eqn is None:
        return (cotangent,)
    ad = jax.interpreters.ad
    avals = {i: x.aval for i, x in enumerate(args) if isinstance(x, ad.UndefinedPrimal)}

    def output(*linear):
        filled = dict(zip(avals, linear, strict=True))
        return _results(eqn, [filled.get(i, _or_zeros(x)) for i, x in enumerate(args)])[0]

    if isinstance(cotangent, ad.Zero):
        found = [ad.Zero(aval) for aval in avals.values()]
    else:
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals.values()]
        if eqn.primitive.name == "reshape":  # the library takes it for the identity
            cotangent = cotangent.reshape(eqn.params["new_sizes"])
        cotangent = cotangent.astype(eqn.outvars[0].aval.dtype)
        found = jax.linear_transpose(output, *shapes)(cotangent)
    cotangents = dict(zip(avals, found, strict=True))
    return tuple(cotangents.get(i) for i in range(len(args)))


# ---- the rest ----


def _flops(function: Callable, optimize: bool, *args, **kwargs) -> float:
    """The stand-in for `_get_flops`: JAX 0.10 gives one dict, not a list of them."""
    lowered = jax.jit(function).lower(*args, **kwargs)
    analysis = (lowered.compile() if optimize else lowered).cost_analysis() or {}
    return analysis.get("flops", 0.0)  # it has no count where there is no arithmetic


def _eigvalsh(a, *args, eigvals=None, **kwargs):
    """SciPy's, with `eigvals=`, for which it only takes `subset_by_index=` after SciPy 1.11."""
    if eigvals is not None:
        kwargs["subset_by_index"] = eigvals
    return scipy.linalg.eigvalsh(a, *args, **kwargs)


def _where_traced(*values) -> contextlib.AbstractContextManager:
    """A context that computes where `values` are traced, or at once where none of them is.

    The results may outlive the trace that asks for them, as they did in `eval_context` of JAX
    before 0.4.36: a predictor keeps its factorisation for the next call, in whatever trace.
    """
    extend = importlib.import_module("jax.extend.core")
    tracers = [x for x in jax.tree.leaves(values) if isinstance(x, jax.core.Tracer)]
    traces = {id(tracer._trace): tracer._trace for tracer in tracers}
    if len(traces) == 1:
        return extend.set_current_trace(*traces.values())
    return jax.ensure_compile_time_eval()


def _computed_where_traced(function: Callable) -> Callable:
    def call(matrix, diag_reg, *args, **kwargs):
        with _where_traced(matrix, diag_reg):
            return function(matrix, diag_reg, *args, **kwargs)

    return call


def _put_stand_ins() -> None:
    """Gives the library's modules, and no others, what they miss."""
    module = lambda name: importlib.import_module(f"neural_tangents._src.{name}")
    empirical, predict, linear = map(module, ("empirical", "predict", "stax.linear"))

    vars(empirical).update(
        _get_primals_out_and_pullback=_outputs_and_pullback(empirical._backward_pass),
        _eqn_vjp_fn=_transposed,
        _get_flops=_flops,
        # Gone from `ad` since JAX 0.4.26; what the checks call is gone from JAX 0.10 as well.
        ad=_Overlay(
            jax.interpreters.ad,
            source_info_util=types.SimpleNamespace(transform_name_stack=jax.named_scope),
            config=types.SimpleNamespace(jax_enable_checks=False),
        ),
        # Shapes with variables in them are gone from JAX 0.10: a type that nothing has.
        core=_Overlay(jax.core, DShapedArray=type("DShapedArray", (), {})),
    )
    # Since JAX 0.4.36 `eval_context` refuses values that are traced outside of it.
    compute_at_once = _Overlay(
        jax, core=_Overlay(jax.core, eval_context=jax.ensure_compile_time_eval)
    )
    vars(predict).update(
        jax=compute_at_once,
        sp=_Overlay(scipy, linalg=_Overlay(scipy.linalg, eigvalsh=_eigvalsh)),
        _get_cho_solve=_computed_where_traced(predict._get_cho_solve),
        _get_fns_in_eigenbasis=_computed_where_traced(predict._get_fns_in_eigenbasis),
    )
    vars(linear).update(jax=compute_at_once)


_check_version()
_library = _import_with_old_names()
_put_stand_ins()
vars(_library)["__getattr__"] = __getattr__

__version__ = _library.__version__
Kernel = _library.Kernel
NtkImplementation = _library.NtkImplementation
batch = _library.batch
empirical_kernel_fn = _library.empirical_kernel_fn
empirical_nngp_fn = _library.empirical_nngp_fn
empirical_ntk_fn = _library.empirical_ntk_fn
empirical_ntk_vp_fn = _library.empirical_ntk_vp_fn
linearize = _library.linearize
monte_carlo_kernel_fn = _library.monte_carlo_kernel_fn
predict = _library.predict
stax = _library.stax
taylor_expand = _library.taylor_expand
