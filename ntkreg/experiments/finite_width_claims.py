"""What finite widths show: where success begins, whether noise helps, and that insertion cures."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.finite_width_runs import CURE, GD, TOLERANCE
from ntkreg.records import Record

COLUMNS = (
    "dataset", "rank", "num_samples", "draw", "width", "lam", "optimizer", "noise", "init_scale",
    "starts", "successes", "stationary", "unfinished", "best_gap", "median_gap", "minimum",
    "minimum_gap", "proved", "optimal_neurons", "failures", "cured", "insertions",
)  # fmt: skip
STATIONARY = 1e-2  # residual, against the penalty's force, below which a run has come to rest
KNOWN = TOLERANCE / 10  # relative gap up to which a certified minimum is known well enough
HALF, NUM_RESAMPLES = 0.5, 2000
CURED = 0.99
SUCCESS = Claim(
    statement="At finite width descent reaches the certified global minimum from most starts, "
    "above a transition width",
    source="slides, the open question; derived here",
    predicted="open; that half of the runs succeed from some width on. n + 1 neurons suffice for a "
    "minimizer to exist",
    certified=True,
)
NOISE = Claim(
    statement="Resampling noise, quenched, helps gradient descent to the global minimum at finite "
    "width",
    source="slides, the open question; Wei et al. 2019, Section 3, at infinite width",
    predicted="open: share of successes with noise less that without > 0",
    certified=True,
)
CURING = Claim(
    statement="Inserting the direction that the dual oracle misses, and training on, turns every "
    "failure into the certified minimum",
    source="derived here (ntkreg.certificates.insertion); Bach 2017 for column generation",
    predicted="≥ 99 % of the failures",
    certified=True,
)
CLAIMS = (SUCCESS, NOISE, CURING)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and data set.

    successes: starts within 1e-3 of the certified minimum; the others are stationary, with a
    residual below 1e-2, or unfinished. failures, cured: of the starts that insertion continued,
    those that had failed, and those of them that then were global; insertions: their mean number.
    optimal_neurons: of the certified network. proved: whether its bound is.
    """
    found = record.table()
    gaps, cured, added = (record.arrays[name] for name in ("gaps", "cured_gaps", "insertions"))
    known = ~np.isposinf(gaps)  # NaN is a start that diverged
    found["starts"] = known.sum(axis=1)
    success = known & (gaps <= TOLERANCE)
    resting = record.arrays["log_residuals"] < np.log(STATIONARY)
    found["successes"] = success.sum(axis=1)
    found["stationary"] = (known & ~success & resting).sum(axis=1)
    found["unfinished"] = (known & ~success & ~resting).sum(axis=1)
    found["best_gap"], found["median_gap"] = _reduced(gaps, known)
    failed = known & ~success & ~np.isposinf(cured)
    found["failures"] = failed.sum(axis=1)
    found["cured"] = (failed & (cured <= TOLERANCE)).sum(axis=1)
    with np.errstate(invalid="ignore"):
        found["insertions"] = np.where(failed, added, 0).sum(axis=1) / failed.sum(axis=1)
    found["proved"] = found.proved == 1
    found["optimal_neurons"] = found.neurons.astype(int)
    found["dataset"] = "random"
    return found[[*COLUMNS]]


