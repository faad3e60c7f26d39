"""Small convolutional networks for images, with their exact infinite-width kernel."""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp

from ntkreg._types import Array, Float
from ntkreg.networks.flax_modules import from_flax
from ntkreg.networks.network import Kernels, Network

SCALINGS = ("standard", "ntk")
Shape = tuple[int, int, int]


def convolutional(
    image_shape: Shape,
    channels: int,
    depth: int = 3,
    num_outputs: int = 1,
    scaling: str = "standard",
) -> Network:
    """A bias-free convolutional ReLU network with `depth` weight layers, and its kernel.

    >>> network = convolutional(image_shape=(4, 4, 1), channels=2, num_outputs=10)
    >>> network.apply(network.init(jax.random.key(0), 16), jnp.ones((5, 16))).shape
    (5, 10)

    depth − 1 convolutions with filters of 3 × 3 pixels at stride 1, images padded with zeros to
    keep their size, each followed by relu; then one dense layer on all pixels and channels. The
    order is `depth`. `scaling` sets multipliers and initial entries as in `fully_connected`, where
    a filter's fan-in is 9 times the channels that it reads:

    - `standard`: no multiplier; N(0, 2/fan-in), in the last layer N(0, 1/fan-in).
    - `ntk`: 1/√fan-in in every layer, N(0, 1).

    `kernel` is the limit of infinitely many channels in `ntk` scaling with unit variances. It
    keeps height × width numbers for every pair of images while it is made, and is accurate to
    rounding ε, but between an image and itself or its opposite to √ε only.

    Equal arguments return the same object.

    Args:
      image_shape: (height, width, channels) of the images, which x of shape "n d" holds flat in
        this order.

    Source: Arora et al. (NeurIPS 2019), the convolutional NTK; without pooling, as there "vanilla".

    Raises:
      ValueError: for a shape that is not three positive numbers, depth < 2, channels or num_outputs
        < 1, or an unknown scaling.
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ValueError(f"image_shape must be (height, width, channels), got {image_shape}")
    for name, value, smallest in (
        ("channels", channels, 1), ("depth", depth, 2), ("num_outputs", num_outputs, 1)
    ):  # fmt: skip
        if value < smallest:
            raise ValueError(f"{name} must be at least {smallest}, got {value}")
    if scaling not in SCALINGS:
        raise ValueError(f"scaling must be one of {', '.join(SCALINGS)}, got {scaling!r}")
    height, width, colours = image_shape
    image_shape = (height, width, colours)  # hashable, whatever it was given as
    module = _module_class()(image_shape, channels, depth, num_outputs, scaling == "ntk")
    kernel = _infinite_width_kernel(image_shape, depth)
    return from_flax(module, kernel, input_dim=math.prod(image_shape), order=depth)


def patches(images: Float[Array, "n h w c"]) -> Float[Array, "n h w p"]:
    """The 3 × 3 pixels around every pixel, row by row, zeros outside: p = 9c numbers.

    A convolution is a dense layer on them. On a CPU this takes a hundredth of the time of XLA's
    convolutions, which are slow in a loop of training steps.
    """
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)


@functools.cache
def _module_class() -> type:
    from flax import linen  # when it is first needed: it takes a second

    class Convolutional(linen.Module):
        image_shape: Shape
        channels: int
        depth: int
        num_outputs: int
        is_ntk: bool

        @linen.compact
        def __call__(self, x: Array) -> Array:
            x = x.reshape(-1, *self.image_shape)
            for _ in range(self.depth - 1):
                x = linen.relu(self.layer(self.channels, 2.0, patches(x)))
            return self.layer(self.num_outputs, 1.0, x.reshape(x.shape[0], -1))

        def layer(self, width: int, gain: float, x: Array) -> Array:
            """W x over the last axis, scaled and initialised as `scaling` says."""
            init = linen.initializers
            standard = init.variance_scaling(gain, "fan_in", "normal")
            start = init.normal(1.0) if self.is_ntk else standard
            outputs = linen.Dense(width, use_bias=False, kernel_init=start)(x)
            return outputs / math.sqrt(x.shape[-1]) if self.is_ntk else outputs

    return Convolutional


@functools.cache
def _infinite_width_kernel(image_shape: Shape, depth: int) -> Callable[..., Kernels]:
    @functools.cache
    def kernel_fn():
        from ntkreg.neural_tangents import stax  # seconds, which nothing else waits for

        conv = lambda: stax.Conv(1, (3, 3), padding="SAME", W_std=1.0, b_std=None)
        hidden = [layer for _ in range(depth - 1) for layer in (conv(), stax.Relu())]
        return stax.serial(*hidden, stax.Flatten(), stax.Dense(1, W_std=1.0, b_std=None))[2]

    def kernel(x1: Array, x2: Array | None = None) -> Kernels:
        images = lambda x: jnp.reshape(x, (-1, *image_shape))
        result = kernel_fn()(images(x1), None if x2 is None else images(x2), ("ntk", "nngp"))
        return Kernels(result.ntk, result.nngp)

    return kernel
