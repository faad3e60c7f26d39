"""Training and test data from a file of one's own: what was read and how, and what is wrong where.

A file's kind is seen from its content, not from its name. Readers give what the file holds (`Held`)
as numbers and labels; everything after that is the same for all of them: missing cells, labels of
any usual coding, rows that contradict each other.
"""

import csv
import gzip
import io
import itertools
import math
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas

from ntkreg.data.dataset import Dataset

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
SHOWN = 8  # classes that are named


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
        raise _refused(path, f"a file that is damaged: {error}") from None


def _refused(path: pathlib.Path, got: object, rule: str = "") -> ValueError:
    rule = rule or f"must be a data file ({KINDS})"
    return ValueError(f"{path} {rule}, got {' '.join(str(got).split())}")


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
        raise _refused(path, repr(label), "has no columns, so that label must be left out")
    return READERS[kind](path)


def _inside(folder: pathlib.Path) -> pathlib.Path:
    """The inputs in a folder that has them and labels."""
    for file in sorted(folder.iterdir(), key=lambda file: ("train" not in file.name, file.name)):
        if file.is_file() and (beside := _beside(file)) and beside.is_file():
            return file
    raise _refused(folder, "none of them", "must hold x.npy and y.npy, or IDX images and labels")


def _beside(file: pathlib.Path) -> pathlib.Path | None:
    """Where the labels of these inputs should lie, from the file's name; None of other names."""
    if file.suffix == ".npy":
        for x, y in PAIRS:
            if file.stem.lower() == x:
                named = (file.with_stem(name) for name in (y, y.upper()))
                return next((name for name in named if name.is_file()), file.with_stem(y))
    if "images" in file.name:
        return file.with_name(file.name.replace("images", "labels").replace("idx3", "idx1"))
    return None


def _kind(path: pathlib.Path) -> str:
    """The kind of a file from its first bytes."""
    with _opened(path) as file:
        head = file.read(4096)
    if not head.strip():
        raise _refused(path, "an empty file")
    for magic, found in MAGIC.items():
        if head.startswith(magic):
            return found
    if head[0] == 0x80 and head[1] < 6:
        raise _refused(path, "a pickle, which is never loaded since it could run any code")
    if head[:2] == b"\0\0" and len(head) > 3 and head[2] in IDX_DTYPES:
        return "idx"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        raise _refused(path, "an HTML page (a download that gave a page in the file's place?)")
    if text[:1] in (b"{", b"["):
        raise _refused(path, "a JSON file")
    if b"\0" in head and head[:2] not in UTF16:
        raise _refused(path, "binary content of another kind")
    first = next((cells for cells in text.splitlines() if not cells.startswith(b"#")), b"")
    return "libsvm" if LIBSVM.fullmatch(first.decode("latin-1")) else "table"


MAGIC = {b"PK": "npz", b"\x93NUMPY": "npy", b"PAR1": "parquet"}
UTF16 = (b"\xff\xfe", b"\xfe\xff")


def _opened(path: pathlib.Path) -> Any:
    """The file's bytes, unzipped where it is gzipped."""
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    return gzip.open(path) if is_gzip else open(path, "rb")


# Arrays --------------------------------------------------------------------------------------


def _npz(path: pathlib.Path) -> Held:
    with _opened(path) as opened:
        content = io.BytesIO(opened.read())
    names = zipfile.ZipFile(content).namelist()
    if any(name.startswith("xl/") for name in names):
        raise _refused(path, "a spreadsheet (save it as CSV)")
    by_name = {name.removesuffix(".npy").lower(): name.removesuffix(".npy") for name in names}
    pair = _first_pair(by_name, PAIRS)
    if pair is None:
        found = ", ".join(sorted(by_name.values())) or "nothing"
        rule = "must hold x and y (or X and y, data and target, x_train and y_train)"
        raise _refused(path, found, rule)
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
            raise _refused(path, f"content that NumPy cannot read: {error}") from None
        where = f" as {name}" if name else ""
        got = f"pickled objects{where}, which are never loaded (words are kept by dtype str)"
        raise _refused(path, got) from None
    finally:
        file.seek(0)


def _npy(path: pathlib.Path) -> Held:
    beside = _beside(path)
    if beside is None or not beside.is_file():
        raise _alone(path, beside, "x.npy and y.npy")
    return _pair_of_files(path, beside, lambda file: _array(file, io.BytesIO(content_of(file))))


