"""Data sets by name and sizes: random labels, a teacher's, the distribution D and digits."""

from typing import NamedTuple

import jax

from ntkreg import data
from ntkreg._types import Array, PRNGKey
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _training

TEACHER_UNITS, TEACHER_MARGIN = 10, 0.01
WANTED = "random:DIM:N, teacher:DIM:N, D:DIM:N or digits:N"
NUM_SIZES = {"random": 2, "teacher": 2, "D": 2, "digits": 1}


class Source(NamedTuple):
    """A kind of data and its sizes."""

    name: str
    sizes: tuple[int, ...]

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
    name, *sizes = text.split(":")
    good = NUM_SIZES.get(name) == len(sizes) and all(size.isdigit() for size in sizes)
    if not good or int(sizes[-1]) < 2 or (name == "D" and int(sizes[0]) < 3):
        raise ValueError(f"dataset must be {WANTED}, got {text!r}")
    return Source(name, tuple(map(int, sizes)))


def samples_of(
    source: Source, number: Array, num_test: int
) -> tuple[PRNGKey, Dataset, Dataset | None]:
    """A key of the samples' own, training samples of that number, and fresh test points."""
    key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(number), source.num_samples))
    n = source.num_samples
    if source.name == "random":
        return key, data.random_labels(data_key, n, source.sizes[0]), None
    if source.name == "digits":
        return key, *data.split(data_key, data.digits(), n)
    if source.name == "D":
        both = data.noisy_xor(data_key, n + num_test, source.sizes[0])
    else:
        function_key, data_key = jax.random.split(data_key)
        _, function = _training.random_teacher(function_key, source.sizes[0], TEACHER_UNITS)
        both = data.teacher(data_key, function, n + num_test, source.sizes[0], TEACHER_MARGIN)
    return key, jax.tree.map(lambda a: a[:n], both), jax.tree.map(lambda a: a[n:], both)
