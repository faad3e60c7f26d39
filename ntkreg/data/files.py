"""Training and test data from a file of one's own: what was read and how, and what is wrong where.

A file's kind is seen from its content, not from its name. Readers give what the file holds (`Held`)
as numbers and labels; everything after that is the same for all of them: missing cells, labels of
any usual coding, rows that contradict each other.
"""

import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas

from ntkreg.data import array_files, table_files
from ntkreg.data.array_files import (
    IDX_DTYPES,
    KINDS,
    LIBSVM,
    Held,
    Part,
    labels_beside,
    open_bytes,
    refused,
)
from ntkreg.data.dataset import Dataset
from ntkreg.data.table_files import SHOWN, UTF16


class Read(NamedTuple):
    """What a file holds, ready to be learned from, in NumPy's arrays.

    Attributes:
      train: x in float64; y of −1 and +1 where there are two classes, else the indices 0 … k − 1.
      test: the file's own test part, where it has one.
      classes: the labels as they stand in the file, in the order of their codes.
      said: lines for a person: what was read and how, and what is strange.
    """

    train: Dataset
    test: Dataset | None
    classes: tuple[str, ...]
    said: tuple[str, ...]


def read(path: str | os.PathLike, label: str = "", drop_missing: bool = False) -> Read:
    """The data in a file, whatever its kind.

    | kind       | what is read                                                                |
    |------------|-----------------------------------------------------------------------------|
    | npz        | x and y, or another pair of `PAIRS`, upper case or lower; a test part       |
    | npy        | FILE and the labels beside it (x.npy, y.npy), or a folder with both         |
    | CSV, TSV   | a row a line, with or without a header; the label's column by `label`       |
    | libsvm     | "label index:value …" a line                                                |
    | IDX        | images and labels beside them, as of MNIST, or a folder with them           |
    | parquet    | as CSV, where pandas can                                                    |

    Text and IDX may be gzipped. Inputs of more axes are flattened. Labels may be any numbers that
    are whole, bools, words, of shape (n, 1) or one-hot. "~" is the home folder.

    Args:
      label: the name of the label's column in a table, or its place, from 1 or, from the end, −1;
        the last unless given.
      drop_missing: leaves rows with missing cells out, which are refused otherwise.

    Raises:
      ValueError: in one line with the file, and the line and column where there are such. Pickled
        content is never loaded.
    """
    path = pathlib.Path(path).expanduser()
    try:
        return _checked(path, _held(path, label), drop_missing)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, UnicodeError) as error:
        raise refused(path, f"a file that is damaged: {error}") from None


def _held(path: pathlib.Path, label: str) -> Held:
    """What the reader of this kind finds."""
    if path.is_dir():
        path = _inside(path)
    if not path.is_file():
        raise ValueError(f"{str(path)!r} must be a data file ({KINDS}), there is no file")
    kind = _kind(path)
    if kind in ("table", "parquet"):
        return READERS[kind](path, label)
    if label:
        raise refused(path, repr(label), "has no columns, so that label must be left out")
    return READERS[kind](path)


def _inside(folder: pathlib.Path) -> pathlib.Path:
    """The inputs in a folder that has them and labels."""
    for file in sorted(folder.iterdir(), key=lambda file: ("train" not in file.name, file.name)):
        if file.is_file() and (beside := labels_beside(file)) and beside.is_file():
            return file
    raise refused(folder, "none of them", "must hold x.npy and y.npy, or IDX images and labels")


def _kind(path: pathlib.Path) -> str:
    """The kind of a file from its first bytes."""
    with open_bytes(path) as file:
        head = file.read(4096)
    if not head.strip():
        raise refused(path, "an empty file")
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    if head[0] == 0x80 and head[1] < 6:
        raise refused(path, "a pickle, which is never loaded since it could run any code")
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in IDX_DTYPES:
        return "idx"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        raise refused(path, "an HTML page (a download that gave a page in the file's place?)")
    if text[:1] in (b"{", b"["):
        raise refused(path, "a JSON file")
    if b"\0" in head and head[:2] not in UTF16:
        raise refused(path, "binary content of another kind")
    first = next((cells for cells in text.splitlines() if not cells.startswith(b"#")), b"")
    return "libsvm" if LIBSVM.fullmatch(first.decode("latin-1")) else "table"


