"""The paper's first experiment: on a line the network becomes the ℓ1-SVM over 1000 neurons.

Points x of a line are inputs (x, 1), so that a neuron a·relu(wx + b) of a two-layer network has w
and b for its first layer, and ‖Θ‖² counts a, w and b. Networks are trained along a path of λ;
beside them stand, for every data set, the ℓ1-SVM over neurons (w, b) evenly spaced on the unit
circle, the certified max margin, and the true minimizer at every λ.

**Margins.** With |aⱼ| = ‖(wⱼ, bⱼ)‖ a network has ‖Θ‖² = 2 Σ|aⱼ|‖(wⱼ, bⱼ)‖, twice the ℓ1 norm of
its weights on unit neurons, and no other scaling of its neurons has less. So the max normalized
margin γ* is half the ℓ1-SVM's over all unit neurons.

**The gaps of the circle.** Over m neurons the ℓ1-SVM has less: moving every neuron to the nearest
one, at a distance of at most 2 sin(π/2m), costs a sample x at most ‖x‖ times that. So

    γ* − 2 sin(π/2m) maxᵢ‖(xᵢ, 1)‖/2 ≤ γ_SVM/2 ≤ γ*.

Where no sample's kink is between two neighbours the loss is of second order, a factor of cos(π/m)
at least; but the best neurons tend to have their kink on a sample, and there it is of first order.

**Functions** are compared after each is divided by its own least margin. The function of largest
margin need not be the only one, between samples and at samples beyond the margin; how far apart
those of two solvers lie is measured beside.

Source: Wei, Lee, Liu, Ma (arXiv 1810.05369, version 1), one-dimensional experiment.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import cells as stages
from ntkreg import certificates, networks
from ntkreg._types import Array, Params, PRNGKey, PyTree, Scalar
from ntkreg.certificates import two_layer
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs
from ntkreg.experiments.lambda_path import check_path
from ntkreg.experiments.path_minimizers import CLOSED, UNKNOWN
from ntkreg.kernels import l1_machines
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.theory import path_law
from ntkreg.training import paths, trainers

AXIS = ("kind", "num_samples", "draw", "seed")
STATIC = ("kind", "num_samples")
GRID = np.linspace(-1.0, 1.0, 401)  # where functions are compared
ALONG = ("normalized_margin", "log_objective", "norm", "log_residual", "log_lower", "predicted")
MARGINS = ("max_margin", "max_margin_gap", "svm_margin", "circle_loss")
LIMITS = ("svm_function", "limit_function")
SPREAD = 0.5  # of the interval between neighbours, within which a point is drawn


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      sizes: numbers of points.
      num_draws: data sets of each size.
      num_seeds: random starts on each.
      width: of the network.
      num_neurons: of the ℓ1-SVM, on the circle.
      lams: the path of λ, falling.
      num_steps, finish_steps: of Adam and then L-BFGS at each λ.
      learning_rate: of Adam.
    """

    sizes: tuple[int, ...] = (6, 10)
    num_draws: int = 8
    num_seeds: int = 3
    width: int = 100
    num_neurons: int = 1000
    lams: tuple[float, ...] = (
        1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-11, 1e-14, 1e-20, 1e-32, 1e-64, 1e-100,
    )  # fmt: skip
    num_steps: int = 4000
    finish_steps: int = 100
    learning_rate: float = 0.03

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("sizes", lambda n: n >= 2, "at least 2")
        for name in ("num_draws", "width"):
            check(name, lambda v: v >= 1, "at least 1")
        check("num_neurons", lambda m: m >= 3, "at least 3, to go round")
        configs.check_distinct(self, "sizes")
        check_path(self)

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: a minute on two cores. full: hours."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        sizes=(4,), num_draws=2, num_seeds=1, width=16, num_neurons=200,
        lams=(1e-2, 1e-6, 1e-14, 1e-32), num_steps=400, finish_steps=20,
    ),
    "laptop": dict(num_draws=6),
    "full": dict(sizes=(6, 10, 20), num_draws=50, num_seeds=10, num_steps=20_000),
}  # fmt: skip


