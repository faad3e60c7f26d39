"""What λ breaks: a small run, and claims that can fail."""

import functools
import itertools

import numpy as np
import pandas
import pytest

from ntkreg.experiments import regularization
from ntkreg.experiments.regularization import (
    COLUMNS,
    END,
    EXPERIMENT,
    FIRST_FIT,
    Config,
    better_claim,
    ends,
    leaves_claim,
)

CONFIG = EXPERIMENT.preset("smoke")
WIDTH = 256


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("regularization")


def all_rows():
    """Rows as the claims predict them, with some scatter over seeds."""
    rows = []
    cells = [(WIDTH, lam, look) for lam in (0.0, 1e-2) for look in (FIRST_FIT, END)]
    cells += [(4096, 0.0, look) for look in (FIRST_FIT, END)]
    for dataset, (width, lam, look), seed in itertools.product(("D", "teacher"), cells, range(4)):
        wave, ends_with_lam = 0.01 * (-1) ** seed, look == END and lam > 0
        row = dict.fromkeys(COLUMNS, 0.0) | dict(
            dataset=dataset, num_samples=160, width=width, lam=lam, look=look, seed=seed,
            normalized_margin=(0.1 if ends_with_lam else 0.03) + wave,
            test_error=(0.05 if ends_with_lam else 0.2) + wave,
            activation_change=(0.3 if ends_with_lam else 0.02) + wave,
            kernel_distance=(0.8 if ends_with_lam else 0.1) + wave, failed="",
        )  # fmt: skip
        rows.append(row)
    return pandas.DataFrame(rows)[list(COLUMNS)]


def better_on(dataset):
    return functools.partial(better_claim, dataset=dataset)


def test_the_claims_hold_on_rows_that_follow_theory():
    for claim in (better_on("D"), better_on("teacher"), leaves_claim):
        assert claim(all_rows(), WIDTH).status == "holds", claim(all_rows(), WIDTH)


@pytest.mark.parametrize(
    ("claim", "where", "column", "value"),
    [
        (better_on("teacher"), dict(dataset="teacher", lam=1e-2), "normalized_margin", 0.03),
        (better_on("D"), dict(dataset="D", lam=1e-2), "test_error", 0.2),
        (better_on("D"), dict(dataset="D", lam=0.0), "activation_change", 0.4),
        (better_on("D"), dict(width=WIDTH, lam=0.0, seed=1), "failed", "not finite"),
        (leaves_claim, dict(lam=1e-2), "activation_change", 0.19),
        (leaves_claim, dict(lam=1e-2), "kernel_distance", 0.49),
        (leaves_claim, dict(width=4096), "activation_change", 0.06),
        (leaves_claim, dict(width=4096, seed=0), "train_error", 0.1),
        (leaves_claim, dict(width=WIDTH, lam=1e-2, seed=0), "train_error", 0.1),
        (leaves_claim, dict(width=WIDTH, lam=1e-2, seed=0), "failed", "not finite"),
        (leaves_claim, dict(width=WIDTH, lam=1e-2, seed=0), "kernel_distance", np.nan),
        (better_on("D"), dict(width=WIDTH, lam=0.0, seed=0), "train_error", 0.1),
    ],
)
def test_each_claim_fails_where_its_rows_break_it(claim, where, column, value):
    rows = all_rows()
    chosen = np.logical_and.reduce([rows[name] == wanted for name, wanted in where.items()])
    rows.loc[chosen, column] = value
    assert claim(rows, WIDTH).status == "fails"


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
    found = regularization.claims(smoke, CONFIG)
    assert [c.statement for c in found] == [c.statement for c in EXPERIMENT.statements]
    assert [c.status == "not run" for c in found] == [False, True, False]
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
