"""The transition: parts against hand-made values, and a claim that can fail."""

import io
import warnings

import judged
import numpy as np
import pandas
import pytest

from ntkreg.experiments import _statistics, _style, transition
from ntkreg.experiments.transition import Config, crossing


def synthetic(seeds=40):
    """A table whose share of optimal samples is a logistic curve in n/d."""
    rows = pandas.DataFrame(transition.points(Config(num_seeds=seeds)))
    share = 1 / (1 + np.exp(-(rows.num_samples / rows.dim - 3.6) / 0.3 * (rows.dim / 5) ** 0.5))
    optimal = np.random.default_rng(0).uniform(size=len(rows)) < share
    return rows.assign(
        optimal=optimal,
        refuted=~optimal,
        local=optimal,
        test_error=np.where(optimal, 0.0, 0.4),
        failed="",
    )


def reversed_dims(rows):
    """The largest d has the samples of the smallest, at the same n/d."""
    dim = 400 // rows.dim
    return rows.assign(dim=dim, num_samples=rows.num_samples / rows.dim * dim)


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        (lambda rows: rows, "holds"),
        (lambda rows: rows.assign(optimal=False, refuted=True), "fails"),
        (lambda rows: rows.assign(optimal=True, refuted=False), "fails"),
        (reversed_dims, "fails"),
        (lambda rows: rows[rows.seed < 5], "undecided"),
        (lambda rows: rows[rows.dim == 20], "undecided"),
        (lambda rows: rows[rows.num_samples < 5 * rows.dim], "undecided"),
        (lambda rows: rows.assign(optimal=False, refuted=False), "undecided"),
    ],
)
def test_the_claim_is_judged_in_every_dimension(edit, status):
    assert judged.status("transition", transition.CLAIM, edit, preset="thorough") == status


def test_undecided_samples_are_counted_apart_with_their_seeds():
    edit = lambda rows: rows.assign(
        optimal=rows.optimal & (rows.index > 0), refuted=rows.refuted & (rows.index > 0)
    )
    (found,) = judged.judged("transition", edit).values()
    assert found.apart[0] == "1 of 120 samples undecided, with their seeds"
    assert found.checks[1].runs == "0 of 4 samples"


def test_a_sample_without_results_is_undecided():
    edit = lambda rows: rows.assign(failed=np.where(rows.index == 0, "RuntimeError: no proof", ""))
    (found,) = judged.judged("transition", edit).values()
    assert found.apart[0].startswith("1 of 120 samples undecided")


def test_crossings_find_the_middle_and_the_power():
    found = crossing(synthetic(seeds=400), "optimal", 0.5)
    # At d = 5 the curve is wide, and n/d stops short of its end: the crossing itself is off.
    np.testing.assert_allclose((found.sizes / found.dims)[1:], 3.6, rtol=0.01)
    assert found.slope == pytest.approx(1.0, abs=0.02)
    low, high = found.slope_interval
    assert low <= found.slope <= high and 0 < high - low < 0.05


def test_a_share_has_its_exact_interval():
    """Of 0 or all of 20 the other end has a closed form."""
    low, high = _statistics.share_interval(np.array([0, 20]), 20)
    np.testing.assert_allclose([low[0], low[1]], [0.0, 0.025 ** (1 / 20)], rtol=1e-9)
    np.testing.assert_allclose([high[0], high[1]], [1 - 0.025 ** (1 / 20), 1.0], rtol=1e-9)


def test_one_seed_is_judged_and_drawn_without_an_interval():
    rows = synthetic(seeds=1).assign(kind="certified", upper=0.125)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,), drawn = transition.claims(rows, Config()), transition.figure(rows, Config())
        _style.save(drawn, io.BytesIO(), "png")
    assert found.status == "undecided" and np.isnan(found.checks[2].high)


def test_the_figure_has_three_panels_with_a_line_for_every_dimension():
    axes = transition.figure(synthetic(), Config()).axes
    assert len(axes) == 3
    texts = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert texts == [f"d = {dim}" for dim in Config().dims]


@pytest.mark.slow
def test_every_sample_is_decided_and_trained_on(smoke_table):
    """Refutations are proved always, optimality to the certified dimension."""
    rows = smoke_table("transition")
    assert len(rows) == 8 and (rows.failed == "").all()
    assert (rows.refuted != rows.optimal).all() and (rows.kind == "certified").all()
    np.testing.assert_allclose(rows.upper, np.where(rows.refuted, np.inf, 0.125), rtol=1e-5)
    many = rows[(rows.dim == 6) & (rows.num_samples == 36)]
    assert (many.normalized_margin > 0.1).all()
    assert (many.normalized_margin <= 0.125 * (1 + 1e-6)).all()
    assert (many.test_error < 0.1).all()


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
