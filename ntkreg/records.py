"""What a run leaves on disk: arrays with named axes, configuration and provenance; atomically."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

FORMAT = 1
MANIFEST = "manifest.json"
PACKAGES = ("ntkreg", "jax", "jaxlib", "optax", "flax", "neural-tangents", "numpy", "scipy")

Axes = dict[tuple[str, ...], list[tuple]]


class HoldsAnotherRun(ValueError):
    """A folder's record is of another format, grid or identity than the run that wants it."""


@dataclasses.dataclass(frozen=True)
class Record:
    """The results of a sweep.

    Attributes:
      axes: the grid, in order: the names that vary together -> the values that they take.
      arrays: name -> array of shape (length of each axis, …, shape of one cell's result).
      identity: what the results depend on: configuration, code, versions, kind of device.
      seconds: time during which cells were being computed, over all the runs it took.
    """

    axes: Axes
    arrays: dict[str, np.ndarray]
    identity: dict[str, Any]
    seconds: float = 0.0

    def table(self):
        """A pandas table with one row per cell: its coordinates, then its scalar results."""
        import pandas

        rows = pandas.DataFrame(points(self.axes))
        for name, array in self.arrays.items():
            if array.ndim == len(self.axes):
                rows[name] = array.reshape(-1)
        return rows


def named_axes(axes: Mapping[str | tuple[str, ...], Sequence]) -> Axes:
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


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a record's numbers depend on. Records are resumed only under an equal identity."""
    device = jax.devices()[0]
    return _as_json(
        {
            "config": dict(config),
            "code": code_hash(),
            "jax": jax.__version__,
            "device": f"{device.platform}: {device.device_kind}",
            "x64": bool(jax.config.jax_enable_x64),
        }
    )


def _as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@functools.cache
def code_hash() -> str:
    """A hash of the package's sources."""
    root = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def provenance() -> dict[str, Any]:
    """Versions, hardware, command and git revision of this process, for run.json."""
    device = jax.devices()[0]
    return {
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git": _git_revision(),
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "hardware": f"{jax.device_count()} × {device.device_kind} ({device.platform}), "
        f"{os.cpu_count()} CPU cores",
    }


def _git_revision() -> str:
    """The commit that the sources come from, with "+changes" where they differ from it."""
    git = functools.partial(
        subprocess.run, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True
    )
    try:
        head = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
    except OSError:
        return "unknown"
    return f"{head or 'unknown'}{'+changes' if changed else ''}"


def check_writable(folder: pathlib.Path) -> None:
    """Makes `folder`, and raises ValueError where no file can be written in it."""
    try:
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
    except BaseException:
        pathlib.Path(temporary).unlink(missing_ok=True)
        raise


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file atomically."""
    with written_atomically(path) as file:
        file.write(text.encode())


def open_record(
    folder: pathlib.Path, axes: Axes, identity: dict[str, Any], plan: dict[str, Any]
) -> dict[str, Any]:
    """The manifest of the record in `folder`; a new one with this plan where there is none.

    Raises:
      HoldsAnotherRun: where the record there is of another format, grid or identity; nothing of it
        is touched.
    """
    path = folder / MANIFEST
    grid = _as_json([[list(names), rows] for names, rows in axes.items()])
    manifest = {"format": FORMAT, "axes": grid, "identity": identity, "plan": plan}
    if not path.exists():
        check_writable(folder)
        write_text(path, json.dumps(manifest, indent=1))
        return manifest
    found = json.loads(path.read_text())
    for part in ("format", "axes", "identity"):
        if found.get(part) != manifest[part]:
            raise HoldsAnotherRun(
                f"{folder} holds another run ({_difference(found.get(part), manifest[part], part)})"
                "; name another folder, or remove that one to start anew"
            )
    return found


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
    with written_atomically(chunk_path(folder, chunk)) as file:
        np.savez(file, span=np.asarray(span), **{f"cell/{k}": v for k, v in arrays.items()})


def load_record(folder: str | os.PathLike) -> Record:
    """The record in `folder`, with arrays in the shape of its grid.

    Cells that are not computed yet hold NaN (0 in arrays of integers, False in booleans).

    Raises:
      ValueError: where there is no record, or not one of its cells is computed.
    """
    folder = pathlib.Path(folder)
    if not (folder / MANIFEST).exists():
        raise ValueError(f"folder must hold a record, got {folder} without {MANIFEST}")
    manifest = json.loads((folder / MANIFEST).read_text())
    axes = {tuple(names): [tuple(row) for row in rows] for names, rows in manifest["axes"]}
    chunks = [
        (lanes, dict(np.load(chunk_path(folder, chunk), allow_pickle=False)))
        for chunk, lanes in enumerate(manifest["plan"]["chunks"])
        if chunk_path(folder, chunk).exists()
    ]
    if not chunks:
        raise ValueError(f"folder must hold computed cells, got {folder} with none")
    spans = [chunk.pop("span") for _, chunk in chunks]
    shape = tuple(len(rows) for rows in axes.values())
    arrays = {name.removeprefix("cell/"): gathered(name, chunks, shape) for name in chunks[0][1]}
    return Record(axes, arrays, manifest["identity"], _covered(spans))


def gathered(
    name: str, chunks: Sequence[tuple[list[int], dict[str, np.ndarray]]], shape: tuple[int, ...]
) -> np.ndarray:
    """One array over the whole grid, from (cell numbers, arrays with lanes first) of its chunks."""
    first = chunks[0][1][name]
    missing = np.nan if np.issubdtype(first.dtype, np.floating) else 0
    gathered = np.full((math.prod(shape), *first.shape[1:]), missing, first.dtype)
    for lanes, arrays in chunks:
        gathered[lanes] = arrays[name]
    return gathered.reshape(*shape, *first.shape[1:])


def _covered(spans: Sequence[Sequence[float]]) -> float:
    """The length of the union of intervals: time in which at least one of them was under way."""
    total, end = 0.0, -np.inf
    for begun, finished in sorted(map(tuple, spans)):
        total += max(0.0, finished - max(begun, end))
        end = max(end, finished)
    return float(total)
