"""Datasets: distribution D and other synthetic ones, and scikit-learn's digits.

Random arrays are drawn as one row and reshaped: XLA unrolls loops over a short last axis on a CPU,
and twelve thousand points in ten dimensions would take seconds to compile. The numbers are those of
`jax.random`.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._compat import is_concrete
from ntkreg._types import Array, ArrayLike, Bool, Float, PRNGKey, Shaped


def normal(key: PRNGKey, shape: tuple[int, ...], dtype=float) -> Array:
    """Standard Gaussian entries, as `jax.random.normal`."""
    return _in_one_row(jax.random.normal, key, shape, dtype)


def rademacher(key: PRNGKey, shape: tuple[int, ...], dtype=float) -> Array:
    """Entries −1 and +1, fair coins, as `jax.random.rademacher`."""
    return _in_one_row(jax.random.rademacher, key, shape, dtype)


def _in_one_row(draw: Callable, key: PRNGKey, shape: tuple[int, ...], dtype) -> Array:
    return draw(key, (math.prod(shape),), dtype).reshape(shape)


class Dataset(NamedTuple):
    """Inputs and labels. The loss says which labels it takes: ±1, class indices or reals.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> two.x.shape
    (2, 1)

    Code on the host has NumPy arrays in one, by `_make`: types tell of what is traced.
    """

    x: Float[Array, "n d"]
    y: Shaped[Array, " n"]


def noisy_xor(key: PRNGKey, num_samples: int, dim: int) -> Dataset:
    """Samples of the distribution D on which networks and their kernel separate.

    (x₁, x₂) is (±1, 0) with label +1 and (0, ±1) with label −1, each of the four with probability
    1/4; the other dim − 2 coordinates are independent uniform signs. So ‖x‖² = dim − 1 always and
    y = x₁² − x₂²: an exclusive or of (x₁ + x₂, x₁ − x₂) without label noise.

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.

    Raises:
      ValueError: for num_samples < 1 or dim < 3.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    if dim < 3:
        raise ValueError(f"dim must be at least 3 (two of signal, one of noise), got {dim}")
    signs = rademacher(key, (num_samples, dim))
    y, sign, noise = signs[:, 0], signs[:, 1], signs[:, 2:]
    signal = jnp.stack([jnp.where(y > 0, sign, 0.0), jnp.where(y > 0, 0.0, sign)], axis=1)
    return Dataset(jnp.concatenate([signal, noise], axis=1), y)


def noisy_xor_population(dim: int) -> Dataset:
    """All 4·2^(dim − 2) points of D, each once, in float: means over them are means over D.

    Raises:
      ValueError: for dim < 3.
    """
    if dim < 3:
        raise ValueError(f"dim must be at least 3 (two of signal, one of noise), got {dim}")
    noise = np.array(list(itertools.product([1.0, -1.0], repeat=dim - 2)))
    signal = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    x = np.concatenate([np.repeat(signal, len(noise), axis=0), np.tile(noise, (4, 1))], axis=1)
    return Dataset(jnp.asarray(x, float), jnp.asarray(x[:, 0] ** 2 - x[:, 1] ** 2, float))


def random_labels(key: PRNGKey, num_samples: int, dim: int) -> Dataset:
    """Standard Gaussian points with fair coins for labels: what is fitted to them is noise.

    The first label is the second's negative, so that both classes are there.

    Raises:
      ValueError: for num_samples < 2 or dim < 1.
    """
    if num_samples < 2:
        raise ValueError(f"num_samples must be at least 2, one of each class, got {num_samples}")
    if dim < 1:
        raise ValueError(f"dim must be at least 1, got {dim}")
    x_key, y_key = jax.random.split(key)
    y = rademacher(y_key, (num_samples,))
    return Dataset(normal(x_key, (num_samples, dim)), y.at[0].set(-y[1]))


def halfspace(key: PRNGKey, num_samples: int, dim: int) -> Dataset:
    """Standard Gaussian points with the sign of their first coordinate as label.

    The first two are of different classes.

    Raises:
      ValueError: for num_samples < 2 or dim < 1.
    """
    drawn = random_labels(key, num_samples, dim)
    return Dataset(drawn.x.at[:, 0].set(drawn.y * jnp.abs(drawn.x[:, 0])), drawn.y)


