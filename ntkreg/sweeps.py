"""Cells over a named grid: compiled once per shape, in parallel, with progress and resume."""

import collections
import concurrent.futures
import functools
import itertools
import os
import pathlib
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from ntkreg import records
from ntkreg._compat import program_text_is_whole
from ntkreg._types import Array, PyTree
from ntkreg.records import Record

Point = dict[str, Any]


class Cell(NamedTuple):
    """One run of an experiment, in stages. All four are pure functions of the point.

    A point maps coordinate names to values: static ones are plain Python values, the others
    traced scalars. Randomness is a coordinate like any other (`seed`), so a cell's result depends
    on its point alone.

    Attributes:
      prepare: point -> (context, state). The context stays as it is, the state evolves.
      advance: (point, context, state, num_steps) -> (state, whether the run is over). `num_steps`
        is traced; where the stages fall must not change the result.
      finish: (point, context, state) -> dict of arrays, the same shapes for all lanes.
      stage_steps: the number of steps between two looks at whether the run is over.
    """

    prepare: Callable[[Point], tuple[PyTree, PyTree]]
    advance: Callable[[Point, PyTree, PyTree, Array], tuple[PyTree, Array]]
    finish: Callable[[Point, PyTree, PyTree], dict[str, Array]]
    stage_steps: int = 1000


def as_cell(function: Callable[..., dict[str, Array]] | Cell) -> Cell:
    """A function of the coordinates, by name, as a cell of one stage; a cell as it is."""
    if isinstance(function, Cell):
        return function
    return Cell(
        prepare=lambda point: ((), ()),
        advance=lambda point, context, state, num_steps: (state, jnp.asarray(True)),
        finish=lambda point, context, state: function(**point),
    )


def sweep(
    function: Callable[..., dict[str, Array]] | Cell,
    axes: Mapping[str | tuple[str, ...], Sequence],
    *,
    static: Sequence[str] = (),
    folder: str | os.PathLike | None = None,
    config: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
    num_workers: int | None = None,
) -> Record:
    """The results of `function` at every point of the grid, as arrays with named axes.

    Cells that agree in their static coordinates share one compilation. With a folder every
    finished chunk of cells is kept there, and a call with the same grid, config and code goes on
    where the last one ended; without one everything stays in memory.

    Args:
      function: coordinates by name -> dict of arrays; or a Cell.
      axes: coordinate name -> values, or a tuple of names -> tuples of values that vary together.
      static: the names of coordinates that set shapes or are not numbers; strings always are.
      folder: where the record is kept.
      config: whatever else the results depend on; a record made under another is refused.
      batch_size: lanes in one vmapped chunk; 1 runs them one at a time. By default 1 on a CPU,
        where vmap is slower than a loop, and all of a shape's lanes elsewhere.
      num_workers: chunks in flight at once; by default the number of cores on a CPU, else 1.

    Raises:
      ValueError: for a bad grid, batch_size or num_workers, or a folder that cannot be written or
        holds another run.
    """
    named = records.named_axes(axes)
    cells = records.points(named)
    static = _static_names(static, cells)
    on_cpu = jax.default_backend() == "cpu"
    batch_size = batch_size or (1 if on_cpu else len(cells))
    num_workers = num_workers or ((os.cpu_count() or 1) if on_cpu else 1)
    for name, value in (("batch_size", batch_size), ("num_workers", num_workers)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    plan = {"batch_size": batch_size, "chunks": _chunks(cells, static, batch_size)}
    run = _Runner(as_cell(function), cells, static)
    if folder is None:
        return _in_memory(run, named, plan, num_workers)
    folder = pathlib.Path(folder)
    manifest = records.open_record(folder, named, records.identity(config or {}), plan)
    _run_missing(run, folder, manifest["plan"], num_workers)
    return records.load_record(folder)


def _static_names(static: Sequence[str], cells: list[Point]) -> tuple[str, ...]:
    for name in static:
        if name not in cells[0]:
            raise ValueError(f"static must name axes ({', '.join(cells[0])}), got {name!r}")
    texts = [name for name, value in cells[0].items() if isinstance(value, str)]
    return tuple(name for name in cells[0] if name in {*static, *texts})


def _chunks(cells: list[Point], static: tuple[str, ...], batch_size: int) -> list[list[int]]:
    """Cell numbers in chunks of one shape each; the first chunk of every shape comes first.

    So neighbouring chunks differ in shape: workers compile side by side, and a run that is cut
    short has seen every shape.
    """
    groups: dict[tuple, list[int]] = {}
    for number, cell in enumerate(cells):
        groups.setdefault(tuple(cell[name] for name in static), []).append(number)
    chunked = [
        [(i, lanes[i : i + batch_size]) for i in range(0, len(lanes), batch_size)]
        for lanes in groups.values()
    ]
    return [lanes for _, lanes in sorted(itertools.chain(*chunked), key=lambda entry: entry[0])]


def _run_missing(run: "_Runner", folder: pathlib.Path, plan: dict, num_workers: int) -> None:
    chunks = plan["chunks"]
    missing = [c for c in range(len(chunks)) if not records.chunk_path(folder, c).exists()]

    def compute(chunk: int) -> int:
        begun = time.time()
        arrays = run(chunks[chunk], plan["batch_size"])
        records.write_chunk(folder, chunk, arrays, (begun, time.time()))
        return len(chunks[chunk])

    total = sum(map(len, chunks))
    done = total - sum(len(chunks[chunk]) for chunk in missing)
    _in_parallel(compute, missing, num_workers, total, done)


def _in_memory(run: "_Runner", axes: records.Axes, plan: dict, num_workers: int) -> Record:
    begun = time.time()
    found: dict[int, dict[str, np.ndarray]] = {}

    def compute(chunk: int) -> int:
        found[chunk] = run(plan["chunks"][chunk], plan["batch_size"])
        return len(plan["chunks"][chunk])

    numbers = range(len(plan["chunks"]))
    _in_parallel(compute, numbers, num_workers, sum(map(len, plan["chunks"])), 0)
    chunks = [(plan["chunks"][chunk], found[chunk]) for chunk in numbers]
    shape = tuple(len(rows) for rows in axes.values())
    arrays = {name: records.gathered(name, chunks, shape) for name in found[0]}
    return Record(axes, arrays, records.identity({}), time.time() - begun)


def _in_parallel(
    compute: Callable[[int], int], chunks: Sequence[int], num_workers: int, total: int, done: int
) -> None:
    """Runs `compute` on every chunk; the first error, or Ctrl-C, ends it after those in flight."""
    bar = tqdm.tqdm(
        total=total,
        initial=done,
        unit="cell",
        disable=not chunks,
        mininterval=0.2 if sys.stderr.isatty() else 60.0,
        dynamic_ncols=True,
    )
    with bar, concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(compute, chunk) for chunk in chunks]
        try:
            for future in concurrent.futures.as_completed(futures):
                bar.update(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Stages(NamedTuple):
    prepare: Callable
    advance: Callable
    finish: Callable


class _Once:
    """Values by key, each made once, by the thread that first asks; the others wait for it."""

    def __init__(self):
        self._values: dict[Any, Any] = {}
        self._locks: dict[Any, threading.Lock] = collections.defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._guard:
            lock = self._locks[key]
        with lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]


