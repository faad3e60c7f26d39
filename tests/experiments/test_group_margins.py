"""Margins on groups: claims that can fail, from the committed table."""

import judged
import numpy as np
import pytest

from ntkreg.experiments.group_margins import (
    EXACT,
    EXPERIMENT,
    LAW,
    MINIMUM,
    PURITY,
    REACHED,
    RELU,
    Config,
)

SMALLEST = Config().lams[-1]


def moved(column, value, **where):
    """An edit that sets a column in the trained rows, or in those that agree."""

    def edit(rows):
        chosen = np.logical_and.reduce(
            [rows.width > 0, *(rows[name] == wanted for name, wanted in where.items())]
        )
        return rows.assign(**{column: rows[column].mask(chosen, value)})

    return edit


everywhere = lambda column, value: lambda rows: rows.assign(**{column: value})


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (EXACT, lambda rows: rows, "holds"),
        (EXACT, everywhere("gap", 1e-9), "fails"),
        (EXACT, everywhere("closed_form_error", 1e-6), "fails"),
        (EXACT, everywhere("gap", np.nan), "undecided"),
        (REACHED, lambda rows: rows, "holds"),
        (REACHED, moved("short", 0.01, group="S3"), "fails"),
        (REACHED, moved("short", -1e-6, group="C5", seed=0), "fails"),  # above the bound
        (REACHED, moved("short", np.nan, group="C5"), "undecided"),
        (REACHED, moved("law_short", 0.01), "undecided"),  # nowhere is the law near enough
        (REACHED, lambda rows: rows[rows.width == 0], "not run"),
        (MINIMUM, lambda rows: rows, "holds"),
        (MINIMUM, moved("over", 0.1, group="Q8"), "undecided"),  # a seventh of them is missed
        (MINIMUM, moved("over", 0.1, seed=0), "holds"),  # the best seed reaches them
        (MINIMUM, moved("over", 0.1), "fails"),
        (MINIMUM, moved("over", -1e-6, seed=1), "fails"),
        (MINIMUM, moved("over", np.nan, seed=1), "undecided"),
        (PURITY, lambda rows: rows, "holds"),
        (PURITY, moved("impurity", 0.2, group="C7"), "fails"),
        (PURITY, moved("lacking", 1, group="C7"), "fails"),
        (PURITY, moved("over", 1.0), "undecided"),  # none is at the minimum
        (PURITY, moved("is_zero", True), "undecided"),  # all have collapsed, as they should
        (LAW, lambda rows: rows, "holds"),
        (LAW, moved("short", 0.1, lam=SMALLEST), "fails"),
        (LAW, moved("short", np.nan, lam=SMALLEST), "undecided"),
        (
            LAW,
            lambda rows: moved("short", 0.1, group="Q8")(
                moved("log_residual", 0.0, group="Q8")(rows)
            ),
            "holds",
        ),  # not stationary: counted apart
        (RELU, lambda rows: rows, "holds"),
        (RELU, everywhere("gap", 1e-9), "fails"),
        (RELU, moved("short", -1e-6, activation="relu", group="C5"), "fails"),  # above the bound
        (RELU, moved("over", -1e-6, activation="relu", seed=1), "fails"),
        (RELU, everywhere("proved", False), "undecided"),
        (RELU, lambda rows: rows[rows.activation == "quadratic"], "not run"),
    ],
)
def test_claims_are_judged(claim, edit, status):
    assert judged.status("group_margins", claim, edit) == status


def test_groups_that_were_asked_for_are_reached_to_a_thousandth():
    from ntkreg.sweeps import load

    table = load(judged.RESULTS / "group_margins" / "laptop")
    ends = table[table.lam == SMALLEST]
    for group in ("C3", "C5", "C7", "S3"):
        assert ends[ends.group == group].short.min() <= 1e-3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(cases=("C5",)), "cases must be group:width or group:width:relu, got 'C5'"),
        (dict(cases=("C5:0",)), "cases must be of width at least 1, got C5:0"),
        (dict(cases=("C5:8:tanh",)), "cases must be group:width or group:width:relu, got 'C5:8:ta"),
        (dict(exact=("C5:tanh",)), "exact must be names of groups, got 'C5:tanh'"),
        (dict(cases=("E8:4",)), "cases must be names of groups, got 'E8': name must be C, D"),
        (dict(exact=("Z5",)), "exact must be names of groups, got 'Z5': name must be C, D, S"),
        (dict(lams=(1e-4, 1e-2)), "lams must fall from each to the next, got 0.01 after 0.0001"),
        (dict(lams=(0.0,)), "lams must be positive and finite, got 0"),
        (dict(num_seeds=0), "num_seeds must be at least 1, got 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_one_half_may_be_left_out():
    assert len(EXPERIMENT.points(Config(cases=(), exact=("C3",)))) == 1
    assert len(EXPERIMENT.points(Config(cases=("C3:8",), exact=(), num_seeds=2))) == 2
