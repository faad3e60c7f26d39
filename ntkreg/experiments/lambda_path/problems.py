"""Problems for the λ-path: a data set, a network, a penalty, and what theory knows of them."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import data, networks
from ntkreg._types import PRNGKey, Scalar
from ntkreg.certificates.arrangements import MAX_RANK
from ntkreg.data.dataset import Dataset
from ntkreg.kernels import kernel_machines
from ntkreg.networks.network import Network
from ntkreg.theory import closed_forms

DATASETS = {"random": 2, "D": 2, "halfspace": 2, "digits": 1}  # and how many sizes each takes
MAX_DIM = 6  # in which branch and bound takes seconds on D
WANTED = (
    "dataset/depth/width/activation/power, dataset one of random:DIM:N, D:DIM:N, halfspace:DIM:N, "
    "orthonormal:N:N[:N…] (samples of each class) and digits:N"
)


class Problem(NamedTuple):
    """A data set with its sizes, a fully connected network, and the exponent r of ‖Θ‖^r."""

    dataset: str
    depth: int
    width: int
    activation: str
    power: float

    @property
    def name(self) -> str:
        """The kind of data, without its sizes."""
        return self.dataset.split(":")[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers after the name, as many as `DATASETS` says."""
        return tuple(map(int, self.dataset.split(":")[1:]))

    @property
    def num_samples(self) -> int:
        """Samples of all classes together."""
        return sum(self.sizes) if self.name == "orthonormal" else self.sizes[-1]

    @property
    def num_classes(self) -> int:
        """2 where labels are ±1."""
        return {"digits": 10, "orthonormal": len(self.sizes)}.get(self.name, 2)

    @property
    def loss(self) -> str:
        """The name in `objectives.LOSSES` of the loss for that many classes."""
        return "logistic" if self.num_classes == 2 else "cross_entropy"

    @property
    def is_certifiable(self) -> bool:
        """Whether the true minimizer is computed: two layers of relu, and few dimensions."""
        two_layers = (self.depth, self.activation, self.power) == (2, "relu", 2.0)
        return two_layers and self.sizes[0] <= {"random": MAX_RANK, "D": MAX_DIM}.get(self.name, 0)


class Reference(NamedTuple):
    """The max margin, the dual weights of its margins where they are known, and how it is known.

    kind is "exact", "closed form" (proved) or "best known" (a lower bound that training has never
    exceeded).
    """

    margin: float
    alpha: np.ndarray | None
    kind: str


def parsed(text: str) -> Problem:
    """The problem that "dataset:sizes/depth/width/activation/power" names.

    Raises:
      ValueError: where it names none.
    """
    parts = text.split("/")
    try:
        dataset, depth, width, activation, power = parts
        problem = Problem(dataset, int(depth), int(width), activation, float(power))
        sizes = problem.sizes
    except ValueError:
        raise ValueError(f"problems must be {WANTED}, got {text!r}") from None
    fits = DATASETS.get(problem.name) == len(sizes) or (
        problem.name == "orthonormal" and len(sizes) >= 2
    )
    if not fits or min(sizes) < 1 or problem.num_samples < 2 or not 0 < problem.power < np.inf:
        raise ValueError(f"problems must be {WANTED}, got {text!r}")
    network(problem)  # names depth, width or activation where they are bad
    return problem


def network(problem: Problem) -> Network:
    """The network that is trained."""
    outputs = 1 if problem.num_classes == 2 else problem.num_classes
    return networks.fully_connected(
        problem.depth, problem.width, num_outputs=outputs, activation=problem.activation
    )


@functools.partial(jax.jit, static_argnames="problem")
def draw(problem: Problem, number: Scalar) -> tuple[PRNGKey, Dataset]:
    """A key that depends on problem and number alone, and the samples of that number."""
    key = jax.random.fold_in(jax.random.key(number), problem.num_samples)
    key, data_key = jax.random.split(key)
    if problem.name == "orthonormal":
        return key, orthonormal(problem.sizes)
    if problem.name == "digits":
        return key, data.split(data_key, data.digits(), problem.num_samples)[0]
    samplers = {"D": data.noisy_xor, "halfspace": data.halfspace, "random": data.random_labels}
    return key, samplers[problem.name](data_key, problem.num_samples, problem.sizes[0])


def orthonormal(counts: tuple[int, ...]) -> Dataset:
    """The coordinate vectors, so many of each class; two classes are +1 and −1."""
    labels = np.repeat(np.arange(len(counts)), counts)
    y = jnp.asarray(1.0 - 2.0 * labels) if len(counts) == 2 else jnp.asarray(labels, jnp.int32)
    return Dataset(jnp.eye(len(labels)), y)


def reference(problem: Problem, number: int) -> Reference | None:
    """What theory says of the max margin; None where nothing does."""
    if problem.activation == "identity" and problem.num_classes == 2:
        x, y = draw(problem, number)[1]
        try:
            machine = kernel_machines.hard_margin_svm(x @ x.T, y)
        except kernel_machines.NotSeparable:
            return None
        margin = closed_forms.linear_margin(problem.depth, float(machine.margin))
        weights = np.asarray(machine.coefficients * y)
        return Reference(margin, weights / weights.sum(), "closed form")
    if problem.name != "orthonormal":
        return None
    depth, counts = problem.depth, problem.sizes
    if problem.activation == "quadratic" and (depth, len(counts)) == (2, 2):
        margin = closed_forms.orthonormal_quadratic_margin(*counts)
        return Reference(margin, _shares(counts, 2 / 3), "closed form")
    if problem.activation != "relu" or depth < 2:
        return None
    kind = "closed form" if depth == 2 else "best known"
    if len(counts) == 2:
        margin = closed_forms.orthonormal_margin(depth, *counts)
    else:
        margin = closed_forms.orthonormal_classes_margin(depth, counts)
    return Reference(margin, _shares(counts, 1 / depth), kind)


def _shares(counts: tuple[int, ...], exponent: float) -> np.ndarray:
    """Weights of all margins: class c has a share ∝ n_c^exponent, spread evenly over its margins.

    The chain of class c costs ∝ n_c^exponent, and a multiplier is what its margins, moved together,
    would save.
    """
    shares = np.asarray(counts, float) ** exponent
    pairs = len(counts) - 1  # of every sample
    return np.repeat(shares / shares.sum() / counts / pairs, np.multiply(counts, pairs))
