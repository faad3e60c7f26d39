"""The claim on the floor is judged by the table, and can fail."""

import numpy as np
import pandas
import pytest

from ntkreg.experiments.error_floor import CLAIM, EXPERIMENT, Config

CONFIG = Config(dims=(20, 40), sizes=(0.1, 0.3), num_seeds=3)


def table(floor=0.011, exponent=0.0, error=0.4):
    rows = pandas.DataFrame(EXPERIMENT.points(CONFIG))
    floors = floor * (rows.dim / 20.0) ** exponent * (1 + 0.01 * rows.seed)
    return rows.assign(floor=floors, ratio=0.1, r_squared=0.08, test_error=error)


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (lambda: table(), "holds"),
        (lambda: table(floor=0.004), "fails"),
        (lambda: table(exponent=-0.5), "fails"),
        (lambda: table(error=0.01), "fails"),
        (lambda: table()[lambda r: r.dim == 20], "undecided"),
        (lambda: table()[lambda r: r.num_samples < 0.2 * r.dim**2], "undecided"),
    ],
)
def test_the_claim_is_judged(rows, status):
    (claim,) = EXPERIMENT.claims(rows(), CONFIG)
    assert claim.statement == CLAIM.statement and claim.status == status


def test_a_sample_without_a_floor_fails_the_claim():
    rows = table()
    rows.loc[rows.index[-1], "floor"] = 0.0
    (claim,) = EXPERIMENT.claims(rows, CONFIG)
    assert claim.status == "fails"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(3,)), "dims must be at least 4, got 3"),
        (dict(sizes=(0.0,)), "sizes must be positive and finite, got 0.0"),
        (dict(num_test=0), "num_test must be at least 1, got 0"),
        (dict(depth=1), "depth must be at least 2, got 1"),
        (dict(sizes=(0.3, 0.3)), "sizes must have each value once, got 0.3 twice"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_the_floor_of_a_run_is_below_its_error():
    config = Config(dims=(10,), sizes=(0.2,), num_seeds=1, num_test=1000)
    found = EXPERIMENT.run(config, **EXPERIMENT.points(config)[0])
    assert 0 <= found["floor"] < found["test_error"] <= 1
    assert 0 <= found["r_squared"] <= 1 and np.isfinite(found["test_error"])
