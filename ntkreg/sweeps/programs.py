"""Points, each one value for each axis, and batches of them: called, or compiled once a shape."""

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas
from jax.sharding import NamedSharding, PartitionSpec

Point = dict[str, Any]


def grid(**axes: Iterable) -> list[Point]:
    """All combinations of the values of each axis, the last axis fastest.

    >>> grid(lam=[0.1, 0.2], seed=range(2))[1]
    {'lam': 0.1, 'seed': 1}

    Raises:
      ValueError: for an axis without values.
    """
    values = {name: [_plain(value) for value in axis] for name, axis in axes.items()}
    for name, axis in values.items():
        if not axis:
            raise ValueError(f"{name} must have at least one value, got none")
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


def checked(points: Sequence[Mapping] | pandas.DataFrame) -> list[Point]:
    """The points as a list of dicts of plain Python values, all with the same names.

    Raises:
      ValueError: where there are none, or their names differ.
    """
    if isinstance(points, pandas.DataFrame):
        points = points.to_dict("records")
    found = [{name: _plain(value) for name, value in point.items()} for point in points]
    if not found or not found[0]:
        raise ValueError("points must be at least one, with at least one axis, got none")
    for point in found:
        if point.keys() != found[0].keys():
            raise ValueError(
                f"points must all have the same axes, got {', '.join(found[0])} and "
                f"{', '.join(point)}"
            )
    return found


def traced_dtypes(
    points: Sequence[Point], static_argnames: str | Collection[str], host: bool = False
) -> dict[str, np.dtype]:
    """The axes that are traced, with the dtype that JAX gives them: numbers that are not static.

    A host run gets them as they are: dtype object.

    Raises:
      ValueError: for a static name of no axis, and for a number that its dtype does not hold:
        another would be run in its place.
    """
    static = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
    for name in static - points[0].keys():
        raise ValueError(f"static_argnames must be of {', '.join(points[0])}, got {name!r}")
    columns = {name: [point[name] for point in points] for name in points[0] if name not in static}
    is_traced = lambda values: all(isinstance(v, int | float | complex) for v in values)
    dtype = (lambda *_: np.dtype(object)) if host else _dtype
    return {name: dtype(name, values) for name, values in columns.items() if is_traced(values)}


def _dtype(name: str, values: list) -> np.dtype:
    exact = np.asarray(values)
    dtype = jax.dtypes.canonicalize_dtype(exact.dtype)
    with np.errstate(over="ignore"):
        held = exact.astype(dtype).astype(exact.dtype)
    held = np.isclose(held, exact, rtol=1e-6, atol=0, equal_nan=True)
    if not held.all():
        raise ValueError(
            f"{name} must be numbers that {dtype} holds, got {exact[~held][0]}; switch "
            "jax_enable_x64 on, or let the logarithm be the axis"
        )
    return dtype


def _plain(value: Any) -> Any:
    is_scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0
    return value.item() if is_scalar else value


MOST_PROGRAMS = 512  # kept; the oldest go
FAILED = "failed"  # the column that says why a point has no results, or bad ones
Row = dict[str, np.ndarray]


class Work(NamedTuple):
    """What is done at every point.

    Attributes:
      run: the function of one point.
      traced: the axes that are traced -> their dtypes; the others are Python values.
      is_host: whether `run` is called as it is.
      identity: equal for functions that do the same.
      settings: whether JAX has 64 bits, and the precision of its matrix products.
    """

    run: Callable[..., Mapping[str, Any]]
    traced: dict[str, np.dtype]
    is_host: bool
    identity: str
    settings: tuple


class Done(NamedTuple):
    """The results of a batch's first points, and the seconds that each program took to compile."""

    rows: list[Row]
    compile_seconds: list[float]


def run_batch(work: Work, points: Sequence[Point], size: int, seconds: float) -> Done:
    """The first points, at least one: all of them, or what is finished after so many seconds.

    Args:
      points: of one shape.
      size: how many are vmapped together; 0 for one at a time.
    """
    end, done = time.monotonic() + seconds, Done([], [])
    x64, precision = work.settings
    with jax.enable_x64(x64), jax.default_matmul_precision(precision):
        while len(done.rows) < len(points) and (not done.rows or time.monotonic() < end):
            left = points[len(done.rows) :]
            more = _called(work.run, left[0]) if work.is_host else _computed(work, left, size)
            done = Done(done.rows + more.rows, done.compile_seconds + more.compile_seconds)
    return done


def _called(run: Callable, point: Point) -> Done:
    seconds: list[float] = []
    _this_thread.seconds = seconds
    try:
        row = _marked({name: np.asarray(value) for name, value in run(**point).items()})
    except Exception as error:
        row = {FAILED: np.asarray(f"{type(error).__name__}: {error}")}
    return Done([row], seconds)


_this_thread = threading.local()


def _note(event: str, duration_secs: float, **_) -> None:
    """Keeps the seconds of each program that a point, called as it is, compiles in its thread."""
    if event == "/jax/core/compile/backend_compile_duration":
        getattr(_this_thread, "seconds", []).append(duration_secs)


