"""Margins of a network on data, and what the theory reads off them."""

import jax
import jax.numpy as jnp
import optax

from ntkreg._types import Array, Bool, Float, Params
from ntkreg.data import Dataset
from ntkreg.networks import Network
from ntkreg.objectives import Loss


def margins(network: Network, params: Params, data: Dataset) -> Float[Array, " n"]:
    """qᵢ = yᵢ f(Θ; xᵢ); with several outputs f_y(Θ; xᵢ) − max_{j≠y} f_j(Θ; xᵢ)."""
    outputs = network.apply(params, data.x)
    if outputs.ndim == 1:
        return data.y * outputs
    is_label = jax.nn.one_hot(data.y, outputs.shape[-1], dtype=bool)
    own = jnp.sum(jnp.where(is_label, outputs, 0.0), axis=-1)
    return own - jnp.max(jnp.where(is_label, -jnp.inf, outputs), axis=-1)


def normalized_margin(network: Network, params: Params, data: Dataset) -> Float[Array, ""]:
    """γ = minᵢ qᵢ / ‖Θ‖₂^order: the smallest margin at unit norm, negative where one is wrong.

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4; Lyu and Li (ICLR 2020).
    """
    return jnp.min(margins(network, params, data)) / optax.tree.norm(params) ** network.order


def dual_weights(loss: Loss, network: Network, params: Params, data: Dataset) -> Float[Array, " n"]:
    """αᵢ ∝ −ℓ′(qᵢ) with Σα = 1, for a loss of the margin q = y f with labels ±1.

    −ℓ′ = ℓ · (−d log ℓ/dq), so its log is log ℓ + log(−d log ℓ/dq): no term underflows.
    """
    q = data.y * network.apply(params, data.x)
    ones = jnp.ones_like(q)
    log_loss, slope = jax.jvp(lambda m: loss.log_value(m, ones), (q,), (ones,))
    return jax.nn.softmax(log_loss + jnp.log(-slope))


def dual_weighted_margin(
    loss: Loss, network: Network, params: Params, data: Dataset
) -> Float[Array, ""]:
    """Σ αᵢqᵢ / ‖Θ‖₂^order with the network's own dual weights α.

    At a global minimizer of F_λ it is at least the max margin γ*, and off it by O(1/‖Θ‖^(2·order));
    elsewhere it bounds nothing.
    """
    weighted = jnp.sum(dual_weights(loss, network, params, data) * margins(network, params, data))
    return weighted / optax.tree.norm(params) ** network.order


def activation_patterns(
    first_layer: Float[Array, "d m"], x: Float[Array, "n d"]
) -> Bool[Array, "n m"]:
    """Which first-layer units are on at which sample: uⱼᵀxᵢ > 0."""
    return x @ first_layer > 0
