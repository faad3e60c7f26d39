"""Infinite-width kernels against the arc-cosine recursion, and finite networks against both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.data.dataset import noisy_xor
from ntkreg.kernels.tangent import empirical_ntk, nngp, ntk
from ntkreg.networks.network import fully_connected

X1 = jax.random.normal(jax.random.key(0), (7, 4))
X2 = jax.random.normal(jax.random.key(1), (5, 4))


def arc_cosine(depth, x1, x2):
    """(NTK, NNGP) of `depth` layers with relu, by Cho and Saul's recursion, in numpy."""
    x1, x2 = np.asarray(x1), np.asarray(x2)
    dim = x1.shape[1]
    nngp = ntk = x1 @ x2.T / dim
    norms = np.sqrt(np.outer((x1**2).sum(1), (x2**2).sum(1))) / dim
    for _ in range(depth - 1):
        cosine = np.clip(nngp / norms, -1, 1)
        angle = np.arccos(cosine)
        slope = (np.pi - angle) / (2 * np.pi)
        nngp = norms * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
        ntk = nngp + ntk * slope
        norms = norms / 2  # K(x, x) halves at each relu
    return ntk, nngp


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_kernels_between_two_sets_follow_the_recursion(depth):
    network = fully_connected(depth, 1)
    expected_ntk, expected_nngp = arc_cosine(depth, X1, X2)
    np.testing.assert_allclose(ntk(network, X1, X2), expected_ntk, rtol=1e-10)
    np.testing.assert_allclose(nngp(network, X1, X2), expected_nngp, rtol=1e-10)


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_gram_matrices_follow_the_recursion_on_the_diagonal_too(depth):
    """The recursion in numpy knows the angle only to √ε there: its limits stand in for it."""
    network = fully_connected(depth, 1)
    diagonal = np.diag_indices(7)
    squared = (np.asarray(X1) ** 2).sum(1) / 4
    halved = squared / 2.0 ** (depth - 1)
    for kernel, expected, limit in zip(
        (ntk, nngp), arc_cosine(depth, X1, X1), (depth * halved, halved), strict=True
    ):
        gram = np.array(kernel(network, X1))
        np.testing.assert_allclose(gram[diagonal], limit, rtol=1e-15)
        gram[diagonal] = expected[diagonal] = 0
        np.testing.assert_allclose(gram, expected, rtol=1e-10)


def test_depth_two_is_the_closed_form_of_the_paper():
    """K(x, x′) = ‖x‖‖x′‖[sin θ + (π−θ) cos θ]/2π + ⟨x, x′⟩(π−θ)/2π, over the dimension."""
    x, y = np.asarray(X1), np.asarray(X2)
    norms = np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
    angle = np.arccos(x @ y.T / norms)
    closed = norms * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
    closed += x @ y.T * (np.pi - angle) / (2 * np.pi)
    np.testing.assert_allclose(ntk(fully_connected(2, 1), X1, X2), closed / 4, rtol=1e-10)


@pytest.mark.parametrize("activation", ["relu", "identity"])
def test_one_layer_is_the_linear_kernel(activation):
    expected = np.asarray(X1 @ X2.T) / 4
    network = fully_connected(1, 1, activation=activation)
    np.testing.assert_allclose(ntk(network, X1, X2), expected, rtol=1e-12)
    deep = fully_connected(3, 1, activation="identity")
    np.testing.assert_allclose(ntk(deep, X1, X2), 3 * expected, rtol=1e-12)


def test_quadratic_kernel_is_its_moments():
    """E(u²v²) = ab + 2c² and E(2u·2v) = 4c for Gaussians of variances a, b and covariance c."""
    a, b = (np.asarray((x**2).sum(1)) / 4 for x in (X1, X2))
    c = np.asarray(X1 @ X2.T) / 4
    network = fully_connected(2, 1, activation="quadratic")
    np.testing.assert_allclose(nngp(network, X1, X2), np.outer(a, b) + 2 * c**2, rtol=1e-10)
    np.testing.assert_allclose(ntk(network, X1, X2), np.outer(a, b) + 6 * c**2, rtol=1e-10)


def test_leaky_relu_kernel_is_a_mixture():
    """max(z, 0) + leak·min(z, 0): E φφ = (1 + leak²)E₊₊ + leak·E₊₋, by the angles θ and π − θ."""
    _, same = arc_cosine(2, X1, X2)
    _, opposite = arc_cosine(2, X1, -X2)
    network = fully_connected(2, 1, activation="leaky_relu")
    expected = (1 + 0.01**2) * same - 2 * 0.01 * opposite
    np.testing.assert_allclose(nngp(network, X1, X2), expected, rtol=1e-10)


@pytest.mark.parametrize("scaling", ["standard", "ntk", "mean_field"])
def test_the_kernel_depends_on_neither_width_nor_scaling(scaling):
    wide = fully_connected(3, 50, scaling=scaling)
    assert np.array_equal(ntk(wide, X1, X2), ntk(fully_connected(3, 1), X1, X2))


