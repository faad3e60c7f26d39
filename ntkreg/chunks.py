"""The chunks of a plan, computed: in parallel, by one process or by several that share them."""

import concurrent.futures
import contextlib
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax

from ntkreg.cells import Point
from ntkreg.lanes import Programs, run_lanes
from ntkreg.progress import Progress

# Between looks at whether other processes have finished, or died; the second where they take long.
POLL_SECONDS, LONGEST_POLL = 0.1, 10.0


class Work:
    """Computes chunks of a plan and gives each to `keep`; halves batches that are too large."""

    def __init__(
        self,
        programs: Programs,
        cells: Sequence[Point],
        plan: dict[str, Any],
        num_workers: int,
        keep: Callable[[int, tuple], None],
        rewrite: Callable[[dict[str, Any]], None] = lambda plan: None,
        claim: Callable[[int], contextlib.AbstractContextManager] = contextlib.nullcontext,
    ):
        """Over the chunks of `plan`.

        Args:
          keep: takes a chunk's number and (its arrays, when it was begun and finished).
          rewrite: takes the plan with its halved batches.
          claim: chunk -> context that gives False where the chunk is not ours to compute.
        """
        self.programs, self.cells, self.num_workers = programs, cells, num_workers
        self.plan = plan
        self._keep, self._rewrite, self._claim = keep, rewrite, claim
        self._lock = threading.Lock()

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
        """Computes and keeps the chunks of a group that are free; returns the number of cells."""
        with contextlib.ExitStack() as claims:
            free = [c for c in group if claims.enter_context(self._claim(c)) is not False]
            return self._compute(free) if free else 0

    def _compute(self, group: list[int]) -> int:
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


def run_chunks(work: Work, missing: Callable[[], Sequence[int]]) -> None:
    """Computes chunks until none is missing; the first error, or Ctrl-C, ends it.

    Those that other processes are at are theirs, unless they end before.
    """
    cells_in = lambda chunks: sum(len(work.plan["chunks"][chunk]["lanes"]) for chunk in chunks)
    total, chunks, wait = len(work.cells), missing(), POLL_SECONDS
    with Progress("running", "cell", total, total - cells_in(chunks)) as progress:
        while chunks:
            done = _pass(work, chunks, progress)
            chunks = missing()
            progress.reach(total - cells_in(chunks))
            wait = POLL_SECONDS if done else min(2 * wait, LONGEST_POLL)
            if chunks and not done:
                time.sleep(wait)


def _pass(work: Work, chunks: Sequence[int], progress: Progress) -> int:
    """The number of cells computed of these chunks."""
    workers = lambda chunk: min(work.num_workers, work.plan["chunks"][chunk]["workers"])
    done = 0
    for number in sorted(set(map(workers, chunks)), reverse=True):
        groups = work.groups([chunk for chunk in chunks if workers(chunk) == number])
        done += _in_parallel(work, groups, number, progress)
    return done


def _in_parallel(work: Work, groups: Sequence, num_workers: int, progress: Progress) -> int:
    def one(group: list[int]) -> int:
        done = work(group)
        progress.add(done)
        return done

    if min(num_workers, len(groups)) == 1:  # a thread would only cost its start
        return sum(map(one, groups))
    with concurrent.futures.ThreadPoolExecutor(num_workers) as pool:
        futures = [pool.submit(one, group) for group in groups]
        try:
            return sum(future.result() for future in concurrent.futures.as_completed(futures))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
