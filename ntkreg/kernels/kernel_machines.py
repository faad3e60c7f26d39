"""Predictors from a Gram matrix: hard-margin SVM, ℓ2-regularised logistic path, ridge, min-norm.

Every predictor is f(x) = Σⱼ βⱼ K(xⱼ, x), without bias; `coefficients` is β, and predictions are
K(x, X) @ β. All run in JAX on any device, in the dtype of the Gram matrix; what comes from products
is in float64 where JAX has it. Where a `GramOperator` may stand for the matrix, products do, and no
array of its size is made beside it.

The hard-margin dual is min ½αᵀMα − bᵀα over α ≥ 0, with M = Q + c bbᵀ, b > 0. Q is the Gram matrix
with the labels' signs, its rows and columns scaled to a diagonal of some 1, and b what that makes
of the margins 1 that are required, its largest entry 1. With α = s·p and the best s this is
pᵀQp + c where bᵀp = 1, so α/bᵀα minimises pᵀQp there: the squared max margin.
"""

import functools
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._checks import check_lams
from ntkreg._compat import is_concrete
from ntkreg._types import Array, Float, Int, Scalar
from ntkreg.kernels.gram import GramOperator, as_operator, checked_gram, solve_shifted
from ntkreg.networks.arc_cosine import power_of_two

CG_ITERATIONS = 200  # of one equation; what it leaves over is solved for by the next
PATIENCE = 3  # exchanges of all wrong samples that may fail to lower their number


def margin_bounds(alpha: Array, q: Array, wanted: Array) -> tuple[Array, Array]:
    """(lower, upper) bound of the best margin, from α ≥ 0, the margins q = Qα it gives, and b."""
    norm = jnp.sqrt(jnp.maximum(alpha @ q, jnp.finfo(q.dtype).tiny))
    return jnp.min(q / wanted) / norm, norm / (alpha @ wanted)


