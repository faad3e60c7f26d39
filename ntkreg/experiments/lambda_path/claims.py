"""What the λ-path shows: of its limit, the max margin, and of the rate at which it gets there."""

import functools
from typing import Any

import numpy as np
import pandas

from ntkreg.experiments import _statistics
from ntkreg.experiments._claims import Check, Claim, every, exact
from ntkreg.experiments.lambda_path.runs import (
    PROBLEM,
    Problem,
    best_of_seeds,
    class_sets,
    is_multiclass,
    network_of,
    random_sets,
    within,
)

THEOREM, HERE = "Wei et al., ICLR 2019, Thm 2.1", "derived here"
CERTIFIED = Claim(
    "As λ → 0 the regularised two-layer network's margin tends to the certified max margin",
    THEOREM, certified=True,
)  # fmt: skip
DEEP = Claim(
    "As λ → 0 the margin tends to the best known at depths 2 to 8, also for ‖Θ‖, ‖Θ‖⁴", THEOREM
)
CLASSES = Claim("As λ → 0 the margin of several classes tends to the best that is known", THEOREM)
EXACT_CLASSES = Claim(
    "As λ → 0 the margin of three and four classes, too, tends to the certified max margin",
    THEOREM, certified=True,
)  # fmt: skip
RATE = Claim(
    "How fast the margin comes to the max margin is known from its dual weights alone", HERE
)
ESTIMATE = Claim(
    "At Rγ* ≥ 20 the dual-weighted margin is ≥ the max margin, and 10 times nearer than the margin",
    HERE, certified=True,
)  # fmt: skip
OWN = Claim(
    "A minimizer's margin follows from its own dual weights, even where many prove the max margin",
    HERE,
)
CLAIMS = (CERTIFIED, DEEP, CLASSES, EXACT_CLASSES, RATE, ESTIMATE, OWN)
NEAR = 0.98  # of γ*: theory has more from λ = 1e-100 on, up to 1 % above the minimum
KNOWN = 1e-4  # F/F* − 1 up to which a certified minimum is known well enough
CLOSE = 1e-3  # F/F* − 1 up to which a network's margin is held against the law
OFF_LAW = 0.1  # of the distance from γ*, relative: the law's remainder is O(1/R) of it
MISSED = 0.01  # F/F* − 1 from which a network is no minimizer
ZERO = 1e-7  # norms below it are the zero network's, as at large λ: it has no margin
ROUNDING = 1e-9
LARGE = 20.0  # Rγ* from which e^(−Rγ*) is nothing, and the law is of first order


def claims(rows: pandas.DataFrame, config: Any) -> list[Claim]:
    """Those of the seven that the table has rows for."""
    several = is_multiclass(rows)
    found = (
        certified_claim(rows),
        limit_claim(DEEP, rows[~several], "two classes"),
        limit_claim(CLASSES, rows[several], "several classes"),
        classes_claim(rows),
        rate_claim(rows),
        estimate_claim(rows),
        own_claim(rows),
    )
    return [claim for claim in found if claim.checks]


