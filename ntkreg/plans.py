"""Which cells run together: batches and chunks of a sweep, chosen by a short measurement."""

import concurrent.futures
import dataclasses
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ntkreg import timing
from ntkreg.cells import Point
from ntkreg.lanes import Programs

CHUNK_SECONDS = 5.0  # about what a kill can cost
CHUNKS_PER_WORKER = 4  # at least, so that workers end together
# A larger batch must be this much faster per lane, so that noise does not choose it; and the work
# at hand must be this many compilations long, so that looking for a better one pays.
GAIN, PAYS = 1.2, 10.0
WORTH_TIMING = 32  # lanes of a shape from which running one to time it is a small part of them
SEVERAL_CORES = 1.2


def shapes_of(programs: Programs, cells: Sequence[Point]) -> dict[tuple, list[int]]:
    """The numbers of the cells of each shape."""
    groups: dict[tuple, list[int]] = {}
    for number, cell in enumerate(cells):
        groups.setdefault(programs.shape_of(cell), []).append(number)
    return groups


def plan(
    programs: Programs,
    cells: Sequence[Point],
    batch_size: int | None,
    num_workers: int,
    progress: Callable[[int], Any] = lambda done: None,
) -> dict[str, Any]:
    """The chunks of a sweep, each a list of cell numbers of one shape and the size of its batches.

    Without a `batch_size` each shape gets its own. On a CPU it is one lane at a time where the work
    is short, else the size from which larger ones (by factors of four) are not 1.2 times faster, as
    measured. An accelerator, which is not full before it has many lanes, takes all of them at once.
    Batches fit into the device's memory. Where every worker can have a lane of its own there is
    nothing to choose, and nothing is compiled before the run.

    Where one lane alone keeps several cores busy, one worker takes its chunks if several at once
    are not faster.

    Returns:
      {"chunks": [{"lanes": [...], "batch": size, "workers": number}]}, which a record keeps, so
      that a resume computes the same bits.
    """
    groups = shapes_of(programs, cells)
    points = {shape: [cells[lane] for lane in lanes] for shape, lanes in groups.items()}
    most = {shape: math.ceil(len(p) / programs.num_devices) for shape, p in points.items()}
    places = num_workers * programs.num_devices
    asked = {s: p for s, p in points.items() if batch_size is not None or len(p) > places}
    progress(len(groups) - len(asked))
    compiled = _compiled(programs, asked, most, batch_size, num_workers, progress)
    found = []
    for shape, lanes in groups.items():  # one after the other: timing wants the machine for itself
        if shape not in compiled:
            size = min(batch_size or 1, most[shape])
            found.append([{"lanes": [i], "batch": size, "workers": num_workers} for i in lanes])
            continue
        size, compile_seconds = compiled[shape]
        cost = None
        if len(lanes) > size * programs.num_devices and (
            programs.cell.num_steps(points[shape][0]) > 1 or len(lanes) >= WORTH_TIMING
        ):
            cost = timing.measure(programs, points[shape], size)
        if batch_size is None and cost is not None and _on_cpu():
            seconds = cost.lane_seconds * len(lanes) / num_workers
            if seconds > PAYS * compile_seconds:
                size, cost = _grown(programs, points[shape], cost, most[shape], num_workers)
        workers = _workers(programs, points[shape], size, cost, num_workers)
        length = _chunk_length(len(lanes), size, cost, places)
        starts = range(0, len(lanes), length)
        same = {"batch": size, "workers": workers}
        found.append([{"lanes": lanes[i : i + length], **same} for i in starts])
    # The first chunk of every shape comes first: a run that is cut short has seen every shape.
    numbered = [entry for chunks in found for entry in enumerate(chunks)]
    return {"chunks": [chunk for _, chunk in sorted(numbered, key=lambda entry: entry[0])]}


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _compiled(
    programs: Programs,
    points: Mapping[tuple, Sequence[Point]],
    most: Mapping[tuple, int],
    batch_size: int | None,
    num_workers: int,
    progress: Callable[[int], Any],
) -> dict[tuple, tuple[int, float]]:
    """For each shape the size of batches that it was compiled for, and the seconds it took."""

    def first(shape: tuple) -> tuple[int, float]:
        begun = time.perf_counter()
        if batch_size is None and not _on_cpu():
            size = _filled(programs, points[shape], most[shape], num_workers)
        else:
            size = min(batch_size or 1, most[shape])
            timing.prepared(programs, points[shape], size)
        progress(1)
        return size, time.perf_counter() - begun

    # An accelerator's programs are compiled by the host's cores, which have nothing else to do.
    with concurrent.futures.ThreadPoolExecutor(num_workers if _on_cpu() else None) as pool:
        return dict(zip(points, pool.map(first, points), strict=True))


def _grown(
    programs: Programs, points: Sequence[Point], cost: timing.Cost, most: int, num_workers: int
) -> tuple[int, timing.Cost]:
    """The size of batches from which larger ones do not pay, and its cost."""
    size = 1
    faster = lambda one, other: _pace(one, num_workers) * GAIN <= _pace(other, num_workers)
    while size < most:
        larger = min(timing.GROWTH * size, most)
        tried = timing.measure(programs, points, larger)
        fits = tried.num_bytes <= timing.memory_available() // num_workers
        # What made the smaller one slow may have passed: it gets a second chance.
        if not (fits and faster(tried, cost)) or not faster(
            tried, timing.measure(programs, points, size)
        ):
            break
        size, cost = larger, tried
    return size, cost


def _pace(cost: timing.Cost, num_workers: int) -> float:
    """Seconds per lane where all workers are at it, who share the cores that one keeps busy."""
    return cost.lane_seconds * max(1.0 / num_workers, cost.cores / (os.cpu_count() or 1))