def gaussian_parity(key: PRNGKey, num_samples: int, dim: int) -> Dataset:
    """Two uniform signs among standard Gaussian coordinates, labelled by their product x₁x₂.

    Source: Wei, Lee, Liu, Ma (ICLR 2019 submission), the construction on which the bounds of
    network and kernel differ.

    Raises:
      ValueError: for num_samples < 1 or dim < 2.
    """
    _check_sizes(num_samples, dim, least_dim=2)
    sign_key, noise_key = jax.random.split(key)
    signs = rademacher(sign_key, (num_samples, 2))
    noise = normal(noise_key, (num_samples, dim - 2))
    return Dataset(jnp.concatenate([signs, noise], axis=1), signs[:, 0] * signs[:, 1])


def relu_feature(key: PRNGKey, num_samples: int, dim: int) -> Dataset:
    """Standard Gaussian points x with y = relu(wᵀx), w uniform on the unit sphere; E y² = 1/2.

    Source: Wei, Lee, Liu, Ma (ICLR 2019 submission), the construction for the squared loss.

    Raises:
      ValueError: for num_samples < 1 or dim < 1.
    """
    _check_sizes(num_samples, dim)
    drawn = normal(key, (num_samples + 1, dim))  # one draw: half the time to compile
    direction, x = drawn[0] / jnp.linalg.norm(drawn[0]), drawn[1:]
    return Dataset(x, jnp.maximum(x @ direction, 0.0))


def _check_sizes(num_samples: int, dim: int, least_dim: int = 1) -> None:
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    if dim < least_dim:
        raise ValueError(f"dim must be at least {least_dim}, got {dim}")


def teacher(
    key: PRNGKey,
    function: Callable[[Array], Array],
    num_samples: int,
    dim: int,
    least_margin: float = 0.0,
) -> Dataset:
    """Standard Gaussian points x with the sign of function(x) as label.

    Points with |function(x)| below `least_margin` are drawn again, as long as half of all are above
    it; if fewer are, some of those returned lie below.

    Args:
      function: x of shape (n, d) -> values of shape (n,), the teacher.

    Source: Wei, Lee, Liu, Ma (ICLR 2019 submission), the experiments on random teachers.

    Raises:
      ValueError: for num_samples < 1, dim < 1, or a negative least_margin.
    """
    _check_sizes(num_samples, dim)
    if not least_margin >= 0:
        raise ValueError(f"least_margin must be at least 0, got {least_margin}")
    x = normal(key, (2 * num_samples, dim))
    values = function(x)
    order = jnp.argsort(jnp.abs(values) < least_margin, stable=True)[:num_samples]
    return Dataset(x[order], jnp.where(values[order] > 0, 1.0, -1.0).astype(x.dtype))


def digits(classes: tuple[int, int] | None = None) -> Dataset:
    """The 1,797 handwritten digits of scikit-learn, 64 pixels scaled to [0, 1].

    Labels are the ten classes 0–9 or, where `classes` names a pair, +1 for the first of the pair
    and −1 for the second, the other digits left out.

    Source: Alpaydin and Kaynak, Optical Recognition of Handwritten Digits (UCI, 1998).

    Raises:
      ValueError: where `classes` is not two different digits.
    """
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    if classes is not None:
        if len(set(classes)) != 2 or not set(classes) <= set(range(10)):
            raise ValueError(f"classes must be two different digits of 0–9, got {classes}")
        kept = np.isin(y, classes)
        x, y = x[kept], np.where(y[kept] == classes[0], 1.0, -1.0)
    dtype = jnp.result_type(float)
    return Dataset(jnp.asarray(x / 16.0, dtype), jnp.asarray(y, dtype if classes else jnp.int32))


def split(key: PRNGKey, data: Dataset, num_train: int) -> tuple[Dataset, Dataset]:
    """A random `num_train` of the samples, and the rest.

    Raises:
      ValueError: where a side would be empty.
    """
    n = data.x.shape[0]
    if not 1 <= num_train < n:
        raise ValueError(f"num_train must lie between 1 and {n - 1}, got {num_train}")
    order = jax.random.permutation(key, n)
    take = lambda rows: Dataset(data.x[rows], data.y[rows])
    return take(order[:num_train]), take(order[num_train:])


def unseen(x: Float[Array, "m d"], seen: Float[Array, "n d"]) -> Bool[Array, " m"]:
    """True for the rows of `x` that are no row of `seen`.

    Rows are compared through ‖a‖² + ‖b‖² − 2⟨a, b⟩ = 0, one matrix product: exact where the
    features are integers, as D's are, and not meant for others.
    """
    squared = jnp.sum(x**2, 1)[:, None] + jnp.sum(seen**2, 1)[None] - 2.0 * x @ seen.T
    return jnp.min(squared, axis=1) > 0.5