def minimizers(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Certified minimizers on random sets; NaN is what is said of those not known well enough."""
    found = random_sets(rows)
    found = found[(found.start == "certified") & ~(found.norm < ZERO)]
    values = ["ratio", "shortfall", "law_error", "weighted_error"]
    return found.assign(**found[values].where(found.optimality_gap <= KNOWN, axis=0))


def radius(rows: pandas.DataFrame) -> pandas.Series:
    """Rγ*, where R is ‖Θ‖ to the order in which the network is homogeneous."""
    return rows.norm ** [network_of(of).order for of in problems(rows)] * rows.reference_margin


def problems(rows: pandas.DataFrame) -> list[Problem]:
    """The problem of each row."""
    return [Problem(*values) for values in rows[[*Problem._fields]].itertuples(index=False)]


def lost(rows: pandas.DataFrame) -> pandas.Series:
    """R(γ* − γ)/log m with m margins; above 1, where Rγ* is large, a network is no minimizer.

    At its norm the network of max margin has the loss log(1 + e^(−Rγ*)) at most on each margin, and
    that of the smallest margin is at most m times the mean.
    """
    count = [of.num_samples * (of.num_classes - 1) for of in problems(rows)]
    return radius(rows) * rows.shortfall / np.log(count)


def largest(what: str, values: pandas.Series) -> Check:
    """A finding: the largest of the values, NaN where one is."""
    return exact(what, values.max(skipna=False), runs=f"{len(values)} networks")


def certified_claim(rows: pandas.DataFrame) -> Claim:
    """True minimizers, and the trained networks that came near the minimum."""
    sets, true = random_sets(rows), minimizers(rows)
    if not len(true):
        return CERTIFIED
    last = sets.lam.min()
    best = best_of_seeds(sets[sets.lam == last])
    came = best.ratio[best.optimality_gap < MISSED]
    number = f"of {len(best)} data sets"
    short = f"training ended 1 % or more above F* on {len(best) - len(came)} {number}"
    return CERTIFIED.on(
        every("γ_λ/γ* at the smallest λ", true.ratio[true.lam == last], NEAR, "≥", "minimizers"),
        every("R(γ* − γ_λ)/log n", lost(true[~(radius(true) < LARGE)]), 1.0, "≤", "minimizers"),
        every("γ/γ* where training came to 1.01F*", came, NEAR, "≥", number),
        every("largest γ/γ*", 1 - sets.shortfall, 1 + ROUNDING, "≤", "networks"),
        apart=[short] if len(came) < len(best) else [],
    )


def limit_claim(claim: Claim, rows: pandas.DataFrame, who: str) -> Claim:
    """Trained networks from λ = 1e-100 on, beside closed forms and margins known from below."""
    checks, apart = [], []
    for kind, name in (("closed form", "γ*"), ("best known", "best known")):
        part = rows[(rows.reference_kind == kind) & ~(rows.norm < ZERO)]
        if not len(part):
            continue
        best = best_of_seeds(part[within(part.lam, 1e-100)])
        kept = best.ratio[best.converged & ~(lost(best) > 1)]
        left, number = len(best) - len(kept), f"of {len(best)} networks"
        checks.append(every(f"γ_λ/{name}, λ ≤ 1e-100, {who}", kept, 0.995, "≥", number))
        above, margins = f"largest γ/{name}, {who}", 1 - part.shortfall
        if kind == "closed form":
            checks.append(every(above, margins, 1 + ROUNDING, "≤", "networks"))
        else:
            checks.append(largest(above, margins))
            apart.append("best known: no proof that no network has a larger margin")
        apart.append(f"{left} {number} ({kind}) not stationary or no minimizers" if left else "")
    return claim.on(*checks, apart=apart)


def classes_claim(rows: pandas.DataFrame) -> Claim:
    """Networks with an output a class beside the certified max margin, minimum, and the law."""
    sets = class_sets(rows)
    if not len(sets):
        return EXACT_CLASSES
    best = best_of_seeds(sets)
    last = best[best.lam == sets.lam.min()]
    came = last.ratio[last.optimality_gap < MISSED]
    middle = best[within(best.lam, 1e-8, smallest=1e-32)]
    close = middle[middle.optimality_gap < CLOSE]
    off = (close.shortfall / (1 - close.predicted_ratio) - 1).abs()
    number, paths = f"of {len(last)} data sets", f"of {len(middle)} networks"
    short = f"training ended 1 % or more above F* on {len(last) - len(came)} {number}"
    far = f"{len(middle) - len(close)} {paths} (law) more than {100 * CLOSE:g} % above F*"
    return EXACT_CLASSES.on(
        every("γ/γ* where training came to 1.01F*, smallest λ", came, NEAR, "≥", number),
        every("largest γ/γ*", 1 - sets.shortfall, 1 + ROUNDING, "≤", "networks"),
        every("F/F* − 1", sets.optimality_gap, -ROUNDING, "≥", "networks"),
        every("distance from γ*, off the law, λ = 1e-8 to 1e-32", off, OFF_LAW, "≤", paths),
        largest("F/F* − 1, best seeds, λ ≥ 1e-8", best.optimality_gap[best.lam > 0.9e-8]),
        apart=[short * (len(came) < len(last)), far * (len(close) < len(middle))],
    )


def rate_claim(rows: pandas.DataFrame) -> Claim:
    """The law's remainder at true minimizers, and its constant at deep networks."""
    true = minimizers(rows)
    if not len(true):
        return RATE
    is_known = rows.reference_kind.isin(["closed form", "best known"]) & (rows.activation == "relu")
    is_deep = rows.depth.isin([3, 4]) & (rows.power == 2) & is_known & ~is_multiclass(rows)
    best = best_of_seeds(rows[is_deep & within(rows.lam, 1e-16)])
    came = best[best.converged]
    off = (came.shortfall / (1 - came.predicted_ratio) - 1).abs()
    return RATE.on(
        bounded("exponent of R²|γ_λ − law| in log(1/λ)", true, true.law_error),
        every("|constant/law − 1|, depths 3 and 4", off, 0.02, "≤", f"of {len(best)} networks"),
    )


def bounded(what: str, rows: pandas.DataFrame, error: pandas.Series) -> Check:
    """How the mean of |error|(Rγ*)² goes with log(1/λ), an exponent: 0 for errors ∝ R^−2.

    From λ = 1e-16 to 1e-100: at smaller λ the errors are those of the certificates.
    """
    scaled = error.abs() * radius(rows) ** 2
    rows = rows.assign(scaled=scaled, set=rows.groupby([*PROBLEM]).ngroup())
    rows = rows[within(rows.lam, 1e-16, smallest=1e-100)]
    if rows.lam.nunique() < 2:
        return exact(what, np.nan, 0.1, "≤", "fewer than two λ")
    values = _statistics.stacked(rows, "scaled", "lam", "set")
    exponent = functools.partial(_statistics.log_slope, -np.log(np.unique(rows.lam)))
    found = float(exponent(values.mean(-1)))
    draws = _statistics.resampled(values, 2000, np.random.default_rng(0), paired=True)
    ends = _statistics.interval(exponent(draws) + 0 * found)  # NaN where that is
    return Check(what, found, *ends, 0.1, "≤", f"{values.shape[-1]} data sets")


def estimate_claim(rows: pandas.DataFrame) -> Claim:
    """The dual-weighted margin of true minimizers beside their normalized margin."""
    true = minimizers(rows)
    true = true[~(radius(true) < LARGE)]
    if not len(true):
        return ESTIMATE
    error, below = true.weighted_error, true.weighted_error + 2 * true.optimality_gap
    nearer = true.shortfall / error.abs()
    return ESTIMATE.on(
        every("|γ_λ − γ*| over the estimate's error", nearer, 10.0, "≥", "minimizers"),
        every("relative error + 2(F/F* − 1)", below, -1e-6, "≥", "minimizers"),
        bounded("exponent of R²·error in log(1/λ)", true, error),
        largest("largest relative error times (Rγ*)²", radius(true) ** 2 * error),
    )


def own_claim(rows: pandas.DataFrame) -> Claim:
    """The law from a network's own dual weights, those at the path's end, and a solver's."""
    digits = best_of_seeds(rows[rows.dataset.str.startswith("digits")])
    on_d = rows[rows.dataset.str.startswith("D:")]
    on_d = pandas.concat([on_d[on_d.start == "certified"], best_of_seeds(on_d)])
    if on_d.self_predicted.isna().all():
        return OWN
    both = pandas.concat([on_d, digits])
    both, late = both[within(both.lam, 1e-8)], on_d[within(on_d.lam, 1e-32)]
    off = lambda part, name: (part[name] / part.normalized_margin - 1).abs()
    own = off(both, "self_predicted")
    return OWN.on(
        every("|law/γ_λ − 1| by own weights, λ ≤ 1e-8", own, 1e-4, "≤", "networks"),
        largest("by the last weights, D, λ ≤ 1e-32", off(late, "end_predicted")),
        largest("by a solver's weights, D, λ ≤ 1e-32", late.law_error.abs()),
    )
