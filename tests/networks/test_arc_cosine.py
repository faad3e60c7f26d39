"""The kernels' recursion against 60-digit arithmetic near the ends of the angle's range, and
neural-tangents, which defines the kernels, elsewhere."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.test_util import check_grads

from ntkreg.kernels.tangent import nngp, ntk
from ntkreg.networks import arc_cosine
from ntkreg.networks.network import ACTIVATIONS, LEAK, fully_connected
from ntkreg.neural_tangents import stax

DEPTHS = range(2, 9)
SLOPES = {"relu": 0.0, "leaky_relu": LEAK, "identity": 1.0}
LAYERS = {
    "relu": stax.Relu,
    "leaky_relu": lambda: stax.LeakyRelu(LEAK),
    "identity": stax.Identity,
    "quadratic": lambda: stax.Monomial(2),
}


def nearly_collinear(num_pairs, dim, dtype, seed=0):
    """Pairs with 1 − |cos θ| from 1e-16 to 1e-2 of both signs; some are equal, opposite, twice."""
    rng = np.random.default_rng(seed)
    x, other = rng.normal(size=(2, num_pairs, dim))
    unit = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)
    x = unit(x)
    across = unit(other - (other * x).sum(1, keepdims=True) * x)
    angle = 2 * np.arcsin(np.sqrt(10 ** rng.uniform(-16, -2, (num_pairs, 1)) / 2))
    y = rng.choice([-1, 1], (num_pairs, 1)) * (np.cos(angle) * x + np.sin(angle) * across)
    # Sizes whose 128th power float32 holds, the variance of a layer with z² being 3q².
    x, y = (
        (v * np.sqrt(dim / 3) * 10 ** rng.uniform(-0.02, 0.02, (num_pairs, 1))).astype(dtype)
        for v in (x, y)
    )
    for multiple, kind in ((1, 0), (2, 1), (-1, 2), (-2, 3)):
        y[kind::20] = multiple * x[kind::20]
    return x, y


def reference(x, y, activation):
    """(NTK, NNGP) of depths 2 to 8, in 60 digits, from the numbers as they are."""
    x, y = ([mpmath.mpf(float(entry)) for entry in row] for row in (x, y))
    dot = lambda a, b: mpmath.fsum(p * q for p, q in zip(a, b, strict=True)) / len(x)
    a, b, cross = dot(x, x), dot(y, y), dot(x, y)
    tangent, found = cross, []
    for _ in DEPTHS:
        if activation == "quadratic":
            slope = 4 * cross
            a, b, cross = 3 * a**2, 3 * b**2, a * b + 2 * cross**2
        else:
            leak = mpmath.mpf(SLOPES[activation])
            cosine = max(-1, min(1, cross / mpmath.sqrt(a * b)))
            angle, opposite = mpmath.acos(cosine), mpmath.acos(-cosine)
            mean = lambda t, c: (mpmath.sin(t) + (mpmath.pi - t) * c) / (2 * mpmath.pi)
            gain = (1 + leak**2) / 2
            slope = (gain * opposite + leak * angle) / mpmath.pi
            cross = 2 * gain * mean(angle, cosine) - 2 * leak * mean(opposite, -cosine)
            cross *= mpmath.sqrt(a * b)
            a, b = gain * a, gain * b
        tangent = cross + tangent * slope
        found.append((tangent, cross))
    return found


def largest_errors(activation, dtype, num_pairs, dim, depths=DEPTHS):
    """In ε of the entry itself, of shape (depths, 2); where it is 0 any other value is infinite."""
    x, y = nearly_collinear(num_pairs, dim, dtype)
    errors = np.zeros((len(depths), 2))
    with mpmath.workdps(60):
        expected = [reference(*pair, activation) for pair in zip(x, y, strict=True)]
        for i, depth in enumerate(depths):
            kernel = fully_connected(depth, 1, activation=activation).kernel
            one = lambda pair, kernel=kernel: kernel(pair[0][None], pair[1][None])
            found = jax.jit(lambda x, y, one=one: jax.lax.map(one, (x, y)))(x, y)
            for j, values in enumerate(found):
                assert values.dtype == dtype
                for value, row in zip(np.asarray(values)[:, 0, 0], expected, strict=True):
                    error = relative_error(float(value), row[depth - 2][j], dtype)
                    errors[i, j] = max(errors[i, j], error)
    return errors


def relative_error(value, expected, dtype):
    if abs(expected) < mpmath.mpf(10) ** -25 / 2**10:  # of an angle of exactly π
        return 0.0 if value == 0 else np.inf
    if abs(expected) > np.finfo(dtype).max:
        return 0.0 if value == np.inf else np.inf
    return float(abs(value - expected) / abs(expected) / np.finfo(dtype).eps)


KINDS = [(name, dtype) for name in ACTIVATIONS for dtype in (np.float32, np.float64)]


@pytest.mark.parametrize(("activation", "dtype"), KINDS)
def test_nearly_collinear_pairs_are_accurate_to_rounding_at_small_and_large_depth(
    activation, dtype
):
    assert largest_errors(activation, dtype, 100, 5, (2, 8)).max() <= 20


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "dtype"), KINDS)
def test_ten_thousand_pairs_are_accurate_to_rounding_at_every_depth(activation, dtype):
    errors = largest_errors(activation, dtype, 10_000, 5)
    print(activation, np.dtype(dtype).name, *(f"{a:.1f}/{b:.1f}" for a, b in errors))
    assert errors.max() <= 20


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_kernels_are_neural_tangents_away_from_collinear(activation, depth):
    dense = lambda: stax.Dense(1, W_std=1.0, b_std=None)
    hidden = [f() for _ in range(depth - 1) for f in (dense, LAYERS[activation])]
    kernel = stax.serial(*hidden, dense())[2]
    x1, x2 = (jax.random.normal(jax.random.key(seed), (20, 4)) for seed in (0, 1))
    found = jax.jit(fully_connected(depth, 1, activation=activation).kernel)(x1, x2)
    expected = jax.jit(lambda x1, x2: kernel(x1, x2, ("ntk", "nngp"))._asdict())(x1, x2)
    for name in ("ntk", "nngp"):
        np.testing.assert_allclose(getattr(found, name), expected[name], rtol=1e-10)


@pytest.mark.parametrize(
    ("depth", "activation", "dtype"),
    [
        (2, "relu", jnp.float32), (8, "relu", jnp.float64),
        (2, "leaky_relu", jnp.float64), (8, "leaky_relu", jnp.float32),
    ],
)  # fmt: skip
def test_a_point_and_its_multiples(depth, activation, dtype):
    """K(x, cx) = cK(x, x) for c > 0, and K(x, x) = depth · ‖x‖²/d · gain^(depth − 1)."""
    x = jax.random.normal(jax.random.key(0), (30, 3), dtype)
    gain = (1 + SLOPES[activation] ** 2) / 2
    expected = depth * gain ** (depth - 1) * (np.asarray(x, float) ** 2).sum(1) / 3
    network = fully_connected(depth, 1, activation=activation)
    for multiple in (1.0, 2.0, 0.25):
        found = jnp.diagonal(ntk(network, x, multiple * x)) / multiple
        np.testing.assert_allclose(found, expected, rtol=4 * jnp.finfo(dtype).eps)
    assert np.array_equal(ntk(network, x), ntk(network, x).T)


@pytest.mark.parametrize("activation", ["leaky_relu", "quadratic"])
def test_lengths_go_into_the_kernel_as_powers_however_large(activation):
    """And a row of zeros has zeros."""
    x = np.array([[1.0, 2, 3], [3, -1, 0.5], [-1, -2, -3], [0, 0, 0]])
    lengths = 2.0 ** np.array([498, -498, 0, 200])  # 1e150, 1e-150
    power = ACTIVATIONS[activation].degree ** 2
    lengths = lengths ** (1 / power)
    network = fully_connected(3, 1, activation=activation)
    for kernel in (ntk, nngp):
        plain, scaled = kernel(network, x), kernel(network, jnp.asarray(lengths[:, None] * x))
        expected = lengths[:, None] ** power * np.asarray(plain) * lengths**power
        np.testing.assert_allclose(scaled, expected, rtol=1e-12)
        assert not plain[3].any() and np.isfinite(plain).all()


def test_rows_of_one_number():
    """In one dimension all pairs are collinear: relu(x) and relu(−x) are orthogonal."""
    x = jnp.linspace(-3.0, 5.0, 300)[:, None]
    for depth in (2, 3):
        gram = np.asarray(nngp(fully_connected(depth, 1), x))
        same = np.outer(x, x) > 0
        np.testing.assert_allclose(gram[same], np.outer(x, x)[same] / 2 ** (depth - 1), rtol=1e-15)
    np.testing.assert_array_equal(ntk(fully_connected(2, 1), x)[~same], 0)


@pytest.mark.parametrize("activation", ["relu", pytest.param("quadratic", marks=pytest.mark.slow)])
def test_slopes_are_those_of_the_values_up_to_the_second(activation):
    x1, x2 = (jax.random.normal(jax.random.key(seed), (3, 3)) for seed in (0, 1))
    x2 = x2.at[0].set(x1[0] + jnp.array([1e-2, 0, 0]))  # nearly collinear
    network = fully_connected(2, 1, activation=activation)
    kernel = jax.jit(lambda x1, x2: network.kernel(x1, x2).ntk)
    check_grads(kernel, (x1, x2), order=2, modes=("rev",), rtol=1e-4, eps=1e-6)


@pytest.mark.parametrize("activation", ["relu", "quadratic"])
def test_slopes_are_finite_at_collinear_points_and_at_zero(activation):
    x = jax.random.normal(jax.random.key(0), (4, 3))
    x = x.at[1].set(2 * x[0]).at[2].set(-x[0]).at[3].set(0)
    slopes = jax.jacrev(lambda x: ntk(fully_connected(3, 1, activation=activation), x))(x)
    assert np.isfinite(slopes).all()


def test_under_vmap_each_point_has_its_own_entries():
    x = jax.random.normal(jax.random.key(0), (9, 3)).at[1].set(0)
    x = x.at[2].set(-3 * x[0])
    network = fully_connected(2, 1)
    each = jax.jit(jax.vmap(lambda point: network.kernel(x, point[None]).ntk[:, 0]))(x)
    np.testing.assert_allclose(each, ntk(network, x), rtol=1e-13, atol=1e-16)


def test_many_near_pairs_are_found_some_at_a_time(monkeypatch):
    x = jax.random.normal(jax.random.key(0), (20, 2))
    kernel = jax.jit(lambda x, y: arc_cosine.leaky_relu(x, y, 2)[0])
    whole = kernel(x, x)
    monkeypatch.setattr(arc_cosine, "NUMBERS_AT_ONCE", 1)
    few = jax.jit(lambda x, y: arc_cosine.leaky_relu(x, y, 2)[0])(x, x)
    np.testing.assert_allclose(few, whole, rtol=1e-14)


def test_half_precision_is_computed_in_single():
    x = jax.random.normal(jax.random.key(0), (5, 3)).astype(jnp.float16)
    found, wide = (ntk(fully_connected(3, 1), x.astype(t)) for t in (jnp.float16, jnp.float32))
    assert found.dtype == jnp.float16
    np.testing.assert_array_equal(found, wide.astype(jnp.float16))
