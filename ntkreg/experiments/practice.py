"""In practice: networks against their exact kernels on real images, and annealed against fixed λ.

Fully connected and convolutional ReLU networks with ℓ2 regularisation, and the infinite-width NTK
of each, learn from the same images and are tested on the same others. λ is fixed beforehand, and
nothing is tuned: the kernel of a pair of classes is the hard-margin SVM, of ten classes ridge
regression with next to no ridge. The network's λ comes down during training, as in the paper's
appendix, or stays where it begins or ends.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), the introduction, and the experiment on annealing.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import cells as stages
from ntkreg import kernels, networks
from ntkreg._types import Array, Float, PyTree, Shaped
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, practice_data
from ntkreg.experiments.practice_data import Source, parsed
from ntkreg.experiments.training import NET_DTYPE
from ntkreg.kernels import kernel_machines
from ntkreg.networks.convolution import convolutional
from ntkreg.networks.network import Network
from ntkreg.records import Record
from ntkreg.sweeps import Cell, Point
from ntkreg.training import trainers
from ntkreg.training.margins import margins, normalized_margin

STATIC = ("dataset", "model", "predictor", "num_samples")
AXIS = (*STATIC, "schedule", "seed")
COLUMNS = ("normalized_margin", "train_error", "test_error", "gradient_norm", "residual")
MODELS = ("fully_connected", "convolutional")
ANNEALED, FINAL, INITIAL = range(3)  # the schedules: λ comes down, or stays where it ends or begins
UNKNOWN = np.inf  # the residual of a network, the gradient of a kernel
LEAST_TEST = 1 / 8  # of a data set
BLOCK = 256  # of convolutional kernels, which hold a number for every pixel and pair of images


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      datasets: digits, mnist or cifar10, or two classes of one as digits:3:8.
      folder: where mnist.npz and cifar10.npz lie, or openml to fetch them.
      models: any of MODELS.
      sizes: n; for each data set those that leave an eighth of it for the test.
      num_test: test images at most: what the largest n leaves.
      num_seeds: splits into training and test images, each with a start of its own.
      width, channels: of the networks, of 2 and 3 weight layers.
      lam: λ at the end of training.
      factors: by which an annealed λ is multiplied on the way, after equal parts of the steps.
      annealing_sizes: the n at which λ is also held fixed, as it ends and as it begins.
      num_steps: Adam steps between two changes of λ.
      learning_rate: of Adam.
      ridge: λ of the kernels of ten classes.
    """

    datasets: tuple[str, ...] = ("digits:3:8", "digits:4:9", "digits")
    folder: str = ""
    models: tuple[str, ...] = MODELS
    sizes: tuple[int, ...] = (50, 250, 1400)
    num_test: int = 10_000
    num_seeds: int = 6
    width: int = 512
    channels: int = 8
    lam: float = 1e-5
    factors: tuple[float, ...] = (0.2, 0.5, 0.5, 0.5)
    annealing_sizes: tuple[int, ...] = (50, 250)
    num_steps: int = 80
    learning_rate: float = 0.01
    ridge: float = 1e-9

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("datasets", lambda text: bool(parsed(text)), practice_data.WANTED)
        check("models", *configs.one_of(MODELS))
        for name in ("sizes", "annealing_sizes"):
            check(name, lambda v: v >= 2, "at least 2")
        for name in ("num_test", "num_seeds", "width", "channels", "num_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("lam", "learning_rate", "ridge"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("factors", lambda v: 0 < v < 1, "between 0 and 1")
        check("annealing_sizes", *configs.one_of(self.sizes))
        configs.check_distinct(self, "datasets", "models", "sizes", "annealing_sizes")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores.

        full: hours on one accelerator, with MNIST and CIFAR-10 in a folder that the user names.
        """
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        datasets=("digits",), sizes=(50,), num_seeds=2, width=16, channels=2,
        annealing_sizes=(50,), num_steps=20,
    ),
    "laptop": dict(num_seeds=3),
    "thorough": {},
    "full": dict(
        datasets=("digits:3:8", "digits:4:9", "digits", "mnist", "cifar10"),
        sizes=(50, 250, 1400, 10_000), num_seeds=10, width=4096, channels=32, num_steps=1000,
        annealing_sizes=(250, 10_000),
    ),
}  # fmt: skip


def sizes_of(config: Config, dataset: str) -> tuple[list[int], int]:
    """The n of a data set, and how many test images there are beside the largest.

    Raises:
      ValueError: where no n leaves enough of them.
    """
    total = len(practice_data.pool(parsed(dataset), config.folder).y)
    most = int(total * (1 - LEAST_TEST))
    fitting = sorted({n for n in config.sizes if n <= most})
    if not fitting:
        raise ValueError(f"sizes must have one of at most {most} on {dataset}, got {config.sizes}")
    return fitting, min(config.num_test, total - fitting[-1])


def cells(config: Config) -> list[tuple]:
    """(dataset, model, predictor, num_samples, schedule, seed) of every cell."""
    found = []
    for dataset in config.datasets:
        for model in config.models:
            for n in sizes_of(config, dataset)[0]:
                schedules = range(3) if n in config.annealing_sizes else [ANNEALED]
                runs = [("network", n, s) for s in schedules] + [("kernel", n, ANNEALED)]
                seeds = range(config.num_seeds)
                found += [(dataset, model, *run, seed) for run in runs for seed in seeds]
    return found


def lam_paths(config: Config) -> Float[np.ndarray, "3 p"]:
    """λ of each part of training: annealed, as it ends, as it begins."""
    down = np.cumprod([1.0, *config.factors])
    annealed = config.lam * down / down[-1]
    return np.stack([annealed, 0 * down + config.lam, 0 * down + annealed[0]])


def network_of(config: Config, source: Source, model: str) -> Network:
    """The network of that name, with outputs for the classes of the data set."""
    if model == "fully_connected":
        return networks.fully_connected(2, config.width, source.num_outputs)
    return convolutional(source.image_shape, config.channels, num_outputs=source.num_outputs)


def drawn(config: Config, point: Point) -> tuple[Dataset, Dataset]:
    """Training and test images, the same for all that learn from this many of a seed."""
    num_test = sizes_of(config, point["dataset"])[1]
    source = parsed(point["dataset"])
    return practice_data.split(source, config.folder, point["num_samples"], num_test, point["seed"])


def cell(config: Config) -> Cell:
    """The cell of one network or kernel on one split of a data set."""
    return stages.chosen("predictor", {"network": _network(config), "kernel": _kernel(config)})


def _network(config: Config) -> Cell:
    paths = lam_paths(config)

    def trainer_of(point: Point) -> trainers.Trainer:
        source = parsed(point["dataset"])
        network = network_of(config, source, point["model"])
        return trainers.Trainer(network, loss=source.loss, num_steps=config.num_steps)

    def knobs(point: Point) -> trainers.Knobs:
        return trainers.knobs(
            jnp.asarray(paths)[point["schedule"]], config.learning_rate, NET_DTYPE
        )

    def prepare(point: Point) -> tuple[PyTree, PyTree]:
        train, test = drawn(config, point)
        trainer = trainer_of(point)
        params = trainer.network.init(jax.random.key(point["seed"]), train.x.shape[1])
        return (train, test), trainers.init(trainer, optax.tree.cast(params, NET_DTYPE))

    def advance(point: Point, context: PyTree, state: PyTree, num_steps: Array):
        cast = lambda a: a.astype(NET_DTYPE) if jnp.issubdtype(a.dtype, jnp.floating) else a
        train = jax.tree.map(cast, context[0])
        state = trainers.advance(trainer_of(point), train, knobs(point), state, num_steps)
        return state, trainers.is_done(trainer_of(point), knobs(point), state)

    def finish(point: Point, context: PyTree, state: PyTree) -> dict[str, Array]:
        network, (train, test) = trainer_of(point).network, context
        params = optax.tree.cast(state.params, train.x.dtype)
        of = lambda images: margins(network, params, images)
        norm = jnp.exp(_log_gradient_norm(trainer_of(point), params, train, knobs(point)))
        normalized = normalized_margin(network, params, train)
        return _measured(of(train), of(test), normalized, norm, UNKNOWN)

    total = config.num_steps * paths.shape[1]
    return Cell(prepare, advance, finish, config.num_steps, lambda point: total)


def _log_gradient_norm(trainer, params, train: Dataset, knobs: trainers.Knobs) -> Array:
    """log ‖∇ log F‖ at the last λ."""
    wide = trainers.Knobs(*(knob.astype(train.x.dtype) for knob in knobs))
    return trainers.measure(trainer, train, wide, trainers.init(trainer, params)).log_gradient_norm


def _kernel(config: Config):
    def learned(dataset, model, predictor, num_samples, schedule, seed) -> dict[str, Array]:
        point = dict(dataset=dataset, num_samples=num_samples, seed=seed)
        train, test = drawn(config, point)
        block_size = BLOCK if model == "convolutional" else None
        network = network_of(config, parsed(dataset), model)
        gram = kernels.ntk(network, train.x, block_size=block_size)
        cross = kernels.ntk(network, test.x, train.x, block_size)
        beta, residual = _coefficients(gram, train.y, config.ridge)
        fitted = gram @ beta
        norm = jnp.sqrt(jnp.sum(beta * fitted))
        own = _margins_of(fitted, train.y)
        tested = _margins_of(cross @ beta, test.y)
        return _measured(own, tested, jnp.min(own) / norm, UNKNOWN, residual)

    return learned


def _coefficients(
    gram: Float[Array, "n n"], labels: Shaped[Array, " n"], lam: float
) -> tuple[Float[Array, "n *k"], Float[Array, ""]]:
    """β of the hard-margin SVM for labels ±1, else of ridge on each class against the rest.

    And how well that was solved: the relative gap, or the relative residual of the equations.
    """
    if jnp.issubdtype(labels.dtype, jnp.floating):
        svm = kernel_machines.hard_margin_svm(gram, labels, tolerance=1e-8)
        return svm.coefficients, svm.relative_gap
    targets = jax.nn.one_hot(labels, 10, dtype=gram.dtype)
    solve = jax.vmap(kernel_machines.ridge, (None, 1, None), 2)  # one factorisation for all
    beta = solve(gram, targets, jnp.array([lam]))[0]
    error = gram @ beta + len(labels) * lam * beta - targets
    return beta, jnp.linalg.norm(error) / jnp.linalg.norm(targets)


def _margins_of(outputs: Float[Array, "n *k"], labels: Shaped[Array, " n"]) -> Float[Array, " n"]:
    """Margins of outputs that are there already."""
    there = Network(lambda key, dim: (), lambda params, found: found, None, 1)
    return margins(there, (), Dataset(outputs, labels))


def _measured(train: Array, test: Array, *others: Array | float) -> dict[str, Array]:
    """From margins, then the normalized margin, the gradient's norm and the residual."""
    wrong = lambda values: jnp.mean(~(values > 0))  # NaN is an error too
    normalized, *rest = others
    found = (normalized, wrong(train), wrong(test), *rest)
    return {n: jnp.asarray(v, train.dtype) for n, v in zip(COLUMNS, found, strict=True)}


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: activations or Gram matrices."""
    height, width, depth = parsed(point["dataset"]).image_shape
    n, num_test = point["num_samples"], sizes_of(config, point["dataset"])[1]
    images = 8 * (n + num_test) * height * width * depth
    is_conv = point["model"] == "convolutional"
    if point["predictor"] == "kernel":
        pairs = 6 * BLOCK**2 * height * width if is_conv else 0
        return images + 8 * (4 * n**2 + n * num_test + pairs)
    units = height * width * config.channels if is_conv else config.width
    # As XLA counts them: patches, activations and their gradients; a forward pass in float64.
    return images + max(4 * 30 * n, 8 * 18 * num_test) * units


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    return dict(function=cell(config), axes={AXIS: cells(config)}, static=STATIC)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`.

    It knows the images themselves: other files in the folder do not go into the same record.
    """
    named = {name: parsed(name) for name in config.datasets}
    images = {name: practice_data.digest(of, config.folder) for name, of in named.items()}
    return configs.swept(config, grid(config), memory, folder, images=images)
