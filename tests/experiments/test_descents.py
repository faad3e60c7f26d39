"""Plain descents: their units, what is measured on the way, and when they first fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import pytest

from ntkreg import data, fully_connected, kernels
from ntkreg.experiments import _descents
from ntkreg.training import trainers
from ntkreg.training.kernel_regime import relative_change
from ntkreg.training.margins import margins

DIM, WIDTH = 5, 24
TRAIN, TEST = data.noisy_xor(jax.random.key(0), 20, DIM), data.noisy_xor(jax.random.key(1), 50, DIM)
KEY = jax.random.key(2)
SCALE, RATE, STEPS = 0.4, 0.1, (1, 30, 400)


def descent(lam):
    return _descents.descent(
        TRAIN, TEST, KEY, width=WIDTH, scale=SCALE, lam=lam, learning_rate=RATE, steps=STEPS
    )


@pytest.fixture(scope="module")
def plain():
    return descent(0.0)


def test_the_start_is_that_of_ntk_scaling_in_other_units():
    r = _descents.init_scale(3.0, WIDTH, DIM)
    unit = fully_connected(2, WIDTH, scaling="ntk").init(KEY, DIM)
    outputs = fully_connected(2, WIDTH).apply(_descents.initial_params(KEY, WIDTH, DIM, r), TEST.x)
    scaled = 3.0 * fully_connected(2, WIDTH, scaling="ntk").apply(unit, TEST.x)
    np.testing.assert_allclose(outputs, scaled, rtol=1e-12)


def test_the_exact_kernel_is_the_limit_of_the_empirical_one():
    wide = 20_000
    start = _descents.initial_params(KEY, wide, DIM, SCALE)
    empirical = kernels.empirical_ntk(fully_connected(2, wide), start, TRAIN.x[:6])
    exact = _descents.exact_kernel(wide, SCALE, TRAIN.x[:6])
    assert relative_change(empirical, exact) < 4 / np.sqrt(wide)


def test_it_takes_the_steps_that_a_trainer_takes(plain):
    network = fully_connected(2, WIDTH)
    result = trainers.train(
        network, TRAIN, lam=0.0, key=KEY, learning_rate=RATE, descend="plain",
        params=_descents.initial_params(KEY, WIDTH, DIM, SCALE), optimizer=optax.sgd,
        schedule=trainers.constant, num_steps=STEPS[-1],
    )  # fmt: skip
    assert plain["normalized_margin"][-1] == pytest.approx(
        float(result.info.normalized_margin), rel=1e-3
    )  # it trains in float32
    wrong = jnp.mean(~(margins(network, result.params, TEST) > 0))
    assert plain["test_error"][-1] == pytest.approx(float(wrong), abs=0.021)


def test_the_first_entry_is_where_the_training_error_is_first_zero(plain):
    step = int(plain["step"][0])
    np.testing.assert_array_equal(plain["step"][1:], STEPS)
    assert STEPS[0] < step < STEPS[-1]
    assert plain["train_error"][0] == 0 and plain["train_error"][1] > 0
    before = _descents.descent(
        TRAIN, TEST, KEY, width=WIDTH, scale=SCALE, lam=0.0, learning_rate=RATE, steps=(step - 1,)
    )
    assert before["train_error"][-1] > 0


def test_the_kernel_is_left_as_training_goes_on(plain):
    for name in ("kernel_distance", "prediction_distance", "activation_change"):
        on_way = np.asarray(plain[name][1:])
        assert on_way[0] < on_way[1] < on_way[2], name
    assert plain["prediction_distance"][1] < 0.1  # after one step


def test_a_large_lam_shrinks_the_parameters_and_never_fits():
    found = descent(0.5)
    assert found["norm"][-1] < 1e-6 * found["norm"][1]
    assert found["step"][0] == STEPS[-1] and found["train_error"][-1] > 0


def test_log_steps_end_at_the_end_and_are_equally_far_apart():
    assert _descents.log_steps(1000, 4) == (1, 10, 100, 1000)
    with pytest.raises(ValueError, match=r"num_looks must be .* 1 to 5, .* got 7"):
        _descents.log_steps(5, 7)


def test_a_table_has_a_row_for_every_entry_of_its_arrays():
    arrays = [np.array([1.0, 2.0]), np.nan, np.array([3.0, 4.0])]
    table = pandas.DataFrame({"seed": [0, 1, 2], "value": arrays, "failed": ""})
    rows = _descents.by_entry(table, "time", (5, 6))
    np.testing.assert_array_equal(rows.seed, [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(rows.time, [5, 6] * 3)
    np.testing.assert_array_equal(rows.value, [1, 2, np.nan, np.nan, 3, 4])
    assert rows.value.dtype == float and rows.time.dtype == int
