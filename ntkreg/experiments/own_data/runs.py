"""What is trained on a user's data and measured of it: the rows that the page is made of."""

import contextlib
import dataclasses
import functools
import importlib
import inspect
import os
import pathlib
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import certificates, kernels
from ntkreg._types import Array, Float, Params, PRNGKey, Shaped
from ntkreg.data import files
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment, lambda_path
from ntkreg.kernels import tangent
from ntkreg.networks.flax_modules import from_flax
from ntkreg.networks.network import Network, fully_connected
from ntkreg.sweeps.programs import FAILED
from ntkreg.training import paths, trainers
from ntkreg.training.kernel_regime import relative_change
from ntkreg.training.margins import margins
from ntkreg.training.stationarity import CONVERGED

MODULE = "package.module:name of a flax.linen module or of what builds an nnx module"
NETWORK, UNREGULARISED, KERNEL, PROOF, DATA = MODELS = (
    "network", "network without λ", "NTK", "certified", "data"
)  # fmt: skip
SVM, RIDGE, LOGISTIC = MACHINES = ("NTK, SVM", "NTK, ridge", "NTK, logistic")
LARGEST_LOG = 700.0  # e to it is still a float64
ZERO = 1e-6  # outputs that are nowhere larger are those of the zero network
DRIFT_POINTS = 64  # training points that the drift of the kernel is measured on
MOST_TEST = 10_000  # rows of a held-out part
MOST_BYTES = 2**31  # of a module's gradients at the training rows
PROOF_GAP, PROOF_NODES, PROOF_ROUNDS = 1e-3, 2000, 30  # where a certificate is done, or ends
COLUMNS = (
    "model", "width", "seed", "lam", "norm", "normalized_margin", "dual_weighted_margin",
    "train_error", "validation_error", "test_error", "log_objective", "stationarity", "converged",
    "is_zero", "drift", "alignment", "lower", "upper", "note", FAILED,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained, on what and how.

    Attributes:
      data: the file: npz, npy, CSV or TSV, libsvm, IDX or parquet.
      label: the label's column of a table, its name or its place from 1; the last unless given.
      drop_missing: leaves out rows with missing cells, which are refused otherwise.
      raw: leaves the features as they are, in place of mean 0 and variance 1 on the training part.
      bias: gives the fully connected network one more feature, 1 in every row, which is a bias of
        its first layer; neither with raw features, nor with a module.
      test_share: of the rows, for the test where the file has no test part of its own, and of the
        other rows for the choice of λ.
      num_samples: at most so many training rows are used, a random choice in every split.
      module: package.module:name of a Flax module; without it the network is fully connected, of
        ReLU units.
      depth: the number of its weight layers.
      width: the number of units in each.
      widths: smaller ones to compare with.
      num_seeds: random starts, each with a split of its own.
      lams: the path of λ, falling.
      num_steps: of Adam at each λ.
      finish_steps: of L-BFGS after them.
      learning_rate: of Adam.
      kernel_lams: λ of the kernel's ridge and logistic regression.
      certify: the largest rows · rank up to which minima and max margin are certified; 0 for never.
    """

    data: str = ""
    label: str = ""
    drop_missing: bool = False
    raw: bool = False
    bias: bool = True
    test_share: float = 0.2
    num_samples: int = 1000
    module: str = ""
    depth: int = 2
    width: int = 100
    widths: tuple[int, ...] = (8, 32)
    num_seeds: int = 4
    lams: tuple[float, ...] = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4, 1e-6)
    num_steps: int = 500
    finish_steps: int = 50
    learning_rate: float = 0.03
    kernel_lams: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
    certify: int = 600

    def __post_init__(self):
        lambda_path.check_path(self)
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for name in ("depth", "width", "num_samples"):
            check(name, lambda v: v >= 1, "at least 1")
        check("test_share", lambda v: 0 < v <= 0.5, "above 0 and at most 0.5")
        check("kernel_lams", lambda v: 0 < v < np.inf, "positive and finite")
        check("certify", lambda v: v >= 0, "at least 0")
        for width in self.widths:  # there may be none
            if not 1 <= width < self.width and not self.module:
                raise ValueError(f"widths must be at least 1 and below width, got {width}")
        _experiment.check_distinct(self, "widths", "kernel_lams")


# smoke: seconds. laptop: a minute for some hundred samples. full: many cores.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        num_samples=300, width=16, widths=(4,), num_seeds=2, lams=(1e-2, 1e-4, 1e-8), num_steps=200,
        finish_steps=10, kernel_lams=(1e-1, 1e-3, 1e-5), certify=100,
    ),
    "laptop": {},
    "full": dict(
        width=1000, widths=(4, 16, 64, 250), num_seeds=20, num_steps=20_000, finish_steps=200,
        num_samples=20_000, certify=3000,
        lams=(1e-1, 3e-2, 1e-2, 3e-3, 1e-3, *(10.0 ** -np.arange(4, 101, 4)).tolist()),
    ),
}  # fmt: skip


def folder(config: Config, preset: str) -> str:
    """Where results go: named like the file, whatever the preset."""
    stem = pathlib.Path(config.data).name.removesuffix(".gz")
    return f"results/own_data/{pathlib.Path(stem).stem}"


# What is learned -----------------------------------------------------------------------------


class Problem(NamedTuple):
    """A user's data, in NumPy's arrays, and their network, which fit each other.

    Attributes:
      rows: what is split; labels ±1, learned with the logistic loss, or classes, with the
        cross-entropy.
      test: the file's own test part; without it every split has one.
      network: with one output for labels ±1, else with one for each class.
      said: how the file was read, for a person.
    """

    rows: Dataset
    test: Dataset | None
    network: Network
    loss: str
    said: tuple[str, ...]
    config: Config


class Split(NamedTuple):
    """The parts of a split, standardised unless features are to stay as they are."""

    train: Dataset
    validation: Dataset
    test: Dataset


def prepare(config: Config) -> Problem:
    """The user's data and network.

    Raises:
      ValueError: in one line, where the file, the module, or the two together will not do.
    """
    if not config.data:
        raise ValueError(f"--data must be a data file ({files.KINDS}), got none")
    try:
        found = files.read(config.data, config.label, config.drop_missing)
    except ValueError as error:
        raise ValueError(f"--data={error}") from None
    rows, num_classes = found.train, len(found.classes)
    is_class = num_classes > 2
    if config.module:
        network, num_outputs = _users_network(config.module, rows.x.shape[1], num_classes)
        if num_outputs == num_classes == 2:  # a softmax over two classes
            is_class = True
            found = found._replace(train=_as_classes(rows), test=_as_classes(found.test))
    else:
        network = fully_connected(config.depth, config.width, num_classes if is_class else 1)
    loss = "cross_entropy" if is_class else "logistic"
    problem = Problem(found.train, found.test, network, loss, (), config)
    return problem._replace(said=(*found.said, *_decided(problem)))


def _as_classes(part: Dataset | None) -> Any:
    """The same with the classes 0 and 1 in place of the labels ±1."""
    return part and Dataset._make((part.x, np.int32(np.asarray(part.y) > 0)))


def _users_network(name: str, input_dim: int, num_classes: int) -> tuple[Network, int]:
    """(the network of the module that is named, the number of its outputs)."""
    try:
        network = from_flax(imported(name), input_dim=input_dim)
    except ValueError as error:
        raise ValueError(f"--module={name}: {error}") from None
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), input_dim))
    x = jax.ShapeDtypeStruct((2, input_dim), float)
    num_outputs = (*jax.eval_shape(network.apply, shapes, x).shape[1:], 1)[0]
    if num_outputs != num_classes and not (num_classes == 2 and num_outputs == 1):
        wanted = "1 or 2 outputs" if num_classes == 2 else f"{num_classes} outputs"
        raise ValueError(
            f"--module={name}: it must have {wanted} for {num_classes} classes, got {num_outputs}"
        )
    return network, num_outputs


def imported(name: str) -> Any:
    """The Flax module that "package.module:name" names; of a linen class, its instance.

    It is searched for in the working directory too, as `python -m` does.

    Raises:
      ValueError: where there is none.
    """
    from flax import linen

    where, _, what = name.partition(":")
    if not (where and what):
        raise ValueError(f"it must be {MODULE}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        found = getattr(importlib.import_module(where), what)
        is_class = inspect.isclass(found) and issubclass(found, linen.Module)
        return found() if is_class else found
    except Exception as error:  # whatever the user's file does when it is imported
        raise ValueError(f"it must be {MODULE}: {' '.join(str(error).split())}") from None


def _decided(problem: Problem) -> list[str]:
    """What is done with the data, a line each."""
    config, rows = problem.config, problem.rows
    parts, said = split(problem, 0), []
    where = "from the file" if problem.test is not None else f"{config.test_share:g} of the rows"
    said.append(
        f"test part: {where}, {len(parts.test.y)} rows; of the others {len(parts.validation.y)} "
        f"choose λ and {len(parts.train.y)} are learned from, drawn anew for each of "
        f"{config.num_seeds} seeds"
    )
    used = sum(len(part.y) for part in parts)
    there = len(rows.y) + (0 if problem.test is None else len(problem.test.y))
    if used < there:
        said.append(f"{used} of {there} rows are used in each split (--num_samples)")
    scales = rows.x.std(axis=0)
    constant = int((scales == 0).sum())
    if config.raw:
        varied = scales[scales > 0]
        said.append(
            f"features as they are (--raw): entries up to {np.abs(rows.x).max():.3g}, deviations "
            f"from {varied.min(initial=np.inf):.2g} to {varied.max(initial=0):.2g}"
        )
    else:
        said.append(
            "features standardised: mean 0 and variance 1 on the training part of each split; "
            "margins and norms are those of the standardised data (--raw leaves them as they are)"
        )
    if has_bias(config):
        said.append("one more feature is 1 in every row: a bias of the first layer (--nobias)")
    if constant:
        end = "stay as they are" if config.raw else "are 0 once standardised"
        said.append(f"{constant} of {len(scales)} features are constant and {end}")
    return said


def split(problem: Problem, seed: int) -> Split:
    """The parts of that seed, of the same sizes for all seeds.

    Raises:
      ValueError: where a part would be empty, or a class has no row to learn from.
    """
    rows, config = problem.rows, problem.config
    rng = np.random.default_rng(seed)
    order = _in_proportion(np.asarray(rows.y), rng)
    take = lambda part: Dataset._make((rows.x[part], rows.y[part]))
    if problem.test is None:
        count = min(round(config.test_share * len(order)), MOST_TEST)
        test, order = take(order[:count]), order[count:]
    else:
        chosen = np.random.default_rng(0).permutation(len(problem.test.y))[:MOST_TEST]
        test = Dataset._make(array[chosen] for array in problem.test)
    count = min(round(config.test_share * len(order)), config.num_samples)
    validation, order = take(order[:count]), order[count:][-config.num_samples :]
    train = take(order)
    if not len(test.y) or not len(validation.y):
        raise ValueError(f"data must have more rows for their test_share, got {len(rows.y)}")
    missing = np.setdiff1d(rows.y, train.y)
    if missing.size:
        raise ValueError(
            f"data must have more rows of each class, got too few of class {missing[0]:g} to learn "
            f"from, of {len(rows.y)} rows"
        )
    if config.raw:
        return Split(train, validation, test)
    return _standardised(has_bias(config), train, validation, test)


def has_bias(config: Config) -> bool:
    """Whether there is one more feature."""
    return config.bias and not config.raw and not config.module


def _in_proportion(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random order of the rows in which every stretch has the classes in proportion."""
    order = rng.permutation(len(y))
    places = np.empty(len(y))
    for value in np.unique(y):
        own = order[y[order] == value]
        places[own] = (np.arange(len(own)) + 0.5) / len(own)
    return order[np.argsort(places[order], kind="stable")]


def _standardised(has_bias: bool, train: Dataset, *others: Dataset) -> Split:
    """All parts with the mean and the scale of the training part; what is constant there is 0."""
    x = np.asarray(train.x)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-12 * np.abs(x).max(axis=0), scale, np.inf)

    def scaled(part: Dataset) -> Dataset:
        ones = np.ones((len(part.y), int(has_bias)))
        return Dataset._make((np.concatenate([(part.x - mean) / scale, ones], axis=1), part.y))

    return Split(*map(scaled, (train, *others)))


