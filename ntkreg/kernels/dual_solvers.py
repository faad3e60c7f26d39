"""Solvers of the hard-margin dual: min ½αᵀMα − bᵀα over α ≥ 0, with M = Q + c bbᵀ, b > 0.

Q is the Gram matrix with the labels' signs, its rows and columns scaled to a diagonal of some 1,
and b what that makes of the margins 1 that are asked for, its largest entry 1. With α = s·p and the
best s this is pᵀQp + c where bᵀp = 1, so α/bᵀα minimises pᵀQp there: the squared max margin.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._types import Array, Scalar

CG_ITERATIONS = 200  # of one equation; what it leaves over is solved for by the next
PATIENCE = 3  # exchanges of all wrong samples that may fail to lower their number


def margin_bounds(alpha: Array, q: Array, wanted: Array) -> tuple[Array, Array]:
    """(lower, upper) bound of the best margin, from α ≥ 0, the margins q = Qα it gives, and b."""
    norm = jnp.sqrt(jnp.maximum(alpha @ q, jnp.finfo(q.dtype).tiny))
    return jnp.min(q / wanted) / norm, norm / (alpha @ wanted)


class Goal(NamedTuple):
    """What is asked of a classifier, and what is zero.

    Attributes:
      wanted: b, the margins that are asked for.
      sizes: √Qᵢᵢ.
      rounding: αᵀQα is zero where it is at most so much of (Σ αᵢ√Qᵢᵢ)², the terms it is a sum of.
    """

    wanted: Array
    sizes: Array
    rounding: Scalar


def is_zero(alpha: Array, q: Array, goal: Goal) -> Array:
    """Whether αᵀQα, and with it the best margin, is zero up to rounding."""
    return alpha @ q <= goal.rounding * (alpha @ goal.sizes) ** 2


class _InteriorState(NamedTuple):
    alpha: Array
    slack: Array
    shortfall: Array
    iteration: Array


def _shortfall(alpha: Array, q: Array, goal: Goal) -> Array:
    """The relative gap where α separates (at most 1), else 1 + the bound it puts on the margin.

    Below zero where that bound is zero: then nothing separates, and nothing is left to do.
    """
    lower, upper = margin_bounds(alpha, q, goal.wanted)
    gap = jnp.where(lower > 0, (upper - lower) / upper, 1.0 + upper)
    return jnp.where(is_zero(alpha, q, goal), -1.0, gap)


def interior_point(
    signed: Array, goal: Goal, tolerance: Scalar, max_iterations: int
) -> tuple[Array, Array]:
    """(α, number of iterations) by Mehrotra's predictor-corrector.

    Optimal where Mα − b = s ≥ 0 and αᵢsᵢ = 0. One Cholesky factor of M + diag(s/α) a step, which
    is positive definite whatever the rank of Q.

    Source: Mehrotra (SIAM J. Optim. 1992).

    Args:
      signed: Q, in the dtype to compute in.
    """
    n, wanted = signed.shape[0], goal.wanted.astype(signed.dtype)
    goal = Goal(wanted, goal.sizes.astype(signed.dtype), goal.rounding)
    shifted = signed + wanted[:, None] * wanted

    def body(state: _InteriorState) -> _InteriorState:
        alpha, slack = state.alpha, state.slack
        residual = shifted @ alpha - wanted - slack
        matrix = shifted + jnp.diag(slack / alpha + goal.rounding)
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
        return _InteriorState(
            alpha, slack, _shortfall(alpha, signed @ alpha, goal), state.iteration + 1
        )

    def proceeds(state: _InteriorState) -> Array:
        tiny = 1e-3 * jnp.finfo(signed.dtype).eps
        complementary = jnp.all(state.alpha * state.slack <= tiny * wanted**2)
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

    alpha = wanted * ((wanted @ wanted) / (wanted @ shifted @ wanted))
    first = _InteriorState(alpha, wanted, jnp.asarray(jnp.inf, signed.dtype), jnp.int32(0))
    best, _ = jax.lax.while_loop(lambda carry: proceeds(carry[1]), guarded, (first, first))
    return best.alpha, best.iteration


def _step_length(value: Array, step: Array) -> Array:
    """The largest t ≤ 1 with value + t·step ≥ 0."""
    return jnp.minimum(1.0, jnp.min(jnp.where(step < 0, -value / step, jnp.inf)))


class _ActiveSetState(NamedTuple):
    free: Array
    alpha: Array
    gradient: Array
    num_wrong: Array
    patience: Array
    shortfall: Array
    iteration: Array


def active_set(
    product: Callable[[Array], Array],
    rough_product: Callable[[Array], Array],
    goal: Goal,
    tolerance: Scalar,
    max_iterations: int,
) -> tuple[Array, Array]:
    """(α, number of iterations) from products with Q alone, by block pivoting.

    With F the free samples and M = Q + c bbᵀ, c the mean entry of Q over that of bbᵀ, each
    iteration solves M_FF α_F = b by conjugate gradients; then the free with α < 0 leave F and the
    others with (Mα − b) < 0 enter it, all at once while their number falls, else one at a time. A
    wrong F is most often right after a few exchanges, where Q is positive definite; where it is
    singular, with many more samples than support vectors, it need not end.

    Source: Júdice and Pires (Comput. Oper. Res. 1994).

    Args:
      product, rough_product: v -> Qv; the second may be less accurate, since what it leaves is
        solved for by the next iteration.
    """
    wanted = goal.wanted  # in the dtype to compute in
    num_samples, dtype = wanted.shape[0], wanted.dtype
    uniform = jnp.full(num_samples, 1.0 / num_samples, dtype)
    shift = jnp.maximum(uniform @ product(uniform), jnp.finfo(dtype).eps)
    shift = shift / (uniform @ wanted) ** 2

    def solved(state: _ActiveSetState) -> _ActiveSetState:
        free = state.free
        masked = lambda v: jnp.where(free, rough_product(v) + shift * (wanted @ v) * wanted, 0.0)
        target = jnp.where(free, -state.gradient, 0.0)
        step, _ = jax.scipy.sparse.linalg.cg(masked, target, tol=1e-2, maxiter=CG_ITERATIONS)
        alpha = state.alpha + jnp.where(free, step, 0.0)
        q = product(alpha)
        shortfall = jnp.where(jnp.all(alpha >= 0), _shortfall(alpha, q, goal), jnp.inf)
        gradient = q + (shift * (wanted @ alpha) - 1.0) * wanted
        return state._replace(
            alpha=alpha, gradient=gradient, shortfall=shortfall, iteration=state.iteration + 1
        )

    def exchanged(state: _ActiveSetState) -> _ActiveSetState:
        free, alpha, gradient = state.free, state.alpha, state.gradient
        # Slopes smaller than what the equations were solved to have no sign yet.
        residual = jnp.max(jnp.abs(jnp.where(free, gradient, 0.0)))
        wrong = jnp.where(free, alpha < 0, gradient < -residual)
        num_wrong = jnp.sum(wrong, dtype=jnp.int32)
        fewer = num_wrong < state.num_wrong
        last = jnp.arange(num_samples) == jnp.max(jnp.where(wrong, jnp.arange(num_samples), -1))
        free = free ^ jnp.where(fewer | (state.patience > 0), wrong, last)
        kept = jnp.where(free, alpha, 0.0)
        return state._replace(
            free=free,
            alpha=kept,
            gradient=product(kept) + (shift * (wanted @ kept) - 1.0) * wanted,
            num_wrong=jnp.minimum(num_wrong, state.num_wrong),
            patience=jnp.where(fewer, PATIENCE, state.patience - 1),
        )

    every = jnp.ones(num_samples, bool)
    zero, inf = jnp.zeros(num_samples, dtype), jnp.asarray(jnp.inf, dtype)
    first = _ActiveSetState(
        every, zero, -wanted, jnp.int32(num_samples + 1), jnp.int32(PATIENCE), inf, jnp.int32(0)
    )
    final = jax.lax.while_loop(
        lambda state: (state.shortfall > tolerance) & (state.iteration < max_iterations),
        lambda state: solved(exchanged(state)),
        solved(first),
    )
    return jnp.maximum(final.alpha, 0.0), final.iteration
