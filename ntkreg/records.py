"""What a run leaves on disk: arrays with named axes, configuration and provenance; atomically."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

FORMAT = 2
MANIFEST = "manifest.json"

Axes = dict[tuple[str, ...], list[tuple]]


class Refused(ValueError):
    """A folder's record cannot serve this run; nothing of it was touched."""


@dataclasses.dataclass(frozen=True)
class Record:
    """The results of a sweep.

    Attributes:
      axes: the grid, in order: the names that vary together -> the values that they take.
      arrays: name -> array of shape (length of each axis, …, shape of one cell's result).
      identity: what the results depend on: configuration, code, versions, kind of device.
      seconds: time during which it was planned (with its programs compiled) and computed, over all
        the runs that it took.
    """

    axes: Axes
    arrays: dict[str, np.ndarray]
    identity: dict[str, Any]
    seconds: float = 0.0

    def table(self, **inner: Sequence | np.ndarray):
        """A pandas table with one row per cell: its coordinates, then its scalar results.

        Args:
          inner: name -> values of what a cell's own results run over (λ, looks), in order. There
            is a row for each value then, the last axis fastest; results that run over the first
            few of these axes alone, scalars among them, stand in all rows of the others.
        """
        import pandas

        axes = {**self.axes, **named_axes(dict(inner.items()))}
        shape = tuple(len(values) for values in axes.values())
        rows = pandas.DataFrame(points(axes))
        for name, array in self.arrays.items():
            if array.ndim >= len(self.axes) and array.shape == shape[: array.ndim]:
                spread = array.reshape(array.shape + (1,) * (len(shape) - array.ndim))
                rows[name] = np.broadcast_to(spread, shape).reshape(-1)
        return rows


def named_axes(axes: Mapping[str | tuple[str, ...], Sequence | np.ndarray]) -> Axes:
    """`axes` with every name a tuple of names and every value a tuple of plain Python values.

    A key that is one name has a sequence of values; a key of several names has a sequence of
    tuples, for coordinates that vary together (sizes that belong to a dimension, say).

    Raises:
      ValueError: for an empty axis, a name that stands twice, or a tuple of the wrong length.
    """
    named: Axes = {}
    for key, values in axes.items():
        names = (key,) if isinstance(key, str) else tuple(key)
        rows = [(v,) if isinstance(key, str) else tuple(v) for v in values]
        if not rows:
            raise ValueError(f"axis {', '.join(names)} must have at least one value, got none")
        for row in rows:
            if len(row) != len(names):
                raise ValueError(
                    f"axis {', '.join(names)} must have {len(names)} values, got {row}"
                )
        named[names] = [tuple(_plain(v) for v in row) for row in rows]
    flat = [name for names in named for name in names]
    for name in flat:
        if flat.count(name) > 1:
            raise ValueError(f"axes must name each coordinate once, got {name!r} twice")
    return named


def points(axes: Axes) -> list[dict[str, Any]]:
    """The coordinates of every cell, the last axis fastest."""
    cells: list[dict[str, Any]] = [{}]
    for names, rows in axes.items():
        cells = [{**c, **dict(zip(names, row, strict=True))} for c in cells for row in rows]
    return cells


def _plain(value):
    return value.item() if isinstance(value, (np.generic, np.ndarray, jax.Array)) else value


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


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
def written_atomically(path: pathlib.Path):
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


def open_record(
    folder: pathlib.Path,
    axes: Axes,
    identity: dict[str, Any],
    make_plan: Callable[[], dict[str, Any]],
) -> dict[str, Any]:
    """The plan of the record in `folder`; of a new one where there is none.

    Raises:
      Refused: where the record there is damaged, or of another format, grid or identity; nothing
        of it is touched.
    """
    grid = _as_json([[list(names), rows] for names, rows in axes.items()])
    wanted = {"format": FORMAT, "axes": grid, "identity": _as_json(identity)}
    if not (folder / MANIFEST).exists():
        manifest = {**wanted, "plan": _as_json(make_plan())}
        write_text(folder / MANIFEST, json.dumps(manifest, indent=1))
        return manifest["plan"]
    found = read_manifest(folder)
    for part in wanted:
        if found.get(part) != wanted[part]:
            raise Refused(
                f"{folder} holds another run ({_difference(found.get(part), wanted[part], part)})"
                "; name another folder, or remove that one to start anew"
            )
    return found["plan"]


