"""What the experiments' Configs have in common: checks that name field and value, and runs."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax

from ntkreg import records, sweeps, timing
from ntkreg.experiments._config import check_distinct, check_field, one_of
from ntkreg.records import Record
from ntkreg.sweeps import Point

__all__ = [
    "check_distinct", "check_field", "memory_by_shape", "one_of", "preset", "restored", "swept",
]  # fmt: skip


def preset(presets: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """The fields of the preset of that name.

    Raises:
      ValueError: for an unknown name.
    """
    if name not in presets:
        raise ValueError(f"preset must be one of {', '.join(presets)}, got {name!r}")
    return presets[name]


def restored(kind: type, record: Record) -> Any:
    """The Config of class `kind` under which `record` was made; JSON has lists for its tuples."""
    known = record.identity["config"]
    found = {field.name: known[field.name] for field in dataclasses.fields(kind)}
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in found.items()})


def memory_by_shape(
    config: Any, grid: dict[str, Any], memory: Callable[[Any, Point], int]
) -> dict[str, int]:
    """Bytes that a cell of each shape holds at once, by its static coordinates in words."""
    points = records.points(records.named_axes(grid["axes"]))
    told = lambda point: ", ".join(f"{name}={point[name]}" for name in grid["static"])
    return {shape: memory(config, point) for shape, point in {told(p): p for p in points}.items()}


def swept(
    config: Any,
    grid: dict[str, Any],
    memory: Callable[[Any, Point], int],
    folder: str | os.PathLike,
    **inputs: Any,
) -> Record:
    """The record of all cells of a Config's grid in `folder`, resumed where it was begun.

    On a CPU cells run one at a time, which is fastest there where it is not all the same, so that
    the same command gives the same bytes; an accelerator takes them in batches, as planned.

    Args:
      grid: function, axes and static of `sweeps.sweep`.
      memory: (config, point) -> bytes that the point's cell holds at once.
      inputs: what else the results depend on, beside the fields of the Config.

    Raises:
      ValueError: before anything runs, where a shape needs more memory than the device has free;
        where the folder cannot be written or holds another run.
    """
    timing.check_memory(memory_by_shape(config, grid, memory))
    batch_size = 1 if jax.default_backend() == "cpu" else None
    known = {**dataclasses.asdict(config), **inputs}
    return sweeps.sweep(**grid, folder=folder, config=known, batch_size=batch_size)
