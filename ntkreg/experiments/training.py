"""Cells that train one network along a path of λ, and then look at it."""

from collections.abc import Callable
from typing import Any

import optax

from ntkreg import networks
from ntkreg._types import Array, Params, PRNGKey, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.experiments._training import NET_DTYPE, Training, check, num_rows, random_teacher
from ntkreg.sweeps import Cell, Point
from ntkreg.training import trainers

__all__ = ["NET_DTYPE", "Training", "cell", "check", "num_rows", "random_teacher"]


def cell(
    config: Training,
    draw: Callable[[Point], tuple[PRNGKey, Dataset, Any]],
    measure: Callable[[Point, Dataset, Any, Params], dict[str, Array]],
    loss: str = "logistic",
) -> Cell:
    """The cell that draws samples, trains a network on them in float32, and measures it.

    Args:
      draw: point -> (key of the start, samples, whatever else `measure` wants).
      measure: (point, samples, what else was drawn, parameters in the samples' dtype) -> results.
      loss: a name of `objectives.LOSSES`.
    """
    network = networks.fully_connected(2, config.width)
    trainer = trainers.Trainer(network, loss=loss, num_steps=config.num_steps)
    knobs = lambda: trainers.knobs(config.lams, config.learning_rate, NET_DTYPE)

    def prepare(point: Point) -> tuple[PyTree, PyTree]:
        key, train, rest = draw(point)
        params = optax.tree.cast(network.init(key, train.x.shape[1]), NET_DTYPE)
        return (train, rest), trainers.init(trainer, params)

    def advance(point: Point, context: PyTree, state: PyTree, num_steps: Array):
        train = optax.tree.cast(context[0], NET_DTYPE)
        state = trainers.advance(trainer, train, knobs(), state, num_steps)
        return state, trainers.is_done(trainer, knobs(), state)

    def finish(point: Point, context: PyTree, state: PyTree) -> dict[str, Array]:
        train, rest = context
        return measure(point, train, rest, optax.tree.cast(state.params, train.x.dtype))

    steps = config.num_steps * len(config.lams)
    return Cell(prepare, advance, finish, config.num_steps, lambda point: steps)
