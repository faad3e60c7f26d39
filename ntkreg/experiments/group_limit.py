"""λ → 0 on a group's table under ‖Θ‖₂²: which representations, and how near the best margin

A public conjecture about S₃ cites the theorem of weak regularisation: wide z² networks trained with
λ‖Θ‖₂² are to hold both representations, with probability one, as λ → 0. That theorem speaks of the
global minimizer, whose limit has the max margin in the Euclidean norm. For z², of order 3, this is
no convex problem: a neuron's mass ‖ω‖³ costs ‖ω‖², so few neurons are best, and there are many
stationary points. So the limit of *training* is measured: paths of λ from random starts of every
width, the key sets of their ends, and how far each stays behind the best margin that any start has
found. *Best found* is no maximum: it is a lower bound of it, and the certified margin in ℓ_{2,3}
(`group_margins`) bounds it from above.

The set-up is not the conjecture's: Adam and L-BFGS on log F in place of gradient flow on F; each λ
begins where the last one ended, not anew; and m = 32 at the laptop's size, where it asks for m ≥
100. Coordinates start at N(0, 1/n). A neuron is *alive* with a millionth of ‖Θ‖₂².

Source: the list MAIS, O56; Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 4.1; derived here.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import networks
from ntkreg._checks import check_lams
from ntkreg._types import Array
from ntkreg.certificates import group_margin
from ntkreg.data import groups
from ntkreg.experiments import _claims, _descents, _experiment, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.groups.runs import COUNT, KEY, LOSS, group_of, initial
from ntkreg.sweeps import grid
from ntkreg.training import paths, stationarity, trainers

ALIVE = 1e-6  # of ‖Θ‖₂²


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      groups: by name, as `data.groups.named` has them.
      widths, num_seeds: of the wide networks.
      small_widths, small_seeds: of the narrow ones, among whose many starts the best is sought.
      lams: of the path, falling.
      learning_rate, num_steps, finish_steps: of Adam on log F and of L-BFGS, at each λ.
    """

    groups: tuple[str, ...] = ("S3", "C5")
    widths: tuple[int, ...] = (32,)
    num_seeds: int = 20
    small_widths: tuple[int, ...] = (7,)
    small_seeds: int = 60
    lams: tuple[float, ...] = (1e-2, 1e-4, 1e-8, 1e-32, 1e-100)
    learning_rate: float = 0.01
    num_steps: int = 1000
    finish_steps: int = 100

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for name in self.groups:
            group_of("groups", name)
        check_lams(self.lams, falling=True)
        check("learning_rate", lambda v: 0 < v < np.inf, "positive and finite")
        counts = ("num_seeds", "small_seeds", "num_steps", "finish_steps")
        for name in ("widths", "small_widths", *counts):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "groups", "widths", "small_widths", "lams")


