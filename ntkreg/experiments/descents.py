"""Plain descents of F from the paper's start: how far from the kernel they go on their way.

Two-layer networks as in the paper: no multipliers, all entries N(0, r²) at the start, gradient
descent on F_λ itself. Such a network has the functions of one in `ntk` scaling with the output
scale α = r²√(width · dim), at √α times the parameters.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import kernels, networks
from ntkreg._types import Array, Params, PRNGKey, Scalar
from ntkreg.data.dataset import Dataset
from ntkreg.training import kernel_regime, objectives, trainers
from ntkreg.training.kernel_regime import relative_change
from ntkreg.training.margins import activation_patterns, margins, normalized_margin
from ntkreg.training.trainers import Knobs, Trainer, TrainState

NET_DTYPE = jnp.float32
LOSS = "logistic"
COLUMNS = (
    "step", "kernel_distance", "prediction_distance", "activation_change", "normalized_margin",
    "train_error", "test_error", "train_loss", "norm",
)  # fmt: skip


def init_scale(output_scale: Scalar, width: int, dim: int) -> Scalar:
    """r, the standard deviation of all entries at the start, at which α = r²√(width · dim)."""
    return (output_scale / np.sqrt(width * dim)) ** 0.5


def look_steps(num_steps: int, num_looks: int) -> tuple[int, ...]:
    """Steps equally far apart in log time, from the first to the last.

    Raises:
      ValueError: for fewer than two looks, or more than there are steps so far apart.
    """
    steps = tuple(int(step) for step in np.geomspace(1, num_steps, num_looks).round())
    if num_looks < 2 or len(set(steps)) < num_looks:
        raise ValueError(
            f"num_looks must be at least 2, and so few that steps from 1 to {num_steps}, equally "
            f"far apart in log time, differ, got {num_looks}"
        )
    return steps


def start_of(key: PRNGKey, width: int, dim: int, scale: Scalar) -> Params:
    """Parameters with entries N(0, scale²)."""
    unit = networks.fully_connected(2, width, scaling="ntk").init(key, dim)
    return optax.tree.scale(scale, unit)


def exact_kernel(width: int, scale: Scalar, x1: Array, x2: Array | None = None) -> Array:
    """The NTK that the start's empirical one tends to: r² · width · dim times the one of `ntk`."""
    network = networks.fully_connected(2, width)
    return kernels.ntk(network, x1, x2) * (scale**2 * width * x1.shape[1])


def descended(
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

    Where the training error never is 0, entry 0 is the end, as its `step` tells. It takes a descent
    of its own, and is left out unless `with_fit`. Training runs in float32; margins, errors and
    kernels are of the samples' dtype.
    """
    network = networks.fully_connected(2, width)
    trainer = Trainer(
        network,
        loss=LOSS,
        descend="plain",
        optimizer=optax.sgd,
        schedule=trainers.constant,
        num_steps=steps[-1],
    )
    start = start_of(key, width, train.x.shape[1], scale)
    kernel = functools.partial(exact_kernel, width, scale)
    gram, cross = kernel(train.x), kernel(test.x, train.x)
    knobs = trainers.knobs(lam, learning_rate, NET_DTYPE)
    begun = trainers.init(trainer, optax.tree.cast(start, NET_DTYPE))
    small = optax.tree.cast(train, NET_DTYPE)
    first = network.apply(start, train.x)
    loss = objectives.get_loss(LOSS)
    follow = functools.partial(
        kernel_regime.kernel_descent, loss, gram, train.y, learning_rate, start=first
    )

    def go_on(carry, last):
        state, beta = carry
        beta = follow(num_steps=last - state.step, coefficients=beta)
        state = trainers.advance(trainer, small, knobs, state, last - state.step)
        return (state, beta), (state.step, state.params, beta)

    _, entries = jax.lax.scan(go_on, (begun, jnp.zeros_like(train.y)), jnp.asarray(steps))
    if with_fit:
        fitted = _until_fit(trainer, small, knobs, begun)
        first_fit = (fitted.step, fitted.params, follow(num_steps=fitted.step))
        join = lambda one, more: jnp.concatenate([one[None], more])
        entries = jax.tree.map(join, first_fit, entries)
    before = kernels.empirical_ntk(network, start, train.x)
    patterns = activation_patterns(start[0], train.x)
    test_start = network.apply(start, test.x)

    def measured(entry) -> dict[str, Array]:
        step, params, beta = entry
        params = optax.tree.cast(params, train.x.dtype)
        outputs = network.apply(params, test.x)
        found = (
            step.astype(train.x.dtype),
            relative_change(kernels.empirical_ntk(network, params, train.x), before),
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


def _until_fit(trainer: Trainer, train: Dataset, knobs: Knobs, state: TrainState) -> TrainState:
    """The state when all margins are first positive, or at the end."""
    fits = lambda s: jnp.min(margins(trainer.network, s.params, train)) > 0
    return jax.lax.while_loop(
        lambda s: ~fits(s) & ~trainers.is_done(trainer, knobs, s),
        lambda s: trainers.step(trainer, train, knobs, s),
        state,
    )


def memory_needed(num_samples: int, num_test: int, dim: int, width: int) -> int:
    """Bytes that `descended` holds at once: two Jacobians on the samples, activations, kernels."""
    size = width * (dim + 1)
    points = num_samples + num_test
    return 8 * (size * (2 * num_samples + 20) + 4 * points * width + 3 * num_samples * points)
