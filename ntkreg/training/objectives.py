"""Losses and the regularised objective F = (1/n) Σ ℓ + λ‖Θ‖^r, plain and in the log domain."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._types import Array, Float, Params, Scalar, Shaped
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network
from ntkreg.training import norms
from ntkreg.training.norms import EUCLIDEAN, Norm


class Loss(NamedTuple):
    """A loss per sample, ℓ > 0 and log ℓ, each of (outputs, labels) -> "n".

    One of your own goes wherever a name does in `trainers` and `paths`. With labels ±1 it is a
    falling function of the margin yf, with classes one of the differences of outputs, or dual
    weights mean nothing. Make it once: compiled functions are found again by its functions.

    Attributes:
      value: ℓ itself.
      log_value: log ℓ, accurate where ℓ is far below the smallest float.
      labels: the labels that it takes: "sign" (±1), "class" (indices) or "real".
    """

    value: Callable[[Array, Array], Array]
    log_value: Callable[[Array, Array], Array]
    labels: str


def log_softplus_neg(q: Float[Array, "..."]) -> Float[Array, "..."]:
    """log log(1 + e^(−q)), the log of the logistic loss at margin q, for q of any size.

    Beyond q = 20 it is −q − e^(−q)/2 up to O(e^(−2q)), below the rounding of float64.
    """
    far = q > 20.0
    # Each branch sees only its own q: the gradient of the one not taken must be finite too.
    far_q, near_q = jnp.where(far, q, 20.0), jnp.where(far, 0.0, q)
    return jnp.where(far, -far_q - jnp.exp(-far_q) / 2, jnp.log(jax.nn.softplus(-near_q)))


def soft_margin(outputs: Float[Array, "n k"], labels: Shaped[Array, " n"]) -> Float[Array, " n"]:
    """f_y − log Σ_{j≠y} exp f_j: the margin at which the logistic loss is the cross-entropy."""
    is_label = jax.nn.one_hot(labels, outputs.shape[-1], dtype=bool)
    others = jnp.where(is_label, -jnp.inf, outputs)
    own = jnp.sum(jnp.where(is_label, outputs, 0.0), axis=-1)
    return own - jax.nn.logsumexp(others, axis=-1)


def _log_squared(outputs: Array, labels: Array) -> Array:
    # log 0 would have no gradient; the smallest float stands in for an exact fit.
    return jnp.log(jnp.maximum((outputs - labels) ** 2, jnp.finfo(outputs.dtype).tiny))


LABELS = ("sign", "class", "real")

LOSSES = {
    "logistic": Loss(
        lambda f, y: jax.nn.softplus(-y * f), lambda f, y: log_softplus_neg(y * f), "sign"
    ),
    "exponential": Loss(lambda f, y: jnp.exp(-y * f), lambda f, y: -y * f, "sign"),
    "cross_entropy": Loss(
        lambda f, y: jax.nn.softplus(-soft_margin(f, y)),
        lambda f, y: log_softplus_neg(soft_margin(f, y)),
        "class",
    ),
    "squared": Loss(lambda f, y: (f - y) ** 2, _log_squared, "real"),
}


def get_loss(loss: str | Loss) -> Loss:
    """The loss of that name; a Loss as it is.

    logistic log(1 + e^(−yf)), exponential e^(−yf), squared (f − y)² (no factor ½), and
    cross_entropy −log softmax(f)_y, which is the logistic loss of the soft margin.

    Raises:
      ValueError: for an unknown name, or a Loss of unknown labels.
    """
    if isinstance(loss, Loss):
        if loss.labels not in LABELS:
            raise ValueError(f"labels must be one of {', '.join(LABELS)}, got {loss.labels!r}")
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, or a Loss, got {loss!r}")
    return LOSSES[loss]


def mean_loss(loss: Loss, network: Network, params: Params, data: Dataset) -> Float[Array, ""]:
    """(1/n) Σ ℓ(yᵢ, f(Θ; xᵢ))."""
    return jnp.mean(loss.value(network.apply(params, data.x), data.y))


def log_mean_loss(loss: Loss, network: Network, params: Params, data: Dataset) -> Float[Array, ""]:
    """log (1/n) Σ ℓ(yᵢ, f(Θ; xᵢ)), every term kept in the log domain."""
    logs = loss.log_value(network.apply(params, data.x), data.y)
    return jax.nn.logsumexp(logs) - jnp.log(logs.shape[0])


def objective(
    loss: Loss,
    network: Network,
    params: Params,
    data: Dataset,
    log_lam: Scalar,
    power: float | None = None,
    norm: Norm = EUCLIDEAN,
) -> Float[Array, ""]:
    """F_λ(Θ) = (1/n) Σ ℓ(yᵢ, f(Θ; xᵢ)) + λ‖Θ‖^power, with λ = exp(log_lam).

    The norm is the Euclidean one and the power 2; or `norm` is (2, p), and the power p: then the
    penalty is λ Σᵢ ‖θᵢ‖₂^p over neurons (`norms`). log_lam = −inf is λ = 0.

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Sections 2 and 4.

    Raises:
      ValueError: for (2, p) and a network that is not of two layers.
    """
    penalty = jnp.exp(log_lam) * norms.to_power(params, norm, norms.exponent(norm, power))
    return mean_loss(loss, network, params, data) + penalty


def log_objective(
    loss: Loss,
    network: Network,
    params: Params,
    data: Dataset,
    log_lam: Scalar,
    power: float | None = None,
    norm: Norm = EUCLIDEAN,
) -> Float[Array, ""]:
    """log F_λ(Θ), every term kept in the log domain, so that λ may be far below the smallest float.

    It has the minimizers of F and other dynamics: a gradient step on log F is one on F with the
    step size divided by F.
    """
    log_penalty = log_lam + norms.exponent(norm, power) * norms.log_norm(params, norm)
    return jnp.logaddexp(log_mean_loss(loss, network, params, data), log_penalty)
