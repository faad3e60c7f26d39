"""What experiments train on and how: data sets by name, two-layer networks along a path of λ."""

import functools
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import networks
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Params, PRNGKey
from ntkreg.data import named
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment
from ntkreg.training import trainers


class Source(NamedTuple):
    """A kind of data and its sizes."""

    name: str
    sizes: tuple[int, ...]

    @property
    def text(self) -> str:
        """The name with the sizes."""
        return ":".join([self.name, *map(str, self.sizes)])

    @property
    def num_samples(self) -> int:
        """Samples of the data set."""
        return self.sizes[-1]

    @property
    def num_classes(self) -> int:
        """2 where labels are ±1."""
        return 10 if self.name == "digits" else 2


def parsed(text: str) -> Source:
    """The data set that "name:sizes" names.

    Raises:
      ValueError: where it names none.
    """
    return Source(*named.parse(text, f"dataset must be {named.NAMES}"))


@functools.partial(jit_quickly, static_argnames=("source", "num_test"))
def samples_of(
    source: Source, number: Array, num_test: int
) -> tuple[PRNGKey, Dataset, Dataset | None]:
    """A key of the samples' own, training samples of that number, and test points."""
    key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(number), source.num_samples))
    return key, *named.load(source.text, data_key, num_test)


NET_DTYPE = jnp.float32


class Training(Protocol):
    """The fields of a Config that say how its networks are trained.

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
        _experiment.check_field(
            name, getattr(config, name), lambda v: 0 < v < np.inf, "positive and finite"
        )
    for name in ("width", "num_steps"):
        _experiment.check_field(name, getattr(config, name), lambda v: v >= 1, "at least 1")


def trained(config: Training, train: Dataset, key: PRNGKey, loss: str = "logistic") -> Params:
    """The network at the end of its path, its parameters in the samples' dtype."""
    network = networks.fully_connected(2, config.width)
    params = optax.tree.cast(network.init(key, train.x.shape[1]), NET_DTYPE)
    found = trainers.train(
        network, optax.tree.cast(train, NET_DTYPE), lam=config.lams, key=key, params=params,
        loss=loss, learning_rate=config.learning_rate, num_steps=config.num_steps,
    )  # fmt: skip
    return optax.tree.cast(found.params, train.x.dtype)


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
