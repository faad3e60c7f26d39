"""Width: a small run, tables with bounds in them, and claims that can fail."""

import numpy as np
import pandas
import pytest

from ntkreg.experiments import width
from ntkreg.experiments._training import parsed, samples_of
from ntkreg.experiments.width import Config, best_margins, bound_claim, error_claim, width_claim
from ntkreg.theory.bounds import generalization_bound

CONFIG = width.EXPERIMENT.preset("smoke")
WIDTHS = (1, 4, 16, 64)


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("width")


def rows_of(dataset, width, margin, depth=2, **columns):
    row = dict(
        dataset=dataset, draw=0, depth=depth, width=width, lam=1e-5, normalized_margin=margin
    )
    return [row | dict(seed=seed) | columns for seed in range(3)]


def all_rows():
    rows = []
    for number, w in enumerate(WIDTHS):
        margin = (0.05, 0.08, 0.0999, 0.0999)[number]
        rows += rows_of("random:2:8", w, margin, reference_margin=0.1)
        error = 0.2 - 0.01 * number
        rows += rows_of("teacher:5:30", w, 0.01 + 0.001 * number, test_error=error)
    for depth, growth in ((2, 1.0), (3, 1.6294)):  # of the closed forms
        for n in (100, 400):
            bound = growth * 50 / n**0.5
            rows += rows_of(f"D:5:{n}", 16, 0.1, depth, test_error=0.0, bound=bound)
    return pandas.DataFrame(rows)


def test_the_claims_hold_on_rows_that_follow_theory():
    rows = all_rows()
    for claim in (width_claim, error_claim, bound_claim):
        assert claim(rows).status == "holds", claim(rows)


def changed(rows, where, **values):
    rows = rows.copy()
    for name, value in values.items():
        rows.loc[where, name] = value
    return rows


def test_each_claim_fails_where_its_rows_break_it():
    rows = all_rows()
    random, widest = rows.dataset == "random:2:8", rows.width == 64
    for margin in (0.098, 0.1001):  # a step down, above the certified margin
        assert (
            width_claim(changed(rows, random & widest, normalized_margin=margin)).status == "fails"
        )
    flat = changed(rows, random & (rows.width >= 16), normalized_margin=0.099)
    assert width_claim(flat).status == "fails"  # a plateau below the certified margin
    taught = rows.dataset == "teacher:5:30"
    assert error_claim(changed(rows, taught & widest, test_error=0.3)).status == "fails"
    assert error_claim(changed(rows, taught & widest, normalized_margin=0.005)).status == "fails"
    on_d = rows.dataset.str.startswith("D:")
    assert bound_claim(changed(rows, on_d & (rows.seed == 0), test_error=60.0)).status == "fails"
    assert bound_claim(changed(rows, on_d, bound=5.0)).status == "fails"
    deep = on_d & (rows.depth == 3)
    assert bound_claim(changed(rows, deep, bound=1.3 * rows.bound)).status == "fails"


@pytest.mark.slow
def test_the_table_has_the_bound_of_two_classes_and_the_certified_margin(smoke):
    rows = smoke
    random = rows[rows.dataset == "random:2:6"]
    assert random.reference_margin.nunique() == 1 and random.bound.isna().all()
    assert (random.normalized_margin <= random.reference_margin * (1 + 1e-7)).all()
    on_d = rows[(rows.dataset == "D:5:40") & (rows.lam == 1e-5)].iloc[0]
    expected = generalization_bound(on_d.normalized_margin, 40, 2.0, 2)  # ‖x‖² = d − 1
    assert on_d.bound == pytest.approx(float(expected))
    assert rows.bound[rows.dataset.str.startswith("teacher")].isna().all()
    bounded = rows[rows.bound.notna()]
    assert (bounded.test_error <= bounded.bound).all()
    assert (rows.failed == "").all() and tuple(rows) == width.COLUMNS


def test_an_error_stands_in_every_row_of_its_run():
    rows = pandas.DataFrame(width.points(CONFIG)).assign(failed="ValueError: no")
    found = width.table(rows, CONFIG)
    assert len(found) == 2 * len(rows) and (found.failed == "ValueError: no").all()
    assert found.normalized_margin.isna().all() and not found.converged.any()


@pytest.mark.slow
def test_a_wide_network_comes_to_the_certified_margin_and_one_neuron_does_not(smoke):
    best = best_margins(smoke)
    assert best.shape == (1, 2) and best[16].iloc[0] > 0.98 > best[1].iloc[0]
    assert len(width.claims(smoke, CONFIG)) == 3


@pytest.mark.slow
def test_the_figure_has_four_panels_with_lines(smoke):
    axes = width.figure(smoke, CONFIG).axes
    assert len(axes) == 4 and all(ax.lines for ax in axes)


def test_samples_and_test_points_of_a_teacher_are_labelled_by_it():
    _, train, test = samples_of(parsed("teacher:5:40"), 3, 200)
    _, same, _ = samples_of(parsed("teacher:5:40"), 3, 200)
    assert train.x.shape == (40, 5) and test.x.shape == (200, 5)
    assert np.array_equal(train.x, same.x)
    assert 0.02 < np.mean(np.asarray(test.y) > 0) < 0.98


def test_digits_are_split_into_samples_and_the_rest():
    _, train, test = samples_of(parsed("digits:300"), 0, 10)
    assert train.x.shape == (300, 64) and len(test.y) == 1497
    assert set(np.asarray(train.y).tolist()) == set(range(10))


@pytest.mark.parametrize("text", ["random:2", "D:2:10", "spiral:3:4", "digits:x", "random:2:1"])
def test_a_data_set_that_is_none_is_named(text):
    with pytest.raises(ValueError, match=f"dataset must be random.*got '{text}'"):
        parsed(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(margin_widths=(0,)), "margin_widths must be at least 1, got 0"),
        (dict(margin_sets=("random:5:10",)), "margin_sets must be random sets of dimension 4"),
        (dict(margin_sets=("teacher:3:10",)), "margin_sets must be random sets of dimension 4"),
        (dict(error_sets=("random:2:10",)), "error_sets must be teacher:DIM:N or digits:N"),
        (dict(error_lams=(0.0,)), "error_lams must be at least 1e-300 and finite, got 0.0"),
        (dict(bound_depths=(1,)), "bound_depths must be at least 2, got 1"),
        (dict(learning_rate=float("inf")), "learning_rate must be positive and finite, got inf"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_the_points_are_all_widths_and_seeds_once():
    rows = pandas.DataFrame(width.points(Config()))
    assert len(rows) == 8 * 4 * 8 + 4 * 2 * 8 + 4 * 3 * 8 and not rows.duplicated().any()
