"""Cells over a named grid: batched for the machine, in parallel, with progress and resume."""

import concurrent.futures
import os
import pathlib
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import tqdm

from ntkreg import plans, provenance, records
from ntkreg._types import Array
from ntkreg.cells import Cell, Point, as_cell, check_pure
from ntkreg.lanes import Programs, run_lanes
from ntkreg.records import Record

LOG_SECONDS = 60.0

__all__ = ["Cell", "Point", "as_cell", "estimate", "prepared", "sweep"]


def sweep(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence],
    *,
    static: Sequence[str] = (),
    folder: str | os.PathLike | None = None,
    config: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Record:
    """The results of `function` at every point of the grid, as arrays with named axes.

    Cells that agree in their static coordinates share one compilation. With a folder every
    finished chunk of cells is kept there, and a call with the same grid, config and code
    (`sources.digest`) goes on where the last one ended, to the same bits; without one everything
    stays in memory. Beside the arrays of `function` the record has `diverged`, which marks cells
    that met NaN.

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
      devices: over which cells are spread; by default all that this process has.

    Raises:
      ValueError: for a bad grid, batch_size or num_workers, a function that is not pure or whose
        arrays differ from point to point, or a folder that holds another run or cannot be written.
      OSError: where the folder's disk is full; what is there stays whole.
    """
    if folder is None:
        return prepared(
            function, axes, static=static, batch_size=batch_size, num_workers=num_workers,
            devices=devices,
        )()  # fmt: skip
    grid = _grid(function, axes, static, batch_size, num_workers, devices)
    folder = pathlib.Path(folder)
    with records.locked(folder):
        identity = _identity(grid, config or {})
        plan = records.open_record(folder, grid.axes, identity, lambda: _plan(grid, batch_size))
        keep = lambda chunk, result: records.write_chunk(folder, chunk, *result)
        rewrite = lambda plan: records.rewrite_plan(folder, plan)
        missing = records.missing_chunks(folder, plan)
        _run(_Sweep(grid, plan, keep, rewrite), missing)
        return records.load_record(folder)


def prepared(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence],
    *,
    static: Sequence[str] = (),
    batch_size: int | None = None,
    num_workers: int | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable[[], Record]:
    """A sweep kept in memory, planned and compiled: each call computes all cells anew.

    Arguments and errors as in `sweep`.
    """
    grid = _grid(function, axes, static, batch_size, num_workers, devices)
    plan = _plan(grid, batch_size)

    def compute() -> Record:
        begun = time.time()
        found: dict[int, tuple] = {}
        _run(_Sweep(grid, plan, found.__setitem__), range(len(plan["chunks"])))
        chunks = [(chunk["lanes"], found[i][0]) for i, chunk in enumerate(plan["chunks"])]
        arrays = records.gathered(chunks, grid.axes)
        return Record(grid.axes, arrays, _identity(grid, {}), time.time() - begun)

    return compute


def estimate(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence],
    *,
    static: Sequence[str] = (),
    budget_seconds: float = 20.0,
) -> plans.Estimate:
    """What a sweep would take on this machine, from timing lanes for about `budget_seconds`."""
    grid = _grid(function, axes, static, None, None, None)
    with _Progress("timing", "shape", grid.num_shapes) as progress:
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
    devices = list(devices or jax.local_devices())
    num_workers = _num_workers(num_workers, devices)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    programs = Programs(as_cell(function), _static_names(static, cells), devices)
    return _Grid(named, cells, programs, num_workers)


def _identity(grid: _Grid, config: Mapping[str, Any]) -> dict[str, Any]:
    return provenance.identity(config, (grid.programs.cell, run_lanes))


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
    with _Progress("compiling", "shape", grid.num_shapes) as progress:
        plan = plans.plan(grid.programs, grid.cells, batch_size, grid.num_workers, progress.add)
    return {**plan, "span": (begun, time.time())}


