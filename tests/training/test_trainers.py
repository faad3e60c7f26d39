"""A training run: its stages, its one-step values, and the margin that it reaches on D."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.networks.network import Network, fully_connected
from ntkreg.training.margins import dual_weighted_margin, normalized_margin
from ntkreg.training.objectives import Loss, get_loss, log_objective, log_softplus_neg, objective
from ntkreg.training.trainers import (
    TrainOptions,
    advance,
    constant,
    cosine,
    init,
    is_done,
    logs_of,
    measure,
    step,
    train,
)

KEY = jax.random.key(0)
DATA = noisy_xor(KEY, 12, 5)
NETWORK = fully_connected(2, 6)
PARAMS = NETWORK.init(jax.random.key(1), 5)
ADVANCE = jax.jit(advance, static_argnums=(0, 1))


def float32(data):
    return Dataset(data.x.astype(jnp.float32), data.y.astype(jnp.float32))


def test_schedules():
    progress = jnp.array([0.0, 0.5, 1.0])
    np.testing.assert_allclose(cosine(progress), [1, 0.5, 0], atol=1e-15)
    assert constant(progress).tolist() == [1, 1, 1]


def test_how_a_run_is_cut_does_not_change_a_bit():
    options = TrainOptions(num_steps=20)
    setting = options, NETWORK, DATA, math.log(1e-3), 0.03
    whole = ADVANCE(*setting, init(options, PARAMS), 20)
    assert int(whole.step) == 20
    for cuts in ([1] * 20, [7] * 20, [19, 2, 100]):
        state = init(options, PARAMS)
        for length in cuts:
            state = ADVANCE(*setting, state, length)
        chex.assert_trees_all_equal(state, whole)


def test_advance_stops_where_it_is_told_to():
    options = TrainOptions(num_steps=20)
    setting = options, NETWORK, DATA, math.log(1e-3), 0.03
    state = ADVANCE(*setting, init(options, PARAMS), 5)
    assert int(state.step) == 5 and not bool(is_done(options, state))
    state = ADVANCE(*setting, state, 100)
    assert int(state.step) == 20 and bool(is_done(options, state))


def test_one_plain_step_by_hand():
    """f = wx at w = 0.5 on (2, +1), (1, −1): ∂F = Σ −yx σ(−q)/2 + 2λw, with σ by hand."""
    data = Dataset(jnp.array([[2.0], [1.0]]), jnp.array([1.0, -1.0]))
    options = TrainOptions(descend="plain", optimizer=optax.sgd, num_steps=5)
    state = init(options, (jnp.array([[0.5]]),))
    state = step(options, fully_connected(1, 1), data, math.log(0.1), 0.3, state)
    gradient = (-2 / (1 + math.exp(1.0)) + 1 / (1 + math.exp(-0.5))) / 2 + 2 * 0.1 * 0.5
    np.testing.assert_allclose(state.params[0], [[0.5 - 0.3 * gradient]], rtol=1e-14)
    before = math.log((math.log1p(math.exp(-1.0)) + math.log1p(math.exp(0.5))) / 2)
    np.testing.assert_allclose(state.log_loss, before, rtol=1e-14)
    assert int(state.step) == 1


def test_one_log_step_is_a_plain_step_with_rate_over_the_objective():
    start = objective(get_loss("logistic"), NETWORK, PARAMS, DATA, jnp.log(0.1))
    moved = []
    for descend, rate in (("log", 0.3), ("plain", 0.3 / float(start))):
        options = TrainOptions(descend=descend, optimizer=optax.sgd)
        state = init(options, PARAMS)
        moved.append(step(options, NETWORK, DATA, math.log(0.1), rate, state).params)
    assert not np.allclose(moved[0][0], PARAMS[0])
    chex.assert_trees_all_close(*moved, rtol=1e-12)


def test_plain_descent_follows_its_schedule_and_decreases_the_objective():
    """Ten steps of train against a loop in the test."""
    options = {"descend": "plain", "optimizer": optax.sgd, "num_steps": 10}
    result = train(NETWORK, DATA, lam=0.01, key=KEY, params=PARAMS, learning_rate=0.2, **options)
    value_of = functools.partial(objective, get_loss("logistic"), NETWORK)
    gradient_of = jax.jit(jax.grad(value_of))
    params = PARAMS
    for i in range(10):
        rate = 0.2 * 0.5 * (1 + math.cos(math.pi * i / 10))
        gradient = gradient_of(params, DATA, math.log(0.01))
        params = jax.tree.map(lambda p, g, rate=rate: p - rate * g, params, gradient)
    chex.assert_trees_all_close(result.params, params, rtol=1e-11)
    values = [float(value_of(p, DATA, math.log(0.01))) for p in (PARAMS, params)]
    assert values[1] < values[0]


def test_a_path_of_lambda_is_a_chain_of_warm_started_runs():
    """Schedule and moments begin anew with each λ, so the chain is the same up to rounding."""
    options = {"key": KEY, "learning_rate": 0.03, "num_steps": 30}
    path = train(NETWORK, DATA, lam=[0.1, 0.01, 0.001], params=PARAMS, **options)
    chained = PARAMS
    for lam in (0.1, 0.01, 0.001):
        chained = train(NETWORK, DATA, lam=lam, params=chained, **options).params
    chex.assert_trees_all_close(path.params, chained, rtol=1e-9, atol=1e-12)
    assert int(path.info.steps) == 90
    single = train(NETWORK, DATA, lam=0.001, params=PARAMS, **options)
    assert not np.allclose(single.params[0], path.params[0], rtol=1e-3)


def counting_network():
    """A linear network and the list to which each trace of it is added."""
    traces = []

    def apply(params, x):
        traces.append(x.shape)
        return x @ params["w"]

    return Network(lambda key, dim: {"w": jnp.ones(dim)}, apply, None, 1), traces


def test_other_lambdas_and_rates_do_not_compile_again():
    network, traces = counting_network()
    once = lambda lam, rate, scale: train(
        network, DATA, lam=lam, key=KEY, learning_rate=rate, init_scale=scale, num_steps=3
    )
    first = once(0.1, 0.01, 1.0)
    compiled = len(traces)
    second = once(0.0, 0.2, 3.0)
    checks = len(traces) - compiled  # `train` looks at the output's shape without a compilation
    assert compiled > 1 and checks <= 1
    assert not np.allclose(first.params["w"], second.params["w"])


def test_advance_is_traced_once_for_all_settings_and_chunks():
    options = TrainOptions(num_steps=4)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def traced(log_lam, rate, state, num_steps):
        return advance(options, NETWORK, DATA, log_lam, rate, state, num_steps)

    ends = []
    for lam, rate, num_steps in ((0.1, 0.01, 3), (0.0, 0.2, 4), (1e-200, 1.0, 1)):
        state = traced(logs_of(lam)[0], rate, init(options, PARAMS), jnp.int32(num_steps))
        ends.append(int(state.step))
    assert ends == [3, 4, 1]


def test_stop_log_loss_stops():
    options = {"lam": 0.0, "key": KEY, "learning_rate": 0.05, "num_steps": 300}
    network = fully_connected(2, 32)
    long = train(network, DATA, **options)
    short = train(network, DATA, stop_log_loss=-2.0, **options)
    assert int(long.info.steps) == 300 and long.info.log_loss < -4
    assert 1 < int(short.info.steps) < 300
    assert -4 < short.info.log_loss < -2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_parameters_follow_the_dtype_of_the_data(dtype):
    data = Dataset(DATA.x.astype(dtype), DATA.y.astype(dtype))
    result = train(NETWORK, data, lam=1e-200, key=KEY, num_steps=3)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.params)} == {jnp.dtype(dtype)}
    assert result.info.log_objective.dtype == dtype
    assert bool(result.info.finite)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.int8])
def test_numbers_that_are_not_computed_in_are_cast(dtype):
    """D's entries are 0 and ±1, so that every dtype holds them."""
    wanted = jnp.float64 if dtype == jnp.int8 else jnp.float32
    runs = [
        train(
            NETWORK, jax.tree.map(lambda a, d=d: a.astype(d), DATA), lam=0.01, key=KEY, num_steps=3
        )
        for d in (dtype, wanted)
    ]
    chex.assert_trees_all_equal(*runs)
    assert runs[0].info.log_objective.dtype == wanted