_PLAIN = (np.float32, np.float64)  # what is computed in


def check_dataset(data: Dataset, labels: str = "sign", num_classes: int | None = None) -> Dataset:
    """The data as numbers that can be learned from.

    x and y may be arrays of NumPy or JAX, lists, or frames and series of pandas. What JAX has stays
    on its device, all else comes back as NumPy's. It comes back in the dtype

    | of               | x             | y: "sign" | "class" | "real" | "any"   |
    |------------------|---------------|-----------|---------|--------|---------|
    | float32, float64 | its own       | x's       | int32   | x's    | its own |
    | narrower floats  | float32       | x's       | int32   | x's    | its own |
    | integers         | JAX's default | x's       | int32   | x's    | its own |
    | bools            | JAX's default | refused   | int32   | x's    | its own |
    | anything else    | refused       | refused   | refused | refused | refused |

    and anything else is complex numbers, text, objects, sparse matrices or masked entries. Signs
    are −1 and +1, all of them may be equal; classes are whole numbers 0 … num_classes − 1, be they
    floats; reals are finite, as x is. Under a trace only shapes and dtypes are looked at, and
    classes must have an integer dtype: values do not exist there.

    Raises:
      ValueError: with argument and value, where x has not shape (n, d) with n, d ≥ 1 or y not (n,),
        where a dtype is refused, and where a value is none of those above.
    """
    if not isinstance(data, Dataset):
        raise ValueError(f"data must be a Dataset(x, y), got {type(data).__name__}")
    x, y = _numbers("data.x", data.x), _numbers("data.y", data.y)
    if x.ndim != 2 or y.ndim != 1 or x.shape[0] != y.shape[0]:
        raise ValueError(f"data must have x of shape (n, d) and y (n,), got {x.shape}, {y.shape}")
    if 0 in x.shape:
        raise ValueError(f"data must have at least one sample and one feature, got x {x.shape}")
    x = x if x.dtype in _PLAIN else x.astype(_wider(x.dtype))
    if is_concrete(x) and not np.isfinite(values := np.asarray(x)).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"data.x must be finite, got {values[row, column]} at [{row}, {column}]")
    _check_labels(y, labels, num_classes)
    kept = {"any": y.dtype, "class": np.dtype(np.int32)}
    return Dataset._make((x, y.astype(kept.get(labels, x.dtype))))


def _numbers(name: str, values: ArrayLike) -> Array | np.ndarray:
    """Values as an array of real numbers."""
    rule, kind = f"{name} must be an array of real numbers", type(values).__name__
    if np.ma.is_masked(values):
        raise ValueError(f"{rule}, got {kind} with masked entries")
    try:
        array = values if isinstance(values, jax.Array) else np.asarray(values)
    except (TypeError, ValueError):
        raise ValueError(f"{rule}, got a {kind} that makes none") from None
    if not any(jnp.issubdtype(array.dtype, k) for k in (jnp.floating, jnp.integer, jnp.bool_)):
        raise ValueError(f"{rule}, got {kind} of dtype {array.dtype}")
    return array


def _wider(dtype: np.dtype) -> np.dtype:
    """The dtype that numbers are computed in which come in one that is not computed in."""
    is_narrow = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return np.dtype(np.float32) if is_narrow else jnp.result_type(float)


def _check_labels(y: Array | np.ndarray, labels: str, num_classes: int | None) -> None:
    if labels == "sign" and y.dtype == bool:
        raise ValueError("data.y must be −1 or +1, got bools")
    if not is_concrete(y):
        if labels == "class" and not jnp.issubdtype(y.dtype, jnp.integer):
            raise ValueError(f"data.y must be of an integer dtype under a trace, got {y.dtype}")
        return
    y = np.asarray(y)
    if labels == "any":
        return
    if labels == "sign":
        good, wanted = np.isin(y, (-1, 1)), "−1 or +1"
    elif labels == "class":
        top = np.iinfo(np.int32).max if num_classes is None else num_classes - 1
        good = (y == np.floor(y)) & (y >= 0) & (y <= top)
        wanted = "class indices from 0" if num_classes is None else f"class indices 0 … {top}"
    else:
        good, wanted = np.isfinite(y), "finite"
    if not good.all():
        row = int(np.argmin(good))
        raise ValueError(f"data.y must be {wanted}, got {y[row]} at [{row}]")
