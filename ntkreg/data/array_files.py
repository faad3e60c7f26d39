"""Files of arrays, as they are held: npz, npy, IDX and libsvm."""

import gzip
import io
import math
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

KINDS = "npz, npy, CSV or TSV, libsvm, IDX or parquet"
# Names of arrays that belong together, of the training part and of the test part.
PAIRS = (
    ("x", "y"), ("data", "target"), ("data", "labels"), ("features", "labels"),
    ("features", "target"), ("images", "labels"), ("inputs", "targets"), ("arr_0", "arr_1"),
    ("x_train", "y_train"), ("train_images", "train_labels"), ("train_x", "train_y"),
)  # fmt: skip
TESTS = (("x_test", "y_test"), ("test_images", "test_labels"), ("test_x", "test_y"))
LIBSVM = re.compile(r"\s*[^\s:,;]+(\s+\d+:\S+)+\s*(#.*)?")  # a line
MOST_CELLS = 10**9  # of a dense array


class Part(NamedTuple):
    """Inputs (n, …) and labels (n,) or (n, k) as they are held, NaN or None where one is missing.

    Attributes:
      place: (row, column; None for the label) -> where that is, for a person.
    """

    x: np.ndarray
    y: np.ndarray
    place: Callable[[int, int | None], str]


class Held(NamedTuple):
    """What a reader found.

    Attributes:
      labels: where the labels stand, for a person.
      said: what it decided.
    """

    train: Part
    test: Part | None = None
    labels: str = ""
    said: tuple[str, ...] = ()


def refused(path: pathlib.Path, got: object, rule: str = "") -> ValueError:
    """The error of a file that breaks a rule: its path, the rule and what was found."""
    rule = rule or f"must be a data file ({KINDS})"
    return ValueError(f"{path} {rule}, got {' '.join(str(got).split())}")


def open_bytes(path: pathlib.Path) -> Any:
    """The file's bytes, unzipped where it is gzipped."""
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_gzip else open(path, "rb")


def labels_beside(file: pathlib.Path) -> pathlib.Path | None:
    """Where the labels of these inputs should lie, from the file's name; None of other names."""
    if file.suffix == ".npy":
        for x, y in PAIRS:
            if file.stem.lower() == x:
                named = (file.with_stem(name) for name in (y, y.upper()))
                return next((name for name in named if name.is_file()), file.with_stem(y))
    if "images" in file.name:
        return file.with_name(file.name.replace("images", "labels").replace("idx3", "idx1"))
    return None


def npz(path: pathlib.Path) -> Held:
    """Two of its arrays by their names, and two of a test part."""
    with open_bytes(path) as opened:
        content = io.BytesIO(opened.read())
    names = zipfile.ZipFile(content).namelist()
    if any(name.startswith("xl/") for name in names):
        raise refused(path, "a spreadsheet (save it as CSV)")
    by_name = {name.removesuffix(".npy").lower(): name.removesuffix(".npy") for name in names}
    pair = _first_pair(by_name, PAIRS)
    if pair is None:
        found = ", ".join(sorted(by_name.values())) or "nothing"
        rule = "must hold x and y (or X and y, data and target, x_train and y_train)"
        raise refused(path, found, rule)
    tests = _first_pair(by_name, TESTS)
    used = [by_name[name] for name in (*pair, *(tests or ()))]
    arrays = {name: _array(path, content, name) for name in used}
    part = lambda x, y: Part(arrays[x], arrays[y], lambda row, column: _entry(x, y, row, column))
    others = sorted(set(by_name.values()) - set(used))
    said = (f"not read: {', '.join(others)}",) if others else ()
    return Held(part(*used[:2]), part(*used[2:]) if tests else None, used[1], said)


def _first_pair(names: dict[str, str], pairs) -> tuple[str, str] | None:
    return next((pair for pair in pairs if set(pair) <= names.keys()), None)


def _entry(x: str, y: str, row: int, column: int | None) -> str:
    return f"{y}[{row}]" if column is None else f"{x}[{row}] (entry {column})"