jax.monitoring.register_event_duration_secs_listener(_note)


def _computed(work: Work, points: Sequence[Point], size: int) -> Done:
    """The results of the first `size` points, of fewer where memory runs out."""
    try:
        # The last is repeated to fill the batch: one program, whatever is left.
        filled = [points[min(i, len(points) - 1)] for i in range(size or 1)]
        program, seconds = compiled(work, filled[0], size)
        found = jax.device_get(program.call(**_arguments(work, filled, size)))
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        is_full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if size <= jax.local_device_count() or not is_full:
            raise
        return _computed(work, points, size // 2)
    rows = [
        _marked(
            {name: np.asarray(found[name][i] if size else found[name]) for name in program.names}
        )
        for i in range(min(size or 1, len(points)))
    ]
    return Done(rows, [seconds] if seconds else [])


def _marked(row: Row) -> Row:
    floats = [a for a in row.values() if np.issubdtype(a.dtype, np.inexact)]
    reason = "" if all(np.isfinite(a).all() for a in floats) else "not finite"
    return {**row, FAILED: np.asarray(reason)}


def _arguments(work: Work, points: Sequence[Point], size: int) -> dict[str, np.ndarray]:
    arrays = {
        name: np.asarray([point[name] for point in points], dtype)
        for name, dtype in work.traced.items()
    }
    return arrays if size else {name: array[0] for name, array in arrays.items()}


class Program(NamedTuple):
    """A compiled program, the names of its results in the order of `run`, and its memory."""

    call: Callable
    names: list[str]
    num_bytes: int


def compiled(work: Work, point: Point, size: int) -> tuple[Program, float]:
    """(the program of a point's shape, seconds that it took to compile: 0 where it was there).

    Threads that ask for it while one compiles it wait.

    Raises:
      MemoryError: where the device has not so many bytes free as it needs.
    """
    shape = (work.identity, work.settings, repr(shape_of(work, point)), size)
    with _alone(shape):
        if shape in _programs:
            return _programs[shape], 0.0
        begun = time.perf_counter()
        while len(_programs) >= MOST_PROGRAMS:
            _programs.pop(next(iter(_programs)))
        names, program = lowered(work, point, size)
        call = program.compile()
        _programs[shape] = Program(call, names, _checked_bytes(call, dict(shape_of(work, point))))
        return _programs[shape], time.perf_counter() - begun


def largest() -> int:
    """The bytes that the largest program of this process needs; 0 where there is none."""
    return max((program.num_bytes for program in _programs.values()), default=0)


def memory_free() -> int:
    """Bytes free on the device that JAX uses."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _checked_bytes(program: jax.stages.Compiled, static: Point) -> int:
    found, free, gib = program.memory_analysis(), memory_free(), 2**30
    sizes = ("argument_size_in_bytes", "output_size_in_bytes", "temp_size_in_bytes")
    needed = sum(getattr(found, name, 0) for name in sizes)
    if needed > free:
        point = ", ".join(f"{name}={value}" for name, value in static.items()) or "a point"
        raise MemoryError(
            f"{point} needs {needed / gib:.1f} GiB on {jax.devices()[0].device_kind}, which has "
            f"{free / gib:.1f} GiB free"
        )
    return needed


def shape_of(work: Work, point: Point) -> tuple:
    """The point's static values, by name: points that share them share programs."""
    return tuple((name, value) for name, value in point.items() if name not in work.traced)


def lowered(work: Work, point: Point, size: int) -> tuple[list[str], jax.stages.Lowered]:
    """`jax.jit(run)` of one point, or `jax.jit(jax.vmap(run))` of `size` of them on all devices.

    Returns:
      The names of the results in their own order, which JAX does not keep, and the program.

    Raises:
      ValueError: where `run` does not return a dict of arrays.
    """
    static = dict(shape_of(work, point))
    names: list[str] = []

    def of_point(**traced):
        found = work.run(**static, **traced)
        if not isinstance(found, Mapping):
            raise ValueError(f"run must return a dict of arrays, got {type(found).__name__}")
        names[:] = found
        return found

    across = None
    if size and jax.local_device_count() > 1:
        mesh = jax.sharding.Mesh(np.asarray(jax.local_devices()), ("batch",))
        across = NamedSharding(mesh, PartitionSpec("batch"))
    batched = jax.vmap(lambda point: of_point(**point))
    function = (lambda **points: batched(points)) if size else of_point
    shapes = {
        name: jax.ShapeDtypeStruct((size,) if size else (), dtype, sharding=across)
        for name, dtype in work.traced.items()
    }
    program = jax.jit(function, out_shardings=across).lower(**shapes)
    return names, program


_programs: dict[tuple, Program] = {}
_locks: dict[tuple, threading.Lock] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def _alone(shape: tuple) -> Iterator[None]:
    with _guard:
        lock = _locks.setdefault(shape, threading.Lock())
    with lock:
        yield
