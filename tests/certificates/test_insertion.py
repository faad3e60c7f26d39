"""Insertion: what is added lowers F, and training with it ends at the certified minimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import certificates, data
from ntkreg.certificates import insertion
from ntkreg.certificates.insertion import Insertion, train_to_global
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import fully_connected
from ntkreg.training import objectives
from ntkreg.training.trainers import TrainOptions

LAM = 0.02
SAMPLES = data.random_labels(jax.random.key(3), num_samples=8, dim=3)
KEY = jax.random.key(0)


def objective(params, samples=SAMPLES, loss="logistic"):
    network = fully_connected(2, params[1].shape[0])
    loss = objectives.get_loss(loss)
    return float(objectives.objective(loss, network, params, samples, jnp.log(LAM)))


@pytest.mark.parametrize("width", [1, pytest.param(12, marks=pytest.mark.slow)])
def test_training_with_insertions_ends_at_the_certified_minimum(width):
    best = certificates.global_minimum(SAMPLES, LAM)
    found = train_to_global(SAMPLES, lam=LAM, key=KEY, width=width, num_steps=600)
    assert found.certificate.kind == "exact" and found.certificate.gap <= 1e-4
    assert found.certificate.upper == pytest.approx(best.upper, rel=1e-4)
    assert found.certificate.lower <= best.upper * (1 + 1e-9)
    assert objective(found.params) == pytest.approx(found.certificate.upper, rel=1e-9)
    assert found.insertions >= (1 if width == 1 else 0)


@pytest.mark.slow
def test_it_goes_on_from_a_network_that_is_given_and_grows_beyond_its_spare_neurons(monkeypatch):
    monkeypatch.setattr(insertion, "AT_ONCE", 1)  # so that two neurons are to spare at first
    narrow = fully_connected(2, 1).init(KEY, 3)
    found = train_to_global(SAMPLES, lam=LAM, key=KEY, params=narrow, width=1, num_steps=401)
    assert found.params[1].shape[0] > 3 and found.certificate.gap <= 1e-4


@pytest.mark.slow
def test_the_squared_loss_too():
    reals = SAMPLES._replace(y=SAMPLES.y * 0.5 + 0.2)
    found = train_to_global(reals, lam=LAM, key=KEY, width=2, loss="squared", num_steps=400)
    best = certificates.global_minimum(reals, LAM, loss="squared")
    assert found.certificate.gap <= 1e-4
    assert objective(found.params, reals, "squared") == pytest.approx(best.upper, rel=1e-4)


def test_training_that_has_not_come_to_rest_goes_on_where_no_neuron_is_missing():
    """The optimal network, too large: its slopes are too small for any neuron to pay."""
    best = certificates.global_minimum(SAMPLES, LAM)
    large = insertion.with_spare(tuple(2 * jnp.asarray(p) for p in best.primal), 2)
    fixed = Insertion(TrainOptions(num_steps=100), tolerance=1e-3)
    state = jax.jit(lambda: insertion.begin(fixed, SAMPLES, LAM, 0.003, large))()
    assert state.missing[1][0] == 0 and state.objective > best.upper * 1.01 and not state.over
    more = jax.jit(lambda state: insertion.insert(fixed, SAMPLES, LAM, 0.003, state))
    while not state.over:
        state = more(state)
    assert state.insertions == 0
    assert state.objective == pytest.approx(best.upper, rel=1e-3)


def test_few_insertions_leave_a_gap_that_the_certificate_tells():
    found = train_to_global(
        SAMPLES, lam=LAM, key=KEY, width=1, max_insertions=0, num_steps=500, tolerance=1e-6
    )
    assert found.insertions == 0 and found.certificate.gap > 0.01
    assert found.certificate.kind == "certified"


def test_a_local_search_is_called_heuristic():
    found = train_to_global(SAMPLES, lam=LAM, key=KEY, width=8, oracle="multistart", num_steps=500)
    assert found.certificate.kind == "heuristic"


def test_an_inserted_neuron_lowers_the_objective_and_takes_a_spare_place():
    trained = train_to_global(SAMPLES, lam=LAM, key=KEY, width=1, max_insertions=0, num_steps=500)
    first, last = map(jnp.asarray, trained.params)
    padded = jnp.pad(first, ((0, 0), (0, 3))), jnp.pad(last, ((0, 3), (0, 0)))
    assert list(insertion.spare(padded)) == [False, True, True, True]
    samples = Dataset(*map(np.asarray, SAMPLES))
    f = np.asarray(fully_connected(2, 4).apply(padded, SAMPLES.x))
    found = insertion.proof("logistic", "auto", samples, f, LAM)
    directions, signs = found.missing(samples.x)
    worth = signs * (found.maxima.weights @ np.maximum(samples.x @ directions.T, 0.0))
    assert len(worth) and (worth > 2.0).all() and (np.diff(worth) <= 0).all()
    assert worth[0] == pytest.approx(found.maxima.lower)
    add = lambda params, k: insertion.inserted(
        "logistic", SAMPLES, LAM, params, jnp.asarray(directions[k]), signs[k]
    )
    new = add(padded, 0)
    assert objective(new) < objective(padded) * (1 - 1e-3)
    assert int(insertion.spare(new).sum()) == 2
    none = insertion.inserted("logistic", SAMPLES, LAM, padded, jnp.asarray(directions[0]), 0.0)
    full = add(add(add(padded, 0), 0), 0)
    assert objective(none) == objective(padded) and not insertion.spare(full).any()
    assert objective(add(full, 0)) == objective(full)  # no neuron is to spare
    assert found.lower <= certificates.global_minimum(SAMPLES, LAM).upper


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_to_global(SAMPLES, lam=0.0, key=KEY), "lam must be positive and finite"),
        (
            lambda: train_to_global(SAMPLES, lam=LAM, key=KEY, tolerance=2.0),
            "tolerance must lie between 0 and 1, got 2.0",
        ),
        (
            lambda: train_to_global(SAMPLES, lam=LAM, key=KEY, params=(jnp.ones((2, 2)),)),
            "params must be",
        ),
        (
            lambda: Insertion(TrainOptions("exponential")),
            "loss must be one of logistic, squared, got 'exponential'",
        ),
        (
            lambda: Insertion(TrainOptions(), max_insertions=-1),
            "max_insertions must be at least 0, got -1",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
