"""Gradient descent on F itself, and how far from the kernel method it goes on its way.

Two-layer networks as in the paper: no multipliers, all entries N(0, r²) at the start, gradient
descent on F_λ itself. Such a network has the functions of one in `ntk` scaling with the output
scale α = r²√(width · dim), at √α times the parameters.
"""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import kernels, networks
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Params, PRNGKey, PyTree, Scalar
from ntkreg.data.dataset import Dataset
from ntkreg.experiments._training import NET_DTYPE
from ntkreg.networks.network import Network
from ntkreg.training import kernel_regime, objectives, trainers
from ntkreg.training.kernel_regime import relative_change
from ntkreg.training.margins import activation_patterns, margins, normalized_margin
from ntkreg.training.trainers import TrainOptions, TrainState

LOSS = "logistic"
COLUMNS = (
    "step", "kernel_distance", "prediction_distance", "activation_change", "normalized_margin",
    "train_error", "test_error", "train_loss", "norm",
)  # fmt: skip


def log_steps(num_steps: int, num_looks: int) -> tuple[int, ...]:
    """Steps equally far apart in log time, from the first to the last.

    Raises:
      ValueError: for fewer than two, or more than there are steps so far apart.
    """
    steps = tuple(int(step) for step in np.geomspace(1, num_steps, num_looks).round())
    if num_looks < 2 or len(set(steps)) < num_looks:
        raise ValueError(
            f"num_looks must be at least 2, and so few that steps from 1 to {num_steps}, equally "
            f"far apart in log time, differ, got {num_looks}"
        )
    return steps


def by_entry(table: pandas.DataFrame, name: str, values: Sequence) -> pandas.DataFrame:
    """A row for every entry of the table's arrays; numbers, and NaN for an array, are repeated.

    Args:
      name, values: of a new column, which says what each entry is.
    """
    arrays = [column for column in table if table[column].map(np.ndim).any()]
    whole = lambda value: np.broadcast_to(value, len(values))
    table = table.assign(**{column: table[column].map(whole) for column in arrays})
    table[name] = [list(values)] * len(table)
    return table.explode([name, *arrays], ignore_index=True).infer_objects()


def gradient_descent(loss: str, num_steps: int) -> TrainOptions:
    """Descent on F itself, at a constant rate."""
    return TrainOptions(
        loss, descend="plain", optimizer=optax.sgd, schedule=trainers.constant, num_steps=num_steps
    )


def at_steps(
    options: TrainOptions,
    network: Network,
    train: Dataset,
    lam: Scalar,
    learning_rate: Scalar,
    params: Params,
    steps: Sequence[int],
    measure: Callable[[Params], PyTree],
) -> tuple[Params, PyTree]:
    """The last parameters, and what `measure` gives of those after so many steps, stacked."""

    setting = options, network, train, *_logs(lam, learning_rate, train)

    def go_on(state, last):
        state = trainers.advance(*setting, state, last - state.step)
        return state, measure(state.params)

    state, found = jax.lax.scan(go_on, trainers.init(options, params), jnp.asarray(steps))
    return state.params, found


def _logs(lam: Scalar, learning_rate: Scalar, train: Dataset) -> tuple[Array, Array]:
    """(log λ, learning rate) in the dtype of the samples."""
    dtype = train.x.dtype
    return trainers.logs_of(lam, dtype)[0], trainers.checked_rate(learning_rate, dtype)


def kernel_at_steps(
    loss: str,
    gram: Array,
    labels: Array,
    learning_rate: Scalar,
    steps: Sequence[int] | Array,
    start: Array | None = None,
) -> Array:
    """The coefficients β of `kernel_regime.kernel_descent` after so many steps, stacked."""
    follow = functools.partial(
        kernel_regime.kernel_descent, objectives.get_loss(loss), gram, labels, learning_rate
    )

    def go_on(carry, last):
        beta, step = carry
        beta = follow(last - step, start=start, coefficients=beta)
        return (beta, last), beta

    steps = jnp.asarray(steps)
    first = (jnp.zeros_like(labels), jnp.zeros_like(steps[0]))
    return jax.lax.scan(go_on, first, steps)[1]


def init_scale(output_scale: Scalar, width: int, dim: int) -> Scalar:
    """r, the standard deviation of all entries at the start, at which α = r²√(width · dim)."""
    return (output_scale / np.sqrt(width * dim)) ** 0.5


@functools.partial(jit_quickly, static_argnames=("width", "dim"))
def initial_params(key: PRNGKey, width: int, dim: int, scale: Scalar) -> Params:
    """Parameters with entries N(0, scale²)."""
    unit = networks.fully_connected(2, width, scaling="ntk").init(key, dim)
    return optax.tree.scale(scale, unit)


def exact_kernel(width: int, scale: Scalar, x1: Array, x2: Array | None = None) -> Array:
    """The NTK that the initial empirical one tends to: r² · width · dim times that of `ntk`."""
    return _unit_kernel(x1, x2) * (scale**2 * width * x1.shape[1])


