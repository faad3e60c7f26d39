"""What the experiment on width shows: margins, test errors, and the bound that links them."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics, configs, width
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.named_data import parsed
from ntkreg.experiments.width import AXIS, UNKNOWN
from ntkreg.records import Record
from ntkreg.theory import bounds, closed_forms
from ntkreg.training.stationarity import CONVERGED

COLUMNS = (
    "dataset", "draw", "depth", "width", "seed", "lam", "normalized_margin", "reference_margin",
    "test_error", "bound", "stationarity", "converged",
)  # fmt: skip
STEP, PLATEAU = 0.005, 0.005
SOURCE = "Wei et al. 2019, Section 4; slides, Main Results II"
WIDTH = Claim(
    statement="The max margin does not fall with width, and from n + 1 neurons on it is the "
    "certified max margin of all widths",
    source=SOURCE,
    predicted="non-decreasing; constant from width n + 1 on (two layers)",
    certified=True,
)
ERROR = Claim(
    statement="On a teacher's labels and on digits larger networks have larger margins and no "
    "larger test errors",
    source="Wei et al., the experiment on width; digits for MNIST",
    predicted="margin rises, test error falls with width",
)
BOUND = Claim(
    statement="The test error is bounded by the inverse margin, C(√(2q log 2) + 1)q^(−q/2)/(γ√n)",
    source=SOURCE + "; Golowich et al. 2018",
    predicted="error ≤ bound; bound ∝ n^−½ on D, and in depth as the closed-form margins say",
)
CLAIMS = (WIDTH, ERROR, BOUND)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and λ.

    reference_margin: the certified max margin of all widths, on random sets; bound: of the test
    error with probability 0.95 (`bounds.generalization_bound`), on D. Empty where unknown.
    """
    config = configs.restored(width.Config, record)
    ((_, rows),) = record.axes.items()
    parts = []
    for number, row in enumerate(rows):
        source = parsed(row[0])
        lams = width.lams_of(config, source)
        part = pandas.DataFrame({"lam": lams})
        for name, value in zip(AXIS, row, strict=True):
            part[name] = value
        for name in width.COLUMNS:
            values = record.arrays[name][number, : len(lams)]
            part[name] = np.where(values == UNKNOWN, np.nan, values)
        part["bound"] = np.nan
        if source.name == "D":  # the others' inputs have no bounded norm, or ten classes
            part["bound"] = bounds.generalization_bound(
                part.normalized_margin.to_numpy(), source.num_samples,
                float(part.largest_norm.iloc[0]), row[1],
            )  # fmt: skip
        parts.append(part)
    found = pandas.concat(parts, ignore_index=True)
    known = found.groupby(["dataset", "draw"]).max_margin.transform("max")
    found["reference_margin"] = known
    found["stationarity"] = np.exp(np.minimum(found.log_residual, 700.0))
    found["converged"] = found.stationarity < CONVERGED
    return found[list(COLUMNS)]


def claims(record: Record) -> list[Claim]:
    """The three claims."""
    rows = table(record)
    return [width_claim(rows), error_claim(rows), bound_claim(rows)]


def at_last_lam(rows: pandas.DataFrame, name: str) -> pandas.DataFrame:
    """The rows at the least λ of the data sets whose names begin so."""
    part = rows[rows.dataset.str.startswith(name)]
    return part[part.lam == part.lam.min()]