# Run -----------------------------------------------------------------------------------------


def points(config: Config) -> list[dict[str, Any]]:
    """A network and its kernel on every split; what compiles longest comes first."""
    point = lambda model, seed, width=config.width: dict(model=model, width=width, seed=seed)
    seeds = range(config.num_seeds)
    of_all = [point(model, seed) for model in (NETWORK, UNREGULARISED, KERNEL) for seed in seeds]
    narrow = [] if config.module else [
        point(NETWORK, seed, width)
        for width in config.widths for seed in seeds
    ]  # fmt: skip
    return [*of_all, *narrow, point(PROOF, 0), point(DATA, 0)]


def run(problem: Problem, model: str, width: int, seed: int) -> dict[str, Any]:
    """What was measured of a model on the split and from the start of that seed.

    Arrays have an entry for every λ: `lam`, and `machine` where there are several.
    """
    if model == DATA:
        return {"note": np.array(problem.said)}
    parts = split(problem, seed)
    if model == PROOF:
        return _proved(problem, parts.train)
    parts = jax.tree.map(jnp.asarray, parts)
    start = _start(problem, width, jax.random.key(seed))
    if model == KERNEL:
        return _kernel(problem, parts, start)
    return _trained(problem, parts, start, model == NETWORK)


def _start(problem: Problem, width: int, key: PRNGKey) -> Params:
    """Initial parameters; those of a narrower network have zeros for the units that it lacks.

    These stay zero, as they have no gradient, so that one program serves all widths.
    """
    config = problem.config
    dim = problem.rows.x.shape[1] + has_bias(config)
    full = problem.network.init(key, dim)
    if config.module or width == config.width:
        return full
    narrow = fully_connected(config.depth, width, full[-1].shape[1]).init(key, dim)
    widened = lambda part, whole: jnp.pad(
        part, [(0, size - own) for own, size in zip(part.shape, whole.shape, strict=True)]
    )
    return jax.tree.map(widened, narrow, full)


