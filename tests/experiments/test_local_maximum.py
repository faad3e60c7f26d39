"""From the predicted n on: samples against a linear programme, and claims that can fail."""

import re
from types import SimpleNamespace

import jax
import numpy as np
import pandas
import pytest
import scipy

from ntkreg import data
from ntkreg.certificates import planted
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import local_maximum
from ntkreg.experiments.local_maximum import CLAIM, EXPERIMENT, Config
from ntkreg.theory.planted_threshold import local_threshold

CONFIG = Config(dims=(20, 40, 80), num_seeds=(200, 200, 200))


def table(shift=1.0, spread=1.0, later=0.0):
    """Samples that become local where the predicted law says, moved and widened."""
    predicted, rows = local_threshold(), []
    for point in EXPERIMENT.points(CONFIG):
        middle = shift * predicted.size(point["dim"]) + later
        width = spread * predicted.deviation(point["dim"])
        # Evenly spread quantiles of the normal law, one a seed.
        own = middle + width * scipy.stats.norm.ppf((point["seed"] + 0.5) / CONFIG.num_seeds[0])
        rows.append(point | {"local": point["num_samples"] >= own})
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (lambda: table(), "holds"),
        (lambda: table(shift=1.06), "fails"),
        (lambda: table(shift=0.94), "fails"),
        (lambda: table(shift=1.03), "undecided"),
        (lambda: table()[lambda r: r.dim < 40], "undecided"),
        (lambda: table(later=2), "holds"),
        (lambda: table(later=12), "fails"),
    ],
)
def test_the_claim_is_judged(rows, status):
    (claim,) = EXPERIMENT.claims(rows(), CONFIG)
    assert claim.statement == CLAIM.statement and claim.status == status


def test_widths_are_those_of_the_table():
    (claim,) = EXPERIMENT.claims(table(spread=1.5), CONFIG)
    widths = [check.measured for check in claim.checks if "width" in check.what]
    assert len(widths) == 3
    assert widths == pytest.approx([1.5] * 3, rel=0.1)


def test_the_condition_is_that_of_a_linear_programme():
    decided = set()
    for n in (30, 45, 60, 75):
        sample = data.noisy_xor(jax.random.key(n), n, 14)
        equal, right, most = planted.local_conditions(np.asarray(sample.x))
        solved = scipy.optimize.linprog(
            np.zeros(equal.shape[1]), A_ub=most, b_ub=np.zeros(len(most)), A_eq=equal, b_eq=right,
            bounds=(0, None),
        )  # fmt: skip
        assert planted.is_local_maximum(sample) == (solved.status == 0)
        decided.add(solved.status == 0)
    assert decided == {True, False}


def test_a_solver_that_finds_neither_weights_nor_a_proof_is_named(monkeypatch):
    sample = data.noisy_xor(jax.random.key(0), 30, 8)

    def stopped(quadratic, linear, matrix, right, cones):
        return SimpleNamespace(x=0.0 * linear, z=0.0 * right, status="NumericalError")

    monkeypatch.setattr(planted, "conic_solution", stopped)
    with pytest.raises(ArithmeticError, match="met or refuted, got NumericalError"):
        planted.is_local_maximum(sample)


def test_a_proof_that_is_missed_with_a_goal_is_found_without():
    """On this sample clarabel's iterates grow without end."""
    whole = local_maximum._drawn(20, 66, 2250)
    assert not planted.is_local_maximum(whole)


def test_samples_of_one_seed_are_parts_of_each_other():
    config = Config(dims=(8,), num_seeds=(1,))
    whole = local_maximum._drawn(8, local_maximum.sizes(config, 8)[-1], 0)
    found = [EXPERIMENT.run(config, **point)["local"] for point in EXPERIMENT.points(config)]
    for n, local in zip(local_maximum.sizes(config, 8), found, strict=True):
        assert local == planted.is_local_maximum(Dataset(whole.x[:n], whole.y[:n]))


def test_samples_of_other_data_are_refused():
    bad = data.random_labels(jax.random.key(0), 20, 5)
    with pytest.raises(ValueError, match="D"):
        planted.is_local_maximum(bad)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(4,)), "dims must be at least 5, got 4"),
        (dict(offsets=(np.inf,)), "offsets must be finite, got inf"),
        (dict(num_seeds=(40, 40, 0)), "num_seeds must be at least 1, got 0"),
        (dict(num_seeds=(40, 40)), "num_seeds must have one for each of dims, got (40, 40)"),
        (dict(dims=(20, 20, 40)), "dims must have each value once, got 20 twice"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Config(**fields)