def draw(num_samples: int, number: Scalar) -> tuple[PRNGKey, Dataset]:
    """The data set of that number: inputs (x, 1) and labels; and a key that only they determine.

    Of n equal parts of [−1, 1] each has one x, anywhere in its middle half, so that none are closer
    than 1/n; half of the labels, rounded down, are +1, in random order.
    """
    key = jax.random.fold_in(jax.random.key(number), num_samples)
    key, x_key, y_key = jax.random.split(key, 3)
    places = jax.random.uniform(
        x_key, (num_samples,), float, (1 - SPREAD) / 2, (1 + SPREAD) / 2
    ) + jnp.arange(num_samples)
    x = 2 * places / num_samples - 1
    labels = jnp.where(jnp.arange(num_samples) < num_samples // 2, 1.0, -1.0)
    inputs = jnp.stack([x, jnp.ones_like(x)], axis=1)
    return key, Dataset(inputs, jax.random.permutation(y_key, labels))


def circle_loss(num_neurons: int, x: np.ndarray) -> float:
    """By how much γ_SVM/2 over evenly spaced neurons can be below γ*, as derived above."""
    farthest = float(np.linalg.norm(x, axis=1).max())
    return float(np.sin(np.pi / (2 * num_neurons))) * farthest


def cells(config: Config) -> list[tuple[str, int, int, int]]:
    """(kind, num_samples, draw, seed): each data set once certified, and once from every start."""
    sets = [(n, number) for n in config.sizes for number in range(config.num_draws)]
    return [
        cell
        for one in sets
        for cell in (
            ("certified", *one, 0),
            *(("network", *one, seed) for seed in range(config.num_seeds)),
        )
    ]


def cell(config: Config) -> Cell:
    """The cell of one (kind, num_samples, draw, seed): arrays over λ and over GRID."""
    return stages.chosen("kind", {"network": _trained(config), "certified": _certified(config)})


def _trained(config: Config) -> Cell:
    network = networks.fully_connected(2, config.width)
    path = paths.Path(trainers.Trainer(network, num_steps=config.num_steps), config.finish_steps)
    knobs = trainers.knobs(config.lams, config.learning_rate, jnp.float64)
    steps = paths.total_steps(path, knobs)

    def prepare(point: Point) -> tuple[Dataset, PyTree]:
        key, samples = draw(point["num_samples"], point["draw"])
        params = network.init(jax.random.fold_in(key, point["seed"]), 2)
        return samples, paths.init(path, knobs, params)

    def advance(point: Point, samples: Dataset, state: PyTree, num_steps: Array):
        state = paths.advance(path, samples, knobs, state, num_steps)
        return state, paths.is_done(path, knobs, state)

    def shape(params: Params) -> Array:
        squared = optax.tree.norm(params, squared=True)
        on_grid = network.apply(params, jnp.asarray(_inputs(GRID)))
        return on_grid / jnp.where(squared > 0, squared, 1.0)

    def finish(point: Point, samples: Dataset, state: PyTree) -> dict[str, Array]:
        info = paths.measure(path, samples, knobs, state.ends)._asdict()
        unknown = jax.tree.map(lambda like: jnp.full(like.shape, UNKNOWN), _shapes(config))
        known = {name: info[name] for name in ALONG if name in info}
        return {**unknown, **known, "functions": jax.lax.map(shape, state.ends)}

    return Cell(prepare, advance, finish, config.num_steps, lambda point: steps)


def _certified(config: Config):
    def references(**point) -> dict[str, Array]:
        _, samples = draw(point["num_samples"], point["draw"])
        on_host = lambda x, y: certified(config, Dataset._make(map(np.asarray, (x, y))))
        return jax.pure_callback(on_host, _shapes(config), *samples, vmap_method="sequential")

    return references


def _shapes(config: Config) -> dict[str, jax.ShapeDtypeStruct]:
    along, grid = (len(config.lams),), GRID.shape
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(ALONG, along)
    shapes |= dict.fromkeys(MARGINS, ())
    shapes |= {"functions": (*along, *grid), **dict.fromkeys(LIMITS, grid)}
    return {name: jax.ShapeDtypeStruct(shape, jnp.float64) for name, shape in shapes.items()}


def _inputs(x: np.ndarray) -> np.ndarray:
    return np.stack([x, np.ones_like(x)], axis=1)


def certified(config: Config, samples: Dataset) -> dict[str, np.ndarray]:
    """What stands beside the networks of a data set, in NumPy on the host.

    max_margin: γ*, certified from above, with its relative gap. svm_margin: γ_SVM/2.
    circle_loss: how much less that can be. predicted: the law's γ_λ from the dual weights of the
    max margin. log_lower: certified, of log F. The rest is of the true minimizers of F_λ at every
    λ. Functions on GRID are over ‖Θ‖²; those of the ℓ1-SVM and of the network of max margin too,
    so that their least margins are svm_margin and γ*.
    """
    x, y = (np.asarray(a, np.float64) for a in samples)
    best = certificates.max_margin(samples, tolerance=CLOSED)
    features = lambda at: l1_machines.relu_dictionary(l1_machines.circle(config.num_neurons), at)
    svm = l1_machines.l1_svm(features(x), y)
    law = path_law.predicted(np.log(config.lams), best.upper, best.dual, len(y))
    law_margins = law.normalized_margin
    minima = [
        certificates.global_minimum(samples, lam, limit=best, tolerance=CLOSED)
        for lam in config.lams
    ]
    found = {
        "normalized_margin": [two_layer.normalized_margin(m.primal, x, y) for m in minima],
        "log_objective": [np.log(m.upper) for m in minima],
        "log_lower": [np.log(m.lower) for m in minima],
        "norm": [two_layer.squared_norm(m.primal) ** 0.5 for m in minima],
        "log_residual": [-np.inf for _ in minima],
        "predicted": np.where(np.isfinite(law_margins), law_margins, UNKNOWN),
        "max_margin": best.upper,
        "max_margin_gap": best.gap,
        "svm_margin": svm.lower / 2,
        "circle_loss": circle_loss(config.num_neurons, x),
        "functions": [_shape(m.primal) for m in minima],
        "svm_function": features(_inputs(GRID)) @ svm.weights / 2,
        "limit_function": _shape(best.primal),
    }
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _shape(params: Params) -> np.ndarray:
    return two_layer.outputs(params, _inputs(GRID)) / (two_layer.squared_norm(params) or 1.0)


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: parameters at every λ, activations, and functions."""
    copies, n = paths.copies_held(len(config.lams)), point["num_samples"]
    network = copies * 3 * config.width + 8 * n * config.width
    on_grid = GRID.size * (len(config.lams) + 3 * config.width + config.num_neurons)
    return 8 * (network + on_grid + 4 * n * config.num_neurons)


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)
