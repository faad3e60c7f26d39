"""From how many samples on no small change of the planted network has more margin: predicted

The network |x₁| − |x₂| that makes the labels of D has the margin 1/8 on every sample. Whether it is
a local maximum of the sample's margin is a linear programme with n random columns and 4(d − 2)
random equations and seven more, and such programmes pass from never to always solvable at a sharp
number of samples. The Gaussian min-max theorem gives that number for large d, 3.34 (d − 0.32), and
the width of the passage, ∝ √d, with nothing fitted (`theory.planted_threshold`). Are these the
shares of actual samples? Half of them should be local within 3 % of the predicted n from d = 40 on;
below, what does not grow with d counts for more.

Samples of one seed are parts of each other. What a sample lets be weighed, a larger one does too,
with the weight 0 on what it adds: so the first size at which a seed's sample is local is found by
bisection.

Source: derived here; Gordon (1988); Amelunxen, Lotz, McCoy, Tropp (2014).
"""

import bisect
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pandas
import scipy

from ntkreg import data
from ntkreg.certificates import planted
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.theory.planted_threshold import local_threshold


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      offsets: n, from the predicted number, in predicted standard deviations.
      num_seeds: samples of each size, one number for each d: large d take long, and at small ones
        more samples are needed to tell 3 %.
    """

    dims: tuple[int, ...] = (20, 40, 80)
    offsets: tuple[float, ...] = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
    num_seeds: tuple[int, ...] = (40, 40, 40)

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: d >= 5, "at least 5")
        check("offsets", np.isfinite, "finite")
        check("num_seeds", lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "dims", "offsets")
        if len(self.num_seeds) != len(self.dims):
            raise ValueError(f"num_seeds must have one for each of dims, got {self.num_seeds}")


# smoke: seconds. laptop: a minute on two cores; thorough: half an hour. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(dims=(8, 12), offsets=(-4.0, 0.0, 4.0), num_seeds=(6, 6)),
    "laptop": {},
    "thorough": dict(dims=(20, 40, 80, 160), num_seeds=(3000, 3000, 600, 200)),
    "full": dict(dims=(20, 40, 80, 160), num_seeds=(3000, 3000, 3000, 1000)),
}


def sizes(config: Config, dim: int) -> list[int]:
    """The n at one d."""
    predicted = local_threshold()
    at = lambda k: predicted.size(dim) + k * predicted.deviation(dim)
    return sorted({max(4, round(at(k))) for k in config.offsets})


def points(config: Config) -> list[dict[str, Any]]:
    """Dimension, size and seed of every sample."""
    return [
        dict(dim=dim, num_samples=n, seed=seed)
        for dim, num_seeds in zip(config.dims, config.num_seeds, strict=True)
        for n in sizes(config, dim)
        for seed in range(num_seeds)
    ]


def run(config: Config, dim: int, num_samples: int, seed: int) -> dict[str, Any]:
    """local: whether the planted network is a local maximum of the margin of the first samples."""
    return {"local": num_samples >= _first_local(dim, tuple(sizes(config, dim)), seed)}


@functools.cache
def _first_local(dim: int, sizes: tuple[int, ...], seed: int) -> float:
    """The first size from which on a seed's samples are local; infinite where none is."""
    whole = _drawn(dim, sizes[-1], seed)
    is_local = lambda n: planted.is_local_maximum(Dataset(whole.x[:n], whole.y[:n]))
    at = bisect.bisect_left(sizes, True, key=is_local)
    return (*sizes, np.inf)[at]


def _drawn(dim: int, most: int, seed: int) -> Dataset:
    key = jax.random.fold_in(jax.random.key(seed), dim)
    return jax.tree.map(np.asarray, data.noisy_xor(key, most, dim))


HALF, SIDES = 0.5, (0.8, 0.2)  # shares that are not local
WITHIN = 0.03  # of the prediction, relative
FROM = 40  # the d from which on
CLAIM = Claim(
    "Planted becomes a local maximum of the margin at n = 3.34 (d − 0.32), to 3 % from d = 40",
    source="derived here",
)


def curves(rows: pandas.DataFrame) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """d -> (sizes, which samples are local, of shape (sizes, seeds))."""
    return {
        int(dim): (
            np.unique(part.num_samples),
            _statistics.stacked(part, "local", "num_samples", "seed").astype(float),
        )
        for dim, part in rows.groupby("dim")
    }


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """Where half of the samples are local, and how wide the passage is, beside the predictions."""
    found = curves(rows)
    middles = [_middle(dim, *curve) for dim, curve in found.items()]
    widths = [_width(dim, *curve) for dim, curve in found.items()]
    return [CLAIM.on(_farthest(found), *middles, *widths)]


