"""Interleaved repeats of several programs: seconds and memory of each, in turn."""

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

STATUS, CLEAR = pathlib.Path("/proc/self/status"), pathlib.Path("/proc/self/clear_refs")


def interleaved(runs: dict[str, Callable[[], Any]], num_repeats: int) -> Iterator[dict[str, Any]]:
    """One row for every repeat of every run: contender, repeat, seconds, peak_mib.

    The runs take turns, so that what slows the machine down for a while meets all of them.
    peak_mib is what the process held at most, beyond what it held before; NaN where the system does
    not tell, and on an accelerator blind to the memory there.
    """
    for repeat in range(num_repeats):
        for name, run in runs.items():
            before = _held_mib()
            _forget_peak()
            begun = time.perf_counter()
            run()
            seconds = time.perf_counter() - begun
            peak = _peak_mib() - before
            yield {"contender": name, "repeat": repeat, "seconds": seconds, "peak_mib": peak}


def _forget_peak() -> None:
    if CLEAR.exists():
        CLEAR.write_text("5")  # Linux: sets the peak back to what is held now


def _held_mib() -> float:
    return _status_mib("VmRSS")


def _peak_mib() -> float:
    return _status_mib("VmHWM")


def _status_mib(key: str) -> float:
    if not STATUS.exists():
        return float("nan")
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024
