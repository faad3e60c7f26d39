"""Two neurons on the group C₅: they fit its table, and never as two pure waves

A public list of open problems asks whether each of two z² neurons that learn the table of C₅ by
gradient flow, from a Gaussian start and without λ, ends almost surely in one exact frequency, and
how often in the same one. The first half is refuted here, the second measured.

**Two exactly pure neurons never fit.** The outputs at (a, b), up to a constant, are s₁w₁° + s₂w₂°
with activations s ≥ 0 and the centred vectors w° of the outputs; each of the five labels must be
the strict maximum at some (a, b).

- Of one frequency ζ: w°(c) = r cos(2πζc/5 + φ), so all sums lie in a plane, in which a label wins
  in one of five sectors of 72°. The sums of two vectors with weights ≥ 0 fill an angle below 180°,
  or lie on a line. An angle that meets all five sectors holds three of them whole, which is 216°.
- Of two frequencies: a label that is the strict winner under weights s ≥ 0 is a point
  (w₁°(c), w₂°(c)) of the plane that no other point equals or exceeds in both coordinates. If this
  holds for all five, no two share a coordinate, w₂° falls strictly where w₁° rises, and then
  Σ w₁°w₂° < 0 (Chebyshev's sum inequality). But different frequencies are orthogonal.

It needs s ≥ 0 alone, so that it holds for relu and with constants in u, v and w as well.

**Two neurons do fit**, by the integer network below, with all margins ≥ 9 and the mean loss
2.1e-5 < (log 2)/25. From any start of a loss below that, gradient flow keeps a positive normalized
margin (Lyu and Li, for the cross-entropy in their appendix), so that every limit of its direction
fits. One neuron alone would win for one label, so both are alive in it, and one at least is not
pure. Such starts have a positive probability.

The flow is followed by Heun's method on log L, whose flow lines are those of L, with steps of at
most a fifth of a percent of ‖Θ‖. For its limit stands the KKT point of the max margin to which a
λ-path leads from there, down to λ = 1e-280; `turned` is the angle between the two.

Source: the list MAIS, O59; the argument is derived here; Lyu and Li (ICLR 2020).
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import networks
from ntkreg._types import Array, Params, Scalar
from ntkreg.data import groups
from ntkreg.experiments import _claims, _experiment, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.groups.runs import LOSS, initial
from ntkreg.sweeps import grid
from ntkreg.training import margins, objectives, paths, stationarity, trainers

FIVE = groups.cyclic(5)
INTEGERS = (  # u, v and w of both neurons
    ((6, -3, -1, 4, -6), (6, -6, 4, -1, -3)),
    ((-3, -1, 4, -6, 6), (-6, 4, -1, -3, 6)),
    ((5, -2, 4, -9, 2), (-9, 4, -2, 5, 2)),
)
LIMITS = (1e-20, 1e-40, 1e-80, 1e-160, 1e-280)  # λ, along which the flow's end goes on to its limit
LINEAR, RELATIVE = 0.02, 0.002  # largest step of the flow, and over ‖Θ‖
GRADIENT_MARGIN = 40.0  # smallest margin at which the flow is left: the loss is e^(−40)


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      scales: standard deviations τ of the initial coordinates.
      num_seeds: of each.
      num_steps: of the flow, at most.
      finish_steps: of L-BFGS at each λ of the limit.
    """

    scales: tuple[float, ...] = (1.0, 0.4472135954999579)
    num_seeds: int = 200
    num_steps: int = 20_000
    finish_steps: int = 400

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("scales", lambda v: 0 < v < np.inf, "positive and finite")
        for name in ("num_seeds", "num_steps", "finish_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "scales")


# smoke: seconds. laptop: two minutes on two cores. thorough: 1,000 seeds, some ten minutes.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(scales=(1.0,), num_seeds=10, num_steps=2000, finish_steps=30),
    "laptop": {},
    "thorough": dict(num_seeds=1000),
    "full": dict(num_seeds=10_000, num_steps=40_000),
}


def points(config: Config) -> list[dict[str, Any]]:
    """All starts, seeds innermost."""
    return grid(scale=config.scales, seed=range(config.num_seeds))


# A run ----------------------------------------------------------------------------------------


