"""When training is the kernel method: wide networks, and outputs multiplied up.

Networks in `ntk` scaling descend the plain loss without λ, their initial function subtracted. Their
predictions are set beside those of the exact infinite-width kernel at the same time, and beside
those of the linearised network, whose kernel is the empirical one at the start.

Source: Jacot, Gabriel, Hongler (NeurIPS 2018); Chizat, Oyallon, Bach (NeurIPS 2019); Wei, Lee, Liu,
Ma (NeurIPS 2019), Section 1, on the learning rate and initial scale that it takes.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import data, kernels, networks
from ntkreg._types import Array, Float, Params, Scalar
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, descents
from ntkreg.records import Record
from ntkreg.sweeps import Point
from ntkreg.training import kernel_regime, objectives, trainers
from ntkreg.training.kernel_regime import FromStart, relative_change

STATIC = ("depth", "width", "loss")
AXIS = (*STATIC, "output_scale")
LOSSES = ("squared", "logistic")
UNKNOWN = np.inf  # of columns that only the squared loss has


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dim, num_samples, num_test: of the samples of D, and of the points where predictions are
        compared.
      widths, deep_widths: of networks with two and with three weight layers.
      losses: squared and logistic.
      output_scales, scale_width: multipliers of two-layer networks of that width; all the others
        have the multiplier 1.
      num_seeds: samples and starts, drawn anew for each.
      learning_rate, num_steps: of gradient descent; their product is the time at which it stops,
        whatever the loss.
      num_looks: at the predictions, equally far apart in log time.
    """

    dim: int = 10
    num_samples: int = 32
    num_test: int = 256
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    deep_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    losses: tuple[str, ...] = LOSSES
    output_scales: tuple[float, ...] = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
    scale_width: int = 256
    num_seeds: int = 10
    learning_rate: float = 1.0
    num_steps: int = 200
    num_looks: int = 9

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("dim", lambda v: v >= 3, "at least 3")
        for name in ("num_samples", "num_test", "widths", "deep_widths", "scale_width"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("num_seeds", "num_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("output_scales", "learning_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("losses", *configs.one_of(LOSSES))
        configs.check_distinct(self, "widths", "deep_widths", "losses", "output_scales")
        descents.look_steps(self.num_steps, self.num_looks)

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: a GPU."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dim=4, num_samples=8, num_test=16, widths=(16, 64), deep_widths=(16,),
        losses=("squared",), output_scales=(1.0, 64.0), scale_width=16, num_seeds=2, num_steps=50,
        num_looks=3,
    ),
    "laptop": dict(num_seeds=6),
    "thorough": {},
    "full": dict(
        dim=20, num_samples=64, num_test=1024, widths=tuple(2**k for k in range(6, 15)),
        deep_widths=tuple(2**k for k in range(6, 13)), scale_width=1024, num_seeds=20,
        learning_rate=0.2, num_steps=4000,
    ),
}  # fmt: skip


def cells(config: Config) -> list[tuple[int, int, str, float]]:
    """(depth, width, loss, output_scale) of every cell, each to be run with every seed."""
    found = []
    for loss in config.losses:
        found += [(2, width, loss, 1.0) for width in config.widths]
        found += [(3, width, loss, 1.0) for width in config.deep_widths]
        found += [(2, config.scale_width, loss, scale) for scale in config.output_scales]
    return list(dict.fromkeys(found))  # scale 1 at scale_width may be there twice


def look_steps(config: Config) -> np.ndarray:
    """The steps at which predictions are compared; the last is the end."""
    return np.array(descents.look_steps(config.num_steps, config.num_looks))


