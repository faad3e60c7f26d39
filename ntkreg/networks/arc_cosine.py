"""Infinite-width kernels of fully connected networks, accurate to rounding at every angle.

Between points x and x′ at the angle θ they are |x||x′| times a function of θ, whose slope at 0 and
at π is not zero: θ has to be known to rounding there, and cos θ gives it only to √ε. So what goes
from layer to layer is cos θ together with sin θ and 1 − |cos θ|, none from a difference of the
others; for pairs that are nearly collinear sin θ comes from the points themselves.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._types import Array, ArrayLike, Float, Int

# Pairs at cos θ beyond these are nearly collinear. Elsewhere an error of ε in cos θ is one of at
# most 7ε in θ, or, towards π, where kernels vanish like (π − θ)³, of 15ε of their size.
NEARLY_EQUAL, NEARLY_OPPOSITE = 0.99, -0.9

# Of nearly collinear pairs so many numbers are looked at at once, or a pair for each row.
NUMBERS_AT_ONCE = 2**14


class Angles(NamedTuple):
    """Angles θ between points, by three numbers that are accurate to rounding each."""

    cosine: Float[Array, "n m"]
    sine: Float[Array, "n m"]
    versine: Float[Array, "n m"]  # 1 − |cos θ|


class _Rows(NamedTuple):
    """Points x = 2^exponent · points, whose largest entry is in [1/2, 1); zero stays zero."""

    points: Float[Array, "n d"]
    exponent: Int[Array, " n"]
    square: Float[Array, " n"]  # ‖points‖²


def linear(
    x1: Float[Array, "n d"], x2: Float[Array, "m d"], depth: int
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """(NTK, NNGP) with no activation: depth · ⟨x, x′⟩/d and ⟨x, x′⟩/d."""
    nngp = _product(x1 / x1.shape[1], x2)
    return depth * nngp, nngp


def leaky_relu(
    x1: Float[Array, "n d"], x2: Float[Array, "m d"], depth: int, leak: float = 0.0
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """(NTK, NNGP) with max(z, leak · z), in `ntk` scaling with unit variances.

    Over independent Gaussians E φ(z)φ(z′) = (1 + leak²)/2 · √(E z² E z′²) · c′ where z, z′ have the
    correlation c = cos θ, and E φ′(z)φ′(z′) = (1 + leak²)/2 · (1 − (1 − b)θ/π), with
    b = 2 leak/(1 + leak²). Let φ ≤ π/2 be the angle from the line, θ or π − θ. Then

        c′ = c + (1 − b)(sin φ − φ cos φ)/π where c ≥ 0, b c + (1 − b)(sin φ − φ cos φ)/π else,

    without cancellation near either end. Entries are accurate to some ε, relative, wherever they
    do not change sign.

    Source: Cho and Saul (NeurIPS 2009); Jacot, Gabriel, Hongler (NeurIPS 2018).
    """
    if depth == 1:
        return linear(x1, x2, 1)
    gain, bent = (1 + leak**2) / 2, 1 - 2 * leak / (1 + leak**2)
    first, second = _rows(x1), _rows(x2)
    angles = _angles(first.points, second.points)
    tangent = angles.cosine
    for _ in range(depth - 1):
        angles, slope = _through_kink(angles, bent)
        tangent = angles.cosine + tangent * slope
    size = _root(first.square[:, None] * second.square) * (gain ** (depth - 1) / x1.shape[1])
    scaled = lambda values: _times_powers(values * size, first.exponent, second.exponent)
    return scaled(tangent), scaled(angles.cosine)


def quadratic(
    x1: Float[Array, "n d"], x2: Float[Array, "m d"], depth: int
) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
    """(NTK, NNGP) with z²: at each layer E z²z′² = (E z²)(E z′²)(1 + 2c²), E 4zz′ = 4 E zz′.

    They are of degree 2^(depth − 1) in the norms, which are held in two numbers each, so that
    powers of them are accurate to rounding too.
    """
    if depth == 1:
        return linear(x1, x2, 1)
    first, second = _rows(x1), _rows(x2)
    angles = _angles(first.points, second.points)
    cosine, versine = jnp.abs(angles.cosine), angles.versine
    tangent = cosine
    for _ in range(depth - 1):
        tangent = tangent * cosine * (4 / 3)
        versine = versine * (2 - versine) * (2 / 3)
        cosine = 1 - versine
        tangent = cosine + tangent
    (size1, power1), (size2, power2) = (_variances(rows, depth) for rows in (first, second))
    size = size1[:, None] * size2 * 3
    scaled = lambda values: _times_powers(values * size, power1, power2)
    return scaled(tangent), scaled(cosine)


def _product(x1: Array, x2: Array) -> Array:
    return jnp.matmul(x1, x2.T, precision=jax.lax.Precision.HIGHEST)


def _rows(x: Array) -> _Rows:
    _, exponent = jnp.frexp(jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1)))
    points = x * power_of_two(-exponent, x.dtype)[:, None]
    return _Rows(points, exponent, jnp.sum(points**2, axis=1))


def power_of_two(exponent: Array, dtype: jnp.dtype) -> Array:
    """2^exponent, exactly, of exponents that `dtype` has; of others the nearest that it has."""
    info = jnp.finfo(dtype)
    held = jnp.clip(exponent, info.minexp, info.maxexp - 1).astype(f"int{info.bits}")
    return jax.lax.bitcast_convert_type((held + (1 - info.minexp)) << info.nmant, dtype)


def _times_powers(values: Array, first: Array, second: Array) -> Array:
    """values · 2^(first + second), in two steps: of one alone the power may not be held."""
    power = first[:, None] + second
    half = power // 2
    return values * power_of_two(half, values.dtype) * power_of_two(power - half, values.dtype)


def _through_kink(angles: Angles, bent: float) -> tuple[Angles, Array]:
    """The angles behind a (leaky) relu, and E φ′φ′ relative to its value at θ = 0."""
    cosine, sine, versine = angles
    size, is_acute = jnp.abs(cosine), cosine >= 0
    angle = jnp.arctan2(sine, size)
    excess = _sine_less_angle_cosine(angle, sine, size) * (bent / math.pi)
    away = angle * (bent / math.pi)
    # At most a third of 1 − c is taken from it, and only where θ is acute.
    obtuse = excess + (1 - bent) * cosine
    versine = jnp.where(is_acute, versine - excess, 1 - jnp.abs(obtuse))
    new = jnp.where(is_acute, 1 - versine, obtuse)
    sine = _root(versine * (2 - versine))
    return Angles(new, sine, versine), jnp.where(is_acute, 1 - away, (1 - bent) + away)


def _sine_less_angle_cosine(angle: Array, sine: Array, cosine: Array) -> Array:
    """sin φ − φ cos φ = φ³/3 − φ⁵/30 + …, to some ε of its own size, for 0 ≤ φ ≤ π/2."""
    num_terms = 9 if angle.dtype == jnp.float64 else 5  # the next one is below ε/100 at φ = 1
    square = angle**2
    series = jnp.zeros_like(angle)
    for k in range(num_terms, 0, -1):
        series = series * square + (-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1)
    return jnp.where(angle < 1, series * square * angle, sine - angle * cosine)


def _root(values: Array) -> Array:
    """√, whose slope at 0 is taken to be 0: there the angle is at the end of its range."""
    positive = values > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, values, 1.0)), 0.0)


def _unit(points: Array) -> Array:
    square = jnp.sum(points**2, axis=1, keepdims=True)
    return points / jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 1.0)


def _angles(points1: Array, points2: Array) -> Angles:
    cosine = _product(_unit(points1), _unit(points2))
    near = (cosine > NEARLY_EQUAL) | (cosine < NEARLY_OPPOSITE)
    square = (1 - cosine) * (1 + cosine)
    fixed = jax.lax.stop_gradient((near, square, points1, points2))
    found = jax.lax.cond(jnp.any(near), _with_pairs, lambda near, square, *points: square, *fixed)
    square = found + (square - fixed[1])  # the second term is 0 and has the slopes
    size = jnp.abs(cosine)
    versine = jnp.where(near, square / (1 + size), 1 - size)
    return Angles(jnp.where(cosine < 0, versine - 1, 1 - versine), _root(square), versine)


def _with_pairs(near: Array, squares: Array, points1: Array, points2: Array) -> Array:
    """sin² θ, for the near pairs from the points, some pairs at a time, else from `squares`."""
    (height, width), dim = near.shape, points1.shape[1]
    at_once = min(near.size, max(height, width, NUMBERS_AT_ONCE // max(dim, 1)))
    ranks = jnp.cumsum(near.ravel(), dtype=jnp.int32)

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        done, squares = carry
        # Where the count reaches done + 1, done + 2, …; beyond the last one, behind the end.
        flat = jnp.searchsorted(ranks, done + 1 + jnp.arange(at_once, dtype=jnp.int32))
        row, column = flat // width, flat % width
        found = _squared_sine(points1[row], points2[column])
        return done + at_once, squares.at[row, column].set(found, mode="drop")

    begun = (jnp.int32(0), squares)
    return jax.lax.while_loop(lambda carry: carry[0] < ranks[-1], body, begun)[1]


def _squared_sine(x: Float[Array, "k d"], y: Float[Array, "k d"]) -> Float[Array, " k"]:
    """sin² θ of pairs (xᵢ, yᵢ) to some ε of its own size, 0 where they are collinear.

    With yⱼ the largest entry of y, w = yⱼx − xⱼy is yⱼ times x up to a multiple of y: the part of w
    across y has the length |yⱼ|‖x‖ sin θ. An entry of w is a sum of products of halves, which are
    exact, with the errors of its additions, so that it is accurate whatever cancels in it.
    """
    pivot = jnp.argmax(jnp.abs(y), axis=1)[:, None]
    x_pivot, y_pivot = jnp.take_along_axis(x, pivot, 1), jnp.take_along_axis(y, pivot, 1)
    (x, x_low), (y, y_low) = _halves(x), _halves(y)
    (xp, xp_low), (yp, yp_low) = _halves(x_pivot), _halves(y_pivot)
    products = ((x * yp, xp * y), (x * yp_low, xp_low * y), (x_low * yp, xp * y_low))
    across, errors = _two_sum(x_low * yp_low, -xp_low * y_low)
    for product, other in products[::-1]:
        difference, error = _two_sum(product, -other)
        across, more = _two_sum(difference, across)
        errors = errors + error + more
    across = across + errors
    unit_y, length = _unit(y + y_low), jnp.sqrt(jnp.sum((x + x_low) ** 2, axis=1))
    across = across - jnp.sum(across * unit_y, axis=1, keepdims=True) * unit_y
    size = jnp.abs(y_pivot[:, 0]) * length
    return jnp.sum((across / jnp.where(size > 0, size, 1.0)[:, None]) ** 2, axis=1)


def _halves(x: Array) -> tuple[Array, Array]:
    """x = high + low, each of half its digits, so that products of such halves are exact.

    By its bits: a difference of floats could be computed in more digits than it is written in.
    """
    info = jnp.finfo(x.dtype)
    low_bits = (info.nmant + 2) // 2
    bits = jax.lax.bitcast_convert_type(x, f"int{info.bits}")
    rounded = (bits + (1 << (low_bits - 1))) & -(1 << low_bits)
    high = jax.lax.bitcast_convert_type(rounded, x.dtype)
    return high, x - high


def _variances(rows: _Rows, depth: int) -> tuple[Array, Array]:
    """q = E z² before the last layer with z², as size · 2^power: q = ‖x‖²/d, then 3q² each time.

    A relative error doubles at each layer, so that q is the sum of two numbers meanwhile.
    """
    high, low = _divided(*_square_sum(jax.lax.stop_gradient(rows.points)), rows.points.shape[1])
    power = 2 * rows.exponent
    for _ in range(depth - 2):
        high, low = _scaled_sum(3.0, *_squared(high, low))
        _, own = jnp.frexp(high)
        factor = power_of_two(-own, high.dtype)
        high, low, power = high * factor, low * factor, 2 * power + own
    # A factor of one that has the slopes.
    square = jnp.where(rows.square > 0, rows.square, 1.0)
    ratio = square / jax.lax.stop_gradient(square)
    return high * ratio ** (2 ** (depth - 2)), power


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """a + b = total + error, exactly. Source: Knuth (TAOCP 2, Section 4.2.2)."""
    total = a + b
    from_b = total - a
    return total, (a - (total - from_b)) + (b - from_b)


def _two_product(a: Array, b: ArrayLike) -> tuple[Array, Array]:
    """ab in two numbers, from products of halves, which are exact."""
    (a, a_low), (b, b_low) = _halves(a), _halves(jnp.asarray(b, a.dtype))
    return _two_sum(a * b, (a * b_low + a_low * b) + a_low * b_low)


def _square_sum(points: Array) -> tuple[Array, Array]:
    """‖x‖² in two numbers, of points with entries below 1: the first digits' sum is exact."""
    unit = 2.0 ** (2 * jnp.finfo(points.dtype).nmant // 5)
    first = jnp.round(points * unit) / unit
    rest = points - first
    return _two_sum(jnp.sum(first**2, axis=1), jnp.sum((2 * first + rest) * rest, axis=1))


def _divided(high: Array, low: Array, divisor: int) -> tuple[Array, Array]:
    quotient = high / divisor
    product, error = _two_product(quotient, divisor)
    return _two_sum(quotient, (((high - product) - error) + low) / divisor)


def _squared(high: Array, low: Array) -> tuple[Array, Array]:
    product, error = _two_product(high, high)
    return _two_sum(product, error + 2 * high * low)


def _scaled_sum(factor: float, high: Array, low: Array) -> tuple[Array, Array]:
    product, error = _two_product(high, factor)
    return _two_sum(product, error + factor * low)