@jit_quickly
def _unit_kernel(x1: Array, x2: Array | None) -> Array:
    return kernels.ntk(networks.fully_connected(2, 1), x1, x2)


def descent(
    train: Dataset,
    test: Dataset,
    key: PRNGKey,
    *,
    width: int,
    scale: Scalar,
    lam: Scalar,
    learning_rate: Scalar,
    steps: Sequence[int],
    with_fit: bool = True,
) -> dict[str, Array]:
    """Arrays of COLUMNS: entry 0 where the training error is first 0, then one for every step.

    - kernel_distance: relative change of the empirical NTK on the samples since the start.
    - prediction_distance: of the outputs on test points from those of the exact NTK, which starts
      at the same function and descends the loss without λ for as many steps at the same rate.
    - activation_change: the share of pairs of a neuron and a sample that changed sides.

    Where the training error never is 0, entry 0 is the end, and `step` says so. It takes a descent
    of its own, and is left out unless `with_fit`. Training runs in float32; margins, errors and
    kernels are of the samples' dtype.
    """
    network = networks.fully_connected(2, width)
    start = initial_params(key, width, train.x.shape[1], scale)
    entries = _entries(network, tuple(steps), with_fit, train, start, lam, learning_rate)
    gram, cross = exact_kernel(width, scale, train.x), exact_kernel(width, scale, test.x, train.x)
    betas = _betas(network, tuple(steps), with_fit, train, start, gram, learning_rate, entries[0])
    return _measured(network, start, train, test, cross, (*entries, betas))


@functools.partial(jax.jit, static_argnames=("network", "steps", "with_fit"))
def _entries(
    network: Network, steps: tuple[int, ...], with_fit: bool, train: Dataset, start: Params,
    lam: Scalar, learning_rate: Scalar,
) -> tuple[Array, Params]:  # fmt: skip
    """(step, parameters) of the entries of `descent`."""
    small, begun = (optax.tree.cast(tree, NET_DTYPE) for tree in (train, start))
    setting = gradient_descent(LOSS, steps[-1]), network, small, lam, learning_rate, begun
    entries = jnp.asarray(steps), at_steps(*setting, steps, lambda params: params)[1]
    if not with_fit:
        return entries
    fit = _until_fit(*setting)
    join = lambda one, more: jnp.concatenate([one[None], more])
    return jax.tree.map(join, (fit.step, fit.params), entries)


@functools.partial(jax.jit, static_argnames=("network", "steps", "with_fit"))
def _betas(
    network: Network, steps: tuple[int, ...], with_fit: bool, train: Dataset, start: Params,
    gram: Array, learning_rate: Scalar, at: Array,
) -> Array:  # fmt: skip
    """The exact kernel's coefficients after as many steps as the entries have."""
    first = network.apply(start, train.x)
    follow = lambda at: kernel_at_steps(LOSS, gram, train.y, learning_rate, at, first)
    betas = follow(steps)
    return jnp.concatenate([follow(at[:1]), betas]) if with_fit else betas


def _until_fit(
    options: TrainOptions,
    network: Network,
    train: Dataset,
    lam: Scalar,
    learning_rate: Scalar,
    params,
) -> TrainState:
    """The state when all margins are first positive, or at the end."""
    fits = lambda s: jnp.min(margins(network, s.params, train)) > 0
    log_lam, rate = _logs(lam, learning_rate, train)
    return jax.lax.while_loop(
        lambda s: ~fits(s) & ~trainers.is_done(options, s),
        functools.partial(trainers.step, options, network, train, log_lam, rate),
        trainers.init(options, params),
    )


@functools.partial(jit_quickly, static_argnames="network")
def _measured(
    network: Network, start: Params, train: Dataset, test: Dataset, cross: Array, entries: tuple
) -> dict[str, Array]:
    """COLUMNS of entries (step, parameters, the kernel's coefficients)."""
    gram = kernels.empirical_ntk(network, start, train.x)
    patterns = activation_patterns(start[0], train.x)
    test_start = network.apply(start, test.x)
    loss = objectives.get_loss(LOSS)

    def measured(entry) -> dict[str, Array]:
        step, params, beta = entry
        params = optax.tree.cast(params, train.x.dtype)
        outputs = network.apply(params, test.x)
        found = (
            step.astype(train.x.dtype),
            relative_change(kernels.empirical_ntk(network, params, train.x), gram),
            relative_change(outputs, test_start + cross @ beta),
            jnp.mean(activation_patterns(params[0], train.x) != patterns),
            normalized_margin(network, params, train),
            jnp.mean(~(margins(network, params, train) > 0)),
            jnp.mean(~(test.y * outputs > 0)),
            objectives.mean_loss(loss, network, params, train),
            optax.tree.norm(params),
        )
        return dict(zip(COLUMNS, found, strict=True))

    return jax.lax.map(measured, entries)
