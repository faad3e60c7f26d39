"""The array types that the package's signatures are written in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

Params = PyTree[Float[Array, "..."]]
PRNGKey = Key[Array, ""] | Any  # a typed key; raw uint32 pairs are let through
# What JAX takes for a number, as long as it is real; and several of them.
Scalar = Array | np.ndarray | np.number | float | int
Scalars = Scalar | Sequence[float]

__all__ = [
    "Array",
    "ArrayLike",
    "Bool",
    "Float",
    "Int",
    "PRNGKey",
    "Params",
    "PyTree",
    "Scalar",
    "Scalars",
    "Shaped",
]
