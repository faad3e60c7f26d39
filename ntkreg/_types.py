"""The array types that the package's signatures are written in."""

from typing import Any

from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

Params = PyTree[Float[Array, "..."]]
PRNGKey = Key[Array, ""] | Any  # a typed key; raw uint32 pairs are let through
Scalar = ArrayLike

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
    "Shaped",
]