def _reduced(gaps: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.where(known, gaps, np.nan)
    return np.nanmin(values, axis=1), np.nanmedian(values, axis=1)


def claims(record: Record) -> list[Claim]:
    """The three claims; one that the record has no rows for is not run."""
    rows = table(record)
    return [success_claim(rows), noise_claim(rows), cure_claim(rows)]


def known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows whose minimum is proved well enough; no claim is made from others."""
    return rows[rows.proved & (rows.minimum_gap <= KNOWN)]


def main_rows(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The first rank and initial scale, which run on all sizes."""
    rows = rows[rows.optimizer != CURE]
    if not len(rows):
        return rows
    return rows[(rows["rank"] == rows["rank"].iloc[0]) & (rows.init_scale == 1.0)]


def shares(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The share of successes: a row for every width, a column for every data set."""
    rows = rows.assign(share=rows.successes / rows.starts)
    return rows.pivot_table(index="width", columns="draw", values="share")


@dataclasses.dataclass(frozen=True)
class Transition:
    """Where the mean share of successes passes one half, with its interval over data sets."""

    lam: float
    optimizer: str
    noise: float
    num_samples: int
    width: float
    interval: tuple[float, float]
    resampled: np.ndarray
    neurons: float
    widest: float


def transitions(rows: pandas.DataFrame) -> list[Transition]:
    """The transition of every optimizer, λ, noise and size; data sets are the sampling unit."""
    rng = np.random.default_rng(0)
    found = []
    for (lam, optimizer, noise, num_samples), part in main_rows(known(rows)).groupby(
        ["lam", "optimizer", "noise", "num_samples"]
    ):
        values = shares(part)
        widths = values.index.to_numpy(float)
        means = _statistics.resampled(values.to_numpy(), NUM_RESAMPLES, rng, paired=True)
        at = lambda share: _statistics.crossing(widths, 1 - share, HALF)  # noqa: B023
        width = float(at(values.mean(axis=1).to_numpy()))
        resampled = at(means)
        ends = _statistics.interval(resampled)
        neurons = float(part.groupby("draw").optimal_neurons.first().mean())
        widest = float(values.iloc[-1].mean())
        key = (float(lam), str(optimizer), float(noise), int(num_samples))
        found.append(Transition(*key, width, ends, resampled, neurons, widest))
    return found


def exponents(found: list[Transition]) -> dict[tuple, tuple[float, tuple[float, float]]]:
    """By (λ, optimizer, noise): the slope of the log transition width over log n, with interval."""
    groups: dict[tuple, list[Transition]] = {}
    for one in found:
        if np.isfinite(one.width):
            groups.setdefault((one.lam, one.optimizer, one.noise), []).append(one)
    slopes = {}
    for key, ones in groups.items():
        sizes = [one.num_samples for one in ones]
        if len(sizes) > 1:
            slope = _statistics.log_slope(sizes, np.array([one.width for one in ones]))
            spread = _statistics.log_slope(
                sizes, np.stack([one.resampled for one in ones], axis=-1)
            )
            slopes[key] = float(slope), _statistics.interval(spread)
    return slopes


def success_claim(rows: pandas.DataFrame) -> Claim:
    """Whether half succeed from some width on, without noise; and how that width grows with n.

    Runs that are unfinished say nothing of the question: a group with more of them than of
    stationary failures is shown, and not judged.
    """
    found = [one for one in transitions(rows) if one.noise == 0.0]
    if not found:
        return SUCCESS
    judged = [one for one in found if not _is_unfinished(rows, one)]
    slopes = exponents(found)
    words = []
    for (lam, optimizer), ones in _grouped(found).items():
        widest = f"above {rows[rows.optimizer == optimizer].width.max()}"
        at = ", ".join(f"{one.width:.0f}" if np.isfinite(one.width) else widest for one in ones)
        sizes = ", ".join(str(one.num_samples) for one in ones)
        neurons = ", ".join(f"{one.neurons:.0f}" for one in ones)
        growth = ""
        if (lam, optimizer, 0.0) in slopes:  # of those sizes at which half succeed
            slope, ends = slopes[lam, optimizer, 0.0]
            growth = f", ∝ n^{slope:.2f} [{ends[0]:.2f}, {ends[1]:.2f}]"
        words.append(
            f"{optimizer}, λ = {lam:g}: half succeed at width {at} for n = {sizes}{growth}; the "
            f"optimum has {neurons} neurons"
        )
    least = min(one.widest for one in judged) if judged else np.nan
    failed = main_rows(known(rows))
    failed = failed[failed.noise == 0.0]
    return dataclasses.replace(
        SUCCESS,
        measured="; ".join(words)
        + f"; of {int((failed.starts - failed.successes).sum())} failures "
        f"{int(failed.stationary.sum())} are stationary; success at the widest ≥ {least:.0%} where "
        f"runs finish ({len(judged)} of {len(found)} groups)",
        interval="95 %, bootstrap over data sets",
        status="holds" if judged and all(np.isfinite(one.width) for one in judged) else "fails",
    )


def _grouped(found: list[Transition]) -> dict[tuple[float, str], list[Transition]]:
    groups: dict[tuple[float, str], list[Transition]] = {}
    for one in found:
        groups.setdefault((one.lam, one.optimizer), []).append(one)
    return groups


def _is_unfinished(rows: pandas.DataFrame, one: Transition) -> bool:
    part = rows[
        (rows.lam == one.lam) & (rows.optimizer == one.optimizer) & (rows.noise == one.noise)
    ]
    return bool(part.unfinished.sum() > part.stationary.sum())


def noise_claim(rows: pandas.DataFrame) -> Claim:
    """Paired by data set: the share of successes over all widths with noise, less that without."""
    runs = main_rows(known(rows))
    runs = runs[(runs.optimizer == GD)]
    runs = runs.assign(share=runs.successes / runs.starts, noisy=runs.noise > 0)
    key = ["num_samples", "draw", "lam"]
    runs = runs[runs.lam.isin(runs.lam[runs.noisy])]
    paired = runs.pivot_table(index=key, columns="noisy", values="share").dropna()
    if paired.shape[1] < 2 or not len(paired):
        return NOISE
    change = (paired[True] - paired[False]).to_numpy()
    low, high = _statistics.mean_interval(change)
    noisy, plain = runs[runs.noisy], runs[~runs.noisy]
    return dataclasses.replace(
        NOISE,
        measured=f"share of successes over all widths, σ = {noisy.noise.max():g}: "
        f"{change.mean():+.3f} (mean of {len(change)} data sets: {int((change > 0).sum())} better, "
        f"{int((change < 0).sum())} worse); {int(noisy.unfinished.sum())} of {noisy.starts.sum()} "
        f"noisy runs unfinished, {int(plain.unfinished.sum())} of {plain.starts.sum()} without",
        interval=f"[{low:+.3f}, {high:+.3f}]: 95 %, bootstrap over data sets",
        status="holds" if low > 0 else "fails",
    )


def cure_claim(rows: pandas.DataFrame) -> Claim:
    """All failures that were continued."""
    cures = known(rows[rows.optimizer == CURE])
    failures = int(cures.failures.sum())
    if not failures:
        return CURING
    share = cures.cured.sum() / failures
    low, high = _statistics.wilson(cures.cured.sum(), failures)
    by_lam = cures[cures.failures > 0].groupby("lam")
    words = [f"{part.insertions.mean():.1f} at λ = {lam:g}" for lam, part in by_lam]
    return dataclasses.replace(
        CURING,
        measured=f"{int(cures.cured.sum())} of {failures} failures of width "
        f"{cures.width.iloc[0]} cured ({share:.1%}), with insertions on the mean: "
        f"{', '.join(words)}; most {cures.insertions.max():.0f}",
        interval=f"[{low:.3f}, {high:.3f}]: 95 %, Wilson",
        status="holds" if share >= CURED else "fails",
    )
