"""Homogeneity, Euler's identity, initial scales, and parameters on disk."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkreg.networks.network import (
    ACTIVATIONS,
    SCALINGS,
    Network,
    check_homogeneous,
    fully_connected,
    homogeneity_error,
    load_params,
    measured_order,
    save_params,
)

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 4))


def drawn(seed, *arguments):
    network = fully_connected(*arguments)
    return network, network.init(jax.random.key(seed), X.shape[1])


ANY_NETWORK = st.tuples(
    st.integers(1, 5),
    st.just(6),
    st.sampled_from([1, 3]),
    st.sampled_from(list(ACTIVATIONS)),
    st.sampled_from(SCALINGS),
)


@settings(max_examples=12)
@given(st.integers(0, 100), ANY_NETWORK, st.floats(0.5, 2.0))
def test_every_network_is_homogeneous(seed, arguments, scale):
    network, params = drawn(seed, *arguments)
    assert float(jnp.max(jnp.abs(network.apply(params, X)))) > 0
    scaled = network.apply(optax.tree.scale(scale, params), X)
    expected = scale**network.order * network.apply(params, X)
    np.testing.assert_allclose(scaled, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
    assert homogeneity_error(network, params, X, scale) < 1e-9
    check_homogeneous(network, params, X)


@settings(max_examples=12)
@given(st.integers(0, 100), ANY_NETWORK)
def test_every_network_obeys_euler(seed, arguments):
    """⟨∇f(Θ; x), Θ⟩ = order · f(Θ; x) at each sample and output."""
    network, params = drawn(seed, *arguments)
    outputs, slope = jax.jvp(lambda p: network.apply(p, X), (params,), (params,))
    expected = network.order * outputs
    np.testing.assert_allclose(slope, expected, rtol=1e-8, atol=1e-9 * np.abs(expected).max())
    np.testing.assert_allclose(measured_order(network, params, X), network.order, rtol=1e-9)


@pytest.mark.parametrize("depth", range(1, 6))
def test_order_is_the_depth_or_for_quadratic_activations_doubles(depth):
    orders = {name: fully_connected(depth, 3, activation=name).order for name in ACTIVATIONS}
    assert orders.pop("quadratic") == 2**depth - 1
    assert set(orders.values()) == {depth}


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_forward_pass_is_the_formula(scaling, activation):
    """The network of the docstring once more, in numpy, with the multipliers of each scaling."""
    network, params = drawn(3, 3, 7, 1, activation, scaling)
    functions = {
        "relu": lambda z: np.maximum(z, 0),
        "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
        "identity": lambda z: z,
        "quadratic": lambda z: z**2,
    }
    phi = functions[activation]
    first, second, last = {
        "standard": (1, 1, 1),
        "ntk": (1 / 2, 7**-0.5, 7**-0.5),
        "mean_field": (1, 1, 1 / 7),
    }[scaling]
    w1, w2, w3 = map(np.asarray, params)
    expected = last * (phi(second * (phi(first * (np.asarray(X) @ w1)) @ w2)) @ w3)[:, 0]
    np.testing.assert_allclose(network.apply(params, X), expected, rtol=1e-12)


@pytest.mark.parametrize("depth", [1, 3])
def test_shapes(depth):
    one, params = drawn(0, depth, 6, 1)
    several, wide = drawn(0, depth, 6, 3)
    assert one.apply(params, X).shape == (5,)
    assert several.apply(wide, X).shape == (5, 3)
    shapes = {1: [(4, 3)], 3: [(4, 6), (6, 6), (6, 3)]}
    assert [w.shape for w in wide] == shapes[depth]


def test_equal_arguments_give_the_same_object():
    assert fully_connected(2, 8) is fully_connected(2, 8)
    assert fully_connected(2, 8) is not fully_connected(2, 9)


@pytest.mark.parametrize(
    ("activation", "scaling", "stds"),
    [
        ("relu", "standard", [(2 / 30) ** 0.5, (2 / 300) ** 0.5, (1 / 300) ** 0.5]),
        ("leaky_relu", "standard", [(1.9998 / 30) ** 0.5, (1.9998 / 300) ** 0.5, 300**-0.5]),
        ("identity", "standard", [30**-0.5, 300**-0.5, 300**-0.5]),
        ("relu", "ntk", [1, 1, 1]),
        ("relu", "mean_field", [(2 / 30) ** 0.5, (2 / 300) ** 0.5, 1]),
    ],
)
def test_initial_standard_deviations(activation, scaling, stds):
    """Measured over at least 9,000 entries, so that 4 % is more than five standard errors."""
    params = fully_connected(3, 300, 300, activation, scaling).init(KEY, 30)
    np.testing.assert_allclose([w.std() for w in params], stds, rtol=0.04)
    assert all(abs(w.mean()) < 5 * std / w.size**0.5 for w, std in zip(params, stds, strict=True))


def test_initial_parameters_are_a_function_of_the_key():
    network = fully_connected(2, 6)
    first, again, other = (network.init(jax.random.key(seed), 4) for seed in (0, 0, 1))
    assert all(map(np.array_equal, first, again))
    assert not any(map(np.array_equal, first, other))


def test_check_homogeneous_refuses_a_bias_on_the_output():
    apply = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"] + p["b"]
    params = {"w": jax.random.normal(KEY, (4, 3)), "v": jnp.ones(3), "b": jnp.ones(())}
    with pytest.raises(ValueError, match=r"not homogeneous of order 2.*biases"):
        check_homogeneous(Network(None, apply, None, 2), params, X)


def test_check_homogeneous_lets_a_bias_in_the_first_layer_through():
    """φ(Wᵀx + b) is of degree 1 in (W, b): the check is of the definition, not of the form."""
    apply = lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"]
    params = {"w": jax.random.normal(KEY, (4, 3)), "v": jnp.ones(3), "b": jnp.ones(3)}
    assert check_homogeneous(Network(None, apply, None, 2), params, X) is None


def test_check_homogeneous_names_the_measured_order():
    network, params = drawn(0, 3, 6)
    with pytest.raises(ValueError, match=r"order 2.*Euler's identity gives order 3"):
        check_homogeneous(network._replace(order=2), params, X)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_check_homogeneous_finds_a_constant_that_only_small_parameters_show(dtype):
    """√(z² + 1e-8) is |z| to a part in 10⁸ at z ≈ 1, and 1e-4 at the z ≈ 1e-6 of 2⁻¹⁰ Θ."""
    network = fully_connected(2, 6)
    soft = network._replace(apply=lambda p, x: jnp.sqrt(network.apply(p, x) ** 2 + 1e-8))
    params = optax.tree.cast(network.init(KEY, 4), dtype)
    assert max(homogeneity_error(soft, params, X.astype(dtype), c) for c in (0.5, 2.0)) < 1e-4
    with pytest.raises(ValueError, match=r"f\(0.0009765625Θ\) is off"):
        check_homogeneous(soft, params, X.astype(dtype))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-12, 1e10])
def test_check_homogeneous_keeps_within_floats(scale):
    """In float32, at outputs from 0 to 1e20 and those too small to be doubled."""
    network = fully_connected(2, 6)
    params = optax.tree.cast(optax.tree.scale(scale, network.init(KEY, 4)), jnp.float32)
    assert check_homogeneous(network, params, X.astype(jnp.float32)) is None


def test_check_homogeneous_refuses_outputs_that_are_not_finite():
    network, params = drawn(0, 2, 6)
    with pytest.raises(ValueError, match="not homogeneous"):
        check_homogeneous(network, optax.tree.scale(jnp.nan, params), X)


@pytest.mark.parametrize(
    "params",
    [
        (np.arange(6.0).reshape(2, 3), np.float32([[1.5], [2.5]])),
        {"block": {"a": np.ones(3), "b": [np.zeros((1, 2)), np.float64(7.0)]}, "c": np.eye(2)},
    ],
)
def test_saved_parameters_come_back_bit_for_bit(tmp_path, params):
    save_params(tmp_path / "p.npz", params)
    loaded = load_params(
        tmp_path / "p.npz", jax.eval_shape(lambda: jax.tree.map(jnp.asarray, params))
    )
    assert jax.tree.structure(loaded) == jax.tree.structure(params)
    for old, new in zip(jax.tree.leaves(params), jax.tree.leaves(loaded), strict=True):
        assert old.dtype == new.dtype and np.array_equal(old, new)


@pytest.mark.parametrize(
    ("dtype", "name"), [(jnp.bfloat16, "bfloat16"), (jnp.float8_e5m2, "float8"), (object, "object")]
)
def test_a_dtype_that_would_not_come_back_is_not_saved(tmp_path, dtype, name):
    params = {"a": np.ones(2, np.float16), "b": np.ones(2).astype(dtype)}
    with pytest.raises(ValueError, match=rf"npz files keep, got {name}.* at \['b'\]"):
        save_params(tmp_path / "p.npz", params)
    assert not (tmp_path / "p.npz").exists()
    save_params(tmp_path / "p.npz", {"a": params["a"]})
    assert load_params(tmp_path / "p.npz", {"a": params["a"]})["a"].dtype == jnp.float16


@pytest.mark.parametrize(
    "like",
    [
        {"a": np.ones((2, 3)), "b": np.ones(1)},
        {"a": np.ones((3, 2))},
        {"other": np.ones((2, 3))},
        (np.ones((2, 3)),),
    ],
)
def test_load_refuses_other_names_and_shapes(tmp_path, like):
    save_params(tmp_path / "p.npz", {"a": np.ones((2, 3))})
    with pytest.raises(ValueError, match="must hold arrays"):
        load_params(tmp_path / "p.npz", like)


def test_load_refuses_pickles(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, **{"['a']": np.array([{"code": 1}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        load_params(path, {"a": np.ones(1)})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"depth": 0, "width": 3}, "depth.*0"),
        ({"depth": 2, "width": -1}, "width.*-1"),
        ({"depth": 2, "width": 3, "num_outputs": 0}, "num_outputs.*0"),
        ({"depth": 2, "width": 3, "activation": "tanh"}, "activation.*relu.*'tanh'"),
        ({"depth": 2, "width": 3, "scaling": "mup"}, "scaling.*ntk.*'mup'"),
    ],
)
def test_fully_connected_names_the_bad_argument(arguments, said):
    with pytest.raises(ValueError, match=said):
        fully_connected(**arguments)
