"""Claim II, approximate minimizers: within β of the minimum the margin is within 10 β^(a/r).

On random data sets whose true minimum is known, networks with F ≤ βF* are sought that have as
small a normalized margin as can be, by descent on the margin itself under that constraint. Beside
them stand the theorem's bound and the one that follows from F* alone (`bounds.least_margin`).

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4, on β-approximate minimizers.
"""

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import certificates, data, networks
from ntkreg._types import Array, Float, Params
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.records import Record
from ntkreg.sweeps import Point
from ntkreg.theory import bounds
from ntkreg.training.margins import margins, normalized_margin
from ntkreg.training.objectives import get_loss, log_objective

AXIS = ("dim", "num_samples")
COLUMNS = ("max_margin", "log_minimum", "minimum_gap", "worst_found", "least_proved")
PENALTY = 30.0  # on log F beyond its limit, against a margin in units of the max margin
BISECTIONS = 50
WIDENING = 3.0  # of the search for the unbalanced start: log c within [0, 3]
LOGISTIC = get_loss("logistic")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims, sizes: of the random data sets, all pairs.
      num_seeds: data sets of each.
      lams, betas: at which networks are sought on each.
      num_steps, learning_rate: of the search, Adam; the rate is relative to ‖Θ‖/√parameters.
    """

    dims: tuple[int, ...] = (2, 3)
    sizes: tuple[int, ...] = (10, 15)
    num_seeds: int = 25
    lams: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-6, 1e-8, 1e-16, 1e-32, 1e-100)
    betas: tuple[float, ...] = (1.1, 1.5, 2.0)
    num_steps: int = 1000
    learning_rate: float = 0.02

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: 1 <= d <= 4, "from 1 to 4, for the certificates")
        check("sizes", lambda n: n >= 2, "at least 2")
        check("lams", lambda v: 1e-300 <= v < np.inf, "at least 1e-300 and finite")
        check("betas", lambda v: 1 < v <= 2, "above 1 and at most 2")
        check("learning_rate", lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "num_steps"):
            check(name, lambda v: v >= 1, "at least 1")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop, thorough: minutes on two cores. full: hours, or many cores."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dims=(2,), sizes=(6,), num_seeds=2, lams=(1e-2, 1e-16), betas=(1.5,), num_steps=100
    ),
    "laptop": dict(num_seeds=12),
    "thorough": {},
    "full": dict(sizes=(10, 15, 20, 25), num_seeds=100, num_steps=10_000),
}


def cells(config: Config) -> list[tuple[int, int]]:
    """(dim, num_samples) of every cell, each to be run with every seed."""
    return [(dim, n) for dim in config.dims for n in config.sizes]


def search(config: Config, dim: int, num_samples: int, seed: Array) -> dict[str, Array]:
    """The results on one data set: arrays over λ, `worst_found` and `least_proved` over λ and β.

    Data that no network separates have max_margin 0, and nothing is sought there.
    """
    key = jax.random.fold_in(jax.random.key(seed), num_samples)
    samples = data.random_labels(key, num_samples, dim)
    width, lams, betas = num_samples + 1, len(config.lams), len(config.betas)
    number = lambda *shape: jax.ShapeDtypeStruct(shape, samples.x.dtype)
    minimizers = (number(lams, dim, width), number(lams, width, 1))
    known = (number(), number(lams), number(lams), number(lams, betas), minimizers)
    on_host = lambda x, y: _certified(config, Dataset._make(map(np.asarray, (x, y))), width)
    best, log_minimum, gap, proved, minimizers = jax.pure_callback(
        on_host, known, *samples, vmap_method="sequential"
    )

    def at(entry) -> Array:
        log_lam, least, params = entry
        sought = lambda beta: worst_margin(config, samples, params, log_lam, least, beta, best)
        return jax.lax.map(sought, jnp.array(config.betas))

    log_lams = jnp.log(jnp.array(config.lams))
    worst = jax.lax.map(at, (log_lams, log_minimum, minimizers))
    found = (best, log_minimum, gap, jnp.where(best > 0, worst, 0.0), proved)
    return dict(zip(COLUMNS, found, strict=True))


def _certified(config: Config, samples: Dataset, width: int):
    """(γ*, log F*, gap, margins proved for every β, minimizers with zero neurons to `width`)."""
    lams, dim = config.lams, samples.x.shape[1]
    minimizers = np.zeros((len(lams), dim, width)), np.zeros((len(lams), width, 1))
    none = np.zeros(len(lams))
    try:
        best = certificates.max_margin(samples)
    except NotSeparable:
        return 0.0, none, none, np.zeros((len(lams), len(config.betas))), minimizers
    minima = [certificates.global_minimum(samples, lam, limit=best) for lam in lams]
    for number, minimum in enumerate(minima):
        for layer, filled in zip(minimum.primal, minimizers, strict=True):
            filled[number, : layer.shape[0], : layer.shape[1]] = layer
    log_minimum = np.log([minimum.upper for minimum in minima])
    proved = [
        [bounds.least_margin(least, np.log(lam), beta, len(samples.y)) for beta in config.betas]
        for lam, least in zip(lams, log_minimum, strict=True)
    ]
    gaps = np.array([minimum.gap for minimum in minima])
    return best.lower, log_minimum, gaps, np.array(proved), minimizers


def worst_margin(
    config: Config,
    samples: Dataset,
    minimizer: Params,
    log_lam: Array,
    log_minimum: Array,
    beta: Array,
    max_margin: Array,
) -> Float[Array, ""]:
    """The least normalized margin found among networks with F ≤ βF*, feasible by construction.

    Begins at the minimizer with its layers thrown out of balance, (cw, u/c), which leaves f as it
    is, until the norm has used up the slack; for every sample in turn descends that sample's margin
    over ‖Θ‖² under a penalty on log F; and goes back towards the start as far as the limit wants.
    """
    network = networks.fully_connected(2, minimizer[1].shape[0])
    limit = log_minimum + jnp.log(beta)
    value = lambda p: log_objective(LOGISTIC, network, p, samples, log_lam)
    start = _unbalanced(value, minimizer, limit)
    size = sum(p.size for p in minimizer)
    rate = config.learning_rate * optax.tree.norm(start) / size**0.5
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, config.num_steps))

    def descended(params: Params, sample: Array) -> Array:
        q = margins(network, params, samples)[sample] / optax.tree.norm(params, squared=True)
        return q / max_margin + PENALTY * jnp.maximum(value(params) - limit, 0.0)

    def sought(sample: Array) -> Array:
        def step(_, carry):
            params, state = carry
            updates, state = optimizer.update(jax.grad(descended)(params, sample), state, params)
            return optax.apply_updates(params, updates), state

        carry = (start, optimizer.init(start))
        end, _ = jax.lax.fori_loop(0, config.num_steps, step, carry)
        return normalized_margin(network, _back_to(value, start, end, limit), samples)

    found = jax.vmap(sought)(jnp.arange(len(samples.y)))
    return jnp.minimum(jnp.min(found), normalized_margin(network, start, samples))


def _unbalanced(value, params: Params, limit: Array) -> Params:
    """(u/c, cw) with the largest c ≥ 1 at which log F is at most `limit`, by bisection."""
    first, last = params
    at = lambda log_c: (first * jnp.exp(-log_c), last * jnp.exp(log_c))
    return at(_largest(lambda log_c: value(at(log_c)) <= limit, WIDENING))


def _back_to(value, start: Params, end: Params, limit: Array) -> Params:
    """The point on the segment from a feasible start that is feasible and nearest to the end."""
    at = lambda t: jax.tree.map(lambda p, q: p + t * (q - p), start, end)
    return at(_largest(lambda t: value(at(t)) <= limit, 1.0))


def _largest(is_feasible, top: float | Array) -> Array:
    """By bisection a t in [0, top] that is feasible, as 0 is taken to be."""

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        good = is_feasible(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle)

    top = jnp.asarray(top, float)
    low, _ = jax.lax.fori_loop(0, BISECTIONS, halve, (jnp.zeros_like(top), top))
    return jnp.where(is_feasible(top), top, low)


def memory(config: Config, point: Point) -> int:
    """Bytes that a cell holds at once: a network and its moments for every sample."""
    n, dim = point["num_samples"], point["dim"]
    return 8 * n * (n + 1) * (dim + 1) * (8 + len(config.lams)) + 8 * n**2 * 4


def grid(config: Config) -> dict[str, Any]:
    """The cell, axes and static names that `sweeps.sweep` and `sweeps.estimate` take."""
    function = lambda dim, num_samples, seed: search(config, dim, num_samples, seed)
    axes = {AXIS: cells(config), "seed": range(config.num_seeds)}
    return dict(function=function, axes=axes, static=AXIS)


def run(config: Config, folder: str | os.PathLike) -> Record:
    """The record of all cells, as `configs.swept`."""
    return configs.swept(config, grid(config), memory, folder)


def table(record: Record):
    """One row for every data set, λ and β; margins are over the max margin of the set.

    least_proved: what every such network has; worst_found: the least that one was found to have;
    theorem: 1/(10β).
    """
    config = record.identity["config"]
    rows = record.table(lam=config["lams"], beta=config["betas"])
    over = rows.max_margin.where(rows.max_margin > 0)
    for name in ("worst_found", "least_proved"):
        rows[name] = rows[name] / over
    rows["theorem"] = bounds.theorem_margin(1.0, rows.beta.to_numpy())
    names = ("dim", "num_samples", "seed", "lam", "beta", "log_minimum", "minimum_gap")
    return rows[[*names, "max_margin", "worst_found", "least_proved", "theorem"]]
