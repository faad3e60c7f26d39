"""Data by one text: the name of a distribution with its sizes, or a file of one's own."""

import os
import pathlib
import pickle
import zipfile
import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._types import PRNGKey
from ntkreg.data import dataset
from ntkreg.data.dataset import (
    Dataset,
    check_dataset,
    digits,
    noisy_xor,
    random_labels,
    split,
    teacher,
)

Parts = tuple[Dataset, Dataset | None]  # training and test data

TEACHER_UNITS, TEACHER_MARGIN = 10, 0.01
HELD = "x of shape (n, d) and y of shape (n,), ±1 or class indices"
KEYS = ("x", "y", "x_test", "y_test")


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
    | a path to FILE.npz  | its x and y                                      | x_test, y_test      |

    Labels are −1 and +1 in floats, or in int32 the classes 0 … k − 1. In a file the latter are
    integers, each of which occurs. Test data are None where there are none.

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
    if pathlib.Path(name).suffix == ".npz":
        return read(name)
    source, sizes = parse(os.fspath(name))
    if num_test < 0:
        raise ValueError(f"num_test must be at least 0, got {num_test}")
    if key is None:
        raise ValueError(f"key must be given, which draws {name}, got None")
    return SOURCES[source][1](key, num_test, *sizes)


def parse(
    name: str, rule: str = f"name must be {NAMES} or a path to an npz file"
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


def read(path: str | os.PathLike) -> Parts:
    """What an npz file holds, as `load` gives it.

    Raises:
      ValueError: in one line that says what the file must hold, where it holds anything else.
    """
    found = _arrays(path)
    missing, foreign = {"x", "y"} - set(found), set(found) - set(KEYS)
    if missing or foreign or ("x_test" in found) != ("y_test" in found):
        names = ", ".join(sorted(found)) or "nothing"
        raise _refused(path, f"{names} (x_test and y_test are the only others, and come together)")
    train = _labelled(path, found["x"], found["y"])
    if "x_test" not in found:
        return train, None
    return train, _tested(path, found["x_test"], found["y_test"], train)


def _refused(path: str | os.PathLike, got: object) -> ValueError:
    return ValueError(f"{os.fspath(path)} must hold {HELD}, got {' '.join(str(got).split())}")


def _arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    if not pathlib.Path(path).is_file():
        raise ValueError(f"{os.fspath(path)!r} must be an npz file with {HELD}, there is no file")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file}
    except (AttributeError, EOFError, OSError, TypeError, ValueError) as error:
        # NumPy's own words would advise to load pickles, which run what code they like.
        is_pickled = "pickle" in str(error)
        got = "pickled objects, which are never loaded" if is_pickled else f"no npz file: {error}"
        raise _refused(path, got) from None
    except (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError) as error:
        raise _refused(path, f"a file that is damaged: {error}") from None


def _labelled(path: str | os.PathLike, x: np.ndarray, y: np.ndarray) -> Dataset:
    x = _inputs(path, x, y, "x", "y")
    is_integer, is_float = (np.issubdtype(y.dtype, k) for k in (np.integer, np.floating))
    values = np.unique(y) if is_integer or is_float else np.array([])
    if values.size and np.isin(values, (-1, 1)).all() and (is_float or -1 in values):
        return _dataset(x, y, float)
    if is_integer and values.size >= 2 and (values == np.arange(values.size)).all():
        return _dataset(x, y, jnp.int32)
    shown = ", ".join(map(str, values[:6])) + (", …" if values.size > 6 else "")
    raise _refused(
        path,
        f"y of {y.dtype} with {f'the values {shown}' if shown else 'no numbers'} (class indices "
        "are integers 0 … k − 1, each there, k ≥ 2)",
    )


def _tested(path: str | os.PathLike, x: np.ndarray, y: np.ndarray, train: Dataset) -> Dataset:
    """The test data, of the dimension and with the labels of the training data."""
    x = _inputs(path, x, y, "x_test", "y_test")
    is_class = jnp.issubdtype(train.y.dtype, jnp.integer)
    if x.shape[1] != train.x.shape[1] or not np.issubdtype(
        y.dtype, np.integer if is_class else np.number
    ):
        raise _refused(
            path,
            f"x_test of shape {x.shape} with y_test of {y.dtype}, beside x of shape "
            f"{train.x.shape} with y of {train.y.dtype}",
        )
    strange = y[~np.isin(y, np.unique(train.y) if is_class else (-1, 1))]
    if strange.size:
        raise _refused(path, f"y_test with the value {strange[0]}, which y does not have")
    return _dataset(x, y, train.y.dtype)


def _inputs(
    path: str | os.PathLike, x: np.ndarray, y: np.ndarray, x_name: str, y_name: str
) -> np.ndarray:
    """x, where it can be learned from."""
    if not np.issubdtype(x.dtype, np.floating):
        raise _refused(path, f"{x_name} of {x.dtype}, where floats are wanted")
    x = x.astype(np.float64)
    try:
        check_dataset(Dataset._make((x, y)), "any")
    except ValueError as error:
        rule = str(error).replace("data.x", x_name)
        raise _refused(path, f"{x_name} of {x.shape}, {y_name} of {y.shape}: {rule}") from None
    return x


def _dataset(x: np.ndarray, y: np.ndarray, dtype) -> Dataset:
    return Dataset(jnp.asarray(x, float), jnp.asarray(y, dtype))
