"""What is checked of arguments in more than one folder."""

import numpy as np

from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float


def check_lams(lams: Float[Array | np.ndarray, " p"], falling: bool = False) -> None:
    """Raises ValueError where lams are not positive, finite and one-dimensional.

    With `falling` also where one is not below the one before it.
    """
    if not is_concrete(lams):
        return
    values = np.asarray(lams)
    bad = ~(np.isfinite(values) & (values > 0))
    if values.ndim != 1 or bad.any():
        raise ValueError(f"lams must be positive, finite and one-dimensional, got {lams}")
    rises = np.flatnonzero(np.diff(values) >= 0)
    if falling and rises.size:
        before, after = values[rises[0]], values[rises[0] + 1]
        raise ValueError(f"lams must fall from each to the next, got {after} after {before}")
