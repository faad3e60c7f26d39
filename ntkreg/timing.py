"""What a batch of cells takes: seconds, cores and bytes, from a short measurement."""

import dataclasses
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ntkreg.cells import Point
from ntkreg.lanes import Programs, Stages, run_lanes

SAMPLE_SECONDS = 0.05
GROWTH = 4


def check_memory(needed: Mapping[str, int]) -> None:
    """Raises ValueError, before anything runs, where the device has not so many bytes free.

    Args:
      needed: what is to be run, in words -> bytes. The error tells the largest that does not fit,
        and the largest that does.
    """
    available, gib = memory_available(), lambda size: f"{size / 2**30:.1f} GiB"
    largest = max(needed, key=needed.__getitem__)
    if needed[largest] <= available:
        return
    fitting = [name for name, size in needed.items() if size <= available]
    told = f"of {len(needed)} shapes {len(fitting)} fit"
    if fitting:
        last = max(fitting, key=needed.__getitem__)
        told += f", up to {last} with {gib(needed[last])}"
    if jax.default_backend() == "gpu":
        told += "; JAX has 75 % of a card unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise"
    raise ValueError(
        f"{largest} needs {gib(needed[largest])} on {jax.devices()[0].device_kind}, which has "
        f"{gib(available)} free: {gib(needed[largest] - available)} are missing; {told}"
    )


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a batch of one shape was measured to take.

    Attributes:
      lane_seconds: time of a whole lane: preparation, steps and, where it was asked for, finish.
      compile_seconds: until its programs were ready.
      num_bytes: memory of the largest of its programs.
      step_seconds: time of one step of the batch.
      cores: how many of the host's cores its steps kept busy.
    """

    lane_seconds: float
    compile_seconds: float
    num_bytes: int
    step_seconds: float = 0.0
    cores: float = 1.0


def memory_available() -> int:
    """Bytes free on the device that JAX uses."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def prepared(
    programs: Programs, points: Sequence[Point], num_lanes: int
) -> tuple[Stages, dict[str, np.ndarray]]:
    """The compiled stages for num_lanes on each device, and coordinates to try them on."""
    total = num_lanes * programs.num_devices
    varied = programs.varied([points[i % len(points)] for i in range(total)])
    return programs.stages(programs.shape_of(points[0]), varied, num_lanes), varied


def measure(
    programs: Programs, points: Sequence[Point], num_lanes: int, with_finish: bool = False
) -> Cost:
    """Compiles a batch of num_lanes on each device and times its preparation and a few steps.

    `finish` is timed only where asked for, since it can be most of a run, or where all the rest is
    over at once.
    """
    begun = time.perf_counter()
    stages, varied = prepared(programs, points, num_lanes)
    compile_seconds = time.perf_counter() - begun
    begun = time.perf_counter()
    context, state = jax.block_until_ready(stages.prepare(varied))
    seconds = time.perf_counter() - begun
    num_steps = programs.cell.num_steps(points[0])
    step_seconds, cores = _sample(stages, (varied, context, state), num_steps)
    begun = time.perf_counter()
    if with_finish:
        jax.block_until_ready(stages.finish(varied, *stages.prepare(varied)))
    seconds += num_steps * step_seconds + time.perf_counter() - begun
    if num_steps and seconds < SAMPLE_SECONDS:  # what surrounds the steps counts: time all of it
        batch = [points[i % len(points)] for i in range(num_lanes)]
        begun = time.perf_counter()
        run_lanes(programs, [batch] * programs.num_devices, num_lanes)
        seconds = time.perf_counter() - begun
    num_bytes = max(map(bytes_of, stages[:3]))
    lane_seconds = seconds / (num_lanes * programs.num_devices)
    return Cost(lane_seconds, compile_seconds, num_bytes, step_seconds, cores)


def _sample(stages: Stages, lanes: tuple, num_steps: int) -> tuple[float, float]:
    """Seconds of one step and the cores that it keeps busy, from the longest of growing samples."""
    count, seconds, cores = 1, 0.0, 1.0
    varied, context, state = lanes
    while count <= num_steps:
        begun, busy = time.perf_counter(), time.process_time()
        state, over = stages.advance(varied, context, state, np.int32(count))
        jax.block_until_ready(over)
        elapsed = time.perf_counter() - begun
        seconds, cores = elapsed / count, (time.process_time() - busy) / elapsed
        if elapsed > SAMPLE_SECONDS or over.all():
            break
        count *= GROWTH
    return seconds, cores


def bytes_of(program: Any) -> int:
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