def test_labels_of_one_class_are_learned_alike_in_every_dtype():
    """−1 by the last layer's negative: the same numbers."""
    run = lambda y, params: train(
        NETWORK, Dataset(DATA.x, y), lam=0.01, key=KEY, params=params, num_steps=200
    )
    ones = [run(jnp.ones(12, dtype), PARAMS) for dtype in (float, jnp.float32, int, jnp.int8)]
    flipped = (PARAMS[0], -PARAMS[1])
    ones += [run(-jnp.ones(12, dtype), flipped) for dtype in (float, int)]
    for result in ones:
        chex.assert_trees_all_equal(result.info, ones[0].info)
    assert ones[0].info.train_error == 0 and ones[0].info.normalized_margin > 0


def test_class_labels_may_be_floats_or_a_list():
    classes = np.arange(12) % 3
    runs = [
        train(
            fully_connected(2, 6, 3), Dataset(DATA.x, y), lam=0.1, key=KEY, num_steps=3,
            loss="cross_entropy",
        )
        for y in (classes, classes.astype(float), classes.tolist(), classes.astype(np.uint8))
    ]  # fmt: skip
    for result in runs[1:]:
        chex.assert_trees_all_equal(result, runs[0])


def test_a_lambda_below_float32_still_pulls():
    """w = 1e4 on one sample: the loss e^(−1e4) is nothing beside λw² = 1e-192, so w falls."""
    data = float32(Dataset(jnp.ones((1, 1)), jnp.ones(1)))
    start = (jnp.full((1, 1), 1e4),)
    options = {"key": KEY, "params": start, "learning_rate": 10.0, "num_steps": 5}
    pulled = train(fully_connected(1, 1), data, lam=1e-200, **options)
    free = train(fully_connected(1, 1), data, lam=0.0, **options)
    assert pulled.params[0].item() < 1e4 - 10 < 1e4 + 10 < free.params[0].item()


