"""Which cells run together: batches and chunks of a sweep, chosen by a short measurement."""

import concurrent.futures
import dataclasses
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ntkreg.cells import Point
from ntkreg.lanes import Programs, Stages

CHUNK_SECONDS = 5.0  # about what a kill can cost
CHUNKS_PER_WORKER = 4  # at least, so that workers end together
SAMPLE_SECONDS = 0.05
# A larger batch must be this much faster per lane, so that noise does not choose it; and the work
# at hand must be this many compilations long, so that looking for a better one pays.
GAIN, PAYS = 1.2, 10.0
GROWTH = 4


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a batch of one shape was measured to take.

    Attributes:
      lane_seconds: time of a whole lane: preparation, steps and, where it was asked for, finish.
      compile_seconds: until its programs were ready.
      num_bytes: memory of the largest of its programs.
    """

    lane_seconds: float
    compile_seconds: float
    num_bytes: int


def memory_available() -> int:
    """Bytes free on the device that JAX uses."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


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

    Without a `batch_size` each shape gets its own: one lane at a time on a CPU and all lanes
    elsewhere where the work is short; else the size from which larger ones (by factors of four) are
    not 1.2 times faster, as measured. Batches fit into the device's memory.

    Returns:
      {"chunks": [{"lanes": [...], "batch": size}]}, which a record keeps, so that a resume computes
      the same bits.
    """
    groups = shapes_of(programs, cells)
    num_bytes = memory_available() // num_workers

    def planned(shape_lanes: tuple) -> list[dict]:
        points = [cells[lane] for lane in shape_lanes[1]]
        size, cost = _batch(programs, points, batch_size, num_workers, num_bytes)
        places = num_workers * programs.num_devices
        length = _chunk_length(len(points), size, cost.lane_seconds, places)
        lanes = shape_lanes[1]
        chunks = [
            {"lanes": lanes[i : i + length], "batch": size} for i in range(0, len(lanes), length)
        ]
        progress(1)
        return chunks

    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        found = list(pool.map(planned, groups.items()))
    # The first chunk of every shape comes first: a run that is cut short has seen every shape.
    numbered = [entry for chunks in found for entry in enumerate(chunks)]
    return {"chunks": [chunk for _, chunk in sorted(numbered, key=lambda entry: entry[0])]}


def _batch(
    programs: Programs,
    points: Sequence[Point],
    batch_size: int | None,
    num_workers: int,
    num_bytes: int,
) -> tuple[int, Cost]:
    """The size of batches for one shape, and what it costs."""
    most = math.ceil(len(points) / programs.num_devices)
    if batch_size is not None:
        size = min(batch_size, most)
        return size, measure(programs, points, size)
    size, cost = 1, measure(programs, points, 1)
    seconds = cost.lane_seconds * len(points) / (num_workers * programs.num_devices)
    pays = seconds > PAYS * cost.compile_seconds
    if not pays and jax.default_backend() == "cpu":
        return size, cost
    while not pays and most > 1:  # an accelerator is filled at once
        full = measure(programs, points, most)
        if full.num_bytes <= num_bytes:
            return most, full
        most = math.ceil(most / 2)
    while size < most:
        larger = min(GROWTH * size, most)
        tried = measure(programs, points, larger)
        too_slow = tried.lane_seconds * GAIN > cost.lane_seconds
        if tried.num_bytes > num_bytes or too_slow:
            break
        size, cost = larger, tried
    return size, cost


def _chunk_length(num_lanes: int, size: int, lane_seconds: float, places: int) -> int:
    """Lanes in a chunk, in whole batches: a few seconds of work, and enough chunks for all."""
    wanted = min(CHUNK_SECONDS / max(lane_seconds, 1e-9), num_lanes / (CHUNKS_PER_WORKER * places))
    return size * max(1, int(wanted / size))


def measure(
    programs: Programs, points: Sequence[Point], num_lanes: int, with_finish: bool = False
) -> Cost:
    """Compiles a batch of num_lanes on each device and times its preparation and a few steps.

    `finish` is timed only where asked for: it can be most of a run.
    """
    total = num_lanes * programs.num_devices
    varied = programs.varied([points[i % len(points)] for i in range(total)])
    shape = programs.shape_of(points[0])
    begun = time.perf_counter()
    stages = programs.stages(shape, varied, num_lanes)
    compile_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    context, state = jax.block_until_ready(stages.prepare(varied))
    prepare_seconds = time.perf_counter() - begun
    num_steps = programs.cell.num_steps(points[0])
    lanes, everywhere = (varied, context, state), programs.everywhere
    steps_seconds = num_steps * _step_seconds(stages, lanes, everywhere, num_steps)
    begun = time.perf_counter()
    if with_finish:
        jax.block_until_ready(stages.finish(varied, *stages.prepare(varied)))
    lane_seconds = (prepare_seconds + steps_seconds + time.perf_counter() - begun) / total
    return Cost(lane_seconds, compile_seconds, max(map(_bytes_of, stages[:3])))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a sweep would take.

    Attributes:
      seconds: of the whole sweep on this machine, one lane at a time, compilation in it.
      num_shapes, num_measured: programs that it compiles; of how many one lane was timed. The
        others are extrapolated by a power law in the product of their static numbers.
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
    """Times one lane of some shapes of each kind, from small to large while the budget lasts."""
    groups = shapes_of(programs, cells)
    kinds: dict[tuple, list[tuple]] = {}
    for shape in sorted(groups, key=_size):
        kinds.setdefault(_kind(shape), []).append(shape)
    seconds, num_measured = 0.0, 0
    for shapes in kinds.values():
        point_of = lambda shape: cells[groups[shape][0]]
        timed = _timed(programs, shapes, point_of, budget_seconds / len(kinds), progress)
        known = [(_size(shape), cost.lane_seconds) for shape, cost in timed.items()]
        compiling = np.mean([cost.compile_seconds for cost in timed.values()])
        for shape in shapes:
            lane = timed[shape].lane_seconds if shape in timed else _fitted(known, _size(shape))
            seconds += lane * len(groups[shape]) + compiling
        num_measured += len(timed)
    places = num_workers * programs.num_devices
    return Estimate(float(seconds) / places, len(groups), num_measured)


def _timed(
    programs: Programs,
    shapes: Sequence[tuple],
    point_of: Callable[[tuple], Point],
    budget_seconds: float,
    progress: Callable[[int], Any],
) -> dict[tuple, Cost]:
    """Costs of the smallest shape, and of ones four times larger each as long as they fit."""
    timed: dict[tuple, Cost] = {}
    begun = time.perf_counter()
    for shape in shapes:
        if timed:
            known = [(_size(shape), cost.lane_seconds) for shape, cost in timed.items()]
            left = budget_seconds - (time.perf_counter() - begun)
            if _size(shape) < GROWTH * known[-1][0] or _fitted(known, _size(shape)) > left:
                continue
        timed[shape] = measure(programs, [point_of(shape)], 1, with_finish=True)
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


def _step_seconds(stages: Stages, lanes: tuple, everywhere: Callable, num_steps: int) -> float:
    """Seconds of one step of all lanes, from the longest of a few growing samples."""
    count, seconds = 1, 0.0
    varied, context, state = lanes
    while count <= num_steps:
        begun = time.perf_counter()
        state, over = stages.advance(varied, context, state, everywhere(np.int32(count)))
        jax.block_until_ready(over)
        elapsed = time.perf_counter() - begun
        seconds = elapsed / count
        if elapsed > SAMPLE_SECONDS or over.all():
            break
        count *= GROWTH
    return seconds


def _bytes_of(program: Any) -> int:
    """Memory of a compiled program: arguments, results and what lies between."""
    found = program.memory_analysis()
    if found is None:
        return 0
    return (
        found.argument_size_in_bytes
        + found.output_size_in_bytes
        + found.temp_size_in_bytes
        - found.alias_size_in_bytes
    )