MAGIC = {b"PK": "npz", b"\x93NUMPY": "npy", b"PAR1": "parquet"}
READERS: dict[str, Callable[..., Held]] = {
    "npz": array_files.npz, "npy": array_files.npy, "idx": array_files.idx,
    "libsvm": array_files.libsvm, "table": table_files.table, "parquet": table_files.parquet,
}  # fmt: skip


# What it means -------------------------------------------------------------------------------


def _checked(path: pathlib.Path, held: Held, drop_missing: bool) -> Read:
    """What was held, as data to learn from."""
    said = list(held.said)
    train = _complete(path, held.train, drop_missing, said)
    test = held.test and _complete(path, held.test, drop_missing, said)
    if len(train.y) < 2:
        raise refused(path, len(train.y), "must have at least two rows with all cells")
    labels = plain_labels(path, train, said)
    values, codes = np.unique(labels, return_inverse=True)
    _check_classes(path, held, values, len(codes))
    named = [f"{value!s}" for value in values]
    said.append(f"labels {held.labels}: {_coded(named, np.bincount(codes))}")
    said += _contradiction(train, codes, named)
    found = Dataset._make((train.x, _codes(codes, len(values))))
    size = f"{len(train.y)} rows of {train.x.shape[1]} features"
    tested = None
    if test:
        if test.x.shape[1] != train.x.shape[1]:
            raise refused(path, test.x.shape[1], f"must have {train.x.shape[1]} test features")
        own = plain_labels(path, test, [])
        if not np.isin(own, values).all():
            strange = own[~np.isin(own, values)][0]
            raise refused(path, f"{strange!s}", f"must have test labels of {', '.join(named)}")
        tested = Dataset._make((test.x, _codes(np.searchsorted(values, own), len(values))))
        size += f", and a test part of {len(test.y)}"
    lines = dict.fromkeys([f"{path.name}: {size}", *said])  # of both parts once
    return Read(found, tested, tuple(named), tuple(lines))


def _codes(codes: np.ndarray, num_classes: int) -> np.ndarray:
    return 2.0 * codes - 1.0 if num_classes == 2 else codes.astype(np.int32)


def _coded(named: list[str], counts: np.ndarray) -> str:
    """The classes, how many there are of each, and what they became."""
    if len(named) == 2:
        ends = zip(named, counts, ("−1", "+1"), strict=True)
        return ", ".join(f"{name} → {code} ({count} rows)" for name, count, code in ends)
    shown = [f"{n} ({c})" for n, c in zip(named[:SHOWN], counts, strict=False)]
    return f"{len(named)} classes, {', '.join(shown)}{', …' if len(named) > SHOWN else ''}"


