"""Practice: a small run, paired splits, predictors by other means, claims that can fail."""

import dataclasses

import jax.numpy as jnp
import judged
import numpy as np
import pandas
import pytest

from ntkreg import kernels
from ntkreg.experiments import practice
from ntkreg.experiments.practice import (
    ANNEALED,
    ANNEALING,
    EXPERIMENT,
    FINAL,
    INITIAL,
    MNIST_ANNEALING,
    MNIST_NETWORKS,
    NETWORKS,
    SCHEDULES,
    Config,
    parsed,
    pool,
    split,
)
from ntkreg.sweeps import Refused

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("practice")


def errors(of, predictor="network", schedule=None, **columns):
    """An edit that changes the errors of these rows by `of`, and other columns."""

    def edit(rows):
        which = (rows.predictor == predictor) & ((rows.schedule == schedule) | (schedule is None))
        part = rows[which].assign(test_error=of, **columns)
        return pandas.concat([rows[~which], part])

    return edit


lower = lambda rows: rows.test_error - 0.05
higher = lambda rows: rows.test_error + 0.05
same = lambda rows: rows.test_error
noisy = lambda rows: rows.test_error + 0.1 * (-1) ** rows.seed
unknown = lambda rows: rows.test_error.mask(rows.seed == 0)


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (NETWORKS, errors(lower, "kernel"), "fails"),
        (NETWORKS, errors(lower), "holds"),
        (NETWORKS, errors(noisy), "undecided"),
        (NETWORKS, errors(unknown), "undecided"),
        (NETWORKS, errors(same, "kernel", residual=1e-3), "undecided"),
        (NETWORKS, errors(same, train_error=0.01), "undecided"),
        (NETWORKS, lambda rows: rows[rows.seed == 0], "undecided"),
        (NETWORKS, lambda rows: rows.assign(dataset="cifar10"), "not run"),
        (ANNEALING, errors(lower, schedule=ANNEALED), "holds"),
        (ANNEALING, errors(lower, schedule=FINAL), "fails"),
        (ANNEALING, errors(lower, schedule=INITIAL), "fails"),
        (ANNEALING, errors(noisy, schedule=ANNEALED), "undecided"),
        (ANNEALING, errors(unknown, schedule=ANNEALED), "undecided"),
        (ANNEALING, lambda rows: rows[rows.schedule != FINAL], "not run"),
    ],
)
def test_a_claim_is_judged_by_differences_on_the_same_images(claim, edit, status):
    assert judged.status("practice", claim, edit) == status


def test_digits_and_mnist_are_judged_apart():
    """Each claim on its own images: what is measured on the others does not count."""

    def edit(rows):
        mnist = rows.assign(dataset=rows.dataset.str.replace("digits", "mnist"))
        return pandas.concat([errors(lower, "kernel")(rows), errors(higher, "kernel")(mnist)])

    found = judged.judged("practice", edit)
    assert found[NETWORKS.statement].status == "fails"
    assert found[MNIST_NETWORKS.statement].status == "holds"
    alone = judged.judged("practice")
    assert found[ANNEALING.statement] == alone[ANNEALING.statement]
    assert found[MNIST_ANNEALING.statement].checks == alone[ANNEALING.statement].checks
    assert MNIST_NETWORKS.statement not in alone


def test_a_kernel_that_is_not_solved_takes_its_data_set_out():
    """The networks' errors there count no more."""

    def edit(rows):
        there = rows.dataset == "digits"
        found = rows.assign(test_error=rows.test_error + there * (rows.predictor == "network"))
        one = there & (rows.predictor == "kernel") & (rows.seed == 0)
        return found.assign(residual=found.residual.mask(one, 1e-3))

    found = judged.judged("practice", edit)[NETWORKS.statement]
    assert abs(found.checks[0].measured) < 0.01
    assert found.apart == ("4 runs do not fit or are not solved",)


@pytest.mark.slow
def test_a_small_run_has_a_row_for_every_network_and_kernel(smoke):
    assert len(smoke) == 2 * (3 + 1) * 2 and (smoke.failed == "").all()
    assert smoke.test_error.between(0, 0.6).all()  # guessing is at 0.9
    kernel = smoke[smoke.predictor == "kernel"]
    assert (kernel.residual < 1e-9).all() and (kernel.train_error == 0).all()
    assert smoke.residual.isna().equals(smoke.predictor == "network")
    assert smoke.gradient_norm.isna().equals(smoke.predictor == "kernel")
    means = smoke[smoke.predictor == "network"].groupby("schedule").normalized_margin.mean()
    assert means.nunique() == 3  # each schedule trained another network
    assert len(practice.claims(smoke, CONFIG)) == 2


@pytest.mark.slow
def test_the_figure_has_a_panel_of_errors_and_one_of_annealing(smoke):
    errors, annealing = practice.figure(smoke, CONFIG).axes
    assert len(errors.containers) == 4 and len(annealing.containers) == 2


