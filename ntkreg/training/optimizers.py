"""Optimizers of optax whose learning rate follows a schedule, or their refusal."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg._compat import quick_compilation
from ntkreg._types import Array, Float, Params, PyTree

Make = Callable[..., optax.GradientTransformation]

TRIED = (optax.adam, optax.sgd)  # in the tests: most runs need not wait for the half second of it
STEPS = 4  # of a trial at one rate, and then at another; some optimizers move at every other step
RATE = 2.0**-7
# Starts are near 0, where float32 resolves the first steps of optimizers that find their own size.
NEAR = 2.0**-20
TARGET = ((1.0, -0.5, 0.25), (2.0, -1.0, 0.75))


def moved(
    optimizer: optax.GradientTransformation,
    descended: Callable[[Params], tuple[Float[Array, ""], Any]],
    params: Params,
    state: PyTree,
    is_first: Array | bool,
) -> tuple[Params, PyTree, Any]:
    """One step: the new parameters and optimizer's state, and what `descended` gives beside.

    Args:
      optimizer: made for this step, at its learning rate.
      descended: parameters -> (the value to descend, anything).
      state: of the optimizer that was made for the step before.
      is_first: whether this is the first step, which begins with a fresh state.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    fresh = optimizer.init(params)
    state = jax.tree.map(lambda new, old: jnp.where(is_first, new, old), fresh, state)
    (value, beside), gradient = jax.value_and_grad(descended, has_aux=True)(params)
    known = dict(value=value, grad=gradient, value_fn=lambda p: descended(p)[0])
    updates, state = optimizer.update(gradient, _injected(state, fresh), params, **known)
    return optax.apply_updates(params, updates), state, beside


def _injected(state: PyTree, fresh: PyTree) -> PyTree:
    """The state with a fresh one's hyperparameters wherever optax's inject_hyperparams keeps any.

    There the state, not the optimizer, holds the learning rate.
    """
    holds = lambda node: hasattr(node, "hyperparams")
    put = lambda old, new: old._replace(hyperparams=new.hyperparams) if holds(old) else old
    return jax.tree.map(put, state, fresh, is_leaf=holds)


def check_optimizer(make: Make, is_log: bool = False) -> None:
    """Raises ValueError, with its name, for an optimizer that does not follow its learning rate.

    On a small convex function its first steps must not ascend, and the steps after them must stand
    still at rate 0 and differ from rate to rate.

    Args:
      make: a learning rate -> an optimizer of optax.
      is_log: whether the values are logarithms: an optimizer that takes 0 for their minimum climbs.
    """
    if make not in TRIED:
        _try(make, is_log)


@functools.lru_cache(maxsize=256)
def _try(make: Make, is_log: bool) -> None:
    rule = f"optimizer must follow a learning rate, as optax.adam does, got {_name(make)}, which"
    try:
        with jax.ensure_compile_time_eval():  # options may be made under a trace
            trial = jax.jit(functools.partial(_trial, make, is_log)).lower()
            options = quick_compilation(jax.default_backend())
            first, *then = np.asarray(trial.compile(compiler_options=options)())
    except Exception as error:  # it may be anyone's function
        message = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{rule} fails with {message:.160}") from None
    stopped, same, doubled = then
    if not np.isfinite([first, *then]).all():
        raise ValueError(f"{rule} leads to values that are not finite")
    if np.vdot(first - NEAR * _target(), _target()) < 0:
        raise ValueError(f"{rule} ascends{' where values are negative, as logs are' * is_log}")
    if not np.array_equal(stopped, first):
        raise ValueError(f"{rule} goes on at rate 0")
    if np.array_equal(same, first) or np.array_equal(same, doubled):
        raise ValueError(f"{rule} takes the same steps at any rate")


def _name(make: Any) -> str:
    while isinstance(make, functools.partial):
        make = make.func
    return getattr(make, "__name__", None) or f"a {type(make).__name__}"


def _target() -> np.ndarray:
    """The minimum of the trial's function: a matrix and, as its last row, a vector."""
    return np.array(TARGET, np.float32)


def _trial(make: Make, is_log: bool) -> Float[Array, "4 2 3"]:
    """Where an optimizer is after its first steps, and after more at 0, 1 and 2 times the rate."""
    offset = -100.0 if is_log else 1.0
    target = jnp.asarray(_target())
    start = {"matrix": NEAR * target[:1], "vector": NEAR * target[1]}
    joined = lambda params: jnp.concatenate([params["matrix"], params["vector"][None]])

    def descended(params: Params) -> tuple[Array, None]:
        return jnp.sum(jnp.sqrt(1.0 + (joined(params) - target) ** 2)) + offset, None

    def one(carry: tuple, rate: Array) -> tuple[tuple, None]:
        params, state, is_first = carry
        params, state, _ = moved(make(rate), descended, params, state, is_first)
        return (params, state, jnp.zeros_like(is_first)), None

    rates = jnp.full(STEPS, RATE, jnp.float32)
    begun, _ = jax.lax.scan(one, (start, make(0.0).init(start), jnp.array(True)), rates)
    after = lambda times: joined(jax.lax.scan(one, begun, times * rates)[0][0])
    ends = jax.lax.map(after, jnp.array([0.0, 1.0, 2.0], jnp.float32))
    return jnp.concatenate([joined(begun[0])[None], ends])
