"""What the transition shows: where the planted network becomes optimal, and how that grows."""

import dataclasses

import numpy as np

from ntkreg.experiments import _statistics
from ntkreg.experiments._claims import Claim
from ntkreg.records import Record

SHARE, ERROR = 0.5, 0.25  # of samples on which planted is optimal; of test points
CLAIM = Claim(
    statement="The planted network becomes the sample's max-margin network at n ∝ d, in a "
    "transition that sharpens with d",
    source="derived here; Wei et al. 2019, Theorem 2.1, has O(d) for the error",
    predicted="n at which half of the samples have it ∝ d¹; width of the transition / n falls",
    certified=False,  # beyond certified_dim a local search says that planted is optimal
)


def curve(record: Record, dim: int, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, values of shape (sizes, seeds)) in one dimension."""
    ((_, rows), _) = record.axes.items()
    wanted = [i for i, row in enumerate(rows) if row[0] == dim]
    return np.array([rows[i][1] for i in wanted]), record.arrays[column][wanted].astype(float)


def crossing(
    record: Record, column: str, level: float, num_resamples: int = 2000
) -> _statistics.Scaling:
    """Where the mean of `test_error`, or the share not `local` or `optimal`, falls to a level."""
    curves = {}
    for dim in sorted(record.identity["config"]["dims"]):
        n, values = curve(record, dim, column)
        curves[dim] = n, values if column == "test_error" else 1.0 - values
    return _statistics.scaling(curves, level, num_resamples)


def claim(record: Record) -> Claim:
    """Slope 1 ± 0.15, the 20–80 % width over n narrower at the largest d than at the smallest.

    Every sample must be decided: either refuted or optimal, and never both.
    """
    half, error = crossing(record, "optimal", SHARE), crossing(record, "test_error", ERROR)
    early, late = (dict(zip(c.dims, c.sizes, strict=True)) for c in _quantiles(record))
    dims = sorted(record.identity["config"]["dims"])
    middle = dict(zip(half.dims, half.sizes, strict=True))
    widths = [(late[d] - early[d]) / middle[d] for d in half.dims if d in early and d in late]
    decided = np.mean(record.arrays["refuted"] != record.arrays["optimal"])
    sharpens = half.dims == dims and len(widths) == len(dims) > 1 and widths[-1] < widths[0]
    shown = lambda c: ", ".join(f"{n / d:.2f}d" for d, n in zip(c.dims, c.sizes, strict=True))
    low, high = half.slope_interval
    return dataclasses.replace(
        CLAIM,
        measured=f"∝ d^{half.slope:.2f}, at n = {shown(half) or 'none'} for d = "
        f"{', '.join(map(str, half.dims))}; 20–80 % width / n: "
        f"{', '.join(f'{w:.2f}' for w in widths)}; 25 % test error at {shown(error) or 'none'}; "
        f"{decided:.1%} of samples decided",
        interval=f"[{low:.2f}, {high:.2f}]: 95 %, bootstrap over samples",
        status="holds" if abs(half.slope - 1) <= 0.15 and sharpens and decided == 1 else "fails",
    )


def _quantiles(record: Record) -> tuple[_statistics.Scaling, _statistics.Scaling]:
    return crossing(record, "optimal", 0.8, 1), crossing(record, "optimal", 0.2, 1)
