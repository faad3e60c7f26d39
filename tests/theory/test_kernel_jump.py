"""The spectrum of kernels on D, and the best R² that it predicts."""

import jax
import numpy as np
import pytest

from ntkreg import kernels
from ntkreg.data.dataset import noisy_xor, noisy_xor_population
from ntkreg.networks.network import Network, fully_connected
from ntkreg.theory import kernel_jump, kernel_span

NETWORK = fully_connected(2, 1)
SHARES = np.array([0.25, 0.5, 0.75])


def kappa(dim, depth=2):
    return np.asarray(kernel_span.kernel_of_products(fully_connected(depth, 1), dim))


@pytest.mark.parametrize(("depth", "dim"), [(2, 5), (3, 6)])
def test_the_spectrum_is_that_of_the_gram_matrix_of_all_inputs(depth, dim):
    network, everything = fully_connected(depth, 1), noisy_xor_population(dim)
    gram = np.asarray(kernels.ntk(network, everything.x)) / len(everything.y)
    found = kernel_jump.spectrum(network, dim)
    counts = found.multiplicities.ravel().astype(int)
    assert counts.sum() == len(gram)
    every = np.sort(np.repeat(found.eigenvalues.ravel(), counts))
    np.testing.assert_allclose(np.linalg.eigvalsh(gram), every, atol=1e-15)
    y = np.asarray(everything.y)
    np.testing.assert_allclose(gram @ y, found.eigenvalues[0, 2] * y, atol=1e-15)
    signs = everything.x[:, 2] * everything.x[:, 3]
    np.testing.assert_allclose(gram @ signs, found.eigenvalues[2, 0] * signs, atol=1e-15)


def test_eigenvalues_sum_to_the_kernel_at_equal_points():
    values = kappa(10, depth=3)
    found = kernel_jump.spectrum_of(values)
    assert np.sum(found.multiplicities * found.eigenvalues) == pytest.approx(values[-1], rel=1e-14)


def test_the_rest_is_that_of_eigenfunctions_with_more_signs(monkeypatch):
    values = kappa(14, depth=3)
    short = kernel_jump.spectrum_of(values)
    monkeypatch.setattr(kernel_jump, "MOST_SIGNS", 12)
    whole = kernel_jump.spectrum_of(values)
    left = (whole.multiplicities * whole.eigenvalues**2)[len(short.eigenvalues) :]
    assert whole.rest < 1e-15 < short.rest == pytest.approx(left.sum(), rel=1e-3)
    n = np.array([20, 60, 105, 200])
    np.testing.assert_allclose(short.r_squared(n), whole.r_squared(n), rtol=1e-6)


def test_many_dimensions_have_the_limit_s_jump():
    """Eigenfunctions but for products of two signs number O(d), of O(d²)."""
    dim = 300
    found, features = kernel_jump.spectrum_of(kappa(dim)), dim * (dim + 1) / 2
    np.testing.assert_allclose(
        found.size(SHARES) / features, [16 / 19, 16 / 17, 48 / 49], atol=1 / dim
    )
    share = np.array([0.2, 0.57, 0.8, 0.9])
    limit = 1 / (1 + 16 * (1 / share - 1))
    np.testing.assert_allclose(found.r_squared(share * features), limit, atol=3 / dim)


def test_r_squared_is_the_inverse_of_size():
    found = kernel_jump.spectrum_of(kappa(20))
    shares = np.array([[1e-4, 0.1, 0.5], [0.9, 0.999, 1 - 1e-9]])
    np.testing.assert_allclose(found.r_squared(found.size(shares)), shares, rtol=1e-7)
    assert found.r_squared(197) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("depth", "activation", "spread"),
    [(2, "relu", 0.10), (4, "relu", 0.03), (2, "quadratic", 0.10)],
)
def test_half_of_y_is_explained_where_it_is_predicted(depth, activation, spread):
    """`spread` bounds the standard deviation of R² over samples, measured over 20; here are 4.

    At d = 20 they have 197, 298 and 174 samples there.
    """
    network = fully_connected(depth, 1, activation=activation)
    n = round(float(kernel_jump.spectrum(network, 20).size(0.5)))
    found = [
        float(kernel_span.best_signal_to_noise(network, noisy_xor(key, n, 20)).r_squared)
        for key in jax.random.split(jax.random.key(5), 4)
    ]
    assert np.mean(found) == pytest.approx(0.5, abs=3 * spread / 4**0.5)


def test_leaky_relu_jumps_where_relu_does():
    """Its kernel at two layers has another linear part, and the rest times a constant."""
    leaky = kernel_jump.spectrum(fully_connected(2, 1, activation="leaky_relu"), 20)
    relu = kernel_jump.spectrum(NETWORK, 20)
    ratio = leaky.eigenvalues / relu.eigenvalues
    np.testing.assert_allclose(ratio[0, [0, 2]], ratio[2, 0], rtol=1e-9)
    np.testing.assert_allclose(leaky.size(SHARES), relu.size(SHARES), rtol=1e-5)


def test_one_sample_has_less_than_is_predicted():
    """E[y K]²/E K² = λ_y²/Σ λ²: where n is small the projection is not near its mean field."""
    found = kernel_jump.spectrum_of(kappa(20))
    exact = kernel_span.best_signal_to_noise(NETWORK, noisy_xor(jax.random.key(0), 1, 20)).r_squared
    squares = np.sum(found.multiplicities * found.eigenvalues**2) + found.rest
    assert float(exact) == pytest.approx(found.eigenvalues[0, 2] ** 2 / squares)
    assert exact < found.r_squared(1) < 2 * exact


def test_all_is_explained_once_there_are_as_many_samples_as_eigenfunctions():
    """21 of 32 at d = 5 are not 0; at d = 12 the kernel of z² has 1, 45 + 20 products and y."""
    small = kernel_jump.spectrum_of(kappa(5))
    assert small.r_squared(20) < 0.999 and small.r_squared([21.01, 1e9]) == pytest.approx(1)
    quadratic = kernel_jump.spectrum(fully_connected(2, 1, activation="quadratic"), 12)
    assert quadratic.r_squared(66) < 0.95 and quadratic.r_squared(67.01) == pytest.approx(1)


SHIFTED = Network(
    None, None, lambda x1, x2=None: jax.tree.map(lambda k: k + x1[:, :1], NETWORK.kernel(x1, x2)), 2
)


@pytest.mark.parametrize(
    ("network", "dim", "said"),
    [
        (NETWORK, 2, "dim must be at least 3, got 2"),
        (NETWORK._replace(kernel=None), 4, "known infinite-width kernel"),
        (SHIFTED, 4, "network must have a kernel of ⟨x, x′⟩ alone on D"),
        (fully_connected(2, 1, activation="identity"), 6, "must have y in its kernel's span"),
    ],
)
def test_what_it_does_not_hold_for_is_refused(network, dim, said):
    with pytest.raises(ValueError, match=said):
        kernel_jump.spectrum(network, dim)


@pytest.mark.parametrize("share", [0.0, 1.0, [0.5, np.nan]])
def test_r_squared_lies_between_0_and_1(share):
    with pytest.raises(ValueError, match="r_squared must be between 0 and 1"):
        kernel_jump.spectrum_of(kappa(5)).size(share)


@pytest.mark.parametrize("num_samples", [0, [10, np.nan]])
def test_there_is_a_sample(num_samples):
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        kernel_jump.spectrum_of(kappa(5)).r_squared(num_samples)
