"""What lazy training shows: distances from the kernel against width, and against output scale."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics, configs, lazy_training
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.lazy_training import UNKNOWN
from ntkreg.records import Record

COLUMNS = (
    "depth", "width", "loss", "output_scale", "seed", "time", "prediction_distance",
    "linearised_prediction_distance", "linearised_distance", "flow_distance", "kernel_distance",
    "linearised_error", "train_loss", "kernel_train_loss", "diverged",
)  # fmt: skip
SOURCE = "slides, Can NTK explain deep learning?"
SLOPE_TOLERANCE, NEAR, ROUNDING = 0.1, 0.01, 1e-6
WIDTH = Claim(
    statement="Wide networks, trained without λ, predict what the exact NTK predicts at the same "
    "time",
    source=f"{SOURCE}; Jacot, Gabriel, Hongler 2018; Lee et al. 2019",
    predicted="distance ∝ width^−½ at depths 2 and 3 (squared loss, within 0.1)",
)
SCALE = Claim(
    statement="At any width a large output scale makes training the kernel method of the network's "
    "own features at the start",
    source=f"{SOURCE}; Chizat, Oyallon, Bach 2019",
    # Neurons cross samples in proportion to 1/α. Where few do, the distance follows their number;
    # where many do, at random, its root. A smooth activation has 1/α throughout.
    predicted="distance from the linearised network below 1 % at the largest α, falling like "
    "α^−½ to α^−1 (within 0.1)",
)
POWER = Claim(
    statement="The linearised network descends as its empirical kernel does",
    source="Lee et al. 2019; derived here (ntkreg.training.kernel_regime)",
    predicted="outputs y − (I − 2ηK/n)^t y, to 1e-6",
    certified=True,
)
CLAIMS = (WIDTH, SCALE, POWER)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and look; what is measured at the end alone stands at the last."""
    config = configs.restored(lazy_training.Config, record)
    rows = record.table(time=config.learning_rate * lazy_training.look_steps(config))
    measured = rows[list(COLUMNS[6:])].astype(float)  # truth values too: they may be unknown
    once = [name for name in measured if record.arrays[name].ndim == len(record.axes)]
    measured[once] = measured[once].where(rows.time == rows.time.max())
    return rows.assign(**measured)[list(COLUMNS)].replace(UNKNOWN, np.nan)


def claims(record: Record) -> list[Claim]:
    """The three claims."""
    rows = at_end(table(record))
    return [width_claim(rows), scale_claim(rows), power_claim(rows)]


def at_end(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of the last look."""
    return rows[rows.time == rows.time.max()]


def against(rows: pandas.DataFrame, axis: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(values of the axis, values of the column of shape (axis, seeds))."""
    found = rows.pivot(index=axis, columns="seed", values=column)
    return found.index.to_numpy(float), found.to_numpy()


def slope(rows: pandas.DataFrame, axis: str, column: str) -> tuple[float, tuple[float, float]]:
    """The log slope of the mean over seeds along the axis, and its bootstrap interval.

    A seed has the same samples at all widths and scales, so that whole seeds are drawn.
    """
    x, values = against(rows, axis, column)
    if len(x) < 2:
        return np.nan, (np.nan, np.nan)
    draws = _statistics.resampled(values, 2000, np.random.default_rng(0), paired=True)
    found = float(_statistics.log_slope(x, values.mean(-1)))
    return found, _statistics.interval(_statistics.log_slope(x, draws))


def width_claim(rows: pandas.DataFrame) -> Claim:
    """Slopes at every depth and loss; the squared loss's decide, and both depths must be there."""
    plain = rows[rows.output_scale == 1]
    told, good, judged = [], not plain.diverged.any(), set()
    for (loss, depth), part in plain.groupby(["loss", "depth"], sort=False):
        if part.width.nunique() < 3:
            continue
        found, ends = slope(part, "width", "prediction_distance")
        change, _ = slope(part, "width", "kernel_distance")
        widest = part[part.width == part.width.max()].prediction_distance.mean()
        told.append(
            f"{loss}, depth {depth}: width^{found:.2f} [{ends[0]:.2f}, {ends[1]:.2f}], "
            f"{widest:.1%} at {part.width.max()}, the empirical NTK's change ∝ width^{change:.2f}"
        )
        if loss == "squared":
            judged.add(depth)
            good &= abs(found + 0.5) <= SLOPE_TOLERANCE
    if judged != {2, 3}:
        return WIDTH
    return dataclasses.replace(
        WIDTH,
        measured=f"at time {rows.time.max():g}: " + "; ".join(told),
        interval="95 %, bootstrap over seeds (samples and starts)",
        status="holds" if good else "fails",
    )


def scale_claim(rows: pandas.DataFrame) -> Claim:
    """The mean distance at the largest output scale, and its slope over the four largest ones."""
    scaled = _scaled(rows)
    scales = np.sort(scaled.output_scale.unique())
    if len(scales) < 2:
        return SCALE
    told, good = [], not scaled.diverged.any()
    for loss, part in scaled.groupby("loss", sort=False):
        found, ends = slope(
            part[part.output_scale >= scales[-4:][0]], "output_scale", "linearised_distance"
        )
        last, first = (part[part.output_scale == s] for s in (scales[-1], scales[0]))
        distances = last.linearised_distance.to_numpy()
        low, high = _statistics.mean_interval(distances)
        told.append(
            f"{loss}: {first.linearised_distance.mean():.1%} at α = {scales[0]:g}, "
            f"{distances.mean():.2%} [{low:.2%}, {high:.2%}] at {scales[-1]:g} (one start at "
            f"{distances.max():.2%}), ∝ α^{found:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]; from the "
            f"exact kernel {last.prediction_distance.mean():.1%}, as its own linearisation is"
        )
        falls = -1 - SLOPE_TOLERANCE <= found <= -0.5 + SLOPE_TOLERANCE
        good &= falls and high < NEAR
    return dataclasses.replace(
        SCALE,
        measured=f"width {scaled.width.iloc[0]}, at time {rows.time.max():g}: " + "; ".join(told),
        interval="95 %, bootstrap over seeds",
        status="holds" if good else "fails",
    )


def _scaled(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The networks of the one width that was run at several output scales."""
    several = rows.groupby(["depth", "width"]).output_scale.transform("nunique")
    return rows[several == several.max()]


def power_claim(rows: pandas.DataFrame) -> Claim:
    """The largest error over all linearised networks under the squared loss."""
    squared = rows[rows.loss == "squared"]
    if squared.empty:
        return POWER
    errors = squared.linearised_error.to_numpy()  # NaN where a run diverged, and in their maximum
    return dataclasses.replace(
        POWER,
        measured=f"off by at most {errors.max():.1e}, relative, over {len(errors)} networks",
        interval="largest of all",
        status="holds" if errors.max() <= ROUNDING else "fails",
    )
