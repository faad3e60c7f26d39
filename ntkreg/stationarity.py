"""How near to a stationary point of F_λ a network is, on kinks as well.

A ReLU network's best parameters tend to lie where some unit is at zero on some sample. There F has
no gradient, and near it the gradients on either side stay large. What vanishes is their least
convex combination.
"""

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ntkreg._types import Array, Float, Params, PRNGKey, Scalar
from ntkreg.data import Dataset
from ntkreg.objectives import get_loss, log_objective
from ntkreg.trainers import Trainer

RADII = (1e-6, 1e-5, 1e-4)  # of the balls around the parameters, relative to ‖Θ‖
NUM_GRADIENTS = 128
PROJECTED_STEPS = 500


def log_residual(
    trainer: Trainer, data: Dataset, log_lam: Scalar, params: Params, key: PRNGKey
) -> Float[Array, ""]:
    """log of dist(0, conv ∂F)/‖∇λ‖Θ‖^r‖: the relative residual of λ r‖Θ‖^(r−2)Θ = −∇loss.

    Without units and unchanged where the loss and λ are multiplied by a number, or Θ is counted in
    others. conv ∂F is estimated by the convex hull of gradients at random points in a ball around
    Θ; the best of three radii counts. It is a bound from above of Goldstein's ε-subdifferential's
    distance, up to the sampling, so a small one tells that no direction descends by much. It is +∞
    at the zero network, which is stationary and has learned nothing.

    Source: Burke, Lewis, Overton (SIAM J. Optimization 2005) for the sampling; Lyu and Li (ICLR
    2020) for the condition.
    """
    flat, unravel = ravel_pytree(params)
    norm = jnp.linalg.norm(flat)
    loss, network, power = get_loss(trainer.loss), trainer.network, trainer.power
    value = lambda p: log_objective(loss, network, unravel(p), data, log_lam, power)
    moves = jax.random.normal(key, (NUM_GRADIENTS, flat.size), flat.dtype) / flat.size**0.5

    def least(radius: float) -> Array:
        gradients = jax.lax.map(lambda move: jax.grad(value)(flat + radius * norm * move), moves)
        return least_norm(gradients)

    distance = jnp.stack([least(radius) for radius in RADII]).min()
    log_penalty_slope = log_lam + jnp.log(power) + (power - 1) * jnp.log(norm)
    return jnp.where(norm > 0, jnp.log(distance) + value(flat) - log_penalty_slope, jnp.inf)


def least_norm(vectors: Float[Array, "k p"]) -> Float[Array, ""]:
    """The norm of the shortest vector in the convex hull of k vectors, from above.

    By accelerated projected gradient on the weights. Source: Beck and Teboulle (SIAM J. Imaging
    Sciences 2009).
    """
    gram = vectors @ vectors.T
    rate = 1.0 / jnp.maximum(jnp.linalg.norm(gram), jnp.finfo(gram.dtype).tiny)
    first = jnp.full(len(gram), 1.0 / len(gram), gram.dtype)

    def step(_, carry):
        weights, ahead, momentum = carry
        new = optax.projections.projection_simplex(ahead - rate * (gram @ ahead))
        grown = (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        return new, new + (momentum - 1.0) / grown * (new - weights), grown

    start = (first, first, jnp.ones((), gram.dtype))
    weights, _, _ = jax.lax.fori_loop(0, PROJECTED_STEPS, step, start)
    return jnp.sqrt(jnp.maximum(weights @ gram @ weights, 0.0))
