"""The λ-path of a user's own network on their own arrays: what `lambda_path` does, for any data.

Nothing is known of such data beforehand, so no claim is made. What stands beside the margins is
whether the optimizer reached a stationary point at all (`stationarity.log_residual`).

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4.
"""

import dataclasses
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

from ntkreg._types import Array, Float
from ntkreg.data import named
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment, _style, lambda_path
from ntkreg.experiments._experiment import Experiment
from ntkreg.networks.flax_modules import from_flax
from ntkreg.networks.network import Network, fully_connected
from ntkreg.sweeps import grid
from ntkreg.sweeps.programs import FAILED
from ntkreg.training import paths, trainers
from ntkreg.training.margins import margins
from ntkreg.training.stationarity import CONVERGED

MODULE = "package.module:name of a flax.linen module or of what builds an nnx module"
LARGEST_LOG = 700.0  # e to it is still a float64
COLUMNS = (
    "seed", "lam", "norm", "normalized_margin", "dual_weighted_margin", "train_error",
    "test_error", "log_objective", "stationarity", "converged", FAILED,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """What is trained, on what and how.

    Attributes:
      data: the npz file (`ntkreg.data.load`).
      module: package.module:name of a Flax module; empty for a fully connected ReLU network, of
        `depth` weight layers and `width` units in each, which a module does not need.
      num_seeds: random starts.
      lams: the path of λ, falling.
      num_steps, finish_steps: of Adam and then L-BFGS at each λ.
      learning_rate: of Adam.
    """

    data: str = ""
    module: str = ""
    depth: int = 2
    width: int = 100
    num_seeds: int = 4
    lams: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-16)
    num_steps: int = 2000
    finish_steps: int = 100
    learning_rate: float = 0.03

    def __post_init__(self):
        lambda_path.check_path(self)
        for name in ("depth", "width"):
            _experiment.check_field(name, getattr(self, name), lambda v: v >= 1, "at least 1")


# smoke: seconds. laptop: minutes for some hundred samples. full: many cores.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(width=16, num_seeds=2, lams=(1e-2, 1e-4, 1e-8), num_steps=200, finish_steps=10),
    "laptop": {},
    "full": dict(
        width=1000, num_seeds=20, num_steps=20_000,
        lams=(1e-1, 1e-2, 1e-3, *(10.0 ** -np.arange(4, 101, 4)).tolist()),
    ),
}  # fmt: skip


def folder(config: Config, preset: str) -> str:
    """Where results go: named like the file, whatever the preset."""
    return f"results/own_data/{pathlib.Path(config.data).stem}"


class Problem(NamedTuple):
    """What a path is followed on.

    Attributes:
      train, test: labels ±1, learned with the logistic loss, or classes, with the cross-entropy.
      network: with one output for labels ±1, else with one for each class.
    """

    train: Dataset
    test: Dataset | None
    network: Network
    loss: str
    config: Config


def prepare(config: Config) -> Problem:
    """The user's arrays and network, which fit each other.

    Raises:
      ValueError: in one line, where the file, the module, or the two together will not do.
    """
    try:
        train, test = named.read(config.data)
    except ValueError as error:
        raise ValueError(f"--data={error}") from None
    is_class = jnp.issubdtype(train.y.dtype, jnp.integer)
    loss = "cross_entropy" if is_class else "logistic"
    if config.module:
        network = _users_network(config.module, train.x.shape[1])
    else:
        num_outputs = int(train.y.max()) + 1 if is_class else 1
        network = fully_connected(config.depth, config.width, num_outputs)
    trainers.begin(network, train, jax.random.key(0), loss)
    return Problem(train, test, network, loss, config)


def _users_network(name: str, input_dim: int) -> Network:
    try:
        return from_flax(imported(name), input_dim=input_dim)
    except ValueError as error:
        raise ValueError(f"--module={name}: {error}") from None


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
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(f"it must be {MODULE}: {' '.join(str(error).split())}") from None


def points(config: Config) -> list[dict[str, Any]]:
    """One for each start."""
    return grid(seed=range(config.num_seeds))


