"""A floor under every β's error: no coefficients get below it, and each step of its proof."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from ntkreg.data.dataset import Dataset, noisy_xor, noisy_xor_population
from ntkreg.networks.network import fully_connected
from ntkreg.theory import error_floor, kernel_span

NETWORK, DIM = fully_connected(2, 1), 10
KAPPA = functools.cache(lambda: np.asarray(kernel_span.kernel_of_products(NETWORK, DIM)))


@functools.cache
def drawn(seed, num_samples=20):
    """Samples whose noise differs."""
    x, y = (np.asarray(a) for a in noisy_xor(jax.random.key(seed), 2 * num_samples, DIM))
    first = np.sort(np.unique(x[:, 2:], axis=0, return_index=True)[1])[:num_samples]
    return Dataset(x[first], y[first])


@functools.cache
def population():
    return Dataset(*(np.asarray(a) for a in noisy_xor_population(DIM)))


def functions(samples):
    """y f at all inputs, a column for each sample: of shape (4, noises, n)."""
    x, y = population()
    found = y[:, None] * KAPPA()[np.round(x @ samples.x.T).astype(int) + DIM - 1]
    return found.reshape(4, -1, len(samples.y))


def attacks(samples, features):
    """Coefficients meant to have a small error: of all kinds."""
    n, rows = len(samples.y), features.reshape(-1, len(samples.y))
    rng = np.random.default_rng(0)
    yield from rng.standard_normal((200, n))
    yield from samples.y * rng.random((200, n))
    yield from np.eye(n)
    yield from -np.eye(n)
    gram = KAPPA()[np.round(samples.x @ samples.x.T).astype(int) + DIM - 1]
    yield np.linalg.solve(gram, samples.y)
    yield np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)[0]
    # The error itself, smoothed more and more sharply, in coordinates in which f has unit size.
    inverse = np.linalg.inv(np.linalg.cholesky(rows.T @ rows / len(rows))).T
    whitened = rows @ inverse
    for start in (*rng.standard_normal((4, n)), whitened.mean(0)):
        gamma = start / np.linalg.norm(start)
        for sharp in (1.0, 4.0, 16.0):
            gamma = scipy.optimize.minimize(_smoothed, gamma, (whitened, sharp), jac=True).x
            gamma /= np.linalg.norm(gamma)
            yield inverse @ gamma


def _smoothed(gamma, rows, sharp):
    size = np.linalg.norm(gamma)
    outputs = rows @ gamma / size
    wrong = scipy.special.expit(-sharp * outputs)
    slope = -sharp * (wrong * (1 - wrong)) @ rows / len(rows)
    return wrong.mean(), (slope - (slope @ gamma) * gamma / size**2) / size


@pytest.mark.parametrize("seed", range(3))
def test_no_coefficients_get_below_it(seed):
    """Errors over all 4 · 2⁸ inputs, and each inequality that leads to the floor."""
    samples = drawn(seed)
    found, features = error_floor.error_floor(NETWORK, samples), functions(samples)
    assert 0.005 < found.error < 1 / 64.8
    of_p = error_floor.energies(KAPPA(), samples.x, samples.y)[0]
    signs = population().x[: features.shape[1], 2:]
    smallest = 1.0
    for beta in attacks(samples, features):
        outputs = features @ beta
        h, g = outputs.mean(0), (outputs * [[1], [1], [-1], [-1]]).mean(0)
        error, split = np.mean(outputs <= 0), np.mean(np.abs(g) >= np.abs(h))
        assert error >= split / 4
        p = _to_second_degree(g, signs)
        energy = np.mean(p**2)
        assert energy == pytest.approx(beta @ of_p @ beta, rel=1e-6)
        assert np.mean((np.abs(h) + np.abs(g - p)) ** 2) <= found.ratio * energy
        assert split >= (1 - found.ratio) ** 2 * energy**2 / np.mean(p**4)
        assert np.mean(p**4) <= error_floor.KURTOSIS * energy**2
        smallest = min(smallest, error)
    assert found.error < smallest < 0.48  # the attack has found something


def _to_second_degree(values, signs):
    """The projection of a function of signs on the products of at most two of them."""
    pairs = [signs[:, i] * signs[:, j] for i, j in itertools.combinations(range(DIM - 2), 2)]
    basis = np.stack([np.ones(len(signs)), *signs.T, *pairs])
    return (basis @ values / len(signs)) @ basis


def test_energies_are_those_of_the_whole_population():
    samples = drawn(3)
    features = functions(samples)
    h, g = features.mean(0), np.einsum("snk,s->nk", features, [1, 1, -1, -1]) / 4
    signs = population().x[: len(h), 2:]
    p = np.stack([_to_second_degree(column, signs) for column in g.T], 1)
    found = error_floor.energies(KAPPA(), samples.x, samples.y)
    for matrix, parts in zip(found, (p, h, g - p), strict=True):
        np.testing.assert_allclose(matrix, parts.T @ parts / len(h), atol=1e-13 * KAPPA()[-1] ** 2)


def test_the_ratio_is_nearly_the_smallest_of_its_kind():
    samples = drawn(4)
    of_p, of_h, of_r = error_floor.energies(KAPPA(), samples.x, samples.y)
    largest = lambda matrix: scipy.linalg.eigh(matrix, of_p, eigvals_only=True)[-1]
    among = [largest((1 + s) * of_h + (1 + 1 / s) * of_r) for s in np.geomspace(0.01, 10, 200)]
    found = error_floor.error_floor(NETWORK, samples).ratio
    assert min(among) * (1 - 1e-9) <= found <= 1.1 * min(among)


@pytest.mark.parametrize("num", [4, 9, 200])
def test_fourth_moments_of_the_square_of_a_sum(num):
    """S² + c, the worst there is: it comes close to the constant, and stays below."""
    sums = num - 2.0 * np.arange(num + 1)
    weights = scipy.stats.binom.pmf(np.arange(num + 1), num, 0.5)
    p = (sums**2 - num) / np.sqrt(2 * num * (num - 1)) + np.linspace(-1, 1, 201)[:, None]
    kurtosis = (p**4 @ weights / (p**2 @ weights) ** 2).max()
    assert kurtosis < error_floor.KURTOSIS
    assert kurtosis > 15.5 or num < 200


def test_the_constant_is_that_of_its_proof():
    """c⁴ + 6c² + 4c·√8 + 15 ≤ 16.2 (1 + c²)² for all c, and not with 16.1."""
    c = np.linspace(-10, 10, 200_001)
    over = ((c**4 + 6 * c**2 + 4 * np.sqrt(8) * c + 15) / (1 + c**2) ** 2).max()
    assert 16.1 < over < error_floor.KURTOSIS


def test_more_samples_than_quadratic_features_have_no_floor():
    """1 + 8 + 28 polynomials of degree 2 in the 8 signs: with 40 functions p can vanish."""
    assert error_floor.error_floor(NETWORK, drawn(0, 40)) == (0.0, np.inf)


def test_other_signs_of_the_signal_change_nothing_and_another_label_all():
    samples = drawn(0)
    opposite, other = samples.x[:1] * 1, samples.x[:1] * 1
    opposite[:, :2] *= -1
    other[:, :2] = other[:, 1::-1]
    more = lambda x, y: Dataset(np.concatenate([samples.x, x]), np.append(samples.y, y))
    found = [
        error_floor.error_floor(NETWORK, s)
        for s in (samples, more(opposite, samples.y[0]), more(other, -samples.y[0]))
    ]
    assert found[1].error == pytest.approx(found[0].error, rel=1e-6)
    assert found[2].error == 0


def test_only_what_is_proved_counts_as_positive():
    q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((30, 30)))
    with_smallest = lambda value: (q * np.append(np.ones(29), value)) @ q.T
    found = [error_floor.is_positive(with_smallest(v)) for v in (1e-10, 1e-14, 0.0, -1e-14)]
    assert found == [True, False, False, False]


def test_what_it_does_not_hold_for_is_refused():
    with pytest.raises(ValueError, match="samples must be of D"):
        error_floor.error_floor(NETWORK, Dataset(jnp.ones((3, 4)), jnp.ones(3)))
