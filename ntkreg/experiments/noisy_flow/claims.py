"""What noisy flows show: escape from certified traps, and iterations that grow polynomially."""

import math

import numpy as np
import pandas

from ntkreg.experiments import _claims, _statistics
from ntkreg.experiments._claims import Check, Claim, every
from ntkreg.experiments.noisy_flow.runs import Config

SET = ["dataset", "draw"]
KNOWN = 1e-4  # relative gap up to which a level is known well enough
AT_TRAP, AT_MINIMUM = 0.01, 1e-3  # relative distances from the two levels
EPSILON_POWER, DIM_POWER = 4.0, 2.0  # the theorem's exponents of 1/ε and of d
NUM_RESAMPLES = 2000
SOURCE = "Wei et al., Theorem 3.3"
ESCAPE = Claim(
    "Noise carries an infinitely wide network's gradient flow out of traps, to the minimum",
    SOURCE, certified=True,
)  # fmt: skip
POLYNOMIAL = Claim(
    "Noisy descent needs at most O(d²/ε⁴) iterations to a relative gap ε", SOURCE, certified=True
)
CLAIMS = (ESCAPE, POLYNOMIAL)
Interval = tuple[float, float]


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The two claims, of the parts that were run."""
    judged = {"escape": escape_claim, "arrival": polynomial_claim}
    return [claim(table) for part, claim in judged.items() if (table.part == part).any()]


def is_proved(rows: pandas.DataFrame) -> pandas.Series:
    """Whether the levels of a row are proved; not where they are unknown."""
    return rows.proved.eq(True)


def known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows whose levels are proved, and well enough; no claim is made from others."""
    return rows[is_proved(rows) & (rows.minimum_gap <= KNOWN)]


def unit_of(rows: pandas.DataFrame) -> pandas.Series:
    """The unit of each flow, which results from before there were two do not name."""
    return rows.get("unit", pandas.Series("relu", rows.index)).fillna("relu")


def escape_claim(rows: pandas.DataFrame) -> Claim:
    """Flows from the trap without noise, with it, and from uniform particles, of relu units.

    Those of soft units, whose minimum is not certified, beside the best that any of them found.
    """
    rows = rows[rows.part == "escape"]
    flows = known(rows[unit_of(rows) == "relu"])
    is_uniform, is_quenched = flows.start == "uniform", flows.noise == "resample, quenched"
    none = flows[(flows.noise == "none") & ~is_uniform]
    heights = none.trap_level / none.minimum - 1
    noisy, uniform = flows[is_quenched & ~is_uniform], flows[is_uniform]
    open_sets = rows[unit_of(rows) == "relu"].groupby(SET).ngroups - flows.groupby(SET).ngroups
    return ESCAPE.on(
        every(
            "largest gap to the minimum, noise then quench",
            noisy.final_gap,
            AT_MINIMUM,
            "≤",
            "flows",
        ),
        every(
            "largest gap to the minimum, uniform start", uniform.final_gap, AT_MINIMUM, "≤", "flows"
        ),
        every(
            "largest distance from the trap, no noise", none.trap_gap.abs(), AT_TRAP, "≤", "flows"
        ),
        _claims.exact("highest trap above its minimum", heights.max(), AT_TRAP, "≥"),
        *_soft(rows[unit_of(rows) == "soft_relu"]),
        apart=[f"{open_sets} sets whose levels are not proved to {KNOWN:g}" if open_sets else ""],
    )


def _soft(rows: pandas.DataFrame) -> list[Check]:
    """The same of differentiable units, as in the theorem: above the best that a set's had."""
    if not len(rows):
        return []
    best = rows.groupby(SET).objective.transform("min")
    above = rows.objective / best - 1
    trapped = above[(rows.noise == "none") & (rows.start != "uniform")]
    noisy = above[(rows.noise == "resample, quenched") & (rows.start != "uniform")]
    what = "gap to the best found, soft relu, noise"
    return [
        every(what, noisy, AT_MINIMUM, "≤", "flows"),
        every("gap to the best found, soft relu, none", trapped, AT_TRAP, "≥", "flows"),
    ]


def polynomial_claim(rows: pandas.DataFrame) -> Claim:
    """No run needed more than the theorem's growth from the easiest ε, and the easiest d, on.

    Exponents are findings: above 4 in 1/ε, or 2 in d, they would contradict the theorem. Sets are
    the sampling unit for ε, seeds for d. An ε at which the initial particles already are counts for
    nothing, and a run that was cut before it arrived is counted apart.
    """
    arrivals = known(rows[rows.part == "arrival"])
    arrived, rng = arrivals[arrivals.iterations.notna()], np.random.default_rng(0)
    is_d = arrived.dataset.str.startswith("D:")
    away = arrived[~is_d].groupby([*SET, "epsilon"]).filter(lambda part: part.iterations.min() > 0)
    by_set = [part for _, part in away.groupby(SET) if part.epsilon.nunique() > 2]
    of_epsilon, of_dim = [over_first(part, "epsilon") for part in by_set], arrived[is_d]
    found = [slopes(part, "epsilon", rng) for part in by_set]
    each = [-slope for slope, _ in found]
    mean = float(np.mean(each)) if each else math.nan
    slope, draws = slopes(of_dim, "dim", rng)
    missed, sets = len(arrivals) - len(arrived), f"{len(found)} sets"
    ends = _resampled_over_sets([-draws for _, draws in found], rng)
    return POLYNOMIAL.on(
        every("iterations over (1/ε)⁴ times the first's", np.concatenate([*of_epsilon, []]), 1.0,
              "≤", "runs"),
        every("iterations over d² times the first's", over_first(of_dim, "dim"), 1.0, "≤", "runs"),
        Check("exponent of iterations in 1/ε", mean, *ends, runs=sets),
        Check("exponent of iterations in d", slope, *_statistics.interval(draws), runs="seeds"),
        _floor(known(rows[rows.part == "floor"])),
        apart=[f"{missed} of {len(arrivals)} flows were cut before they arrived" if missed else ""],
    )  # fmt: skip


def over_first(part: pandas.DataFrame, size: str) -> np.ndarray:
    """Iterations of every run over the theorem's growth from the mean at the easiest size on."""
    if part[size].nunique() < 2:
        return np.zeros(0)
    first = part[size].max() if size == "epsilon" else part[size].min()
    power = -EPSILON_POWER if size == "epsilon" else DIM_POWER
    start = part.iterations[part[size] == first].mean()
    others = part[part[size] != first]
    return (others.iterations / (start * (others[size] / first) ** power)).to_numpy()


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
    if len(draws) < 2:
        return math.nan, math.nan
    which = rng.integers(len(draws), size=(NUM_RESAMPLES, len(draws)))
    chosen = np.stack(draws)[which, np.arange(NUM_RESAMPLES)[:, None]]
    return _statistics.interval(chosen.mean(axis=1))


def _floor(floors: pandas.DataFrame) -> Check:
    """The exponent of the final gap in σ, with the most particles."""
    most = floors[(floors.num_particles == floors.num_particles.max()) & (floors.final_gap > 0)]
    gaps = [part.final_gap.to_numpy() for _, part in most.groupby("sigma")]
    slope, ends = _statistics.log_slope_of_means(sorted(set(most.sigma)), gaps)
    return Check("exponent of the final gap in a constant σ", slope, *ends, runs="seeds")
