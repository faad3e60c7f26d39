"""Where the network that labels D becomes a sample's max-margin network

The labels of D are those of |x₁| − |x₂|, a network of four neurons, here *planted*, with the margin
1/8 on every sample. On few samples other networks have more; from some n on none has, and then the
regularised minimizer tends to that margin as λ → 0. How that n grows with d matters because the
paper proves that O(d) samples are enough for the regularised network.

Each sample is decided from both sides: a contradiction proves that the planted network is not
optimal; weights on the samples bound every margin by 1/8, proved by branch and bound in low
dimensions and found by local search beyond. On the same samples a network is trained and tested.

Source: derived here, on the distribution of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import data, networks
from ntkreg._types import Array
from ntkreg.certificates import planted
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment, _statistics, _style, _training
from ntkreg.experiments._claims import Check, Claim, Relation, share, slope
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid
from ntkreg.training.margins import normalized_margin


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes_over_d: n/d.
      num_seeds: samples drawn of each size.
      certified_dim: to which optimality is proved by branch and bound, not by local search alone.
      num_starts: of the local search.
      width, lams, num_steps, learning_rate: of the networks (`_training.Training`).
      num_test: fresh test points.
    """

    dims: tuple[int, ...] = (5, 10, 20, 40, 80)
    sizes_over_d: tuple[float, ...] = (2.0, 2.5, 3.0, 3.25, 3.5, 3.75, 4.0, 4.5, 5.0)
    num_seeds: int = 20
    certified_dim: int = 10
    num_starts: int = 200
    width: int = 128
    lams: tuple[float, ...] = 4 * (1e-3, 1e-8)
    num_steps: int = 1000
    learning_rate: float = 0.03
    num_test: int = 10_000

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: d >= 3, "at least 3")
        check("sizes_over_d", lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "num_starts", "num_test"):
            check(name, lambda v: v >= 1, "at least 1")
        _training.check(self)


