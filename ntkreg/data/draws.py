"""Random arrays with the numbers of `jax.random` that compile in a fraction of the time.

XLA unrolls loops over a short last axis on a CPU, and the generator is long: twelve thousand points
in ten dimensions take seconds to compile, and a tenth of that drawn as one row and reshaped.
"""

import math
from collections.abc import Callable

import jax

from ntkreg._types import Array, PRNGKey


def normal(key: PRNGKey, shape: tuple[int, ...], dtype=float) -> Array:
    """Standard Gaussian entries, as `jax.random.normal`."""
    return _in_one_row(jax.random.normal, key, shape, dtype)


def rademacher(key: PRNGKey, shape: tuple[int, ...], dtype=float) -> Array:
    """Entries −1 and +1, fair coins, as `jax.random.rademacher`."""
    return _in_one_row(jax.random.rademacher, key, shape, dtype)


def _in_one_row(draw: Callable, key: PRNGKey, shape: tuple[int, ...], dtype) -> Array:
    return draw(key, (math.prod(shape),), dtype).reshape(shape)
