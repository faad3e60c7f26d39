"""Any homogeneous Flax module as a Network: linen and nnx, checked and with its order measured."""

import contextlib
import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from ntkreg._types import Array, Params, PRNGKey
from ntkreg.networks.network import Kernels, Network, scales

# Where a module is tried: some inputs and their negatives, and some draws of its parameters, so
# that units which are off at one of them are on at another.
NUM_INPUTS, NUM_DRAWS = 8, 4
STEP = 2.0**-10  # relative, of differences
TOLERANCE = 1e-3  # relative, as in `networks.check_homogeneous`


class _Functions(NamedTuple):
    """A module as two functions of its parameters, a plain nested dict of arrays."""

    init: Callable[[PRNGKey], Params]
    apply: Callable[[Params, Array], Array]


_Named = dict[str, np.ndarray]


class _Trial(NamedTuple):
    """A module to be tried at some draws of its parameters, which go by names as Dense_0/kernel.

    Attributes:
      params: name -> array, the first axis over draws.
      of: such arrays -> (outputs f, name -> their derivative ⟨∂f/∂θ, θ⟩ by the array's size).
    """

    params: _Named
    of: Callable[[_Named], tuple[np.ndarray, _Named]]


def from_flax(
    module: Any,
    kernel: Callable[[Array, Array | None], Kernels] | None = None,
    *,
    input_dim: int,
    order: int | None = None,
) -> Network:
    """The network of a Flax module that is homogeneous in its parameters.

    >>> module = flax.linen.Dense(1, use_bias=False)
    >>> from_flax(module, input_dim=3).order
    1

    The module takes x of shape "n d" (one of images reshapes it first) and gives "n", "n 1" or
    "n k". Parameters are a nested dict of arrays, as Flax initialises them. The order comes from
    Euler's identity ⟨∇f(Θ), Θ⟩ = order · f(Θ) at random parameters, and f(cΘ) = c^order f(Θ) is
    checked there for c from 2⁻¹⁰ to 2¹⁰: not where the module starts, since Flax's biases are 0
    there. No arrays may be such that outputs stay while they grow, each by a power ≥ 0 of c.

    The same linen module, or the same function that makes an nnx module, gives the same object, so
    that compiled functions are found again.

    Args:
      module: a `flax.linen.Module`; or, since an nnx module draws its parameters when it is built,
        whatever builds it when called with the keyword `rngs`: its class, or a function.
      kernel: the infinite-width limit in `ntk` scaling, as in `Network`, where it is known.
      input_dim: d.
      order: the degree of homogeneity where it is proved, which saves the seconds of the check.

    Raises:
      ValueError: for a module that is none, or has fields that cannot be hashed; one that raises
        an error of its own when it is built or called on x alone, in one line; one with state
        beside its parameters, as batch normalisation has; outputs of another shape; or parameters
        that do not enter homogeneously, as biases after the first layer, or whose scale nothing
        depends on, as of a layer with normalisation after it: the error names them. For input_dim
        or order < 1.
    """
    for name, value in (("input_dim", input_dim), ("order", 1 if order is None else order)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    _check_hashable(module)
    return _from_flax(module, kernel, input_dim, order)


def _check_hashable(module: Any) -> None:
    for name, value in vars(module).items() if dataclasses.is_dataclass(module) else ():
        try:
            hash(value)
        except TypeError:
            if not name.startswith("_"):
                raise ValueError(
                    f"module must have fields that can be hashed, as tuples, got {name}={value}"
                ) from None


@functools.cache
def _from_flax(
    module: Any,
    kernel: Callable[[Array, Array | None], Kernels] | None,
    input_dim: int,
    order: int | None,
) -> Network:
    with _in_one_line(f"take x of shape (n, {input_dim}) alone"):
        functions = _functions_of(module, input_dim)
        shapes = jax.eval_shape(lambda: functions.init(jax.random.key(0)))
        x = jax.ShapeDtypeStruct((NUM_INPUTS, input_dim), float)
        found = jax.eval_shape(functions.apply, shapes, x)
    if not jax.tree.leaves(shapes):
        raise ValueError(f"module must have parameters, {module} has none")
    if not isinstance(found, jax.ShapeDtypeStruct):
        raise ValueError(f"module must give one array, got a {type(found).__name__}")
    outputs = found.shape
    if outputs[:1] != (NUM_INPUTS,) or len(outputs) > 2:
        raise ValueError(
            f"module must give outputs of shape (n,) or (n, k) for x of shape (n, {input_dim}), "
            f"got {outputs} for n = {NUM_INPUTS}"
        )

    def init(key: PRNGKey, dim: int) -> Params:
        if dim != input_dim:
            raise ValueError(f"input_dim must be {input_dim}, as in from_flax, got {dim}")
        return functions.init(key)

    def apply(params: Params, x: Array) -> Array:
        outputs = functions.apply(params, x)
        return outputs[:, 0] if outputs.shape[1:] == (1,) else outputs

    if order is None:
        order = _checked_order(functions.apply, shapes, input_dim)
    return Network(init, apply, kernel, int(order))


# What the words of an error tell about a module -> what to do about it.
_HINTS = {
    r"PRNG|[Dd]ropout": "dropout must be deterministic: training and test are one function here",
    r"__call__\(\) missing": "flags as train need a default that is right for both",
    r"__init__\(\) missing": "fields need a default",
    r"nnx\.List|[Pp]ytree": "layers of an nnx module are kept in nnx.List",
    r"dot_general|shape": "its first layer must have as many inputs as there are features",
}
_LONGEST = 160  # letters of a module's own error


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Turns any error of a user's module into a ValueError of one line that says what to do."""
    try:
        yield
    except Exception as error:
        if str(error).startswith("module must"):
            raise
        words = " ".join(re.sub(r"\(https?:\S+\)", "", str(error)).split())
        hint = next((hint for pattern, hint in _HINTS.items() if re.search(pattern, words)), "")
        raise ValueError(
            f"module must {what}{f' ({hint})' if hint else ''}, got {type(error).__name__}: "
            f"{words[:_LONGEST]}"
        ) from None


def _functions_of(module: Any, input_dim: int) -> _Functions:
    from flax import linen, nnx

    if isinstance(module, linen.Module):
        return _linen_functions(module, input_dim)
    is_class = isinstance(module, type) and issubclass(module, linen.Module)
    if is_class or isinstance(module, nnx.Module) or not callable(module):
        raise ValueError(
            "module must be a flax.linen module or what builds an nnx module when called with "
            f"rngs=…, got {module!r:.80}"
        )
    return _nnx_functions(module)


def _linen_functions(module: Any, input_dim: int) -> _Functions:
    # Compiled, the forward pass that Flax initialises by is left out.
    variables = jax.jit(lambda key: module.init(key, jnp.zeros((1, input_dim))))
    _refuse_state(set(jax.eval_shape(lambda: variables(jax.random.key(0)))) - {"params"})
    return _Functions(
        init=lambda key: variables(key).get("params", {}),
        apply=lambda params, x: module.apply({"params": params}, x),
    )


def _nnx_functions(build: Callable[..., Any]) -> _Functions:
    from flax import nnx

    built = nnx.eval_shape(lambda: build(rngs=nnx.Rngs(0)))
    if not isinstance(built, nnx.Module):
        raise ValueError(f"module must build an nnx module, got {type(built).__name__}")
    graph, shapes, *rest = nnx.split(built, nnx.Param, ...)
    others = [pair for state in rest for pair in nnx.to_flat_state(state)]
    _refuse_state({type(variable).__name__ for _, variable in others})

    def apply(params: Params, x: Array) -> Array:
        state = jax.tree.map(lambda shape: shape, shapes)  # a copy, to be filled
        nnx.replace_by_pure_dict(state, params)
        return nnx.merge(graph, state)(x)

    drawn = lambda key: nnx.state(build(rngs=nnx.Rngs(key)), nnx.Param)
    return _Functions(jax.jit(lambda key: nnx.to_pure_dict(drawn(key))), apply)


def _refuse_state(names: Iterable[str]) -> None:
    if names:
        raise ValueError(
            f"module must have no state beside its parameters, got {', '.join(sorted(names))} "
            "(batch normalisation and dropout have some)"
        )


def _checked_order(apply: Callable[[Params, Array], Array], shapes: Params, input_dim: int) -> int:
    """The order of a network that is homogeneous; ValueError, with names, for any other."""
    trial = _trial(apply, shapes, input_dim)
    outputs, slopes = trial.of(trial.params)
    if not all(np.isfinite(array).all() for array in (outputs, *slopes.values())):
        raise ValueError("module must give finite outputs at random parameters, got NaN or inf")
    if idle := _idle(outputs, slopes):
        raise ValueError(
            f"module must depend on the size of all parameters, scaling {', '.join(idle)} "
            f"{'together ' * (len(idle) > 1)}changes no output (normalisation after it undoes the "
            "scale, or nothing uses it)"
        )
    if not _is_homogeneous(trial, trial.params, trial.params):
        raise ValueError(
            "module must be homogeneous, f(cΘ) = c^order f(Θ), what breaks it is "
            f"{', '.join(_breaking(trial))} (only the first layer may have a bias, give the others "
            "use_bias=False; no skip connections; activations as homogeneous as relu)"
        )
    return _degree(outputs, slopes, trial.params)


def _idle(outputs: np.ndarray, slopes: _Named) -> list[str]:
    """The names of arrays that can grow, alone or together with others, with no change of outputs.

    An array is one where its slopes are the negative of some slopes of others, with weights ≥ 0:
    normalisation undoes the scale of a layer's kernel and bias together, though each alone is used.
    Shrinking them makes ‖Θ‖ smaller for nothing. That some grow while others shrink is common.
    """
    columns = np.stack([slope.ravel() for slope in slopes.values()], axis=1)
    _, reduced = np.linalg.qr(columns.astype(float))  # the same distances in few rows
    others = 1 - np.eye(len(slopes))
    left = lambda i: scipy.optimize.nnls(reduced * others[i], -reduced[:, i])[1]
    floor = TOLERANCE * np.linalg.norm(outputs)
    return [name for i, name in enumerate(slopes) if not left(i) > floor]


def _trial(apply: Callable[[Params, Array], Array], shapes: Params, input_dim: int) -> _Trial:
    """The module at random inputs and parameters, entries of variance 1/fan-in, vectors' of 1."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(NUM_INPUTS, input_dim))
    x = np.concatenate([x, -x])
    leaves, treedef = jax.tree_util.tree_flatten_with_path(shapes)
    names = ["/".join(str(key.key) for key in path) for path, _ in leaves]

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        entries = rng.normal(size=(NUM_DRAWS, *leaf.shape))
        return (entries / np.sqrt(np.prod(leaf.shape[:-1]))).astype(leaf.dtype)

    params = {name: draw(leaf) for name, (_, leaf) in zip(names, leaves, strict=True)}

    def at(params):
        tree = lambda named: jax.tree.unflatten(treedef, [named[name] for name in names])
        f = lambda named: apply(tree(named), jnp.asarray(x))

        # A difference, since derivatives are NaN where a factor is infinite and another 0.
        def slope(shares):
            factors = dict(zip(names, STEP * shares, strict=True))
            stretched = lambda sign: {
                n: ((1 + sign * factors[n]) * a).astype(a.dtype) for n, a in params.items()
            }
            return (f(stretched(1)) - f(stretched(-1))) / (2 * STEP)

        return f(params), jax.lax.map(slope, jnp.eye(len(names)))

    @jax.jit
    def of(params):
        outputs, slopes = jax.lax.map(at, params)
        return outputs, {name: slopes[:, i] for i, name in enumerate(names)}

    def tried(params: _Named) -> tuple[np.ndarray, _Named]:
        # A network may be asked for while another is traced; GPUs round products much by default.
        with jax.ensure_compile_time_eval(), jax.default_matmul_precision("highest"):
            return jax.device_get(of(params))

    return _Trial(params, tried)


def _breaking(trial: _Trial) -> list[str]:
    """The names of parameters that keep the network from being homogeneous.

    Vectors are added one by one to the matrices alone, and those which break it are named: a bias
    is, the layer that it is added to is not. Where vectors are factors too, without which no
    output depends on x, it is the one without which the rest is homogeneous. Where neither decides,
    it is all that is not homogeneous of its own, with the others fixed.
    """
    params = trial.params
    only = lambda names: {n: array * (n in names) for n, array in params.items()}
    fits = lambda names: _is_homogeneous(trial, only(names), params)
    kept = [name for name, array in params.items() if array[0].ndim >= 2]
    vectors = [name for name in params if name not in kept]
    without = lambda name: [other for other in params if other != name]
    varies = lambda names: np.ptp(trial.of(only(names))[0], axis=1).any()  # over inputs
    if not varies(kept):
        found = [name for name in vectors if varies(without(name)) and fits(without(name))]
        if found:
            return found
    elif fits(kept):
        broken: list[str] = []
        for name in vectors:
            (kept if fits([*kept, name]) else broken).append(name)
        return broken
    return [name for name in params if not _is_homogeneous(trial, params, [name])]


def _is_homogeneous(trial: _Trial, params: _Named, scaled: Iterable[str]) -> bool:
    """Whether scaling the arrays of these names together scales the outputs by an integer power."""
    outputs, slopes = trial.of(params)
    if not outputs.any():
        return True  # 0 is of every order
    degree = _degree(outputs, slopes, scaled)

    def error(scale: float) -> float:
        found, _ = trial.of({n: a * (scale if n in scaled else 1) for n, a in params.items()})
        expected = scale**degree * outputs
        return np.abs(found - expected).max() / np.abs(expected).max()

    return all(error(scale) < TOLERANCE for scale in scales(outputs, max(degree, 1)))


def _degree(outputs: np.ndarray, slopes: _Named, scaled: Iterable[str]) -> int:
    """The degree in some of the arrays together, by Euler's identity ⟨∂f/∂θ, θ⟩ = degree · f."""
    slope = np.sum([slopes[name] for name in scaled], axis=0)
    return round(float(np.vdot(slope, outputs) / np.vdot(outputs, outputs)))
