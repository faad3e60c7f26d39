"""What regularisation does to a start: margins, errors, activation patterns and the kernel."""

import dataclasses

import pandas

from ntkreg.experiments import _statistics, configs, regularization
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.named_data import parsed
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
BETTER = {
    dataset: Claim(
        statement=f"{where} the regularised network has, from the same start, the larger margin, "
        "the smaller test error and more changed activation patterns",
        source=SOURCE,
        predicted="differences to λ = 0 above, below and above 0, at the largest n",
    )
    for dataset, where in {"D": "On D", "teacher": "On a teacher's labels"}.items()
}
LEAVES = Claim(
    statement="With λ a network leaves the kernel regime; without it a wide one fits its samples "
    "inside",
    source=f"{SOURCE}; slides, Can NTK explain deep learning?",
    predicted="with λ ≥ 20 % of activation patterns change and the empirical "
    "NTK moves by > 50 %; without, at the largest width and first fit, < 5 % change",
)
CLAIMS = (*BETTER.values(), LEAVES)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and look: "first fit", then "on the way", at last "end"."""
    config = configs.restored(regularization.Config, record)
    found = record.table(look=[FIT, *["on the way"] * (config.num_looks - 1), "end"])
    found["output_scale"] = config.output_scale
    found["dim"], found["num_samples"] = zip(*(parsed(d).sizes for d in found.dataset), strict=True)
    found["dataset"] = [parsed(d).name for d in found.dataset]
    return found[list(COLUMNS)]


def claims(record: Record) -> list[Claim]:
    """The three claims."""
    config, rows = configs.restored(regularization.Config, record), table(record)
    better = [better_claim(rows, config.width, dataset) for dataset in BETTER]
    return [*better, leaves_claim(rows, config.width)]


def ends(rows: pandas.DataFrame, width: int) -> pandas.DataFrame:
    """The ends of the networks of the width that is trained with every λ."""
    return rows[(rows.look == "end") & (rows.width == width)]


def best_lam(rows: pandas.DataFrame) -> float:
    """The λ > 0 with the largest mean margin of the training samples."""
    return float(rows[rows.lam > 0].groupby("lam").normalized_margin.mean().idxmax())


def _difference(part: pandas.DataFrame, column: str, lam: float) -> tuple[float, float]:
    """The bootstrap interval of the mean over seeds of the value at λ less that at 0."""
    by_lam = part.pivot(index="seed", columns="lam", values=column)
    values = (by_lam[lam] - by_lam[0.0]).to_numpy()
    return _statistics.mean_interval(values)


def better_claim(rows: pandas.DataFrame, width: int, dataset: str) -> Claim:
    """Paired over seeds, at the largest n and the λ > 0 with the largest mean margin there."""
    part = ends(rows, width)
    part = part[(part.dataset == dataset) & (part.num_samples == part.num_samples.max())]
    if part.lam.nunique() < 2 or 0.0 not in set(part.lam):
        return BETTER[dataset]
    lam = best_lam(part)
    part = part[part.lam.isin([0.0, lam])]
    margin, error, change = (_difference(part, name, lam) for name in COMPARED)
    means = part.groupby("lam")[list(COMPARED)].mean()
    moved = lambda name, style: f"{means[name][0.0]:{style}} → {means[name][lam]:{style}}"
    unfit = part[part.train_error > 0]
    good = unfit.empty and not part.diverged.any()
    return dataclasses.replace(
        BETTER[dataset],
        measured=f"n = {part.num_samples.max()}, λ = 0 → {lam:g}: margin "
        f"{moved(COMPARED[0], '.4f')}, its change [{margin[0]:.4f}, {margin[1]:.4f}]; error "
        f"{moved(COMPARED[1], '.3f')} [{error[0]:.3f}, {error[1]:.3f}]; patterns changed "
        f"{moved(COMPARED[2], '.1%')} [{change[0]:.1%}, {change[1]:.1%}]; {len(unfit)} of "
        f"{len(part)} networks do not fit",
        interval="95 %, bootstrap over seeds, paired; λ of the largest margin",
        status="holds" if good and margin[0] > 0 > error[1] and change[0] > 0 else "fails",
    )


def leaves_claim(rows: pandas.DataFrame, width: int) -> Claim:
    """Means over seeds on the first data set at its largest n; each bound by its interval."""
    part = rows[rows.dataset == rows.dataset.iloc[0]]
    part = part[part.num_samples == part.num_samples.max()]
    last = ends(part, width)
    if last.lam.max() == 0:
        return LEAVES
    lam = best_lam(last)
    regularized = last[last.lam == lam]
    lazy = part[(part.look == FIT) & (part.lam == 0) & (part.width == part.width.max())]
    if lazy.empty:
        return LEAVES
    change, drift = (_mean(regularized[name]) for name in ("activation_change", "kernel_distance"))
    kept, judged = _mean(lazy.activation_change), pandas.concat([regularized, lazy])
    plain, unfit = last[last.lam == 0], int((judged.train_error > 0).sum())
    good = not unfit and not judged.diverged.any()
    good &= change[1] >= LEAST_CHANGE and drift[1] > LEAST_DRIFT and kept[2] < MOST_LAZY
    shown = lambda found: f"{found[0]:.1%} [{found[1]:.1%}, {found[2]:.1%}]"
    return dataclasses.replace(
        LEAVES,
        measured=f"{part.dataset.iloc[0]}, n = {part.num_samples.max()}; λ = {lam:g}, "
        f"width {width}: patterns changed {shown(change)}, NTK moved {shown(drift)}; λ = 0, width "
        f"{lazy.width.max()}, first fit: patterns {shown(kept)}, NTK "
        f"{shown(_mean(lazy.kernel_distance))}, predictions off the exact NTK's by "
        f"{shown(_mean(lazy.prediction_distance))}; λ = 0, width {width}, end: patterns "
        f"{shown(_mean(plain.activation_change))}; {unfit} of {len(judged)} do not fit; output "
        f"scale {part.output_scale.iloc[0]:g}",
        interval="95 %, bootstrap over seeds; λ of the largest margin",
        status="holds" if good else "fails",
    )


def _mean(values: pandas.Series) -> tuple[float, float, float]:
    """The mean over seeds and the ends of its bootstrap interval."""
    return float(values.mean()), *_statistics.mean_interval(values.to_numpy())
