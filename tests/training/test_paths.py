"""The λ-path: where each λ begins, and the certified minima that it comes to."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from ntkreg.certificates import two_layer
from ntkreg.certificates.certified import global_minimum, max_margin
from ntkreg.data.dataset import Dataset, noisy_xor, random_labels
from ntkreg.networks.network import Network, check_homogeneous, fully_connected
from ntkreg.theory.closed_forms import planted_network
from ntkreg.training import paths, trainers
from ntkreg.training.margins import dual_weighted_margin, margins, normalized_margin
from ntkreg.training.objectives import Loss, get_loss, log_objective, log_softplus_neg
from ntkreg.training.paths import stretched_to, train_path
from ntkreg.training.stationarity import log_residual
from ntkreg.training.trainers import TrainOptions, logs_of

DATA = random_labels(jax.random.key(0), 10, 2)
NETWORK = fully_connected(2, 50)
LAMS = (1e-2, 1e-4, 1e-8, 1e-16, 1e-32)
LOGISTIC = get_loss("logistic")
NARROW = fully_connected(2, 12)
SHORT = TrainOptions(num_steps=7, finish_steps=3)
UNFINISHED = TrainOptions(num_steps=7)
FEW = NARROW.init(jax.random.key(1), 2)

FOLLOW = jax.jit(paths.follow, static_argnums=(0, 1))
STRETCHED = jax.jit(stretched_to, static_argnums=(0, 1, 5))


def entry(ends, part):
    return jax.tree.map(lambda leaf: leaf[part], ends)


def ends_of(options, lams, params, warm=True, rate=0.05, network=NARROW):
    return FOLLOW(options, network, DATA, logs_of(lams), rate, params, warm)


VALUE = jax.jit(log_objective, static_argnums=(0, 1, 5))


def log_value(params, log_lam, network=NARROW):
    return VALUE(LOGISTIC, network, params, DATA, log_lam)


@functools.cache
def followed(*lams):
    """A warm path of five λ at width fifty, with what was measured of it."""
    return train_path(
        NETWORK, DATA, lams=lams, key=jax.random.key(0), learning_rate=0.03, num_steps=1000
    )


# Where each λ begins -----------------------------------------------------------------------------


def test_cold_lambdas_without_a_finish_are_training_runs():
    lams = [1e-1, 1e-3, 1e-6]
    ends = ends_of(UNFINISHED, lams, FEW, False)
    run = jax.jit(trainers.advance, static_argnums=(0, 1))
    for part, log_lam in enumerate(logs_of(lams)):
        state = trainers.init(UNFINISHED, FEW)
        state = run(UNFINISHED, NARROW, DATA, log_lam, 0.05, state, 7)
        chex.assert_trees_all_close(entry(ends, part), state.params, rtol=1e-10, atol=1e-14)
        assert not np.allclose(state.params[0], FEW[0])


def test_a_cold_lambda_does_not_know_the_others():
    one, other = ([1e-1, 1e-4, 1e-6], [1e-3, 1e-4, 1e-2])
    ends = [ends_of(SHORT, lams, FEW, False) for lams in (one, other)]
    chex.assert_trees_all_equal(entry(ends[0], 1), entry(ends[1], 1))
    assert not np.allclose(entry(ends[0], 0)[0], entry(ends[1], 0)[0])
    ends = [ends_of(SHORT, lams, FEW) for lams in (one, other)]
    assert not np.allclose(entry(ends[0], 1)[0], entry(ends[1], 1)[0])


STILL = 1e-14  # a rate that moves nothing


def test_a_warm_lambda_begins_at_the_last_end_stretched():
    start, lams = entry(ends_of(SHORT, [1e-3], FEW), 0), [1e-3, 1e-6, 1e-9]
    ends = ends_of(UNFINISHED, lams, start, rate=STILL)
    for part in (1, 2):
        last = entry(ends, part - 1)
        expected = STRETCHED(LOGISTIC, NARROW, last, DATA, logs_of(lams)[part])
        chex.assert_trees_all_close(entry(ends, part), expected, rtol=1e-9, atol=1e-11)
        assert not np.allclose(expected[0], last[0], rtol=0.1)


def test_a_warm_lambda_begins_anew_after_an_end_no_better_than_zero():
    small = optax.tree.scale(1e-3, FEW)
    ends = ends_of(UNFINISHED, [1e-1, 1e-3, 1e-6], small, rate=STILL)
    for part in range(3):
        chex.assert_trees_all_close(entry(ends, part), small, rtol=0, atol=1e-12)


def test_a_network_that_collapsed_separates_in_the_end():
    """At λ = 1 the best network is zero, and zero has no direction to go on in."""
    found = followed(1.0, *LAMS[1:])
    assert float(found.info.norm[0]) < 1e-3
    assert float(found.info.normalized_margin[-1]) > 0.95 * max_margin(DATA).lower


# The multiple of least F -------------------------------------------------------------------------


ON_D = noisy_xor(jax.random.key(0), 12, 4)


def scale_of(params, start):
    return float(params[-1][0, 0] / start[-1][0, 0])


@pytest.mark.parametrize(
    ("depth", "power", "loss"),
    [(2, 2.0, "logistic"), (3, 3.0, "logistic"), (3, 2.0, "exponential")],
)
def test_stretched_to_is_the_least_on_the_ray(depth, power, loss):
    """From the planted network on D, bent a little; scipy looks along the same ray."""
    network, loss, (first, *rest) = (
        fully_connected(depth, 4),
        get_loss(loss),
        planted_network(4, depth),
    )
    params = (first + 0.1 * jax.random.normal(jax.random.key(1), first.shape), *rest)
    for log_lam in (math.log(1e-3), math.log(1e-12)):
        found = STRETCHED(loss, network, params, ON_D, log_lam, power)

        def along(t, log_lam=log_lam):
            scaled = optax.tree.scale(math.exp(t), params)
            return float(VALUE(loss, network, scaled, ON_D, log_lam, power))

        best = minimize_scalar(along, bounds=(-1.0, 2.0), method="bounded", options={"xatol": 1e-9})
        assert math.log(scale_of(found, params)) == pytest.approx(best.x, abs=3e-6)
        chex.assert_trees_all_close(found, optax.tree.scale(scale_of(found, params), params))


@given(st.floats(-2.0, 2.0), st.integers(-600, -30))
def test_stretching_undoes_a_stretch(log_scale, log_lam):
    """At order 3."""
    stretched = functools.partial(STRETCHED, LOGISTIC, fully_connected(3, 4))
    params = planted_network(4, 3)
    best = stretched(params, ON_D, log_lam)
    assert 1 < scale_of(best, params) < math.exp(2.9)
    again = stretched(optax.tree.scale(math.exp(log_scale), best), ON_D, log_lam)
    chex.assert_trees_all_close(again, best, rtol=1e-5)


@pytest.mark.parametrize("lam", [1e-3, 1e-30, 1e-200])
def test_the_stretch_of_equal_margins_by_hand(lam):
    """e^(−uq) + λuN³ at u = c³ is least at u = log(q/λN³)/q: order and power 3, all margins q."""
    network, params = fully_connected(3, 4), planted_network(4, 3)
    np.testing.assert_allclose(margins(network, params, ON_D), 1, rtol=1e-12)
    cube = float(optax.tree.norm(params)) ** 3
    found = STRETCHED(get_loss("exponential"), network, params, ON_D, jnp.log(lam), 3.0)
    expected = math.log(1 / (lam * cube)) ** (1 / 3)
    assert scale_of(found, params) == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize(("size", "log_lam"), [(1e-3, -300.0), (1e3, 0.0)])
def test_a_stretch_goes_no_farther_than_it_says(size, log_lam):
    """The least lies 2 log 10 and more away: c ends at e³ or e⁻³."""
    params = optax.tree.scale(size, planted_network(4, 2))
    found = STRETCHED(LOGISTIC, fully_connected(2, 4), params, ON_D, log_lam)
    assert abs(math.log(scale_of(found, params))) == pytest.approx(3, abs=1e-5)


# What it comes to --------------------------------------------------------------------------------


def test_a_warm_path_comes_to_the_certified_minimizers():
    info, best = followed(*LAMS).info, max_margin(DATA)
    x, y = np.asarray(DATA.x), np.asarray(DATA.y)
    for part, lam in enumerate(LAMS):
        margin, least = float(info.normalized_margin[part]), global_minimum(DATA, lam)
        assert margin <= best.upper
        above = float(info.log_objective[part]) - np.log([least.lower, least.upper])
        assert above[0] >= -1e-12 and above[1] <= 2e-4
        if lam < 1e-2:
            certified = two_layer.normalized_margin(least.primal, x, y)
            assert margin == pytest.approx(certified, rel=1e-3)


def padded(params):
    """With neurons of zeros up to twelve."""
    more = 12 - params[0].shape[1]
    return jnp.pad(params[0], [(0, 0), (0, more)]), jnp.pad(params[1], [(0, more), (0, 0)])


@pytest.mark.parametrize("noise", [None, 0.0, 1e-4, 1e-2])
def test_a_finish_never_leads_upwards(noise):
    """From an untrained network; at certified minimizers, which lie on kinks; and near them."""
    moved = jax.random.normal(jax.random.key(3), (3, 12))
    for lam in (1e-2, 1e-4, 1e-16):
        start = FEW
        if noise is not None:
            first, last = padded(global_minimum(DATA, lam).primal)
            start = (first * (1 + noise * moved[:2]), last * (1 + noise * moved[2:].T))
        ends = (
            ends_of(TrainOptions(num_steps=7, finish_steps=k), [lam], start, rate=1e-12)
            for k in range(4)
        )
        values = [log_value(entry(end, 0), np.log(lam)) for end in ends]
        assert (np.diff(values) <= 0).all()
        assert noise is not None or values[-1] < values[0]


def test_where_nothing_kinks_the_finish_ends_at_the_rounding():
    """Logistic regression: of the gradient at the start hardly anything is left at any λ."""
    linear, lams = fully_connected(1, 1), [1e-1, 1e-3, 1e-6]
    slope = jax.jit(jax.grad(lambda params, log_lam: log_value(params, log_lam, linear)))
    first = linear.init(jax.random.key(0), 2)
    options = TrainOptions(num_steps=3, finish_steps=60)
    ends = ends_of(options, lams, first, rate=0.01, network=linear)
    for part, log_lam in enumerate(logs_of(lams)):
        assert float(optax.tree.norm(slope(first, log_lam))) > 1e-2
        assert float(optax.tree.norm(slope(entry(ends, part), log_lam))) < 1e-7


def test_paths_under_vmap_are_the_paths_one_by_one_and_a_broken_one_spoils_no_other():
    lams = [1e-1, 1e-3, 1e-6]
    each = [NARROW.init(jax.random.key(seed), 2) for seed in range(3)]
    starts = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    together_of = jax.jit(jax.vmap(lambda params, warm: ends_of(SHORT, lams, params, warm)))
    warm = jnp.array([True, True, False])
    together = together_of(starts, warm)
    for run in range(3):
        alone = ends_of(SHORT, lams, each[run], warm[run])
        chex.assert_trees_all_close(entry(together, run), alone, rtol=1e-9, atol=1e-12)
    found = together_of(jax.tree.map(lambda p: p.at[1].set(jnp.nan), starts), warm)
    assert np.isnan(entry(found, 1)[0]).all()
    for run in (0, 2):
        chex.assert_trees_all_equal(entry(found, run), entry(together, run))


# All in one call ---------------------------------------------------------------------------------


def test_what_is_measured_of_a_path_is_its_definitions():
    found, residual = followed(*LAMS), jax.jit(log_residual, static_argnums=(0, 1))
    for part, lam in enumerate(LAMS):
        end, log_lam = entry(found.params, part), jnp.log(lam)
        definitions = (
            normalized_margin(NETWORK, end, DATA),
            dual_weighted_margin(get_loss("logistic"), NETWORK, end, DATA),
            log_value(end, log_lam, NETWORK),
            optax.tree.norm(end),
            residual(LOGISTIC, NETWORK, end, DATA, log_lam),
        )
        for name, definition in zip(found.info._fields, definitions, strict=True):
            measured = float(getattr(found.info, name)[part])
            tolerance = 1e-2 if name == "log_residual" else 1e-10
            assert measured == pytest.approx(float(definition), abs=tolerance), name


@pytest.mark.slow
def test_a_path_of_a_loss_of_one_s_own_comes_to_the_same_max_margin():
    """Its minimizers are those of the logistic loss at λ/2 over √2 (order 2), margins the same."""
    doubled = Loss(
        lambda f, y: jax.nn.softplus(-2 * y * f), lambda f, y: log_softplus_neg(2 * y * f), "sign"
    )
    lams = [1e-2, 1e-4, 1e-8]
    own = train_path(NETWORK, DATA, lams=lams, key=jax.random.key(1), loss=doubled, num_steps=1500)
    halves = [lam / 2 for lam in lams]
    logistic = train_path(NETWORK, DATA, lams=halves, key=jax.random.key(1), num_steps=1500)
    for name, tolerance in (("normalized_margin", 0.01), ("dual_weighted_margin", 0.01)):
        ours, theirs = getattr(own.info, name)[1:], getattr(logistic.info, name)[1:]
        np.testing.assert_allclose(ours, theirs, rtol=tolerance)
    np.testing.assert_allclose(math.sqrt(2) * own.info.norm[1:], logistic.info.norm[1:], rtol=1e-3)
    with pytest.raises(ValueError, match="loss must be one of a margin"):
        real = doubled._replace(labels="real")
        train_path(NETWORK, DATA, lams=lams, key=jax.random.key(1), loss=real)


def test_a_path_follows_the_dtype_of_its_data():
    """Float32 beside a float64 that is switched on."""
    data = Dataset(DATA.x.astype(jnp.float32), DATA.y.astype(jnp.float32))
    options = {"num_steps": 7, "finish_steps": 3, "lams": [1e-1, 1e-3]}
    found = train_path(NARROW, data, key=jax.random.key(1), **options)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    chex.assert_tree_all_finite(found)


@pytest.mark.slow
def test_a_path_can_be_traced_as_a_sweep_does():
    options = dict(num_steps=7, finish_steps=3, lams=[1e-1, 1e-3])
    follow = lambda seed: train_path(NARROW, DATA, key=jax.random.key(seed), **options)
    traced, direct = jax.jit(follow)(1), follow(1)
    for name in ("norm", "normalized_margin"):
        found = getattr(traced.info, name), getattr(direct.info, name)
        np.testing.assert_allclose(*found, rtol=1e-6)


BIASED = Network(
    lambda key, dim: {"w": jnp.ones(dim), "b": jnp.ones(())},
    lambda params, x: x @ params["w"] + params["b"] ** 2,
    None,
    1,
)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"finish_steps": -1}, "finish_steps must be at least 0, got -1"),
        ({"num_steps": 0}, "num_steps.*0"),
        ({"power": 0.0}, "power.*0.0"),
        ({"descend": "sqrt"}, "descend.*'sqrt'"),
        ({"loss": "hinge"}, "loss.*'hinge'"),
        ({"loss": "squared"}, "loss must be one of a margin, got 'squared'"),
        ({"lams": [1e-1, 0.0]}, "lams must be positive and finite, got 0.0"),
        ({"lams": [1e-1, -1.0]}, "lams.*got -1.0"),
        ({"lams": [1e-1, math.nan]}, "lams.*got nan"),
        ({"lams": [1e-1, math.inf]}, "lams.*got inf"),
        ({"lams": []}, r"lam.*\(0,\)"),
        ({"lams": [[1e-1], [1e-2]]}, r"lams must be.*vector of them, got shape \(2, 1\)"),
        (
            {"lams": [1e-1, 1e-3, 1e-2]},
            "lams must fall from each to the next, got 0.01 after 0.001",
        ),
        ({"lams": [1e-1, 1e-1]}, "lams must fall.*got 0.1 after 0.1"),
        ({"learning_rate": 0.0}, "learning_rate.*0.0"),
        ({"data": Dataset(DATA.x, 2 * DATA.y)}, r"data\.y must be −1 or \+1"),
        ({"network": fully_connected(2, 4, 3)}, "network must have one output"),
        ({"network": BIASED}, "network is not homogeneous of order 1"),
    ],
)
def test_bad_settings_are_named(options, said):
    with pytest.raises(ValueError, match=said):
        train_path(
            **{"network": NETWORK, "data": DATA, "lams": 1e-3, "key": jax.random.key(0), **options}
        )


def test_a_network_that_is_homogeneous_at_its_start_only_is_refused_at_the_end():
    """tanh f: at outputs of 1e-16 and 2²⁰ times that it is f, at those of trained networks not."""
    bent = NARROW._replace(apply=lambda p, x: jnp.tanh(NARROW.apply(p, x)))
    start = optax.tree.scale(1e-8, FEW)
    check_homogeneous(bent, start, DATA.x)
    options = dict(params=start, learning_rate=0.1, num_steps=100, finish_steps=0)
    with pytest.raises(ValueError, match="network is not homogeneous of order 2"):
        train_path(bent, DATA, lams=1e-3, key=jax.random.key(2), **options)


@pytest.mark.slow
def test_the_zero_network_at_the_end_is_no_fault():
    """At this λ all parameters shrink to where float32 has no square of them."""
    data = jax.tree.map(lambda a: a.astype(jnp.float32), DATA)
    result = train_path(
        NARROW,
        data,
        lams=1e3,
        key=jax.random.key(2),
        learning_rate=0.1,
        num_steps=300,
    )
    assert result.info.norm < 1e-8
    np.testing.assert_allclose(result.info.log_objective, math.log(math.log(2)), rtol=1e-5)
