"""Teachers: the samples and what is planted in them, a small run, and claims that can fail."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from scipy.optimize import minimize_scalar

from ntkreg.experiments import teacher
from ntkreg.experiments.teacher import (
    BOUNDS,
    COLUMNS,
    EXPERIMENT,
    PREDICTORS,
    TASKS,
    Config,
    bound_claim,
    compared_size,
    error_claim,
)
from ntkreg.sweeps.store import read_batches
from ntkreg.theory.bounds import kernel_bound, two_layer_bound
from ntkreg.training.objectives import get_loss

# Two of the tasks, one of each loss: the third would only be compiled again.
CONFIG = EXPERIMENT.preset("smoke")


@functools.partial(jax.jit, static_argnums=0)
def drawn(task, seed):
    return teacher.samples_of(CONFIG, task, 30, seed)


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("teacher")


@pytest.mark.parametrize("task", TASKS)
def test_the_planted_network_gives_the_labels(task):
    _, train, test, planted = drawn(task, 3)
    assert train.x.shape == (30, CONFIG.dim) and test.y.shape == (CONFIG.num_test,)
    first, last = map(np.asarray, planted)
    for samples in (train, test):
        outputs = np.maximum(samples.x @ first, 0) @ last[:, 0]
        if task == "classification":
            assert (outputs * samples.y >= CONFIG.teacher_margin).all()
        else:
            np.testing.assert_allclose(outputs, samples.y, atol=1e-12)
    if task == "regression":
        assert np.std(np.concatenate([train.y, test.y])) == pytest.approx(1.0)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_the_planted_objective_is_that_of_the_best_scale_of_balanced_neurons(loss):
    _, train, _, planted = drawn("parity", 3)
    lam, stretched = 1e-6, (3.0 * planted[0], planted[1] / 3.0)
    value = np.log1p(np.exp(-1.0)) if loss == "logistic" else 0.0  # all outputs are y
    of = lambda c: (
        (np.log1p(np.exp(-c)) if loss == "logistic" else (1 - c) ** 2) + lam * c * 4 * np.sqrt(2)
    )
    best = minimize_scalar(of, bounds=(0.01, 50.0), method="bounded", options={"xatol": 1e-10}).fun
    found = float(teacher.planted_objective(get_loss(loss), stretched, train, lam))
    assert best * (1 - 1e-9) <= found <= min(value + lam * 4 * np.sqrt(2), best * 1.01)


@pytest.mark.slow
def test_the_predictors_fit_the_samples_and_are_solved(smoke):
    assert len(smoke) == 2 * CONFIG.num_trials * len(PREDICTORS) and (smoke.failed == "").all()
    kernels = smoke[smoke.predictor != "network"]
    assert kernels.solved.all() and (kernels.train_error < 1e-12).all()
    assert (smoke.train_error < 1e-3).all() and (smoke.test_error < 0.3).all()
    assert (smoke.lam[smoke.predictor == "network"] == CONFIG.lams[-1]).all()


@pytest.mark.slow
def test_margins_and_bounds_are_those_of_shares_of_wrong_signs(smoke):
    empty = smoke[["normalized_margin", "bound"]].isna().all(axis=1)
    assert empty.equals(smoke.task == "regression")
    signs = smoke[~empty]
    assert (signs.normalized_margin > 0).all() and (signs.test_error <= signs.bound).all()


def test_the_table_has_a_row_with_its_own_bound_for_every_predictor():
    found = pandas.DataFrame(dict(task="parity", num_samples=[40, 80], seed=0, failed=""))
    rng = np.random.default_rng(0)
    for name in ("normalized_margin", "mean_square", "largest_square"):
        found[name] = list(rng.uniform(0.1, 1.0, (2, 3)))
    for name in ("train_error", "test_error", "residual", "solved"):
        found[name] = list(np.zeros((2, 3)))
    rows = teacher.table(found, CONFIG)
    assert list(rows.columns) == list(COLUMNS) and len(rows) == 6
    network, nngp = rows[(rows.num_samples == 80) & (rows.predictor != "ntk")].itertuples()
    of = lambda name: found[name][1]
    margins, means, largest = map(of, ("normalized_margin", "mean_square", "largest_square"))
    assert network.bound == two_layer_bound(margins[0], 80, means[0], np.sqrt(largest[0]))
    assert nngp.bound == kernel_bound(margins[1], 80, means[1], largest[1]) and nngp.lam == 0


@pytest.mark.slow
def test_the_squares_of_the_kernels_are_those_of_the_inputs(smoke_results, smoke):
    """K(x, x) is ‖x‖² over 2d for ReLU features, over d for the NTK."""
    mean = read_batches(smoke_results / "teacher" / "smoke")[0]["mean_square"]
    np.testing.assert_allclose(mean[1:] * [2 * CONFIG.dim, CONFIG.dim], mean[0], rtol=1e-6)


@pytest.mark.slow
def test_a_small_run_has_claims_and_two_panels_for_each_task(smoke):
    assert len(teacher.claims(smoke, CONFIG)) == 2
    axes = teacher.figure(smoke, CONFIG).axes
    assert len(axes) == 4 and all(ax.lines or ax.texts for ax in axes)
    assert "regression, d = 5, means over 2 trials" in teacher.summary(smoke, CONFIG)


def rows_of(network=0.05, kernel=0.1, bound=0.5, kernels_solved=True):
    rng = np.random.default_rng(0)
    rows = []
    for task in TASKS:
        for n in (20, 640):
            for seed in range(8):
                noise = 0.01 * rng.normal()  # of the samples, the same for all
                for name in PREDICTORS:
                    error = (network if name == "network" else kernel) + noise
                    limit = np.nan if task == "regression" else bound * (640 / n) ** 0.5
                    solved = name == "network" or kernels_solved
                    values = (1e-8, 0.1, 0.0, error, limit, 0.0, solved, "")
                    rows.append((task, 20, n, name, seed, *values))
    return pandas.DataFrame(rows, columns=list(COLUMNS))


def test_the_claims_hold_on_rows_that_follow_theory():
    assert error_claim(rows_of()).status == "holds"
    found = bound_claim(rows_of())
    assert found.status == "holds"
    assert "0 errors above one of the 48 bounds up to 1" in found.measured
    assert "16 of 32 (network)" in found.measured  # those at n = 20


@pytest.mark.parametrize("broken", [dict(network=0.11), dict(kernels_solved=False)])
def test_the_claim_on_errors_fails_on_rows_that_break_it(broken):
    assert error_claim(rows_of(**broken)).status == "fails"


def test_networks_that_diverged_break_the_claim():
    rows = rows_of()
    one = (rows.task == "regression") & (rows.predictor == "network") & (rows.seed == 0)
    assert error_claim(rows.assign(failed=np.where(one, "not finite", ""))).status == "fails"
    assert error_claim(rows.assign(test_error=rows.test_error.mask(one))).status == "fails"


def test_one_task_on_which_a_kernel_is_as_good_breaks_the_claim():
    rows = rows_of()
    tied = (rows.task == "parity") & (rows.predictor == "ntk")
    rows.loc[tied, "test_error"] = rows.test_error[
        (rows.task == "parity") & (rows.predictor == "network")
    ].to_numpy()
    assert error_claim(rows).status == "fails"


def test_parity_is_compared_where_kernels_cannot_have_learned_it():
    rows = rows_of()
    assert [compared_size(rows, task) for task in TASKS] == [640, 640, 20]  # d² = 400
    late = (rows.task == "parity") & (rows.num_samples == 640)
    assert error_claim(rows.assign(test_error=rows.test_error.mask(late, 0.0))).status == "holds"
    assert error_claim(rows.assign(test_error=rows.test_error.mask(~late, 0.0))).status == "fails"


def test_an_error_above_its_bound_breaks_the_claim_and_without_bounds_it_is_not_run():
    rows = rows_of()
    late = rows.index[(rows.num_samples == 640) & (rows.task == "parity")][0]
    rows.loc[late, "test_error"] = 0.5 + 1e-6
    assert bound_claim(rows).status == "fails"
    assert bound_claim(rows[rows.task == "regression"]) == BOUNDS


def test_bounds_that_are_all_vacuous_say_nothing():
    assert bound_claim(rows_of(bound=2.0)).status == "not run"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(tasks=("ranking",)), "tasks must be one of classification.*got ranking"),
        (dict(dim=1), "dim must be at least 2, got 1"),
        (dict(sizes=(20, 1)), "sizes must be at least 2, got 1"),
        (dict(teacher_margin=-0.1), "teacher_margin must be at least 0 and finite, got -0.1"),
        (dict(teacher_units=0), "teacher_units must be at least 1, got 0"),
        (dict(width=5), "width must be at least that of what is planted, 6, got 5"),
        (dict(sizes=(20, 20)), "sizes must have each value once, got 20 twice"),
        (dict(learning_rate=0.0), "learning_rate must be positive and finite, got 0.0"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_trials_have_teachers_of_their_own():
    (_, samples, _, first), (_, others, _, second) = (drawn("regression", s) for s in (0, 1))
    assert not jnp.allclose(first[0], second[0]) and not jnp.allclose(samples.x, others.x)