def _complete(path: pathlib.Path, part: Part, drop_missing: bool, said: list[str]) -> Part:
    """The rows without missing cells, flat and in float64."""
    x, y, place = part
    if x.dtype.kind not in "fiub":
        raise refused(path, f"{x.dtype}", "must have inputs that are numbers")
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y) or not x.size:
        rule = "must have inputs of shape (n, d) and n labels, n, d ≥ 1"
        raise refused(path, f"{x.shape} and {y.shape}", rule)
    if x.ndim > 2:
        said.append(f"inputs of shape {x.shape[1:]} are rows of {np.prod(x.shape[1:])} numbers")
    x = np.ascontiguousarray(x.reshape(len(x), -1), np.float64)
    if np.isinf(x).any():
        row, column = np.argwhere(np.isinf(x))[0]
        raise refused(path, x[row, column], f"{place(row, column)} must be finite")
    missing_x, missing_y = np.isnan(x), pandas.isna(y).reshape(len(y), -1).any(axis=1)
    rows = missing_x.any(axis=1) | missing_y
    if not rows.any():
        return Part(x, y, place)
    row = int(rows.argmax())
    first = place(row, None if missing_y[row] else int(missing_x[row].argmax()))
    count = f"{missing_x.sum() + missing_y.sum()} missing cells in {rows.sum()} rows"
    if not drop_missing:
        rule = "must have no missing cells (--drop_missing leaves their rows out)"
        raise refused(path, f"{count}, the first at {first}", rule)
    said.append(f"left out: {rows.sum()} of {len(rows)} rows, which have missing cells ({count})")
    kept = np.flatnonzero(~rows)
    return Part(x[kept], y[kept], lambda row, column: place(int(kept[row]), column))


def plain_labels(path: pathlib.Path, part: Part, said: list[str]) -> np.ndarray:
    """The labels as integers, or as words.

    Raises:
      ValueError: for numbers that are not whole, and several columns that are not one-hot.
    """
    y = part.y
    if y.ndim == 2 and y.shape[1] > 1:
        is_one_hot = np.isin(y, (0, 1)).all() and (y.astype(float).sum(axis=1) == 1).all()
        if not is_one_hot:
            rule = "must have one label a row, or one-hot labels"
            raise refused(path, f"labels of shape {y.shape}", rule)
        said.append(f"labels are one-hot, {y.shape[1]} columns")
        return y.astype(float).argmax(axis=1)
    y = y.reshape(-1)
    if y.dtype.kind == "b":
        return y.astype(int)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "replace")
    if y.dtype.kind in "OU":
        words = np.array([str(value).strip() for value in y])
        if not all(re.fullmatch(r"[-+]?\d*\.?\d+(e[-+]?\d+)?\.?|\d+\.", w, re.I) for w in words):
            return words
        y = words.astype(float)
    if y.dtype.kind not in "fiu":
        raise refused(path, f"{y.dtype}", "must have labels that are numbers or words")
    whole = np.isfinite(y) & (y == np.floor(y))
    if not whole.all():
        row = int(np.argmin(whole))
        rule = f"must have classes for labels (--label names their column), {part.place(row, None)}"
        raise refused(path, f"{y[row]}", rule)
    return y.astype(np.int64)


def _check_classes(path: pathlib.Path, held: Held, values: np.ndarray, num_rows: int) -> None:
    if len(values) == 1:
        rule = "must have at least two classes"
        raise refused(path, f"the label {values[0]} in all {num_rows} rows", rule)
    if len(values) > max(2, num_rows // 2):
        rule = "must have classes for labels, more than one row of each (--label names the column)"
        raise refused(path, f"{len(values)} labels in {num_rows} rows {held.labels}", rule)


def _contradiction(part: Part, codes: np.ndarray, named: list[str]) -> list[str]:
    """A line on equal rows with different labels, where there are such."""
    _, group = np.unique(part.x, axis=0, return_inverse=True)
    group = group.reshape(-1)
    low, high = np.full(group.max() + 1, len(named)), np.full(group.max() + 1, -1)
    np.minimum.at(low, group, codes)
    np.maximum.at(high, group, codes)
    mixed = (low < high)[group]
    if not mixed.any():
        return []
    rows = np.flatnonzero(group == group[mixed.argmax()])
    other = next(row for row in rows if codes[row] != codes[rows[0]])
    where = [part.place(int(row), None).partition(", ")[0] for row in (rows[0], other)]
    labels = f"labels {named[codes[rows[0]]]} and {named[codes[other]]}"
    more = f"; {mixed.sum()} rows are in such a case" if mixed.sum() > 2 else ""
    return [f"no network separates {where[0]} and {where[1]}: equal inputs, {labels}{more}"]
