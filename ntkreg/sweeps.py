"""Cells over a named grid: batched for the machine, in parallel, with progress and resume."""

import os
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ntkreg import plans, provenance, records, sharing
from ntkreg._types import Array
from ntkreg.cells import Cell, Point, as_cell, check_pure
from ntkreg.chunks import Work, run_chunks
from ntkreg.lanes import Programs, run_lanes
from ntkreg.progress import Progress
from ntkreg.records import Record

__all__ = ["Cell", "Point", "as_cell", "estimate", "prepared", "sweep"]


def sweep(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence | np.ndarray],
    *,
    static: Sequence[str] = (),
    folder: str | os.PathLike | None = None,
    config: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    devices: Sequence[jax.Device] | int | None = None,
) -> Record:
    """The results of `function` at every point of the grid, as arrays with named axes.

    Cells that agree in their static coordinates share one compilation. With a folder every
    finished chunk of cells is kept there, and a call with the same grid, config and code
    (`sources.digest`) goes on where the last one ended, to the same bits; without one everything
    stays in memory. Beside the arrays of `function` the record has `diverged`, which marks cells
    that met NaN.

    Processes that sweep into one folder share its work, on one host or on many that see the folder:
    each takes chunks that nobody is at, all return the whole record, and one that dies costs no
    more than what it was at.

    On a CPU the workers are threads. Where single cells take milliseconds, switch JAX's config
    `jax_cpu_enable_async_dispatch` off at the start, as the launchers do: programs then run in
    their worker's thread, and none waits for a further one.

    Args:
      function: coordinates by name -> dict of arrays; or a Cell.
      axes: coordinate name -> values, or a tuple of names -> tuples of values that vary together.
      static: the names of coordinates that set shapes or are not numbers; strings always are.
      folder: where the record is kept.
      config: whatever else the results depend on; a record made under another is refused.
      batch_size: cells that are vmapped together on each device, 1 for one at a time. By default
        it is measured for every shape (`plans.plan`). Halved where a device's memory runs out.
      num_workers: chunks in flight at once; by default the number of cores on a CPU that is one
        device, else 1.
      devices: over which cells are spread, or how many; by default all that this process has.

    Raises:
      ValueError: for a bad grid, batch_size, num_workers or devices, a function that is not pure or
        whose arrays differ from point to point, or a folder that holds another run or cannot be
        written.
      OSError: where the folder's disk is full; what is there stays whole.
    """
    if folder is None:
        return prepared(
            function, axes, static=static, batch_size=batch_size, num_workers=num_workers,
            devices=devices,
        )()  # fmt: skip
    grid = _grid(function, axes, static, batch_size, num_workers, devices)
    folder = pathlib.Path(folder)
    identity = _identity(grid, config or {})
    with sharing.alone(folder):
        plan = records.open_record(folder, grid.axes, identity, lambda: _plan(grid, batch_size))

    def rewrite(plan: dict[str, Any]) -> None:
        with sharing.alone(folder):
            records.rewrite_plan(folder, plan)

    keep = lambda chunk, result: records.write_chunk(folder, chunk, *result)
    claim = lambda chunk: sharing.claimed(records.chunk_path(folder, chunk))
    run_chunks(
        Work(grid.programs, grid.cells, plan, grid.num_workers, keep, rewrite, claim),
        lambda: records.missing_chunks(folder, plan),
    )
    return records.load_record(folder)


def prepared(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence | np.ndarray],
    *,
    static: Sequence[str] = (),
    batch_size: int | None = None,
    num_workers: int | None = None,
    devices: Sequence[jax.Device] | int | None = None,
) -> Callable[[], Record]:
    """A sweep kept in memory, planned and compiled: each call computes all cells anew.

    Arguments and errors as in `sweep`.
    """
    grid = _grid(function, axes, static, batch_size, num_workers, devices)
    plan = _plan(grid, batch_size)

    def compute() -> Record:
        begun = time.time()
        found: dict[int, tuple] = {}
        missing = lambda: [i for i in range(len(plan["chunks"])) if i not in found]
        run_chunks(
            Work(grid.programs, grid.cells, plan, grid.num_workers, found.__setitem__), missing
        )
        chunks = [(chunk["lanes"], found[i][0]) for i, chunk in enumerate(plan["chunks"])]
        arrays = records.gathered(chunks, grid.axes)
        return Record(grid.axes, arrays, _identity(grid, {}), time.time() - begun)

    return compute


def estimate(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence | np.ndarray],
    *,
    static: Sequence[str] = (),
    budget_seconds: float = 20.0,
) -> plans.Estimate:
    """What a sweep would take on this machine, from timing lanes for about `budget_seconds`."""
    grid = _grid(function, axes, static, None, None, None)
    with Progress("timing", "shape", grid.num_shapes) as progress:
        return plans.estimate(
            grid.programs, grid.cells, grid.num_workers, budget_seconds, progress.add
        )


class _Grid(NamedTuple):
    """What is to be computed, and on what."""

    axes: records.Axes
    cells: list[Point]
    programs: Programs
    num_workers: int

    @property
    def num_shapes(self) -> int:
        return len(plans.shapes_of(self.programs, self.cells))


def _grid(function, axes, static, batch_size, num_workers, devices) -> _Grid:
    named = records.named_axes(axes)
    cells = records.points(named)
    devices = _devices(devices)
    num_workers = _num_workers(num_workers, devices)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    programs = Programs(as_cell(function), _static_names(static, cells), devices)
    return _Grid(named, cells, programs, num_workers)


def _identity(grid: _Grid, config: Mapping[str, Any]) -> dict[str, Any]:
    return provenance.identity(config, (grid.programs.cell, run_lanes))


def _devices(asked: Sequence[jax.Device] | int | None) -> list[jax.Device]:
    own = jax.local_devices()
    if not isinstance(asked, int):
        return list(asked or own)
    if not 1 <= asked <= len(own):
        raise ValueError(f"devices must be from 1 to {len(own)}, which there are, got {asked}")
    return own[:asked]


def _num_workers(asked: int | None, devices: Sequence[jax.Device]) -> int:
    """Threads: XLA leaves cores idle at one small run, and each thread brings a run of its own."""
    if asked is not None and asked < 1:
        raise ValueError(f"num_workers must be at least 1, got {asked}")
    is_one_cpu = len(devices) == 1 and devices[0].platform == "cpu"
    return asked or ((os.cpu_count() or 1) if is_one_cpu else 1)


def _static_names(static: Sequence[str], cells: list[Point]) -> tuple[str, ...]:
    for name in static:
        if name not in cells[0]:
            raise ValueError(f"static must name axes ({', '.join(cells[0])}), got {name!r}")
    texts = [name for name, value in cells[0].items() if isinstance(value, str)]
    return tuple(name for name in cells[0] if name in {*static, *texts})


def _plan(grid: _Grid, batch_size: int | None) -> dict[str, Any]:
    begun = time.time()
    check_pure(grid.programs.cell, grid.programs.static, grid.cells[0])
    with Progress("compiling", "shape", grid.num_shapes) as progress:
        plan = plans.plan(grid.programs, grid.cells, batch_size, grid.num_workers, progress.add)
    return {**plan, "span": (begun, time.time())}
