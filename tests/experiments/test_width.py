"""Width: a small run, tables with bounds in them, and claims that can fail."""

import judged
import numpy as np
import pandas
import pytest

from ntkreg.experiments import width
from ntkreg.experiments._training import parsed, samples_of
from ntkreg.experiments.width import BOUND, ERROR, WIDTH, Config, best_margins
from ntkreg.theory.bounds import generalization_bound

CONFIG = width.EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("width")


def change(where, **changes):
    """The table with its columns changed on the rows where a query is true."""

    def edit(rows):
        at = rows.eval(where)
        return rows.assign(
            **{name: rows[name].mask(at, new(rows)) for name, new in changes.items()}
        )

    return edit


RANDOM, ON_D = "reference_margin > 0", "bound > 0"
WIDE = "reference_margin > 0 and width > 10"
WIDEST = "dataset.str.startswith('teacher') and width == 1024"


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (WIDTH, lambda rows: rows, "holds"),
        (ERROR, change(WIDEST, test_error=lambda r: 0.0), "holds"),
        (WIDTH, change(WIDE, normalized_margin=lambda r: 1.001 * r.reference_margin), "fails"),
        (WIDTH, change(WIDE, normalized_margin=lambda r: 0.98 * r.reference_margin), "undecided"),
        (WIDTH, change(RANDOM, reference_margin=lambda r: np.nan), "undecided"),
        (WIDTH, lambda rows: rows[~rows.eval(WIDE)], "undecided"),
        (WIDTH, change(RANDOM, reference_margin=lambda r: 0.0), "not run"),
        (ERROR, change(WIDEST, test_error=lambda r: 0.3), "fails"),
        (ERROR, change(WIDEST, normalized_margin=lambda r: 0.01), "fails"),
        (ERROR, change(WIDEST, test_error=lambda r: 0.13 + 0.01 * r.seed), "undecided"),
        (ERROR, change(WIDEST, normalized_margin=lambda r: -1.0), "undecided"),
        (ERROR, lambda rows: rows[rows.width == 1024], "not run"),
        (BOUND, lambda rows: rows, "holds"),
        (BOUND, change(ON_D, test_error=lambda r: r.bound / 100), "holds"),
        (BOUND, change(ON_D, test_error=lambda r: 1 / r.bound), "fails"),
        (
            BOUND,
            change(ON_D, bound=lambda r: r.bound / 10, test_error=lambda r: r.bound / 99),
            "holds",
        ),
        (BOUND, lambda rows: rows[rows.bound.isna()], "not run"),
    ],
)
def test_claims_are_judged(claim, edit, status):
    assert judged.status("width", claim, edit, "thorough") == status


def test_an_error_above_a_bound_that_says_something_fails():
    edit = change(ON_D, bound=lambda r: r.bound / 10, test_error=lambda r: r.bound / 9)
    found = judged.judged("width", edit, "thorough")[BOUND.statement]
    assert found.status == "fails" and found.deciding.what == "test error over bounds below 1"


def test_trials_that_do_not_fit_are_counted_apart():
    edit = change(WIDEST + " and seed == 1", normalized_margin=lambda r: -1.0)
    found = judged.judged("width", edit, "thorough")[ERROR.statement]
    assert found.apart == ("1 of 8 trials (teacher) do not fit at both widths",)
    assert found.checks[0].runs == "7 of 8 trials"


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
    assert len(width.claims(smoke, CONFIG)) == 2  # one width beside test errors


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