def _alone(path: pathlib.Path, beside: pathlib.Path | None, names: str) -> ValueError:
    got = f"no {beside.name}" if beside else "a name that tells of none"
    return _refused(path, got, f"must have its labels in a file beside it, as {names}")


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
        with _opened(path) as file:
            return file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise _refused(path, f"a file that is damaged: {error}") from None


IDX_DTYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _idx(path: pathlib.Path) -> Held:
    beside = _beside(path)
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
        raise _refused(path, "content of another kind", "must be an IDX file")
    dtype = np.dtype(IDX_DTYPES[content[2]])
    shape = np.frombuffer(content, ">u4", axes, 4).tolist()
    wanted = 4 + 4 * axes + math.prod(shape) * dtype.itemsize
    if len(content) != wanted:
        rule = f"must have {wanted} bytes, an IDX file of shape {tuple(shape)}"
        raise _refused(path, len(content), rule)
    return np.frombuffer(content, dtype, offset=4 + 4 * axes).reshape(shape)


# Text ----------------------------------------------------------------------------------------


def _libsvm(path: pathlib.Path) -> Held:
    from sklearn.datasets import load_svmlight_file

    try:
        sparse, y = load_svmlight_file(io.BytesIO(content_of(path)))
    except ValueError as error:
        for number, line in enumerate(content_of(path).decode("latin-1").splitlines(), 1):
            if not re.fullmatch(r"\s*(#.*)?", line) and not LIBSVM.fullmatch(line):
                raise _refused(
                    path, line.strip()[:40], f"line {number} must be label index:value …"
                ) from None
        raise _refused(path, error, "must be a libsvm file") from None
    if np.prod(sparse.shape, dtype=float) > MOST_CELLS:
        raise _refused(path, sparse.shape, f"must have at most {MOST_CELLS} cells once it is dense")
    feature = lambda column: "" if column is None else f", feature {column + 1}"
    place = lambda row, column: f"sample {row + 1}{feature(column)}"
    return Held(Part(sparse.toarray(), y, place), None, "at the start of each line")


class _Text(NamedTuple):
    """How a table of text is cut into cells."""

    encoding: str
    separator: str  # " " for any white space
    skipped: int  # lines before the table
    has_commas: bool = False  # decimal ones
    has_header: bool = False


def _lines(path: pathlib.Path, text: _Text) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the table's lines that are not empty."""
    with _opened(path) as opened, io.TextIOWrapper(opened, text.encoding, newline="") as file:
        numbered = enumerate(itertools.islice(file, text.skipped, None), text.skipped + 1)
        if text.separator == " ":
            yield from ((number, line.split()) for number, line in numbered if line.strip())
            return
        reader = csv.reader((line for _, line in numbered), delimiter=text.separator)
        for cells in reader:
            if len(cells) > 1 or "".join(cells).strip():
                yield text.skipped + reader.line_num, cells


def _looked_at(path: pathlib.Path) -> _Text:
    """The separator that cuts the first line into most cells, white space where none does so.

    With semicolons, numbers may have decimal commas.
    """
    with _opened(path) as file:
        encoding = "utf-16" if file.read(2) in UTF16 else "utf-8-sig"
    with _opened(path) as opened, io.TextIOWrapper(opened, encoding) as file:
        is_comment = lambda line: line.startswith("#") or not line.strip()
        skipped = len(list(itertools.takewhile(is_comment, file)))
    texts = {separator: _Text(encoding, separator, skipped) for separator in ";,\t| "}
    cells = {separator: next(_lines(path, text), (0, []))[1] for separator, text in texts.items()}
    most = max(";,\t|", key=lambda separator: len(cells[separator]))
    if len(cells[";"]) > 1 and not any("," in c and not _has_comma(c) for c in cells[";"]):
        most = ";"  # commas are decimal
    text = texts[most if len(cells[most]) > 1 else " "]
    lines = itertools.islice(_lines(path, text), 2)
    rows = [[cell.strip() for cell in cells] for _, cells in lines]
    if text.separator == ";" and any(map(_has_comma, itertools.chain(*rows))):
        text = text._replace(has_commas=True)
        rows = [[cell.replace(",", ".") for cell in cells] for cells in rows]
    return text._replace(has_header=_is_header(*rows) if len(rows) > 1 else False)


