"""What a person sees of a long run: a bar on a terminal, elsewhere a line a minute."""

import sys
import threading
import time
from collections.abc import Callable

import tqdm

LOG_SECONDS = 60.0


class Progress:
    """A bar with rate and time left on a terminal; elsewhere a line a minute."""

    def __init__(self, title: str, unit: str, total: int, done: int = 0):
        self._bar = tqdm.tqdm(
            desc=title, unit=unit, total=total, initial=done, dynamic_ncols=True,
            disable=done == total or not sys.stderr.isatty(),
        )  # fmt: skip
        self._title, self._unit, self._total, self._first = title, unit, total, done
        self._done, self._begun, self._said = done, time.time(), time.time()
        self._lock = threading.Lock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        """Tells that so many more are done."""
        self._advance(lambda: count)

    def reach(self, done: int) -> None:
        """Tells that so many are done in all, by whomever."""
        self._advance(lambda: max(0, done - self._done))

    def _advance(self, count: Callable[[], int]) -> None:
        with self._lock:
            more = count()
            self._done += more
            self._bar.update(more)
            now = time.time()
            if self._bar.disable and now - self._said > LOG_SECONDS:
                rate = (self._done - self._first) / (now - self._begun)
                left = (self._total - self._done) / rate if rate else float("inf")
                print(
                    f"{self._title}: {self._done} of {self._total} {self._unit}s, "
                    f"{rate:.3g} {self._unit}s/s, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
                self._said = now