class _Sweep:
    """Computes chunks of a plan and gives each to `keep`; halves batches that are too large."""

    def __init__(self, grid: _Grid, plan, keep, rewrite=lambda plan: None):
        self.programs, self.cells, self.num_workers = grid.programs, grid.cells, grid.num_workers
        self.plan = plan
        self._keep, self._rewrite, self._lock = keep, rewrite, threading.Lock()

    def groups(self, chunks: Sequence[int]) -> list[list[int]]:
        """Chunks that run together: of one shape and batch, one for each device."""
        waiting: dict[tuple, list[int]] = {}
        groups = []
        for chunk in chunks:
            shape, batch = self._shape(chunk), self.plan["chunks"][chunk]["batch"]
            group = waiting.setdefault((shape, batch), [])
            if not group:
                groups.append(group)
            group.append(chunk)
            if len(group) == self.programs.num_devices:
                del waiting[shape, batch]
        return groups

    def _shape(self, chunk: int) -> tuple:
        return self.programs.shape_of(self.cells[self.plan["chunks"][chunk]["lanes"][0]])

    def __call__(self, group: list[int]) -> int:
        """Computes and keeps a group of chunks; returns the number of cells."""
        lanes = [self.plan["chunks"][chunk]["lanes"] for chunk in group]
        queues = [[self.cells[lane] for lane in numbers] for numbers in lanes]
        begun = time.time()
        while True:
            batch = self.plan["chunks"][group[0]]["batch"]
            try:
                found = run_lanes(self.programs, queues, batch)
                break
            except jax.errors.JaxRuntimeError as error:
                if "RESOURCE_EXHAUSTED" not in str(error) or batch == 1:
                    raise
            self._halve(self._shape(group[0]), batch)
        span = (begun, time.time())
        for chunk, arrays in zip(group, found, strict=True):
            self._keep(chunk, (arrays, span))
        return sum(map(len, lanes))

    def _halve(self, shape: tuple, batch: int) -> None:
        with self._lock:
            same = [
                chunk
                for number, chunk in enumerate(self.plan["chunks"])
                if self._shape(number) == shape and chunk["batch"] == batch
            ]
            if not same:  # another worker was here first
                return
            for chunk in same:
                chunk["batch"] = batch // 2
            self._rewrite(self.plan)
        what = ", ".join(f"{name}={value}" for name, value in shape)
        warnings.warn(
            f"out of memory at {what or 'all cells'}: batches of {batch} become {batch // 2}",
            RuntimeWarning,
            stacklevel=2,
        )


def _run(work: _Sweep, chunks: Sequence[int]) -> None:
    """Computes these chunks; the first error, or Ctrl-C, ends it after those in flight."""
    total = sum(len(chunk["lanes"]) for chunk in work.plan["chunks"])
    done = total - sum(len(work.plan["chunks"][chunk]["lanes"]) for chunk in chunks)
    workers = lambda chunk: min(work.num_workers, work.plan["chunks"][chunk]["workers"])
    with _Progress("running", "cell", total, done) as progress:
        for number in sorted(set(map(workers, chunks)), reverse=True):
            groups = work.groups([chunk for chunk in chunks if workers(chunk) == number])
            _in_parallel(work, groups, number, progress)


def _in_parallel(work: _Sweep, groups: Sequence, num_workers: int, progress: "_Progress") -> None:
    if min(num_workers, len(groups)) == 1:  # a thread would only cost its start
        for group in groups:
            progress.add(work(group))
        return
    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(work, group) for group in groups]
        try:
            for future in concurrent.futures.as_completed(futures):
                progress.add(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Progress:
    """A bar with rate and time left on a terminal; elsewhere a line a minute."""

    def __init__(self, title: str, unit: str, total: int, done: int = 0):
        self._bar = tqdm.tqdm(
            desc=title, unit=unit, total=total, initial=done, dynamic_ncols=True,
            disable=done == total or not sys.stderr.isatty(),
        )  # fmt: skip
        self._title, self._unit, self._total, self._first = title, unit, total, done
        self._done, self._begun, self._said = done, time.time(), time.time()
        self._lock = threading.Lock()

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._bar.update(count)
            now = time.time()
            if self._bar.disable and now - self._said > LOG_SECONDS:
                rate = (self._done - self._first) / (now - self._begun)
                left = (self._total - self._done) / rate
                print(
                    f"{self._title}: {self._done} of {self._total} {self._unit}s, "
                    f"{rate:.3g} {self._unit}s/s, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
                self._said = now
