"""Solvers of the hard-margin dual: min ½αᵀMα − 1ᵀα over α ≥ 0, with M = Q + 11ᵀ.

Q is the Gram matrix with the labels' signs, scaled to a diagonal of at most 1. With α = s·p and the
best s, this is pᵀQp + 1 on the simplex, so α/Σα minimises pᵀQp: the squared max margin.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._types import Array, Scalar


def margin_bounds(alpha: Array, q: Array) -> tuple[Array, Array]:
    """(lower, upper) bound of the best margin, from α ≥ 0 and the margins q = Qα it gives."""
    norm = jnp.sqrt(jnp.maximum(alpha @ q, jnp.finfo(q.dtype).tiny))
    return jnp.min(q) / norm, norm / jnp.sum(alpha)


class _InteriorState(NamedTuple):
    alpha: Array
    slack: Array
    shortfall: Array
    iteration: Array


def _shortfall(alpha: Array, q: Array) -> Array:
    """The relative gap where α separates (at most 1), else 1 + the bound it puts on the margin."""
    lower, upper = margin_bounds(alpha, q)
    return jnp.where(lower > 0, (upper - lower) / upper, 1.0 + upper)


def interior_point(signed: Array, tolerance: Scalar, max_iterations: int) -> tuple[Array, Array]:
    """(α, number of iterations) by Mehrotra's predictor-corrector.

    Optimal where Mα − 1 = s ≥ 0 and αᵢsᵢ = 0. One Cholesky factor of M + diag(s/α) a step, which
    is positive definite whatever the rank of Q.

    Source: Mehrotra (SIAM J. Optim. 1992).
    """
    n = signed.shape[0]
    eps = jnp.finfo(signed.dtype).eps
    shifted = signed + 1.0

    def body(state: _InteriorState) -> _InteriorState:
        alpha, slack = state.alpha, state.slack
        residual = shifted @ alpha - 1.0 - slack
        matrix = shifted + jnp.diag(slack / alpha + 4 * eps)
        factor = jax.scipy.linalg.cho_factor(matrix, lower=True)

        def direction(target):  # of αs; the Newton step towards it
            step = jax.scipy.linalg.cho_solve(factor, (target - alpha * slack) / alpha - residual)
            return step, (target - alpha * slack - slack * step) / alpha

        mu = alpha @ slack / n
        step, slack_step = direction(jnp.zeros(n, alpha.dtype))
        size = jnp.minimum(_step_length(alpha, step), _step_length(slack, slack_step))
        ahead = (alpha + size * step) @ (slack + size * slack_step) / n
        centre = (ahead / mu) ** 3 * mu
        step, slack_step = direction(centre - step * slack_step)
        size = 0.995 * jnp.minimum(_step_length(alpha, step), _step_length(slack, slack_step))
        alpha, slack = alpha + size * step, slack + size * slack_step
        return _InteriorState(alpha, slack, _shortfall(alpha, signed @ alpha), state.iteration + 1)

    def proceeds(state: _InteriorState) -> Array:
        complementary = state.alpha @ state.slack <= 1e-3 * eps
        return (state.shortfall > tolerance) & ~complementary & (state.iteration < max_iterations)

    # Beyond the last digits the factor can turn non-finite: that ends it, with the best iterate.
    def guarded(carry):
        best, state = carry
        new = body(state)
        good = jnp.all(jnp.isfinite(new.alpha)) & jnp.all(jnp.isfinite(new.slack))
        better = good & (new.shortfall <= best.shortfall)
        best = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, best)
        ended = new._replace(iteration=jnp.where(good, new.iteration, max_iterations))
        return best._replace(iteration=new.iteration), ended

    start = n / jnp.sum(shifted)
    alpha = jnp.full(n, start, signed.dtype)
    slack = jnp.ones(n, signed.dtype)
    first = _InteriorState(alpha, slack, jnp.asarray(jnp.inf, signed.dtype), jnp.int32(0))
    best, _ = jax.lax.while_loop(lambda carry: proceeds(carry[1]), guarded, (first, first))
    return best.alpha, best.iteration


def _step_length(value: Array, step: Array) -> Array:
    """The largest t ≤ 1 with value + t·step ≥ 0."""
    return jnp.minimum(1.0, jnp.min(jnp.where(step < 0, -value / step, jnp.inf)))


def accelerated_gradient(
    product: Callable[[Array], Array], labels: Array, tolerance: Scalar, max_iterations: int
) -> tuple[Array, Array]:
    """(α, number of iterations) by projected gradient with momentum and restarts.

    It needs nothing but `product`, v -> Qv.

    Source: Nesterov (1983); O'Donoghue and Candès (Found. Comput. Math. 2015) for the restarts.
    """
    n, dtype = labels.shape[0], labels.dtype
    shifted = lambda v: product(v) + jnp.sum(v)
    direction = jnp.ones(n, dtype) / jnp.sqrt(n)
    for _ in range(20):
        direction = shifted(direction)
        lipschitz = 1.05 * jnp.linalg.norm(direction)
        direction = direction / jnp.linalg.norm(direction)

    def body(carry):
        alpha, ahead, momentum, _, iteration = carry
        new = jnp.maximum(ahead - (shifted(ahead) - 1.0) / lipschitz, 0.0)
        restart = (ahead - new) @ (new - alpha) > 0
        grown = jnp.where(restart, 1.0, (1.0 + jnp.sqrt(1.0 + 4.0 * momentum**2)) / 2.0)
        weight = jnp.where(restart, 0.0, (momentum - 1.0) / grown)
        gap = jax.lax.cond(
            iteration % 20 == 0, lambda: _shortfall(new, product(new)), lambda: carry[3]
        )
        return new, new + weight * (new - alpha), grown, gap, iteration + 1

    alpha = jnp.full(n, 1.0 / n, dtype)
    one = jnp.ones((), dtype)
    carry = (alpha, alpha, one, jnp.inf * one, jnp.int32(0))
    alpha, _, _, _, iterations = jax.lax.while_loop(
        lambda c: (c[3] > tolerance) & (c[4] < max_iterations), body, carry
    )
    return alpha, iterations
