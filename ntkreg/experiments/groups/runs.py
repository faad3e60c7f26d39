"""Small networks on the tables of groups: settings, one run, and the key set of each."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import networks
from ntkreg._types import Array, Float, Params, PyTree, Scalar
from ntkreg.data import groups
from ntkreg.experiments import _experiment
from ntkreg.sweeps import grid
from ntkreg.training import objectives, stationarity, trainers

KEY, COUNT, PURE = 0.005, 0.05, 0.05  # thresholds ε, δ, δ as specified
PURITIES = (0.05, 0.1, 0.2)  # at which neurons of one representation are counted
ADAM = functools.partial(optax.adam, b1=0.9, b2=0.999, eps=1e-8)
LOSS = objectives.get_loss("cross_entropy")
ACTIVATIONS = {"quadratic": "z²", "relu": "relu"}
SCHEDULES = ("constant", "annealed")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      groups: by name, as `data.groups.named` has them.
      activations, widths, lams: σ, m and λ.
      num_seeds: of each setting.
      schedule: "constant" is the specification's; "annealed" lets the rate fall to 0 as a cosine,
        and then takes steps of L-BFGS.
      learning_rate, num_steps: of Adam.
      tolerance, patience: the relative change, and in how many updates, of convergence.
      finish_steps: of L-BFGS, where annealed.
    """

    groups: tuple[str, ...] = ("C5", "S3")
    activations: tuple[str, ...] = ("quadratic", "relu")
    widths: tuple[int, ...] = (2, 8)
    lams: tuple[float, ...] = (0.0, 1e-4, 1e-2)
    num_seeds: int = 20
    schedule: str = "constant"
    learning_rate: float = 1e-3
    num_steps: int = 20_000
    tolerance: float = 1e-7
    patience: int = 500
    finish_steps: int = 500

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for name in self.groups:
            group_of("groups", name)
        check("activations", *_experiment.one_of(ACTIVATIONS))
        check("schedule", *_experiment.one_of(SCHEDULES))
        check("lams", lambda v: 0 <= v < np.inf, "finite and at least 0")
        for name in ("learning_rate", "tolerance"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("widths", "num_seeds", "num_steps", "patience", "finish_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "groups", "activations", "widths", "lams")
        if self.schedule == "annealed" and 0 in self.lams:
            raise ValueError("lams must be positive with the schedule annealed, got 0")


# smoke: seconds. laptop: two minutes on two cores. open_experiment: as posed, five minutes.
# thorough, more_groups: with a rate that falls to 0, ten and twenty minutes.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        groups=("C5",), widths=(2,), lams=(0.0, 1e-2), num_seeds=4, num_steps=1000, patience=50
    ),
    "laptop": {},
    "open_experiment": dict(num_seeds=100),
    "thorough": dict(
        widths=(2, 4, 8, 16), lams=(1e-4, 1e-3, 1e-2), schedule="annealed", learning_rate=1e-2,
    ),
    "more_groups": dict(
        groups=("C3", "C5", "C7", "S3", "Q8"), widths=(2, 8, 32),
        lams=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1), num_seeds=10, num_steps=10_000,
        schedule="annealed", learning_rate=1e-2,
    ),
    "S4": dict(
        groups=("S4",), widths=(8, 32), lams=(1e-4, 1e-3, 1e-2), num_seeds=5, num_steps=10_000,
        schedule="annealed", learning_rate=1e-2,
    ),
    "full": dict(
        groups=("C3", "C5", "C7", "S3", "S4", "Q8"), widths=(2, 4, 8, 16, 32),
        lams=(1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
        num_seeds=1000, schedule="annealed", learning_rate=1e-2,
    ),
}  # fmt: skip


def group_of(field: str, name: str) -> groups.Group:
    """The group of that name.

    Raises:
      ValueError: where there is none, with the field's name.
    """
    try:
        return groups.named(name)
    except ValueError as error:
        raise ValueError(f"{field} must be names of groups, got {name!r}: {error}") from None


def points(config: Config) -> list[dict[str, Any]]:
    """All settings, seeds innermost."""
    return grid(
        group=config.groups, activation=config.activations, width=config.widths, lam=config.lams,
        seed=range(config.num_seeds),
    )  # fmt: skip


# A run ----------------------------------------------------------------------------------------


def initial(group: groups.Group, width: int, seed: Array) -> Params:
    """Coordinates N(0, 1/n), as parameters of `fully_connected(2, width, n)`."""
    n = group.order
    drawn = jax.random.normal(jax.random.key(seed), (3 * n, width)) / math.sqrt(n)
    return drawn[: 2 * n], drawn[2 * n :].T


