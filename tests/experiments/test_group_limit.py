"""λ → 0 on groups: claims that can fail, from the committed table."""

import judged
import numpy as np
import pytest

from ntkreg.experiments.group_limit import BELOW, BEST, DISTANCE, HELD, Config, best_found
from ntkreg.sweeps import load

everywhere = lambda column, value: lambda rows: rows.assign(**{column: value})


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (BELOW, lambda rows: rows, "holds"),
        (BELOW, everywhere("margin", 0.1), "fails"),
        (BELOW, everywhere("margin", np.nan), "undecided"),
        (HELD, lambda rows: rows, "finding"),
        (DISTANCE, lambda rows: rows, "finding"),
        (BEST, lambda rows: rows, "finding"),
    ],
)
def test_claims_are_judged(claim, edit, status):
    assert judged.status("group_limit", claim, edit) == status


def test_the_best_found_are_near_those_that_are_known_and_not_above():
    known = {"S3": 6 / (18 + 108 * 2 ** (-2 / 3)) ** 1.5, "C5": 0.0089667421}
    found = best_found(load(judged.RESULTS / "group_limit" / "laptop"))
    for group, margin in known.items():
        assert 0.98 * margin < found[group] <= margin * (1 + 1e-9)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(groups=("S3xB",)), "groups must be names of groups, got 'S3xB': name must"),
        (dict(groups=("S99",)), "got 'S99': the order of a group must be at most 2000, got S99"),
        (dict(lams=(0.0,)), "lams must be positive and finite, got 0"),
        (dict(lams=(1e-4, 1e-2)), "lams must fall from each to the next, got 0.01 after 0.0001"),
        (dict(widths=(4, 4)), "widths must have each value once, got 4 twice"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
