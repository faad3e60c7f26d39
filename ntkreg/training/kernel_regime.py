"""When training is the kernel method: centred and linearised networks, descent on a kernel."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ntkreg._types import Array, Float, Params, PRNGKey, Scalar, Shaped
from ntkreg.networks.network import Network
from ntkreg.training.objectives import Loss


class FromStart(NamedTuple):
    """Parameters, and those that training began at, which stay as they are."""

    params: Params
    start: Params


@functools.cache
def centred(network: Network) -> Network:
    """The network with its initial function subtracted: f(Θ; x) − f(Θ₀; x).

    Its parameters are `FromStart`, the gradient in Θ₀ is zero, and its order is that in both
    together. The finite network's function starts at zero, as the kernel's predictor does: what is
    left between them is no longer hidden behind the O(1) randomness of f(Θ₀).

    A start s·Θ₀ in place of Θ₀ multiplies outputs by α = s^order, the `output_scale`, and the NTK
    by α²/s². So at the learning rate η s²/α² the function begins to move as at s = 1, and the
    change of parameters that it takes is 1/α of it, relative to their size: training gets lazy.

    Source: Chizat, Oyallon, Bach (NeurIPS 2019), for the output scale.
    """

    def apply(pair: FromStart, x: Array) -> Array:
        return network.apply(pair.params, x) - network.apply(jax.lax.stop_gradient(pair.start), x)

    return Network(_at_start(network), apply, network.kernel, network.order)


@functools.cache
def linearised(network: Network) -> Network:
    """The centred network's first order in Θ − Θ₀: ⟨∇f(Θ₀; x), Θ − Θ₀⟩.

    Gradient descent on it is `kernel_descent` with the empirical NTK at Θ₀, step for step.

    Source: Lee et al. (NeurIPS 2019); neural-tangents for the expansion.
    """

    def apply(pair: FromStart, x: Array) -> Array:
        from ntkreg import neural_tangents as nt  # seconds, which nothing else waits for

        start = jax.lax.stop_gradient(pair.start)
        expanded = nt.linearize(lambda params: network.apply(params, x), start)
        return expanded(pair.params) - network.apply(start, x)

    return Network(_at_start(network), apply, network.kernel, network.order)


def _at_start(network: Network):
    def init(key: PRNGKey, input_dim: int) -> FromStart:
        params = network.init(key, input_dim)
        return FromStart(params, params)

    return init


def kernel_descent(
    loss: Loss,
    gram: Float[Array, "n n"],
    labels: Shaped[Array, " n"],
    learning_rate: Scalar,
    num_steps: Scalar,
    start: Float[Array, " n"] | None = None,
    coefficients: Float[Array, " n"] | None = None,
) -> Float[Array, " n"]:
    """β after gradient descent on (1/n) Σ ℓ(yᵢ, gᵢ) in the kernel's space, g = start + Kβ.

    β ← β − (η/n) ∂ℓ(g, y)/∂g: what a network does whose kernel stays K. Elsewhere its function is
    start(x) + K(x, X)β. For the squared loss the outputs are y + (I − 2ηK/n)^t (start − y).

    Args:
      gram: K(xᵢ, xⱼ), exact or empirical.
      num_steps: may be traced.
      start: outputs of the initial function, zero unless given.
      coefficients: β to go on from, zero unless given.

    Source: Jacot, Gabriel, Hongler (NeurIPS 2018), in discrete steps.
    """
    n = gram.shape[0]
    start = jnp.zeros(n, gram.dtype) if start is None else start
    coefficients = jnp.zeros(n, gram.dtype) if coefficients is None else coefficients
    slope = jax.grad(lambda outputs: jnp.sum(loss.value(outputs, labels)))
    step = lambda _, beta: beta - learning_rate / n * slope(start + gram @ beta)
    return jax.lax.fori_loop(0, num_steps, step, coefficients)


def kernel_flow(
    gram: Float[Array, "n n"],
    targets: Float[Array, " n"],
    times: Float[Array, " t"],
    start: Float[Array, " n"] | None = None,
) -> Float[Array, "t n"]:
    """β of gradient flow on (1/n) Σ (gᵢ − yᵢ)² in the kernel's space, g = start + Kβ, at each time.

    β(t) = K⁻¹(I − e^(−2Kt/n))(y − start), which tends to the min-norm interpolant's; `times` are
    learning rate times steps of `kernel_descent`.

    Source: Jacot, Gabriel, Hongler (NeurIPS 2018), Section 5.
    """
    values, vectors = jnp.linalg.eigh(gram)
    wanted = vectors.T @ (targets if start is None else targets - start)
    rates = 2.0 * jnp.maximum(values, 0.0) / gram.shape[0]  # below 0 only by rounding
    learned = -jnp.expm1(-rates * times[:, None])
    # (1 − e^(−rt))/r tends to t where r → 0.
    safe = jnp.where(rates > 0, rates, 1.0)
    share = jnp.where(rates > 0, learned / safe, times[:, None]) * 2.0 / gram.shape[0]
    return (share * wanted) @ vectors.T


def relative_change(now: Float[Array, "..."], before: Float[Array, "..."]) -> Float[Array, ""]:
    """‖now − before‖₂/‖before‖₂ over all entries: the drift of a kernel, a distance of outputs."""
    return jnp.linalg.norm(jnp.ravel(now - before)) / jnp.linalg.norm(jnp.ravel(before))
