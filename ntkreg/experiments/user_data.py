"""A user's own arrays from an npz file, and a user's own network from a module of theirs."""

import functools
import hashlib
import importlib
import inspect
import os
import pathlib
import pickle
import sys
import zipfile
import zlib
from typing import Any, NamedTuple

import numpy as np

from ntkreg.data.dataset import Dataset, check_dataset
from ntkreg.networks.flax_modules import from_flax
from ntkreg.networks.network import Network, fully_connected

WANTED = "x of shape (n, d) and y of shape (n,), ±1 or class indices"
KEYS = ("x", "y", "x_test", "y_test")
MODULE = "package.module:name of a flax.linen module or of what builds an nnx module"


class Arrays(NamedTuple):
    """What a file holds, on the host in float64; classes are int32.

    Attributes:
      train, test: labels ±1, or class indices; no test where the file has none.
      num_classes: 2 for labels ±1, which one output learns; else k, one output each.
    """

    train: Dataset
    test: Dataset | None
    num_classes: int

    @property
    def loss(self) -> str:
        """logistic for labels ±1, cross_entropy for classes."""
        is_sign = np.issubdtype(self.train.y.dtype, np.floating)
        return "logistic" if is_sign else "cross_entropy"


def loaded(path: str) -> Arrays:
    """The arrays of the npz file: x, y and, where they are there, x_test and y_test.

    Labels −1 and +1, floats or integers, are learned with the logistic loss; integers 0 … k − 1,
    each of which occurs, with the cross-entropy. Pickled content is refused.

    Raises:
      ValueError: in one line that says what the file must hold, where it holds anything else.
    """
    found = _read(path)
    missing, foreign = {"x", "y"} - set(found), set(found) - set(KEYS)
    if missing or foreign or ("x_test" in found) != ("y_test" in found):
        held = ", ".join(sorted(found)) or "nothing"
        raise _refused(f"{held} (x_test and y_test are the only others, and come together)")
    train, num_classes = _labelled(found["x"], found["y"])
    if "x_test" not in found:
        return Arrays(train, None, num_classes)
    test = _tested(found["x_test"], found["y_test"], train, num_classes)
    return Arrays(train, test, num_classes)


def _refused(got: object) -> ValueError:
    one_line = " ".join(str(got).split())
    return ValueError(f"--data must hold {WANTED}, got {one_line}")


def _read(path: str) -> dict[str, np.ndarray]:
    if not pathlib.Path(path).is_file():
        raise ValueError(f"--data must be an npz file with {WANTED}, got {path!r}, which is none")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file}
    except (AttributeError, EOFError, OSError, TypeError, ValueError) as error:
        # NumPy's own words would advise to load pickles, which run what code they like.
        pickled = "pickle" in str(error)
        told = "pickled objects, which are never loaded" if pickled else f"no npz file: {error}"
        raise _refused(told) from None
    except (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:
        raise _refused(f"a file that is damaged: {error}") from None


def _labelled(x: np.ndarray, y: np.ndarray) -> tuple[Dataset, int]:
    """The training data, and the number of its classes."""
    x = _inputs(x, y, "x", "y")
    is_integer, is_float = (np.issubdtype(y.dtype, k) for k in (np.integer, np.floating))
    values = np.unique(y) if is_integer or is_float else np.array([])
    if values.size and np.isin(values, (-1, 1)).all() and (is_float or -1 in values):
        return Dataset._make((x, y.astype(np.float64))), 2
    top = values.size - 1
    if is_integer and top >= 1 and (values == np.arange(top + 1)).all():
        return Dataset._make((x, y.astype(np.int32))), top + 1
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    raise _refused(
        f"y of {y.dtype} with {f'the values {shown}' if shown else 'no numbers'} (class indices "
        "are integers 0 … k − 1, each there, k ≥ 2)"
    )


def _tested(x: np.ndarray, y: np.ndarray, train: Dataset, num_classes: int) -> Dataset:
    """The test data, of the dimension and with the labels of the training data."""
    x = _inputs(x, y, "x_test", "y_test")
    is_class = np.issubdtype(train.y.dtype, np.integer)
    kind = np.integer if is_class else np.number
    good = range(num_classes) if is_class else (-1, 1)
    if x.shape[1] != train.x.shape[1] or not np.issubdtype(y.dtype, kind):
        raise _refused(
            f"x_test of shape {x.shape} with y_test of {y.dtype}, beside x of shape "
            f"{train.x.shape} with y of {train.y.dtype}"
        )
    if not np.isin(y, good).all():
        strange = y[~np.isin(y, good)][0]
        raise _refused(f"y_test with the value {strange}, which y does not have")
    return Dataset._make((x, y.astype(train.y.dtype)))


def _inputs(x: np.ndarray, y: np.ndarray, x_name: str, y_name: str) -> np.ndarray:
    """x in float64, where it can be learned from."""
    if not np.issubdtype(x.dtype, np.floating):
        raise _refused(f"{x_name} of {x.dtype}, where floats are wanted")
    x = x.astype(np.float64)
    try:
        check_dataset(Dataset._make((x, y)), "any")
    except ValueError as error:
        told = str(error).replace("data.x", x_name)
        raise _refused(f"{x_name} of {x.shape}, {y_name} of {y.shape}: {told}") from None
    return x


def digest(arrays: Arrays) -> str:
    """A hash of all arrays with their shapes."""
    found = hashlib.sha256()
    for array in (*arrays.train, *(arrays.test or ())):
        found.update(str(array.shape).encode() + np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def network(arrays: Arrays, module: str, depth: int, width: int) -> Network:
    """The network to train: the user's, or a fully connected ReLU one where `module` is empty.

    Raises:
      ValueError: as `imported` and `from_flax`.
    """
    num_outputs = 1 if arrays.loss == "logistic" else arrays.num_classes
    if not module:
        return fully_connected(depth, width, num_outputs)
    try:
        return from_flax(imported(module), input_dim=arrays.train.x.shape[1])
    except ValueError as error:
        raise ValueError(f"--module={module}: {error}") from None


@functools.cache
def imported(name: str) -> Any:
    """The Flax module that "package.module:name" names; of a linen class, its instance.

    It is looked for in the working directory too, as `python -m` does.

    Raises:
      ValueError: where there is none.
    """
    from flax import linen

    where, _, what = name.partition(":")
    if not (where and what):
        raise ValueError(f"it must be {MODULE}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(where), what)
        is_class = inspect.isclass(found) and issubclass(found, linen.Module)
        return found() if is_class else found
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"it must be {MODULE}: {' '.join(str(error).split())}") from None


def source_digest(name: str) -> str:
    """A hash of the file that defines a module of the user's; what it imports is not seen."""
    imported(name)
    file = sys.modules[name.partition(":")[0]].__file__ or ""
    return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()[:16]