def integer_network() -> Params:
    """The network of INTEGERS, as parameters of `fully_connected(2, 2, 5, "quadratic")`."""
    u, v, w = (np.array(part, float) for part in INTEGERS)
    return jnp.concatenate([u, v], axis=1).T, jnp.asarray(w)


def integer_margins() -> np.ndarray:
    """All f_ab − f_c of the integer network, shape (25, 4), in exact integers."""
    u, v, w = (np.array(part, object) for part in INTEGERS)
    found = []
    for a in range(5):
        for b in range(5):
            f = ((u[:, a] + v[:, b]) ** 2) @ w
            own = (a + b) % 5
            found.append([int(f[own] - f[c]) for c in range(5) if c != own])
    return np.array(found)


def flowed(value, smallest_margin, params: Params, num_steps: int) -> tuple[Params, Array]:
    """(where the flow on log L is after so many steps, or once all margins are large; steps)."""
    slope = jax.grad(value)

    def goes_on(carry: tuple[Params, Array]) -> Array:
        params, step = carry
        return (step < num_steps) & (smallest_margin(params) < GRADIENT_MARGIN)

    def update(carry: tuple[Params, Array]) -> tuple[Params, Array]:
        params, step = carry
        first = slope(params)
        size = optax.tree.norm(params) / optax.tree.norm(first)
        length = jnp.minimum(LINEAR, RELATIVE * size)
        ahead = optax.tree.add_scale(params, -length, first)
        both = optax.tree.add(first, slope(ahead))
        return optax.tree.add_scale(params, -length / 2, both), step + 1

    return jax.lax.while_loop(goes_on, update, (params, jnp.zeros((), int)))


def run(config: Config, scale: Scalar, seed: Array) -> dict[str, Array]:
    """One flow: whether it fits, and how pure its neurons are where it is left and in the limit."""
    network, data = networks.fully_connected(2, 2, 5, "quadratic"), groups.pairs(FIVE)
    value = lambda p: objectives.log_mean_loss(LOSS, network, p, data)
    smallest = lambda p: jnp.min(margins.margins(network, p, data))
    start = optax.tree.scale(scale * math.sqrt(5), initial(FIVE, 2, seed))
    end, steps = flowed(value, smallest, start, config.num_steps)
    options = trainers.TrainOptions(loss=LOSS, num_steps=1, finish_steps=config.finish_steps)
    log_lams = jnp.log(jnp.array(LIMITS))
    limits = paths.follow(options, network, data, log_lams, jnp.array(1e-12), end)
    limit = jax.tree.map(lambda leaf: leaf[-1], limits)
    fits = smallest(end) > 0
    found = {
        "steps": steps,
        "fits": fits,
        "margin": margins.normalized_margin(network, end, data),
        "log_loss": value(end),
    }
    return found | _pure("", end) | {
        "limit_margin": jnp.where(fits, margins.normalized_margin(network, limit, data), 0.0),
        "limit_log_residual": jnp.where(
            fits, stationarity.log_residual(LOSS, network, limit, data, log_lams[-1]), 0.0
        ),
        "turned": jnp.where(fits, _angle(end, limit), 0.0),
    } | _pure("limit_", limit)  # fmt: skip


def _angle(one: Params, other: Params) -> Array:
    """Between the directions of two networks, in radians."""
    along = optax.tree.vdot(one, other) / (optax.tree.norm(one) * optax.tree.norm(other))
    return jnp.arccos(jnp.clip(along, -1.0, 1.0))


def _pure(name: str, params: Params) -> dict[str, Array]:
    """The purities of both neurons, and whether their nearest frequencies are one."""
    shares = groups.purities(FIVE, groups.neurons(params))
    nearest, purity = jnp.argmax(shares, axis=1), jnp.sort(jnp.max(shares, axis=1))
    return {
        f"{name}purity_0": purity[0],
        f"{name}purity_1": purity[1],
        f"{name}same": (nearest[0] == nearest[1]) & (purity[0] > 0),
    }


# Claims ---------------------------------------------------------------------------------------

