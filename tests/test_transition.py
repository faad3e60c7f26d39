"""The transition: parts against hand-made values, and a claim that can fail."""

import dataclasses
import io
import warnings

import numpy as np
import pytest
import scipy.stats

from ntkreg.experiments import _statistics, _style, transition
from ntkreg.experiments.transition import Config
from ntkreg.experiments.transition_claims import claim, crossing
from ntkreg.experiments.transition_figure import figure
from ntkreg.records import Record


def synthetic(power=1.0, sharpening=0.5, undecided=0, seeds=40):
    """A record whose share of optimal samples is a logistic curve in n/d."""
    config = Config(num_seeds=seeds)
    rng = np.random.default_rng(0)
    rows = transition.cells(config)
    shares = []
    for dim, n in rows:
        middle, width = 3.6 * (dim / 20) ** (power - 1), 0.3 * (dim / 5) ** -sharpening
        shares.append(1 / (1 + np.exp(-(n / dim - middle) / width)))
    optimal = rng.uniform(size=(len(rows), seeds)) < np.array(shares)[:, None]
    refuted = ~optimal
    refuted[0, :undecided] = False
    optimal[0, :undecided] = False
    arrays = {
        "optimal": optimal,
        "refuted": refuted,
        "local": optimal,
        "upper": np.where(optimal, 0.125, np.inf),
        "rounds": np.ones(optimal.shape, int),
        "test_error": np.where(optimal, 0.0, 0.4),
        "normalized_margin": np.full(optimal.shape, 0.12),
    }
    axes = {transition.AXIS: rows, ("seed",): [(s,) for s in range(seeds)]}
    return Record(axes, arrays, {"config": dataclasses.asdict(config)})


def test_the_claim_holds_on_a_record_that_shows_it():
    assert claim(synthetic()).status == "holds"


@pytest.mark.parametrize(
    "broken", [dict(power=1.3), dict(sharpening=-0.5), dict(undecided=1)], ids=str
)
def test_the_claim_fails_on_a_record_that_breaks_it(broken):
    assert claim(synthetic(**broken)).status == "fails"


def test_crossings_find_the_middle_and_the_power():
    found = crossing(synthetic(seeds=400), "optimal", 0.5)
    # At d = 5 the curve is wide, and n/d stops short of its end: the crossing itself is off.
    np.testing.assert_allclose((found.sizes / found.dims)[1:], 3.6, rtol=0.01)
    assert found.slope == pytest.approx(1.0, abs=0.02)
    low, high = found.slope_interval
    assert low <= found.slope <= high and 0 < high - low < 0.05


def test_wilson_s_interval_is_that_of_scipy():
    for successes, trials in ((0, 20), (7, 20), (20, 20), (399, 1000)):
        expected = scipy.stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
        found = _statistics.wilson(np.array(successes), trials)
        np.testing.assert_allclose(found, (expected.low, expected.high), rtol=1e-6, atol=1e-12)


def test_one_seed_is_told_and_drawn_without_an_interval():
    record = synthetic(seeds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, drawn = claim(record), figure(record)
        _style.save(drawn, io.BytesIO(), "png")
    assert found.interval.startswith("[nan, nan]")


def test_the_table_tells_kinds_of_proof():
    """Refutations are proved always, optimality to the certified dimension."""
    rows = transition.table(synthetic())
    certified = Config().certified_dim
    assert set(rows[rows.dim <= certified].kind) == {"certified"}
    beyond = rows[rows.dim > certified]
    assert (beyond.optimal == (beyond.kind == "heuristic")).all()


def test_the_figure_has_three_panels_with_a_line_for_every_dimension():
    axes = figure(synthetic()).axes
    assert len(axes) == 3
    texts = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert texts == [f"d = {dim}" for dim in Config().dims]


def test_cells_decide_every_sample_and_train_on_it(smoke_record):
    record = smoke_record("transition")
    assert (record.arrays["refuted"] != record.arrays["optimal"]).all()
    few, many = record.arrays["normalized_margin"][-2:]
    assert (many > 0.1).all() and (many <= 0.125 * (1 + 1e-6)).all()
    assert (record.arrays["test_error"][-1] < 0.1).all()
    assert record.arrays["test_error"].shape == (4, 2) and few.shape == (2,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(2,)), "dims must be at least 3, got 2"),
        (dict(lams=(0.0,)), "lams must be positive and finite, got 0.0"),
        (dict(width=0), "width must be at least 1, got 0"),
        (dict(num_starts=0), "num_starts must be at least 1, got 0"),
        (dict(sizes_over_d=()), "sizes_over_d must have at least one value"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