def run(problem: Problem, seed: Array) -> dict[str, Array]:
    """What was measured at the end of every λ from one start: arrays with an entry for each."""
    train, test, network, loss, config = problem
    ends, info = paths.train_path(
        network, train, lams=config.lams, key=jax.random.key(seed), loss=loss,
        learning_rate=config.learning_rate, num_steps=config.num_steps,
        finish_steps=config.finish_steps,
    )  # fmt: skip

    def errors(samples: Dataset) -> Float[Array, " p"]:
        wrong = lambda params: ~(margins(network, params, samples) > 0)  # NaN is an error too
        return jax.lax.map(lambda params: jnp.mean(wrong(params), dtype=float), ends)

    found = {**info._asdict(), "train_error": errors(train)}
    # The residual of the zero network is infinite; its path has not diverged.
    found["log_residual"] = jnp.minimum(info.log_residual, LARGEST_LOG)
    return found if test is None else {**found, "test_error": errors(test)}


def table(swept: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every start and λ.

    norm: ‖Θ‖₂. test_error: empty where the file has no test data. stationarity: the relative
    residual, empty at the zero network; converged: whether it is below 0.001, so that the optimizer
    has done its work.
    """
    paths_of_seeds = [pandas.DataFrame({"lam": config.lams, **row}) for _, row in swept.iterrows()]
    rows = pandas.concat(paths_of_seeds, ignore_index=True)
    rows["stationarity"] = np.exp(rows.log_residual.where(rows.log_residual < LARGEST_LOG))
    rows["converged"] = rows.stationarity < CONVERGED
    return rows.reindex(columns=[*COLUMNS])


def best_of_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """At every λ the start of smallest objective, which is the nearest to the minimizer."""
    finite = rows[rows.log_objective.notna()]
    return finite.loc[finite.groupby("lam", sort=False).log_objective.idxmin()]


def summary(rows: pandas.DataFrame, config: Config) -> str:
    """The best start at every λ, and how many networks the optimizer finished."""
    columns = ["lam", "norm", "normalized_margin", "train_error", "test_error", "stationarity"]
    shown = best_of_seeds(rows)[columns].dropna(axis=1, how="all")
    best = shown.to_string(index=False, float_format=lambda value: f"{value:.4g}")
    done = f"{rows.converged.mean():.0%} of {len(rows)} networks converged"
    return f"at each λ the start of smallest objective\n{best}\n{done} (stationarity < 0.001)"


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Norm, margins, errors and residual against λ.

    Faint points are all starts, lines those of smallest objective.
    """
    fig, axes = _style.panels(4, columns=2, ratio=0.75)
    _draw(axes[0], rows, "norm of the parameters", {"norm": ("‖Θ‖", _style.BLUE)}, "log")
    _draw(axes[1], rows, "margins", {
        "normalized_margin": ("normalized margin", _style.BLUE),
        "dual_weighted_margin": ("dual-weighted margin", _style.GREEN),
    })  # fmt: skip
    _draw(axes[2], rows, "errors", {
        "train_error": ("training", _style.BLUE), "test_error": ("test", _style.VERMILION)
    })  # fmt: skip
    axes[3].axhline(CONVERGED, label="below: the optimizer is done", **_style.LEVEL)
    residual = {"stationarity": ("residual", _style.BLUE)}
    _draw(axes[3], rows, "residual of stationarity", residual, "log")
    return fig


def _draw(
    ax, rows: pandas.DataFrame, title: str, series: dict[str, tuple[str, str]], scale="linear"
) -> None:
    best = best_of_seeds(rows)
    for name, (label, color) in series.items():
        if rows[name].notna().any():
            ax.plot(-np.log10(rows.lam), rows[name], ".", color=color, alpha=0.3)
            ax.plot(-np.log10(best.lam), best[name], ".-", color=color, label=label)
    ax.set(xlabel="log₁₀(1/λ)", title=title, yscale=scale)
    _style.legend(ax)


EXPERIMENT = Experiment(
    "own_data", Config, PRESETS, points, run, claims=lambda rows, config: [], figure=figure,
    summary=summary, statements=(), table=table, prepare=prepare, folder=folder,
)  # fmt: skip