# smoke: seconds. laptop, thorough: minutes on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dims=(4, 6), sizes_over_d=(2.0, 6.0), num_seeds=2, num_starts=50, width=16,
        lams=(1e-3, 1e-8), num_steps=200, num_test=1000,
    ),
    "laptop": dict(
        dims=(5, 10, 20, 40), sizes_over_d=(2.0, 3.0, 3.5, 3.75, 4.0, 5.0), num_seeds=5,
        certified_dim=5,
    ),
    "thorough": {},
    "full": dict(
        dims=(5, 10, 20, 40, 80, 160),
        sizes_over_d=(2.0, 2.5, *np.arange(3.0, 5.3, 0.125).tolist()),
        num_seeds=100, certified_dim=20, num_starts=400,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Dimension, size and seed of every sample."""
    sizes = lambda dim: sorted({max(2, round(ratio * dim)) for ratio in config.sizes_over_d})
    seeds = range(config.num_seeds)
    by_dim = [grid(dim=[dim], num_samples=sizes(dim), seed=seeds) for dim in config.dims]
    return [point for found in by_dim for point in found]


def run(config: Config, dim: int, num_samples: int, seed: int) -> dict[str, Any]:
    """Whether the planted network has the max margin of a sample, and what a trained one reaches.

    Returns:
      local, refuted, optimal, upper and rounds of `planted_optimality`, without upper where it is
      refuted; test_error and normalized_margin of the trained network; and the kind of proof: that
      it is refuted is always certified.
    """
    train, test_error, margin = _trained(config, dim, num_samples, seed)
    is_proved = dim <= config.certified_dim
    found = planted.planted_optimality(
        jax.tree.map(np.asarray, train),
        oracle="branch_and_bound" if is_proved else "multistart",
        num_starts=config.num_starts,
    )
    return {
        "local": found.local,
        "refuted": found.refuted,
        "optimal": found.optimal,
        "rounds": found.num_rounds,
        "test_error": test_error,
        "normalized_margin": margin,
        "kind": "certified" if is_proved or not found.optimal else "heuristic",
    } | ({} if found.refuted else {"upper": found.upper})


@functools.partial(jax.jit, static_argnames=("config", "dim", "num_samples"))
def _trained(
    config: Config, dim: int, num_samples: int, seed: Array
) -> tuple[Dataset, Array, Array]:
    """(samples, test error and normalized margin of a network trained on them)."""
    key = jax.random.fold_in(jax.random.key(seed), dim * 2**20)
    data_key, start_key = jax.random.split(jax.random.fold_in(key, num_samples))
    drawn = data.noisy_xor(data_key, config.num_test + num_samples, dim)
    train = jax.tree.map(lambda a: a[config.num_test :], drawn)
    test = jax.tree.map(lambda a: a[: config.num_test], drawn)
    network = networks.fully_connected(2, config.width)
    params = _training.trained(config, train, start_key)
    wrong = ~(test.y * network.apply(params, test.x) > 0)
    fresh = data.unseen(test.x, train.x)
    test_error = jnp.sum(wrong & fresh) / jnp.maximum(jnp.sum(fresh), 1)
    return train, test_error, normalized_margin(network, params, train)


def table(rows: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The sweep's table; where the planted network is refuted the upper bound is infinite."""
    known = rows.get("upper", pandas.Series(np.inf, rows.index)).fillna(np.inf)
    return rows.drop(columns="upper", errors="ignore").assign(upper=known)


SHARE, ERROR = 0.5, 0.25  # of samples on which planted is optimal; of test points
CLAIM = Claim(
    "At n ∝ d, sharper the larger d, the network that makes D's labels gets a sample's max margin",
    source="derived here",
)


def curve(rows: pandas.DataFrame, dim: int, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(sizes, values of shape (sizes, seeds)) in one dimension."""
    rows = rows[rows.dim == dim]
    values = _statistics.stacked(rows, column, "num_samples", "seed")
    return np.unique(rows.num_samples), values.astype(float)


def crossing(rows: pandas.DataFrame, column: str, level: float) -> _statistics.Scaling:
    """Where the mean of `test_error`, or the share not `local` or `optimal`, falls to a level."""
    falling = lambda n, values: (n, values if column == "test_error" else 1.0 - values)
    dims = np.unique(rows.dim).tolist()
    return _statistics.scaling({dim: falling(*curve(rows, dim, column)) for dim in dims}, level)


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """The one claim; seeds of which a sample is undecided are left out in that dimension."""
    decided = (rows.failed == "") & (rows.refuted != rows.optimal)
    known = rows[decided.groupby([rows.dim, rows.seed]).transform("all")]
    ratio, left = known.num_samples / known.dim, f"{(~decided).sum()} of {len(rows)} samples"
    found = CLAIM.on(
        _worst("share optimal at n ≥ 5d, worst d", known[ratio >= 5], "≥"),
        _worst("share optimal at n ≤ 2d, worst d", known[ratio <= 2], "≤"),
        _widening(known),
        slope("exponent of d in n at a half", crossing(known, "optimal", SHARE), runs="samples"),
        apart=("" if decided.all() else f"{left} undecided, with their seeds", _searched(known)),
    )
    return [found]


def _worst(what: str, rows: pandas.DataFrame, relation: Relation) -> Check:
    """The share of samples on which planted is optimal, in the dimension where it says least."""
    judged = lambda of: share(what, int(of.sum()), len(of), SHARE, relation, "samples")
    found = [judged(of) for _, of in rows.groupby("dim").optimal] or [judged(rows.optimal)]
    return min(found, key=lambda check: check.low if relation == "≥" else -check.high)


def _widening(rows: pandas.DataFrame) -> Check:
    """The width of the transition over its middle, at the largest d less that at the smallest."""
    rng = np.random.default_rng(0)

    def width(dim: int) -> np.ndarray:
        n, values = curve(rows, dim, "optimal")
        means = np.vstack([values.mean(-1), _statistics.resampled(values, 2000, rng)])
        early, half, late = (_statistics.crossing(n, 1 - means, at) for at in (0.8, SHARE, 0.2))
        return (late - early) / half

    found = width(rows.dim.max()) - width(rows.dim.min()) if len(rows) else np.full(2, np.nan)
    ends = _statistics.interval(found[1:] if np.isfinite(found).mean() > 0.95 else found[:0])
    return Check("20–80 % width/n, largest d − smallest", found[0], *ends, 0.0, "≤", "samples")


def _searched(rows: pandas.DataFrame) -> str:
    """On how many samples optimality is found by a search and not proved."""
    searched = rows.optimal.astype(bool) & (rows.kind == "heuristic")
    return f"{searched.sum()} of {len(rows)} samples optimal by local search, not by proof"


LINES = {
    "optimal": ("certified", "planted network optimal on ½", SHARE),
    "local": ("linearised", "local condition holds on ½", SHARE),
    "test_error": ("network", "25 % test error", ERROR),
}


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Three panels; shares have exact 95 % intervals, means Student's."""
    fig, (shares, errors, crossings) = _style.panels(3, columns=3, ratio=0.95)
    for dim, look in _style.ordinal(config.dims, _style.METHODS["certified"]["color"]).items():
        n, found = curve(rows, dim, "optimal")
        ends = _statistics.share_interval(found.sum(-1), found.shape[-1])
        _style.with_ends(shares, n / dim, found.mean(-1), *ends, label=f"d = {dim}", **look)
    shares.axhline(SHARE, **_style.LEVEL)
    shares.set(ylabel="share of samples", ylim=(-0.04, 1.04), title="planted has the max margin")
    for dim, look in _style.ordinal(config.dims, _style.METHODS["network"]["color"]).items():
        n, found = curve(rows, dim, "test_error")
        _style.with_interval(errors, n / dim, found, label=f"d = {dim}", **look)
    errors.axhline(ERROR, **_style.LEVEL)
    errors.set(ylabel="test error", ylim=(-0.02, 0.56), title="network, same samples")
    for ax, place in ((shares, "upper left"), (errors, "upper right")):
        ax.set_xlabel("samples n/d")
        _style.legend(ax, loc=place)
    _crossings(crossings, rows, config)
    return fig


def _crossings(ax, rows: pandas.DataFrame, config: Config) -> None:
    for column, (method, label, level) in LINES.items():
        found = crossing(rows, column, level)
        if not found.dims:
            continue
        dims = np.array(found.dims)
        ends = found.intervals.T / dims
        label = f"{label}{_style.power('d', found.slope)}"
        _style.with_ends(ax, dims, found.sizes / dims, *ends, label=label, **_style.METHODS[method])
    _style.at_sizes(ax, config.dims, "dimension d")
    ax.set(ylabel="samples n/d at the crossing", title="where they cross")
    _style.legend(ax, above=0.45)


EXPERIMENT = Experiment(
    "transition", Config, PRESETS, points, run, claims, figure, (CLAIM,), table=table,
    host=True,
)  # fmt: skip
