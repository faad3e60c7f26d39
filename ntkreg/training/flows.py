"""The perturbed Wasserstein gradient flow: noisy gradient descent on an infinitely wide network.

    dρ/dt = −σρ + σU − ∇·(v ρ),   v = −∇_θ L′[ρ],   U uniform on the unit sphere of R^(d+1)

By particles (`mean_field`): each moves by −η∇L′ and is, with probability ση, drawn anew from U.
With few of them and σ = 0 it is gradient descent on F_λ at finite width, with the same η. The step
is not that of `trainers`: a particle moves by the gradient of the measure, m times that of the
network's mean loss in it, and waits with a clock of its own to be drawn anew.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, Theorem 3.3; Chizat and Bach (NeurIPS 2018) for
the flow without noise.
"""

import dataclasses
import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._checks import check_positive
from ntkreg._compat import is_concrete
from ntkreg._types import Array, ArrayLike, Float, Int, PRNGKey, Scalar
from ntkreg.data import dataset
from ntkreg.data.dataset import Dataset, check_dataset
from ntkreg.training import mean_field
from ntkreg.training.mean_field import CURVATURES, RELU, Info, Model, uniform_start
from ntkreg.training.objectives import get_loss

FOREVER = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class Flow:
    """What is fixed at compile time about a flow.

    Attributes:
      model: unit and loss.
      noise: "resample", the paper's; "langevin" adds √(2ησ) times a normal vector to each particle.
      num_steps: the length of the run.
    """

    model: Model = RELU
    noise: Literal["resample", "langevin"] = "resample"
    num_steps: int = 20_000

    def __post_init__(self):
        if self.noise not in ("resample", "langevin"):
            raise ValueError(f"noise must be 'resample' or 'langevin', got {self.noise!r}")
        if self.num_steps < 1:
            raise ValueError(f"num_steps must be at least 1, got {self.num_steps}")


class Settings(NamedTuple):
    """What one compilation serves all values of.

    Attributes:
      lam, step_size, sigma: λ, η and σ; σ = 0 is the flow without noise.
      noisy_steps: after which σ is 0 and the flow settles (a quench).
    """

    lam: Float[Array, ""]
    step_size: Float[Array, ""]
    sigma: Float[Array, ""]
    noisy_steps: Int[Array, ""]


class FlowState(NamedTuple):
    """What a flow carries from step to step.

    Attributes:
      particles: rows (w, u).
      clocks: what is left of each particle's exponential waiting time until it is drawn anew.
      step: steps taken.
      key: of the run; a step folds its number in.
      objective: L before the last step; infinite before the first.
    """

    particles: Float[Array, "m p"]
    clocks: Float[Array, " m"]
    step: Int[Array, ""]
    key: PRNGKey
    objective: Float[Array, ""]


def settings(
    lam: Scalar, step_size: Scalar, sigma: Scalar = 0.0, noisy_steps: Scalar = FOREVER, dtype=None
) -> Settings:
    """Settings of a flow; its noise never ends unless `noisy_steps` says when.

    Raises:
      ValueError: for λ ≤ 0, a step that is not positive, σ < 0, or ση > 1, which is no probability.
    """
    if is_concrete(lam, step_size, sigma):
        _check(float(lam), float(step_size), float(sigma))
    lam, step_size, sigma = (jnp.asarray(value, dtype) for value in (lam, step_size, sigma))
    return Settings(lam, step_size, sigma, jnp.asarray(noisy_steps, jnp.int32))


def _check(lam: float, step_size: float, sigma: float) -> None:
    check_positive(lam=lam, step_size=step_size)
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma must be at least 0 and finite, got {sigma}")
    if sigma * step_size > 1:
        raise ValueError(
            f"sigma·step_size must be at most 1, a probability, got {sigma}·{step_size}"
        )


def stable_step(data: Dataset, lam: Scalar, loss: str = "logistic") -> Float[Array, ""]:
    """The step η = 1/(κ · λmax(XᵀX/n) · M), half of what the curvature of the loss allows.

    In the space of outputs the flow's curvature is that of (1/m) Σⱼ ∇Φᵢ(θⱼ)·∇Φₖ(θⱼ) ℓ″/n, and for
    relu units at most κ λmax(XᵀX/n) ∫‖θ‖² dρ with κ the largest ℓ″ (¼ for the logistic loss). The
    mass ∫‖θ‖² dρ is at most M = (1/n) Σ ℓ(yᵢ, 0)/λ as soon as L is below its value at f = 0, and
    descent on a curvature K is stable to 2/K. What the units' own curvature adds is of the order of
    λ near a minimizer. Starts of a larger mass need a smaller step.
    """
    spectral = jnp.linalg.eigvalsh(data.x.T @ data.x / len(data.y))[-1]
    zero = jnp.mean(get_loss(loss).value(jnp.zeros_like(data.x[:, 0]), data.y))
    return lam / (CURVATURES[loss] * spectral * zero)


def init(particles: Float[Array, "m p"], key: PRNGKey) -> FlowState:
    """The state before the first step."""
    key, clock_key = jax.random.split(key)
    clocks = jax.random.exponential(clock_key, particles.shape[:1], particles.dtype)
    return FlowState(particles, clocks, jnp.int32(0), key, jnp.asarray(jnp.inf, particles.dtype))


