"""What approximate minimizers show: from which λ on the bound is proved, and its constant."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments._claims import Claim
from ntkreg.experiments.approximate import table
from ntkreg.records import Record

LIMIT_WITHIN = 0.02  # of 1: βγ/γ* of the worst networks at the least λ
CROSSED = -1e-9  # a gap below it is not rounding: the bounds of the minimum have crossed
FINITE = ("max_margin", "log_minimum", "minimum_gap", "worst_found")  # least_proved may be −∞
CLAIM = Claim(
    statement="A network within β of the minimum has a margin ≥ γ*/(10β) once λ is small",
    source="Wei et al. 2019, Section 4, β-approximate minimizers (v4's form)",
    predicted="γ ≥ γ*/(10β) for 1 ≤ β ≤ 2; derived here: ≥ γ*/β in the limit, and no better",
    certified=True,
)


def claim(record: Record) -> Claim:
    """The claim from the rows of the record's table, as `judged`."""
    return judged(table(record))


def judged(rows: pandas.DataFrame) -> Claim:
    """Proved on all sets below some λ, and βγ/γ* within 2 % of 1 at the least: 1/β is the constant.

    A network below the proved bound makes it fail; so do values that are not there, and a minimum
    that is not known well enough to say whether the constant is within its limit. Sets that no
    network separates (max_margin 0) are left out.
    """
    rows = rows[~(rows.max_margin <= 0)]  # NaN stays: it is no set that nothing separates
    if not len(rows):
        return CLAIM
    num_sets = rows.groupby(["dim", "num_samples", "seed"]).ngroups
    begins = {name: _begins(rows, name) for name in ("least_proved", "worst_found")}
    last = rows[rows.lam == rows.lam.min()]
    constants = (last.worst_found * last.beta).groupby(last.beta).agg(["min", "max"])
    crossed = int((rows.worst_found < rows.least_proved * (1 - 1e-6) - 1e-12).sum())
    shown = ", ".join(f"{low:.3f}–{high:.3f}" for low, high in constants.to_numpy())
    betas = ", ".join(f"{beta:g}" for beta in constants.index)
    tight, doubts = _is_tight(last).all(), _doubts(rows, last)
    good = np.isfinite(begins["least_proved"]) and tight and not crossed and not doubts
    return dataclasses.replace(
        CLAIM,
        measured=f"{num_sets} data sets: γ ≥ γ*/(10β) is proved on all from λ = "
        f"{begins['least_proved']:.0e} on, and no network found breaks it from "
        f"{begins['worst_found']:.0e} on; worst found at λ = {rows.lam.min():.0e}: βγ/γ* = {shown} "
        f"for β = {betas}; {crossed} networks below the proved margin{doubts}",
        interval="ranges over all data sets",
        status="holds" if good else "fails",
    )


def _begins(rows: pandas.DataFrame, column: str) -> float:
    """The largest λ from which on the column is above the theorem's bound everywhere; else NaN."""
    good = (rows[column] >= rows.theorem).groupby(rows.lam).all().sort_index()
    held = good[good.cumprod().astype(bool)]
    return float(held.index.max()) if len(held) else float("nan")


def _is_tight(rows: pandas.DataFrame, slack: pandas.Series | float = 1.0) -> pandas.Series:
    """Whether βγ/γ* is within 2 % of 1, row by row, with β larger by the factor `slack`."""
    return (rows.worst_found * rows.beta * slack - 1).abs() <= LIMIT_WITHIN


def _doubts(rows: pandas.DataFrame, last: pandas.DataFrame) -> str:
    """What keeps the rows from deciding the claim, in words after the numbers; "" where nothing.

    The networks have F ≤ βU, where U is the upper bound of F* and U(1 − gap) the lower one: they
    are within β/(1 − gap) of the minimum, perhaps not within β. What is proved from U holds for
    networks within β of F* all the same; that no better constant does (`last`, the least λ) must be
    true with β/(1 − gap) in place of β too.
    """
    missing = ~np.isfinite(rows[[*FINITE]]).all(axis=1) | rows.least_proved.isna()
    gap = last.minimum_gap.clip(upper=1.0)  # at 1 nothing is known: β/(1 − gap) is infinite
    undecided = int(((_is_tight(last) != _is_tight(last, 1 / (1 - gap))) & gap.notna()).sum())
    crossed = int((rows.minimum_gap < CROSSED).sum())
    told = {
        f"{int(missing.sum())} of {len(rows)} rows have values that are not finite": missing.any(),
        f"at the least λ the minimum is known to {last.minimum_gap.max():.1e}, which could decide "
        f"{undecided} of {len(last)} rows": undecided,
        f"{crossed} rows in which the bounds of the minimum cross": crossed,
    }
    return "".join(f"; {words}" for words, is_so in told.items() if is_so)