def _trained(problem: Problem, parts: Split, start: Params, has_lam: bool) -> dict[str, Any]:
    """The network along the path of λ, or at λ = 0 after as many steps as all of the path has."""
    network, config = problem.network, problem.config
    options = dict(loss=problem.loss, learning_rate=config.learning_rate, params=start)
    key = jax.random.key(0)  # draws nothing: there is a start
    if has_lam:
        ends, info = paths.train_path(
            network, parts.train, lams=config.lams, key=key, num_steps=config.num_steps,
            finish_steps=config.finish_steps, **options,
        )  # fmt: skip
        found = {"lam": np.array(config.lams), **info._asdict()}
        # The residual of the zero network is infinite; its path has not diverged.
        found["log_residual"] = jnp.minimum(info.log_residual, LARGEST_LOG)
    else:
        end, last = trainers.train(
            network, parts.train, lam=0.0, key=key, descend="plain",
            num_steps=config.num_steps * len(config.lams), **options,
        )  # fmt: skip
        ends = jax.tree.map(lambda array: array[None], end)
        names = ("norm", "normalized_margin", "log_objective")
        found = {"lam": np.zeros(1)} | {name: getattr(last, name)[None] for name in names}
    each = [jax.tree.map(lambda array, i=i: array[i], ends) for i in range(len(found["lam"]))]
    measured = [jax.device_get(_measured(network, start, end, parts)) for end in each]
    return found | {name: np.array([one[name] for one in measured]) for name in measured[0]}


