"""What noisy flows show: escape from certified traps, and iterations that grow polynomially."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics, flow_problems
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.flow_problems import UNKNOWN
from ntkreg.records import Record

COLUMNS = (
    "part", "dataset", "draw", "dim", "num_samples", "start", "noise", "sigma", "num_particles",
    "seed", "epsilon", "iterations", "minimum", "minimum_gap", "proved", "trap_level", "objective",
    "final_gap", "trap_gap", "proved_gap", "mass", "spread", "step_size", "diverged",
)  # fmt: skip
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


def table(record: Record) -> pandas.DataFrame:
    """One row for every flow.

    part: `escape`, `arrival` (a run that ends at its target ε) or `floor`. final_gap: objective
    over the certified minimum, less 1; trap_gap: over the trap's level, less 1. proved_gap: of the
    flow's own first variation. proved: whether the levels are, or their bound is a local search's.
    iterations: steps before L was at most (1 + ε) times the minimum. Empty where unknown.
    """
    found = record.table().replace(UNKNOWN, np.nan)
    problems = found.dataset.map(flow_problems.parsed)
    found["dim"] = [problem.dim for problem in problems]
    found["num_samples"] = [problem.num_samples for problem in problems]
    traps = np.array([problem.trap for problem in problems])
    found["start"] = np.where(found.trapped.astype(bool), traps, "uniform")
    kinds = np.where(found.noise == "langevin", "langevin", "resample")
    found["noise"] = np.where(found.sigma == 0, "none", kinds)
    found.loc[found.quenched.astype(bool), "noise"] += ", quenched"
    floor = (found.start == "uniform") & ~found.quenched.astype(bool) & (found.sigma > 0)
    found["part"] = np.select([found.epsilon > 0, floor], ["arrival", "floor"], "escape")
    found = found.rename(columns={"trap": "trap_level"})
    found["final_gap"] = found.objective / found.minimum - 1
    found["trap_gap"] = found.objective / found.trap_level - 1
    found["proved"], found["diverged"] = found.proved == 1, found.diverged.astype(bool)
    return found[[*COLUMNS]]


def claims(record: Record) -> list[Claim]:
    """The two claims; one that the record has no rows for is not run."""
    rows = table(record)
    return [escape_claim(rows), polynomial_claim(rows)]


def _known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows whose levels are proved, and well enough; no claim is made from others."""
    return rows[rows.proved & (rows.minimum_gap <= KNOWN)]


def escape_claim(rows: pandas.DataFrame) -> Claim:
    """Every set on its own: all seeds at the trap without noise, all at the minimum with it."""
    escapes = _known(rows[rows.part == "escape"])
    if not len(escapes):
        return ESCAPE
    is_uniform = escapes.start == "uniform"
    none = escapes[(escapes.noise == "none") & ~is_uniform]
    settled = escapes[(escapes.noise == "resample, quenched") | is_uniform]
    worst = lambda rows: rows.final_gap.max() if len(rows) else np.nan
    from_uniform, from_trap = (
        worst(settled[(settled.start == "uniform") == uniform]) for uniform in (True, False)
    )
    trapped = none.groupby(SET).trap_gap.apply(lambda gap: gap.abs().max())
    heights = none.groupby(SET).apply(lambda part: (part.trap_level / part.minimum).iloc[0] - 1)
    found = settled.final_gap.abs().groupby([settled[name] for name in SET]).max()
    freed = settled[settled.start != "uniform"].groupby(SET).ngroups
    good = len(trapped) == len(found) == freed and bool((heights >= 0.01).any())
    good &= bool((trapped <= AT_TRAP).all() and (found <= AT_MINIMUM).all())
    good &= not escapes.objective.isna().any()
    left = len(rows[rows.part == "escape"].groupby(SET)) - len(found)
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

    An ε at which a start already is counts for nothing.
    """
    arrivals = _known(rows[rows.part == "arrival"])
    if not len(arrivals):
        return POLYNOMIAL
    is_d = arrivals.dataset.str.startswith("D:")
    rng = np.random.default_rng(0)
    begins_away = lambda part: part.iterations.min() > 0
    away = arrivals[~is_d].groupby([*SET, "epsilon"]).filter(begins_away)
    by_set = [part for _, part in away.groupby(SET) if part.epsilon.nunique() > 2]
    each = np.array([epsilon_slope(part, rng) for part in by_set]).reshape(-1, 1 + NUM_RESAMPLES)
    of_epsilon = float(np.mean(each[:, 0])) if len(each) else np.nan
    least, most = (f(each[:, 0]) if len(each) else np.nan for f in (np.min, np.max))
    ends = _resampled_over_sets(each, rng)
    of_dim, dim_ends = dim_slope(arrivals[is_d], rng)
    missed = int(arrivals.iterations.isna().sum())
    slope, floor_ends = floor_slope(_known(rows[rows.part == "floor"]))
    good = not missed and ends[1] < EPSILON_BOUND and dim_ends[1] < DIM_BOUND
    return dataclasses.replace(
        POLYNOMIAL,
        measured=f"iterations ∝ (1/ε)^{of_epsilon:.2f} ({least:.2f}–{most:.2f} over "
        f"{len(each)} sets, ε = {away.epsilon.max():g} … {away.epsilon.min():g}, "
        f"σ ∝ ε), ∝ d^{of_dim:.2f} on D (d = {arrivals[is_d].dim.min()} … "
        f"{arrivals[is_d].dim.max()}); {missed} of {len(arrivals)} "
        f"runs did not arrive; a constant σ ends at a gap ∝ σ^{slope:.2f} ({floor_ends})",
        interval=f"[{ends[0]:.2f}, {ends[1]:.2f}], [{dim_ends[0]:.2f}, {dim_ends[1]:.2f}]: 95 %, "
        "bootstrap over sets and seeds, over seeds",
        status="holds" if good else "fails",
    )


def epsilon_slope(part: pandas.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Of one set: the slope of log mean iterations over log 1/ε, then bootstrap slopes."""
    values = part.pivot(index="epsilon", columns="seed", values="iterations")
    x, iterations = 1 / values.index.to_numpy(), values.to_numpy()
    means = _statistics.resampled(iterations, NUM_RESAMPLES, rng)
    slope = lambda y: _statistics.log_slope(x, y)
    return np.concatenate([[slope(iterations.mean(-1))], slope(means)])


def _resampled_over_sets(slopes: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """The interval of the mean slope where sets are drawn anew, each with one of its own slopes."""
    if not len(slopes):
        return np.nan, np.nan
    drawn = rng.integers(len(slopes), size=(NUM_RESAMPLES, len(slopes)))
    which = 1 + np.arange(NUM_RESAMPLES)[:, None]
    return _statistics.interval(slopes[drawn, which].mean(axis=1))


def dim_slope(
    part: pandas.DataFrame, rng: np.random.Generator
) -> tuple[float, tuple[float, float]]:
    """The slope of log mean iterations over log d, with its interval."""
    values = part.pivot(index="dim", columns="seed", values="iterations")
    if len(values) < 2:
        return np.nan, (np.nan, np.nan)
    means = _statistics.resampled(values.to_numpy(), NUM_RESAMPLES, rng)
    slope = lambda y: float(_statistics.log_slope(values.index.to_numpy(), y))
    slopes = _statistics.log_slope(values.index.to_numpy(), means)
    return slope(values.to_numpy().mean(-1)), _statistics.interval(slopes)


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
