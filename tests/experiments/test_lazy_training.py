"""Lazy training: a small run, and claims that can fail."""

import dataclasses
import functools

import judged
import numpy as np
import pandas
import pytest

from ntkreg.experiments import lazy_training
from ntkreg.experiments.lazy_training import (
    COLUMNS,
    EXPERIMENT,
    POWER,
    SCALE,
    WIDTH,
    Config,
    at_end,
    slope,
)
from ntkreg.sweeps import grid

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("lazy_training")


def with_column(column, of, depth=None):
    """An edit that computes a column anew, in the rows of one depth or in all."""

    def edit(rows):
        which = (rows.depth == depth) | (depth is None)
        return rows.assign(**{column: rows[column].mask(which, of(rows))})

    return edit


wide = functools.partial(with_column, "prediction_distance")
scaled = functools.partial(with_column, "linearised_distance")
linear = functools.partial(with_column, "linearised_error")
one_lost = lambda column: lambda rows: rows[column].mask(rows.seed == 0)


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        *((claim, lambda rows: rows, "holds") for claim in (WIDTH, SCALE, POWER)),
        (WIDTH, wide(lambda rows: rows.prediction_distance * rows.width**0.2, depth=3), "fails"),
        (WIDTH, wide(lambda rows: rows.width ** (-0.4 + 0.1 * (-1) ** rows.seed)), "undecided"),
        (WIDTH, wide(one_lost("prediction_distance")), "undecided"),
        (SCALE, scaled(lambda rows: rows.linearised_distance + 0.02), "fails"),
        (SCALE, scaled(lambda rows: 1e-3 * rows.output_scale**0.1), "fails"),
        (SCALE, scaled(lambda rows: 0.01 * (rows.seed % 2 + 0.5)), "undecided"),
        (SCALE, lambda rows: rows[rows.output_scale == 1], "not run"),
        (POWER, linear(lambda rows: 1e-5 * (rows.seed == 0)), "fails"),
        (POWER, linear(one_lost("linearised_error")), "undecided"),
        (POWER, lambda rows: rows[rows.loss == "logistic"], "not run"),
    ],
)
def test_a_claim_is_judged_by_intervals_over_seeds(claim, edit, status):
    assert judged.status("lazy_training", claim, edit, "thorough") == status


def test_slopes_resample_whole_seeds():
    """A factor of the seed's own moves all widths alike, and the slope not at all."""
    rows = pandas.DataFrame(grid(width=(64, 256, 1024), seed=range(4)))
    rows = rows.assign(prediction_distance=(1 + rows.seed) * rows.width**-0.5)
    found, (low, high) = slope(rows, "width", "prediction_distance")
    np.testing.assert_allclose([found, low, high], -0.5, atol=1e-9)


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