class Goal(NamedTuple):
    """The margins of a classifier, and what is zero.

    Attributes:
      wanted: b, the margins that it must have.
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
      product: v -> Qv.
      rough_product: v -> Qv, which may be less accurate, since what it leaves is solved for by the
        next iteration.
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


# Up to the first size `auto` factorises at once; up to the second where products did not do.
SMALL, LARGEST_FACTORISED = 500, 20_000

# A squared margin is zero where it is at most so many ε of the terms that it is the sum of: entries
# that are rounded, as those of `kernels.ntk` are, leave one or two.
ROUNDING = 3

SOLVERS = ("interior_point", "active_set")
NEWTON_STEPS = 30  # of the logistic path, at each λ
STATIONARY = 1e3  # so many ε of the gradient's terms are left over at the end of them


class NotSeparable(ValueError):
    """No function of this kind classifies all the samples, up to rounding."""


class HardMarginSVM(NamedTuple):
    """The max-margin classifier, and how far it can be from optimal.

    Attributes:
      coefficients: β, scaled so that the smallest yᵢf(xᵢ) is 1 (where the margin is positive). Like
        the margins in float64 where JAX has it, whatever the Gram matrix is in: rounded to float32
        they give a margin that is some 1e-5 smaller.
      margin: minᵢ yᵢf(xᵢ)/‖f‖_H, reached by f: a lower bound of the best margin.
      margin_upper: √(αᵀQα)/Σα ≥ the best margin, from weak duality.
      relative_gap: (margin_upper − margin)/margin_upper.
      num_iterations: of the solver.
    """

    coefficients: Float[Array, " n"]
    margin: Float[Array, ""]
    margin_upper: Float[Array, ""]
    relative_gap: Float[Array, ""]
    num_iterations: Int[Array, ""]


def hard_margin_svm(
    gram: Float[Array, "n n"] | GramOperator,
    labels: Float[Array, " n"],
    solver: Literal["auto", "interior_point", "active_set"] = "auto",
    tolerance: float | None = None,
    max_iterations: int = 60,
) -> HardMarginSVM:
    """The classifier f in the kernel's space with the largest minᵢ yᵢf(xᵢ)/‖f‖_H, without bias.

    >>> svm = hard_margin_svm(jnp.eye(2), jnp.array([1.0, -1.0]))
    >>> round(float(svm.margin), 4)  # 1/√2
    0.7071

    Primal: min ½‖f‖² with yᵢf(xᵢ) ≥ 1. Dual, with Q = yyᵀ∘K: the best margin is the minimum of
    √(pᵀQp) over the simplex. It is solved as min ½αᵀ(Q + c11ᵀ)α − 1ᵀα over α ≥ 0: with α = s·p
    and the best s this is pᵀQp + c on the simplex, so α/Σα is the same for every c > 0, and the
    problem stays bounded where the data are not separable. Repeated samples, singular matrices and
    lengths of samples that are far apart do no harm: rows and columns are scaled by powers of two
    to a diagonal of about 1. Both bounds of the margin are computed from α, not taken from the
    solver.

    Args:
      gram: K(xᵢ, xⱼ), positive semidefinite, or its operator, which `active_set` alone can use.
      labels: −1 or +1.
      solver: `interior_point` factorises, n³/3 operations in each of some 15 iterations;
        `active_set` takes some 200 products of the matrix with a vector, and needs a positive
        definite one, as the NTK's is, to converge; `auto` takes the first up to n = 500, above
        it the second, and the first up to n = 20,000 where the second misses the tolerance.
      tolerance: relative gap to stop at; 1e-10 in float64 and 1e-4 in float32 unless given.
      max_iterations: 60 unless given.

    Raises:
      NotSeparable: where the best margin is zero up to rounding: αᵀQα ≤ 3ε(Σ αᵢ√Kᵢᵢ)², the ε of
        the entries (not under a trace: there the margin shows it).
      ValueError: for shapes that do not match, labels other than ±1, a matrix that is not finite,
        symmetric and positive semidefinite (`gram`), an unknown solver, an operator and
        `interior_point`.
    """
    if solver not in ("auto", *SOLVERS):
        raise ValueError(f"solver must be auto or {' or '.join(SOLVERS)}, got {solver!r}")
    is_matrix = not isinstance(gram, GramOperator)
    if solver == "interior_point" and not is_matrix:
        raise ValueError("solver interior_point factorises a matrix: gram must be an array for it")
    gram, labels = checked_gram(gram, labels, signs=True, by_products=True)
    n, dtype = labels.shape[0], labels.dtype
    if tolerance is None:
        tolerance = 1e-10 if dtype == jnp.float64 else 1e-4
    small = is_matrix and n <= SMALL
    first = ("interior_point" if small else "active_set") if solver == "auto" else solver
    # Made here and not under the jit, which does not see how a matrix is spread over devices.
    given = as_operator(gram) if first == "active_set" else gram
    result, is_null = _hard_margin_svm(given, labels, first, tolerance, max_iterations)
    if not is_concrete(result):
        return result
    missed = first == "active_set" and not result.relative_gap <= tolerance
    if solver == "auto" and missed and is_matrix and n <= LARGEST_FACTORISED:
        again = _hard_margin_svm(gram, labels, "interior_point", tolerance, max_iterations)
        result, is_null = _better_of_each(again[0], result), is_null | again[1]
    if is_null:
        raise NotSeparable(
            f"no function of this kernel's space separates the {n} samples: its "
            f"margin is at most {float(result.margin_upper):.2g}, zero up to rounding"
        )
    return result


def _better_of_each(first: HardMarginSVM, second: HardMarginSVM) -> HardMarginSVM:
    """The classifier of the larger margin, and the smaller of the two bounds, which both hold."""
    better = first if first.margin >= second.margin else second
    upper = jnp.maximum(jnp.minimum(first.margin_upper, second.margin_upper), better.margin)
    gap = (upper - better.margin) / upper
    return better._replace(margin_upper=upper, relative_gap=gap)


@functools.partial(jax.jit, static_argnames=("solver", "max_iterations"))
def _hard_margin_svm(gram, labels, solver, tolerance, max_iterations):
    operator = as_operator(gram)
    own, n = operator.diagonal.dtype, labels.shape[0]
    dtype = jnp.promote_types(own, jnp.result_type(float))
    # Rows and columns by powers of two, so that nothing is rounded and lengths do not matter:
    # Q = SQ̃S with Q̃ᵢᵢ in [1/2, 2), α = S⁻¹α̃, and b = S⁻¹1, all but for one power for all.
    exponents = _half_exponents(operator.diagonal)
    power = lambda exponent: power_of_two(exponent, dtype)
    wanted, unit = power(jnp.min(exponents) - exponents), power(jnp.min(exponents))
    inverse = power(-exponents)
    # Signs go onto vectors: a signed copy of a large Gram matrix would not fit beside it.
    product = lambda v: labels * inverse * operator.product(labels * inverse * v)
    rough_product = lambda v: (
        labels * inverse * operator.product((labels * inverse * v).astype(own))
    )
    sizes = jnp.sqrt(jnp.maximum(operator.diagonal.astype(dtype), 0.0)) * inverse
    goal = Goal(wanted, sizes, ROUNDING * jnp.finfo(own).eps)
    if solver == "interior_point":
        # Of a small matrix in all the digits there are: it takes no time.
        factorised = dtype if n <= SMALL else own
        scales = (labels * inverse).astype(factorised)
        signed = scales[:, None] * gram.astype(factorised) * scales
        alpha, iterations = interior_point(signed, goal, tolerance, max_iterations)
    else:
        alpha, iterations = active_set(product, rough_product, goal, tolerance, max_iterations)
    alpha = alpha.astype(dtype)
    q = product(alpha)
    lower, upper = margin_bounds(alpha, q, wanted)
    upper = jnp.maximum(upper, lower)
    smallest = jnp.min(q / wanted)
    result = HardMarginSVM(
        coefficients=labels * alpha * wanted / jnp.where(smallest > 0, smallest, 1.0) / unit / unit,
        margin=lower * unit,
        margin_upper=upper * unit,
        relative_gap=(upper - lower) / upper,
        num_iterations=iterations,
    )
    return result, is_zero(alpha, q, goal)


def _half_exponents(diagonal: Array) -> Array:
    """k with Kᵢᵢ/4^k in [1/2, 2); where it is zero the largest k."""
    _, exponents = jnp.frexp(diagonal)
    positive = diagonal > 0
    lowest = jnp.iinfo(exponents.dtype).min
    largest = jnp.max(jnp.where(positive, exponents // 2, lowest))
    return jnp.where(positive, exponents // 2, jnp.where(largest > lowest, largest, 0))


class LogisticPath(NamedTuple):
    """ℓ2-regularised logistic predictors along a path of p values of λ.

    Attributes:
      coefficients: β for each λ.
      gradient_norm: ‖∂/∂f‖ of the objective relative to its two terms; small where Newton's
        method has converged.
    """

    coefficients: Float[Array, "p n"]
    gradient_norm: Float[Array, " p"]


def logistic_path(
    gram: Float[Array, "n n"], labels: Float[Array, " n"], lams: Float[Array, " p"]
) -> LogisticPath:
    """Minimizers of (1/n) Σ log(1 + e^(−yᵢf(xᵢ))) + λ‖f‖²_H for each λ, best given largest first.

    >>> path = logistic_path(jnp.eye(2), jnp.array([1.0, -1.0]), jnp.array([1e-1, 1e-3]))
    >>> path.coefficients.shape
    (2, 2)

    Newton's method with halved steps, each λ started from the one before. With w the second
    derivatives over n and S = √(w/2λ), a Newton step solves β = S(SKS + I)⁻¹S(f + y/σ(yf)), whose
    matrix has no eigenvalue below 1 however small λ is. What float32 does not solve to 1000ε is
    solved in float64 where JAX has it (not under a trace), and rounded. All is finite.

    Raises:
      ValueError: for λ ≤ 0 or not finite, shapes that do not match, labels other than ±1, a matrix
        that is no kernel's (`gram`).
    """
    gram, labels = checked_gram(gram, labels, signs=True)
    check_lams(lams)
    lams = jnp.atleast_1d(jnp.asarray(lams, gram.dtype))
    path = _logistic_path(gram, labels, lams)
    wide = jnp.promote_types(gram.dtype, jnp.result_type(float))
    if wide == gram.dtype or not is_concrete(path):
        return path
    if bool(jnp.all(path.gradient_norm <= STATIONARY * jnp.finfo(gram.dtype).eps)):
        return path
    again = _logistic_path(gram.astype(wide), labels.astype(wide), lams.astype(wide))
    return jax.tree.map(lambda values: values.astype(gram.dtype), again)


@jax.jit
def _logistic_path(gram, labels, lams):
    n = gram.shape[0]

    def value(beta, f, lam):
        return jnp.mean(jax.nn.softplus(-labels * f)) + lam * beta @ f

    def stationarity(beta, f, lam):
        pull = labels * jax.nn.sigmoid(-labels * f) / n
        return jnp.linalg.norm(pull - 2 * lam * beta) / jnp.linalg.norm(pull)

    def newton(beta, lam):
        f = gram @ beta
        q = labels * f
        right = jnp.maximum(jax.nn.sigmoid(q), jnp.finfo(gram.dtype).tiny)  # it is divided by
        weights = right * jax.nn.sigmoid(-q) / n
        s = jnp.sqrt(weights / (2 * lam))
        matrix = s[:, None] * gram * s[None, :] + jnp.eye(n, dtype=gram.dtype)
        target = f + labels / right
        step = s * _solved(matrix, s * target, 1.0) - beta
        step_f = gram @ step
        slope = step @ (gram @ (2 * lam * beta)) - step_f @ (labels * jax.nn.sigmoid(-q) / n)

        def too_long(size):
            new = value(beta + size * step, f + size * step_f, lam)
            return ~(new <= value(beta, f, lam) + 1e-4 * size * slope) & (size > 1e-6)

        size = jax.lax.while_loop(too_long, lambda t: t / 2, jnp.ones((), gram.dtype))
        moved = beta + size * step
        return jnp.where(jnp.all(jnp.isfinite(moved)), moved, beta)

    tolerance = STATIONARY * jnp.finfo(gram.dtype).eps

    def solve(beta, lam):
        def proceeds(carry):
            beta, iteration = carry
            return (stationarity(beta, gram @ beta, lam) > tolerance) & (iteration < NEWTON_STEPS)

        beta, _ = jax.lax.while_loop(
            proceeds, lambda c: (newton(c[0], lam), c[1] + 1), (beta, jnp.int32(0))
        )
        return beta, LogisticPath(beta, stationarity(beta, gram @ beta, lam))

    return jax.lax.scan(solve, jnp.zeros(n, gram.dtype), jnp.asarray(lams, gram.dtype))[1]


def ridge(
    gram: Float[Array, "n n"] | GramOperator,
    targets: Float[Array, " n"],
    lams: Float[Array, " p"],
    tolerance: float | None = None,
) -> Float[Array, "p n"]:
    """Coefficients of the minimizers of (1/n) Σ (f(xᵢ) − yᵢ)² + λ‖f‖²_H: (K + nλI)β = y.

    >>> ridge(jnp.eye(2), jnp.array([1.0, -1.0]), jnp.array([0.5])).round(6).tolist()
    [[0.5, -0.5]]

    A matrix is factorised. Where it is singular up to rounding and nλ is below √ε of it, directions
    in which K is zero are left out of β: f does not depend on them, and the factor would be noise.
    With an operator the equations are solved by conjugate gradients, all λ at once, until
    ‖y − (K + nλI)β‖ ≤ `tolerance`·‖y‖ (1e-10 in float64 and 1e-5 in float32 unless given).

    Raises:
      ValueError: for λ ≤ 0 or not finite (`min_norm_interpolant` is λ → 0), shapes that do not
        match, values that are not finite, a matrix that is no kernel's (`gram`).
      RuntimeError: where conjugate gradients do not get there (not under a trace).
    """
    gram, targets = checked_gram(gram, targets, by_products=True)
    check_lams(lams)
    lams = jnp.atleast_1d(jnp.asarray(lams))
    if isinstance(gram, GramOperator):
        return _by_products(gram, targets.shape[0] * lams, targets, tolerance)
    return _ridge(gram, targets, lams.astype(gram.dtype))


def _by_products(operator, shifts, targets, tolerance):
    if tolerance is None:
        tolerance = 1e-10 if operator.diagonal.dtype == jnp.float64 else 1e-5
    found = solve_shifted(operator, shifts, targets, tolerance)
    if is_concrete(found) and not bool(jnp.all(found.residuals <= tolerance)):
        raise RuntimeError(
            f"conjugate gradients must reach the relative residual {tolerance:g}, got "
            f"{float(jnp.max(found.residuals)):.2g}: raise λ or the tolerance"
        )
    return found.coefficients


@jax.jit
def _ridge(gram, targets, lams):
    n, eps = gram.shape[0], jnp.finfo(gram.dtype).eps
    # A direction in which K is zero has 1/nλ in β, times the rounding of K in f.
    rounding = 4 * eps * jnp.max(jnp.abs(jnp.diagonal(gram)))
    ample = jnp.sqrt(n / eps) * rounding

    def solve(lam):
        matrix = gram + n * lam * jnp.eye(n, dtype=gram.dtype)
        factor, _ = jax.scipy.linalg.cho_factor(matrix, lower=True)
        pivots = jnp.diagonal(factor) ** 2
        is_regular = jnp.min(pivots) > n * (lam + rounding)
        is_sound = jnp.all(jnp.isfinite(pivots)) & (is_regular | (n * lam >= ample))
        found = jax.scipy.linalg.cho_solve((factor, True), targets)
        return jax.lax.cond(
            is_sound, lambda: found, lambda: _by_eigenvalues(gram, targets, n * lam)
        )

    return jax.lax.map(solve, lams)


def _by_eigenvalues(gram: Array, targets: Array, shift: Array | float) -> Array:
    """(K + shift)⁻¹ y without the directions in which K is zero up to rounding."""
    values, vectors = jnp.linalg.eigh(gram)
    floor = gram.shape[0] * jnp.finfo(gram.dtype).eps * values[-1]
    kept = values > floor
    inverse = jnp.where(kept, 1.0 / jnp.where(kept, values + shift, 1.0), 0.0)
    return vectors @ (inverse * (vectors.T @ targets))


def _solved(matrix: Array, target: Array, smallest: float) -> Array:
    """M⁻¹t, where no eigenvalue of M is below `smallest` but for rounding."""
    factor, _ = jax.scipy.linalg.cho_factor(matrix, lower=True)
    found = jax.scipy.linalg.cho_solve((factor, True), target)

    def by_eigenvalues() -> Array:
        values, vectors = jnp.linalg.eigh(matrix)
        return vectors @ ((vectors.T @ target) / jnp.maximum(values, smallest))

    is_sound = jnp.all(jnp.isfinite(jnp.diagonal(factor)))
    return jax.lax.cond(is_sound, lambda: found, by_eigenvalues)


def min_norm_interpolant(
    gram: Float[Array, "n n"] | GramOperator,
    targets: Float[Array, " n"],
    tolerance: float | None = None,
) -> Float[Array, " n"]:
    """Coefficients of the f with f(xᵢ) = yᵢ of smallest ‖f‖_H; least squares where none fits.

    Directions in which K is zero up to rounding are left out, so repeated samples do no harm. With
    an operator Kβ = y is solved as in `ridge`: there has to be an f that fits.

    Raises:
      ValueError: for shapes that do not match, values that are not finite, a matrix that is no
        kernel's (`gram`).
      RuntimeError: as in `ridge`.
    """
    gram, targets = checked_gram(gram, targets, by_products=True)
    if isinstance(gram, GramOperator):
        return _by_products(gram, jnp.zeros(1), targets, tolerance)[0]
    return _min_norm(gram, targets)


@jax.jit
def _min_norm(gram, targets):
    # Where the samples are independent whatever their lengths, there is an f that fits.
    inverse = power_of_two(-_half_exponents(jnp.diagonal(gram)), gram.dtype)
    scaled = inverse[:, None] * gram * inverse
    factor, _ = jax.scipy.linalg.cho_factor(scaled, lower=True)
    smallest = jnp.min(jnp.diagonal(factor) ** 2)
    return jax.lax.cond(
        smallest > 4 * gram.shape[0] * jnp.finfo(gram.dtype).eps,  # so not where it is NaN
        lambda: inverse * jax.scipy.linalg.cho_solve((factor, True), inverse * targets),
        lambda: _by_eigenvalues(gram, targets, 0.0),
    )