def _filled(programs: Programs, points: Sequence[Point], most: int, num_workers: int) -> int:
    """The largest size of batches that fits into the memory, by halving; it is compiled then."""
    while most > 1 and not _fits(programs, points, most, num_workers):
        most = math.ceil(most / 2)
    if most == 1:
        timing.prepared(programs, points, 1)
    return most


def _fits(programs: Programs, points: Sequence[Point], size: int, num_workers: int) -> bool:
    try:
        stages, _ = timing.prepared(programs, points, size)
    except jax.errors.JaxRuntimeError as error:
        # XLA tries kernels out while it compiles, on arrays of the full size.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return False
    return max(map(timing.bytes_of, stages[:3])) <= timing.memory_available() // num_workers


def _workers(
    programs: Programs,
    points: Sequence[Point],
    size: int,
    cost: timing.Cost | None,
    num_workers: int,
) -> int:
    """num_workers; 1 where a batch keeps several cores busy and several at once gain nothing."""
    if num_workers == 1 or cost is None or cost.cores < SEVERAL_CORES:
        return num_workers
    count = max(1, math.ceil(timing.SAMPLE_SECONDS / cost.step_seconds))

    def advanced(start: tuple) -> None:
        stages, varied, context, state = start
        jax.block_until_ready(stages.advance(varied, context, state, np.int32(count)))

    def started() -> tuple:
        stages, varied = timing.prepared(programs, points, size)
        return (stages, varied, *jax.block_until_ready(stages.prepare(varied)))

    starts = [started() for _ in range(num_workers + 1)]
    begun = time.perf_counter()
    advanced(starts.pop())
    alone = time.perf_counter() - begun
    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        begun = time.perf_counter()
        list(pool.map(advanced, starts))
        together = time.perf_counter() - begun
    return num_workers if together < num_workers * alone else 1


def _chunk_length(num_lanes: int, size: int, cost: timing.Cost | None, places: int) -> int:
    """Lanes in a chunk, in whole batches: a few seconds of work, and enough chunks for all."""
    if cost is None:
        return size
    seconds = max(cost.lane_seconds, 1e-9)
    wanted = min(CHUNK_SECONDS / seconds, num_lanes / (CHUNKS_PER_WORKER * places))
    return size * max(1, int(wanted / size))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a sweep would take.

    Attributes:
      seconds: of the whole sweep on this machine, compilation in it; on a CPU one lane at a time.
      num_shapes, num_measured: programs that it compiles; of how many one lane was timed, or on
        an accelerator all lanes together. The others are extrapolated by a power law in the product
        of their static numbers.
    """

    seconds: float
    num_shapes: int
    num_measured: int


def estimate(
    programs: Programs,
    cells: Sequence[Point],
    num_workers: int,
    budget_seconds: float,
    progress: Callable[[int], Any] = lambda done: None,
) -> Estimate:
    """Times some shapes of each kind, from small to large while the budget lasts.

    On a CPU one lane of each; on an accelerator as many as it would take at once.
    """
    groups = shapes_of(programs, cells)
    kinds: dict[tuple, list[tuple]] = {}
    for shape in sorted(groups, key=_size):
        kinds.setdefault(_kind(shape), []).append(shape)
    seconds, num_measured = 0.0, 0
    for shapes in kinds.values():
        points_of = lambda shape: [cells[lane] for lane in groups[shape]]
        timed = _timed(programs, shapes, points_of, budget_seconds / len(kinds), progress)
        known = [(_size(shape), cost.lane_seconds) for shape, cost in timed.items()]
        compiling = float(np.mean([cost.compile_seconds for cost in timed.values()]))
        for shape in shapes:
            lane = timed[shape].lane_seconds if shape in timed else _fitted(known, _size(shape))
            seconds += lane * len(groups[shape]) + compiling
        num_measured += len(timed)
    places = num_workers * programs.num_devices
    return Estimate(float(seconds) / places, len(groups), num_measured)


def _timed(
    programs: Programs,
    shapes: Sequence[tuple],
    points_of: Callable[[tuple], Sequence[Point]],
    budget_seconds: float,
    progress: Callable[[int], Any],
) -> dict[tuple, timing.Cost]:
    """Costs of the smallest shape, and of ones four times larger each as long as they fit."""
    timed: dict[tuple, timing.Cost] = {}
    begun = time.perf_counter()
    for shape in shapes:
        if timed:
            known = [(_size(shape), cost.lane_seconds) for shape, cost in timed.items()]
            left = budget_seconds - (time.perf_counter() - begun)
            if _size(shape) < timing.GROWTH * known[-1][0] or _fitted(known, _size(shape)) > left:
                continue
        points, size = points_of(shape), 1
        if not _on_cpu():
            size = _filled(programs, points, math.ceil(len(points) / programs.num_devices), 1)
        timed[shape] = timing.measure(programs, points, size, with_finish=True)
        progress(1)
    return timed


def _kind(shape: tuple) -> tuple:
    """The static coordinates that are words: shapes that share them differ in size alone."""
    return tuple(value for _, value in shape if isinstance(value, str))


def _size(shape: tuple) -> float:
    return math.prod(value for _, value in shape if isinstance(value, (int, float)))


def _fitted(known: Sequence[tuple[float, float]], size: float) -> float:
    """Seconds at `size`: a power law through the largest one known; linear where only it is."""
    sizes, seconds = np.log(np.asarray(known)).T
    power = np.polyfit(sizes, seconds, 1)[0] if len(known) > 1 else 1.0
    return float(np.exp(seconds[-1] + power * (np.log(size) - sizes[-1])))
