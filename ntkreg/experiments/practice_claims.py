"""What real images show: networks beside their kernels, and annealed λ beside fixed."""

import dataclasses

import numpy as np
import pandas

from ntkreg.experiments import _statistics, configs, practice
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.practice import ANNEALED, FINAL, INITIAL, UNKNOWN
from ntkreg.experiments.practice_data import parsed
from ntkreg.records import Record

COLUMNS = (
    "dataset", "model", "predictor", "num_samples", "schedule", "seed", "lam", "normalized_margin",
    "train_error", "test_error", "num_test", "gradient_norm", "residual", "diverged",
)  # fmt: skip
SCHEDULES = {ANNEALED: "annealed", FINAL: "fixed as it ends", INITIAL: "fixed as it begins"}
GROUP = ["dataset", "model", "num_samples"]
SOLVED = 1e-6  # the residual below which a kernel's problem counts as solved
NETWORKS = Claim(
    statement="On real images regularised networks have smaller test errors than their kernels",
    source="Wei et al. 2019, introduction; slides, Can NTK explain deep learning?",
    predicted="test error of network − NTK below 0, mean of all data sets, models and n",
)
ANNEALING = Claim(
    statement="Weight decay that is annealed gives smaller test errors than a fixed one",
    source="Wei et al., appendix, WideResNet-16 on CIFAR (there 5.86 % against 6.01 %)",
    predicted="differences below 0, to λ fixed as it ends and as it begins",
)
CLAIMS = (NETWORKS, ANNEALING)


def table(record: Record) -> pandas.DataFrame:
    """One row for every network and kernel.

    lam: of the objective at the end; 0 for hard margins. gradient_norm: ‖∇ log F‖ of networks.
    residual: of the kernel's problem.
    """
    config = configs.restored(practice.Config, record)
    found = record.table()
    for name in ("gradient_norm", "residual"):
        found[name] = found[name].replace(UNKNOWN, np.nan)
    ends = practice.lam_paths(config)[:, -1]
    is_pair = np.array([bool(parsed(dataset).classes) for dataset in found.dataset])
    of_kernel = np.where(is_pair, 0.0, config.ridge)
    is_network = found.predictor == "network"
    found["lam"] = np.where(is_network, ends[found.schedule], of_kernel)
    found["num_test"] = [practice.sizes_of(config, dataset)[1] for dataset in found.dataset]
    found["schedule"] = found.schedule.map(SCHEDULES).where(is_network, "")
    return found[list(COLUMNS)]


def claims(record: Record) -> list[Claim]:
    """The two claims."""
    rows = table(record)
    return [networks_claim(rows), annealing_claim(rows)]


def against_kernels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Test error of the annealed network less its kernel's: a row for each group, seeds across."""
    errors = _errors(rows[rows.schedule.isin(["annealed", ""])], "predictor")
    return (errors["network"] - errors["kernel"]).unstack("seed")


def against_fixed(rows: pandas.DataFrame, schedule: int) -> pandas.DataFrame:
    """Test error with annealed λ less that with a fixed one: a row for each group, seeds across."""
    errors = _errors(rows[rows.predictor == "network"], "schedule")
    if SCHEDULES[schedule] not in errors:
        return pandas.DataFrame()
    difference = errors[SCHEDULES[ANNEALED]] - errors[SCHEDULES[schedule]]
    return difference.dropna().unstack("seed")


def _errors(rows: pandas.DataFrame, column: str) -> pandas.DataFrame:
    return rows.pivot(index=[*GROUP, "seed"], columns=column, values="test_error")


def networks_claim(rows: pandas.DataFrame) -> Claim:
    """Holds where the mean difference is below 0, with all kernels solved and no network diverged.

    For each seed the differences are averaged over data sets, models and n, then bootstrapped.
    """
    differences = against_kernels(rows)
    if differences.shape[1] < 2:
        return NETWORKS
    ends = np.array([_statistics.mean_interval(row) for row in differences.to_numpy()])
    low, high = _statistics.mean_interval(differences.mean().to_numpy())
    unsolved = int((rows.residual > SOLVED).sum())
    unfit = int((rows[rows.predictor == "network"].train_error > 0).sum())
    largest = differences.groupby(GROUP[:2], sort=False).tail(1).mean(axis=1)
    shown = ", ".join(f"{_told(group)} {value:+.2%}" for group, value in largest.items())
    good = high < 0 and not unsolved and not rows.diverged.any()
    return dataclasses.replace(
        NETWORKS,
        measured=f"mean difference {differences.mean(axis=None):+.2%}; of {len(ends)} data sets, "
        f"models and n the network wins in {(ends[:, 1] < 0).sum()}, the NTK in "
        f"{(ends[:, 0] > 0).sum()}; at the largest n: {shown}; {unfit} networks do not fit their "
        f"samples, {unsolved} kernels are not solved; networks end at ‖∇ log F‖ = "
        f"{rows.gradient_norm.median():.2g} (median), {rows.gradient_norm.max():.2g} (largest)",
        interval=f"[{low:+.2%}, {high:+.2%}]: 95 %, bootstrap over {differences.shape[1]} seeds, "
        "paired",
        status="holds" if good else "fails",
    )


def _told(group: tuple) -> str:
    dataset, model, n = group
    return f"{dataset}, {model.replace('_', ' ')}, n = {n}"


def annealing_claim(rows: pandas.DataFrame) -> Claim:
    """Holds where the mean difference to each fixed λ is below 0, averaged as above."""
    told, good = [], not rows.diverged.any()
    for schedule in (FINAL, INITIAL):
        differences = against_fixed(rows, schedule)
        if differences.shape[1] < 2:
            return ANNEALING
        low, high = _statistics.mean_interval(differences.mean().to_numpy())
        told.append(
            f"λ {SCHEDULES[schedule]}: {differences.mean(axis=None):+.2%} [{low:+.2%}, {high:+.2%}]"
        )
        good &= high < 0
    return dataclasses.replace(
        ANNEALING,
        measured=f"{'; '.join(told)}, mean of {len(differences)} data sets, models and n",
        interval=f"in brackets: 95 %, bootstrap over {differences.shape[1]} seeds, paired",
        status="holds" if good else "fails",
    )