def best_margins(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Best of the seeds over the certified margin: one row per data set and draw, one column per
    width; sets that nothing separates are left out."""
    last = at_last_lam(rows, "random")
    last = last[last.reference_margin > 0]
    ratio = last.normalized_margin / last.reference_margin
    return ratio.groupby([last.dataset, last.draw, last.width]).max().unstack()


def width_claim(rows: pandas.DataFrame) -> Claim:
    """No step down by more than 0.5 %, and no wide network 0.5 % off the certified margin."""
    best = best_margins(rows)
    if best.shape[1] < 2:
        return WIDTH
    values = best.to_numpy()
    falls = (values[:, :-1] - values[:, 1:]).max()
    largest = [parsed(dataset).num_samples for dataset, _ in best.index]
    wide = values[np.array(best.columns)[None] > np.array(largest)[:, None]]
    off = np.abs(1 - wide).max() if wide.size else np.nan
    above = int((values > 1 + 1e-6).sum())
    shown = ", ".join(f"{best[w].median():.3f} at {w}" for w in best.columns)
    ends = f"[{wide.min():.4f}, {wide.max():.4f}]" if wide.size else "none"
    return dataclasses.replace(
        WIDTH,
        measured=f"γ/γ*, median of {len(best)} sets, best of seeds: {shown}; largest step down "
        f"{max(falls, 0.0):.4f}; from n + 1 on within {off:.4f} of the certified margin; {above} "
        "above it",
        interval=f"{ends}: all sets from width n + 1 on",
        status="holds" if falls <= STEP and off <= PLATEAU and not above else "fails",
    )


def error_claim(rows: pandas.DataFrame) -> Claim:
    """Means over the trials that both the narrowest and the widest network fit; their differences
    are taken trial by trial, since both have the same samples."""
    told, good = [], True
    for dataset in rows.dataset[rows.dataset.str.match("teacher|digits")].unique():
        part = at_last_lam(rows, dataset)
        by_trial = part.pivot(index=["draw", "seed"], columns="width")
        widths = [part.width.min(), part.width.max()]
        margin, error = (by_trial[name][widths] for name in ("normalized_margin", "test_error"))
        fits = (margin > 0).all(axis=1)
        margin, error = margin[fits].to_numpy(), error[fits].to_numpy()
        if not fits.any() or widths[0] == widths[1]:
            good = False
            continue
        gain = _statistics.mean_interval(np.diff(margin)[:, 0])
        fall = _statistics.mean_interval(np.diff(error)[:, 0])
        told.append(
            f"{dataset}, width {widths[0]} → {widths[1]}, {fits.sum()} of {len(fits)} trials fit: "
            f"margin {margin[:, 0].mean():.5f} → {margin[:, 1].mean():.5f}, error "
            f"{error[:, 0].mean():.4f} → {error[:, 1].mean():.4f}, its change "
            f"[{fall[0]:.4f}, {fall[1]:.4f}]"
        )
        good &= gain[0] > 0 and fall[1] < 0
    if not told:
        return ERROR
    return dataclasses.replace(
        ERROR,
        measured="; ".join(told),
        interval="95 %, bootstrap over trials, paired",
        status="holds" if good else "fails",
    )


def bound_claim(rows: pandas.DataFrame) -> Claim:
    """On D: no error above the bound, the bound's slope in n, and its growth with depth.

    The first tells nothing where all bounds are above 1: how many are below is counted.
    """
    last = at_last_lam(rows, "D:")
    if not len(last):
        return BOUND
    told = rows[rows.bound.notna()]
    broken, telling = int((told.test_error > told.bound).sum()), int((told.bound < 1).sum())
    sizes = last.dataset.map(lambda name: parsed(name).num_samples)
    means = last[last.normalized_margin > 0].groupby([last.depth, sizes]).bound.mean().unstack()
    wide = means.loc[:, means.columns >= 8 * parsed(last.dataset.iloc[0]).sizes[0]]
    if wide.shape[1] < 2 and not broken:
        return BOUND
    slopes = np.array([_statistics.log_slope(list(wide.columns), row) for row in wide.to_numpy()])
    growth = []
    for depth in means.index[1:]:
        ratio = means.loc[depth].iloc[-1] / means.loc[means.index[0]].iloc[-1]
        growth.append(ratio / _predicted_growth(means.index[0], depth))
    good = not broken and np.abs(slopes + 0.5).max() <= 0.05
    good &= len(growth) > 0 and np.abs(np.array(growth) - 1).max() <= 0.1
    largest = means.columns.max()
    shown = ", ".join(f"{means.loc[q, largest]:.2f} (depth {q})" for q in means.index)
    return dataclasses.replace(
        BOUND,
        measured=f"{broken} of {len(told)} networks and λ above the bound, which is below "
        f"1 for {telling}; bound ∝ n^"
        f"{slopes.mean():.2f} from n = 8d on; at n = {largest}: {shown}, where the mean error is "
        f"{last[sizes == largest].test_error.mean():.4f}; growth with depth over the predicted "
        f"one: {', '.join(f'{g:.3f}' for g in growth) or 'not run'}",
        interval=f"[{slopes.min():.2f}, {slopes.max():.2f}]: slopes at all depths",
        status="holds" if good else "fails",
    )


def _predicted_growth(shallow: int, deep: int) -> float:
    """The ratio of the bounds' main terms on D's population, by the margins in closed form."""
    term = lambda q: (
        (np.sqrt(2 * q * np.log(2)) + 1) * q ** (-q / 2) / closed_forms.population_margin(q)
    )
    return term(deep) / term(shallow)