@functools.partial(jax.jit, static_argnames="network")
def _measured(network: Network, start: Params, end: Params, parts: Split) -> dict[str, Array]:
    """Errors on all parts, and how far the empirical NTK is from that at the start."""
    wrong = lambda part: jnp.mean(~(margins(network, end, part) > 0), dtype=float)
    points = parts.train.x[:DRIFT_POINTS]
    first, last = (kernels.empirical_ntk(network, params, points) for params in (start, end))
    size = jnp.linalg.norm(last) * jnp.linalg.norm(first)
    return {
        "train_error": wrong(parts.train),
        "validation_error": wrong(parts.validation),
        "test_error": wrong(parts.test),
        "largest_output": jnp.abs(network.apply(end, parts.train.x)).max(),
        "drift": relative_change(last, first),
        "alignment": jnp.sum(last * first) / jnp.where(size > 0, size, 1.0),
    }


# Kernel --------------------------------------------------------------------------------------


def _kernel(problem: Problem, parts: Split, start: Params) -> dict[str, Any]:
    """The machines of the network's NTK: the exact one, or else the empirical one at the start."""
    network, config, train = problem.network, problem.config, parts.train
    x = jnp.concatenate([part.x for part in parts])
    if network.kernel is None:
        outputs = jax.eval_shape(network.apply, start, train.x).size
        needed = outputs * sum(leaf.size for leaf in jax.tree.leaves(start)) * x.dtype.itemsize
        if needed > MOST_BYTES:
            size = f"{needed / 2**30:.1f} GiB, above {MOST_BYTES / 2**30:g}"
            return {"note": f"the module's gradients at the training rows take {size}: no NTK"}
        cross = _empirical_ntk(network, start, x, train.x)
        note = "the empirical NTK at the start, since no exact one of a module is known"
    else:
        cross, note = kernels.ntk(network, x, train.x), "the exact NTK of infinite width"
    gram = cross[: len(train.y)]
    gram = (gram + gram.T) / 2
    found = [
        {"machine": machine, "lam": lam} | _errors(cross @ beta, parts)
        for machine, lam, beta in _fitted(gram, train.y, config)
    ]
    if jnp.issubdtype(train.y.dtype, jnp.integer):
        note += "; hard-margin SVM and logistic regression are there for two classes alone"
    elif not any(row["machine"] == SVM for row in found):
        note += "; no function of its space separates the training part, so there is no SVM"
    return {"note": note} | {name: np.array([row[name] for row in found]) for name in found[0]}


