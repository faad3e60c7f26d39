"""Finite width: cells, a small run, the cure, and claims that can fail."""

import dataclasses

import jax
import numpy as np
import pandas
import pytest

from ntkreg import certificates
from ntkreg.data.dataset import Dataset
from ntkreg.experiments.finite_width import Config, cells
from ntkreg.experiments.finite_width_claims import (
    COLUMNS,
    claims,
    cure_claim,
    exponents,
    noise_claim,
    success_claim,
    table,
    transitions,
)
from ntkreg.experiments.finite_width_figure import figure
from ntkreg.experiments.finite_width_runs import ADAM, CURE, GD, TOLERANCE, samples_of

WIDTHS, SIZES = (2, 4, 8, 16, 32, 64, 128), (8, 12, 16, 24, 48)


@pytest.fixture(scope="module")
def record(smoke_record):
    return smoke_record("finite_width")


def rows_of(optimizer, law, noise=0.0, lam=1e-2, draws=4):
    """Rows on which the share of successes passes one half at the width law(n)."""
    rows = []
    for size in SIZES:
        for draw in range(draws):
            for width in WIDTHS if optimizer != CURE else (4,):
                share = np.clip(0.5 + np.log2(width / law(size)) / 4, 0.0, 1.0)
                successes = round(100 * share)
                rows.append((
                    "random", 3, size, draw, width, lam, optimizer, noise, 1.0, 100, successes,
                    100 - successes, 0, 1e-6, 1e-2, 0.3, 1e-9, True, 5, 3 * (optimizer == CURE),
                    3 * (optimizer == CURE), 7.0,
                ))  # fmt: skip
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def all_rows(noisy=lambda n: 0.3 * n):
    return pandas.concat(
        [
            rows_of(ADAM, lambda n: n**0.5),
            rows_of(GD, lambda n: n),
            rows_of(GD, noisy, noise=0.01),
            rows_of(CURE, lambda n: 1000.0),
        ],
        ignore_index=True,
    )


def test_transitions_are_where_half_succeed_and_their_exponents_are_found():
    found = {(one.optimizer, one.num_samples): one for one in transitions(all_rows())}
    for size in SIZES[1:]:  # up to n = 48 the share reaches one within the widths
        assert found[ADAM, size].width == pytest.approx(size**0.5, rel=0.02)
    slopes = exponents(list(found.values()))
    assert slopes[1e-2, ADAM, 0.0][0] == pytest.approx(0.5, abs=0.02)
    claim = success_claim(all_rows())
    assert claim.status == "holds" and "∝ n^0.50" in claim.measured


def test_a_transition_over_one_data_set_has_no_interval():
    """All its resamples are itself; a width of zero would claim certainty."""
    for draws, is_known in ((1, False), (2, True)):
        found = transitions(rows_of(ADAM, lambda n: n**0.5, draws=draws))
        assert len(found) == len(SIZES) and all(np.isfinite(one.width) for one in found)
        assert all(np.isfinite(one.interval).all() == is_known for one in found)


def test_each_claim_fails_where_its_rows_break_it():
    rows = all_rows()
    assert noise_claim(rows).status == cure_claim(rows).status == "holds"
    assert noise_claim(all_rows(noisy=lambda n: n)).status == "fails"
    assert noise_claim(all_rows(noisy=lambda n: 2 * n)).status == "fails"
    stuck = rows.assign(successes=rows.successes.where(rows.optimizer != ADAM, 30))
    stuck["stationary"] = stuck.starts - stuck.successes
    assert success_claim(stuck).status == "fails"
    one = rows.index[rows.optimizer == CURE][0]
    left = rows.copy()
    left.loc[one, "cured"] = 2  # of 60 failures
    assert cure_claim(left).status == "fails"


def test_unfinished_runs_are_shown_and_not_judged():
    rows = all_rows()
    slow = rows.optimizer == GD
    rows.loc[slow, "unfinished"], rows.loc[slow, "stationary"] = rows.stationary[slow], 0
    rows.loc[slow, "successes"] = 0
    claim = success_claim(rows)
    assert claim.status == "holds" and "(5 of 10 groups)" in claim.measured


def test_no_claim_is_made_from_a_heuristic_or_a_wide_minimum():
    rows = all_rows()
    for blind in (rows.assign(proved=False), rows.assign(minimum_gap=1e-2)):
        for claim in (success_claim, noise_claim, cure_claim):
            assert claim(blind).status == "not run"


def test_a_small_run_has_no_network_below_the_certified_minimum(record):
    gaps = record.arrays["gaps"]
    assert (gaps[np.isfinite(gaps)] > -1e-6).all()
    rows = table(record)
    assert len(rows) == len(cells(Config.preset("smoke"))) and rows.proved.all()
    assert (rows.successes + rows.stationary + rows.unfinished == rows.starts).all()
    wide = rows[(rows.optimizer == ADAM) & (rows.width == 32)]
    narrow = rows[(rows.optimizer == ADAM) & (rows.width == 2)]
    assert wide.successes.sum() == wide.starts.sum() and narrow.successes.sum() < len(narrow) * 2
    cures = rows[rows.optimizer == CURE]
    assert cures.failures.sum() == cures.cured.sum() == 2


def test_the_claims_and_the_figure_are_made_of_a_record(record):
    assert [claim.status for claim in claims(record)].count("not run") == 0
    assert len(figure(record).axes) == 8


def test_repeated_samples_have_the_same_objective_and_minimum():
    config = Config.preset("smoke")
    samples = samples_of(config, 2, 4, 0)
    assert samples.x.shape == (8, 2)
    np.testing.assert_array_equal(samples.x[:4], samples.x[4:])
    single = Dataset(*(np.asarray(a)[:4] for a in samples))
    both = [certificates.global_minimum(s, 0.02).upper for s in (single, jax.device_get(samples))]
    assert both[0] == pytest.approx(both[1], rel=1e-7)
    assert not np.array_equal(samples.x, samples_of(config, 2, 8, 0).x)


def test_cells_are_all_different():
    rows = cells(Config())
    assert len(rows) == len(set(rows))
    assert {row[2] for row in rows} == {ADAM, GD, CURE} and TOLERANCE == 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(sizes=(5, 12)), "sizes must be at least 2, and divisors of the largest, got 5"),
        (dict(focus_size=9), "focus_size must be one of sizes=.*got 9"),
        (dict(lams=(0.0,)), "lams must be positive and finite, got 0.0"),
        (dict(noises=(-1.0,)), "noises must be at least 0 and finite, got -1.0"),
        (dict(widths=(0,)), "widths must be at least 1, got 0"),
        (dict(oracle="guess"), "oracle must be one of auto, enumerate.*got guess"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Config(), **fields)
