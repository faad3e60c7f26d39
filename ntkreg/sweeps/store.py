"""A folder of results: finished batches while a sweep runs, and its table at the end.

batches/identity.json    what the results depend on
batches/*.npz            finished points, each file written whole or not at all
summary.csv              the table's numbers and words
arrays.npz               its arrays
run.json                 where they come from
"""

import contextlib
import json
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas

from ntkreg.sweeps.programs import FAILED, Row

BATCHES, IDENTITY = "batches", "identity.json"
SUMMARY, ARRAYS, RUN = "summary.csv", "arrays.npz", "run.json"
DIGITS = "%.8g"


class Refused(ValueError):
    """A folder that holds something else, or is damaged; nothing of it is touched."""


def open_folder(folder: pathlib.Path, identity: Mapping[str, Any]) -> dict[int, Row]:
    """The finished points of `folder` by number; makes it where there is none.

    Raises:
      Refused: where it holds a sweep of another identity, or what is no sweep's.
      ValueError: where nothing can be written in it.
    """
    check_writable(folder)
    wanted = json.loads(json.dumps(identity))
    path = folder / IDENTITY
    if not path.exists():
        if (folder / BATCHES).exists():
            raise Refused(
                f"{folder} has a sweep's {BATCHES} but no {IDENTITY}; name another folder"
            )
        write_text(path, json.dumps(wanted, indent=1))
    (folder / BATCHES).mkdir(exist_ok=True)
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise Refused(f"{path} is damaged ({error}); name another folder") from None
    if found != wanted:
        raise Refused(
            f"{folder} holds another run ({_difference(found, wanted)}); name another folder, or "
            "remove that one to start anew"
        )
    return read_batches(folder)


def _difference(found: Any, wanted: Any, name: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *found]:
            if found.get(key) != wanted.get(key):
                return _difference(found.get(key), wanted.get(key), key)
    return f"its {name} is {found or 'not there'}, this one's {wanted or 'not there'}"


def read_batches(folder: pathlib.Path) -> dict[int, Row]:
    """The results of all finished points, by number.

    Raises:
      Refused: for a file that is damaged.
    """
    rows: dict[int, Row] = {}
    for path in sorted((folder / BATCHES).glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                for key in file.files:
                    number, name = key.split("/", 1)
                    rows.setdefault(int(number), {})[name] = file[key]
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise Refused(f"{path} is damaged ({error}); remove it to run it again") from None
    return rows


def write_batch(folder: pathlib.Path, numbers: Sequence[int], rows: Sequence[Row]) -> None:
    """Keeps the results of some points, atomically."""
    named: dict[str, Any] = {
        f"{number}/{name}": value
        for number, row in zip(numbers, rows, strict=True)
        for name, value in row.items()
    }
    with written_atomically(folder / BATCHES / f"{numbers[0]:07d}-{numbers[-1]:07d}.npz") as file:
        np.savez(file, **named)


def write_table(folder: pathlib.Path, table: pandas.DataFrame, known: Mapping[str, Any]) -> None:
    """Writes summary.csv and arrays.npz, the same bytes for the same table, and run.json.

    run.json has `known` and the table's size, so that a table that was cut off is seen.
    """
    is_array = {name: table[name].map(lambda v: isinstance(v, np.ndarray)).any() for name in table}
    plain = table[[name for name in table if not is_array[name]]]
    write_text(folder / SUMMARY, plain.to_csv(index=False, float_format=DIGITS))
    arrays: dict[str, Any] = {
        f"{name}/{row}": value
        for name in table
        if is_array[name]
        for row, value in enumerate(table[name])
        if isinstance(value, np.ndarray)
    }
    if arrays:
        with written_atomically(folder / ARRAYS) as file:
            np.savez_compressed(file, **arrays)
    else:
        (folder / ARRAYS).unlink(missing_ok=True)  # of another table of the same points
    size = {"rows": len(plain), "columns": list(plain)}
    write_text(folder / RUN, json.dumps({**known, **size}, indent=1, ensure_ascii=False) + "\n")


def load(folder: str | os.PathLike) -> pandas.DataFrame:
    """The table that a sweep left in `folder`, arrays among its columns.

    Raises:
      ValueError: where there is none.
      Refused: where its arrays are damaged, or of another table.
    """
    folder = pathlib.Path(folder)
    if not (folder / SUMMARY).is_file():
        raise ValueError(f"folder must hold a finished sweep, got {folder} without {SUMMARY}")
    table = pandas.read_csv(folder / SUMMARY)
    if FAILED in table:
        table[FAILED] = table[FAILED].astype(object).fillna("")
    if (folder / ARRAYS).is_file():
        for name, column in _read_arrays(folder, len(table)).items():
            table[name] = pandas.Series(column, dtype=object)
    return table


def _read_arrays(folder: pathlib.Path, num_rows: int) -> dict[str, list]:
    """The columns of arrays, None where a row has none."""
    columns: dict[str, list] = {}
    try:
        with np.load(folder / ARRAYS, allow_pickle=False) as file:
            for key in file.files:
                name, row = key.rsplit("/", 1)
                if int(row) >= num_rows:
                    rows = f"at least {int(row) + 1} rows, those of {ARRAYS}, got {num_rows}"
                    raise Refused(f"{folder / SUMMARY} must have {rows}")
                columns.setdefault(name, [None] * num_rows)[int(row)] = file[key]
    except Refused:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refused(f"{folder / ARRAYS} is damaged ({error})") from None
    return columns


def check_writable(folder: pathlib.Path) -> None:
    """Makes `folder`, and raises ValueError where no file can be written in it."""
    try:
        for path in (folder, *folder.parents):
            if path.is_file():
                raise ValueError(f"out must be a folder, got the file {path}")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".tmp"):
            pass
    except OSError as error:
        raise ValueError(f"out must be a folder to write in, got {folder}: {error}") from None


@contextlib.contextmanager
def written_atomically(path: pathlib.Path) -> Iterator[Any]:
    """Gives a binary file that takes the place of `path` at the end, whole or not at all."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        pathlib.Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically."""
    with written_atomically(path) as file:
        file.write(text.encode())
