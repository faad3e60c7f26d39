"""What the phase diagram shows: regimes by test error, and the published baseline on it."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics, configs, phase_diagram
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.phase_diagram import AXIS, PUBLISHED, PUBLISHED_SCALE, PUBLISHED_WIDTH
from ntkreg.records import Record

COLUMNS = ("dataset", *AXIS, *phase_diagram.KEPT, "diverged")
LEARNED, FAILED, LEVEL = 0.05, 0.25, 0.4
TRANSITION = 1 / 16  # on D the minimizer of F_λ is Θ = 0 from here on
REGIMES = Claim(
    statement="Initial scale and λ make regimes: a small start learns D without λ, a large one "
    "only with it, and too large a λ nothing",
    source="Wei et al. 2019, Theorem 2.1 and Section 5; Chizat, Oyallon, Bach 2019; derived here "
    "for λ ≥ 1/16",
    predicted="mean test errors ≤ 5 % at λ = 0 from small r, ≥ 25 % from larger r, where one λ < "
    "1/16 makes it ≤ 5 %, and ≥ 25 % at λ ≥ 1/16",
)
BASELINE = Claim(
    statement="The published baseline without λ (width 10, r = 0.1) reaches 60 % accuracy at the "
    "published n",
    source="Smith's report on neural networks in kernel and rich regimes",
    predicted=", ".join(f"n = {n} at d = {d}" for d, n in PUBLISHED.items()) + "; within 25 %",
)
CLAIMS = (REGIMES, BASELINE)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network, at the end of its training."""
    return record.table().assign(dataset="D")[list(COLUMNS)]


def claims(record: Record) -> list[Claim]:
    """The two claims."""
    config, rows = configs.restored(phase_diagram.Config, record), table(record)
    return [regimes_claim(diagram(rows, config)), baseline_claim(baseline(rows, config))]


def diagram(rows: pandas.DataFrame, config) -> pandas.DataFrame:
    """The diagram's rows, without the baseline's that are no part of it."""
    n = config.size_over_d * config.dim
    part = rows[(rows.dim == config.dim) & (rows.num_samples == n)]
    return part[(part.seed < config.num_seeds) & part.width.isin(config.widths)]


def baseline(rows: pandas.DataFrame, config) -> pandas.DataFrame:
    """The baseline's rows."""
    sizes = {d: phase_diagram.baseline_sizes(config, d) for d in config.baseline_dims}
    wanted = [n in sizes.get(d, ()) for d, n in zip(rows.dim, rows.num_samples, strict=True)]
    part = rows[np.array(wanted) & (rows.width == PUBLISHED_WIDTH) & (rows.lam == 0)]
    return part[part.init_scale == PUBLISHED_SCALE]


def regimes_claim(rows: pandas.DataFrame) -> Claim:
    """Of the widest networks; all three must be there, and errors must not be failed fits.

    The λ that large starts need is one for all of them, that of the largest mean training margin.
    """
    widest = rows[rows.width == rows.width.max()]
    errors = widest.pivot_table(index="init_scale", columns="lam", values="test_error")
    if 0.0 not in errors or not (errors.columns >= TRANSITION).any():
        return REGIMES
    plain, small = errors[0.0], errors.columns[(errors.columns > 0) & (errors.columns < TRANSITION)]
    if small.empty:
        return REGIMES
    lam = widest[widest.lam.isin(small)].groupby("lam").normalized_margin.mean().idxmax()
    alone = plain.index[plain <= LEARNED]
    needed = plain.index[(plain >= FAILED) & (errors[lam] <= LEARNED)]
    neither = plain.index[(plain >= FAILED) & (errors[lam] >= FAILED)]
    collapsed = errors.loc[:, errors.columns >= TRANSITION].to_numpy().min()
    listed = lambda scales: ", ".join(f"{s:g}" for s in scales) or "none"
    judged = widest[(widest.lam == 0) & widest.init_scale.isin([*alone, *needed])]
    unfit, diverged = int((judged.train_error > 0).sum()), int(widest.diverged.sum())
    ordered = len(alone) > 0 and len(needed) > 0 and alone.max() < needed.min()
    good = ordered and collapsed >= FAILED and not unfit and not diverged
    return dataclasses.replace(
        REGIMES,
        measured=f"width {widest.width.iloc[0]}, n = {widest.num_samples.iloc[0]}: learned without "
        f"λ from r = {listed(alone)}; with λ = {lam:g} but not without from r = {listed(needed)}; "
        f"with neither from r = {listed(neither)}; at λ ≥ 1/16 the least error is "
        f"{collapsed:.2f}; errors at λ = 0: {', '.join(f'{e:.2f}' for e in plain)}; of these "
        f"networks {unfit} do not fit; {diverged} of {len(widest)} diverged",
        interval=f"means of {widest.seed.nunique()} seeds; λ of the largest margin",
        status="holds" if good else "fails",
    )


def crossing_of(rows: pandas.DataFrame, dim: int) -> tuple[float, tuple[float, float]]:
    """The n at which the baseline's mean accuracy is 60 % for good, and its bootstrap interval."""
    by_size = rows[rows.dim == dim].pivot(index="num_samples", columns="seed", values="test_error")
    n, errors = by_size.index.to_numpy(float), by_size.to_numpy()
    draws = _statistics.resampled(errors, 2000, np.random.default_rng(0))
    at = float(_statistics.crossing(n, errors.mean(-1), LEVEL))
    return at, _statistics.interval(_statistics.crossing(n, draws, LEVEL))


def baseline_claim(rows: pandas.DataFrame) -> Claim:
    """The crossing of 60 % accuracy within a quarter of the published n, in every dimension."""
    told, ends, good = [], [], True
    for dim in sorted(rows.dim.unique()):
        if rows[rows.dim == dim].num_samples.nunique() < 2:
            return BASELINE
        at, (low, high) = crossing_of(rows, dim)
        wanted = PUBLISHED[dim]
        good &= bool(abs(at / wanted - 1) <= 0.25)
        told.append(f"n = {at:.0f} at d = {dim}, published {wanted}")
        ends.append(f"[{low:.0f}, {high:.0f}]")
    return dataclasses.replace(
        BASELINE,
        measured="; ".join(told),
        interval=f"{', '.join(ends)}: 95 %, bootstrap over seeds",
        status="holds" if good else "fails",
    )
