"""A function at many points: compiled or called, in parallel, kept in a folder, resumed."""

import concurrent.futures
import contextlib
import importlib
import math
import os
import pathlib
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import pandas
import threadpoolctl

from ntkreg.sweeps import programs, provenance, store
from ntkreg.sweeps.programs import FAILED, Point, Row, Work, run_batch, shape_of

PIECES = 4  # into which a shape's points are cut for every core, so that all cores end together
POLL_SECONDS = 0.005
MINUTE = 60.0  # between the lines of a log
FLUSH_SECONDS = 5.0  # of work that a kill can cost; a batch that goes elsewhere comes back whole
SETTINGS = ("jax_enable_x64", "jax_default_matmul_precision")


class Executor(Protocol):
    """Whatever has `submit` as `concurrent.futures`: threads, processes, dask, submitit, MPI."""

    def submit(self, function: Callable, /, *args) -> Any:
        """A future, with `done` and `result`."""


def sweep(
    run: Callable[..., Mapping[str, Any]],
    points: Sequence[Mapping[str, Any]] | pandas.DataFrame,
    folder: str | os.PathLike | None = None,
    *,
    static_argnames: str | Collection[str] = (),
    batch_size: int | None = None,
    host: bool = False,
    executor: Executor | None = None,
) -> pandas.DataFrame:
    """The results of `run` at every point, as a table with a row for each.

    >>> table = sweep(lambda x, power: {"y": x**power}, grid(x=[2.0, 3.0], power=[1, 2]))
    >>> table["y"].tolist()
    [2.0, 4.0, 3.0, 9.0]

    With a folder every finished batch is kept there, and the same call goes on where the last one
    ended; on a CPU to the same bits. At its end the folder has summary.csv (numbers and words),
    arrays.npz and run.json (where they come from). Under `jax.distributed` each process computes
    its share of the batches, and all give the whole table; they need a folder that all can see.

    Args:
      run: one keyword an axis -> a dict of scalars and arrays. It is pure, and compiled:
        `jax.jit(run)` on a CPU, a point at a time on as many threads as there are cores;
        `jax.jit(jax.vmap(run))` on an accelerator, spread over all its devices.
      points: of `grid`, or any list of dicts, or a table.
      folder: where results are kept; by default in memory alone.
      static_argnames: axes that `run` gets as Python values, with a program for each combination
        (sizes, depth). What is no number is static by itself. Host runs are begun with one point
        for each combination, so that cores compile different programs.
      batch_size: how many points of a shape are vmapped together at most, spread over the devices.
        By default one at a time on a CPU, and elsewhere all of a shape. Halved where memory runs
        out.
      host: `run` is called as it is, with Python values, on the same threads.
      executor: where batches run; by default threads of this process. Who hands one over closes it.

    Returns:
      The axes, the results, and `failed`: "", or "not finite" where a float is not, or the error of
      a host run. The last line on stderr says how many points failed.

    Raises:
      ValueError: for bad points, names or sizes; a `run` that does not return a dict of arrays, or
        reads what cannot be compared; a folder that cannot be written.
      Refused: (a ValueError) for a folder that holds another run.
      OSError: where the disk is full; what is there stays whole.
    """
    begun, points = time.time(), programs.checked(points)
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if folder is None and jax.process_count() > 1:
        raise ValueError("folder must be given where several processes share a sweep, got None")
    path = None if folder is None else pathlib.Path(folder)
    traced = programs.traced_dtypes(points, static_argnames, host)
    parts, identity = _identity(run, keep=path is not None)
    settings = tuple(getattr(jax.config, name) for name in SETTINGS)
    work = Work(run, traced, host, identity, settings)
    rows = store.open_folder(path, _known(work, parts, points)) if path else {}
    is_complete = len(rows) == len(points)
    compile_seconds = _run(work, points, rows, path, batch_size, executor)
    while path and len(rows) < len(points):  # the other processes are at work
        time.sleep(1.0)
        rows = store.read_batches(path)
    table = pandas.DataFrame(
        [{**point, **_scalars(rows[number])} for number, point in enumerate(points)]
    )
    if path and jax.process_index() == 0 and not (is_complete and (path / store.RUN).exists()):
        known = {
            "seconds": round(time.time() - begun, 1),
            "programs": len(compile_seconds),
            "compile_seconds": round(sum(compile_seconds), 1),
        }
        store.write_table(path, table, {**known, **provenance.provenance()})
    _say_failures(table)
    return table


def _identity(run: Callable, keep: bool) -> tuple[dict[str, str], str]:
    """(the parts of what `run` does, a hash of them); where nothing is kept, any unique one."""
    try:
        parts = provenance.fingerprint(run)
    except ValueError:
        if keep:
            raise
        return {}, uuid.uuid4().hex
    return parts, provenance.hashed(repr(sorted(parts.items())))


