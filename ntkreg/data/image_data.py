"""MNIST and CIFAR-10: from files that the user names, or from OpenML where that is asked for."""

import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkreg.data.dataset import Dataset

NUM_CLASSES = 10


class Images(NamedTuple):
    """Shape of a data set's images, its name on OpenML, and the order of a row's pixels there."""

    shape: tuple[int, ...]
    openml: str
    openml_axes: tuple[int, ...]  # which of height, width and channel, slowest first

    @property
    def wanted(self) -> str:
        """What a file has to hold."""
        return (
            f"an npz file with x, integers 0 … 255 of shape {('n', *self.shape)}, and y, integers "
            f"0 … {NUM_CLASSES - 1} of shape (n,), at least one".replace("'", "")
        )


IMAGES = {
    "mnist": Images((28, 28), "mnist_784", (0, 1)),
    "cifar10": Images((32, 32, 3), "CIFAR_10", (2, 0, 1)),
}


def images(name: str, folder: str | os.PathLike | None = None, download: bool = False) -> Dataset:
    """All images of MNIST or CIFAR-10, flat, pixels scaled to [0, 1], labels the classes 0–9.

    A row of x is the image by height, width and channel, as `convolutional` reads it.

    Args:
      name: "mnist" or "cifar10".
      folder: where `name`.npz lies, with x (n, 28, 28) or (n, 32, 32, 3) of integers 0 … 255 and y
        (n,) or (n, 1) of integers 0 … 9; or, as Keras keeps them, x_train, y_train, x_test and
        y_test, which are put together. Pickled content is refused.
      download: fetches the images from OpenML through scikit-learn, which keeps them in its own
        folder. Nothing is fetched without it.

    Source: LeCun, Cortes, Burges (1998); Krizhevsky (2009).

    Raises:
      ValueError: for another name; unless exactly one of folder and download is given; and for a
        file that is missing or holds anything else, with its name and what was expected.
    """
    if name not in IMAGES:
        raise ValueError(f"name must be one of {', '.join(IMAGES)}, got {name!r}")
    if (folder is None) != download:
        raise ValueError(
            f"{name} is either read from a folder with {name}.npz (folder=…) or fetched from "
            f"OpenML (download=True), got folder={folder!r} and download={download}"
        )
    read = lambda folder: _read(pathlib.Path(folder).expanduser() / f"{name}.npz", IMAGES[name])
    x, y = _fetched(name) if folder is None else read(folder)
    dtype = jnp.result_type(float)
    flat = np.asarray(x.reshape(len(x), -1), dtype) / 255
    return Dataset(jnp.asarray(flat), jnp.asarray(y, jnp.int32))


def _read(path: pathlib.Path, kind: Images) -> tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise _foreign(path, kind, "there is no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: _whole(file, key) for key in ("x", "y") if _names(file, key)}
    except (AttributeError, EOFError, OSError, TypeError, ValueError) as error:
        raise _foreign(path, kind, f"numpy cannot read it: {error}") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise _foreign(path, kind, f"it is damaged: {error}") from None
    return _checked(arrays, str(path), kind)


def _names(file: Mapping[str, np.ndarray], key: str) -> list[str]:
    """The names that an array goes by, all of it or its two parts."""
    return [name for name in (key, f"{key}_train", f"{key}_test") if name in file]


def _whole(file: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    names = _names(file, key)
    array = np.concatenate([file[name] for name in names]) if len(names) > 1 else file[names[0]]
    return array[:, 0] if key == "y" and array.shape[1:] == (1,) else array


def _foreign(where: str | os.PathLike, kind: Images, found: str) -> ValueError:
    return ValueError(f"{where} must be {kind.wanted}, {found}")


def _checked(
    arrays: Mapping[str, np.ndarray], where: str, kind: Images
) -> tuple[np.ndarray, np.ndarray]:
    """x and y; ValueError that names the source where they are not what `kind` wants."""
    for key, shape, top in (("x", kind.shape, 255), ("y", (), NUM_CLASSES - 1)):
        if key not in arrays:
            raise _foreign(where, kind, f"it has no {key}")
        array = arrays[key]
        length = arrays["x"].shape[:1]
        if array.shape != (*length, *shape) or not array.size:
            raise _foreign(where, kind, f"its {key} has shape {array.shape}")
        if not np.issubdtype(array.dtype, np.integer):
            raise _foreign(where, kind, f"its {key} is of {array.dtype}")
        if array.min() < 0 or array.max() > top:
            raise _foreign(where, kind, f"its {key} is in {array.min()} … {array.max()}")
    return arrays["x"], arrays["y"]


def _fetched(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import fetch_openml

    kind = IMAGES[name]
    found = fetch_openml(kind.openml, version=1, as_frame=False)
    sizes = [kind.shape[axis] for axis in kind.openml_axes]
    back = np.argsort(kind.openml_axes)
    x = np.asarray(found.data).reshape(-1, *sizes).transpose(0, *(1 + back))
    arrays = {"x": x.astype(np.int64), "y": np.asarray(found.target).astype(np.int64)}
    return _checked(arrays, f"OpenML's {kind.openml}", kind)
