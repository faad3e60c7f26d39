"""Where curves cross a level, how the crossing scales, and 95 % intervals over seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas
import scipy


def stacked(rows: pandas.DataFrame, column: str, *axes: str) -> np.ndarray:
    """The column as an array with a dimension for each axis, its values sorted; then its own.

    Raises:
      ValueError: where `rows` are not one for each combination of the axes' values.
    """
    sizes = [rows[axis].nunique() for axis in axes]
    if len(rows) != np.prod(sizes) or rows.duplicated([*axes]).any():
        raise ValueError(f"rows must be one for each of {', '.join(axes)}, got {len(rows)}")
    values = np.stack([np.asarray(value) for value in rows.sort_values([*axes])[column]])
    return values.reshape(*sizes, *values.shape[1:])


def by_seed(rows: pandas.DataFrame, axis: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(values of the axis, the column's values: a row for each of them, a column for each seed)."""
    found = rows.pivot(index=axis, columns="seed", values=column)
    return found.index.to_numpy(float), found.to_numpy()


def crossing(sizes: np.ndarray, errors: np.ndarray, level: float) -> np.ndarray:
    """The size at which `errors` falls to `level` for good, linear in log size between points.

    Args:
      sizes: increasing, shape (s,).
      errors: shape (..., s).

    Returns:
      Shape (...): NaN where the last error is above the level, or none is.
    """
    above = ~(errors <= level)  # NaN has not been learned
    last = sizes.size - 1 - np.argmax(above[..., ::-1], axis=-1)
    crosses = above.any(-1) & ~above[..., -1]
    left = np.where(crosses, last, 0)[..., None]
    take = lambda shift: np.take_along_axis(errors, left + shift, -1)[..., 0]
    high, low = take(0), take(1) if sizes.size > 1 else take(0)
    share = (high - level) / np.where(crosses, high - low, 1.0)
    logs = np.log(sizes)
    right = np.minimum(left + 1, sizes.size - 1)[..., 0]
    found = np.exp(logs[left[..., 0]] + share * (logs[right] - logs[left[..., 0]]))
    return np.where(crosses, found, np.nan)


