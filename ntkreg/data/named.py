"""Data by one text: the name of a distribution with its sizes, or a file of one's own."""

import os
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._types import PRNGKey
from ntkreg.data import dataset
from ntkreg.data.dataset import (
    Dataset,
    digits,
    noisy_xor,
    random_labels,
    split,
    teacher,
)

Parts = tuple[Dataset, Dataset | None]  # training and test data

TEACHER_UNITS, TEACHER_MARGIN = 10, 0.01


def _random(key: PRNGKey, num_test: int, dim: int, num_samples: int) -> Parts:
    return random_labels(key, num_samples, dim), None


def _teacher(key: PRNGKey, num_test: int, dim: int, num_samples: int) -> Parts:
    """Labels of a two-layer ReLU network with standard normal weights."""
    function_key, key = jax.random.split(key)
    weights = dataset.normal(function_key, ((dim + 1) * TEACHER_UNITS,))
    first, last = weights[: dim * TEACHER_UNITS].reshape(dim, -1), weights[dim * TEACHER_UNITS :]
    function = lambda x: jnp.maximum(x @ first, 0.0) @ last
    return _cut(teacher(key, function, num_samples + num_test, dim, TEACHER_MARGIN), num_samples)


def _noisy_xor(key: PRNGKey, num_test: int, dim: int, num_samples: int) -> Parts:
    return _cut(noisy_xor(key, num_samples + num_test, dim), num_samples)


def _digits(key: PRNGKey, num_test: int, num_samples: int) -> Parts:
    return split(key, digits(), num_samples)


def _cut(both: Dataset, num_samples: int) -> Parts:
    train = Dataset(both.x[:num_samples], both.y[:num_samples])
    test = Dataset(both.x[num_samples:], both.y[num_samples:])
    return train, test if len(test.y) else None


# name -> (the smallest value of each size, by its name; what draws samples of these sizes)
SOURCES: dict[str, tuple[dict[str, int], Callable[..., Parts]]] = {
    "random": (dict(DIM=1, N=2), _random),
    "teacher": (dict(DIM=1, N=2), _teacher),
    "D": (dict(DIM=3, N=2), _noisy_xor),
    "digits": (dict(N=2), _digits),
}
NAMES = ", ".join(":".join([name, *sizes]) for name, (sizes, _) in SOURCES.items())


def load(name: str | os.PathLike, key: PRNGKey | None = None, num_test: int = 0) -> Parts:
    """Training and test data: x of shape (n, d), y of shape (n,).

    | name                | training data                                    | test data           |
    |---------------------|--------------------------------------------------|---------------------|
    | random:DIM:N        | `random_labels`                                  | None                |
    | teacher:DIM:N       | `teacher`, 10 ReLU units, outputs at least 0.01  | num_test fresh ones |
    | D:DIM:N             | `noisy_xor`                                      | num_test fresh ones |
    | digits:N            | N of `digits`, ten classes                       | all others          |
    | a path to a file    | its own (`files.read`, any usual kind)           | its test part       |

    Labels are −1 and +1 in floats, or in int32 the classes 0 … k − 1; of a file with two classes
    they are ±1. Test data are None where there are none.

    >>> load("D:5:20", jax.random.key(0))[0].x.shape
    (20, 5)

    Args:
      key: draws the samples; a file needs none.
      num_test: how many test points are drawn.

    Raises:
      ValueError: for a name or sizes that are none of these, more digits than there are, a missing
        key, num_test < 0; for a file that holds anything else, in one line. Pickled content is
        never loaded.
    """
    is_file = bool(pathlib.Path(name).suffix) or os.path.exists(name)
    if is_file or isinstance(name, os.PathLike):
        from ntkreg.data import files  # loads pandas

        found = files.read(name)
        on_device = lambda data: Dataset(*(jnp.asarray(a, _dtype(a)) for a in data))
        return on_device(found.train), found.test and on_device(found.test)
    source, sizes = parse(os.fspath(name))
    if num_test < 0:
        raise ValueError(f"num_test must be at least 0, got {num_test}")
    if key is None:
        raise ValueError(f"key must be given, which draws {name}, got None")
    return SOURCES[source][1](key, num_test, *sizes)


def _dtype(array: np.ndarray):
    return float if array.dtype.kind == "f" else jnp.int32


def parse(
    name: str, rule: str = f"name must be {NAMES} or a path to a file"
) -> tuple[str, tuple[int, ...]]:
    """(the source, its sizes) that "source:sizes" names; `rule` begins the error.

    Raises:
      ValueError: where it names none.
    """
    source, *texts = name.split(":")
    smallest, _ = SOURCES.get(source, ({}, None))
    if not texts or len(texts) != len(smallest) or not all(map(str.isdecimal, texts)):
        raise ValueError(f"{rule}, got {name!r}")
    sizes = tuple(map(int, texts))
    for size, (what, minimum) in zip(sizes, smallest.items(), strict=True):
        if size < minimum:
            raise ValueError(f"{rule}, with {what} of {source} at least {minimum}, got {name!r}")
    return source, sizes
