"""Finite width: points, a small run, the cure, and claims that can fail."""

import dataclasses

import jax
import judged
import numpy as np
import pandas
import pytest

from ntkreg import certificates
from ntkreg.data.dataset import Dataset
from ntkreg.experiments.finite_width import CURING, EXPERIMENT, NOISE, SUCCESS, Config
from ntkreg.experiments.finite_width.claims import exponent, transitions
from ntkreg.experiments.finite_width.runs import ADAM, ARRAYS, CURE, GD, points, samples_of

CONFIG = EXPERIMENT.preset("smoke")
WIDTHS, SIZES = (2, 4, 8, 16, 32, 64, 128), (8, 12, 16, 24, 48)


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("finite_width")


def rows_of(law, draws=4):
    """Rows on which the share of successes passes one half at the width law(n)."""
    share = lambda width, size: np.clip(0.5 + np.log2(width / law(size)) / 4, 0.0, 1.0)
    rows = [
        dict(num_samples=size, draw=draw, width=width, successes=round(100 * share(width, size)))
        for size in SIZES
        for width in WIDTHS
        for draw in range(draws)
    ]
    return pandas.DataFrame(rows).assign(
        rank=3, optimizer=ADAM, lam=1e-2, noise=0.0, init_scale=1.0, starts=100, minimum_gap=1e-9,
        proved=True,
    )  # fmt: skip


def test_transitions_are_where_half_succeed_and_their_exponent_is_found():
    found = transitions(rows_of(lambda n: n**0.5))
    reached = found[found.num_samples > 8]  # whose share reaches one within the widths
    np.testing.assert_allclose(reached.width, reached.num_samples**0.5, rtol=0.02)
    assert exponent(found).measured == pytest.approx(0.5, abs=0.02)
    assert np.isnan(exponent(transitions(rows_of(lambda n: 1e4 * n))).measured)


def test_a_transition_over_one_data_set_has_no_interval():
    """All its resamples are itself; a width of zero would claim certainty."""
    for draws, is_known in ((1, False), (2, True)):
        found = transitions(rows_of(lambda n: n**0.5, draws))
        assert len(found) == len(SIZES) and np.isfinite(found.width).all()
        assert (np.isfinite(found[["low", "high"]]) == is_known).all(axis=None)


def changed(optimizer, noisy=False, **columns):
    """An edit that sets these columns, or computes them, in the rows of an optimizer."""

    def edit(rows):
        which = (rows.optimizer == optimizer) & ((rows.noise > 0) | (not noisy))
        part = rows[which].assign(**columns)
        return pandas.concat([rows[~which], part])

    return edit


NONE = dict(successes=0, stationary=lambda rows: rows.starts, unfinished=0)
ALL = dict(successes=lambda rows: rows.starts, stationary=0, unfinished=0)
RAISED = dict(proved=None, minimum_gap=np.nan, successes=np.nan, failures=np.nan)


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (SUCCESS, lambda rows: rows, "finding"),
        (SUCCESS, lambda rows: rows[rows.optimizer == CURE], "not run"),
        (NOISE, changed(GD, noisy=True, **NONE), "fails"),
        (NOISE, changed(GD, noisy=True, **ALL), "holds"),
        (NOISE, lambda rows: rows, "undecided"),
        (NOISE, changed(GD, noisy=True, **RAISED), "undecided"),
        (NOISE, changed(GD, proved=False), "undecided"),
        (NOISE, lambda rows: rows[rows.noise == 0], "not run"),
        (CURING, lambda rows: rows, "undecided"),  # 33 of 34
        (CURING, changed(CURE, cured=lambda rows: rows.failures), "holds"),
        (CURING, changed(CURE, cured=0), "fails"),
        (CURING, changed(CURE, cured=1), "fails"),
        (CURING, changed(CURE, failures=0, cured=0), "undecided"),
        (CURING, changed(CURE, **RAISED), "undecided"),
        (CURING, changed(CURE, minimum_gap=1e-2), "undecided"),
        (CURING, lambda rows: rows[rows.optimizer != CURE], "not run"),
    ],
)
def test_a_claim_is_judged_by_the_runs_whose_minimum_is_proved(claim, edit, status):
    assert judged.status("finite_width", claim, edit) == status


def test_unfinished_runs_are_no_evidence_against_noise():
    late = dict(successes=0, stationary=0, unfinished=lambda rows: rows.starts)
    found = judged.judged("finite_width", changed(GD, noisy=True, **late))[NOISE.statement]
    assert found.status == "undecided" and "108 of 108 runs with noise" in found.apart[1]


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