def test_the_logarithm_of_any_lambda_is_kept():
    found = logs_of([0.5, 1e-200, 0.0], jnp.float32)
    np.testing.assert_allclose(found, [math.log(0.5), -460.517, -math.inf], rtol=1e-6)
    assert found.dtype == jnp.float32


def test_train_is_a_function_of_its_key_and_scale():
    run = lambda seed, scale: train(
        NETWORK, DATA, lam=0.1, key=jax.random.key(seed), init_scale=scale, num_steps=3
    )
    chex.assert_trees_all_equal(run(0, 1.0), run(0, 1.0))
    assert not np.allclose(run(0, 1.0).params[0], run(1, 1.0).params[0])
    assert not np.allclose(run(0, 1.0).params[0], run(0, 2.0).params[0])


def test_measure_is_its_definitions():
    info = measure(TrainOptions(), NETWORK, DATA, math.log(0.01), PARAMS, jnp.int32(7))
    w1, w2 = map(np.asarray, PARAMS)
    q = np.asarray(DATA.y) * (np.maximum(DATA.x @ w1, 0) @ w2)[:, 0]
    norm = math.sqrt((w1**2).sum() + (w2**2).sum())
    loss = np.log1p(np.exp(-q)).mean()
    gradient = jax.grad(
        lambda p: log_objective(get_loss("logistic"), NETWORK, p, DATA, math.log(0.01))
    )(PARAMS)
    slope = math.sqrt(sum(float(jnp.sum(g**2)) for g in gradient))
    np.testing.assert_allclose(info.log_loss, math.log(loss), rtol=1e-12)
    np.testing.assert_allclose(info.log_objective, math.log(loss + 0.01 * norm**2), rtol=1e-12)
    np.testing.assert_allclose(info.log_gradient_norm, math.log(slope), rtol=1e-10)
    np.testing.assert_allclose(info.norm, norm, rtol=1e-12)
    np.testing.assert_allclose(info.normalized_margin, q.min() / norm**2, rtol=1e-11)
    assert 0 < info.train_error < 1
    np.testing.assert_allclose(info.train_error, (q <= 0).mean())


def test_parameters_that_are_not_finite_are_marked():
    of = lambda params: measure(TrainOptions(), NETWORK, DATA, -2.3, params, jnp.int32(0))
    broken = (PARAMS[0].at[0, 0].set(jnp.nan), PARAMS[1])
    assert bool(of(PARAMS).finite)
    measured = of(broken)
    assert not bool(measured.finite)
    assert measured.train_error == 1  # a NaN output is no correct one


def test_real_labels_have_no_train_error():
    data = Dataset(DATA.x, DATA.x[:, 0] / 3)
    result = train(NETWORK, data, lam=0.01, key=KEY, loss="squared", num_steps=50)
    start = train(NETWORK, data, lam=0.01, key=KEY, loss="squared", num_steps=1)
    assert result.info.train_error is None
    assert result.info.log_objective < start.info.log_objective


SHARP = Loss(  # the logistic loss of twice the margin
    lambda f, y: jax.nn.softplus(-2 * y * f), lambda f, y: log_softplus_neg(2 * y * f), "sign"
)


def test_a_loss_of_one_s_own_is_trained_like_one_with_a_name():
    named, own = (
        train(NETWORK, DATA, lam=0.01, key=KEY, loss=loss, num_steps=50)
        for loss in ("logistic", Loss(*get_loss("logistic")))
    )
    chex.assert_trees_all_equal(named, own)