def read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    """What the record in `folder` says of itself.

    Raises:
      Refused: where it cannot be read.
    """
    try:
        return json.loads((folder / MANIFEST).read_text())
    except ValueError as error:
        raise Refused(f"{folder / MANIFEST} is damaged ({error}); remove {folder}") from None


def rewrite_plan(folder: pathlib.Path, plan: dict[str, Any]) -> None:
    """Puts another plan in place of the record's, for the chunks still to be computed."""
    write_text(folder / MANIFEST, json.dumps({**read_manifest(folder), "plan": plan}, indent=1))


def missing_chunks(folder: pathlib.Path, plan: dict[str, Any]) -> list[int]:
    """The numbers of the plan's chunks that are still to be computed."""
    there = set(os.listdir(folder))  # one question to a shared disk, not one for each chunk
    return [i for i in range(len(plan["chunks"])) if chunk_path(folder, i).name not in there]


def _difference(found: Any, wanted: Any, name: str) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(set(found) | set(wanted)):
            if found.get(key) != wanted.get(key):
                return _difference(found.get(key), wanted.get(key), key)
    found, wanted = (
        text if len(text) < 60 else text[:57] + "…" for text in (str(found), str(wanted))
    )
    return f"its {name} is {found}, this one's {wanted}"


def chunk_path(folder: pathlib.Path, chunk: int) -> pathlib.Path:
    """Where the results of the plan's chunk of that number lie."""
    return folder / f"chunk-{chunk:06d}.npz"


def write_chunk(
    folder: pathlib.Path, chunk: int, arrays: dict[str, np.ndarray], span: tuple[float, float]
) -> None:
    """Writes one chunk's arrays (lanes first), and when it was begun and finished."""
    named: dict[str, Any] = {f"cell/{name}": array for name, array in arrays.items()}
    with written_atomically(chunk_path(folder, chunk)) as file:
        np.savez(file, span=np.asarray(span), **named)


def load_record(folder: str | os.PathLike) -> Record:
    """The record in `folder`, with arrays in the shape of its grid.

    Cells that are not computed yet hold NaN (0 in arrays of integers, False in booleans).

    Raises:
      ValueError: where there is no record, or not one of its cells is computed.
    """
    folder = pathlib.Path(folder)
    if not (folder / MANIFEST).exists():
        raise ValueError(f"folder must hold a record, got {folder} without {MANIFEST}")
    manifest = read_manifest(folder)
    axes = {tuple(names): [tuple(row) for row in rows] for names, rows in manifest["axes"]}
    missing = missing_chunks(folder, manifest["plan"])
    chunks = [
        (chunk["lanes"], _read_chunk(chunk_path(folder, number)))
        for number, chunk in enumerate(manifest["plan"]["chunks"])
        if number not in missing
    ]
    if not chunks:
        raise ValueError(f"folder must hold computed cells, got {folder} with none")
    spans = [arrays.pop("span") for _, arrays in chunks] + [manifest["plan"]["span"]]
    chunks = [(n, {k.removeprefix("cell/"): a for k, a in c.items()}) for n, c in chunks]
    return Record(axes, gathered(chunks, axes), manifest["identity"], _covered(spans))


def _read_chunk(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise Refused(f"{path} is damaged ({error}); remove it to compute it anew") from None


def gathered(
    chunks: Sequence[tuple[list[int], dict[str, np.ndarray]]], axes: Axes
) -> dict[str, np.ndarray]:
    """Arrays over the whole grid, from (cell numbers, arrays with lanes first) of its chunks."""
    shape = tuple(len(rows) for rows in axes.values())
    arrays = {}
    for name, first in chunks[0][1].items():
        dtype = np.result_type(*(found[name].dtype for _, found in chunks))
        missing = np.nan if np.issubdtype(dtype, np.floating) else 0
        array = np.full((math.prod(shape), *first.shape[1:]), missing, dtype)
        for lanes, found in chunks:
            array[lanes] = found[name]
        arrays[name] = array.reshape(*shape, *first.shape[1:])
    return arrays


def _covered(spans: Sequence[Sequence[float]]) -> float:
    """The length of the union of intervals: time in which at least one of them was under way."""
    total, end = 0.0, -np.inf
    for begun, finished in sorted(map(tuple, spans)):
        total += max(0.0, finished - max(begun, end))
        end = max(end, finished)
    return float(total)