# smoke: seconds. laptop: minutes on two cores. thorough: more groups, an hour.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        groups=("C3",), widths=(4,), num_seeds=8, small_widths=(4,),
        lams=(1e-2, 1e-4, 1e-16), num_steps=300, finish_steps=50,
    ),
    "laptop": {},
    "thorough": dict(
        groups=("S3", "C5", "C7", "Q8"), widths=(8, 32, 100, 400), num_seeds=10,
        small_widths=(5, 6, 7, 9),
    ),
    "S4": dict(
        groups=("S4",), widths=(8, 32, 100), num_seeds=4, small_widths=(16,), small_seeds=20
    ),
    "full": dict(
        groups=("S3", "C3", "C4", "C5", "C7", "Q8", "S4"), widths=(8, 32, 100, 400),
        num_seeds=1000, small_widths=(3, 4, 5, 6, 7, 8, 9, 10, 12), small_seeds=5000,
        num_steps=4000, finish_steps=300,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """A path of λ for each group, width and seed."""
    found = grid(group=config.groups, width=config.widths, seed=range(config.num_seeds))
    narrow = grid(group=config.groups, width=config.small_widths, seed=range(config.small_seeds))
    return found + [point for point in narrow if point["width"] not in config.widths]


# A run ----------------------------------------------------------------------------------------


def run(config: Config, group: str, width: int, seed: Array) -> dict[str, Array]:
    """A path of λ from one start, an entry each."""
    made = groups.named(group)
    network = networks.fully_connected(2, width, made.order, "quadratic")
    data = groups.pairs(made)
    options = trainers.TrainOptions(
        loss=LOSS, num_steps=config.num_steps, finish_steps=config.finish_steps
    )
    log_lams, start = jnp.log(jnp.array(config.lams)), initial(made, width, seed)
    rate = jnp.asarray(config.learning_rate)
    ends = paths.follow(options, network, data, log_lams, rate, start)
    info = paths.measure(options, network, data, log_lams, ends)

    def at(params) -> dict[str, Array]:
        neurons = groups.neurons(params)
        shares = groups.fractions(made, network.apply(params, data.x))
        mass = jnp.sum(jnp.concatenate(neurons, axis=1) ** 2, axis=1)
        alive = mass > ALIVE * mass.sum()
        pure = groups.purities(made, neurons).max(axis=1)
        return {
            "all_held": jnp.all(groups.key_set(shares, KEY)),
            "smallest_share": shares.min(),
            "spectral_count": groups.spectral_count(shares, COUNT),
            "alive": jnp.sum(alive),
            "smallest_purity": jnp.min(jnp.where(alive, pure, 1.0)),
        }

    return {
        "margin": info.normalized_margin,
        "log_objective": info.log_objective,
        "log_residual": info.log_residual,
        **jax.lax.map(at, ends),
    }


def by_lam(table: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """A row for every λ of every path."""
    rows = _descents.by_entry(table, "lam", config.lams)
    first = ["group", "width", "seed", "lam"]
    return rows[[*first, *(name for name in rows if name not in first)]]


# The table ------------------------------------------------------------------------------------


@functools.cache
def convex_margin(group: str) -> float:
    """The certified max margin in ℓ_{2,3}, from above."""
    return group_margin(groups.named(group)).upper


def ends_of(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows at the smallest λ."""
    return table[table.lam == table.lam.min()]


def best_found(table: pandas.DataFrame) -> pandas.Series:
    """The best margin in the table, of each group."""
    return table.groupby("group").margin.max()


# Claims ---------------------------------------------------------------------------------------

BELOW = Claim(
    statement="No Euclidean margin on a group's table exceeds the certified one in ℓ_{2,3}",
    source="derived here: ‖Θ‖_{2,3} ≤ ‖Θ‖₂",
)
HELD = Claim(
    statement="How often z² networks hold every representation of a group, λ → 0 along a path",
    source="beside O56 of the list MAIS",
)
DISTANCE = Claim(
    statement="How near the best Euclidean margin found the paths of λ end",
    source="beside O56 of the list MAIS",
)
BEST = Claim(
    statement="The best Euclidean margins found on groups' tables, by width",
    source="derived here",
)


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has runs for."""
    wide = table[table.width.isin(config.widths)]
    found = [below_claim(table), held_claim(wide), distance_claim(wide, table), best_claim(table)]
    return [claim for claim in found if claim.checks]


def below_claim(table: pandas.DataFrame) -> Claim:
    """Margins over the certified one."""
    shares = table.margin / table.group.map(convex_margin)
    return BELOW.on(_claims.every("margin over the certified one", shares, 1.0, "≤", "networks"))


def held_claim(table: pandas.DataFrame) -> Claim:
    """The share of networks that hold all, at the largest, a middle and the smallest λ."""
    lams = sorted(table.lam.unique(), reverse=True)
    shown = dict.fromkeys([lams[0], lams[len(lams) // 2], lams[-1]])
    checks = [
        _claims.share(
            f"{group}, m = {width}, λ = {lam:g}", int(part.all_held.sum()), len(part)
        )
        for (group, width, lam), part in table.groupby(["group", "width", "lam"], sort=False)
        if lam in shown
    ]  # fmt: skip
    smallest = table.groupby("group", sort=False).smallest_share.min()
    checks += [
        _claims.exact(f"{group}: smallest share of any", share, runs="all λ and seeds")
        for group, share in smallest.items()
    ]
    return HELD.on(*checks)


def distance_claim(table: pandas.DataFrame, everything: pandas.DataFrame) -> Claim:
    """Margins at the smallest λ over the best found; at each λ how many ends are stationary."""
    ends, best = ends_of(table), best_found(everything)
    checks = []
    for (group, width), part in ends.groupby(["group", "width"], sort=False):
        what = f"{group}, m = {width}: γ over the best found"
        checks.append(_claims.mean(what, part.margin / best[group]))
    stationary = table.log_residual < math.log(stationarity.CONVERGED)
    for lam, are in stationary.groupby(table.lam):
        checks.append(_claims.share(f"λ = {lam:g}: stationary", int(are.sum()), len(are)))
    return DISTANCE.on(*checks)


def best_claim(table: pandas.DataFrame) -> Claim:
    """The best at each width, and the number of starts."""
    checks = []
    for (group, width), part in ends_of(table).groupby(["group", "width"]):
        runs = f"{len(part)} starts"
        checks.append(_claims.exact(f"{group}, m = {width}: best", part.margin.max(), runs=runs))
    return BEST.on(*checks)


# The picture ----------------------------------------------------------------------------------


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """For each group margins over the best found, and the shares of the rarest representation,
    against λ; the best by width."""
    fig, axes = _style.panels(2 * len(config.groups) + 1, columns=3, ratio=0.8)
    wide, best = table[table.width.isin(config.widths)], best_found(table)
    looks = _style.ordinal(config.widths, _style.BLUE)
    where = lambda lams: -np.log10(lams)
    for number, group in enumerate(config.groups):
        margin, rarest = axes[2 * number : 2 * number + 2]
        for width in config.widths:
            mine = wide[(wide.group == group) & (wide.width == width)]
            found = mine.assign(over=mine.margin / best[group]).groupby("lam")
            look = dict(label=f"m = {width}", **looks[width])
            _style.with_range(margin, found.over, x=where, **look)
            _style.with_range(rarest, found.smallest_share, x=where, **look)
        margin.axhline(1.0, **_style.LEVEL)
        margin.set(title=f"{group}: margin", ylabel="γ/best found", ylim=(0, 1.05))
        rarest.axhline(KEY, label="threshold of the key set", **_style.LEVEL)
        rarest.set(title=f"{group}: rarest representation", ylabel="share of the outputs")
        rarest.set_ylim(0, None)
        for ax in (margin, rarest):
            _style.at_sizes(ax, where(wide.lam.unique()), r"$\log_{10}$ 1/λ")
    for group, look in _style.categories(config.groups).items():
        ends = ends_of(table[table.group == group])
        over = ends.assign(over=ends.margin / best[group]).groupby("width").over
        axes[-1].plot(over.max().index, over.max(), label=group, **look)
    _style.at_sizes(axes[-1], table.width.unique(), "width m")
    axes[-1].set(title="best of all starts", ylabel="γ/best found", ylim=(0, 1.05))
    axes[-1].legend(loc="lower right")
    fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return fig


EXPERIMENT = Experiment(
    "group_limit", Config, PRESETS, points, run, claims, figure, (BELOW, HELD, DISTANCE, BEST),
    table=by_lam, static=("group", "width"), batch_size=64,
)  # fmt: skip
