"""Claims: what an interval decides, what NaN and no run leave open, and what run.json keeps."""

import json
import math

import numpy as np
import pandas
import pytest
import scipy.stats

from ntkreg.experiments import _claims
from ntkreg.experiments._claims import Check, Claim, every, exact, mean, share, worst

CLAIM = Claim("Margins grow", "derived here")
NAN = math.nan


def status(low, high, relation, bound=1.0):
    return Check("margin", (low + high) / 2, low, high, bound, relation).status


@pytest.mark.parametrize(
    ("low", "high", "at_most", "at_least"),
    [
        (0.1, 0.9, "holds", "fails"),
        (0.1, 1.0, "holds", "undecided"),
        (1.1, 1.9, "fails", "holds"),
        (1.0, 1.9, "undecided", "holds"),
        (0.9, 1.1, "undecided", "undecided"),
        (1.0, 1.0, "holds", "holds"),
        (NAN, NAN, "undecided", "undecided"),
        (math.inf, math.inf, "fails", "holds"),
    ],
)
def test_the_whole_interval_must_be_on_one_side_of_the_bound(low, high, at_most, at_least):
    assert (status(low, high, "≤"), status(low, high, "≥")) == (at_most, at_least)


@pytest.mark.parametrize("relation", ["≤", "≥"])
@pytest.mark.parametrize(
    "check",
    [
        lambda *rule: exact("a", NAN, *rule),
        lambda *rule: every("a", [0.5, NAN], *rule, "runs"),
        lambda *rule: every("a", pandas.Series([0.5, NAN]), *rule, "runs"),
        lambda *rule: every("a", pandas.Series([], dtype=float), *rule, "runs"),
        lambda *rule: mean("a", pandas.Series([0.5, NAN, 0.5]), *rule),
        lambda *rule: mean("a", [0.5], *rule),
        lambda *rule: mean("a", [], *rule),
        lambda *rule: share("a", 0, 0, *rule),
    ],
)
def test_nan_and_no_run_decide_nothing(check, relation):
    for bound in (0.0, 1.0):  # on either side of the values that are there
        assert check(bound, relation).status == "undecided"


def test_no_run_solved_reads_undecided():
    found = CLAIM.on(every("gap", [], 0.1, "≤", "of 12 runs solved"))
    assert found.status == "undecided" and found.deciding.runs == "0 of 12 runs solved"
    assert CLAIM.status == "not run"


def test_the_worst_check_decides_and_of_several_the_first():
    holds, undecided = exact("a", 0.0, 1.0, "≤"), exact("b", NAN, 1.0, "≤")
    fails, finding = exact("c", 2.0, 1.0, "≤"), exact("d", 2.0)
    order = [finding, holds, undecided, fails]
    for last in range(4):
        assert CLAIM.on(*order[: last + 1]).deciding is order[last]
    assert [CLAIM.on(check).status for check in order] == ["finding", "holds", "undecided", "fails"]
    assert CLAIM.on(holds._replace(what="e"), holds).deciding.what == "e"


def test_every_value_is_held_against_the_bound():
    assert every("a", [1, 3, 2], 2.5, "≤", "runs") == Check("a", 3, 3, 3, 2.5, "≤", "3 runs")
    assert every("a", [1, 3, 2], 2.5, "≥", "runs") == Check("a", 1, 1, 1, 2.5, "≥", "3 runs")


def test_a_mean_is_inside_its_interval_and_more_values_narrow_it():
    values = np.random.default_rng(0).normal(size=400)
    few, many = mean("a", values[:20]), mean("a", values)
    assert few.status == "finding" and few.runs == "20 seeds"
    for check in (few, many):
        assert check.low < check.measured < check.high
    assert many.high - many.low < (few.high - few.low) / 2


@pytest.mark.parametrize(("successes", "trials"), [(0, 12), (3, 12), (12, 12)])
def test_a_share_has_the_interval_of_clopper_and_pearson(successes, trials):
    """Its ends are quantiles of beta distributions."""
    beta = scipy.stats.beta.ppf
    low = beta(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    found = share("a", successes, trials)
    assert found[1:4] == pytest.approx((successes / trials, low, high), abs=1e-9)
    assert found.runs == f"{successes} of {trials} runs"


def test_the_worst_of_checks_is_furthest_beyond_the_bound_or_unknown():
    near, far = Check("near", 0.5, 0.4, 0.6, 1.0, "≤"), Check("far", 0.4, 0.1, 0.9, 1.0, "≤")
    assert worst([near, far]).what == "far"
    assert worst([check._replace(relation="≥") for check in (near, far)]).what == "far"
    assert worst([far._replace(high=0.5), near]).what == "near"
    for unknown in (near._replace(low=NAN), near._replace(high=NAN)):
        assert worst([far, unknown]) is unknown


def test_run_json_keeps_a_claim_with_what_is_unknown_or_infinite():
    known = CLAIM.on(
        Check("a", 0.5, NAN, NAN, 1.0, "≤", "1 seed"),
        exact("b", math.inf, 1.0, "≤"),
        exact("c", 2.0),
        apart=("1 of 3 runs", ""),
    )
    text = json.dumps(known.as_dict(), allow_nan=False)
    assert json.loads(text)["status"] == "fails"
    found = _claims.restored(json.loads(text))
    assert repr(found) == repr(known) and found.apart == ("1 of 3 runs",)  # NaN ≠ NaN
    assert [check.status for check in found.checks] == ["undecided", "fails", "finding"]


@pytest.mark.parametrize(
    ("check", "found", "required"),
    [
        (exact("a", 0.12345, 1e-5, "≤"), "0.123", "≤ 1e-05"),
        (Check("a", 0.12345, 0.1, 0.2, 1.0, "≥"), "0.123 [0.1, 0.2]", "≥ 1"),
        (Check("a", 0.5, -math.inf, NAN), "0.5 [-∞, n/a]", "—"),
    ],
)
def test_numbers_are_printed_with_three_digits(check, found, required):
    assert (check.found, check.required) == (found, required)
