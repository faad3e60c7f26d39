"""What noisy flows show: escape from certified traps, and iterations that grow polynomially."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.noisy_flow.runs import Config

SET = ["dataset", "draw"]
KNOWN = 1e-4  # relative gap up to which a level is known well enough
AT_TRAP, AT_MINIMUM = 0.01, 1e-3  # relative distances from the two levels
EPSILON_BOUND, DIM_BOUND = 4.0, 2.0  # the theorem's exponents of 1/ε and of d
NUM_RESAMPLES = 2000
SOURCE = "Wei et al. 2019, Section 3, Theorem 3.3; slides, Main Results III"
ESCAPE = Claim(
    statement="Noise carries the flow of an infinitely wide two-layer network out of traps, to the "
    "global minimum",
    source=SOURCE,
    predicted="without noise within 1 % of the trap's certified level; noise, then a quench, and "
    "uniform starts end ≤ 1e-3 above the certified minimum",
    certified=True,
)
POLYNOMIAL = Claim(
    statement="The number of iterations to relative gap ε grows at most polynomially in 1/ε and d",
    source=SOURCE,
    predicted="exponents at most 4 in 1/ε and 2 in d, by more than their intervals",
    certified=True,
)
CLAIMS = (ESCAPE, POLYNOMIAL)
Interval = tuple[float, float]


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The two claims; one that the table has no rows for is not run."""
    return [escape_claim(table), polynomial_claim(table)]


def is_proved(rows: pandas.DataFrame) -> pandas.Series:
    """Whether the levels of a row are proved; not where they are unknown."""
    return rows.proved.eq(True)