def _array(path: pathlib.Path, file: Any, name: str = "") -> np.ndarray:
    """An array of an npz or npy file; never of objects."""
    try:
        found = np.load(file, allow_pickle=False)
        return found[name] if name else found
    except (AttributeError, EOFError, TypeError, ValueError) as error:
        if "pickle" not in str(error):
            raise refused(path, f"content that NumPy cannot read: {error}") from None
        where = f" as {name}" if name else ""
        got = f"pickled objects{where}, which are never loaded (words are kept by dtype str)"
        raise refused(path, got) from None
    finally:
        file.seek(0)


def npy(path: pathlib.Path) -> Held:
    """A file of inputs and the one of labels beside it."""
    beside = labels_beside(path)
    if beside is None or not beside.is_file():
        raise _alone(path, beside, "x.npy and y.npy")
    return _pair_of_files(path, beside, lambda file: _array(file, io.BytesIO(content_of(file))))


def _alone(path: pathlib.Path, beside: pathlib.Path | None, names: str) -> ValueError:
    got = f"no {beside.name}" if beside else "a name that goes with none"
    return refused(path, got, f"must have its labels in a file beside it, as {names}")


def _pair_of_files(
    path: pathlib.Path, beside: pathlib.Path, load: Callable[[pathlib.Path], np.ndarray]
) -> Held:
    """Two files, and two more with the test part where their names have "train" in them."""
    part = lambda x, y: Part(load(x), load(y), lambda row, c: _entry(x.name, y.name, row, c))
    for test in ("test", "t10k"):
        tests = [file.with_name(file.name.replace("train", test)) for file in (path, beside)]
        if "train" in path.name and all(file.is_file() for file in tests):
            return Held(part(path, beside), part(*tests), beside.name)
    return Held(part(path, beside), None, beside.name)


def content_of(path: pathlib.Path) -> bytes:
    """A file's bytes, unzipped where it is gzipped.

    Raises:
      ValueError: where it is damaged.
    """
    try:
        with open_bytes(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise refused(path, f"a file that is damaged: {error}") from None


IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def idx(path: pathlib.Path) -> Held:
    """Images and the labels beside them."""
    beside = labels_beside(path)
    if beside is None or not beside.is_file():
        raise _alone(path, beside, "…images-idx3-ubyte and …labels-idx1-ubyte")
    return _pair_of_files(path, beside, idx_array)


def idx_array(path: pathlib.Path) -> np.ndarray:
    """The array in an IDX file, gzipped or not.

    Source: LeCun, Cortes, Burges (1998), the format of MNIST's files.

    Raises:
      ValueError: for a file of another kind, and one that does not end where its shape says.
    """
    content = content_of(path)
    axes = content[3] if len(content) > 3 else 0
    if content[:2] != b"\0\0" or len(content) < 4 + 4 * axes or content[2] not in IDX_DTYPES:
        raise refused(path, "content of another kind", "must be an IDX file")
    dtype = np.dtype(IDX_DTYPES[content[2]])
    shape = np.frombuffer(content, ">u4", axes, 4).tolist()
    wanted = 4 + 4 * axes + math.prod(shape) * dtype.itemsize
    if len(content) != wanted:
        rule = f"must have {wanted} bytes, an IDX file of shape {tuple(shape)}"
        raise refused(path, len(content), rule)
    return np.frombuffer(content, dtype, offset=4 + 4 * axes).reshape(shape)


def libsvm(path: pathlib.Path) -> Held:
    """Samples of a line each, made dense."""
    from sklearn.datasets import load_svmlight_file

    try:
        sparse, y = load_svmlight_file(io.BytesIO(content_of(path)))
    except ValueError as error:
        for number, line in enumerate(content_of(path).decode("latin-1").splitlines(), 1):
            if not re.fullmatch(r"\s*(#.*)?", line) and not LIBSVM.fullmatch(line):
                raise refused(
                    path, line.strip()[:40], f"line {number} must be label index:value …"
                ) from None
        raise refused(path, error, "must be a libsvm file") from None
    if np.prod(sparse.shape, dtype=float) > MOST_CELLS:
        raise refused(path, sparse.shape, f"must have at most {MOST_CELLS} cells once it is dense")
    feature = lambda column: "" if column is None else f", feature {column + 1}"
    place = lambda row, column: f"sample {row + 1}{feature(column)}"
    return Held(Part(sparse.toarray(), y, place), None, "at the start of each line")
