"""Regression: the laws' closed forms, a small run, and claims that can fail."""

import math

import jax
import jax.numpy as jnp
import judged
import numpy as np
import pandas
import pytest
from scipy.integrate import quad

from ntkreg.data.dataset import relu_feature
from ntkreg.experiments import regression
from ntkreg.experiments.regression import (
    CLAIMS,
    ENERGIES,
    EXPERIMENT,
    FLOOR,
    LAWS,
    ON_D,
    ON_FEATURE,
    PLATEAU,
    STAIRCASE,
    Config,
    growth,
)

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("regression")


# The laws ----------------------------------------------------------------------------------------


def test_the_energies_are_those_of_the_hermite_coefficients():
    density = lambda z: math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    hermite = (lambda z: 1.0, lambda z: z, lambda z: (z**2 - 1) / math.sqrt(2))
    for energy, polynomial in zip(ENERGIES, hermite, strict=True):
        coefficient = quad(lambda z, h=polynomial: z * h(z) * density(z), 0, 12)[0]
        assert coefficient**2 == pytest.approx(energy, rel=1e-8)
    assert FLOOR < LAWS["relu_feature"].level < PLATEAU


def test_the_best_linear_predictor_of_the_feature_leaves_the_plateau():
    x, y = map(np.asarray, relu_feature(jax.random.key(0), 40_000, 4))
    design = np.column_stack([np.ones(len(y)), x])
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    assert np.mean(y**2) == pytest.approx(0.5, rel=0.03)
    assert np.mean(rest**2) == pytest.approx(PLATEAU, rel=0.03)


@pytest.mark.parametrize(("law", "weights"), [("D", 4 * [(1.0, 1.0)]), ("relu_feature", [(1, 1)])])
@pytest.mark.parametrize("lam", [1e-5, 1e-2, 10.0])
def test_the_planted_network_s_objective_is_its_least_over_scales(law, weights, lam):
    """Scales on a fine grid; D has the four neurons ±e₁, ±e₂ with output weights ±1."""
    norm = np.square(weights).sum()
    assert norm == LAWS[law].planted_norm
    y = np.random.default_rng(0).normal(size=30) if law == "relu_feature" else np.ones(30)
    scales = 1 - np.concatenate([np.linspace(0, 1, 2001), np.geomspace(1e-7, 1, 2001)])
    values = np.mean(y**2) * (1 - scales) ** 2 + lam * norm * scales
    found = regression.planted_objective(lam, LAWS[law].planted_norm, jnp.mean(y**2))
    assert float(found) == pytest.approx(values.min(), rel=1e-5)


# The run -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_both_predictors_fit_their_samples(smoke):
    assert len(smoke) == 2 * 2 * 2 * CONFIG.num_seeds and (smoke.failed == "").all()
    ntk = smoke[smoke.predictor == "ntk"]
    assert ntk.solved.all() and (ntk.train_loss < 1e-20).all()
    assert (smoke[smoke.predictor == "network"].train_loss < 1e-4).all()
    assert (smoke.test_error > 0).all() and (smoke[smoke.law == "D"].test_error <= 1).all()


def test_samples_fill_their_rows_and_test_points_among_them_do_not_count():
    draw = jax.jit(lambda n, seed: regression.samples_of(CONFIG, "D", 9, n, 27, seed))
    _, train, test, is_fresh = draw(9, 0)
    assert np.array_equal(train.x[:9], train.x[18:]) and len(np.unique(train.x, axis=0)) == 9
    seen = (np.asarray(test.x)[:, None] == np.asarray(train.x)[None]).all(-1).any(1)
    assert np.array_equal(is_fresh, ~seen) and seen.any()


@pytest.mark.slow
def test_more_samples_teach_the_network(smoke):
    means = smoke.groupby(["law", "predictor", "num_samples"]).test_error.mean()
    for law in LAWS:
        assert means[law, "network", 27] < 0.7 * means[law, "network", 9]


@pytest.mark.slow
def test_a_small_run_has_no_exponents_and_its_figure_has_three_panels_for_each_law(smoke):
    found = regression.claims(smoke, CONFIG)
    assert [len(claim.checks) for claim in found] == [2, 2, 2]  # one dimension has no exponent
    axes = regression.figure(smoke, CONFIG).axes
    assert len(axes) == 6 and all(ax.lines for ax in axes)


# The claims --------------------------------------------------------------------------------------


def with_errors(predictor, law, of, **columns):
    """An edit of a predictor's rows on one law: `of` makes their errors."""

    def edit(rows):
        which = (rows.predictor == predictor) & (rows.law == law)
        return pandas.concat(
            [rows[~which], rows[which].assign(test_error=lambda rows: of(rows), **columns)]
        )

    return edit


FEATURE = "relu_feature"
same = lambda rows: rows.test_error
late = lambda rows: rows.test_error + (rows.dim == 30) * (rows.num_samples >= 120)


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        *((claim, lambda rows: rows, "holds") for claim in CLAIMS),
        (ON_D, with_errors("network", "D", late), "fails"),
        (ON_D, with_errors("network", "D", late, solved=False), "undecided"),
        (ON_D, with_errors("network", "D", lambda rows: np.nan), "undecided"),
        (ON_D, with_errors("ntk", "D", lambda rows: rows.test_error - 0.2), "fails"),
        (ON_D, with_errors("ntk", "D", lambda rows: 0.5 + 0.1 * (-1) ** rows.seed), "undecided"),
        (ON_D, with_errors("ntk", "D", same, solved=False), "undecided"),
        (ON_D, lambda rows: rows[rows.law == FEATURE], "not run"),
        (ON_FEATURE, with_errors("network", FEATURE, late), "fails"),
        (ON_FEATURE, with_errors("ntk", FEATURE, lambda rows: rows.test_error / 3), "fails"),
        (ON_FEATURE, with_errors("network", FEATURE, same, solved=False), "undecided"),
        (STAIRCASE, with_errors("ntk", FEATURE, lambda rows: 0.5 * rows.test_error), "fails"),
        (STAIRCASE, with_errors("ntk", FEATURE, lambda rows: 1.5 * rows.test_error), "fails"),
        (STAIRCASE, with_errors("ntk", FEATURE, lambda rows: 1.2 * rows.test_error), "undecided"),
        (STAIRCASE, with_errors("ntk", FEATURE, same, solved=False), "undecided"),
        (STAIRCASE, lambda rows: rows[rows.law == "D"], "not run"),
    ],
)
def test_a_claim_is_judged_by_runs_at_their_optimum(claim, edit, status):
    assert judged.status("regression", claim, edit) == status


def test_the_growth_is_that_of_the_largest_error_over_n():
    rows = pandas.DataFrame(regression.points(Config()))
    rows = rows.assign(test_error=rows.dim**0.3 * np.sqrt(rows.dim / rows.num_samples))
    assert growth(rows, "D", "ntk").measured == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(laws=("E",)), "laws must be one of D, relu_feature, got E"),
        (dict(dims=(2,)), "dims must be at least 3, got 2"),
        (dict(sizes_over_d2=(0.0,)), "sizes_over_d2 must be positive and finite, got 0.0"),
        (dict(lams=(1e-3, 0.0)), "lams must be positive and finite, got 0.0"),
        (dict(width=3), "width must be at least 4, to plant D's, got 3"),
        (dict(num_test=0), "num_test must be at least 1, got 0"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