class _Runner:
    """Runs chunks of lanes, and keeps what it compiles: shapes with one program share it."""

    def __init__(self, cell: Cell, cells: list[Point], static: tuple[str, ...]):
        self.cell, self.cells, self.static = cell, cells, static
        self._shape_sizes = collections.Counter(
            tuple(cell[name] for name in static) for cell in cells
        )
        self._programs = _Once()
        self._shapes = _Once()

    def __call__(self, lanes: list[int], batch_size: int) -> dict[str, np.ndarray]:
        first = self.cells[lanes[0]]
        fixed = {name: first[name] for name in self.static}
        # A shape's short last chunk is filled up with its last lane: it compiles nothing new.
        full = min(batch_size, self._shape_sizes[tuple(fixed.values())])
        padded = lanes + [lanes[-1]] * (full - len(lanes))
        varied = {
            name: jnp.asarray([self.cells[lane][name] for lane in padded])
            for name in first
            if name not in self.static
        }
        stages = self._stages(tuple(fixed.items()), varied)
        outputs = _run_stages(stages, varied, self.cell.stage_steps)
        return {name: np.asarray(array)[: len(lanes)] for name, array in outputs.items()}

    def _stages(self, fixed: tuple, varied: dict[str, Array]) -> _Stages:
        return self._shapes(fixed, lambda: self._compiled(dict(fixed), varied))

    def _compiled(self, fixed: Point, varied: dict[str, Array]) -> _Stages:
        """The cell's stages on arrays of lanes, compiled for these shapes."""
        cell = self.cell
        prepare = lambda point: cell.prepare({**fixed, **point})
        advance = lambda point, *rest: cell.advance({**fixed, **point}, *rest)
        finish = lambda point, *rest: cell.finish({**fixed, **point}, *rest)
        num_lanes = len(next(iter(varied.values()))) if varied else 1
        over_lanes = _one_lane if num_lanes == 1 else jax.vmap
        prepare, finish = over_lanes(prepare), over_lanes(finish)
        advance = over_lanes(advance, in_axes=(0, 0, 0, None))
        context, state = jax.eval_shape(prepare, varied)
        steps = jax.ShapeDtypeStruct((), jnp.int32)
        program = functools.partial(self._program, tuple(fixed.items()))
        return _Stages(
            program(jax.jit(prepare), varied),
            program(jax.jit(advance, donate_argnums=2), varied, context, state, steps),
            program(jax.jit(finish), varied, context, state),
        )

    def _program(self, fixed: tuple, function: Callable, *args: PyTree) -> Callable:
        lowered = function.lower(*args)
        key = (lowered.as_text(), str(lowered.args_info), str(lowered.out_info))
        if not program_text_is_whole():
            key = (fixed, *key)
        return self._programs(key, lowered.compile)


def _one_lane(function: Callable, in_axes: Any = 0) -> Callable:
    """`function` on arrays of one lane, without vmap: fewer dimensions run faster on a CPU."""

    def on_lane(*args):
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        taken = [
            arg if axis is None else jax.tree.map(lambda a: a[0], arg)
            for arg, axis in zip(args, axes, strict=True)
        ]
        return jax.tree.map(lambda a: jnp.asarray(a)[None], function(*taken))

    return on_lane


def _run_stages(stages: _Stages, varied: dict[str, Array], stage_steps: int) -> dict[str, Array]:
    context, state = stages.prepare(varied)
    steps = jnp.asarray(stage_steps, jnp.int32)
    over = False
    while not over:
        state, lanes_over = stages.advance(varied, context, state, steps)
        over = bool(np.all(lanes_over))
    return stages.finish(varied, context, state)
