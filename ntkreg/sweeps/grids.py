"""Points: one value for each axis, by name."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import pandas

Point = dict[str, Any]


def grid(**axes: Iterable) -> list[Point]:
    """All combinations of the values of each axis, the last axis fastest.

    >>> grid(lam=[0.1, 0.2], seed=range(2))[1]
    {'lam': 0.1, 'seed': 1}

    Raises:
      ValueError: for an axis without values.
    """
    values = {name: [_plain(value) for value in axis] for name, axis in axes.items()}
    for name, axis in values.items():
        if not axis:
            raise ValueError(f"{name} must have at least one value, got none")
    return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]


def checked(points: Sequence[Mapping] | pandas.DataFrame) -> list[Point]:
    """The points as a list of dicts of plain Python values, all with the same names.

    Raises:
      ValueError: where there are none, or their names differ.
    """
    if isinstance(points, pandas.DataFrame):
        points = points.to_dict("records")
    found = [{name: _plain(value) for name, value in point.items()} for point in points]
    if not found or not found[0]:
        raise ValueError("points must be at least one, with at least one axis, got none")
    for point in found:
        if point.keys() != found[0].keys():
            raise ValueError(
                f"points must all have the same axes, got {', '.join(found[0])} and "
                f"{', '.join(point)}"
            )
    return found


def traced_dtypes(
    points: Sequence[Point], static_argnames: str | Collection[str]
) -> dict[str, np.dtype]:
    """The axes that are traced, with the dtype that JAX gives them: numbers that are not static.

    Raises:
      ValueError: for a static name of no axis, and for a number that its dtype does not hold:
        another would be run in its place.
    """
    static = {static_argnames} if isinstance(static_argnames, str) else set(static_argnames)
    for name in static - points[0].keys():
        raise ValueError(f"static_argnames must be of {', '.join(points[0])}, got {name!r}")
    columns = {name: [point[name] for point in points] for name in points[0] if name not in static}
    is_traced = lambda values: all(isinstance(v, int | float | complex) for v in values)
    return {name: _dtype(name, values) for name, values in columns.items() if is_traced(values)}


def _dtype(name: str, values: list) -> np.dtype:
    exact = np.asarray(values)
    dtype = jax.dtypes.canonicalize_dtype(exact.dtype)
    with np.errstate(over="ignore"):
        held = exact.astype(dtype).astype(exact.dtype)
    held = np.isclose(held, exact, rtol=1e-6, atol=0, equal_nan=True)
    if not held.all():
        raise ValueError(
            f"{name} must be numbers that {dtype} holds, got {exact[~held][0]}; switch "
            "jax_enable_x64 on, or let the logarithm be the axis"
        )
    return dtype


def _plain(value: Any) -> Any:
    is_scalar = isinstance(value, np.generic | np.ndarray | jax.Array) and value.ndim == 0
    return value.item() if is_scalar else value