def _has_comma(cell: str) -> bool:
    """Whether a cell is a number with a decimal comma, as spreadsheets write in much of Europe."""
    return not _is_number(cell) and _is_number(cell.replace(",", "."))


def _is_header(first: list[str], second: list[str]) -> bool:
    """Whether the first line has names: words above numbers, or 0, 1, 2, … as pandas counts."""
    counts = [str(i) for i in range(len(first))]
    if first == counts or not any(map(_is_number, first)):
        return first == counts or any(map(_is_number, second))
    return any(
        not _is_number(name) and _is_number(cell) and cell not in MISSING
        for name, cell in zip(first, second, strict=False)
    )


MISSING = ("", "?", "na", "n/a", "nan", "null", "none", "#n/a", "-")


def _is_number(cell: str) -> bool:
    """True of what is missing, too."""
    try:
        float(cell)
    except ValueError:
        return cell.lower() in MISSING
    return True


def _table(path: pathlib.Path, label: str) -> Held:
    text = _looked_at(path)
    length = 0
    for number, cells in _lines(path, text):
        length = length or len(cells)
        if len(cells) != length:
            raise _refused(path, f"{len(cells)} of them", f"line {number} must have {length} cells")
    with _opened(path) as file:
        frame = pandas.read_csv(
            file, sep=r"\s+" if text.separator == " " else text.separator,
            skiprows=text.skipped, header=0 if text.has_header else None, encoding=text.encoding,
            na_values=["?", "-"], skipinitialspace=True,
        )  # fmt: skip
    frame = frame.apply(_with_points) if text.has_commas else frame
    first = text.has_header  # lines are found by counting anew, where one is asked for

    def line(row: int) -> str:
        number, _ = next(itertools.islice(_lines(path, text), row + first, None))
        return f"line {number}"

    said = ["the first line is a header" if first else "no header"]
    said += ["numbers have decimal commas"] if text.has_commas else []
    return _of_frame(path, frame, label, line, text.has_header, tuple(said))


def _with_points(column: pandas.Series) -> pandas.Series:
    """A column whose cells are numbers where they are with a decimal point for the comma."""
    numbers = pandas.to_numeric(column.astype(str).str.replace(",", "."), errors="coerce")
    return column.astype(object).where(numbers.isna(), numbers)


def _parquet(path: pathlib.Path, label: str) -> Held:
    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        got = "no pyarrow to read parquet with: pip install pyarrow, or save it as CSV"
        raise _refused(path, got) from None
    except (ValueError, OSError) as error:  # pyarrow's own are of these
        raise _refused(path, str(error).split(".")[0], "must be whole parquet") from None
    return _of_frame(path, frame, label, lambda row: f"row {row + 1}", True, ())


def _of_frame(
    path: pathlib.Path, frame: pandas.DataFrame, label: str, line: Callable[[int], str],
    is_named: bool, said: tuple[str, ...],
) -> Held:  # fmt: skip
    """A table's columns as inputs and labels."""
    names = [f"{name!r}" if is_named else f"{i + 1}" for i, name in enumerate(frame.columns)]
    at = _label_place(path, label, [str(name) for name in frame.columns] if is_named else [], names)
    kept = []
    for i, column in enumerate(frame):
        values = frame[column]
        if i == at:
            continue
        if values.isna().all():
            said += (f"column {names[i]} is empty and left out",)
        elif str(column).startswith("Unnamed: ") and (np.diff(values) == 1).all():
            said += (f"column {i + 1}, which has no name and counts rows, is left out",)
        else:
            kept.append(i)
            if values.dtype.kind == "i" and len(values) > 20 and values.is_unique:
                said += (
                    f"column {names[i]} has another whole number in every row: if it names rows, "
                    "leave it out of the file",
                )
    if not kept:
        raise _refused(path, f"{frame.shape[1]} column(s)", "must have features and a label")
    x = [_column(path, frame.iloc[:, i], names[i], line) for i in kept]
    name = lambda column: names[at if column is None else kept[column]]
    place = lambda row, column: f"{line(row)}, column {name(column)}"
    y = frame.iloc[:, at].to_numpy(object)
    which = "the last column" if at == frame.shape[1] - 1 else "column"
    return Held(Part(np.stack(x, axis=1), y, place), None, f"in {which}, {names[at]}", said)