@pytest.mark.parametrize("size", [1, 3])
def test_blocks_change_nothing(size):
    network = fully_connected(3, 1)
    for kernel in (ntk, nngp):
        whole, blocked = kernel(network, X1, X2), kernel(network, X1, X2, block_size=size)
        np.testing.assert_allclose(blocked, whole, rtol=1e-12)
        whole, blocked = kernel(network, X1), kernel(network, X1, block_size=size)
        np.testing.assert_allclose(blocked, whole, rtol=1e-12)
        assert np.array_equal(blocked, blocked.T)


def test_a_bad_block_size_is_named():
    with pytest.raises(ValueError, match="block_size must be at least 1, got 0"):
        ntk(fully_connected(2, 1), X1, block_size=0)


@pytest.mark.parametrize("depth", [2, 4])
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100.0))
def test_gram_matrices_are_symmetric_and_positive_semidefinite(depth, seed, scale):
    """Eight samples, of which two repeat and one is the opposite of another."""
    x = scale * jax.random.normal(jax.random.key(seed), (6, 4))
    x = jnp.concatenate([x, x[:1], -x[1:2]])
    for kernel in (ntk, nngp):
        gram = np.asarray(kernel(fully_connected(depth, 1), x))
        assert np.array_equal(gram, gram.T)
        values = np.linalg.eigvalsh(gram)
        assert values[0] > -1e-15 * values[-1]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_kernels_follow_the_dtype_of_the_inputs(dtype):
    gram = ntk(fully_connected(2, 1), X1.astype(dtype), X2.astype(dtype))
    assert gram.dtype == dtype
    np.testing.assert_allclose(gram, arc_cosine(2, X1, X2)[0], rtol=1e-4)


def test_diagonal_is_constant_on_D():
    """‖x‖² = d − 1 on D, so K(x, x) = 2(d − 1)/2d at depth 2."""
    gram = ntk(fully_connected(2, 1), noisy_xor(jax.random.key(0), 30, 6).x)
    np.testing.assert_allclose(jnp.diagonal(gram), 5 / 6, rtol=1e-15)


def jacobian(network, params, x, outputs):
    """(samples, outputs, parameters)."""
    leaves = jax.jit(jax.jacobian(network.apply))(params, x)
    return np.concatenate([np.reshape(leaf, (len(x), outputs, -1)) for leaf in leaves], axis=2)


@pytest.mark.parametrize("outputs", [1, 3])
def test_empirical_ntk_is_the_product_of_gradients(outputs):
    """With three outputs the average over them."""
    network = fully_connected(3, 6, outputs)
    params = network.init(jax.random.key(2), 4)
    first, second = (jacobian(network, params, x, outputs) for x in (X1, X2))
    expected = np.einsum("iop,jop->ij", first, second) / outputs
    found = jax.jit(empirical_ntk, static_argnums=0)(network, params, X1, X2)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def mean_error(network, expected, num_seeds):
    """‖empirical − exact‖, root mean square over seeds."""

    def squared(key):
        params = network.init(key, X1.shape[1])
        return jnp.sum((empirical_ntk(network, params, X1, X2) - expected) ** 2)

    keys = jax.random.split(jax.random.key(5), num_seeds)
    return float(jnp.sqrt(jnp.mean(jax.lax.map(jax.jit(squared), keys))))


@pytest.mark.parametrize(
    ("depth", "sizes"),
    [
        (2, (5, 7, 9, 11)),
        pytest.param(3, (5, 7, 9), marks=pytest.mark.slow),
    ],
)
def test_empirical_ntk_tends_to_the_exact_like_one_over_the_root_of_width(depth, sizes):
    widths = [2**k for k in sizes]
    expected = ntk(fully_connected(depth, 1), X1, X2)
    errors = [
        mean_error(fully_connected(depth, width, scaling="ntk"), expected, 24) for width in widths
    ]
    slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
    assert abs(slope + 0.5) < 0.1


@pytest.mark.parametrize("activation", ["leaky_relu", "quadratic", "identity"])
def test_wide_networks_of_other_activations_are_near_their_kernels(activation):
    network = fully_connected(2, 4096, activation=activation, scaling="ntk")
    expected = ntk(network, X1, X2)
    error = mean_error(network, expected, 4) / float(jnp.linalg.norm(expected))
    assert 1e-4 < error < 0.1


@pytest.mark.parametrize("kernel", [ntk, nngp])
def test_what_has_no_kernel_is_refused(kernel):
    network = fully_connected(2, 3)._replace(kernel=None)
    with pytest.raises(ValueError, match=r"network\.kernel is None"):
        kernel(network, X1)


@pytest.mark.parametrize("kernel", [ntk, nngp])
@pytest.mark.parametrize("entries", [1, 2**24])
def test_other_dimensions_are_refused(kernel, entries):
    with pytest.raises(ValueError, match=r"dimension.*\(7, 4\) and \(5, 3\)"):
        kernel(fully_connected(2, 3), X1, X2[:, :3], entries)