def step(flow: Flow, data: Dataset, settings: Settings, state: FlowState) -> FlowState:
    """One step of the flow: descent by η, then noise."""
    value, gradient = mean_field.descent(flow.model, state.particles, data, settings.lam)
    particles = state.particles - settings.step_size * gradient
    sigma = jnp.where(state.step < settings.noisy_steps, settings.sigma, 0.0)
    key = jax.random.fold_in(state.key, state.step)
    if flow.noise == "langevin":
        size = jnp.sqrt(2 * settings.step_size * sigma)
        add = lambda p: p + size * dataset.normal(key, p.shape, p.dtype)
        particles, clocks = jax.lax.cond(sigma > 0, add, lambda p: p, particles), state.clocks
    else:
        clocks = state.clocks + jnp.log1p(-settings.step_size * sigma)
        particles, clocks = jax.lax.cond(
            jnp.any(clocks <= 0), _redrawn, lambda key, p, c: (p, c), key, particles, clocks
        )
    return FlowState(particles, clocks, state.step + 1, state.key, value)


def _redrawn(key: PRNGKey, particles: Array, clocks: Array) -> tuple[Array, Array]:
    """Particles whose clocks have run out, drawn anew from U, with new clocks.

    An exponential waiting time that shrinks by −log(1 − ση) each step runs out with probability ση
    at each, whatever σ was before; so random numbers are drawn only in steps that use them.
    """
    due = clocks <= 0
    point_key, clock_key = jax.random.split(key)
    points = uniform_start(point_key, len(particles), particles.shape[1] - 1, particles.dtype)
    waits = jax.random.exponential(clock_key, clocks.shape, clocks.dtype)
    return jnp.where(due[:, None], points, particles), jnp.where(due, waits, clocks)


def is_done(flow: Flow, state: FlowState) -> Array:
    """Whether all steps are taken."""
    return state.step >= flow.num_steps


def advance(
    flow: Flow, data: Dataset, settings: Settings, state: FlowState, num_steps: Scalar
) -> FlowState:
    """The state `num_steps` steps on, or at the end where that comes first.

    How a run is cut into calls does not change a bit of its result.
    """
    last = jnp.minimum(state.step + num_steps, flow.num_steps)
    return jax.lax.while_loop(
        lambda s: s.step < last, functools.partial(step, flow, data, settings), state
    )


class FlowResult(NamedTuple):
    """Particles at the end of a flow and what was measured of them."""

    particles: Float[Array, "m p"]
    info: Info


def noisy_flow(
    data: Dataset,
    *,
    lam: Scalar,
    key: PRNGKey,
    sigma: Scalar = 0.0,
    noisy_steps: Scalar = FOREVER,
    num_particles: int = 1000,
    step_size: Scalar | None = None,
    particles: Float[Array, "m p"] | None = None,
    model: Model = RELU,
    **options,
) -> FlowResult:
    """The end of a noisy flow, from particles on the unit sphere.

    >>> two = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    >>> found = noisy_flow(
    ...     two, lam=1e-2, key=jax.random.key(0), sigma=1e-3, num_particles=50, num_steps=100
    ... )
    >>> found.particles.shape
    (50, 2)

    Args:
      lam: λ > 0.
      sigma: of the noise, as in `Settings`.
      noisy_steps: of the noise, as in `Settings`.
      step_size: η; `stable_step` by default.
      particles: a start of your own.
      model: unit and loss.
      **options: further fields of `Flow`.

    Raises:
      ValueError: for bad data, λ, σ, step, particles or options; and where the flow diverged, with
        the stable step beside the one that was taken.
    """
    flow = Flow(model, **options)
    data = jax.tree.map(jnp.asarray, check_dataset(data, get_loss(model.loss).labels))
    start_key, key = jax.random.split(key)
    dtype, dim = data.x.dtype, data.x.shape[1]
    if particles is None:
        particles = uniform_start(start_key, num_particles, dim, dtype)
    particles = _checked(particles, dim, dtype)
    stable = float(stable_step(data, lam, model.loss))
    taken = settings(lam, stable if step_size is None else step_size, sigma, noisy_steps, dtype)
    result = _run(flow, data, taken, particles, key)
    if not result.info.finite:
        raise ValueError(diverged(float(taken.step_size), stable))
    return result


def _checked(particles: ArrayLike, dim: int, dtype: jnp.dtype) -> Float[Array, "m p"]:
    particles = jnp.asarray(particles, dtype)
    if particles.ndim != 2 or particles.shape[1] != dim + 1 or not len(particles):
        raise ValueError(f"particles must have shape (m ≥ 1, {dim + 1}), got {particles.shape}")
    bad = np.argwhere(~np.isfinite(particles))
    if len(bad):
        row, column = bad[0]
        raise ValueError(
            f"particles must be finite, got {particles[row, column]} at [{row}, {column}]"
        )
    return particles


def diverged(step_size: float, stable: float) -> str:
    """What there is to say where a flow has become infinite."""
    return (
        f"step_size={step_size:.3g} made the flow diverge; the stable step "
        f"1/(κ·λmax(XᵀX/n)·M), M = mean ℓ(y, 0)/λ, is {stable:.3g} here (flows.stable_step)"
    )


@functools.partial(jax.jit, static_argnames="flow")
def _run(
    flow: Flow, data: Dataset, settings: Settings, particles: Array, key: PRNGKey
) -> FlowResult:
    state = advance(flow, data, settings, init(particles, key), flow.num_steps)
    return FlowResult(
        state.particles, mean_field.measure(flow.model, state.particles, data, settings.lam)
    )
