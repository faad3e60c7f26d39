"""The norms that networks are measured and penalised in, and powers of them.

A norm is named 2, the Euclidean one of all parameters, or (2, p): the p-norm of the Euclidean norms
of the neurons of a two-layer network,

    ‖Θ‖_{2,p} = (Σᵢ ‖θᵢ‖₂^p)^(1/p),     θᵢ the weights into and out of neuron i.

(2, 2) is the Euclidean one again. With p the order of the network, what a neuron gives to the
outputs is proportional to its part ‖θᵢ‖^p of the penalty Σᵢ ‖θᵢ‖^p: then the best network is found
by a convex programme over masses of unit neurons. For relu p = 2, for z² p = 3.

Sources: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 4.1, which holds for every norm; Morwani,
Edelman, Oncescu, Zhao, Kakade (ICLR 2024) for (2, p).
"""

import math
import numbers

import jax
import jax.numpy as jnp
import optax

from ntkreg._types import Array, Float, Params

Norm = float | tuple[float, float]
EUCLIDEAN: Norm = 2


def check_norm(norm: Norm) -> None:
    """Raises ValueError for what is neither 2 nor a tuple (2, p) with a finite p ≥ 1."""
    parts = norm if isinstance(norm, tuple) else (norm, 1)
    are_real = all(isinstance(part, numbers.Real) for part in parts)
    if not (are_real and len(parts) == 2 and parts[0] == 2 and 1 <= parts[1] < math.inf):
        raise ValueError(f"norm must be 2, or (2, p) with a finite p ≥ 1, got {norm!r}")


def exponent(norm: Norm, power: float | None) -> float:
    """The power of the norm in the penalty: 2, and p for (2, p), unless given."""
    check_norm(norm)
    if power is not None:
        return power
    return norm[1] if isinstance(norm, tuple) else 2.0


def norm_of(params: Params, norm: Norm = EUCLIDEAN) -> Float[Array, ""]:
    """‖Θ‖.

    Raises:
      ValueError: for (2, p) and parameters that are not those of a two-layer network.
    """
    check_norm(norm)
    return optax.tree.norm(params) if norm == EUCLIDEAN else jnp.exp(_log_norm(params, norm))


def to_power(params: Params, norm: Norm, power: float) -> Float[Array, ""]:
    """‖Θ‖^power, with a slope at Θ = 0 too."""
    check_norm(norm)
    if norm == EUCLIDEAN:
        squared = optax.tree.norm(params, squared=True)
        return jnp.maximum(squared, jnp.finfo(squared.dtype).tiny) ** (power / 2)
    return jnp.exp(power * _log_norm(params, norm))


def log_norm(params: Params, norm: Norm = EUCLIDEAN) -> Float[Array, ""]:
    """log ‖Θ‖, with a slope at Θ = 0 too: the smallest float stands for a square of 0."""
    check_norm(norm)
    if norm == EUCLIDEAN:
        return _half_log(optax.tree.norm(params, squared=True))
    return _log_norm(params, norm)


def log_slope(params: Params, norm: Norm = EUCLIDEAN) -> Float[Array, ""]:
    """log ‖∇‖Θ‖‖₂, which is 0 for the Euclidean norm.

    For (2, p) the slope along θᵢ is (‖θᵢ‖/‖Θ‖)^(p − 1).
    """
    if norm == EUCLIDEAN:
        return jnp.zeros((), jnp.result_type(*jax.tree.leaves(params)))
    lengths = _log_lengths(params)
    logs = (exponent(norm, None) - 1) * (lengths - _log_norm(params, norm))
    return jax.nn.logsumexp(2 * jnp.where(jnp.isfinite(lengths), logs, -jnp.inf)) / 2


def neuron_squares(params: Params) -> Float[Array, " m"]:
    """‖θᵢ‖₂² of every neuron of a two-layer network: column i of W₁ and row i of W₂.

    Raises:
      ValueError: for other parameters: deeper networks are not homogeneous in single neurons, and
        in a tree of another kind nobody knows which layer is the first.
    """
    layers = params if isinstance(params, tuple) else ()
    shapes = [jnp.shape(leaf) for leaf in layers if hasattr(leaf, "shape")]
    is_pair = len(layers) == len(shapes) == 2 and all(len(shape) == 2 for shape in shapes)
    if not is_pair or shapes[0][1] != shapes[1][0]:
        found = shapes if layers else type(params).__name__
        raise ValueError(
            "norm must be 2 unless the parameters are those of two layers, (W₁, W₂) of shapes "
            f"(d, m) and (m, k); got (2, p) for {found}"
        )
    first, last = layers
    return jnp.sum(first**2, axis=0) + jnp.sum(last**2, axis=1)


def _log_norm(params: Params, norm: Norm) -> Float[Array, ""]:
    p = exponent(norm, None)
    return jax.nn.logsumexp(p * _log_lengths(params)) / p


def _log_lengths(params: Params) -> Float[Array, " m"]:
    """log ‖θᵢ‖; −∞ for a dead neuron, unless all are dead."""
    squares = neuron_squares(params)
    alive = squares > jnp.finfo(squares.dtype).tiny
    return jnp.where(alive | ~jnp.any(alive), _half_log(squares), -jnp.inf)


def _half_log(squares: Float[Array, "..."]) -> Float[Array, "..."]:
    """½ log of squares; at 0, where a logarithm's gradient is NaN, that of the smallest float."""
    return jnp.log(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny)) / 2
