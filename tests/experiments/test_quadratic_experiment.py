"""D with z² networks: claims that can fail, from the committed table."""

import judged
import numpy as np
import pytest

from ntkreg.experiments.quadratic import (
    CERTIFIED,
    KERNEL,
    NETWORK,
    POPULATION,
    REACHED,
    SEPARATION,
    TRAINED,
    Config,
)


def moved(column, value, predictor):
    """An edit that sets a column of a predictor."""

    def edit(rows):
        new = value(rows) if callable(value) else value
        return rows.assign(**{column: rows[column].mask(rows.predictor == predictor, new)})

    return edit


over_d = lambda rows: 0.5 * (rows.num_samples < 6 * rows.dim)


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (CERTIFIED, lambda rows: rows, "holds"),
        (CERTIFIED, moved("gap", 1e-6, NETWORK), "fails"),
        (CERTIFIED, moved("gap", np.nan, NETWORK), "undecided"),
        (SEPARATION, lambda rows: rows, "holds"),
        (SEPARATION, moved("test_error", over_d, KERNEL), "fails"),  # the kernel needs d alone
        (SEPARATION, moved("test_error", 0.5, NETWORK), "undecided"),  # it crosses nowhere
        (SEPARATION, lambda rows: rows[rows.seed == 0], "undecided"),
        (POPULATION, lambda rows: rows, "finding"),
        (REACHED, lambda rows: rows, "holds"),
        (REACHED, moved("short", 0.1, TRAINED), "fails"),
        (REACHED, moved("short", -1e-3, TRAINED), "fails"),
        (REACHED, moved("short", lambda rows: 0.01 * rows.seed, TRAINED), "undecided"),
        (REACHED, lambda rows: rows[rows.predictor != TRAINED], "not run"),
    ],
)
def test_claims_are_judged(claim, edit, status):
    assert judged.status("quadratic", claim, edit) == status


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(2,)), "dims must be at least 3, got 2"),
        (dict(sizes_over_d=(0.0,)), "sizes_over_d must be finite, of a sample at least, got 0.0"),
        (dict(dims=(30,)), r"trained_dims must be among the dims \(30,\), got 10"),
        (dict(lams=(np.inf,)), "lams must be positive and finite, got inf"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
