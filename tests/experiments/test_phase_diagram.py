"""The phase diagram: a small run, and claims that can fail."""

import itertools

import pandas
import pytest

from ntkreg.experiments import phase_diagram
from ntkreg.experiments.phase_diagram import (
    EXPERIMENT,
    KEPT,
    PUBLISHED,
    Config,
    baseline,
    baseline_claim,
    crossing_of,
    diagram,
    mean_errors,
    regimes_claim,
)

CONFIG = EXPERIMENT.preset("smoke")
SCALES, LAMS = (1e-2, 1.0, 100.0), (0.0, 1e-4, 1e-2, 1e-1)


def row(width, dim, n, scale, lam, seed, error):
    return dict.fromkeys(KEPT, 0.0) | dict(
        dataset="D", width=width, dim=dim, num_samples=n, init_scale=scale, lam=lam, seed=seed,
        test_error=error, failed="",
    )  # fmt: skip


def map_rows():
    """A small start learns without λ, a large one with 1e-2 alone, nothing with 1e-1."""
    error = lambda scale, lam: 0.5 if lam == 1e-1 else 0.0 if scale == 1e-2 or lam == 1e-2 else 0.4
    grid = itertools.product(SCALES, LAMS, range(3))
    rows = pandas.DataFrame([row(100, 20, 160, r, lam, s, error(r, lam)) for r, lam, s in grid])
    return rows.assign(normalized_margin=0.1 - rows.test_error / 10)


def baseline_rows(factor=1.0):
    """Errors that fall through 40 % at `factor` times the published n."""
    errors = {0.5: 0.5, 0.75: 0.45, 1.0: 0.4, 1.5: 0.2}
    return pandas.DataFrame(
        [
            row(10, dim, round(factor * PUBLISHED[dim] * size), 0.1, 0.0, s, e + 0.02 * (-1) ** s)
            for dim in (20, 40)
            for size, e in errors.items()
            for s in range(4)
        ]
    )


def test_the_claims_hold_on_rows_that_follow_theory():
    assert regimes_claim(map_rows()).status == "holds", regimes_claim(map_rows())
    assert baseline_claim(baseline_rows()).status == "holds", baseline_claim(baseline_rows())


@pytest.mark.parametrize(
    ("where", "value"),
    [
        ({"lam": 0.0}, 0.4),  # nobody learns without λ
        ({"lam": 0.0}, 0.0),  # everybody does
        ({"lam": 1e-2}, 0.3),  # λ does not help
        ({"lam": 1e-1}, 0.1),  # a large λ does no harm
    ],
)
def test_without_one_of_its_regimes_the_first_claim_fails(where, value):
    rows = map_rows()
    ((name, wanted),) = where.items()
    rows.loc[rows[name] == wanted, "test_error"] = value
    assert regimes_claim(rows).status == "fails"


@pytest.mark.parametrize(("column", "value"), [("failed", "not finite"), ("train_error", 0.1)])
def test_errors_of_networks_that_failed_to_train_are_no_regime(column, value):
    rows = map_rows()
    rows.loc[(rows.init_scale == 100.0) & (rows.lam == 0) & (rows.seed == 0), column] = value
    assert regimes_claim(rows).status == "fails"


def test_regimes_the_other_way_round_fail():
    rows = map_rows()
    assert regimes_claim(rows.assign(init_scale=1 / rows.init_scale)).status == "fails"


def test_the_baseline_fails_far_from_the_published_size():
    for factor in (0.5, 2.0):
        assert baseline_claim(baseline_rows(factor)).status == "fails"
    at, (low, high) = crossing_of(baseline_rows(), 20)
    assert low <= at <= high and at == pytest.approx(PUBLISHED[20], rel=0.01)


def test_a_small_run_needs_lam_only_from_a_large_start(smoke_table):
    rows = smoke_table("phase_diagram")
    errors = mean_errors(diagram(rows, CONFIG))
    assert errors.loc[0.0, 1e-2] < 0.05 < errors.loc[0.0, 10.0]
    assert errors.loc[1e-2, 10.0] < 0.05 < errors.loc[1e-1, 10.0]
    assert len(baseline(rows, CONFIG)) == CONFIG.baseline_seeds
    found = phase_diagram.claims(rows, CONFIG)
    assert [c.statement for c in found] == [c.statement for c in EXPERIMENT.statements]
    maps = phase_diagram.figure(rows, CONFIG).axes
    assert len(maps) == 3 and len(maps[0].texts) == errors.size


def test_the_baseline_is_run_once_where_it_is_in_the_diagram():
    config = Config(size_over_d=4, baseline_dims=(20,), baseline_sizes=(80 / PUBLISHED[20],))
    found = phase_diagram.points(config)
    cells = len(config.widths) * len(config.init_scales) * len(config.lams)
    assert len(found) == cells * config.num_seeds + config.baseline_seeds - config.num_seeds
    assert len({repr(point) for point in found}) == len(found)
    rows = pandas.DataFrame(found)
    assert len(baseline(rows, config)) == config.baseline_seeds
    assert len(diagram(rows, config)) == cells * config.num_seeds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(baseline_dims=(30,)), "baseline_dims must be one of 20, 40, .*, got 30"),
        (dict(init_scales=(0.0,)), "init_scales must be positive and finite, got 0.0"),
        (dict(lams=(float("nan"),)), "lams must be finite and at least 0, got nan"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
