"""Optimizers of optax: the learning rate's schedule reaches them, or they are refused by name."""

import functools
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import fully_connected
from ntkreg.training import optimizers, trainers
from ntkreg.training.optimizers import check_optimizer
from ntkreg.training.trainers import TrainOptions, train

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (24, 4))
DATA = Dataset(X, jnp.sign(X[:, 0] * X[:, 1]))
NETWORK = fully_connected(2, 16)

FOLLOWING = {
    "adam": optax.adam,
    "sgd": optax.sgd,
    "momentum": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "adamw": optax.adamw,
    "rmsprop": optax.rmsprop,
    "lion": optax.lion,
    "lamb": optax.lamb,
    "adafactor": optax.adafactor,
    "sm3": optax.sm3,
    "novograd": optax.novograd,
    "fromage": optax.fromage,
    "noisy_sgd": optax.noisy_sgd,
    "adadelta": optax.adadelta,
    "polyak_sgd": optax.polyak_sgd,
    "muon": optax.contrib.muon,
    "prodigy": optax.contrib.prodigy,
    "momo": optax.contrib.momo,
    "injected": optax.inject_hyperparams(optax.adam),
    "injected inside": lambda rate: optax.chain(
        optax.clip(1.0), optax.inject_hyperparams(optax.adam)(2.0 * rate)
    ),
    "plateau": lambda rate: optax.chain(optax.sgd(rate), optax.contrib.reduce_on_plateau()),
    "every other step": lambda rate: optax.MultiSteps(optax.adam(rate), 2),
    "line search": lambda rate: optax.chain(
        optax.sgd(rate), optax.scale_by_backtracking_linesearch(10)
    ),
}
REFUSED = {
    "rprop": (optax.rprop, "got rprop, which goes on at rate 0"),
    "lars": (functools.partial(optax.lars, weight_decay=0.1), "got lars, which goes on at rate 0"),
    "schedule-free": (optax.contrib.schedule_free_adamw, "got schedule_free_adamw, which goes on"),
    "constant": (lambda rate: optax.adam(1e-3), "got <lambda>, which goes on at rate 0"),
    "still": (lambda rate: optax.set_to_zero(), "got <lambda>, which takes the same steps at any"),
    "lbfgs": (optax.lbfgs, "got lbfgs, which takes the same steps at any rate"),
    "made": (optax.adam(1e-3), "got a GradientTransformationExtraArgs, which fails with TypeError"),
    "upwards": (lambda rate: optax.sgd(-rate), "got <lambda>, which ascends$"),
    "infinite": (lambda rate: optax.chain(optax.sgd(rate), optax.scale(jnp.inf)), "not finite"),
    "sophia": (optax.contrib.sophia, "got sophia, which fails with ValueError: obj_fn must be"),
    "no rate": (optax.contrib.reduce_on_plateau, "got reduce_on_plateau, which fails with ValueE"),
}


# Of the others one is like another to a trainer.
QUICK = (
    "adam", "adafactor", "polyak_sgd", "injected inside", "plateau",
    "lars", "constant", "made", "upwards", "infinite",
)  # fmt: skip
marked = lambda name: pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)


@pytest.mark.parametrize("name", [*map(marked, FOLLOWING)])
def test_the_rate_reaches_the_optimizer(name):
    """A rate that is 0 from half on leaves all as it was there; the trial lets it through."""
    make, until = FOLLOWING[name], lambda half: lambda progress: jnp.where(progress < half, 1.0, 0)
    run = jax.jit(trainers.advance, static_argnums=(0, 1))
    ends = []
    for half in (0.5, 1.0):
        options = TrainOptions(optimizer=make, schedule=until(half), descend="plain", num_steps=8)
        setting = options, NETWORK, DATA, math.log(1e-3), 0.5
        start = trainers.init(options, NETWORK.init(KEY, 4))
        first = run(*setting, start, 4)
        ends += [first.params, run(*setting, first, 4).params]
    chex.assert_trees_all_equal(ends[0], ends[1], ends[2])
    moved = [np.abs(end[1] - ends[0][1]).max() for end in (start.params, ends[3])]
    assert min(moved) > 0 and np.isfinite(moved).all()


@pytest.mark.parametrize("name", [*map(marked, REFUSED)])
def test_an_optimizer_that_does_not_follow_its_rate_is_named_in_one_line(name):
    make, said = REFUSED[name]
    with pytest.raises(
        ValueError, match=f"optimizer must follow a learning rate.*{said}"
    ) as caught:
        TrainOptions(optimizer=make, descend="plain")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [(optax.polyak_sgd, "ascends where values are negative"), (optax.contrib.momo, "same steps")],
)
def test_optimizers_of_positive_values_are_refused_for_logs_only(make, said):
    check_optimizer(make, is_log=False)
    with pytest.raises(ValueError, match=f"got {make.__name__}, which .*{said}"):
        TrainOptions(optimizer=make)


@pytest.mark.parametrize("is_log", [True, False])
@pytest.mark.parametrize("make", optimizers.TRIED)
def test_the_optimizers_that_are_not_tried_pass_the_trial(make, is_log):
    assert optimizers._try(make, is_log) is None


def test_an_injected_optimizer_gives_what_the_plain_one_does():
    """In float32, on 24 × 4 samples labelled by sign x₀x₁."""
    data = jax.tree.map(lambda a: a.astype(jnp.float32), DATA)
    makes = optax.adam, optax.inject_hyperparams(optax.adam)
    plain, injected = (
        train(NETWORK, data, lam=[1e-2, 1e-3], key=KEY, num_steps=60, optimizer=make)
        for make in makes
    )
    chex.assert_trees_all_close(injected.params, plain.params, rtol=1e-5, atol=1e-6)


def test_a_plateau_is_told_the_values():
    """Each step after one at which the value did not fall to 0 is half as long again."""
    halving = lambda rate: optax.chain(
        optax.sgd(rate), optax.contrib.reduce_on_plateau(factor=0.5, patience=1, rtol=1.0)
    )
    options = dict(lam=1e-3, key=KEY, num_steps=3, schedule=trainers.constant, descend="plain")
    start = NETWORK.init(KEY, 4)
    halved, plain = (
        train(NETWORK, DATA, params=start, optimizer=make, **options)
        for make in (halving, optax.sgd)
    )
    moved = lambda result: optax.tree.norm(optax.tree.sub(result.params, start))
    assert 0.1 * moved(plain) < moved(halved) < 0.9 * moved(plain)


def test_a_trial_under_a_trace_leaves_nothing_in_the_program():
    def made(x):
        TrainOptions(optimizer=lambda rate: optax.rmsprop(rate))
        return 2 * x

    assert len(jax.make_jaxpr(made)(1.0).eqns) == 1
