"""Cells that train one network along a path of λ, and then look at it; what else they share."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import networks
from ntkreg._types import Array, Params, PRNGKey, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs
from ntkreg.sweeps import Cell, Point
from ntkreg.training import trainers

NET_DTYPE = jnp.float32


class Training(Protocol):
    """The fields of a Config that say how its two-layer ReLU networks are trained.

    Attributes:
      width, learning_rate: of the network, and of Adam.
      lams: the path of λ that it follows to its end.
      num_steps: Adam steps at each λ of the path.
    """

    @property
    def width(self) -> int: ...

    @property
    def learning_rate(self) -> float: ...

    @property
    def lams(self) -> tuple[float, ...]: ...

    @property
    def num_steps(self) -> int: ...


def check(config: Training) -> None:
    """Raises ValueError for fields that nothing can be trained with."""
    for name in ("lams", "learning_rate"):
        configs.check_field(
            name, getattr(config, name), lambda v: 0 < v < np.inf, "positive and finite"
        )
    for name in ("width", "num_steps"):
        configs.check_field(name, getattr(config, name), lambda v: v >= 1, "at least 1")


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


def random_teacher(
    key: PRNGKey, dim: int, num_units: int
) -> tuple[Params, Callable[[Array], Array]]:
    """Standard normal weights of a two-layer ReLU network, and the function that they make."""
    first, last = networks.fully_connected(2, num_units, scaling="ntk").init(key, dim)
    return (first, last), lambda x: jnp.maximum(x @ first, 0.0) @ last[:, 0]


def num_rows(num_samples: int, sizes: Collection[int], most: int) -> int:
    """The largest multiple of num_samples among `sizes`, up to `most`, if itself is there.

    Samples that are repeated to fill that many rows have the same means, minima and kernel
    predictors, and neighbouring sizes then share one compiled program. With more rows than `most`
    training would be longer by more than a compilation takes.
    """
    if num_samples not in sizes:
        return num_samples
    return max(n for n in sizes if n % num_samples == 0 and n <= max(num_samples, most))
