"""What the experiment on teachers shows: errors side by side, and the bounds beside them."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.teacher import AXIS, NET_SOLVED, PREDICTORS, TASKS, UNKNOWN
from ntkreg.records import Record
from ntkreg.theory import bounds

COLUMNS = (
    "task", "dim", "num_samples", "predictor", "seed", "lam", "normalized_margin", "train_error",
    "test_error", "bound", "residual", "solved", "diverged",
)  # fmt: skip
KERNELS = PREDICTORS[1:]
SOURCE = "Wei et al., ICLR 2019 submission, the experiment on network and kernel with varying n"
ERRORS = Claim(
    statement="On a teacher with six hidden units, its signs and its outputs, and on the parity of "
    "two signs, the network errs less than the ReLU-feature kernel and the NTK",
    source=SOURCE,
    predicted="network's test error below both kernels' at the largest n; on parity, which kernels "
    "learn from n ∝ d² on, at the largest n ≤ d² (the largest n in brackets)",
)
BOUNDS = Claim(
    statement="Test errors stay below the margin bounds, 6√D/(γ√n) + ε for the network and "
    "4√(tr K/n)/(γ√n) + ε for the kernels; above 1 a bound is vacuous",
    source=SOURCE + "; Kakade, Sridharan, Tewari 2008",
    predicted="no error above its bound",
)
CLAIMS = (ERRORS, BOUNDS)


def table(record: Record) -> pandas.DataFrame:
    """One row for every predictor in every cell.

    test_error: the share of wrong signs, in the regression the mean square over Var y; bound: of
    that share, with probability 0.95, infinite without a margin. Margins and bounds are empty in
    the regression.
    """
    config = record.identity["config"]
    ((_, cells),) = record.axes.items()
    rows = pandas.DataFrame(cells, columns=list(AXIS))
    parts = []
    for number, predictor in enumerate(PREDICTORS):
        part = rows.assign(predictor=predictor, dim=config["dim"])
        for name, values in record.arrays.items():
            part[name] = values[:, number] if values.ndim == 2 else values
        is_network = predictor == "network"
        part["lam"] = config["lams"][-1] if is_network else 0.0
        part["bound"] = _bound(part, is_network)
        parts.append(part)
    found = pandas.concat(parts, ignore_index=True)
    found["normalized_margin"] = found.normalized_margin.replace(UNKNOWN, np.nan)
    return found[list(COLUMNS)]


def _bound(rows: pandas.DataFrame, is_network: bool) -> np.ndarray:
    columns = ("normalized_margin", "num_samples", "mean_square", "largest_square")
    margin, n, mean, largest = (rows[name].to_numpy() for name in columns)
    if is_network:
        found = bounds.two_layer_bound(margin, n, mean, np.sqrt(largest))
    else:
        found = bounds.kernel_bound(margin, n, mean, largest)
    return np.where(margin == UNKNOWN, np.nan, found)


def claims(record: Record) -> list[Claim]:
    """Both claims."""
    rows = table(record)
    return [error_claim(rows), bound_claim(rows)]


def values_of(
    rows: pandas.DataFrame, task: str, predictor: str, column: str
) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, values of shape (sizes, trials)) of one predictor on one task."""
    of = rows[(rows.task == task) & (rows.predictor == predictor)]
    found = of.pivot(index="num_samples", columns="seed", values=column)
    return found.index.to_numpy(), found.to_numpy()


def tasks_of(rows: pandas.DataFrame) -> list[str]:
    """The tasks that were run."""
    return [task for task in TASKS if (rows.task == task).any()]


def compared_size(rows: pandas.DataFrame, task: str) -> int:
    """The largest n; on parity the largest up to d², beyond which kernels have learned it too."""
    part = rows[rows.task == task]
    early = part[part.num_samples <= part.dim**2]
    return int((early if task == "parity" and len(early) else part).num_samples.max())


def error_claim(rows: pandas.DataFrame) -> Claim:
    """Differences trial by trial, since all predictors have the same samples.

    It holds where the intervals of all of them are below 0, all kernel predictors were solved and
    no network diverged. A network that is provably not at its optimum is no better for it, so that
    these are counted only.
    """
    told, good = [], bool(rows.solved[rows.predictor != "network"].all())
    good &= not rows.diverged.any()
    for task in tasks_of(rows):
        at, largest = compared_size(rows, task), rows.num_samples.max()
        shown, lowers = _compared(rows, task, at)
        good &= lowers
        told.append(shown if at == largest else f"{shown} ({_compared(rows, task, largest)[0]})")
    missed = (~rows.solved).groupby(rows.predictor).sum()
    counts = ", ".join(f"{missed[name]} ({name})" for name in PREDICTORS)
    networks = rows[rows.predictor == "network"]
    below = int((networks.residual < -NET_SOLVED).sum())
    return dataclasses.replace(
        ERRORS,
        measured=f"{'; '.join(told)}; provably not at their optimum: {counts}; {below} of "
        f"{len(networks)} networks lie below the planted one, which then proves nothing",
        interval="of the mean difference: 95 %, bootstrap over trials, paired",
        status="holds" if good else "fails",
    )


def _compared(rows: pandas.DataFrame, task: str, size: int) -> tuple[str, bool]:
    """The errors at one n in words, and whether the network's are below both kernels'."""
    part = rows[(rows.task == task) & (rows.num_samples == size)]
    errors = part.pivot(index="seed", columns="predictor", values="test_error")
    shown, lower = [f"{errors.network.mean():.4f} (network)"], True
    for name in KERNELS:
        low, high = _statistics.mean_interval((errors.network - errors[name]).to_numpy())
        shown.append(f"{errors[name].mean():.4f} ({name}; difference [{low:.4f}, {high:.4f}])")
        lower &= high < 0
    return f"{task}, n = {size}: {', '.join(shown)}", lower


def bound_claim(rows: pandas.DataFrame) -> Claim:
    """No error above its bound, of those that are at most 1: the others are counted as vacuous."""
    told = rows[rows.bound.notna()]
    if not len(told):
        return BOUNDS
    broken = int((told.test_error > told.bound).sum())
    judged = int((told.bound <= 1).sum())
    vacuous = (told.bound > 1).groupby(told.predictor).agg(["sum", "size"])
    largest = told[told.num_samples == told.num_samples.max()]
    means = largest.groupby(["task", "predictor"]).bound.mean()
    shown = "; ".join(
        f"{task}: " + ", ".join(f"{means[task, name]:.2f} ({name})" for name in PREDICTORS)
        for task in tasks_of(told)
    )
    return dataclasses.replace(
        BOUNDS,
        measured=f"{broken} errors above one of the {judged} bounds up to 1; vacuous are "
        + ", ".join("{} of {} ({})".format(*vacuous.loc[name], name) for name in PREDICTORS)
        + f"; mean bound at n = {told.num_samples.max()}, {shown}",
        interval="all trials and sizes",
        status="fails" if broken else "holds" if judged else "not run",
    )
