"""Margins of a network on data, and what the theory reads off them."""

import jax
import jax.numpy as jnp

from ntkreg._types import Array, Bool, Float, Params
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network
from ntkreg.training.norms import EUCLIDEAN, Norm, norm_of
from ntkreg.training.objectives import Loss


def margins(network: Network, params: Params, data: Dataset) -> Float[Array, " n"]:
    """qᵢ = yᵢ f(Θ; xᵢ); with several outputs f_y(Θ; xᵢ) − max_{j≠y} f_j(Θ; xᵢ)."""
    pairs = margin_pairs(network, params, data)
    return pairs if pairs.ndim == 1 else jnp.min(pairs, axis=-1)


def margin_pairs(
    network: Network, params: Params, data: Dataset
) -> Float[Array, " n"] | Float[Array, "n m"]:
    """yᵢ f(Θ; xᵢ); with k outputs f_y − f_j for each of the k − 1 classes j ≠ yᵢ.

    Raises:
      ValueError: for classes of a dtype that is not an integer's.
    """
    outputs = network.apply(params, data.x)
    if outputs.ndim == 1:
        return data.y * outputs
    if not jnp.issubdtype(data.y.dtype, jnp.integer):
        raise ValueError(f"data.y must be classes of an integer dtype, got {data.y.dtype}")
    own = jnp.take_along_axis(outputs, data.y[:, None], axis=-1)
    return own - _of_others(outputs, data)


def _of_others(outputs: Float[Array, "n k"], data: Dataset) -> Float[Array, "n m"]:
    """The entries of every row at the k − 1 classes that are not its label."""
    num_classes = outputs.shape[-1]
    others = (data.y[:, None] + jnp.arange(1, num_classes)[None]) % num_classes
    return jnp.take_along_axis(outputs, others, axis=-1)


def normalized_margin(
    network: Network, params: Params, data: Dataset, norm: Norm = EUCLIDEAN
) -> Float[Array, ""]:
    """γ = minᵢ qᵢ / ‖Θ‖^order: the smallest margin at unit norm, negative where one is wrong.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> params = jnp.array([[1.0, -1.0]]), jnp.array([[1.0], [-1.0]])
    >>> float(normalized_margin(fully_connected(depth=2, width=2), params, two))
    0.25

    0 of the zero network. The norm is the Euclidean one, or (2, p) (`norms`).

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4; Lyu and Li (ICLR 2020).

    Raises:
      ValueError: for (2, p) and a network that is not of two layers.
    """
    return _at_unit_norm(jnp.min(margins(network, params, data)), network, params, norm)


def _at_unit_norm(
    output: Float[Array, ""], network: Network, params: Params, norm: Norm
) -> Float[Array, ""]:
    size = norm_of(params, norm) ** network.order
    return output / jnp.where(size > 0, size, 1.0)


def dual_weights(
    loss: Loss, network: Network, params: Params, data: Dataset
) -> Float[Array, " n"] | Float[Array, "n m"]:
    """Weights of the `margin_pairs` at which the mean loss falls: α ∝ −∂ℓ/∂q with Σα = 1.

    For a loss of the margin q = y f with labels ±1, −ℓ′ = ℓ · (−d log ℓ/dq), so its log is
    log ℓ + log(−d log ℓ/dq). With several outputs ℓ is a function of the differences f_y − f_j, and
    −∂ℓ/∂(f_y − f_j) is ∂ℓ/∂f_j; softmax(f)_j for the cross-entropy. No term underflows.
    """
    outputs = network.apply(params, data.x)
    if outputs.ndim == 2:
        logs, pull = jax.vjp(lambda f: loss.log_value(f, data.y), outputs)
        slopes = _of_others(pull(jnp.ones_like(logs))[0], data)
        return jax.nn.softmax(logs[:, None] + jnp.log(slopes), axis=(0, 1))
    q = data.y * outputs
    ones = jnp.ones_like(q)
    log_loss, slope = jax.jvp(lambda m: loss.log_value(m, ones), (q,), (ones,))
    return jax.nn.softmax(log_loss + jnp.log(-slope))


def dual_weighted_margin(
    loss: Loss, network: Network, params: Params, data: Dataset, norm: Norm = EUCLIDEAN
) -> Float[Array, ""]:
    """Σ αq / ‖Θ‖^order over the `margin_pairs` q with the network's own dual weights α.

    An estimate of the max margin γ* from one trained network, with an error of O(1/‖Θ‖^(2·order))
    where the normalized margin's is O(1/‖Θ‖^order). It is at most D(α), the largest Σ αq/‖Θ‖^order
    that any network has, and γ* ≤ D(α) for all weights. So γ* lies between normalized and
    dual-weighted margin where the network is itself best for its own weights, as the global
    minimizer of F_λ is at depth 2 if a neuron's part of the norm to its power grows like what the
    neuron gives: ‖Θ‖₂ for relu, (2, 3) for z². `certificates.dual_bound` checks it for relu.
    Elsewhere it bounds nothing.

    Source: derived here; see `path_law`.
    """
    alpha, pairs = dual_weights(loss, network, params, data), margin_pairs(network, params, data)
    return _at_unit_norm(jnp.sum(alpha * pairs), network, params, norm)


def activation_patterns(
    first_layer: Float[Array, "d m"], x: Float[Array, "n d"]
) -> Bool[Array, "n m"]:
    """Which first-layer units are on at which sample: uⱼᵀxᵢ > 0."""
    return x @ first_layer > 0
