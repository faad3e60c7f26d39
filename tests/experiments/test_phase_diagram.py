"""The phase diagram: a small run, and claims that can fail."""

import dataclasses

import judged
import numpy as np
import pandas
import pytest

from ntkreg.experiments import phase_diagram
from ntkreg.experiments.phase_diagram import (
    BASELINE,
    EXPERIMENT,
    PUBLISHED,
    REGIMES,
    Config,
    baseline,
    baseline_claim,
    diagram,
    mean_errors,
)

CONFIG = EXPERIMENT.preset("smoke")


def moved(column, value, **where):
    """An edit that sets a column in these rows."""

    def edit(rows):
        chosen = np.logical_and.reduce([rows[name] == wanted for name, wanted in where.items()])
        new = value(rows) if callable(value) else value
        return rows.assign(**{column: rows[column].mask(chosen, new)})

    return edit


plain, cured = dict(lam=0.0, width=100), dict(lam=1e-2, width=100, init_scale=100.0)
published = dict(lam=0.0, width=10, init_scale=0.1)
scattered = lambda rows: 0.05 + 0.04 * (-1) ** rows.seed
noisy = lambda rows: rows.test_error + 0.3 * (-1) ** rows.seed


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (REGIMES, lambda rows: rows, "holds"),
        (REGIMES, moved("test_error", 0.4, **plain), "fails"),  # nobody learns without λ
        (REGIMES, moved("test_error", 0.0, **plain), "fails"),  # everybody does
        (REGIMES, moved("test_error", 0.3, **cured), "fails"),  # λ does not help
        (REGIMES, moved("test_error", 0.1, lam=1e-1), "fails"),  # a large λ does no harm
        (REGIMES, moved("test_error", scattered, **cured), "undecided"),
        (REGIMES, moved("train_error", 0.1, **cured), "undecided"),
        (REGIMES, moved("failed", "not finite", lam=1e-1), "undecided"),
        (REGIMES, lambda rows: rows.assign(init_scale=1 / rows.init_scale), "fails"),
        (REGIMES, lambda rows: rows[rows.lam > 0], "not run"),
        (BASELINE, lambda rows: rows, "holds"),
        (BASELINE, moved("test_error", 0.5, **published), "undecided"),
        (BASELINE, moved("test_error", noisy, **published), "undecided"),
        (BASELINE, moved("test_error", np.nan, **published, seed=0), "undecided"),
        (BASELINE, lambda rows: rows[rows.width > 10], "not run"),
    ],
)
def test_a_claim_is_judged_by_intervals_over_seeds(claim, edit, status):
    assert judged.status("phase_diagram", claim, edit) == status


@pytest.mark.parametrize("sizes", [{20: 40, 40: 100}, {20: 160, 40: 400}])
def test_the_baseline_fails_far_from_the_published_size(sizes, monkeypatch):
    """What is measured is at 72 and 201."""
    config = dataclasses.replace(EXPERIMENT.preset("laptop"), baseline_dims=(20, 40))
    rows = baseline(judged.load(judged.RESULTS / "phase_diagram" / "laptop"), config)
    monkeypatch.setattr(phase_diagram, "PUBLISHED", sizes)
    assert baseline_claim(rows).status == "fails"


def test_errors_of_networks_that_failed_to_train_are_no_regime():
    found = judged.judged("phase_diagram", moved("train_error", 0.1, **cured, seed=0))
    claim = found[REGIMES.statement]
    assert claim.apart == ("1 runs do not fit, or diverged",)


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