def cell(config: Config):
    """The function of (depth, width, loss, output_scale, seed) -> relative distances at every look.

    - prediction_distance: of the network's test predictions from the exact kernel's.
    - linearised_prediction_distance: of the linearised network's from the exact kernel's.
    - linearised_distance: of the network's from the linearised network's.
    - flow_distance: of the exact kernel's, in steps, from its flow (squared loss).

    And at the end: kernel_distance of the empirical NTK on the samples; linearised_error, by which
    the linearised network misses (I − 2ηK/n)^t of the empirical kernel (squared loss); train_loss,
    and kernel_train_loss of the exact kernel's predictor.
    """

    def run(depth, width, loss, output_scale, seed) -> dict[str, Array]:
        network = networks.fully_connected(depth, width, scaling="ntk")
        train, test, start = _drawn(config, network, seed)
        # s·Θ₀ multiplies outputs by s^order = α and the kernel by α²/s².
        scale = output_scale ** (1 / network.order)
        gain = output_scale**2 / scale**2
        start = optax.tree.scale(scale, start)
        rate = config.learning_rate / gain
        steps = jnp.asarray(look_steps(config))
        net, linear = (
            _descent(config, made(network), loss, train, test, start, rate, steps)
            for made in (kernel_regime.centred, kernel_regime.linearised)
        )
        gram, cross = kernels.ntk(network, train.x), kernels.ntk(network, test.x, train.x)
        exact = _kernel_descent(config, loss, gram, cross, train, steps)
        before = kernels.empirical_ntk(network, start, train.x) / gain
        after = kernels.empirical_ntk(network, net.params, train.x) / gain
        compare = jax.vmap(relative_change)
        value = objectives.get_loss(loss).value
        found = {
            "prediction_distance": compare(net.test, exact.test),
            "linearised_prediction_distance": compare(linear.test, exact.test),
            "linearised_distance": compare(net.test, linear.test),
            "flow_distance": jnp.full(steps.shape, UNKNOWN),
            "kernel_distance": relative_change(after, before),
            "linearised_error": jnp.full((), UNKNOWN),
            "train_loss": jnp.mean(value(net.train[-1], train.y)),
            "kernel_train_loss": jnp.mean(value(exact.train[-1], train.y)),
        }
        if loss == "squared":  # there is a closed form
            found["flow_distance"] = _flow_distance(config, gram, cross, train, exact, steps)
            found["linearised_error"] = _power_error(config, before, train, linear.train[-1])
        return found

    return run


def _drawn(config: Config, network: networks.Network, seed: Scalar):
    """Samples of D, points to compare at, and the network's start at multiplier 1."""
    data_key, start_key = jax.random.split(jax.random.key(seed))
    drawn = data.noisy_xor(data_key, config.num_samples + config.num_test, config.dim)
    train = jax.tree.map(lambda a: a[: config.num_samples], drawn)
    test = jax.tree.map(lambda a: a[config.num_samples :], drawn)
    return train, test, network.init(start_key, config.dim)


@dataclasses.dataclass(frozen=True)
class Outputs:
    """Outputs on the samples and on the test points at every look, and the last parameters."""

    train: Float[Array, "t n"]
    test: Float[Array, "t m"]
    params: Params | None = None


def _descent(config, network, loss, train: Dataset, test: Dataset, start, rate, steps) -> Outputs:
    trainer = trainers.Trainer(
        network,
        loss=loss,
        descend="plain",
        optimizer=optax.sgd,
        schedule=trainers.constant,
        num_steps=config.num_steps,
    )
    knobs = trainers.knobs(0.0, rate, train.x.dtype)

    def look(state, last):
        state = trainers.advance(trainer, train, knobs, state, last - state.step)
        outputs = network.apply(state.params, jnp.concatenate([train.x, test.x]))
        return state, outputs

    state, outputs = jax.lax.scan(look, trainers.init(trainer, FromStart(start, start)), steps)
    n = config.num_samples
    return Outputs(outputs[:, :n], outputs[:, n:], state.params.params)


def _kernel_descent(config, loss, gram, cross, train: Dataset, steps) -> Outputs:
    """The predictor of gradient descent in the kernel's space, at the same steps."""

    def look(carry, last):
        beta, step = carry
        beta = kernel_regime.kernel_descent(
            objectives.get_loss(loss), gram, train.y, config.learning_rate, last - step,
            coefficients=beta,
        )  # fmt: skip
        return (beta, last), beta

    first = (jnp.zeros_like(train.y), jnp.zeros_like(steps[0]))
    _, betas = jax.lax.scan(look, first, steps)
    return Outputs(betas @ gram, betas @ cross.T)


def _flow_distance(config, gram, cross, train: Dataset, exact: Outputs, steps) -> Array:
    """How far steps of this length are from the flow, whose closed form is the squared loss's."""
    betas = kernel_regime.kernel_flow(gram, train.y, config.learning_rate * steps)
    return jax.vmap(relative_change)(exact.test, betas @ cross.T)


def _power_error(config, gram, train: Dataset, outputs: Array) -> Array:
    """How far `outputs` are from y − (I − 2ηK/n)^t y, by the eigenvalues of K."""
    values, vectors = jnp.linalg.eigh(gram)
    shrunk = (1 - 2 * config.learning_rate * values / config.num_samples) ** config.num_steps
    return relative_change(outputs, train.y - vectors @ (shrunk * (vectors.T @ train.y)))


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: two Jacobians on the samples, and activations."""
    depth, width, points = point["depth"], point["width"], config.num_samples + config.num_test
    size = width * (config.dim + 1) + (depth - 2) * width**2
    return 8 * (size * (2 * config.num_samples + 6) + 2 * depth * points * width)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    axes = {AXIS: cells(config), "seed": range(config.num_seeds)}
    return dict(function=cell(config), axes=axes, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
