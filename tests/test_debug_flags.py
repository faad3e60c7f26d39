"""What is public runs under the flags by which JAX finds NaNs, wrong shapes and leaked tracers."""

import jax
import jax.numpy as jnp
import optax
import pytest

from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.networks.network import fully_connected
from ntkreg.training import flows, margins, objectives, paths, trainers

KEY = jax.random.key(0)
SIGNS = noisy_xor(KEY, 12, 4)
CLASSES = Dataset(SIGNS.x, jnp.arange(12) % 3)
FLAGS = {"debug_nans": True, "numpy_rank_promotion": "raise", "check_tracer_leaks": True}


LEAKS = "check_tracer_leaks"  # which looks at all that a process holds: slow where it is much
RUN = [("debug_nans", "numpy_rank_promotion"), pytest.param((LEAKS,), marks=pytest.mark.slow)]


@pytest.fixture(params=RUN, ids=" ".join)
def flags(request):
    """Several at once: what runs under all of them runs under each."""
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in request.param}
    for name in request.param:
        jax.config.update(f"jax_{name}", FLAGS[name])
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def of(loss):
    """A network for the loss, and data."""
    is_class = loss == "cross_entropy"
    return fully_connected(2, 6, 3 if is_class else 1), CLASSES if is_class else SIGNS


@pytest.mark.parametrize(("flags", "flag"), [((name,), name) for name in FLAGS], indirect=["flags"])
def test_the_flags_find_what_they_are_for(flags, flag):
    kept = []

    def leak(x):
        kept.append(x)
        return x

    error, fault = {
        # A function of its own: what was compiled before the flag was set may go unseen.
        "debug_nans": (FloatingPointError, lambda: jax.jit(lambda x: jnp.log(x))(-jnp.ones(2))),
        "numpy_rank_promotion": (ValueError, lambda: jnp.ones((2, 2)) + jnp.ones(2)),
        "check_tracer_leaks": (Exception, lambda: jax.jit(leak)(1.0)),
    }[flag]
    with pytest.raises(error, match=r"nan|rank|[Ll]eaked"):
        fault()


@pytest.mark.parametrize(
    ("loss", "descend", "lam"),
    [("logistic", "log", [0.1, 1e-200]), ("squared", "plain", 0.0)],
)
def test_training_runs(flags, loss, descend, lam):
    network, data = of(loss)
    options = dict(loss=loss, descend=descend, num_steps=3)
    result = trainers.train(network, data, lam=lam, key=KEY, **options)
    assert jnp.isfinite(result.info.log_objective)


def test_a_path_runs(flags):
    network, data = of("cross_entropy")
    options = dict(lams=[1e-1, 1e-2], key=KEY, loss="cross_entropy", num_steps=2, finish_steps=2)
    assert jnp.isfinite(paths.train_path(network, data, **options).info.log_objective).all()


@pytest.mark.parametrize(
    ("model", "noise"),
    [(flows.Model(), "resample"), (flows.Model("soft_relu", "squared"), "langevin")],
)
def test_a_flow_runs(flags, model, noise):
    options = dict(lam=1e-2, sigma=1e-2, num_particles=8, num_steps=9, model=model, noise=noise)
    assert flows.noisy_flow(SIGNS, key=KEY, **options).info.finite


def test_margins_are_found(flags):
    network, data = of("cross_entropy")
    params = network.init(KEY, 4)
    assert jnp.isfinite(margins.normalized_margin(network, params, data))
    named = objectives.get_loss("cross_entropy")
    assert jnp.isfinite(margins.dual_weighted_margin(named, network, params, data))


def test_an_optimizer_is_tried(flags):
    make = optax.inject_hyperparams(optax.rmsprop)
    assert trainers.TrainOptions(optimizer=make).optimizer is make