def _empirical_ntk(
    network: Network, params: Params, x: Float[Array, "m d"], train_x: Float[Array, "n d"]
) -> Float[Array, "m n"]:
    """In blocks of n rows: the gradients of more do not fit beside each other."""
    block = jax.jit(functools.partial(kernels.empirical_ntk, network))
    found = np.zeros((len(x), len(train_x)), x.dtype)
    for first in tangent.block_starts(len(x), len(train_x)):
        rows = slice(first, first + len(train_x))
        found[rows] = block(params, x[rows], train_x)
    return jnp.asarray(found)


def _fitted(gram: Float[Array, "n n"], y: Shaped[Array, " n"], config: Config):
    """(machine, λ, coefficients) of every machine that there is."""
    lams = jnp.array(config.kernel_lams)
    if jnp.issubdtype(y.dtype, jnp.integer):
        targets = 2 * jax.nn.one_hot(y, int(y.max()) + 1, dtype=gram.dtype) - 1
        betas = jax.vmap(kernels.ridge, (None, 1, None), 2)(gram, targets, lams)
        yield from ((RIDGE, lam, beta) for lam, beta in zip(config.kernel_lams, betas, strict=True))
        return
    with contextlib.suppress(kernels.NotSeparable):
        yield SVM, 0.0, kernels.hard_margin_svm(gram, y).coefficients
    for lam, beta in zip(config.kernel_lams, kernels.ridge(gram, y, lams), strict=True):
        yield RIDGE, lam, beta
    falling = sorted(config.kernel_lams, reverse=True)
    path = kernels.logistic_path(gram, y, jnp.array(falling))
    for lam, beta in zip(falling, path.coefficients, strict=True):
        yield LOGISTIC, lam, beta


