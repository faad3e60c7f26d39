"""What λ breaks: a small run, and claims that can fail."""

import judged
import numpy as np
import pytest

from ntkreg.experiments import regularization
from ntkreg.experiments.regularization import (
    BETTER,
    COLUMNS,
    END,
    EXPERIMENT,
    FIRST_FIT,
    LEAVES,
    Config,
    ends,
)

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("regularization")


def moved(column, by, **where):
    """An edit that moves a column `by` a number in these rows."""

    def edit(rows):
        chosen = np.logical_and.reduce([rows[name] == wanted for name, wanted in where.items()])
        return rows.assign(**{column: rows[column] + np.where(chosen, by, 0)})

    return edit


def scattered(column, value):
    """An edit after which a column is about `value` wherever there is λ, and 0 elsewhere."""
    return lambda rows: rows.assign(**{column: (rows.lam > 0) * (value + 0.1 * (-1) ** rows.seed)})


ON_D, ON_TEACHER = BETTER["D"], BETTER["teacher"]
with_lam = dict(look=END, lam=1e-2, dataset="D")
wide = dict(look=FIRST_FIT, width=4096)


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (ON_D, lambda rows: rows, "holds"),
        (ON_D, moved("test_error", 0.3, **with_lam), "fails"),
        (ON_D, moved("activation_change", -0.3, **with_lam), "fails"),
        (ON_D, scattered("normalized_margin", 0.0), "undecided"),
        (ON_D, moved("train_error", 0.1, **with_lam), "undecided"),
        (ON_D, moved("test_error", np.nan, **with_lam, seed=0), "undecided"),
        (ON_D, lambda rows: rows[rows.lam == 0], "not run"),
        (ON_TEACHER, lambda rows: rows, "undecided"),
        (ON_TEACHER, moved("test_error", 0.1, dataset="teacher", lam=3e-3), "fails"),
        (ON_TEACHER, lambda rows: rows[rows.dataset == "D"], "not run"),
        (LEAVES, lambda rows: rows, "holds"),
        (LEAVES, moved("activation_change", -0.2, **with_lam), "fails"),
        (LEAVES, moved("kernel_distance", -0.5, **with_lam), "fails"),
        (LEAVES, moved("activation_change", 0.1, **wide), "fails"),
        (LEAVES, scattered("kernel_distance", 0.5), "undecided"),
        (LEAVES, moved("train_error", 0.1, **wide), "undecided"),
        (LEAVES, moved("kernel_distance", np.nan, **with_lam, seed=0), "undecided"),
        (LEAVES, lambda rows: rows[rows.lam == 0], "not run"),
    ],
)
def test_a_claim_is_judged_by_networks_that_fit(claim, edit, status):
    assert judged.status("regularization", claim, edit) == status


def test_pairs_that_do_not_fit_are_left_out_and_counted():
    edits = (
        moved("train_error", 0.1, **with_lam, seed=0),
        moved("test_error", 9, **with_lam, seed=0),
    )
    found = judged.judged("regularization", lambda rows: edits[1](edits[0](rows)))[ON_D.statement]
    assert found.status == "holds" and found.apart == ("1 of 5 pairs do not both fit",)


@pytest.mark.slow
def test_a_small_run_is_taken_out_of_the_kernel_regime_by_lam(smoke):
    assert list(smoke.columns) == list(COLUMNS)
    assert len(smoke) == 3 * CONFIG.num_seeds * (1 + CONFIG.num_looks)
    change = ends(smoke, CONFIG.width).groupby("lam").activation_change.mean()
    assert change[1e-2] > change[0.0]
    fit = smoke[smoke["look"] == FIRST_FIT]
    assert (fit.train_error == 0).all()
    by_width = fit[fit.lam == 0].groupby("width").activation_change.mean()
    assert by_width[256] < by_width[CONFIG.width]
    found = [claim.statement for claim in regularization.claims(smoke, CONFIG)]
    assert found == [BETTER["D"].statement, LEAVES.statement]
    assert all(ax.lines for ax in regularization.figure(smoke, CONFIG).axes)


@pytest.mark.slow
def test_the_same_seed_has_the_same_start_with_and_without_lam(smoke):
    first = smoke[(smoke.step == 1) & (smoke.width == CONFIG.width)]
    margins = first.pivot(index="seed", columns="lam", values="normalized_margin")
    np.testing.assert_allclose(margins[0.0], margins[1e-2], atol=1e-3)


@pytest.mark.slow
def test_other_widths_take_steps_of_their_own(smoke):
    last = smoke[smoke["look"] == END].groupby("width").step.unique()
    assert last[CONFIG.width] == [CONFIG.num_steps] and last[256] == [CONFIG.wide_steps]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(datasets=("spiral",)), "datasets must be one of D, teacher, got spiral"),
        (dict(lams=(-1.0,)), "lams must be finite and at least 0, got -1.0"),
        (dict(output_scale=0.0), "output_scale must be positive and finite, got 0.0"),
        (dict(width=1024), "wide_widths must differ from width=1024, has it too"),
        (dict(lams=(0.0, 0.0)), "lams must have each value once, got 0.0 twice"),
        (dict(num_steps=5), "num_looks must be at least 2, and so few .* 1 to 5, .*, got 7"),
        (dict(wide_widths=(0,)), "wide_widths must be at least 1, got 0"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
