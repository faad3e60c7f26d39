"""Certificates of degenerate data, held against other code: exact fractions and any network.

The samples repeat, are opposite, parallel, a hair apart, of lengths from 1e-8 to 1e8, of low rank
or zero. Nothing of `balls`, `proofs` or `enumeration` is used to judge: networks are evaluated in
Python's fractions, and a dual bound must hold for networks that were drawn without it.
"""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkreg.certificates.certified import Certificate, global_minimum, max_margin
from ntkreg.data.dataset import Dataset
from ntkreg.kernels.kernel_machines import NotSeparable

seeds = st.integers(0, 10**6)
KINDS = ("gauss", "grid", "low rank", "repeated", "opposite", "parallel", "near", "rows", "columns")


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """(x, y, the generator) of a small data set with up to three degeneracies."""
    rng = np.random.default_rng(seed)
    n, d = int(rng.integers(1, 8)), int(rng.integers(1, 4))
    x = rng.normal(size=(n, d))
    one, other = rng.integers(0, n, size=(2, max(1, n // 3)))
    for kind in rng.choice(KINDS, 3, replace=False):
        if kind == "grid":
            x = np.round(2 * x)
        elif kind == "low rank":
            x = np.round(x[:, :1] * 3) * np.round(rng.normal(size=d) * 3)
        elif kind == "repeated":
            x[one] = x[other]
        elif kind == "opposite":
            x[one] = -x[other]
        elif kind == "parallel":
            x[one] = x[other] * 2.0 ** rng.integers(-9, 9)
        elif kind == "near":
            x[one] = x[other] * (1 + 10.0 ** rng.uniform(-7, -3))
        elif kind == "rows":
            x = x * 10.0 ** rng.uniform(-8, 8, size=(n, 1))
        elif kind == "columns":
            x = x * 10.0 ** rng.uniform(-3, 3, size=d)
    if not x.any():
        x[0, 0] = 1.0
    return x, rng.choice([-1.0, 1.0], n), rng


def outputs(params, x: np.ndarray) -> list[Fraction]:
    """f(xᵢ) without any rounding."""
    first, last = (np.asarray(part, float) for part in params)
    exact = lambda values: [Fraction(float(v)) for v in values]
    columns, weights = [exact(column) for column in first.T], exact(last[:, 0])
    inner = lambda row, column: sum((a * b for a, b in zip(row, column, strict=True)), Fraction(0))
    neuron = lambda row, u, w: w * max(inner(exact(row), u), Fraction(0))
    pairs = list(zip(columns, weights, strict=True))
    return [sum((neuron(row, u, w) for u, w in pairs), Fraction(0)) for row in x]


def squared_norm(params) -> Fraction:
    entries = np.concatenate([np.ravel(part) for part in params])
    return sum((Fraction(float(v)) ** 2 for v in entries), Fraction(0))


def exact_margin(params, x, y) -> Fraction:
    size = squared_norm(params)
    margins = [Fraction(t) * f for t, f in zip(y, outputs(params, x), strict=True)]
    return min(margins) / size if size else Fraction(0)


def exact_squared(params, x, y, lam) -> Fraction:
    errors = [(f - Fraction(t)) ** 2 for t, f in zip(y, outputs(params, x), strict=True)]
    return sum(errors, Fraction(0)) / len(errors) + Fraction(lam) * squared_norm(params)


def network(rng, x: np.ndarray, width: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Some neurons along samples, some anywhere."""
    first = rng.normal(size=(x.shape[1], width))
    first[:, :2] = x[rng.integers(0, len(x), 2)].T
    first = first / np.maximum(np.linalg.norm(first, axis=0), 1e-300)
    return first, rng.normal(size=(width, 1))


def check(found: Certificate) -> None:
    assert found.lower <= found.upper
    assert found.gap == pytest.approx((found.upper - found.lower) / (abs(found.upper) or 1.0))


def margin_holds(seed: int) -> None:
    x, y, rng = drawn(seed)
    data = Dataset._make((x, y))
    try:
        found = max_margin(data)
    except NotSeparable:
        for _ in range(20):  # no network that is drawn has a margin
            assert exact_margin(network(rng, x), x, y) <= 1e-9 * np.linalg.norm(x, axis=1).max()
        return
    check(found)
    assert Fraction(found.lower) <= exact_margin(found.primal, x, y)
    assert all(exact_margin(network(rng, x), x, y) <= Fraction(found.upper) for _ in range(20))
    unit_rows = x / np.linalg.norm(x, axis=1, keepdims=True)
    if max_margin(Dataset._make((unit_rows, y))).lower > 1e-8:
        assert found.gap <= 1e-8


def minimum_holds(seed: int) -> None:
    x, y, rng = drawn(seed)
    y = y * rng.normal(size=len(y)) * 10.0 ** rng.uniform(-3, 6)
    lam = float(np.abs(x).max() * np.abs(y).max() * 10.0 ** rng.uniform(-6, 0)) or 1.0
    found = global_minimum(Dataset._make((x, y)), lam, loss="squared")
    check(found)
    assert Fraction(found.upper) >= exact_squared(found.primal, x, y, lam)
    for size in (0.0, 1e-2, 1.0):
        params = [size * np.sqrt(np.abs(y).max()) * part for part in network(rng, x)]
        assert Fraction(found.lower) <= exact_squared(params, x, y, lam)
    assert found.gap <= 1e-7


@settings(max_examples=30)
@given(seeds)
def test_margins_of_degenerate_data(seed):
    margin_holds(seed)


@settings(max_examples=30)
@given(seeds)
def test_minima_of_degenerate_data(seed):
    minimum_holds(seed)


@pytest.mark.slow
@settings(max_examples=1000)
@given(seeds)
def test_many_margins_of_degenerate_data(seed):
    margin_holds(seed)


@pytest.mark.slow
@settings(max_examples=1000)
@given(seeds)
def test_many_minima_of_degenerate_data(seed):
    minimum_holds(seed)