def _farthest(found: dict[int, tuple[np.ndarray, np.ndarray]]) -> Check:
    """The largest relative distance of n at a half from the predicted, over d ≥ 40."""
    what = f"n off the predicted, d ≥ {FROM}"
    relative = [
        _halves(*curve) / local_threshold().size(dim) - 1
        for dim, curve in found.items()
        if dim >= FROM
    ]
    if not relative:
        return _claims.exact(what, np.nan, WITHIN, "≤", runs="no samples")
    away = np.max(np.abs(relative), axis=0)
    ends = _statistics.interval(away[1:])
    return Check(what, float(away[0]), *ends, WITHIN, "≤", runs=f"samples at {len(relative)} d")


def _halves(n: np.ndarray, values: np.ndarray) -> np.ndarray:
    """n at a half: measured, then of samples drawn again."""
    return _statistics.crossing(n, _resampled(values), HALF)


def _resampled(values: np.ndarray) -> np.ndarray:
    """Shares that are not local: those measured, then those of samples drawn again with all n."""
    rng = np.random.default_rng(0)
    return np.vstack(
        [1 - values.mean(-1), 1 - _statistics.resampled(values, 2000, rng, paired=True)]
    )


def _middle(dim: int, n: np.ndarray, values: np.ndarray) -> Check:
    at = _halves(n, values) / local_threshold().size(dim)
    ends = _statistics.interval(at[1:])
    return Check(f"d = {dim}: n at a half over the predicted", float(at[0]), *ends, runs="samples")


def _width(dim: int, n: np.ndarray, values: np.ndarray) -> Check:
    """The n between shares of 20 and 80 %, over that of the normal law predicted."""
    shares = _resampled(values)
    first, last = (_statistics.crossing(n, shares, side) for side in SIDES)
    normal = np.ptp(scipy.stats.norm.ppf(SIDES))  # of the standard normal law
    predicted = local_threshold().deviation(dim) * normal
    width = (last - first) / predicted
    ends = _statistics.interval(width[1:])
    what = f"d = {dim}: 20–80 % width over the predicted"
    return Check(what, float(width[0]), *ends, runs="samples")


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Shares against n/(d − 2) with their predictions, and where they pass a half."""
    fig, (shares, middles) = _style.panels(2, columns=2, ratio=0.9)
    predicted, found = local_threshold(), curves(rows)
    for dim, look in _style.ordinal(config.dims, _style.METHODS["certified"]["color"]).items():
        if dim not in found:
            continue
        n, values = found[dim]
        over = dim - 2
        ends = _statistics.share_interval(values.sum(-1), values.shape[-1])
        dots = look | _style.DOTS
        _style.with_ends(shares, n / over, values.mean(-1), *ends, label=f"d = {dim}", **dots)
        fine = np.linspace(n[0], n[-1], 100)
        line = _style.PREDICTED | dict(color=look["color"])
        shares.plot(fine / over, predicted.share(fine, dim), **line)
    shares.plot([], [], label="predicted", **_style.PREDICTED)
    shares.axvline(predicted.ratio, **_style.LEVEL)
    shares.set(xlabel="samples n/(d − 2)", ylabel="share of samples", ylim=(-0.04, 1.04))
    shares.set_title("planted is a local maximum")
    _style.legend(shares, loc="upper left")
    checks = {dim: _middle(dim, *curve) for dim, curve in found.items()}
    bars = zip(*[(check.measured, check.low, check.high) for check in checks.values()], strict=True)
    look = _style.METHODS["certified"]
    _style.with_ends(middles, list(checks), *bars, label="measured", **look)
    middles.axhline(1.0, label="predicted", **_style.PREDICTED)
    middles.axhspan(1 - WITHIN, 1 + WITHIN, color=_style.GREY, alpha=0.15, linewidth=0)
    _style.at_sizes(middles, list(checks), "dimension d")
    middles.set(ylabel="n at a half over the predicted", title="where half of the samples are")
    _style.legend(middles, loc="best")
    return fig


EXPERIMENT = Experiment(
    "local_maximum", Config, PRESETS, points, run, claims, figure, (CLAIM,), host=True
)
