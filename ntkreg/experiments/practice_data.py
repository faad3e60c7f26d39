"""Real data by name: digits, MNIST and CIFAR-10, whole or a pair of classes, split by seed."""

import functools
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import data
from ntkreg._types import Array
from ntkreg.data import image_data
from ntkreg.data.dataset import Dataset

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
WANTED = f"{', '.join(SHAPES)}, or two classes of one as digits:3:8"
OPENML = "openml"


class Source(NamedTuple):
    """A data set, whole where `classes` is empty, and the shape of its images."""

    name: str
    classes: tuple[int, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return SHAPES[self.name]

    @property
    def num_outputs(self) -> int:
        """Of a network: one for two classes, else one for each."""
        return 1 if self.classes else 10

    @property
    def loss(self) -> str:
        """The name in `objectives.LOSSES` of the loss for that many outputs."""
        return "logistic" if self.classes else "cross_entropy"


def parsed(text: str) -> Source:
    """The data set that "name" or "name:class:class" names.

    Raises:
      ValueError: where it names none.
    """
    name, *classes = text.split(":")
    is_pair = len(set(classes)) == len(classes) == 2 and set(classes) <= set("0123456789")
    if name not in SHAPES or not (is_pair or not classes):
        raise ValueError(f"dataset must be {WANTED}, got {text!r}")
    return Source(name, tuple(map(int, classes)))


@functools.cache
def pool(source: Source, folder: str) -> Dataset:
    """All images of a data set on the host, pairs of classes with labels ±1.

    Args:
      folder: where mnist.npz and cifar10.npz lie, or "openml" to fetch them.

    Raises:
      ValueError: for MNIST and CIFAR-10 without a folder, or one with foreign files.
    """
    if source.name == "digits":
        everything = data.digits()
    elif folder == OPENML:
        everything = image_data.images(source.name, download=True)
    elif folder:
        everything = image_data.images(source.name, folder)
    else:
        raise ValueError(
            f"folder must be one with {source.name}.npz, or {OPENML} to fetch it from there, got "
            f"{folder!r}"
        )
    x, y = map(np.asarray, everything)
    if not source.classes:
        return Dataset._make((x, y))
    kept = np.isin(y, source.classes)
    signs = np.where(y[kept] == source.classes[0], 1, -1).astype(x.dtype)
    return Dataset._make((x[kept], signs))


def digest(source: Source, folder: str) -> str:
    """A hash of a data set's images and labels, as `pool` has them."""
    found = hashlib.sha256()
    for array in pool(source, folder):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def split(
    source: Source, folder: str, num_train: int, num_test: int, seed: Array
) -> tuple[Dataset, Dataset]:
    """The first images of a random order for training, the last ones for the test.

    The order is the seed's: smaller training sets are parts of larger ones, and all have the same
    test points. It is made on the host, so that no compiled program holds the images.
    """
    images = pool(source, folder)

    def on_host(seed) -> tuple[Dataset, ...]:
        order = np.random.default_rng(int(seed)).permutation(len(images.y))
        rows = order[:num_train], order[len(order) - num_test :]
        return tuple(Dataset(images.x[r], images.y[r]) for r in rows)

    shaped = lambda n: jax.tree.map(
        lambda a: jax.ShapeDtypeStruct((n, *a.shape[1:]), jnp.asarray(a[:1]).dtype), images
    )
    shapes = shaped(num_train), shaped(num_test)
    return jax.pure_callback(on_host, shapes, seed, vmap_method="sequential")
