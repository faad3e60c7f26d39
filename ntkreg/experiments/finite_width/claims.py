"""What finite widths show: where success begins, whether noise helps, and that insertion cures."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.finite_width.runs import CURE, GD, TOLERANCE, Config

KNOWN = TOLERANCE / 10  # relative gap up to which a certified minimum is known well enough
HALF, NUM_RESAMPLES = 0.5, 2000
CURED = 0.99
GROUP = ["lam", "optimizer", "noise"]
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


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The three claims; one that the table has no rows for is not run."""
    return [success_claim(table), noise_claim(table), cure_claim(table)]


def known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows whose minimum is proved well enough; no claim is made from others."""
    return rows[rows.proved.eq(True) & (rows.minimum_gap <= KNOWN)]


def _raised(rows: pandas.DataFrame) -> bool:
    """Whether a run raised an error: its row has no minimum. No claim holds by leaving it out."""
    return bool(rows.minimum_gap.isna().any())


def main_rows(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The first rank and initial scale, which run on all sizes."""
    rows = rows[rows.optimizer != CURE]
    return rows[(rows["rank"] == rows["rank"].head(1).sum()) & (rows.init_scale == 1.0)]


def shares(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The share of successes: a row for every width, a column for every data set."""
    rows = rows.assign(share=rows.successes / rows.starts)
    return rows.pivot_table(index="width", columns="draw", values="share")


def transitions(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Where the mean share of successes passes one half, a row by optimizer, λ, noise and size.

    width, low, high: the transition and its interval over data sets, made of `resampled`; neurons:
    of the optimum; widest: the mean share at the largest width.
    """
    rng, found = np.random.default_rng(0), []
    for key, part in main_rows(known(rows)).groupby([*GROUP, "num_samples"]):
        values = shares(part)
        means = _statistics.resampled(values.to_numpy(), NUM_RESAMPLES, rng, paired=True)
        width, resampled = (
            _statistics.crossing(values.index.to_numpy(float), 1 - share, HALF)
            for share in (values.mean(axis=1).to_numpy(), means)
        )
        neurons = part.groupby("draw").optimal_neurons.first().mean()
        ends = _statistics.interval(resampled)
        found.append((*key, float(width), *ends, resampled, neurons, values.iloc[-1].mean()))
    names = ["num_samples", "width", "low", "high", "resampled", "neurons", "widest"]
    return pandas.DataFrame(found, columns=[*GROUP, *names])


def exponent(found: pandas.DataFrame) -> tuple[float, tuple[float, float]] | None:
    """The slope of the log transition width over log n, with interval; None of less than two."""
    found = found[np.isfinite(found.width)]
    if len(found) < 2:
        return None
    slope = _statistics.log_slope(found.num_samples, found.width.to_numpy())
    spread = _statistics.log_slope(found.num_samples, np.stack(list(found.resampled), axis=-1))
    return float(slope), _statistics.interval(spread)


def success_claim(rows: pandas.DataFrame) -> Claim:
    """Whether half succeed from some width on, without noise; and how that width grows with n.

    Runs that are unfinished say nothing of the question: an optimizer and λ with more of them than
    of stationary failures are shown, and not judged.
    """
    found = transitions(rows)
    found = found[found.noise == 0.0]
    if not len(found):
        return SUCCESS
    ends = rows.groupby(GROUP)[["unfinished", "stationary"]].sum()
    slow = ends.index[ends.unfinished > ends.stationary]
    judged = found[~pandas.MultiIndex.from_frame(found[GROUP]).isin(slow)]
    words = [
        _words(part, lam, optimizer, rows[rows.optimizer == optimizer].width.max())
        for (lam, optimizer), part in found.groupby(["lam", "optimizer"])
    ]
    runs = main_rows(known(rows))
    runs = runs[runs.noise == 0.0]
    good = np.isfinite(judged.width).all() and not _raised(main_rows(rows))
    return dataclasses.replace(
        SUCCESS,
        measured="; ".join(words)
        + f"; of {(runs.starts - runs.successes).sum()} failures {runs.stationary.sum()} are "
        f"stationary; success at the widest ≥ {judged.widest.min():.0%} where runs finish "
        f"({len(judged)} of {len(found)} groups)",
        interval="95 %, bootstrap over data sets",
        status="holds" if good and len(judged) else "fails",
    )


def _words(found: pandas.DataFrame, lam: float, optimizer: str, widest: int) -> str:
    listed = lambda values: ", ".join(f"{value:.0f}" for value in values)
    widths = ", ".join(f"{w:.0f}" if np.isfinite(w) else f"above {widest}" for w in found.width)
    growth = ""
    if fitted := exponent(found):  # of those sizes at which half succeed
        growth = f", ∝ n^{fitted[0]:.2f} [{fitted[1][0]:.2f}, {fitted[1][1]:.2f}]"
    return (
        f"{optimizer}, λ = {lam:g}: half succeed at width {widths} for n = "
        f"{listed(found.num_samples)}{growth}; the optimum has {listed(found.neurons)} neurons"
    )


def noise_claim(rows: pandas.DataFrame) -> Claim:
    """Paired by data set: the share of successes over all widths with noise, less that without."""
    descents = main_rows(rows[rows.optimizer == GD])
    runs = known(descents)
    runs = runs.assign(share=runs.successes / runs.starts, noisy=runs.noise > 0)
    runs = runs[runs.lam.isin(runs.lam[runs.noisy])]
    key = ["num_samples", "draw", "lam"]
    paired = runs.pivot_table(index=key, columns="noisy", values="share").dropna()
    if paired.shape[1] < 2 or not len(paired):
        return NOISE
    change = (paired[True] - paired[False]).to_numpy()
    low, high = _statistics.mean_interval(change)
    noisy, plain = runs[runs.noisy], runs[~runs.noisy]
    return dataclasses.replace(
        NOISE,
        measured=f"share of successes over all widths, σ = {noisy.noise.max():g}: "
        f"{change.mean():+.3f} (mean of {len(change)} data sets: {(change > 0).sum()} better, "
        f"{(change < 0).sum()} worse); {noisy.unfinished.sum()} of {noisy.starts.sum()} noisy runs "
        f"unfinished, {plain.unfinished.sum()} of {plain.starts.sum()} without",
        interval=f"[{low:+.3f}, {high:+.3f}]: 95 %, bootstrap over data sets",
        status="holds" if low > 0 and not _raised(descents) else "fails",
    )


def cure_claim(rows: pandas.DataFrame) -> Claim:
    """All failures that were continued."""
    rows = rows[rows.optimizer == CURE]
    cures = known(rows)
    cures = cures[cures.failures > 0]
    if not len(cures):
        return CURING
    cured, failures = cures.cured.sum(), cures.failures.sum()
    low, high = _statistics.wilson(cured, failures)
    means = ", ".join(
        f"{part.insertions.mean():.1f} at λ = {lam:g}" for lam, part in cures.groupby("lam")
    )
    return dataclasses.replace(
        CURING,
        measured=f"{cured} of {failures} failures of width {cures.width.iloc[0]} cured "
        f"({cured / failures:.1%}), with insertions on the mean: {means}; most "
        f"{cures.insertions.max():.0f}",
        interval=f"[{low:.3f}, {high:.3f}]: 95 %, Wilson",
        status="holds" if cured / failures >= CURED and not _raised(rows) else "fails",
    )
