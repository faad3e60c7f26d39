"""A floor under the error on D of every combination of the NTK's functions at a sample: proved

The theorem says that no combination of the NTK's functions at n ≲ d² samples does better than a
constant error, and names no constant. `theory.error_floor` proves one for the sample at hand: for
each noise the mean of f over the four signals would have to be smaller than its signal, and the
first is a polynomial in signs whose size the sample forces, and which cannot be small but for rare
inputs. How large is that floor, does it fall with d, and how far below the error of the best
coefficients known is it?

The measured error is that of the coefficients of largest signal-to-noise ratio on the population,
on fresh inputs. The floor holds for all coefficients, however they were found.

Source: derived here (docs/error_floor.md); Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pandas

from ntkreg import data, networks
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.theory import error_floor, kernel_span

AT = 0.3  # n/d² at which the claim is made


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes: n/d².
      num_seeds: samples of each size.
      num_test: fresh inputs on which the error of the best coefficients is measured.
      depth: of the ReLU network whose kernel it is.
    """

    dims: tuple[int, ...] = (20, 30, 40)
    sizes: tuple[float, ...] = (0.1, 0.2, 0.3)
    num_seeds: int = 3
    num_test: int = 10_000
    depth: int = 2

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: d >= 4, "at least 4")
        check("sizes", lambda v: 0 < v < np.inf, "positive and finite")
        check("depth", lambda v: v >= 2, "at least 2")
        for name in ("num_seeds", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "dims", "sizes")


# smoke: seconds. laptop, thorough: minutes on two cores. full: hours, n = 4000 at d = 100.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(dims=(16, 18), sizes=(0.2, 0.3), num_seeds=2, num_test=1000),
    "laptop": {},
    "thorough": dict(dims=(20, 30, 40, 60), sizes=(0.1, 0.2, 0.3, 0.4), num_seeds=10),
    "full": dict(dims=(20, 40, 60, 80, 100), sizes=(0.1, 0.2, 0.3, 0.4), num_seeds=20),
}


def points(config: Config) -> list[dict[str, Any]]:
    """Dimension, size and seed of every sample."""
    return [
        dict(dim=dim, num_samples=max(1, round(size * dim**2)), seed=seed)
        for dim in config.dims
        for size in config.sizes
        for seed in range(config.num_seeds)
    ]


@functools.lru_cache
def _network(depth: int) -> networks.Network:
    """One object, whose kernel is compiled once for each dimension."""
    return networks.fully_connected(depth, 1)


def run(config: Config, dim: int, num_samples: int, seed: int) -> dict[str, Any]:
    """The floor and its ρ; R² and the measured error of the best coefficients."""
    key = jax.random.fold_in(jax.random.key(seed), dim * 2**20 + num_samples)
    sample_key, test_key = jax.random.split(key)
    network = _network(config.depth)
    samples = data.noisy_xor(sample_key, num_samples, dim)
    test = data.noisy_xor(test_key, config.num_test, dim)
    found = error_floor.error_floor(network, samples)
    best = kernel_span.best_signal_to_noise(network, samples)
    outputs = kernel_span.predictions(network, samples, best.coefficients, test.x)
    return {
        "floor": found.error,
        "ratio": found.ratio,
        "r_squared": float(best.r_squared),
        "test_error": float(np.mean(np.asarray(test.y * outputs) <= 0)),
    }


LEAST, FALL = 0.005, -0.1  # the floor, and its exponent in d
CLAIM = Claim(
    "Whatever its coefficients, the NTK at n = 0.3 d² samples errs on at least 0.5 % of D",
    "derived here, for Wei et al., Theorem 2.1", certified=True,
)  # fmt: skip


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """The smallest floor, how it changes with d, and that no measured error is below it."""
    there = at_share(rows)
    floors = [part.floor.to_numpy() for _, part in there.groupby("dim")]
    slope, ends = _statistics.log_slope_of_means(sorted(set(there.dim)), floors)
    mean = lambda dim, part: _claims.mean(
        f"d = {dim}: floor at n = 0.3 d²", part.floor, runs="samples"
    )
    return [
        CLAIM.on(
            _claims.every("smallest floor at n = 0.3 d²", there.floor, LEAST, "≥", "samples"),
            Check("exponent of the floor in d", slope, *ends, FALL, "≥", "samples"),
            _claims.every(
                "largest floor over the error of the best β, all n",
                rows.floor / rows.test_error, 1.0, "≤", "samples",
            ),
            _claims.mean("error of the best β at n = 0.3 d²", there.test_error, runs="samples"),
            *(mean(dim, part) for dim, part in there.groupby("dim")),
        )
    ]  # fmt: skip


def at_share(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows at n = 0.3 d²."""
    return rows[rows.num_samples == (AT * rows.dim**2).round()]


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """The floor, where it is not 0, and the error of the best coefficients against n/d² and d."""
    fig, (by_size, by_dim) = _style.panels(2, columns=2, ratio=0.9)
    look = _style.METHODS["ntk"]
    for dim, own in _style.ordinal(config.dims, look["color"]).items():
        n, floors = _statistics.by_seed(rows[rows.dim == dim], "num_samples", "floor")
        errors = _statistics.by_seed(rows[rows.dim == dim], "num_samples", "test_error")[1]
        some = floors.any(axis=-1)
        _style.with_interval(by_size, n[some] / dim**2, floors[some], label=f"d = {dim}", **own)
        _style.with_interval(by_size, n / dim**2, errors, **own | _style.HOLLOW)
    measured = _style.HOLLOW | dict(color=_style.GREY, marker="o")
    by_size.plot([], [], label="best β, measured", **measured)
    dims, floors = _statistics.by_seed(at_share(rows), "dim", "floor")
    errors = _statistics.by_seed(at_share(rows), "dim", "test_error")[1]
    _style.with_interval(by_dim, dims, errors, label="best β, measured", **look | _style.HOLLOW)
    _style.with_interval(by_dim, dims, floors, label="every β, proved", **look)
    for ax in (by_size, by_dim):
        ax.axhline(1 / (4 * error_floor.KURTOSIS), label="floor where ρ = 0", **_style.PREDICTED)
        ax.set(yscale="log", ylim=(1e-3, 1.0), ylabel="0/1 error on D")
        _style.legend(ax, loc="center right", bbox_to_anchor=(1.0, 0.62))
    by_size.set(xlabel="samples n/d²", title="floor, and the error of the best β")
    by_size.set_xticks(sorted(config.sizes))
    _style.at_sizes(by_dim, config.dims, "dimension d")
    by_dim.set_title("at n = 0.3 d²")
    return fig


EXPERIMENT = Experiment(
    "error_floor", Config, PRESETS, points, run, claims, figure, (CLAIM,), host=True
)
