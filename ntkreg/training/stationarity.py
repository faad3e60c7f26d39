"""How near to a stationary point of F_λ a network is, on kinks as well.

A ReLU network's best parameters tend to lie where some unit is at zero on some sample. There F has
no gradient, and near it the gradients on either side stay large. What vanishes is their smallest
convex combination.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from ntkreg._types import Array, Float, Params, Scalar
from ntkreg.data.dataset import Dataset
from ntkreg.networks.network import Network
from ntkreg.training import norms
from ntkreg.training.norms import EUCLIDEAN, Norm
from ntkreg.training.objectives import Loss, log_objective

CONVERGED = 1e-3  # the residual below which an optimizer has done its work
RADII = (1e-6, 1e-5, 1e-4)  # of the balls around the parameters, relative to ‖Θ‖
NUM_GRADIENTS = 64  # collected in each
PROJECTED_STEPS = 30  # for the weights, after every new gradient


def log_residual(
    loss: Loss,
    network: Network,
    params: Params,
    data: Dataset,
    log_lam: Scalar,
    power: float | None = None,
    norm: Norm = EUCLIDEAN,
) -> Float[Array, ""]:
    """log of dist(0, ∂F)/‖∇λ‖Θ‖^r‖: the relative residual of ∇λ‖Θ‖^r ∈ −∂ loss.

    It has no units: it stays where loss and λ are multiplied by one number. ∂F is Goldstein's
    subdifferential, the convex hull of all gradients in a small ball around Θ; the distance is from
    above, and the best of three radii counts. A small one says that no direction descends by much
    at once, not that the minimum is global: slow saddles pass. +∞ at the zero network, which is
    stationary and has learned nothing.

    Source: Goldstein (Mathematical Programming 1977); Lyu and Li (ICLR 2020) for the condition.
    """
    flat, unravel = ravel_pytree(params)
    length, r = jnp.linalg.norm(flat), norms.exponent(norm, power)
    value = lambda p: log_objective(loss, network, unravel(p), data, log_lam, power, norm)
    distances = jax.lax.map(
        lambda radius: shortest_gradient(jax.grad(value), flat, radius * length),
        jnp.array(RADII, flat.dtype),
    )
    log_penalty_slope = log_lam + jnp.log(r) + (r - 1) * norms.log_norm(params, norm)
    log_penalty_slope += norms.log_slope(params, norm)
    log_distance = jnp.log(distances.min())
    return jnp.where(length > 0, log_distance + value(flat) - log_penalty_slope, jnp.inf)


def shortest_gradient(
    gradient: Callable[[Array], Array], centre: Float[Array, " p"], radius: Scalar
) -> Float[Array, ""]:
    """The norm of the shortest convex combination of gradients in a ball, from above.

    Each next gradient is taken at the ball's edge, against the shortest combination so far: where
    that is no descent direction, the gradient there turns it. The weights are bettered by
    accelerated projected gradient after each.

    Source: Wolfe (Mathematical Programming Study 3, 1975), whose points lie on his line searches.
    """
    _, exponent = jnp.frexp(jnp.linalg.norm(gradient(centre)))
    # Products of tiny gradients underflow; a power of two takes their size away exactly.
    scaled = lambda at: jnp.ldexp(gradient(at), -exponent)
    first = scaled(centre)
    gradients = jnp.zeros((NUM_GRADIENTS, centre.size), centre.dtype).at[0].set(first)
    gram = jnp.zeros((NUM_GRADIENTS, NUM_GRADIENTS), centre.dtype).at[0, 0].set(first @ first)
    weights = jnp.zeros(NUM_GRADIENTS, centre.dtype).at[0].set(1.0)

    def collect(count, carry):
        gradients, gram, weights = carry
        shortest = weights @ gradients
        length = jnp.maximum(jnp.linalg.norm(shortest), jnp.finfo(centre.dtype).tiny)
        edge = centre - radius * shortest / length
        new = scaled(edge)
        gradients = gradients.at[count].set(new)
        products = gradients @ new
        gram = gram.at[count].set(products).at[:, count].set(products)
        return gradients, gram, _bettered(gram, weights, count + 1)

    carry = (gradients, gram, weights)
    gradients, _, weights = jax.lax.fori_loop(1, NUM_GRADIENTS, collect, carry)
    return jnp.ldexp(jnp.linalg.norm(weights @ gradients), exponent)


def _bettered(gram: Float[Array, "k k"], weights: Float[Array, " k"], count: Array) -> Array:
    """Weights on the first `count` vectors with a shorter combination.

    Source: Beck and Teboulle (SIAM J. Imaging Sciences 2009).
    """
    known = jnp.arange(len(gram)) < count
    rate = 1.0 / jnp.maximum(jnp.linalg.norm(gram), jnp.finfo(gram.dtype).tiny)

    def step(_, carry):
        weights, ahead, momentum = carry
        moved = jnp.where(known, ahead - rate * (gram @ ahead), -jnp.inf)
        new = optax.projections.projection_simplex(moved).astype(gram.dtype)
        grown = (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        return new, new + (momentum - 1.0) / grown * (new - weights), grown

    start = (weights, weights, jnp.ones((), gram.dtype))
    return jax.lax.fori_loop(0, PROJECTED_STEPS, step, start)[0]
