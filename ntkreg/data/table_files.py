"""Tables, as they are held: CSV, TSV and other separators, and parquet."""

import csv
import io
import itertools
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import pandas

from ntkreg.data.array_files import Held, Part, open_bytes, refused

SHOWN = 8  # columns or classes that are named
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _Text(NamedTuple):
    """How a table of text is cut into cells."""

    encoding: str
    separator: str  # " " for any white space
    skipped: int  # lines before the table
    has_commas: bool = False  # decimal ones
    has_header: bool = False


def _lines(path: pathlib.Path, text: _Text) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of the table's lines that are not empty."""
    with open_bytes(path) as opened, io.TextIOWrapper(opened, text.encoding, newline="") as file:
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
    with open_bytes(path) as file:
        encoding = "utf-16" if file.read(2) in UTF16 else "utf-8-sig"
    with open_bytes(path) as opened, io.TextIOWrapper(opened, encoding) as file:
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


def table(path: pathlib.Path, label: str) -> Held:
    """Rows of text, the label in one column."""
    text = _looked_at(path)
    length = 0
    for number, cells in _lines(path, text):
        length = length or len(cells)
        if len(cells) != length:
            raise refused(path, f"{len(cells)} of them", f"line {number} must have {length} cells")
    with open_bytes(path) as file:
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


def parquet(path: pathlib.Path, label: str) -> Held:
    """Rows of parquet, where pandas has pyarrow."""
    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        got = "no pyarrow to read parquet with: pip install pyarrow, or save it as CSV"
        raise refused(path, got) from None
    except (ValueError, OSError) as error:  # pyarrow's own are of these
        raise refused(path, str(error).split(".")[0], "must be whole parquet") from None
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
        raise refused(path, f"{frame.shape[1]} column(s)", "must have features and a label")
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
        raise refused(
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
        raise refused(
            path, f"{str(values.iloc[row])[:40]!r}",
            f"{line(row)}, column {name} must be a number (or name the label's column by --label)",
        )  # fmt: skip
    return numbers