def test_a_loss_of_one_s_own_is_the_one_that_is_descended():
    """At order 2 a doubled output is a network stretched by √2, whose penalty is half."""
    result = train(NETWORK, DATA, lam=0.01, key=KEY, loss=SHARP, num_steps=200)
    stretched = optax.tree.scale(math.sqrt(2), result.params)
    value = log_objective(get_loss("logistic"), NETWORK, stretched, DATA, math.log(0.005))
    np.testing.assert_allclose(result.info.log_objective, value, rtol=1e-10)
    logistic = train(NETWORK, DATA, lam=0.01, key=KEY, num_steps=200)
    there = log_objective(SHARP, NETWORK, logistic.params, DATA, math.log(0.01))
    assert result.info.log_objective < there


def test_several_classes_are_learned():
    data = Dataset(DATA.x, jnp.asarray(1 - DATA.y).astype(int) // 2)
    network = fully_connected(2, 16, num_outputs=3)
    options = {"lam": 1e-6, "key": KEY, "loss": "cross_entropy", "learning_rate": 0.05}
    result = train(network, data, num_steps=300, **options)
    assert result.info.train_error == 0
    assert result.info.normalized_margin > 0


@pytest.mark.slow
def test_a_trained_network_reaches_the_margin_of_D():
    """1/8 is reached by four planted neurons, whatever the dimension."""
    data, network = float32(noisy_xor(jax.random.key(3), 160, 10)), fully_connected(2, 64)
    result = train(network, data, lam=1e-8, key=KEY, learning_rate=0.01, num_steps=2000)
    params = optax.tree.cast(result.params, jnp.float64)
    exact = Dataset(data.x.astype(float), data.y.astype(float))
    margin = float(normalized_margin(network, params, exact))
    weighted = float(dual_weighted_margin(get_loss("logistic"), network, params, exact))
    assert abs(8 * margin - 1) < 0.04
    assert weighted >= margin
    np.testing.assert_allclose(result.info.normalized_margin, margin, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lam": -1e-3}, "lam.*-0.001"),
        ({"lam": math.nan}, "lam.*nan"),
        ({"lam": math.inf}, "lam.*inf"),
        ({"lam": [0.1, -2.0]}, "lam.*-2.0"),
        ({"lam": []}, r"lam.*\(0,\)"),
        ({"lam": [[0.1]]}, r"lam.*\(1, 1\)"),
        ({"lam": "small"}, "lam must be numbers, got 'small'"),
        ({"learning_rate": 0.0}, "learning_rate.*0.0"),
        ({"learning_rate": -1.0}, "learning_rate.*-1.0"),
        ({"learning_rate": optax.constant_schedule(0.1)}, "learning_rate must be numbers"),
        ({"learning_rate": math.nan}, "learning_rate.*nan"),
        ({"num_steps": 0}, "num_steps.*0"),
        ({"descend": "sqrt"}, "descend.*'sqrt'"),
        ({"power": 0.0}, "power.*0.0"),
        ({"loss": "hinge"}, "loss.*'hinge'"),
        ({"loss": SHARP._replace(labels="rank")}, "labels.*'rank'"),
        ({"loss": SHARP._replace(labels="class")}, "several outputs for the loss given, of class"),
    ],
)
def test_bad_settings_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        train(NETWORK, DATA, key=KEY, **{"lam": 0.1, **options})


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        (Dataset(DATA.x, 2 * DATA.y), {}, r"data\.y must be −1 or \+1"),
        (Dataset(DATA.x, DATA.y[:-1]), {}, r"\(12, 5\), \(11,\)"),
        (Dataset(DATA.x.at[3, 1].set(jnp.nan), DATA.y), {}, r"data\.x.*nan at \[3, 1\]"),
        (Dataset(DATA.x, jnp.full(12, jnp.inf)), {"loss": "squared"}, r"data\.y.*inf at \[0\]"),
        (
            Dataset(DATA.x, jnp.arange(12) % 4),
            {"loss": "cross_entropy", "network": fully_connected(2, 6, 3)},
            r"data\.y.*0 … 2.*got 3 at \[3\]",
        ),
    ],
)
def test_bad_data_is_named(data, options, said):
    with pytest.raises(ValueError, match=said):
        train(**{"network": NETWORK, "data": data, "lam": 0.1, "key": KEY, **options})


@pytest.mark.parametrize(
    ("x", "loss", "outputs", "message"),
    [
        (jnp.ones(4), "logistic", 1, "data must have x of shape"),
        (jnp.ones((4, 3), complex), "logistic", 1, "data.x must be .* of dtype complex128"),
        (jnp.ones((4, 3)), "logistic", 3, "network must have one output for the loss logistic"),
        (jnp.ones((4, 3)), "cross_entropy", 1, "network must have several outputs"),
    ],
)
def test_data_and_network_that_do_not_fit_are_named(x, loss, outputs, message):
    network = fully_connected(2, 4, outputs)
    with pytest.raises(ValueError, match=message):
        train(network, Dataset(x, jnp.ones(4)), lam=1e-3, key=jax.random.key(0), loss=loss)
