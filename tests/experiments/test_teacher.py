"""Teachers: the samples and what is planted in them, a small run, and claims that can fail."""

import functools

import jax
import jax.numpy as jnp
import judged
import numpy as np
import pandas
import pytest
from scipy.optimize import minimize_scalar

from ntkreg.experiments import teacher
from ntkreg.experiments.teacher import (
    BOUNDS,
    COLUMNS,
    ERRORS,
    EXPERIMENT,
    PREDICTORS,
    TASKS,
    Config,
    compared,
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


def with_errors(of, predictor="network", task=TASKS):
    """An edit of a predictor's test errors: `of` gets its rows with the NTK's error beside."""

    def edit(rows):
        ntk = rows[rows.predictor == "ntk"].set_index(["task", "num_samples", "seed"]).test_error
        keys = pandas.MultiIndex.from_frame(rows[ntk.index.names])
        which = (rows.predictor == predictor) & rows.task.isin(np.atleast_1d(task))
        found = of(rows.assign(ntk=ntk.loc[keys].to_numpy()))
        return rows.assign(test_error=rows.test_error.mask(which, found))

    return edit


def unsolved(predictor):
    return lambda rows: rows.assign(solved=rows.solved & (rows.predictor != predictor))


even = with_errors(lambda rows: rows.ntk + 0.01 * (-1) ** rows.seed, task="parity")
worse = with_errors(lambda rows: rows.ntk + 0.1, predictor="nngp", task="parity")
tie = lambda rows: even(worse(rows))


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (ERRORS, lambda rows: rows, "holds"),
        (ERRORS, with_errors(lambda rows: rows.ntk + 0.1, task="regression"), "fails"),
        (ERRORS, tie, "undecided"),
        (ERRORS, with_errors(lambda rows: np.nan, task="parity"), "undecided"),
        (ERRORS, unsolved("network"), "undecided"),
        (ERRORS, unsolved("nngp"), "undecided"),
        (BOUNDS, lambda rows: rows, "undecided"),
        (BOUNDS, lambda rows: rows.assign(bound=rows.test_error + 1), "holds"),
        (BOUNDS, lambda rows: rows.assign(bound=2 - rows.test_error), "fails"),
        (BOUNDS, lambda rows: rows.assign(bound=rows.test_error - 1e-6), "fails"),
        (BOUNDS, lambda rows: rows.assign(bound=np.nan), "undecided"),
        (BOUNDS, lambda rows: rows[rows.task == "regression"], "not run"),
    ],
)
def test_a_claim_is_judged_by_its_intervals(claim, edit, status):
    assert judged.status("teacher", claim, edit, "thorough") == status


def test_networks_above_the_teachers_objective_are_left_out_and_counted():
    late = with_errors(lambda rows: rows.test_error + rows.seed.eq(0))
    assert judged.status("teacher", ERRORS, late, "thorough") != "holds"
    left = lambda rows: late(rows).assign(
        solved=(rows.seed > 0) | (rows.predictor != "network"),
    )
    found = judged.judged("teacher", left, "thorough")[ERRORS.statement]
    assert found.status == "holds"
    assert found.apart == ("3 of 60 runs of the network miss their minimum",)


def test_errors_are_compared_where_kernels_cannot_have_learned_a_parity():
    sizes = pandas.DataFrame(dict(task="parity", dim=20, num_samples=[20, 320, 640]))
    assert compared(sizes, "parity").num_samples.tolist() == [320]
    assert compared(sizes[2:], "parity").num_samples.tolist() == [640]


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
