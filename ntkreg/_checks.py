"""What is checked of arguments in more than one folder. Traced values pass."""

import numpy as np

from ntkreg._compat import is_concrete
from ntkreg._types import Scalar, Scalars


def check_positive(**values: Scalar) -> None:
    """Raises ValueError, with its name, for a value, or an entry, not positive and finite."""
    for name, value in values.items():
        if not is_concrete(value):
            continue
        entries = _numbers(name, value)
        bad = entries[~((entries > 0) & np.isfinite(entries))]  # NaN too
        if bad.size:
            raise ValueError(f"{name} must be positive and finite, got {bad.flat[0]}")


def _numbers(name: str, values: Scalars) -> np.ndarray:
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be numbers, got {values!r}") from None


def check_lams(
    lams: Scalars, *, name: str = "lams", may_be_zero: bool = False, falling: bool = False
) -> None:
    """Raises ValueError where λ, or one of a vector, is not finite and > 0, or ≥ 0.

    With `falling` also where one is not below the one before it.
    """
    if not is_concrete(lams):
        return
    values = _numbers(name, lams)
    if values.ndim > 1 or not values.size:
        raise ValueError(f"{name} must be a number or a vector of them, got shape {values.shape}")
    good = np.isfinite(values) & (values >= 0 if may_be_zero else values > 0)
    if not good.all():
        rule = "finite and at least 0" if may_be_zero else "positive and finite"
        raise ValueError(f"{name} must be {rule}, got {values[~good].flat[0]}")
    rises = np.flatnonzero(np.diff(np.atleast_1d(values)) >= 0)
    if falling and rises.size:
        before, after = values[rises[0]], values[rises[0] + 1]
        raise ValueError(f"{name} must fall from each to the next, got {after} after {before}")


def check_noisy_xor(x: np.ndarray, y: np.ndarray) -> None:
    """Raises ValueError for points and labels that the distribution D cannot give."""
    if x.shape[1] < 3 or not (
        np.array_equal(np.abs(x[:, :2]), np.stack([y > 0, y < 0], axis=1))
        and (x[:, 2:] ** 2 == 1).all()
    ):
        raise ValueError(
            "samples must be of D: (±1, 0) or (0, ±1) by the label, then signs; got x[0] = "
            f"{x[0]}, y[0] = {y[0]:+.0f}"
        )
