"""Both norms: Euler's identity, slopes, and what a penalty in them leads to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import Dataset, fully_connected, normalized_margin, train, train_path
from ntkreg.training import norms, objectives, stationarity
from ntkreg.training.margins import dual_weighted_margin
from ntkreg.training.trainers import TrainOptions

NORMS = [2, (2, 2), (2, 3), (2, 1.5)]
LOGISTIC = objectives.get_loss("logistic")


def network_and_params(width=5, activation="quadratic"):
    network = fully_connected(2, width, activation=activation)
    return network, network.init(jax.random.key(1), 3)


def samples():
    x = jax.random.normal(jax.random.key(0), (7, 3))
    return Dataset(x, jnp.sign(x[:, 0] * x[:, 1]))


def by_hand(params, norm):
    if norm == 2:
        return np.sqrt(sum((np.array(leaf) ** 2).sum() for leaf in params))
    first, last = (np.array(leaf) for leaf in params)
    sizes = [np.linalg.norm([*first[:, i], *last[i]]) for i in range(first.shape[1])]
    return sum(size ** norm[1] for size in sizes) ** (1 / norm[1])


@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_is_what_it_says_and_homogeneous(norm):
    _, params = network_and_params()
    size = float(norms.norm_of(params, norm))
    assert size == pytest.approx(by_hand(params, norm), rel=1e-12)
    assert jnp.exp(norms.log_norm(params, norm)) == pytest.approx(size, rel=1e-12)
    assert norms.to_power(params, norm, 2.5) == pytest.approx(size**2.5, rel=1e-12)
    scaled = jax.tree.map(lambda leaf: 3.0 * leaf, params)
    assert norms.norm_of(scaled, norm) == pytest.approx(3 * size, rel=1e-12)
    # Euler: ⟨∇‖Θ‖, Θ⟩ = ‖Θ‖.
    along = jax.jvp(lambda p: norms.norm_of(p, norm), (params,), (params,))[1]
    assert along == pytest.approx(size, rel=1e-12)
    slope = jax.grad(lambda p: norms.norm_of(p, norm))(params)
    length = np.sqrt(sum((np.array(leaf) ** 2).sum() for leaf in slope))
    assert norms.log_slope(params, norm) == pytest.approx(np.log(length), abs=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_objective_and_its_logarithm_agree(norm):
    network, params = network_and_params()
    log_lam, data = jnp.log(0.03), samples()
    value = float(objectives.objective(LOGISTIC, network, params, data, log_lam, norm=norm))
    power = norm[1] if norm != 2 else 2
    penalty = 0.03 * by_hand(params, norm) ** power
    loss = float(objectives.mean_loss(LOGISTIC, network, params, data))
    assert value == pytest.approx(loss + penalty, rel=1e-12)
    log = objectives.log_objective(LOGISTIC, network, params, data, log_lam, norm=norm)
    assert jnp.exp(log) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("norm", [2, (2, 3)])
def test_margins_do_not_change_with_the_size_of_the_network(norm):
    network, params = network_and_params()
    scaled = jax.tree.map(lambda leaf: 2.0 * leaf, params)
    data = samples()
    margin = float(normalized_margin(network, params, data, norm))
    assert normalized_margin(network, scaled, data, norm) == pytest.approx(margin, rel=1e-12)
    smallest = float((data.y * network.apply(params, data.x)).min())
    assert margin == pytest.approx(smallest / by_hand(params, norm) ** 3, rel=1e-12)
    assert dual_weighted_margin(LOGISTIC, network, params, data, norm) >= margin


def test_the_pair_of_twos_is_the_euclidean_norm():
    data, network = samples(), fully_connected(2, 6)
    run = lambda norm: train(
        network, data, lam=1e-2, key=jax.random.key(0), num_steps=50, norm=norm
    )
    one, other = run(2), run((2, 2))
    np.testing.assert_allclose(one.info.log_objective, other.info.log_objective, rtol=1e-9)
    np.testing.assert_allclose(one.info.norm, other.info.norm, rtol=1e-6)


@pytest.mark.parametrize("norm", [(2, 3), (2, 1.5), (2, 1)])
def test_a_dead_neuron_has_finite_slopes(norm):
    network, params = network_and_params()
    dead = jax.tree.map(jnp.array, (params[0].at[:, 0].set(0), params[1].at[0].set(0)))
    for value in (objectives.objective, objectives.log_objective):
        slope = jax.grad(value, argnums=2)(LOGISTIC, network, dead, samples(), -3.0, norm=norm)
        assert all(np.isfinite(leaf).all() for leaf in slope)
        assert (slope[0][:, 0] == 0).all()


def test_the_residual_vanishes_at_a_minimum_and_not_before():
    network, data = fully_connected(2, 8, activation="quadratic"), samples()
    found = train(
        network, data, lam=1e-2, key=jax.random.key(0), norm=(2, 3), num_steps=500, finish_steps=200
    )
    at = lambda params: stationarity.log_residual(
        LOGISTIC, network, params, data, jnp.log(1e-2), norm=(2, 3)
    )
    assert at(found.params) < np.log(1e-6)
    assert at(network.init(jax.random.key(0), 3)) > np.log(1e-2)


def test_weak_regularisation_leads_to_the_best_margin_of_its_own_norm():
    # f = xᵀAx with ‖A‖_* ≤ 2/(3√3): A = diag(a, −a) gives each sample a half of it.
    data = Dataset(jnp.eye(2), jnp.array([1.0, -1.0]))
    network = fully_connected(2, 6, activation="quadratic")
    best = 1 / (3 * np.sqrt(3))
    for seed in range(3):
        path = train_path(
            network, data, lams=[1e-2, 1e-4, 1e-8, 1e-16], key=jax.random.key(seed), norm=(2, 3),
            num_steps=1000, finish_steps=200,
        )  # fmt: skip
        margins = np.array(path.info.normalized_margin)
        assert (margins <= best * (1 + 1e-12)).all()
        assert margins[-1] == pytest.approx(best, rel=1e-6)
        euclidean = normalized_margin(network, jax.tree.map(lambda p: p[-1], path.params), data)
        assert euclidean != pytest.approx(best, rel=1e-2)


STRANGE = [3, 0, (2, 0.5), (2, -1.0), (1, 3), (2, np.inf), (2, 3, 1), (2,), "l2", None, (2, "3")]
STRANGE += [[2, 3]]


@pytest.mark.parametrize("norm", STRANGE, ids=str)
def test_a_norm_that_there_is_not_is_refused(norm):
    network, params = network_and_params()
    message = r"norm must be 2, or \(2, p\) with a finite p ≥ 1, got"
    for call in (
        lambda: TrainOptions(norm=norm),
        lambda: norms.norm_of(params, norm),
        lambda: normalized_margin(network, params, samples(), norm),
        lambda: objectives.objective(LOGISTIC, network, params, samples(), -3.0, norm=norm),
        lambda: objectives.log_objective(LOGISTIC, network, params, samples(), -3.0, norm=norm),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("p", [1.0, 1.01, 1.5, 3.0])
def test_dead_neurons_change_nothing(p):
    _, (first, last) = network_and_params()
    dead = jnp.pad(first, ((0, 0), (0, 99))), jnp.pad(last, ((0, 99), (0, 0)))
    for function in (norms.norm_of, norms.log_norm, norms.log_slope):
        expected = float(function((first, last), (2, p)))
        assert function(dead, (2, p)) == pytest.approx(expected, rel=1e-12)
    assert norms.norm_of(jax.tree.map(jnp.zeros_like, dead), (2, p)) < 1e-100


def test_the_layers_of_a_tree_without_order_are_not_guessed():
    params = {"z": jnp.ones((3, 3)), "a": jnp.ones((3, 3))}
    with pytest.raises(ValueError, match=r"got \(2, p\) for dict"):
        norms.norm_of(params, (2, 3))


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_a_power_of_the_norm_has_a_slope_at_zero(power):
    zero = (jnp.zeros((3, 2)), jnp.zeros((2, 1)))
    slope = jax.grad(lambda p: norms.to_power(p, 2, power))(zero)
    assert all((leaf == 0).all() for leaf in slope)


def test_neurons_are_those_of_two_layers_alone():
    deep, data = fully_connected(3, 4), samples()
    message = r"norm must be 2 unless the parameters are those of two layers"
    for call in (train, train_path):
        lam = {"lam": 0.1} if call is train else {"lams": [0.1]}
        with pytest.raises(ValueError, match=message):
            call(deep, data, key=jax.random.key(0), norm=(2, 3), num_steps=2, **lam)
    with pytest.raises(ValueError, match=message):
        normalized_margin(deep, deep.init(jax.random.key(0), 3), data, (2, 3))
