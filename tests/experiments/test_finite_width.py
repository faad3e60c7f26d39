"""Finite width: points, a small run, the cure, and claims that can fail."""

import dataclasses

import jax
import numpy as np
import pandas
import pytest

from ntkreg import certificates
from ntkreg.data.dataset import Dataset
from ntkreg.experiments.finite_width import (
    ADAM,
    ARRAYS,
    CURE,
    EXPERIMENT,
    GD,
    Config,
    cure_claim,
    exponent,
    noise_claim,
    points,
    samples_of,
    success_claim,
    transitions,
)

CONFIG = EXPERIMENT.preset("smoke")
WIDTHS, SIZES = (2, 4, 8, 16, 32, 64, 128), (8, 12, 16, 24, 48)


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("finite_width")


def rows_of(optimizer, law, noise=0.0, lam=1e-2, draws=4):
    """Rows on which the share of successes passes one half at the width law(n)."""
    rows = []
    for size in SIZES:
        for width in WIDTHS if optimizer != CURE else (4,):
            share = np.clip(0.5 + np.log2(width / law(size)) / 4, 0.0, 1.0)
            rows += [
                dict(num_samples=size, draw=draw, width=width, successes=round(100 * share))
                for draw in range(draws)
            ]
    failures = 3 * (optimizer == CURE)
    return pandas.DataFrame(rows).assign(
        rank=3, optimizer=optimizer, lam=lam, noise=noise, init_scale=1.0, starts=100,
        stationary=lambda rows: 100 - rows.successes, unfinished=0, minimum_gap=1e-9, proved=True,
        optimal_neurons=5, failures=failures, cured=failures, insertions=7.0,
    )  # fmt: skip


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
    found = transitions(all_rows())
    adam = found[found.optimizer == ADAM]
    reached = adam[adam.num_samples > 8]  # whose share reaches one within the widths
    np.testing.assert_allclose(reached.width, reached.num_samples**0.5, rtol=0.02)
    assert exponent(adam)[0] == pytest.approx(0.5, abs=0.02)
    claim = success_claim(all_rows())
    assert claim.status == "holds" and "∝ n^0.50" in claim.measured


def test_a_transition_over_one_data_set_has_no_interval():
    """All its resamples are itself; a width of zero would claim certainty."""
    for draws, is_known in ((1, False), (2, True)):
        found = transitions(rows_of(ADAM, lambda n: n**0.5, draws=draws))
        assert len(found) == len(SIZES) and np.isfinite(found.width).all()
        assert (np.isfinite(found[["low", "high"]]) == is_known).all(axis=None)


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


def test_no_claim_holds_by_leaving_out_a_run_that_raised_an_error():
    for claim, optimizer in ((success_claim, ADAM), (noise_claim, GD), (cure_claim, CURE)):
        rows = all_rows().astype({"proved": object})
        assert claim(rows).status == "holds"
        one = rows.index[rows.optimizer == optimizer][0]
        rows.loc[one, ["successes", "stationary", "unfinished", "proved", "minimum_gap"]] = np.nan
        assert claim(rows).status == "fails"


@pytest.mark.slow
def test_a_small_run_has_no_network_below_the_certified_minimum(smoke):
    assert (smoke.best_gap > -1e-6).all() and (smoke.failed == "").all()
    assert len(smoke) == len(points(CONFIG)) and smoke.proved.all()
    assert (smoke.successes + smoke.stationary + smoke.unfinished == smoke.starts).all()
    adam = smoke[smoke.optimizer == ADAM].groupby("width")[["successes", "starts"]].sum()
    assert adam.successes[32] == adam.starts[32] and adam.successes[2] < adam.starts[2]
    cures = smoke[smoke.optimizer == CURE]
    assert cures.failures.sum() == cures.cured.sum() == 2


@pytest.mark.slow
def test_the_claims_and_the_figure_are_made_of_a_table_also_without_arrays(smoke):
    assert all(claim.status != "not run" for claim in EXPERIMENT.claims(smoke, CONFIG))
    plain = smoke.drop(columns=list(ARRAYS))
    for table in (smoke, plain):
        axes = EXPERIMENT.figure(table, CONFIG).axes
        assert len(axes) == 8
        kept = [text.get_text() for ax in axes[-2:] for text in ax.texts]
        assert kept == (["not kept"] * 2 if table is plain else [])


@pytest.mark.slow
def test_a_failure_in_the_plane_keeps_its_particles(smoke):
    """They are a network of the gap that stands beside them."""
    row = smoke[smoke.stationary > 0].iloc[0]
    w, u = row.worst[:, 0], row.worst[:, 1:]
    x, y = map(np.asarray, samples_of(CONFIG, 2, row.num_samples, row.draw))
    outputs = np.maximum(x @ u.T, 0) @ w / row.width
    value = np.logaddexp(0, -y * outputs).mean() + row.lam * np.sum(row.worst**2) / row.width
    assert value / row.minimum - 1 == pytest.approx(row.worst_gap, rel=1e-5)


def test_repeated_samples_have_the_same_objective_and_minimum():
    samples = samples_of(CONFIG, 2, 4, 0)
    assert samples.x.shape == (8, 2)
    np.testing.assert_array_equal(samples.x[:4], samples.x[4:])
    single = Dataset(*(np.asarray(a)[:4] for a in samples))
    both = [certificates.global_minimum(s, 0.02).upper for s in (single, jax.device_get(samples))]
    assert both[0] == pytest.approx(both[1], rel=1e-7)
    assert not np.array_equal(samples.x, samples_of(CONFIG, 2, 8, 0).x)


def test_points_are_all_different():
    found = pandas.DataFrame(points(Config()))
    assert not found.duplicated().any() and set(found.optimizer) == {ADAM, GD, CURE}


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