def _known(work: Work, parts: dict[str, str], points: Sequence[Point]) -> dict[str, Any]:
    """What the results in a folder depend on."""
    return {
        "points": f"{len(points)} points {provenance.hashed(repr(points))}",
        "static": [name for name in points[0] if name not in work.traced],
        "host": work.is_host,
        "x64": work.settings[0],
        "matmul_precision": work.settings[1],
        "device": jax.devices()[0].device_kind,
        "versions": provenance.versions(),
        "function": parts,
    }


class _Batch(NamedTuple):
    numbers: list[int]
    size: int


def _batches(work: Work, points: Sequence[Point], rows, batch_size: int | None) -> list[_Batch]:
    """The points that are not finished, in batches of one shape, with how many are vmapped."""
    shapes: dict[str, list[int]] = {}
    for number, point in enumerate(points):
        shapes.setdefault(repr(shape_of(work, point)), []).append(number)
    devices, cores = jax.local_device_count(), os.cpu_count() or 1
    one_by_one = work.is_host or (batch_size is None and jax.default_backend() == "cpu")
    found = []
    for every in shapes.values():
        # Of all points, so that a run that goes on has the same programs.
        wanted = min(batch_size or len(every), len(every))
        size = 0 if one_by_one else devices * math.ceil(wanted / devices)
        numbers = [number for number in every if number not in rows]
        count = size or (1 if work.is_host else math.ceil(len(every) / (PIECES * cores)))
        found += [(i, _Batch(numbers[i : i + count], size)) for i in range(0, len(numbers), count)]
    # The first batches of all shapes come first: cores then compile different programs.
    ordered = [batch for _, batch in sorted(found, key=lambda numbered: numbered[0])]
    return ordered[jax.process_index() :: jax.process_count()]


def _run(work: Work, points, rows: dict[int, Row], path, batch_size, executor) -> list[float]:
    """Runs what is missing in `rows`, and puts it there; seconds that programs took to compile."""
    waiting, compile_seconds = _batches(work, points, rows, batch_size), []
    seconds = FLUSH_SECONDS if executor is None else math.inf
    with _pool(executor) as pool, _progress(len(points), len(rows)) as advance:
        submit = lambda batch: pool.submit(
            run_batch, work, [points[number] for number in batch.numbers], batch.size, seconds
        )
        pending = {submit(batch): batch for batch in waiting}
        try:
            while pending:
                ready = [future for future in pending if future.done()]
                for future in ready:
                    done, batch = future.result(), pending.pop(future)
                    count = len(done.rows)
                    finished, left = batch.numbers[:count], batch.numbers[count:]
                    if path:
                        store.write_batch(path, finished, done.rows)
                    rows.update(zip(finished, done.rows, strict=True))
                    compile_seconds += done.compile_seconds
                    advance(count)
                    if left:
                        rest = batch._replace(numbers=left)
                        pending[submit(rest)] = rest
                if not ready:
                    time.sleep(POLL_SECONDS)
        except BaseException:
            for future in pending:
                future.cancel()
            raise
    return compile_seconds


@contextlib.contextmanager
def _progress(total: int, done: int) -> Iterator[Callable[[int], None]]:
    """A function of how many points more are done, which draws a bar with the time left.

    Where stderr is no terminal it prints a line a minute.
    """
    import rich.console  # --help needs none of it
    import rich.progress

    console = rich.console.Console(stderr=True)
    bar = rich.progress.Progress(
        rich.progress.BarColumn(), rich.progress.MofNCompleteColumn(), "points,",
        rich.progress.TimeElapsedColumn(), "since the start,",
        rich.progress.TimeRemainingColumn(), "left",
        console=console, disable=done == total or not console.is_terminal, transient=True,
    )  # fmt: skip
    task = bar.add_task("", total=total, completed=done)
    begun, said, finished = time.time(), time.time(), done

    def advance(count: int) -> None:
        nonlocal said, finished
        bar.advance(task, count)
        finished += count
        if not console.is_terminal and time.time() - said > MINUTE:
            said = time.time()
            left = (said - begun) / max(finished - done, 1) * (total - finished)
            print(f"{finished} of {total} points, {left:.0f} s left", file=sys.stderr)

    with bar:
        yield advance


@contextlib.contextmanager
def _pool(executor: Executor | None) -> Iterator[Executor]:
    """The executor, or threads: XLA leaves cores idle at one small run, so that each runs one.

    A factorisation then has one core: threads of BLAS beside these would wait for each other.
    """
    if executor is not None:
        yield executor
        return
    threads = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    importlib.import_module("scipy.linalg")  # the BLAS of JAX, loaded before its limit is set
    with (
        threadpoolctl.threadpool_limits(1 if threads > 1 else None, "blas"),
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        yield pool


def _scalars(row: Row) -> Row:
    return {name: value.item() if value.ndim == 0 else value for name, value in row.items()}


def _say_failures(table: pandas.DataFrame) -> None:
    failed = table[table[FAILED] != ""]
    for reason, rows in failed.groupby(FAILED):
        numbers = ", ".join(map(str, rows.index[:5])) + (", …" if len(rows) > 5 else "")
        print(
            f"{len(rows)} of {len(table)} points failed, rows {numbers}: {reason}",
            file=sys.stderr,
        )