COUNTEREXAMPLE = Claim(
    statement="Two z² neurons fit the table of C₅, though two exactly pure ones cannot",
    source="derived here, on O59 of the list MAIS",
    certified=True,
)
IMPURE = Claim(
    statement="No KKT point to which a flow that fits leads has both neurons exactly pure",
    source="derived here, with Lyu and Li 2020, on O59",
)
LAW = Claim(
    statement="How often two neurons fit, and share their frequency, under gradient flow",
    source="O59 of the list MAIS",
)
PURE = 0.999  # stands for exactly pure: the argument excludes 1 alone
RESIDUAL = 1e-3


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has runs for."""
    found = [counterexample_claim(), impure_claim(table), law_claim(table)]
    return [claim for claim in found if claim.checks]


def counterexample_claim() -> Claim:
    """The integer network's exact margins, and its loss beside what Lyu and Li require."""
    found = integer_margins()
    loss = float(np.mean(np.log1p(np.exp(-found.astype(float)).sum(axis=1))))
    shares = groups.purities(FIVE, groups.neurons(integer_network()))
    return COUNTEREXAMPLE.on(
        _claims.exact("smallest margin", found.min(), 1, "≥", "all 100, in integers"),
        _claims.exact("mean loss", loss, math.log(2) / 25, "≤", "the table"),
        _claims.exact("purity of the purer neuron", float(shares.max())),
    )


def impure_claim(table: pandas.DataFrame) -> Claim:
    """The less pure neuron of every network that fits, in its limit."""
    fits = table[table.fits]
    there = fits[fits.limit_log_residual < math.log(RESIDUAL)]
    lost = len(fits) - len(there)
    return IMPURE.on(
        _claims.every("less pure neuron, limit", there.limit_purity_0, PURE, "≤", "flows that fit"),
        _claims.every("smallest limit margin", there.limit_margin, 0.0, "≥", "flows that fit"),
        apart=[
            f"{lost} flows that fit, whose limit has a residual above {RESIDUAL:g}" * (lost > 0)
        ],
    )


def law_claim(table: pandas.DataFrame) -> Claim:
    """Shares of all flows, for each scale of the start."""
    checks = []
    for scale, part in table.groupby("scale", sort=False):
        count = lambda what, of, among, scale=scale: _claims.share(
            f"τ = {scale:.3g}: {what}", int((of & among).sum()), int(among.sum()), runs="flows"
        )
        every = pandas.Series(True, index=part.index)
        checks += [
            count("fit", part.fits, every),
            count("nearest frequencies the same", part.same, every),
            count("the same among those that fit", part.same, part.fits),
            count("the same among the others", part.same, ~part.fits),
        ]
    return LAW.on(*checks)


# The picture ----------------------------------------------------------------------------------


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """The purities of both neurons in the limit, and the margins of the limits."""
    fig, axes = _style.panels(2, columns=2, ratio=0.8)
    looks = _style.categories(table.scale.unique())
    for scale, part in table.groupby("scale", sort=False):
        mine, look = part[part.fits], looks[scale]
        label = f"τ = {scale:.3g}: {len(mine)} of {len(part)} fit"
        place = dict(less=mine.limit_purity_0.round(2), other=mine.limit_purity_1.round(2))
        counts = mine.assign(**place).groupby(["less", "other"]).size().reset_index(name="count")
        dots = dict(color=look["color"], marker=look["marker"], facecolors="none", linewidths=0.9)
        axes[0].scatter(counts.less, counts.other, s=6 + 2.5 * counts["count"], **dots)
        axes[0].scatter([], [], s=20, label=label, **dots)
        order = np.sort(mine.limit_margin)[::-1] * 1e4
        axes[1].plot(np.arange(1, len(order) + 1), order, label=label, **look | _style.DOTS)
    axes[0].axvline(1.0, **_style.LEVEL)
    axes[0].axhline(1.0, label="exactly pure: cannot fit", **_style.LEVEL)
    axes[0].set(xlabel="purity of the less pure neuron", ylabel="purity of the other")
    axes[0].set(title="limits of flows that fit (area: number)")
    axes[1].set(xlabel="flows that fit, by margin", ylabel="normalized margin · 10⁴")
    axes[1].set(title="margins of the limits")
    _style.legend(axes[0], above=0.35)
    return fig


EXPERIMENT = Experiment(
    "two_neurons", Config, PRESETS, points, run, claims, figure,
    (COUNTEREXAMPLE, IMPURE, LAW), batch_size=100,
)  # fmt: skip
