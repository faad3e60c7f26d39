"""Data sets by name and sizes: random labels, a teacher's, the distribution D and digits."""

from typing import NamedTuple

import jax

from ntkreg._types import Array, PRNGKey
from ntkreg.data import named
from ntkreg.data.dataset import Dataset


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


def samples_of(
    source: Source, number: Array, num_test: int
) -> tuple[PRNGKey, Dataset, Dataset | None]:
    """A key of the samples' own, training samples of that number, and test points."""
    key, data_key = jax.random.split(jax.random.fold_in(jax.random.key(number), source.num_samples))
    return key, *named.load(source.text, data_key, num_test)
