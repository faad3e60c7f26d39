"""The moments of kernel functions on D, and what the best coefficients can do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import kernels
from ntkreg.data.dataset import Dataset, noisy_xor, noisy_xor_population
from ntkreg.networks.network import Network, fully_connected
from ntkreg.theory import kernel_span

NETWORK = fully_connected(2, 1)


def distinct(seed, num_samples, dim):
    x, y = noisy_xor(jax.random.key(seed), num_samples, dim)
    _, first = np.unique(np.asarray(x), axis=0, return_index=True)
    return Dataset(x[first], y[first])


@pytest.mark.parametrize("depth", [2, 4])
def test_moments_are_those_of_the_whole_population(depth):
    """All 4 · 2⁶ inputs at d = 8, and kernels by the network's own formula."""
    network, samples, all_points = (
        fully_connected(depth, 1),
        distinct(0, 40, 8),
        noisy_xor_population(8),
    )
    found = np.asarray(kernels.ntk(network, samples.x, all_points.x))
    kappa = kernel_span.kernel_of_products(network, 8)
    first, second = kernel_span.moments(kappa, np.asarray(samples.x), np.asarray(samples.y))
    np.testing.assert_allclose(first, found @ np.asarray(all_points.y) / found.shape[1], atol=1e-15)
    np.testing.assert_allclose(second, found @ found.T / found.shape[1], rtol=1e-13)


def test_no_coefficients_do_better_than_the_best():
    """Against least squares over the population, which is the same maximum."""
    samples, everything = distinct(1, 60, 8), noisy_xor_population(8)
    best = kernel_span.best_signal_to_noise(NETWORK, samples)
    features, y = (
        np.asarray(kernels.ntk(NETWORK, everything.x, samples.x)),
        np.asarray(everything.y),
    )
    fitted = features @ np.linalg.lstsq(features, y, rcond=None)[0]
    assert float(best.r_squared) == pytest.approx(1 - np.mean((y - fitted) ** 2), rel=1e-8)
    outputs = kernel_span.predictions(NETWORK, samples, best.coefficients, everything.x)
    np.testing.assert_allclose(outputs, fitted, atol=1e-6)
    outputs = np.asarray(outputs)
    signal = np.mean(y * outputs)
    assert signal == pytest.approx(np.mean(outputs**2), rel=1e-8)
    assert float(best.ratio) == pytest.approx(signal**2 / np.var(y * outputs), rel=1e-7)
    rng = np.random.default_rng(0)
    for _ in range(20):
        f = features @ (best.coefficients * (1 + 0.3 * rng.standard_normal(len(best.coefficients))))
        assert np.mean(y * f) ** 2 / np.mean(f**2) < best.r_squared


def test_it_depends_on_n_over_d_squared_and_jumps_at_the_number_of_quadratic_features():
    """0.3 d² samples explain some 8 % of y at d = 10 and 20; a few more than d(d + 1)/2 most."""
    of = lambda n, d: kernel_span.best_signal_to_noise(NETWORK, noisy_xor(jax.random.key(2), n, d))
    below = [of(round(0.3 * dim**2), dim) for dim in (10, 20)]
    assert all(0.05 < found.r_squared < 0.13 and found.residual < 1e-9 for found in below)
    assert of(round(1.2 * 20 * 21 / 2), 20).r_squared > 0.85


def test_equal_samples_count_once():
    samples = distinct(3, 20, 6)
    twice = Dataset(*(jnp.concatenate([a, a]) for a in samples))
    once, found = (kernel_span.best_signal_to_noise(NETWORK, s) for s in (samples, twice))
    assert float(found.r_squared) == pytest.approx(float(once.r_squared), rel=1e-12)
    assert (found.coefficients != 0).sum() == len(samples.y)


def test_a_linear_kernel_explains_nothing():
    """It has rank d: M has no inverse. On D E[y xᵢ] = 0."""
    linear = fully_connected(2, 1, activation="identity")
    found = kernel_span.best_signal_to_noise(linear, distinct(4, 30, 6))
    assert float(found.r_squared) == pytest.approx(0, abs=1e-20)


SHIFTED = Network(
    None, None, lambda x1, x2=None: jax.tree.map(lambda k: k + x1[:, :1], NETWORK.kernel(x1, x2)), 2
)


@pytest.mark.parametrize(
    ("network", "samples", "said"),
    [
        (NETWORK, Dataset(jnp.ones((3, 4)), jnp.ones(3)), r"samples must be of D.*got x\[0\]"),
        (NETWORK._replace(kernel=None), distinct(0, 5, 4), "known infinite-width kernel"),
        (SHIFTED, distinct(0, 20, 4), "network must have a kernel of ⟨x, x′⟩ alone on D"),
    ],
)
def test_what_it_does_not_hold_for_is_refused(network, samples, said):
    with pytest.raises(ValueError, match=said):
        kernel_span.best_signal_to_noise(network, samples)