def _known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows whose levels are proved, and well enough; no claim is made from others."""
    return rows[is_proved(rows) & (rows.minimum_gap <= KNOWN)]


def escape_claim(rows: pandas.DataFrame) -> Claim:
    """Every set on its own: all seeds at the trap without noise, all at the minimum with it."""
    rows = rows[rows.part == "escape"]
    escapes = _known(rows)
    if not len(escapes):
        return ESCAPE
    is_uniform = escapes.start == "uniform"
    none = escapes[(escapes.noise == "none") & ~is_uniform]
    settled = escapes[(escapes.noise == "resample, quenched") | is_uniform]
    from_uniform, from_trap = (
        settled[(settled.start == "uniform") == uniform].final_gap.max()
        for uniform in (True, False)
    )
    trapped = none.trap_gap.abs().groupby([none[name] for name in SET]).max()
    heights = (none.trap_level / none.minimum - 1).groupby([none[name] for name in SET]).first()
    found = settled.final_gap.abs().groupby([settled[name] for name in SET]).max()
    freed = settled[settled.start != "uniform"].groupby(SET).ngroups
    good = len(trapped) == len(found) == freed and bool((heights >= 0.01).any())
    good &= bool((trapped <= AT_TRAP).all() and (found <= AT_MINIMUM).all())
    good &= not (escapes.objective.isna() | (escapes.failed != "")).any()
    good &= not rows.minimum.isna().any()  # a certificate that raised
    left = rows.groupby(SET).ngroups - len(found)
    langevin = escapes[escapes.noise.str.startswith("langevin")].final_gap
    return dataclasses.replace(
        ESCAPE,
        measured=f"{len(found)} sets, {none.seed.nunique()} seeds each ({left} more with levels "
        f"not proved to 1e-4): without noise within {trapped.max():.1e} of the trap, which lies "
        f"1 % or more above the minimum on {int((heights >= 0.01).sum())} sets, "
        f"{heights.max():.0%} at most; resampled and quenched at "
        f"most {from_trap:.1e} above the minimum; from uniform starts, with that noise and without "
        f"any, {from_uniform:.1e}; on "
        f"{int((found <= AT_MINIMUM).sum())} of {len(found)} sets ≤ 1e-3; Langevin noise, "
        f"quenched: {langevin.min():.1e}–{langevin.max():.1e}",
        interval=f"[{settled.final_gap.min():.1e}, {settled.final_gap.max():.1e}]: all with "
        "that noise, and all from uniform starts",
        status="holds" if good else "fails",
    )


def polynomial_claim(rows: pandas.DataFrame) -> Claim:
    """Slopes of log iterations; sets are the sampling unit for ε, seeds for d.

    An ε at which the initial particles already are counts for nothing.
    """
    arrivals = _known(rows[rows.part == "arrival"])
    if not len(arrivals):
        return POLYNOMIAL
    is_d = arrivals.dataset.str.startswith("D:")
    rng = np.random.default_rng(0)
    away = arrivals[~is_d].groupby([*SET, "epsilon"]).filter(lambda part: part.iterations.min() > 0)
    by_set = [part for _, part in away.groupby(SET) if part.epsilon.nunique() > 2]
    found = [slopes(part, "epsilon", rng) for part in by_set]
    each = np.array([-slope for slope, _ in found] or [np.nan])  # of 1/ε
    ends = _resampled_over_sets([-draws for _, draws in found], rng)
    of_dim, draws = slopes(arrivals[is_d], "dim", rng)
    dim_ends = _statistics.interval(draws)
    missed = int(arrivals.iterations.isna().sum())
    slope, floor_ends = floor_slope(_known(rows[rows.part == "floor"]))
    good = not missed and ends[1] < EPSILON_BOUND and dim_ends[1] < DIM_BOUND
    good &= not rows.minimum[rows.part == "arrival"].isna().any()  # a certificate that raised
    return dataclasses.replace(
        POLYNOMIAL,
        measured=f"iterations ∝ (1/ε)^{each.mean():.2f} ({each.min():.2f}–{each.max():.2f} over "
        f"{len(found)} sets, ε = {away.epsilon.max():g} … {away.epsilon.min():g}, "
        f"σ ∝ ε), ∝ d^{of_dim:.2f} on D (d = {arrivals[is_d].dim.min()} … "
        f"{arrivals[is_d].dim.max()}); {missed} of {len(arrivals)} "
        f"runs did not arrive; a constant σ ends at a gap ∝ σ^{slope:.2f} ({floor_ends})",
        interval=f"[{ends[0]:.2f}, {ends[1]:.2f}], [{dim_ends[0]:.2f}, {dim_ends[1]:.2f}]: 95 %, "
        "bootstrap over sets and seeds, over seeds",
        status="holds" if good else "fails",
    )


def slopes(part: pandas.DataFrame, size: str, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The slope of log mean iterations over log size, and those of bootstrap means over seeds."""
    values = part.pivot(index=size, columns="seed", values="iterations")
    if len(values) < 2:
        return np.nan, np.full(NUM_RESAMPLES, np.nan)
    means = _statistics.resampled(values.to_numpy(), NUM_RESAMPLES, rng)
    slope = lambda y: _statistics.log_slope(values.index.to_numpy(), y)
    return float(slope(values.to_numpy().mean(-1))), slope(means)


def _resampled_over_sets(draws: list[np.ndarray], rng: np.random.Generator) -> Interval:
    """The interval of the mean slope where sets are drawn anew, each with one of its own slopes."""
    if not draws:
        return np.nan, np.nan
    which = rng.integers(len(draws), size=(NUM_RESAMPLES, len(draws)))
    chosen = np.stack(draws)[which, np.arange(NUM_RESAMPLES)[:, None]]
    return _statistics.interval(chosen.mean(axis=1))


def floor_slope(floors: pandas.DataFrame) -> tuple[float, str]:
    """The slope of the final gap over σ with the most particles, and gaps at either end."""
    most = floors[floors.num_particles == floors.num_particles.max()]
    means = most.groupby("sigma").final_gap.mean()
    means = means[means > 0]
    if len(means) < 2:
        return np.nan, "not run"
    slope = float(_statistics.log_slope(means.index.to_numpy(), means.to_numpy()))
    ends = [f"{gap:.1e} at σ = {sigma:.0e}" for sigma, gap in means.iloc[[0, -1]].items()]
    return slope, " … ".join(ends)
