"""Ball arithmetic: numbers of many digits that carry a proved bound of their own error.

NumPy arrays of `flint.arb`, made from float64 without error. Sums, products, roots and logarithms
of balls contain the true ones, so that what is compared or printed of them is proved, whatever was
cancelled on the way. Source: Johansson (IEEE Trans. Computers 2017), Arb.
"""

import contextlib
import threading
from collections.abc import Iterator

import flint
import numpy as np

BITS = 512  # of a midpoint; 53 are float64's

_lock = threading.RLock()


@contextlib.contextmanager
def precision(bits: int = BITS) -> Iterator[None]:
    """Within it balls have at least this many bits. One thread at a time: flint has one."""
    with _lock, flint.ctx.workprec(max(bits, flint.ctx.prec)):
        yield


_ball = np.frompyfunc(lambda value: flint.arb(float(value)), 1, 1)
_mid = np.frompyfunc(lambda ball: ball.mid(), 1, 1)


def balls(values: np.ndarray) -> np.ndarray:
    """Exact balls of float64 numbers (or what is given, where it holds balls)."""
    values = np.asarray(values)
    return values if values.dtype == object else np.asarray(_ball(values), object)


def is_balls(values: np.ndarray) -> bool:
    """Whether an array holds balls and not float64."""
    return values.dtype == object


def middle(values: np.ndarray) -> np.ndarray:
    """The midpoints, as balls without error; float64 as it is.

    For iterations, where errors need not be proved and would only grow.
    """
    return np.asarray(_mid(values), object) if is_balls(values) else values


def rounded(values: np.ndarray) -> np.ndarray:
    """The nearest float64 numbers."""
    return np.asarray(values, np.float64)


def below(value) -> float:
    """The largest float64 number, or the one under it, that is proved to be at most `value`.

    −∞ where that is NaN, of which nothing is known.
    """
    if flint.arb(value).is_nan():
        return -np.inf
    lowest = flint.arb(value).lower()
    found = float(lowest)
    return found if flint.arb(found) <= lowest else float(np.nextafter(found, -np.inf))


def above(value) -> float:
    """A float64 number that is proved to be at least `value`."""
    return 0.0 - below(-flint.arb(value))  # not −0


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b; of matrices of balls by flint, which is faster than entry by entry."""
    if not is_balls(a) and not is_balls(b):
        return a @ b
    a, b = balls(a), balls(b)
    if 0 in a.shape or 0 in b.shape:
        return balls(np.zeros((*a.shape[:-1], *b.shape[1:])))
    left = flint.arb_mat(np.atleast_2d(a).tolist())
    right = flint.arb_mat((b[:, None] if b.ndim == 1 else b).tolist())
    found = np.array((left * right).tolist(), object)
    return found.reshape(*a.shape[:-1], *b.shape[1:])


def solve(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution of a positive definite system; NaN where it is singular to the precision."""
    if not is_balls(matrix):
        try:
            return np.linalg.solve(matrix, right)
        except np.linalg.LinAlgError:
            return np.full(right.shape, np.nan)
    try:
        found = flint.arb_mat(matrix.tolist()).solve(flint.arb_mat(right[:, None].tolist()))
    except ZeroDivisionError:
        return balls(np.full(right.shape, np.nan))
    return middle(np.array(found.tolist(), object)[:, 0])
