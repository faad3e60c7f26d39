"""Two neurons on C₅: the lemma by search, the counterexample in integers, the flow, the claims."""

import itertools
import math

import jax
import jax.numpy as jnp
import judged
import numpy as np
import pytest

from ntkreg import fully_connected
from ntkreg.data import groups
from ntkreg.experiments.two_neurons import (
    COUNTEREXAMPLE,
    FIVE,
    IMPURE,
    LAW,
    Config,
    counterexample_claim,
    flowed,
    integer_margins,
    integer_network,
)
from ntkreg.training import margins


def labels_that_win(first, second):
    """How many of five labels are the strict maximum of s₁w₁ + s₂w₂ for some s ≥ 0."""
    angles = np.linspace(0, np.pi / 2, 721)
    sums = np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
    best = np.sort(sums, axis=1)
    strict = best[:, -1] - best[:, -2] > 1e-9
    return len(set(sums[strict].argmax(axis=1)))


def test_no_pair_of_pure_neurons_fits():
    """All pairs of frequencies, phases on a grid, with any sizes (the angles of s)."""
    place = 2 * np.pi * np.arange(5) / 5
    waves = {
        zeta: [np.cos(zeta * place + phase) for phase in np.linspace(0, 2 * np.pi, 61)[:-1]]
        for zeta in (1, 2)
    }
    most = {
        (one, other): max(
            labels_that_win(w1, w2) for w1, w2 in itertools.product(waves[one], waves[other])
        )
        for one, other in ((1, 1), (1, 2), (2, 2))
    }
    assert most[1, 1] == most[2, 2] == 4  # an angle below 180° meets four sectors of 72°
    assert most[1, 2] <= 4


def test_pairs_that_are_not_pure_can_fit():
    w = np.array([[5, -2, 4, -9, 2], [-9, 4, -2, 5, 2]], float)
    assert labels_that_win(*(w - w.mean(axis=1, keepdims=True))) == 5


def test_the_integer_network_has_all_margins_at_least_nine():
    found = integer_margins()
    assert found.shape == (25, 4) and found.min() == 9
    assert all(isinstance(value, int) for row in found.tolist() for value in row)
    network, params = fully_connected(2, 2, 5, "quadratic"), integer_network()
    pairs = margins.margin_pairs(network, params, groups.pairs(FIVE))
    assert sorted(map(int, pairs.ravel())) == sorted(found.ravel().tolist())


def test_its_loss_is_low_enough_for_the_flow_to_stay_and_its_neurons_are_not_pure():
    loss = float(np.mean(np.log1p(np.exp(-integer_margins().astype(float)).sum(axis=1))))
    assert loss == pytest.approx(2.07e-5, rel=0.01) and loss < math.log(2) / 25
    shares = groups.purities(FIVE, groups.neurons(integer_network()))
    assert float(shares.max()) == pytest.approx(0.88, abs=0.005)
    assert counterexample_claim().status == "holds"


def test_the_counterexample_claim_can_fail(monkeypatch):
    from ntkreg.experiments import two_neurons

    broken = ((6, -3, -1, 4, -6), (6, -6, 4, -1, 3))
    monkeypatch.setattr(two_neurons, "INTEGERS", (broken, *two_neurons.INTEGERS[1:]))
    assert two_neurons.counterexample_claim().status == "fails"


def test_the_flow_descends_and_keeps_what_gradient_flow_keeps():
    """‖u‖² + ‖v‖² − 2‖w‖² of each neuron is constant along gradient flow, as layers balance."""
    params = (jax.random.normal(jax.random.key(0), (10, 2)),) * 1
    params = (*params, jax.random.normal(jax.random.key(1), (2, 5)))
    network, data = fully_connected(2, 2, 5, "quadratic"), groups.pairs(FIVE)
    from ntkreg.experiments.groups.runs import LOSS
    from ntkreg.training import objectives

    value = lambda p: objectives.log_mean_loss(LOSS, network, p, data)
    end, steps = jax.jit(lambda p: flowed(value, lambda q: jnp.zeros(()), p, 300))(params)
    assert steps == 300 and value(end) < value(params) - 0.1
    kept = lambda p: np.array(jnp.sum(p[0] ** 2, axis=0) - 2 * jnp.sum(p[1] ** 2, axis=1))
    moved = np.abs(np.array(jnp.sum(end[1] ** 2 - params[1] ** 2, axis=1))).min()
    assert np.abs(kept(end) - kept(params)).max() < 1e-3 * moved


everywhere = lambda column, value: lambda rows: rows.assign(**{column: value})


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (COUNTEREXAMPLE, lambda rows: rows, "holds"),
        (IMPURE, lambda rows: rows, "holds"),
        (IMPURE, everywhere("limit_purity_0", 0.9999), "fails"),
        (IMPURE, everywhere("limit_margin", -1e-4), "fails"),
        (IMPURE, everywhere("limit_log_residual", 0.0), "undecided"),
        (IMPURE, everywhere("fits", False), "undecided"),
        (LAW, lambda rows: rows, "finding"),
    ],
)
def test_claims_are_judged(claim, edit, status):
    assert judged.status("two_neurons", claim, edit) == status


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(scales=(0.0,)), "scales must be positive and finite, got 0.0"),
        (dict(num_seeds=0), "num_seeds must be at least 1, got 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
