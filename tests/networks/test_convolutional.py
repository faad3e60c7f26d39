"""Convolutional networks: the forward pass, the exact kernel, and Flax's own convolution."""

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import kernels
from ntkreg.networks.convolution import convolutional, patches
from ntkreg.networks.network import check_homogeneous

SHAPE = (3, 4, 2)
X = jax.random.normal(jax.random.key(0), (4, 24))


def test_the_forward_pass_is_flax_s_convolution():
    standard, ntk = (convolutional(SHAPE, 5, 3, 2, scaling) for scaling in ("standard", "ntk"))
    params = standard.init(jax.random.key(1), 24)
    first, second, last = (params[f"Dense_{layer}"]["kernel"] for layer in range(3))
    h = X.reshape(-1, *SHAPE)
    for weights in (first, second):
        conv = flax.linen.Conv(5, (3, 3), use_bias=False)
        h = jax.nn.relu(conv.apply({"params": {"kernel": weights.reshape(3, 3, -1, 5)}}, h))
    expected = h.reshape(4, -1) @ last
    np.testing.assert_allclose(standard.apply(params, X), expected, rtol=1e-5, atol=1e-6)
    scaled = (18 * 45 * 60) ** -0.5 * expected
    np.testing.assert_allclose(ntk.apply(params, X), scaled, rtol=1e-5, atol=1e-8)
    check_homogeneous(standard, params, X)
    assert standard.order == ntk.order == 3


def test_initial_standard_deviations():
    """Of 900 entries at least: the tolerance is four standard errors. In `ntk` they are 1."""
    params = convolutional((2, 2, 1), 100, 3, 10).init(jax.random.key(2), 4)
    found = [np.std(params[f"Dense_{layer}"]["kernel"]) for layer in range(3)]
    stds = (2 / 9) ** 0.5, (2 / 900) ** 0.5, 400**-0.5
    np.testing.assert_allclose(found, stds, rtol=4 / 1800**0.5)


def recursion(x1, x2):
    """The NTK of two images (h, w, c), pixel by pixel, from the arc-cosine functions."""

    def mean_of_patch(pixels):
        _, height, width = pixels.shape
        padded = np.pad(pixels, ((0, 0), (1, 1), (1, 1)))
        shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
        return sum(shifts) / 9

    # Covariances at each pixel: of both images, of each with itself.
    sigma = np.stack([(a * b).mean(-1) for a, b in ((x1, x2), (x1, x1), (x2, x2))])
    tangent = 0.0
    for _ in range(2):
        sigma = mean_of_patch(sigma)
        tangent = sigma[0] + (mean_of_patch(tangent[None])[0] if np.ndim(tangent) else 0.0)
        norm = np.sqrt(sigma[1] * sigma[2])
        angle = np.arccos(np.clip(sigma[0] / norm, -1, 1))
        tangent = tangent * (np.pi - angle) / (2 * np.pi)
        cross = norm * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        sigma = np.stack([cross, sigma[1] / 2, sigma[2] / 2])
    return (sigma[0] + tangent).mean()


def test_the_kernel_is_the_recursion_over_pixels():
    found = kernels.ntk(convolutional(SHAPE, 1), X[:3], X, block_size=2)
    images = np.asarray(X).reshape(-1, *SHAPE)
    expected = [[recursion(a, b) for b in images] for a in images[:3]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)  # √ε between a point and itself


def test_the_empirical_kernel_of_a_wide_network_is_near_the_exact_one():
    network = convolutional((2, 2, 1), 100, scaling="ntk")
    x = X[:, :4]
    params = network.init(jax.random.key(3), 4)
    slopes = jax.jit(jax.jacrev(lambda p: network.apply(p, x)))(params)
    found = sum(jnp.tensordot(s, s, ((1, 2), (1, 2))) for s in jax.tree.leaves(slopes))
    exact = kernels.ntk(network, x)
    assert jnp.abs(found - exact).max() < 3 / 100**0.5 * exact.max()


def test_patches_hold_the_pixels_around_each_row_by_row():
    found = np.asarray(patches(jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)))
    assert found[0, 0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 4, 5]
    assert found[0, 1, 2].tolist() == [2, 3, 0, 5, 6, 0, 0, 0, 0]


def test_equal_arguments_give_the_same_object():
    assert convolutional(SHAPE, 1) is convolutional(list(SHAPE), 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(image_shape=(8, 8), channels=2), r"image_shape must be .*got \(8, 8\)"),
        (dict(image_shape=(8, 0, 1), channels=2), r"image_shape must be .*got \(8, 0, 1\)"),
        (dict(image_shape=SHAPE, channels=0), "channels must be at least 1, got 0"),
        (dict(image_shape=SHAPE, channels=2, depth=1), "depth must be at least 2, got 1"),
        (dict(image_shape=SHAPE, channels=2, num_outputs=0), "num_outputs must be at least 1"),
        (dict(image_shape=SHAPE, channels=2, scaling="mup"), "scaling must be one of.*'mup'"),
    ],
)
def test_a_bad_argument_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        convolutional(**arguments)
