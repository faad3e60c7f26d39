"""An infinitely wide two-layer network as a measure over its neurons, and its particles.

A measure ρ over particles θ = (w, u) in R^(d+1) is a network f(x) = ∫ Φ(θ; x) dρ with units Φ that
are 2-homogeneous in θ, and

    L[ρ] = (1/n) Σ ℓ(yᵢ, f(xᵢ)) + λ ∫ ‖θ‖² dρ,
    L′[ρ](θ) = (1/n) Σ ℓ′ᵢ Φ(θ; xᵢ) + λ‖θ‖²,            its first variation.

Here ρ is m particles of mass 1/m, the rows of an array. They are a network of width m whose
parameters are θ/√m, and its F_λ is L[ρ]: so two-layer networks of any width have the minimum of L
(`certificates.global_minimum`). `flows` moves the particles.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3; Chizat and Bach (NeurIPS 2018).
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._types import Array, Float, Params, PRNGKey, Scalar
from ntkreg.data import dataset
from ntkreg.data.dataset import Dataset
from ntkreg.training.objectives import get_loss

SOFTNESS = 0.1  # δ of the soft unit
TRAPPED_SHARE = 0.8  # w² of a start that keeps the sign of w; exactly balanced ones lose it


def relu_unit(particles: Float[Array, "m p"], x: Float[Array, "n d"]) -> Float[Array, "n m"]:
    """Φ(θ; x) = w relu(uᵀx)."""
    return particles[None, :, 0] * jax.nn.relu(x @ particles[:, 1:].T)


def soft_relu_unit(particles: Float[Array, "m p"], x: Float[Array, "n d"]) -> Float[Array, "n m"]:
    """Φ(θ; x) = ½ w (z + √(z² + δ²‖θ‖²)) with z = uᵀx, δ = 0.1.

    2-homogeneous like relu's and, unlike it, smooth on the sphere, as the theorem requires. No
    function of z alone is: one that is 1-homogeneous and differentiable at 0 is linear.
    """
    z = x @ particles[:, 1:].T
    squared = jnp.sum(particles**2, axis=1)[None]
    return particles[None, :, 0] * (z + jnp.sqrt(z**2 + SOFTNESS**2 * squared)) / 2


UNITS = {"relu": relu_unit, "soft_relu": soft_relu_unit}
CURVATURES = {"logistic": 0.25, "squared": 2.0}  # the largest ℓ″


@dataclasses.dataclass(frozen=True)
class Model:
    """A unit, by its name in `UNITS`, and a loss, by its name in `CURVATURES`."""

    unit: str = "relu"
    loss: str = "logistic"

    def __post_init__(self):
        for name, known in (("unit", UNITS), ("loss", CURVATURES)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )


RELU = Model()


def uniform_start(key: PRNGKey, num_particles: int, dim: int, dtype=None) -> Float[Array, "m p"]:
    """Particles from the uniform distribution U on the unit sphere of R^(dim + 1).

    Raises:
      ValueError: for num_particles or dim < 1.
    """
    for name, value in (("num_particles", num_particles), ("dim", dim)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    normal = dataset.normal(key, (num_particles, dim + 1), dtype)
    return normal / jnp.linalg.norm(normal, axis=1, keepdims=True)


def one_sign_start(
    key: PRNGKey, num_particles: int, dim: int, sign: int = 1
) -> Float[Array, "m p"]:
    """Particles on the unit sphere with u of uniform direction and sign·w = √0.8 > ‖u‖ = √0.2.

    The flow without noise keeps the sign of every w: w² − ‖u‖² falls to 0 at the rate 4λ and never
    crosses it. The smallest L of such networks is `certificates.global_minimum` with `output_sign`.
    """
    u = uniform_start(key, num_particles, dim - 1) if dim > 1 else _signs(key, num_particles)
    w = jnp.full((num_particles, 1), sign * TRAPPED_SHARE**0.5, u.dtype)
    return jnp.concatenate([w, (1 - TRAPPED_SHARE) ** 0.5 * u], axis=1)


def _signs(key: PRNGKey, num: int) -> Float[Array, "m 1"]:
    return dataset.rademacher(key, (num, 1))


class Info(NamedTuple):
    """What was measured of particles.

    Attributes:
      objective: L[ρ].
      mass: ∫ ‖θ‖² dρ.
      spread: the effective share of the particles that carry it, (Σ‖θ‖²)²/(m Σ‖θ‖⁴) in (0, 1].
      variation: ∫ L′ dρ, of which `optimality_gap` is made; 0 at a stationary point.
      gradient_norm: √∫ ‖∇L′‖² dρ, the speed of the flow.
      finite: whether all particles are finite; where not, a step was too large.
    """

    objective: Float[Array, ""]
    mass: Float[Array, ""]
    spread: Float[Array, ""]
    variation: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    finite: Array


def outputs(model: Model, particles: Float[Array, "m p"], x: Float[Array, "n d"]) -> Array:
    """f(x) = ∫ Φ(θ; x) dρ, shape (n,)."""
    return jnp.mean(UNITS[model.unit](particles, x), axis=1)


def objective(model: Model, particles: Float[Array, "m p"], data: Dataset, lam: Scalar) -> Array:
    """L[ρ]."""
    loss = get_loss(model.loss).value(outputs(model, particles, data.x), data.y)
    return jnp.mean(loss) + lam * _mass(particles)


def _mass(particles: Float[Array, "m p"]) -> Float[Array, ""]:
    return jnp.sum(particles**2) / len(particles)


def first_variation(
    model: Model,
    particles: Float[Array, "m p"],
    data: Dataset,
    lam: Scalar,
    at: Float[Array, "k p"],
) -> Float[Array, " k"]:
    """L′[ρ] at the rows θ of `at`: at a minimizer 0 where ρ has mass, and nowhere negative."""
    at_samples = slopes(model, outputs(model, particles, data.x), data)
    return at_samples @ UNITS[model.unit](at, data.x) + lam * jnp.sum(at**2, axis=1)


def slopes(model: Model, outputs: Float[Array, " n"], data: Dataset) -> Float[Array, " n"]:
    """∂(mean loss)/∂fᵢ."""
    return jax.grad(lambda f: jnp.mean(get_loss(model.loss).value(f, data.y)))(outputs)


def optimality_gap(info: Info, lowest: Scalar, lam: Scalar) -> Float[Array, ""]:
    """A bound of L[ρ] − L*: ∫ L′ dρ − min(lowest, 0) · M* for `lowest` = min of L′ on the sphere.

    L is convex in ρ, so L[ρ] − L* ≤ ∫ L′ d(ρ − ρ*); L′ is 2-homogeneous, so ∫ L′ dρ* is at least
    its smallest value on the sphere times the mass M* of ρ*, which is at most L[ρ]/λ. It is proved
    where `lowest` is: for relu units min L′ = λ − ½ max over ‖u‖ ≤ 1 of |Σ (ℓ′ᵢ/n) relu(uᵀxᵢ)|,
    which an oracle bounds. Source: derived here; Chizat and Bach (NeurIPS 2018) for convexity.
    """
    return info.variation - jnp.minimum(lowest, 0.0) * info.objective / lam


def descent(
    model: Model, particles: Float[Array, "m p"], data: Dataset, lam: Scalar
) -> tuple[Float[Array, ""], Float[Array, "m p"]]:
    """(L, ∇L′ at every particle): the flow is −∇L′."""
    f, pull = jax.vjp(lambda p: outputs(model, p, data.x), particles)
    loss = jnp.mean(get_loss(model.loss).value(f, data.y))
    (of_loss,) = pull(slopes(model, f, data))
    return loss + lam * _mass(particles), len(particles) * of_loss + 2 * lam * particles


def measure(model: Model, particles: Float[Array, "m p"], data: Dataset, lam: Scalar) -> Info:
    """What there is to say of these particles."""
    value, gradient = descent(model, particles, data, lam)
    squared = jnp.sum(particles**2, axis=1)
    total = jnp.maximum(jnp.sum(squared), jnp.finfo(particles.dtype).tiny)
    return Info(
        objective=value,
        mass=jnp.mean(squared),
        spread=total**2 / (len(squared) * jnp.sum(squared**2)),
        variation=jnp.mean(first_variation(model, particles, data, lam, particles)),
        gradient_norm=jnp.sqrt(jnp.sum(gradient**2) / len(particles)),
        finite=jnp.all(jnp.isfinite(particles)),
    )


def as_network(particles: Float[Array, "m p"]) -> Params:
    """The parameters (W₁, W₂) of `fully_connected(2, m)` that are this network of relu units."""
    scaled = particles / len(particles) ** 0.5
    return scaled[:, 1:].T, scaled[:, :1]


def from_network(params: Params) -> Float[Array, "m p"]:
    """The particles of a two-layer network (W₁, W₂): the inverse of `as_network`."""
    first, last = params
    return jnp.concatenate([last, first.T], axis=1) * len(last) ** 0.5