def _errors(outputs: Float[Array, "m *k"], parts: Split) -> dict[str, float]:
    """The share of every part that is wrong, of outputs at all points in the parts' order."""
    values, y = np.asarray(outputs), np.concatenate([part.y for part in parts])
    if values.ndim == 1:
        right = y * values > 0
    else:
        own = np.take_along_axis(values, y[:, None], axis=1)
        right = (values < own).sum(axis=1) == values.shape[1] - 1
    ends = np.cumsum([len(part.y) for part in parts])[:-1]
    names = ("train_error", "validation_error", "test_error")
    shares = [float(1 - np.mean(part)) for part in np.split(right, ends)]
    return dict(zip(names, shares, strict=True))


# Certificates --------------------------------------------------------------------------------


def _proved(problem: Problem, train: Dataset) -> dict[str, Any]:
    """Bounds of the minimum of F at every λ, and at λ = 0 of the max margin, over all widths."""
    config = problem.config
    if config.module or config.depth != 2:
        return {"note": "minima are certified for two layers of ReLU units alone"}
    if problem.loss != "logistic":
        return {"note": "minima are certified for two classes alone"}
    size = train.x.shape[0] * int(np.linalg.matrix_rank(train.x))
    if size > config.certify:
        return {
            "note": f"the data are too many for a certificate in little time: rows · rank is {size}"
            f", above {config.certify} (--certify raises the limit)"
        }
    options: Any = dict(
        oracle="branch_and_bound", tolerance=PROOF_GAP, max_nodes=PROOF_NODES,
        max_rounds=PROOF_ROUNDS,
    )  # fmt: skip
    found, notes = [], []
    for lam in (0.0, *config.lams):
        try:
            proof = (
                certificates.global_minimum(train, lam, **options)
                if lam
                else certificates.max_margin(train, **options)
            )
            found.append((lam, proof.lower, proof.upper))
        except kernels.NotSeparable as error:
            notes.append(f"λ = {lam:g}: {error}" if lam else "no network separates these rows")
    names = ("lam", "lower", "upper") if found else ()
    arrays = dict(zip(names, map(np.array, zip(*found, strict=True)), strict=True))
    return {"note": "; ".join(notes), **arrays}


# Table ---------------------------------------------------------------------------------------


def table(swept: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every model, width, seed and λ.

    model: a network, the same without λ, a machine of its NTK, what is certified, or the data, the
    notes of which say how the file was read. norm: ‖Θ‖₂. stationarity: the relative residual, empty
    at λ = 0 and at the zero network; converged: whether it is below 0.001, so that the optimizer
    has done its work, or the network is zero (is_zero), which is stationary too, has no margin and
    errs everywhere. drift: ‖K − K₀‖/‖K₀‖ of the empirical NTK since the start; alignment: the
    cosine between the two. lower, upper: the certified bounds of F, or for λ = 0 of the max margin.
    """
    rows = pandas.concat(map(_exploded, swept.to_dict("records")), ignore_index=True)
    for column in ("log_residual", "largest_output", "machine"):
        rows[column] = rows.get(column, np.nan)
    rows["model"] = rows.machine.where(rows.machine.notna(), rows.model)
    is_trained = rows.model.isin([NETWORK, UNREGULARISED]) & rows.largest_output.notna()
    rows["is_zero"] = is_trained & (rows.largest_output < ZERO)
    residual = rows.log_residual.where((rows.log_residual < LARGEST_LOG) & ~rows.is_zero)
    rows["stationarity"] = np.exp(residual.astype(float))
    rows["converged"] = (rows.stationarity < CONVERGED) | rows.is_zero
    for column in ("normalized_margin", "dual_weighted_margin"):
        rows[column] = rows.get(column, pandas.Series(np.nan, rows.index)).mask(rows.is_zero, 0.0)
    for column in ("train_error", "validation_error", "test_error"):  # it names no class
        rows[column] = rows[column].mask(rows.is_zero, 1.0)
    return rows.reindex(columns=[*COLUMNS])


def _exploded(row: dict[str, Any]) -> pandas.DataFrame:
    """A row for each entry of the arrays in a row; at least one."""
    arrays = {name: value for name, value in row.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in row.items() if name not in arrays}
    length = max([len(value) for value in arrays.values()], default=0)
    return pandas.DataFrame({**plain, **arrays}, index=range(max(length, 1)))