def _label_place(path: pathlib.Path, label: str, header: list[str], names: list[str]) -> int:
    """The place of the label's column, from 0."""
    if label in header:
        return header.index(label)
    place = int(label or -1) if re.fullmatch(r"-?\d*", label) and label != "-" else 0
    if not 1 <= abs(place) <= len(names):
        raise _refused(
            path, repr(label),
            f"must have the label's column by its name or place, of {', '.join(names[:SHOWN])}"
            f"{', …' if len(names) > SHOWN else ''}",
        )  # fmt: skip
    return place - 1 if place > 0 else len(names) + place


def _column(
    path: pathlib.Path, values: pandas.Series, name: str, line: Callable[[int], str]
) -> np.ndarray:
    """A column's numbers, NaN where one is missing."""
    numbers = pandas.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.isnan(numbers) & values.notna().to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise _refused(
            path, f"{str(values.iloc[row])[:40]!r}",
            f"{line(row)}, column {name} must be a number (or name the label's column by --label)",
        )  # fmt: skip
    return numbers


READERS: dict[str, Callable[..., Held]] = {
    "npz": _npz, "npy": _npy, "idx": _idx, "libsvm": _libsvm, "table": _table, "parquet": _parquet,
}  # fmt: skip


# What it means -------------------------------------------------------------------------------


def _checked(path: pathlib.Path, held: Held, drop_missing: bool) -> Read:
    """What was held, as data to learn from."""
    said = list(held.said)
    train = _complete(path, held.train, drop_missing, said)
    test = held.test and _complete(path, held.test, drop_missing, said)
    if len(train.y) < 2:
        raise _refused(path, len(train.y), "must have at least two rows with all cells")
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
            raise _refused(path, test.x.shape[1], f"must have {train.x.shape[1]} test features")
        own = plain_labels(path, test, [])
        if not np.isin(own, values).all():
            strange = own[~np.isin(own, values)][0]
            raise _refused(path, f"{strange!s}", f"must have test labels of {', '.join(named)}")
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
        raise _refused(path, f"{x.dtype}", "must have inputs that are numbers")
    if x.ndim < 2 or y.ndim not in (1, 2) or len(x) != len(y) or not x.size:
        rule = "must have inputs of shape (n, d) and n labels, n, d ≥ 1"
        raise _refused(path, f"{x.shape} and {y.shape}", rule)
    if x.ndim > 2:
        said.append(f"inputs of shape {x.shape[1:]} are rows of {np.prod(x.shape[1:])} numbers")
    x = np.ascontiguousarray(x.reshape(len(x), -1), np.float64)
    if np.isinf(x).any():
        row, column = np.argwhere(np.isinf(x))[0]
        raise _refused(path, x[row, column], f"{place(row, column)} must be finite")
    missing_x, missing_y = np.isnan(x), pandas.isna(y).reshape(len(y), -1).any(axis=1)
    rows = missing_x.any(axis=1) | missing_y
    if not rows.any():
        return Part(x, y, place)
    row = int(rows.argmax())
    first = place(row, None if missing_y[row] else int(missing_x[row].argmax()))
    count = f"{missing_x.sum() + missing_y.sum()} missing cells in {rows.sum()} rows"
    if not drop_missing:
        rule = "must have no missing cells (--drop_missing leaves their rows out)"
        raise _refused(path, f"{count}, the first at {first}", rule)
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
            raise _refused(path, f"labels of shape {y.shape}", rule)
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
        raise _refused(path, f"{y.dtype}", "must have labels that are numbers or words")
    whole = np.isfinite(y) & (y == np.floor(y))
    if not whole.all():
        row = int(np.argmin(whole))
        rule = f"must have classes for labels (--label names their column), {part.place(row, None)}"
        raise _refused(path, f"{y[row]}", rule)
    return y.astype(np.int64)


def _check_classes(path: pathlib.Path, held: Held, values: np.ndarray, num_rows: int) -> None:
    if len(values) == 1:
        rule = "must have at least two classes"
        raise _refused(path, f"the label {values[0]} in all {num_rows} rows", rule)
    if len(values) > max(2, num_rows // 2):
        rule = "must have classes for labels, more than one row of each (--label names the column)"
        raise _refused(path, f"{len(values)} labels in {num_rows} rows {held.labels}", rule)


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
