"""What finite width shows: the share of starts that end at the minimum, noise, insertion."""

import functools

import numpy as np
import pandas

from ntkreg.experiments import _claims, _statistics
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments.finite_width.runs import ADAM, CURE, GD, TOLERANCE, Config

KNOWN = TOLERANCE / 10  # relative gap up to which a certified minimum is known well enough
HALF, NUM_RESAMPLES = 0.5, 2000
PAIRED = "data sets, paired"
SUCCESS = Claim(
    statement="The share of random starts from which descent ends at the certified minimum",
    source="open question of the slides",
    certified=True,
)
NOISE = Claim(
    statement="Quenched noise helps gradient descent to the minimum at finite width",
    source="open question of the slides",
    certified=True,
)
CURING = Claim(
    statement="Inserting the neurons that the dual asks for brings failed runs to the minimum",
    source="derived here; Bach 2017",
    certified=True,
)
CURED = 0.85  # of the failures, at least
CLAIMS = (SUCCESS, NOISE, CURING)
SHARES = {  # of starts, for the widest networks: optimizer, which λ
    "Adam, widest network, smallest λ": (ADAM, min),
    "Adam, widest network, largest λ": (ADAM, max),
    "gradient descent, widest network, largest λ": (GD, max),
}


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for."""
    made = success_claim(table), noise_claim(table), cure_claim(table)
    return [claim for claim in made if claim.checks]


def known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Rows whose minimum is proved well enough, and those that raised an error, which have none."""
    return rows[~(rows.proved.eq(False) | (rows.minimum_gap > KNOWN))]


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

    width, low, high: the transition and its interval over data sets, made of `resampled`.
    """
    rng, found = np.random.default_rng(0), []
    by = ["lam", "optimizer", "noise", "num_samples"]
    for key, part in main_rows(known(rows)).groupby(by):
        values = shares(part)
        means = _statistics.resampled(values.to_numpy(), NUM_RESAMPLES, rng, paired=True)
        width, resampled = (
            _statistics.crossing(values.index.to_numpy(float), 1 - share, HALF)
            for share in (values.mean(axis=1).to_numpy(), means)
        )
        found.append((*key, float(width), *_statistics.interval(resampled), resampled))
    return pandas.DataFrame(found, columns=[*by, "width", "low", "high", "resampled"])


def exponent(found: pandas.DataFrame) -> Check:
    """Of n in the transition width; NaN where half succeed at no width of some size."""
    what, runs = "exponent of n in the width of half success", f"{len(found)} sizes"
    if len(found) < 2:
        return _claims.exact(what, np.nan, runs=runs)
    slope = functools.partial(_statistics.log_slope, found.num_samples)
    ends = _statistics.interval(slope(np.stack(list(found.resampled), axis=-1)))
    return Check(what, float(slope(found.width.to_numpy())), *ends, runs=runs)


def success_claim(rows: pandas.DataFrame) -> Claim:
    """The share by optimizer and λ, without noise, and what becomes of the failures."""
    every = main_rows(rows)
    runs = known(every)[known(every).noise == 0.0]
    checks = []
    for what, (optimizer, which) in SHARES.items():
        part = runs[runs.optimizer == optimizer]
        part = part[(part.lam == which(part.lam, default=0)) & (part.width == part.width.max())]
        checks.append(_claims.mean(what, part.successes / part.starts, runs="data sets"))
    failures = (runs.starts - runs.successes).sum()
    resting = _claims.share("failures at rest", runs.stationary.sum(), failures, runs="failures")
    adam = transitions(runs[(runs.optimizer == ADAM) & (runs.lam == runs.lam.max())])
    found = SUCCESS.on(*checks, resting, exponent(adam), apart=[_unproved(every)])
    return found if len(every) else SUCCESS


def noise_claim(rows: pandas.DataFrame) -> Claim:
    """Paired by data set: the share of successes over all widths with noise, less that without."""
    runs = main_rows(rows[rows.optimizer == GD])
    runs = runs[runs.lam.isin(runs.lam[runs.noise > 0])]
    if runs.noise.nunique() < 2:
        return NOISE
    by = [runs.num_samples, runs.draw, runs.lam, runs.noise > 0]
    ends = known(runs).groupby(by)[["starts", "successes", "stationary", "unfinished"]]
    total = ends.agg(lambda part: part.to_numpy().sum())  # NaN of a run that raised an error stays
    shares = lambda of: (total.successes / of).unstack().reindex(columns=[True, False])
    change = lambda of: shares(of)[True] - shares(of)[False]
    finished = total.successes + total.stationary
    unfinished = total.groupby("noise")[["unfinished", "starts"]].sum()
    late = [
        f"{row.unfinished} of {row.starts} runs with{'' if noisy else 'out'} noise are unfinished"
        for noisy, row in unfinished.iterrows()
    ]
    return NOISE.on(
        _claims.mean("change of the share of finished runs", change(finished), 0, "≥", PAIRED),
        _claims.mean("change of the share of all runs", change(total.starts), runs=PAIRED),
        apart=[*late, _unproved(runs)],
    )


def cure_claim(rows: pandas.DataFrame) -> Claim:
    """The share of failures that insertion brings to the minimum; a run that raised an error hides
    how many there are.

    On the others the optimizer stalls above it, which is no matter of the theorem.
    """
    rows = rows[rows.optimizer == CURE]
    cures = known(rows)[known(rows).failures != 0]
    cured, failures = (cures[name].sum(skipna=False) for name in ("cured", "failures"))
    cured, failures = (int(n) if np.isfinite(failures) else 0 for n in (cured, failures))
    left = f"{failures - cured} failures where the optimizer stalls above the minimum"
    found = CURING.on(
        _claims.share("share of failures cured", cured, failures, CURED, "≥", runs="failures"),
        _claims.mean("insertions", cures.insertions, runs="networks that failed"),
        apart=[_unproved(rows), left if failures > cured else ""],
    )
    return found if len(rows) else CURING


def _unproved(rows: pandas.DataFrame) -> str:
    count = len(rows) - len(known(rows))
    return f"{count} of {len(rows)} networks have no proved minimum" if count else ""
