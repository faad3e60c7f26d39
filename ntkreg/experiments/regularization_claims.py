"""What regularisation does to a start: margins, errors, activation patterns and the kernel."""

import dataclasses

import numpy as np
import pandas

from ntkreg.claims import Claim
from ntkreg.experiments import configs, descents, regularization, statistics
from ntkreg.experiments.regularization import AXIS
from ntkreg.experiments.width import parsed
from ntkreg.records import Record

COLUMNS = (
    "dataset", "dim", "num_samples", "width", "output_scale", "lam", "seed", "look", "step",
    "kernel_distance", "prediction_distance", "activation_change", "normalized_margin",
    "train_error", "test_error", "train_loss", "norm", "diverged",
)  # fmt: skip
FIT = "first fit"
SOURCE = "Wei et al. 2019, Section 5, regularisation against none"
LEAST_CHANGE, LEAST_DRIFT, MOST_LAZY = 0.2, 0.5, 0.05
COMPARED = ("normalized_margin", "test_error", "activation_change")
BETTER = Claim(
    statement="From the same start the regularised network has the larger margin, the smaller test "
    "error and more changed activation patterns",
    source=SOURCE,
    predicted="differences to λ = 0 above, below and above 0, at the largest n",
)
LEAVES = Claim(
    statement="With λ a network leaves the kernel regime; without it a wide one fits its samples "
    "inside",
    source=f"{SOURCE}; slides, Can NTK explain deep learning?",
    predicted="at output scale 1: with λ ≥ 20 % of activation patterns change and the empirical "
    "NTK moves by > 50 %; without, at the largest width and first fit, < 5 % change",
)
CLAIMS = (BETTER, LEAVES)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and look: "first fit", then "on the way", at last "end"."""
    config = configs.restored(regularization.Config, record)
    ((_, rows), (_, seeds)) = record.axes.items()
    looks = [FIT, *["on the way"] * (config.num_looks - 1), "end"]
    parts = []
    for number, row in enumerate(rows):
        for position, (seed,) in enumerate(seeds):
            part = pandas.DataFrame({"look": looks})
            for name, value in zip(AXIS, row, strict=True):
                part[name] = value
            part["seed"], part["output_scale"] = seed, config.output_scale
            for name in (*descents.COLUMNS, "diverged"):
                part[name] = record.arrays[name][number, position]
            parts.append(part)
    found = pandas.concat(parts, ignore_index=True)
    found["dim"], found["num_samples"] = zip(*(parsed(d).sizes for d in found.dataset), strict=True)
    found["dataset"] = [parsed(d).name for d in found.dataset]
    return found[list(COLUMNS)]


def claims(record: Record) -> list[Claim]:
    """The two claims."""
    config, rows = configs.restored(regularization.Config, record), table(record)
    return [better_claim(rows, config.width), leaves_claim(rows, config.width)]


def ends(rows: pandas.DataFrame, width: int) -> pandas.DataFrame:
    """The ends of the networks of the width that is trained with every λ."""
    return rows[(rows.look == "end") & (rows.width == width)]


def _differences(part: pandas.DataFrame, column: str) -> tuple[float, tuple[float, float]]:
    """Mean over seeds of the value at the largest λ less that at 0, and its bootstrap interval."""
    by_lam = part.pivot(index="seed", columns="lam", values=column)
    values = (by_lam[by_lam.columns.max()] - by_lam[0.0]).to_numpy()
    draws = statistics.resampled_means(values, 2000, np.random.default_rng(0))
    return float(values.mean()), statistics.interval(draws)


def better_claim(rows: pandas.DataFrame, width: int) -> Claim:
    """Paired over seeds, on every data set at its largest n, where both fit."""
    last = ends(rows, width)
    last = last[last.num_samples == last.num_samples.max()]
    if last.lam.nunique() < 2 or 0.0 not in set(last.lam):
        return BETTER
    told, good = [], not last.diverged.any()
    for dataset, part in last.groupby("dataset", sort=False):
        found = {name: _differences(part, name) for name in COMPARED}
        margin, error, change = (found[name][1] for name in COMPARED)
        good &= margin[0] > 0 and error[1] < 0 and change[0] > 0
        unfit = part[part.train_error > 0]
        of = lambda name, lam, part=part: part[part.lam == lam][name].mean()
        top = part.lam.max()
        told.append(
            f"{dataset}, n = {part.num_samples.max()}, λ = 0 → {top:g}: margin "
            f"{of(COMPARED[0], 0):.4f} → {of(COMPARED[0], top):.4f}, its change [{margin[0]:.4f}, "
            f"{margin[1]:.4f}]; error {of(COMPARED[1], 0):.3f} → {of(COMPARED[1], top):.3f} "
            f"[{error[0]:.3f}, {error[1]:.3f}]; patterns changed {of(COMPARED[2], 0):.1%} → "
            f"{of(COMPARED[2], top):.1%}; {len(unfit)} of {len(part)} networks do not fit"
        )
    return dataclasses.replace(
        BETTER,
        measured="; ".join(told),
        interval="95 %, bootstrap over seeds, paired",
        status="holds" if good else "fails",
    )


def leaves_claim(rows: pandas.DataFrame, width: int) -> Claim:
    """Means over seeds on the first data set at its largest n; each bound by its interval."""
    part = rows[rows.dataset == rows.dataset.iloc[0]]
    part = part[part.num_samples == part.num_samples.max()]
    last = ends(part, width)
    regularized = last[last.lam == last.lam.max()]
    lazy = part[(part.look == FIT) & (part.lam == 0) & (part.width == part.width.max())]
    if last.lam.max() == 0 or lazy.empty:
        return LEAVES
    change, drift = (_mean(regularized[name]) for name in ("activation_change", "kernel_distance"))
    kept, unfit = _mean(lazy.activation_change), int((lazy.train_error > 0).sum())
    plain = last[last.lam == 0]
    good = change[1] >= LEAST_CHANGE and drift[1] > LEAST_DRIFT and kept[2] < MOST_LAZY
    shown = lambda found: f"{found[0]:.1%} [{found[1]:.1%}, {found[2]:.1%}]"
    return dataclasses.replace(
        LEAVES,
        measured=f"{part.dataset.iloc[0]}, n = {part.num_samples.max()}; λ = {last.lam.max():g}, "
        f"width {width}: patterns changed {shown(change)}, NTK moved {shown(drift)}; λ = 0, width "
        f"{lazy.width.max()}, first fit: patterns {shown(kept)}, NTK "
        f"{shown(_mean(lazy.kernel_distance))}, predictions off the exact NTK's by "
        f"{shown(_mean(lazy.prediction_distance))}, {unfit} of {len(lazy)} did not fit; λ = 0, "
        f"width {width}, end: patterns {shown(_mean(plain.activation_change))}",
        interval="95 %, bootstrap over seeds",
        status="holds" if good and not unfit else "fails",
    )


def _mean(values: pandas.Series) -> tuple[float, float, float]:
    """The mean over seeds and the ends of its bootstrap interval."""
    draws = statistics.resampled_means(values.to_numpy(), 2000, np.random.default_rng(0))
    return float(values.mean()), *statistics.interval(draws)