@pytest.mark.slow
def test_ridge_of_ten_classes_is_the_least_squares_fit(smoke):
    """The table's errors once more, by NumPy."""
    train, test = split(parsed("digits"), "", 50, 1747, 1)
    network = parsed("digits").network(CONFIG, "fully_connected")
    x = jnp.concatenate([train.x, test.x])
    gram = np.asarray(kernels.ntk(network, x, train.x))
    beta = np.linalg.solve(gram[:50] + 50 * CONFIG.ridge * np.eye(50), np.eye(10)[train.y])
    wrong = (gram[50:] @ beta).argmax(1) != np.asarray(test.y)
    of = smoke.query("predictor == 'kernel' and model == 'fully_connected' and seed == 1")
    assert of.test_error.item() == pytest.approx(wrong.mean())


def test_the_kernel_of_a_pair_is_the_hard_margin_svm():
    train, _ = split(parsed("digits:3:8"), "", 40, 100, 0)
    network = parsed("digits:3:8").network(CONFIG, "fully_connected")
    gram = kernels.ntk(network, train.x)
    beta, gap = practice._coefficients(gram, train.y, 1e-9)
    weights, norm = np.asarray(train.y * beta), float(beta @ gram @ beta)
    assert gap < 1e-8 and weights.min() >= 0
    assert jnp.min(train.y * (gram @ beta)) == pytest.approx(1.0)
    assert norm == pytest.approx(weights.sum(), rel=1e-6)  # no duality gap


def test_splits_of_a_seed_are_nested_and_share_their_test_images():
    source = parsed("digits:3:8")
    small, test = split(source, "", 50, 90, 3)
    large, same = split(source, "", 250, 90, 3)
    other, _ = split(source, "", 50, 90, 4)
    assert np.array_equal(large.x[:50], small.x) and np.array_equal(test.x, same.x)
    assert not np.array_equal(other.x, small.x)
    seen = {row.tobytes() for row in np.asarray(large.x)}
    assert not any(row.tobytes() in seen for row in np.asarray(test.x))
    assert set(np.unique(test.y)) == {-1.0, 1.0} and test.y.dtype == test.x.dtype


def test_an_annealed_lam_comes_down_to_the_fixed_one():
    paths = practice.lam_paths(Config(lam=1e-5, factors=(0.2, 0.5)))
    assert tuple(paths) == SCHEDULES
    wanted = [[1e-4, 2e-5, 1e-5], [1e-5] * 3, [1e-4] * 3]
    np.testing.assert_allclose(list(paths.values()), wanted)


def test_images_of_a_folder_are_read_and_others_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    images = dict(x=rng.integers(0, 256, (30, 28, 28)), y=np.arange(30) % 10)
    np.savez(tmp_path / "mnist.npz", **images)
    assert pool(parsed("mnist:0:4"), str(tmp_path)).y.tolist() == [1, -1] * 3
    with pytest.raises(ValueError, match=r"folder must be where cifar10 lies, or openml.*''"):
        pool(parsed("cifar10"), "")


def test_a_folder_is_refused_for_other_images_in_the_same_file(tmp_path):
    rng = np.random.default_rng(0)
    config = dataclasses.replace(
        CONFIG, datasets=("mnist:0:4",), folder=str(tmp_path), models=("fully_connected",),
        sizes=(12,), annealing_sizes=(12,), num_seeds=1,
    )  # fmt: skip
    for number in range(2):
        images = dict(x=rng.integers(0, 256, (100, 28, 28)), y=np.arange(100) % 10)
        np.savez(tmp_path / "mnist.npz", **images)
        pool.cache_clear()
        if number == 0:
            EXPERIMENT.sweep(config, tmp_path / "results")
    with pytest.raises(Refused, match="its points is 4 points"):
        EXPERIMENT.sweep(config, tmp_path / "results")


def test_sizes_leave_an_eighth_for_the_test():
    assert practice.sizes_of(Config(), "digits:3:8") == ([50, 250], 107)
    assert practice.sizes_of(Config(num_test=100), "digits") == ([50, 250, 1400], 100)
    with pytest.raises(ValueError, match=r"sizes must have one of at most 312 on digits:3:8"):
        practice.sizes_of(Config(sizes=(400,), annealing_sizes=(400,)), "digits:3:8")


@pytest.mark.parametrize("text", ["digits:3", "digits:3:3", "digits:3:8:9:1", "svhn", "mnist:a:b"])
def test_a_data_set_that_is_none_is_named(text):
    with pytest.raises(ValueError, match=f"dataset must be digits, .*got '{text}'"):
        Config(datasets=(text,))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(models=("transformer",)), "models must be one of fully_connected.*transformer"),
        (dict(sizes=(1,)), "sizes must be at least 2, got 1"),
        (dict(sizes=(50, 50, 250)), "sizes must have each value once, got 50 twice"),
        (dict(factors=(0.5, 1.0)), "factors must be between 0 and 1, got 1.0"),
        (dict(lam=0.0), "lam must be positive and finite, got 0.0"),
        (dict(annealing_sizes=(60,)), "annealing_sizes must be one of 50, 250, 1400, got 60"),
        (dict(num_seeds=0), "num_seeds must be at least 1, got 0"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