def log_slope(x: Sequence[float] | np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least-squares slope of log y over log x, along the last axis; NaN where y has NaN."""
    centred = np.log(x) - np.mean(np.log(x))
    return np.log(y) @ centred / (centred @ centred)


def log_slope_of_means(
    x: Sequence[float] | np.ndarray, values: Sequence[np.ndarray]
) -> tuple[float, tuple[float, float]]:
    """The slope of the log of means over log x, and its 95 % bootstrap interval; NaN for one x.

    `values` has an array of seeds for every x.
    """
    if len(x) < 2:
        return float("nan"), (float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    drawn = np.stack([resampled(seeds, 2000, rng) for seeds in values], -1)
    return float(log_slope(x, np.array([v.mean() for v in values]))), interval(log_slope(x, drawn))


def scaled_errors(rows: pandas.DataFrame) -> pandas.Series:
    """error · √(n/d), which the theorem bounds by a constant for the network."""
    return rows.test_error * np.sqrt(rows.num_samples / rows.dim)


def growth(rows: pandas.DataFrame) -> tuple[float, tuple[float, float]]:
    """The exponent of G(d) = sup over n of the mean error · √(n/d), and its bootstrap interval.

    A bounded G has the exponent 0 in the end, that of a predictor which needs n ∝ d² is ½.
    """
    rows, rng = rows.assign(scaled=scaled_errors(rows)), np.random.default_rng(0)
    found, drawn, dims = [], [], []
    for dim, part in rows.groupby("dim"):
        cells = [cell.to_numpy() for _, cell in part.groupby("num_samples").scaled]
        found.append(max(cell.mean() for cell in cells))
        means = [resampled(cell, 2000, rng) for cell in cells]
        drawn.append(np.fmax.reduce(means))  # a cell of one seed has no interval
        dims.append(dim)
    if len(dims) < 2:
        return float("nan"), (float("nan"), float("nan"))
    slopes = log_slope(dims, np.stack(drawn, -1))
    return float(log_slope(dims, np.array(found))), interval(slopes)


def resampled(
    values: np.ndarray,
    num_resamples: int,
    rng: np.random.Generator,
    paired: bool = False,
) -> np.ndarray:
    """Means over the last axis (seeds) of bootstrap resamples: (..., s) -> (resamples, ...).

    Seeds are drawn anew for every entry, as where different sizes have independent samples; where
    a seed has the same samples in all entries (`paired`), once for all. For intervals of what is
    computed of several means, and may be NaN; of one mean there is `mean_interval`.

    NaN for fewer than two seeds: all resamples of one are that seed itself, and an interval of
    width zero would claim certainty where nothing is known of the spread. Whatever interval is made
    of them is NaN too, and a claim that compares with it fails.
    """
    if values.shape[-1] < 2:
        return np.full((num_resamples, *values.shape[:-1]), np.nan)
    shape = (num_resamples, *values.shape)
    own = (num_resamples, *np.ones(values.ndim - 1, int), values.shape[-1]) if paired else shape
    drawn = np.broadcast_to(rng.integers(values.shape[-1], size=own), shape)
    return np.take_along_axis(np.broadcast_to(values, shape), drawn, -1).mean(-1)


def share_interval(successes: np.ndarray | int, trials: int) -> tuple[Any, Any]:
    """The ends of the exact 95 % interval of a probability (Clopper and Pearson), by SciPy."""
    ends = lambda count: tuple(scipy.stats.binomtest(int(count), int(trials)).proportion_ci())
    return np.vectorize(ends, otypes=[float, float])(successes)


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The central interval that holds `level` of the values, NaN left out (all NaN: NaN)."""
    values = values[np.isfinite(values)]
    if not values.size:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> tuple[Any, Any]:
    """The ends of Student's 95 % interval of the mean over the last axis (seeds), by SciPy.

    NaN where a seed is not finite, and for fewer than two (`resampled`). A comparison with NaN is
    false: no claim holds by leaving out the runs that failed, nor by one seed.
    """
    seeds = values.shape[-1]
    if seeds < 2:
        unknown = np.full(values.shape[:-1], np.nan)[()]
        return unknown, unknown
    mean = values.mean(-1)
    with np.errstate(invalid="ignore"):
        half = scipy.stats.t.ppf(0.975, seeds - 1) * values.std(-1, ddof=1) / np.sqrt(seeds)
        known = np.where(np.isfinite(values).all(-1), half, np.nan)
    return mean - known, mean + known


@dataclasses.dataclass(frozen=True)
class Scaling:
    """How the size at which a falling quantity crosses a level grows with the dimension.

    Attributes:
      dims: the dimensions in which it crosses.
      sizes, intervals: the crossing in each, and its 95 % bootstrap interval (shape (dims, 2)).
      slope, slope_interval: of log size over log d; NaN with fewer than two dimensions.

    Intervals are NaN where there is but one seed (`resampled`).
    """

    dims: list[int]
    sizes: np.ndarray
    intervals: np.ndarray
    slope: float
    slope_interval: tuple[float, float]


def scaling(
    curves: Mapping[int, tuple[np.ndarray, np.ndarray]], level: float, num_resamples: int = 2000
) -> Scaling:
    """Crossings and their slope, from (sizes, values of shape (sizes, seeds)) by dimension.

    The means over seeds cross; the intervals are of the bootstrap over seeds.
    """
    rng = np.random.default_rng(0)
    dims, found, crossings = [], [], []
    for dim, (sizes, values) in curves.items():
        at = crossing(sizes, values.mean(-1), level) if sizes.size else np.nan
        if np.isfinite(at):
            dims.append(dim)
            found.append(float(at))
            means = resampled(values, num_resamples, rng)
            crossings.append(crossing(sizes, means, level))
    intervals = np.array([interval(draws) for draws in crossings]).reshape(-1, 2)
    slope, ends = float("nan"), (float("nan"), float("nan"))
    if len(dims) > 1:
        slope = float(log_slope(dims, np.array(found)))
        ends = interval(log_slope(dims, np.stack(crossings, axis=-1)))
    return Scaling(dims, np.array(found), intervals, slope, ends)
