"""Planted proofs as an experiment: what a row says, and a claim that can fail."""

import jax
import numpy as np
import pandas
import pytest

from ntkreg import data
from ntkreg.certificates.planted import planted_optimality
from ntkreg.experiments.planted_proof import CLAIM, EXPERIMENT, Config

CONFIG = Config(dims=(6, 8), sizes_over_d=(4.0, 5.0), num_seeds=6, max_zones=50)


def table(proved=1.0, refuted=0.0, upper=0.125, searched=0.125):
    """Shares of each size that are proved and refuted, in order of the seed."""
    rows = pandas.DataFrame(EXPERIMENT.points(CONFIG))
    share = (rows.seed + 0.5) / CONFIG.num_seeds
    optimal = share < proved
    known = dict(
        upper=np.where(optimal, upper, np.nan), searched=np.where(optimal, searched, np.nan)
    )
    return rows.assign(
        failed="", local=True, optimal=optimal, refuted=~optimal & (share < proved + refuted),
        steps=1000, **known,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (table(), "holds"),
        (table(proved=0.5, refuted=0.5), "holds"),
        (table(proved=0.5), "undecided"),
        (table(proved=0.1), "fails"),
        (table(upper=0.1251), "fails"),
        (table(searched=0.1251), "fails"),
    ],
)
def test_the_claim_is_judged(rows, status):
    (claim,) = EXPERIMENT.claims(rows, CONFIG)
    assert claim.statement == CLAIM.statement and claim.status == status


def test_samples_left_open_are_counted_apart():
    (claim,) = EXPERIMENT.claims(table(proved=0.5, refuted=0.2), CONFIG)
    assert claim.apart == ("8 of 24 samples left open",)
    (claim,) = EXPERIMENT.claims(table(), CONFIG)
    assert not any(claim.apart)


def test_none_proved_is_undecided_and_drawn():
    rows = table(proved=0.0, refuted=1.0).drop(columns=["upper", "searched"])
    (claim,) = EXPERIMENT.claims(rows, CONFIG)
    assert claim.status == "undecided"
    assert EXPERIMENT.figure(rows, CONFIG).axes


@pytest.mark.parametrize(("num_samples", "is_refuted"), [(12, True), (40, False)])
def test_a_run_agrees_with_the_search(num_samples, is_refuted):
    found = EXPERIMENT.run(CONFIG, 6, num_samples, 0)
    key = jax.random.fold_in(jax.random.key(0), 6 * 2**20 + num_samples)
    searched = planted_optimality(data.noisy_xor(key, num_samples, 6))
    assert found["refuted"] == searched.refuted == is_refuted
    assert found["optimal"] == searched.optimal == ("upper" in found) != is_refuted


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(2,)), "dims must be at least 3, got 2"),
        (dict(sizes_over_d=(0.5,)), "sizes_over_d must be at least 1 and finite, got 0.5"),
        (dict(max_zones=0), "max_zones must be at least 1, got 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
