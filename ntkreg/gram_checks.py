"""What a kernel machine is given, checked: a Gram matrix or its operator, labels, λ.

Under a trace values cannot raise: there shapes alone are checked.
"""

import jax.numpy as jnp
import numpy as np

from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float
from ntkreg.gram_operators import GramOperator, as_operator


def check_gram(
    gram: Float[Array, "n n"] | GramOperator,
    labels: Float[Array, " n"],
    signs: bool = False,
    by_products: bool = False,
) -> tuple[int, jnp.dtype]:
    """(n, the dtype of the entries), where gram and labels fit together and all is finite.

    Raises:
      ValueError: where they do not, where `signs` asks for labels ±1 and there are others, or
        where gram is an operator but `by_products` is not set.
    """
    n = labels.shape[0]
    if isinstance(gram, GramOperator) and not by_products:
        raise ValueError("gram must be an array, since it is factorised, got a GramOperator")
    entries = gram.diagonal if isinstance(gram, GramOperator) else gram
    wanted = (n,) if isinstance(gram, GramOperator) else (n, n)
    if entries.shape != wanted:
        raise ValueError(f"gram must have shape {wanted} for {n} labels, got {entries.shape}")
    if is_concrete(gram, labels):
        _check_values(gram, np.asarray(labels), signs)
    return n, entries.dtype


def _check_values(gram: Array | GramOperator, labels: np.ndarray, signs: bool) -> None:
    operator = as_operator(gram)
    # The sum over a row tells of each entry, without an array of n × n truth values.
    if not bool(jnp.all(jnp.isfinite(operator.product(jnp.ones_like(operator.diagonal))))):
        raise ValueError("gram must be finite, it holds NaN or inf")
    bad = ~np.isin(labels, (-1, 1)) if signs else ~np.isfinite(labels)
    if bad.any():
        wanted = "−1 or +1" if signs else "finite"
        raise ValueError(f"labels must be {wanted}, got {labels[bad][0]} at [{np.argmax(bad)}]")


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
