"""Lazy training: a small run, and claims that can fail."""

import dataclasses
import itertools

import numpy as np
import pandas
import pytest

from ntkreg.experiments import lazy_training
from ntkreg.experiments.lazy_training import (
    COLUMNS,
    EXPERIMENT,
    Config,
    at_end,
    power_claim,
    scale_claim,
    slope,
    width_claim,
)

CONFIG = EXPERIMENT.preset("smoke")
AXES = ("width", "prediction_distance")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("lazy_training")


def all_rows():
    """Rows at one time that follow theory, with some scatter over seeds."""
    rows = []
    cells = [(d, w, loss, 1.0) for d in (2, 3) for w in (64, 256, 1024) for loss in ("squared",)]
    cells += [(2, 64, "squared", scale) for scale in (4.0, 64.0, 1024.0)]
    for (depth, width, loss, scale), seed in itertools.product(cells, range(4)):
        wave = 1 + 0.02 * (-1) ** seed
        row = dict.fromkeys(COLUMNS, 0.0) | dict(
            depth=depth, width=width, loss=loss, output_scale=scale, seed=seed, time=10.0,
            prediction_distance=wave * width**-0.5, linearised_distance=0.3 * wave / scale,
            kernel_distance=wave / width, linearised_error=1e-12, failed="",
        )  # fmt: skip
        rows.append(row)
    return pandas.DataFrame(rows)[list(COLUMNS)]


def test_the_claims_hold_on_rows_that_follow_theory():
    for claim in (width_claim, scale_claim, power_claim):
        assert claim(all_rows()).status == "holds", claim(all_rows())


@pytest.mark.parametrize(
    ("claim", "column", "change"),
    [
        (width_claim, "prediction_distance", lambda rows: rows.prediction_distance**1.5),
        (width_claim, "failed", lambda rows: np.where(rows.seed == 0, "not finite", "")),
        (scale_claim, "linearised_distance", lambda rows: rows.linearised_distance + 0.02),
        (scale_claim, "linearised_distance", lambda rows: 1e-3 * rows.output_scale**-0.1),
        (power_claim, "linearised_error", lambda rows: 1e-5 * (rows.seed == 0)),
        (power_claim, "linearised_error", lambda rows: (rows.seed == 0) * np.nan),
    ],
)
def test_each_claim_fails_where_its_rows_break_it(claim, column, change):
    rows = all_rows()
    rows[column] = change(rows)
    assert claim(rows).status == "fails"


def test_the_width_is_not_judged_without_the_squared_loss_at_both_depths():
    rows = all_rows()
    assert width_claim(rows.assign(loss="logistic")).status == "not run"
    assert width_claim(rows[rows.depth == 2]).status == "not run"


def test_slopes_resample_whole_seeds():
    """A factor of the seed's own moves all widths alike, and the slope not at all."""
    rows = all_rows()
    rows["prediction_distance"] = (1 + rows.seed) * rows.width**-0.5
    found, (low, high) = slope(rows[rows.output_scale == 1].query("depth == 2"), *AXES)
    np.testing.assert_allclose([found, low, high], -0.5, atol=1e-9)


def test_one_depth_off_its_slope_is_enough():
    rows = all_rows()
    deep = rows.depth == 3
    rows.loc[deep, "prediction_distance"] = rows.prediction_distance * (rows.width / 64) ** 0.2
    assert width_claim(rows).status == "fails"


@pytest.mark.slow
def test_a_small_run_has_the_linearised_networks_at_their_kernels_power(smoke):
    assert list(smoke.columns) == list(COLUMNS) and len(smoke) == 8 * CONFIG.num_looks
    end = at_end(smoke)
    assert end.linearised_error.max() < 1e-12
    assert smoke[smoke.time < smoke.time.max()].linearised_error.isna().all()
    by_width = end[(end.depth == 2) & (end.output_scale == 1)].groupby("width")
    assert by_width.kernel_distance.mean().is_monotonic_decreasing
    scaled = end[end.width == 16].groupby("output_scale").linearised_distance.mean()
    assert scaled[64.0] < scaled[1.0]
    flow = smoke.groupby("time").flow_distance.mean()
    assert flow.iloc[-1] < flow.iloc[0]
    found = lazy_training.claims(smoke, CONFIG)
    assert [c.statement for c in found] == [c.statement for c in EXPERIMENT.statements]
    assert len(lazy_training.figure(smoke, CONFIG).axes) == 6


def test_what_has_no_closed_form_is_no_failure():
    """The logistic loss has no flow to compare with: NaN in the table, and nothing failed."""
    sizes = dict(widths=(8,), deep_widths=(8,), output_scales=(1.0,), scale_width=8)
    config = dataclasses.replace(CONFIG, losses=("logistic",), num_seeds=1, num_steps=3, **sizes)
    rows = EXPERIMENT.sweep(config)
    assert rows.flow_distance.isna().all() and (rows.failed == "").all()
    assert rows.prediction_distance.notna().all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(widths=(0,)), "widths must be at least 1, got 0"),
        (dict(losses=("hinge",)), "losses must be one of squared, logistic, got hinge"),
        (dict(output_scales=(0.0,)), "output_scales must be positive and finite, got 0.0"),
        (dict(num_steps=20), "num_looks must be at least 2, and so few .* 1 to 20, .*, got 9"),
        (dict(num_looks=1), "num_looks must be at least 2, .*, got 1"),
        (dict(widths=(64, 64)), "widths must have each value once, got 64 twice"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
