"""Points, and how they reach the function."""

import jax
import numpy as np
import pandas
import pytest

from ntkreg.sweeps import grid
from ntkreg.sweeps.programs import checked, traced_dtypes


def test_a_grid_is_the_product_with_the_last_axis_fastest_in_plain_values():
    points = grid(lam=np.array([0.1, 0.2]), name=["a", "b"])
    assert points == [
        {"lam": 0.1, "name": "a"}, {"lam": 0.1, "name": "b"},
        {"lam": 0.2, "name": "a"}, {"lam": 0.2, "name": "b"},
    ]  # fmt: skip
    assert all(type(point["lam"]) is float for point in points)


def test_a_table_is_a_list_of_points_too():
    assert checked(pandas.DataFrame({"n": [1, 2]})) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: grid(lam=[]), "lam must have at least one value, got none"),
        (lambda: checked([]), "points must be at least one"),
        (lambda: checked([{"a": 1}, {"b": 1}]), "same axes, got a and b"),
        (lambda: traced_dtypes([{"a": 1}], "b"), "static_argnames must be of a, got 'b'"),
    ],
)
def test_bad_points_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_numbers_are_traced_and_all_else_is_static():
    points = [{"lam": 0.5, "n": 3, "big": True, "name": "x", "pair": (1, 2)}]
    assert traced_dtypes(points, "n") == {"lam": np.dtype(float), "big": np.dtype(bool)}


def test_a_number_that_its_dtype_does_not_hold_is_refused():
    points = [{"lam": 1.0}, {"lam": 1e-200}]
    assert traced_dtypes(points, ()) == {"lam": np.dtype("float64")}
    with jax.enable_x64(False):
        with pytest.raises(ValueError, match="lam must be numbers that float32 holds, got 1e-200"):
            traced_dtypes(points, ())
        with pytest.raises(
            ValueError, match="seed must be numbers that int32 holds, got 2147483648"
        ):
            traced_dtypes([{"seed": 2**31}], ())