class Descent(NamedTuple):
    """What a run carries: `quiet` updates in a row have changed F and Θ by little."""

    params: Params
    value: Float[Array, ""]
    slope: Params
    moments: PyTree
    quiet: Array
    step: Array


def descended(config: Config, value, params: Params) -> Descent:
    """Adam at its constant rate until convergence, or to its last update."""
    optimizer, value_and_slope = ADAM(config.learning_rate), jax.value_and_grad(value)

    def goes_on(at: Descent) -> Array:
        return (at.step < config.num_steps) & (at.quiet < config.patience)

    def update(at: Descent) -> Descent:
        change, moments = optimizer.update(at.slope, at.moments)
        params = optax.apply_updates(at.params, change)
        now, slope = value_and_slope(params)
        is_small = jnp.abs(now - at.value) < config.tolerance * jnp.abs(at.value)
        is_small &= optax.tree.norm(change) < config.tolerance * optax.tree.norm(at.params)
        quiet = jnp.where(is_small, at.quiet + 1, 0)
        return Descent(params, now, slope, moments, quiet, at.step + 1)

    first = Descent(params, *value_and_slope(params), optimizer.init(params), *jnp.zeros(2, int))
    return jax.lax.while_loop(goes_on, update, first)


def run(
    config: Config, group: str, activation: str, width: int, lam: Scalar, seed: Array
) -> dict[str, Array]:
    """One network: how it was trained, and what its outputs and neurons are made of."""
    made = groups.named(group)
    data = groups.pairs(made)
    network = networks.fully_connected(2, width, made.order, activation)
    log_lam, params = jnp.log(jnp.asarray(lam, float)), initial(made, width, seed)
    if config.schedule == "constant":
        value = lambda p: objectives.objective(LOSS, network, p, data, log_lam)
        end = descended(config, value, params)
        params, steps, converged = end.params, end.step, end.quiet >= config.patience
        found = {"steps": steps, "converged": converged}
    else:
        options = trainers.TrainOptions(
            loss=LOSS, descend="plain", optimizer=ADAM, num_steps=config.num_steps,
            finish_steps=config.finish_steps,
        )  # fmt: skip
        rate = jnp.asarray(config.learning_rate)
        params = trainers.minimized(options, network, data, log_lam, rate, params).params
        log_residual = stationarity.log_residual(LOSS, network, params, data, log_lam)
        converged = log_residual < math.log(stationarity.CONVERGED)
        steps = jnp.asarray(config.num_steps + config.finish_steps)
        found = {"steps": steps, "converged": converged, "log_residual": log_residual}
    return found | observed(made, network, params, data, log_lam)


def observed(
    group: groups.Group, network: networks.Network, params: Params, data, log_lam: Scalar
) -> dict[str, Array]:
    """The observables of a network, and its parameters (u, v, w), of shape (3n, m)."""
    logits = network.apply(params, data.x)
    neurons = groups.neurons(params)
    shares, pure = groups.fractions(group, logits), groups.purities(group, neurons)
    own = jax.nn.one_hot(data.y, group.order, dtype=bool)
    others = jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)
    correct = jnp.sum(jnp.where(own, logits, 0.0), axis=1) > others
    multiple = groups.multiplicities(pure, PURE)
    nearest = jnp.argmax(pure, axis=1)
    return {
        "loss": objectives.mean_loss(LOSS, network, params, data),
        "objective": objectives.objective(LOSS, network, params, data, log_lam),
        "norm": optax.tree.norm(params),
        "accuracy": jnp.mean(correct),
        "spectral_count": groups.spectral_count(shares, COUNT),
        "smallest_share": jnp.min(shares),
        "nearest_same": jnp.all(nearest == nearest[0]) & jnp.all(jnp.max(pure, axis=1) > 0),
        **{f"same_{d:g}": jnp.any(jnp.all(pure >= 1 - d, axis=0)) for d in PURITIES},
        **{f"share_{i}": shares[i] for i in range(len(shares))},
        **{f"multiplicity_{i}": multiple[i] for i in range(len(shares))},
        "params": jnp.concatenate([neurons.u.T, neurons.v.T, neurons.w.T]),
    }


def with_key_sets(table: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The table with the key set of every run in words, as "1+2" or "sgn+std"."""
    names = {
        name: [rho.name for rho in groups.named(name).representations] for name in config.groups
    }

    def words(row: pandas.Series) -> str:
        kept = [name for i, name in enumerate(names[row.group]) if row[f"share_{i}"] >= KEY]
        return "+".join(kept) or "none"

    found = table.assign(key_set=table.apply(words, axis=1))
    first = ["group", "activation", "width", "lam", "seed", "steps", "converged", "loss"]
    first += ["accuracy", "key_set", "spectral_count"]
    return found[[*first, *(name for name in found if name not in first)]]
