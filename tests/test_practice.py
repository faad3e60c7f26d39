"""Practice: a small run, paired splits, predictors by other means, claims that can fail."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pandas
import pytest

from ntkreg import kernels
from ntkreg.experiments import practice
from ntkreg.experiments.kernel_contenders import svc_gap
from ntkreg.experiments.practice import Config
from ntkreg.experiments.practice_claims import (
    COLUMNS,
    SCHEDULES,
    annealing_claim,
    claims,
    networks_claim,
    table,
)
from ntkreg.experiments.practice_data import parsed, pool, split
from ntkreg.experiments.practice_figure import figure

CONFIG = Config.preset("smoke")
SEEDS = range(5)


@pytest.fixture(scope="module")
def record(smoke_record):
    return smoke_record("practice")


def rows_of(predictor, schedule, error, residual=np.nan):
    """Errors that lie around `error` in the same way for all predictors."""
    return [
        ("digits", model, predictor, 50, schedule, seed, 1e-5, 0.1, 0.0, error + 0.01 * seed, 100,
         1e-3, residual, False)
        for model in practice.MODELS
        for seed in SEEDS
    ]  # fmt: skip


def rows(annealed=0.10, ends=0.12, begins=0.11, kernel=0.15, residual=1e-9):
    fixed = zip((annealed, ends, begins), SCHEDULES.values(), strict=True)
    networks = [row for error, name in fixed for row in rows_of("network", name, error)]
    return pandas.DataFrame(
        networks + rows_of("kernel", "", kernel, residual), columns=list(COLUMNS)
    )


def test_the_claims_hold_on_rows_that_show_them():
    assert networks_claim(rows()).status == annealing_claim(rows()).status == "holds"


@pytest.mark.parametrize("broken", [dict(kernel=0.10), dict(kernel=0.05), dict(residual=1e-3)])
def test_networks_fail_where_the_kernel_is_as_good_or_not_solved(broken):
    assert networks_claim(rows(**broken)).status == "fails"


def test_networks_fail_where_the_differences_are_noise_or_one_diverged():
    noisy = rows()
    sign = np.where(noisy.seed % 2 == 0, 1, -1) * (noisy.predictor == "kernel")
    assert networks_claim(noisy.assign(test_error=noisy.test_error + 0.3 * sign)).status == "fails"
    diverged = rows().assign(diverged=rows().seed == 0)
    assert networks_claim(diverged).status == annealing_claim(diverged).status == "fails"


@pytest.mark.parametrize("broken", [dict(ends=0.09), dict(begins=0.09), dict(annealed=0.11)])
def test_annealing_fails_where_one_of_the_fixed_is_as_good(broken):
    assert annealing_claim(rows(**broken)).status == "fails"


def test_claims_of_one_seed_or_without_fixed_schedules_are_not_run():
    one = rows().query("seed == 0")
    assert networks_claim(one).status == annealing_claim(one).status == "not run"
    assert annealing_claim(rows().query("schedule in ['annealed', '']")).status == "not run"


def test_the_winner_is_told_whichever_it_is():
    assert "network wins in 2, the NTK in 0" in networks_claim(rows()).measured
    lost = networks_claim(rows(kernel=0.02))
    assert "network wins in 0, the NTK in 2" in lost.measured and "+8.00%" in lost.measured


def test_a_small_run_has_a_row_for_every_network_and_kernel(record):
    found = table(record)
    assert len(found) == 2 * (3 + 1) * 2 and not found.diverged.any()
    assert found.test_error.between(0, 0.6).all()  # guessing is at 0.9
    kernel = found[found.predictor == "kernel"]
    assert (kernel.residual < 1e-9).all() and (kernel.train_error == 0).all()
    assert found.residual.isna().equals(found.predictor == "network")
    starts = found[found.predictor == "network"].groupby("schedule").normalized_margin.mean()
    assert starts.nunique() == 3  # each schedule trained another network
    assert {claim.status for claim in claims(record)} <= {"holds", "fails"}


def test_the_figure_has_a_panel_of_errors_and_one_of_annealing(record):
    errors, annealing = figure(record).axes
    assert len(errors.containers) == 4 and len(annealing.containers) == 2


def test_ridge_of_ten_classes_is_the_least_squares_fit(record):
    """The record's errors once more, by NumPy."""
    train, test = split(parsed("digits"), "", 50, 1747, 1)
    network = practice.network_of(CONFIG, parsed("digits"), "fully_connected")
    x = jnp.concatenate([train.x, test.x])
    gram = np.asarray(kernels.ntk(network, x, train.x))
    beta = np.linalg.solve(gram[:50] + 50 * CONFIG.ridge * np.eye(50), np.eye(10)[train.y])
    wrong = (gram[50:] @ beta).argmax(1) != np.asarray(test.y)
    of = table(record).query("predictor == 'kernel' and model == 'fully_connected' and seed == 1")
    assert of.test_error.item() == pytest.approx(wrong.mean())


def test_the_kernel_of_a_pair_is_the_hard_margin_svm():
    train, _ = split(parsed("digits:3:8"), "", 40, 100, 0)
    network = practice.network_of(CONFIG, parsed("digits:3:8"), "fully_connected")
    gram = kernels.ntk(network, train.x)
    beta, gap = practice._coefficients(gram, train.y, 1e-9)
    assert gap < 1e-8 and svc_gap(np.asarray(gram), np.asarray(train.y)) > -1e-6
    assert jnp.min(train.y * (gram @ beta)) == pytest.approx(1.0)


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
    np.testing.assert_allclose(paths, [[1e-4, 2e-5, 1e-5], [1e-5] * 3, [1e-4] * 3])


def test_images_of_a_folder_are_read_and_others_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    images = dict(x=rng.integers(0, 256, (30, 28, 28)), y=np.arange(30) % 10)
    np.savez(tmp_path / "mnist.npz", **images)
    assert pool(parsed("mnist:0:4"), str(tmp_path)).y.tolist() == [1, -1] * 3
    with pytest.raises(ValueError, match=r"folder must be one with cifar10\.npz, or openml.*''"):
        pool(parsed("cifar10"), "")


def test_a_record_is_refused_for_other_images_in_the_same_folder(tmp_path):
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
            practice.run(config, tmp_path / "record")
    with pytest.raises(ValueError, match="its mnist:0:4 is"):
        practice.run(config, tmp_path / "record")


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
