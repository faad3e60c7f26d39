"""The threshold of local optimality: projections, the saddle point, and its number."""

import numpy as np
import pytest
import scipy

from ntkreg.theory import planted_threshold
from ntkreg.theory.planted_threshold import EDGES, local_threshold, minimum_threshold

SADDLE = np.array([-1.591, 0.4725, -0.3105, -0.041])


@pytest.fixture(scope="module")
def normals():
    return np.random.default_rng(0).normal(size=(400, 4))


def test_the_inner_maximum_is_a_projection_onto_a_cone(normals):
    """Of Λ^½g onto Λ^−½Q^½K, whose squared length non-negative least squares knows."""
    weights, roots = planted_threshold._unpacked(SADDLE)
    values, w, inside = planted_threshold._inner(normals, weights, roots)
    half = planted_threshold._matrix(weights**0.5)
    edges = planted_threshold._matrix(weights**-0.5) @ planted_threshold._matrix(roots) @ EDGES
    for g, value in zip(normals @ half, values, strict=True):
        _, left = scipy.optimize.nnls(edges, g)
        assert value == pytest.approx(g @ g - left**2, abs=1e-9)
    # κ lies in K: 0 ≤ β, β′ ≤ α, and no weight on the axis beside its own.
    alpha, beside, *betas = inside.T
    assert (np.abs(beside) < 1e-12).all()
    assert all(((-beta >= -1e-12) & (-beta <= alpha + 1e-12)).all() for beta in betas)
    np.testing.assert_allclose(w, inside @ planted_threshold._matrix(roots), atol=1e-12)


def test_slopes_are_those_of_the_mean(normals):
    """With respect to logarithms, by central differences, up to the known factors."""

    def mean(x):
        weights = np.exp([x[0], x[1], 0.0])
        roots = np.exp([x[2], x[3], 0.0])
        return planted_threshold._inner(normals, weights, roots)[0].mean()

    weights, roots = planted_threshold._unpacked(SADDLE)
    slopes = planted_threshold._slopes(normals, SADDLE)
    total = np.exp([SADDLE[0], SADDLE[1], 0.0]) @ planted_threshold.DOUBLE
    for k in (0, 1):
        step = 1e-5 * np.eye(4)[2 + k]
        numeric = (mean(SADDLE + step) - mean(SADDLE - step)) / 2e-5
        unscaled = planted_threshold._inner(normals, weights * total, roots)
        assert numeric == pytest.approx(
            2 * roots[k] * np.mean(
                (normals @ planted_threshold.AXES
                 - unscaled[1] @ planted_threshold.AXES / (weights * total)[[0, 1, 2, 2]])[:, k]
                * (unscaled[2] @ planted_threshold.AXES)[:, k]
            ),
            rel=1e-5,
        )  # fmt: skip
    assert slopes.shape == (4,)


def test_the_threshold_is_the_saddle_point_s():
    found = local_threshold()
    assert found.ratio == pytest.approx(3.337, abs=0.006)
    assert found.spread == pytest.approx(1.52, abs=0.02)
    assert found.size(102) == pytest.approx((100 + found.extra) * found.ratio)
    shares = found.share(np.array([250, found.size(102), 420]), 102)
    assert shares[0] < 1e-6 and shares[1] == pytest.approx(0.5) and shares[2] > 1 - 1e-6


def test_equations_of_signs_cost_what_those_of_noise_do(normals):
    """An equation for each neuron is one dimension, in axes of which each costs its part of Λ."""
    g = planted_threshold._normal_points()
    found = scipy.optimize.root(lambda x: planted_threshold._slopes(g, x), SADDLE, tol=1e-7)
    weights, roots = planted_threshold._unpacked(found.x)
    _, w, _ = planted_threshold._inner(g, weights, roots)
    slopes, squares = (np.mean(a @ planted_threshold.AXES * (w @ planted_threshold.AXES), axis=0)
                       for a in (g, w))  # fmt: skip
    groups = [[0], [1], [2, 3]]  # the last two mix as the samples' kinds permute K's coordinates
    costs = [planted_threshold._signed(np.array([[slopes[some].mean()]]),
                                       np.array([[squares[some].mean()]]))
             for some in groups]  # fmt: skip
    assert costs == pytest.approx(weights, rel=1e-5)
    assert planted_threshold.DOUBLE @ costs == pytest.approx(1, abs=1e-5)
    assert 1.5 < local_threshold().extra < 7 / 4  # a quarter of a dimension for each of the seven


@pytest.mark.parametrize(("random", "expected"), [(True, 1.0), (False, 1 - 1 / np.pi)])
def test_an_equation_of_signs_lowers_the_dimension_of_a_cone(random, expected):
    """Of the orthant: a dimension, as noise would; signs in pairs cancel the mean, 1/√(2π)."""
    rng, lost = np.random.default_rng(0), []
    for _ in range(1000):
        normal = rng.choice([1.0, -1.0], 200) if random else np.tile([1.0, -1.0], 100)
        g = rng.normal(size=200)
        squares = lambda t, g=g, normal=normal: np.sum(np.maximum(g - t * normal, 0) ** 2)
        lost.append(squares(0.0) - scipy.optimize.minimize_scalar(squares).fun)
    assert planted_threshold._signed(np.array([[0.5]]), np.array([[0.5]])) == 1.0
    assert np.mean(lost) == pytest.approx(expected, rel=0.15)


def test_one_vector_alone_would_need_fewer_samples():
    """Each of the four neurons by itself: n over m from the cone's statistical dimension."""
    g = planted_threshold._normal_points()[:4000]
    equal, same = np.full(3, 0.25), np.ones(3)
    dimension = 4 * planted_threshold._inner(g, equal, same)[0].mean()
    assert dimension == pytest.approx(1.03, abs=0.03)
    assert 4 / dimension > local_threshold().ratio  # Λ of the saddle asks for less than equal ones


def test_the_threshold_at_finite_lam_is_a_statistical_dimension():
    """Of the cone of t·(1, …, 1, β), 0 ≤ β ≤ 1: random vectors are projected onto it."""
    actives, (rng, sizes) = 100, (np.random.default_rng(0), np.linspace(0, 1, 401)[:, None])
    squares = []
    for _ in range(400):
        kinks, rest = rng.normal(size=2 * actives), rng.normal(size=actives)
        off = kinks - np.clip(kinks, 0, sizes)
        left = np.sum(off**2, axis=1) + np.sum((rest - sizes) ** 2, axis=1)
        squares.append(kinks @ kinks + rest @ rest - left.min())
    found, count = minimum_threshold(), 4 * actives
    assert np.mean(squares) == pytest.approx(count / found.ratio, rel=0.05)
    spread = (np.var(squares) - 2 * np.mean(squares)) ** 0.5 * found.ratio
    assert spread == pytest.approx(found.spread * (count / found.ratio) ** 0.5, rel=0.15)
