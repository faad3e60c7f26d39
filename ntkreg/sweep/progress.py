"""What a person sees of a long sweep: a bar on a terminal, elsewhere a line a minute."""

import sys
import time

import tqdm

LOG_SECONDS = 60.0


class Progress:
    """Points done, rate and time left."""

    def __init__(self, total: int, done: int):
        """Begins with `done` of `total` points."""
        self._bar = tqdm.tqdm(
            unit="point", total=total, initial=done, dynamic_ncols=True,
            disable=done == total or not sys.stderr.isatty(),
        )  # fmt: skip
        self._total, self._done, self._new, self._begun = total, done, 0, time.monotonic()
        self._said = self._begun

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        """So many more are done."""
        self._done, self._new, now = self._done + count, self._new + count, time.monotonic()
        self._bar.update(count)
        if self._bar.disable and now - self._said > LOG_SECONDS:
            left = (self._total - self._done) * (now - self._begun) / self._new
            print(f"{self._done} of {self._total} points, {left:.0f} s left", file=sys.stderr)
            self._said = now
