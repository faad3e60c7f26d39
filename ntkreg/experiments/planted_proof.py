"""Beyond branch and bound: the planted network proved to be a sample's max-margin network

Where `transition` proves that |x₁| − |x₂| has the max margin of a sample of D it uses branch and
bound, to d = 10; at d = 20 that takes a million nodes at n = 80 and does not end at n = 100. So
there it relies on a local search. A semidefinite relaxation that knows what is special about these
samples, in zones around the planted neurons that are halved where they stay open, is a proof
(`certificates.planted_proof`, docs/planted_proof.md). Does it decide every sample at d = 20, either
way, and does a search ever find more than it proves?

Source: derived here, on the distribution of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import pandas

from ntkreg import certificates, data
from ntkreg.certificates import oracles
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes_over_d: n/d.
      num_seeds: samples of each size.
      max_zones: after which a sample is left open.
    """

    dims: tuple[int, ...] = (10, 20)
    sizes_over_d: tuple[float, ...] = (4.0, 4.5, 5.0)
    num_seeds: int = 10
    max_zones: int = 1000

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: d >= 3, "at least 3")
        check("sizes_over_d", lambda v: 1 <= v < np.inf, "at least 1 and finite")
        for name in ("num_seeds", "max_zones"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "dims", "sizes_over_d")


# smoke: seconds. laptop: minutes on two cores. thorough: to d = 20, half an hour. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(dims=(6,), sizes_over_d=(2.0, 7.0), num_seeds=2, max_zones=50),
    "laptop": dict(dims=(6, 12), num_seeds=5),
    "thorough": {},
    "full": dict(dims=(10, 20, 30), sizes_over_d=(3.5, 4.0, 4.5, 5.0, 6.0), num_seeds=20),
}


def points(config: Config) -> list[dict[str, Any]]:
    """Dimension, size and seed of every sample."""
    sizes = lambda dim: sorted({round(ratio * dim) for ratio in config.sizes_over_d})
    seeds = range(config.num_seeds)
    by_dim = [grid(dim=[dim], num_samples=sizes(dim), seed=seeds) for dim in config.dims]
    return [point for found in by_dim for point in found]


def run(config: Config, dim: int, num_samples: int, seed: int) -> dict[str, Any]:
    """What is proved of one sample.

    Returns:
      local, refuted, optimal and steps (of the solver) of `planted_proof`; where it is optimal also
      upper, the proved bound of the margin, and searched, the largest value that a local search
      finds for the same weights.
    """
    key = jax.random.fold_in(jax.random.key(seed), dim * 2**20 + num_samples)
    sample = jax.tree.map(np.asarray, data.noisy_xor(key, num_samples, dim))
    found = certificates.planted_proof(sample, max_zones=config.max_zones)
    known = dict(local=found.local, refuted=found.refuted, optimal=found.optimal, steps=found.nodes)
    if not found.optimal:
        return known
    search = oracles.make_oracle("multistart", sample.x)
    searched = oracles.of_signs(search, found.alpha * sample.y).lower / 2
    return known | dict(upper=found.upper, searched=searched)


SHARE, ROUNDING = 0.5, 1e-9
CLAIM = Claim(
    "Whether the planted network has a sample's max margin, at d = 20 too, is decided by proofs",
    source="derived here", certified=True,
)  # fmt: skip


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """How many samples are decided at the largest d, and that bounds and searches agree."""
    last = rows[rows.dim == rows.dim.max()]
    decided, proved = last.optimal | last.refuted, rows[rows.optimal]
    runs, where = "samples", f"d = {rows.dim.max()}"
    upper, share = proved.get("upper", pandas.Series()), _claims.share
    return [
        CLAIM.on(
            share(f"decided at {where}", int(decided.sum()), len(last), SHARE, "≥", runs),
            _claims.every("proved bound over 1/8", 8 * upper, 1 + ROUNDING, "≤", runs),
            _claims.every(
                "largest value of a search over the bound", proved.get("searched", upper) / upper,
                1 + ROUNDING, "≤", runs,
            ),
            share(f"planted proved best at {where}", int(last.optimal.sum()), len(last), runs=runs),
            share(f"planted refuted at {where}", int(last.refuted.sum()), len(last), runs=runs),
            apart=(_left_open(rows),),
        )
    ]  # fmt: skip


def _left_open(rows: pandas.DataFrame) -> str:
    left = ~(rows.optimal | rows.refuted)
    return f"{left.sum()} of {len(rows)} samples left open" if left.any() else ""


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Shares of samples that are proved, and the solver's steps from least to most, against n/d."""
    fig, axes = _style.panels(2, columns=2, ratio=0.9)
    shares, steps = axes
    looks = _style.ordinal(config.dims, _style.METHODS["certified"]["color"])
    for place, (dim, look) in enumerate(looks.items()):
        own = rows[rows.dim == dim]
        beside = lambda n, dim=dim, place=place: n / dim + 0.02 * place
        n, values = _statistics.by_seed(own, "num_samples", "optimal")
        counts, trials = values.sum(-1), values.shape[-1]
        ends = _statistics.share_interval(counts, trials)
        _style.with_ends(shares, beside(n), counts / trials, *ends, label=f"d = {dim}", **look)
        proofs = own[own.optimal].groupby("num_samples").steps
        _style.with_range(steps, proofs, x=beside, label=f"d = {dim}", **look)
    shares.set(ylabel="share of samples", ylim=(-0.04, 1.04), title="planted is proved best")
    steps.set(ylabel="solver steps", yscale="log", title="of a proof: median, range")
    _style.plain_ticks(steps.yaxis)
    for ax, corner in zip(axes, ("lower right", "best"), strict=True):
        ax.set_xlabel("samples n/d")
        ax.set_xticks(sorted(config.sizes_over_d))
        _style.legend(ax, loc=corner)
    return fig


EXPERIMENT = Experiment(
    "planted_proof", Config, PRESETS, points, run, claims, figure, (CLAIM,), host=True
)
