"""The max margin of a finite group's table, in the norm in which it is a convex problem

A z² network is of order 3. Measured by ‖Θ‖ = (Σᵢ ‖ωᵢ‖₂³)^(1/3) over neurons, what a neuron gives
grows like its share of ‖Θ‖³, so the max margin on the table of a group is the value of a small
matrix game, and the minimum of mean cross-entropy + λ Σᵢ ‖ωᵢ‖³ a convex problem in as many numbers
as there are representations: the best over all widths is known exactly in both. Do trained networks
reach them, with the representations that the minimum has and every neuron in one of them? And is
the way there, as λ → 0, the one that the law of the λ-path says?

With ReLU, of order 2, the Euclidean norm is already the one: its max margins and minima are known
too, over all neurons by a search of all cones on which the network is linear.

Networks are trained along a path of λ from random initial parameters, with the penalty λ Σᵢ ‖ωᵢ‖³,
or λ‖Θ‖² with ReLU.

Source: Morwani, Edelman, Oncescu, Zhao, Kakade (ICLR 2024) for the norm and C_p; the other groups,
the minima and their proofs are derived here (`certificates.group_games`).
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
from ntkreg.certificates import Certificate, group_margin, group_minimum
from ntkreg.certificates.group_games import Activation
from ntkreg.data import groups
from ntkreg.experiments import _claims, _descents, _experiment, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.groups.runs import group_of
from ntkreg.sweeps import grid
from ntkreg.theory import closed_forms, path_law
from ntkreg.training import paths, stationarity
from ntkreg.training.norms import Norm

NORMS: dict[str, Norm] = {"quadratic": (2, 3), "relu": 2}
PURE = 0.999  # the share of a neuron's length from which it counts as of one representation
ALIVE = 1e-6  # of ‖Θ‖³, from which a neuron counts


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      cases: "group:width", the group as `data.groups.named` has it, with z²; "group:width:relu".
      exact: groups whose margins are computed and not trained; "group:relu".
      lams: of the path, falling.
      num_seeds: initial parameters of each case.
      num_steps, finish_steps: of Adam and L-BFGS at each λ.
    """

    cases: tuple[str, ...] = (
        "C3:16", "C4:32", "C5:32", "C6:64", "C7:64", "S3:64", "Q8:64",
        "C3:24:relu", "C4:40:relu", "C5:60:relu",
    )  # fmt: skip
    exact: tuple[str, ...] = (
        "C8", "C9", "C10", "C11", "C12", "C13", "S4", "D4", "A4", "A5", "C7:relu",
    )  # fmt: skip
    lams: tuple[float, ...] = (1e-2, 1e-3, 1e-4, 1e-8, 1e-16, 1e-32, 1e-64, 1e-128, 1e-250)
    num_seeds: int = 4
    num_steps: int = 2000
    finish_steps: int = 300

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for case in self.cases:
            name, width, _ = _parsed(case)
            group_of("cases", name)
            if width < 1:
                raise ValueError(f"cases must be of width at least 1, got {case}")
        for name in self.exact:
            group_of("exact", name.removesuffix(":relu"))
        check_lams(self.lams, falling=True)
        for name in ("num_seeds", "num_steps", "finish_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "cases", "exact", "lams")


# smoke: seconds. laptop: two minutes on two cores. thorough: modular addition to p = 53, an hour.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        cases=("C3:16", "S3:32", "C3:24:relu"), exact=("Q8", "C4:relu"), num_seeds=1, num_steps=500,
        lams=(1e-2, 1e-4, 1e-16, 1e-128),
    ),
    "laptop": {},
    "thorough": dict(
        cases=("C11:96", "C13:128", "C23:192", "C53:320", "S4:320", "A4:128", "D5:96"),
        exact=("C8", "C9", "C10", "C12", "D4", "A5"), num_seeds=1,
        lams=(1e-4, 1e-6, 1e-8, 1e-32, 1e-128),
    ),
    "full": dict(
        cases=("C11:128", "C23:256", "C53:512", "C113:1024", "S4:512", "A5:2048"), num_seeds=4
    ),
}  # fmt: skip


def _parsed(case: str) -> tuple[str, int, Activation]:
    """The group's name, the width and the activation that a case names."""
    name, _, width = case.removesuffix(":relu").partition(":")
    if not width.isdecimal():
        raise ValueError(f"cases must be group:width or group:width:relu, got {case!r}")
    return name, int(width), "relu" if case.endswith(":relu") else "quadratic"


def points(config: Config) -> list[dict[str, Any]]:
    """A path of λ for each case and seed; groups without training have the width 0."""
    trained = grid(case=config.cases, seed=range(config.num_seeds)) if config.cases else []
    exact = [":".join([name, "0", *rest]) for name, *rest in (t.split(":") for t in config.exact)]
    return [*trained, *grid(case=exact, seed=[0])] if exact else trained


# A run ----------------------------------------------------------------------------------------


@functools.cache
def _margin(name: str, activation: Activation) -> Certificate:
    return group_margin(groups.named(name), activation)


@functools.cache
def _minimum(name: str, lam: float, activation: Activation) -> Certificate:
    return group_minimum(groups.named(name), lam, activation)


def run(config: Config, case: str, seed: int) -> dict[str, Any]:
    """A path of λ, an entry each, with what is certified beside it."""
    name, width, activation = _parsed(case)
    group, best = groups.named(name), _margin(name, activation)
    is_relu = activation == "relu"
    found: dict[str, Any] = {
        "group": name, "activation": activation, "width": width, "best_margin": best.lower,
        "gap": best.gap, "proved": best.kind != "heuristic",
    }  # fmt: skip
    if not is_relu:
        found |= _closed_form_error(group, best)
    if not width:
        return found
    network = networks.fully_connected(2, width, group.order, activation)
    path = paths.train_path(
        network, groups.pairs(group), lams=list(config.lams), key=jax.random.key(seed),
        loss="cross_entropy", norm=NORMS[activation], num_steps=config.num_steps,
        finish_steps=config.finish_steps,
    )  # fmt: skip
    minima = [_minimum(name, lam, activation) for lam in config.lams]
    law = path_law.predicted(
        np.log(config.lams), best.upper, _wrong(group, best.dual), 1, order=network.order,
        power=network.order,
    )  # fmt: skip
    reached, log_f = np.asarray(path.info.normalized_margin), np.asarray(path.info.log_objective)
    found |= {
        "short": 1 - reached / best.upper,
        "over": np.expm1(log_f - np.log([minimum.upper for minimum in minima])),
        "minimum_gap": np.array([minimum.gap for minimum in minima]),
        "is_zero": np.array([_is_zero(group, minimum) for minimum in minima]),
        "log_residual": np.asarray(path.info.log_residual),
        "law_short": 1 - law.normalized_margin / best.upper,
    }
    if is_relu:  # whose best neurons need not be pure
        return found
    impurity, held = _impurity(group, path.params)
    lacking = np.array([_held(group, minimum) for minimum in minima]) - held
    return found | {"impurity": impurity, "lacking": lacking}


def _is_zero(group: groups.Group, minimum: Certificate) -> bool:
    """Whether λ is so large that the zero network, with cross-entropy log n, is the minimum."""
    return minimum.upper >= math.log(group.order) * (1 - ROUNDING)


def _held(group: groups.Group, minimum: Certificate) -> int:
    """How many representations the certified minimum has."""
    shares = np.asarray(groups.purities(group, groups.neurons(minimum.primal)))
    return len(np.unique(shares.argmax(axis=1)))


def _closed_form_error(group: groups.Group, best: Certificate) -> dict[str, float]:
    """Of the closed form, relative; nothing where it does not hold."""
    try:
        return {"closed_form_error": abs(closed_forms.group_margin(group) / best.upper - 1)}
    except ValueError:
        return {}


def _wrong(group: groups.Group, dual: np.ndarray) -> np.ndarray:
    """The weights of wrong answers, without the right one's place: all n² pairs have the same."""
    return np.delete(dual, group.identity)


def _impurity(group: groups.Group, ends) -> tuple[np.ndarray, np.ndarray]:
    """1 − the smallest purity of a neuron that is alive, and the number of representations that
    these are of, at each λ."""

    def at(params) -> tuple[jax.Array, jax.Array]:
        neurons = groups.neurons(params)
        mass = sum(jnp.sum(part**2, axis=1) for part in neurons) ** 1.5
        shares = groups.purities(group, neurons)
        alive = mass > ALIVE * mass.sum()
        held = jnp.any((shares >= PURE) & alive[:, None], axis=0)
        return jnp.max(jnp.where(alive, 1 - shares.max(axis=1), 0.0)), jnp.sum(held)

    found, count = jax.jit(jax.vmap(at))(ends)
    return np.asarray(found), np.asarray(count)


def by_lam(table: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """A row for every λ of every path."""
    is_path = table.width > 0
    rows = pandas.concat(
        [_descents.by_entry(table[is_path], "lam", config.lams), table[~is_path]],
        ignore_index=True,
    )
    first = ["group", "activation", "width", "seed", "lam"]
    kept = [name for name in rows if name not in (*first, "case", "failed")]
    return rows[[*first, *kept, "failed"]].infer_objects()


# Claims ---------------------------------------------------------------------------------------

EXACT = Claim(
    statement="The max margin of a group's table in ℓ_{2,3} is known exactly, from both sides",
    source="derived here; Morwani et al. 2024 for C_p",
    certified=True,
)
REACHED = Claim(
    statement="z² networks with λ Σ‖ω‖³ reach a group's max margin as λ → 0, and never pass it",
    source="Wei et al., Theorem 4.1, in this norm",
)
MINIMUM = Claim(
    statement="They reach the known minimum of loss + λ Σ‖ω‖³ there, and never pass it",
    source="derived here",
)
PURITY = Claim(
    statement="At a group's minimum every neuron is of one representation, and none is missing",
    source="Morwani et al. 2024 for C_p",
)
LAW = Claim(
    statement="On a group's table the margin nears the best as the law of the λ-path says",
    source="derived here (path_law)",
)
RELU = Claim(
    statement="The max margin of ReLU networks on a group's table is known, and none passes it",
    source="derived here",
    certified=True,
)
AGREEMENT, SHORT, DIGITS, LAW_ERROR, MOST = 1e-12, 1e-3, 1e-4, 0.1, 0.8
RELU_GAP, ROUNDING, NONE = 1e-10, 1e-12, 1e-9
THERE, LATE = 1e-9, 1e-4  # F over F*, relative; λ from which all representations are needed


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for; a run that raised an error has no group."""
    table = table.dropna(subset="group")
    relu = table[table.activation == "relu"]
    table = table[table.activation == "quadratic"]
    found = [exact_claim(table)] if len(table) else []
    trained = table[table.width > 0]
    if len(trained):
        found += [reached_claim(trained), minimum_claim(trained), purity_claim(trained)]
        found += [law_claim(trained)]
    found += [relu_claim(relu)] if len(relu) else []
    return [claim for claim in found if claim.checks]


def relu_claim(table: pandas.DataFrame) -> Claim:
    """Gaps of the groups that were proved; trained networks beside margins and minima."""
    each = table.drop_duplicates("group")
    proved, trained = each[each.proved.astype(bool)], table[table.width > 0]
    best, over = _ends(trained).groupby("group").short.min(), trained.groupby("group").over.min()
    unproved = ", ".join(each.group[~each.proved.astype(bool)])
    checks = [_claims.every("relative gap", proved.gap, RELU_GAP, "≤", "groups, proved")]
    if len(trained):
        checks += [
            _claims.every("short of γ*, relative", trained.short, -ROUNDING, "≥", "networks"),
            _claims.every("over F*, relative", trained.over, -ROUNDING, "≥", "networks"),
        ]
    for what, least in {"short of γ*, best seed": best, "over F*, best λ and seed": over}.items():
        checks += [_claims.exact(f"{group}: {what}", value) for group, value in least.items()]
    searched = f"the best of many searches, not proved: {unproved}" if unproved else ""
    return RELU.on(*checks, apart=[searched])


def exact_claim(table: pandas.DataFrame) -> Claim:
    """Gaps of all groups, and the closed form where it holds."""
    rows = table.drop_duplicates("group")
    closed, without = rows.closed_form_error.dropna(), rows.group[rows.closed_form_error.isna()]
    return EXACT.on(
        _claims.every("relative gap", rows.gap, AGREEMENT, "≤", "groups"),
        _claims.every("closed form, off the programme", closed, AGREEMENT, "≤", "groups"),
        apart=[f"no closed form for {', '.join(without)}" if len(without) else ""],
    )


def _ends(table: pandas.DataFrame) -> pandas.DataFrame:
    """The rows at the smallest λ of each group."""
    return table[table.lam == table.groupby("group").lam.transform("min")]


def reached_claim(table: pandas.DataFrame) -> Claim:
    """The best seed's margin of each group at the smallest λ, and that of any at any λ.

    Where the law of the path leaves more at that λ, there is nothing to judge.
    """
    ends = _ends(table)
    near = ends[ends.law_short <= SHORT]
    best = near.groupby("group").short.min()
    far = ends[ends.law_short > SHORT].drop_duplicates("group")
    return REACHED.on(
        _claims.every("best seed short of γ*, relative", best, SHORT, "≤", "groups"),
        _claims.every("short of γ*, relative", table.short, -ROUNDING, "≥", "networks"),
        _claims.share(
            f"seeds short by {SHORT:g} at most", int((near.short <= SHORT).sum()), len(near)
        ),
        apart=[
            f"{group}: at λ = {lam:g} the law of the path leaves {left:.2g}"
            for group, lam, left in zip(far.group, far.lam, far.law_short, strict=True)
        ],
    )


def minimum_claim(table: pandas.DataFrame) -> Claim:
    """The objective of any network at any λ, and how many minima the best seed reaches.

    The problem of a given width is not convex: a network may be stationary above F*.
    """
    best = table.groupby(["group", "lam"], sort=False).over.min()
    reached = best <= DIGITS
    return MINIMUM.on(
        _claims.every("over F*, relative", table.over, -ROUNDING, "≥", "networks"),
        _claims.share(
            f"minima that the best seed reaches to {DIGITS:g}", int(reached.sum()), len(best),
            MOST, "≥", "minima",
        ),
        apart=[
            f"{group}, λ = {lam:g}: {over:.1e} above F*"
            for (group, lam), over in best[~reached].items()
        ],
    )  # fmt: skip


def purity_claim(table: pandas.DataFrame) -> Claim:
    """Of networks at the minimum: neurons in one representation, and those that it has.

    A minimizer's neurons maximise the value under its dual weights, and only pure neurons do.
    """
    is_zero = table.is_zero.astype(bool)
    there = table[(table.over <= THERE) & ~is_zero]
    late = there[there.lam <= LATE]
    lost, zeros = int((table.over > THERE).sum()), int(is_zero.sum())
    return PURITY.on(
        _claims.every("largest impurity of a neuron", there.impurity, 1 - PURE, "≤", "networks"),
        _claims.every(
            f"representations lacking, λ ≤ {LATE:g}", late.lacking, 0, "≤", "networks",
        ),
        apart=[
            f"{lost} networks above F* by more than {THERE:g}" if lost else "",
            f"{zeros} at a λ whose minimum is the zero network" if zeros else "",
        ],
    )  # fmt: skip


def law_claim(table: pandas.DataFrame) -> Claim:
    """The distance from γ* at each group's smallest λ, beside the law's, of its best seed.

    The law is one of minimizers: ends that are not stationary are counted apart. Where all wrong
    answers have the same weight, as on C_p with p odd, the law has none at any λ.
    """
    ends = _ends(table)
    is_moving = ends.log_residual > math.log(stationarity.CONVERGED)
    best = ends[~is_moving].sort_values("short").drop_duplicates("group")
    has_one = best.law_short > NONE
    off = (best.short / best.law_short - 1).abs()[has_one]
    checks = []
    if has_one.any():
        checks = [_claims.every("distance from γ*, off the law", off, LAW_ERROR, "≤", "groups")]
    if not has_one.all():
        none = best.short[~has_one]
        what = "distance from γ* where the law has none"
        checks += [_claims.every(what, none, DIGITS, "≤", "groups")]
    moving = ends[is_moving].group.value_counts(sort=False).items()
    return LAW.on(
        *checks, apart=[f"{group}: {count} not stationary at the end" for group, count in moving]
    )


# The picture ----------------------------------------------------------------------------------


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Margins, objectives and purities against λ, the best seed's with the range of all."""
    fig, axes = _style.panels(3, columns=3, ratio=0.95)
    rows = table[table.width > 0].dropna(subset="lam")
    looks = _style.categories(list(dict.fromkeys(rows.group)))
    for (name, activation), mine in rows.groupby(["group", "activation"], sort=False):
        look, unit = looks[name], ""
        if activation == "relu":
            look, unit = look | _style.HOLLOW, " ReLU"
        label = f"{name}{unit}, m = {mine.width.iloc[0]}"
        _ranges(axes[0], mine, "short", look | _style.DOTS, label)
        _ranges(axes[1], mine, "over", look, label)
        if not unit:
            _ranges(axes[2], mine, "impurity", look, label)
        law = mine.groupby("lam").law_short.first()
        dashes = _style.PREDICTED | dict(color=look["color"])
        axes[0].plot(-np.log10(law.index), law, **dashes)
    axes[0].plot([], [], label="law of the path", **_style.PREDICTED)
    axes[0].set(title="margin short of the best, certified", ylabel="1 − γ/γ*")
    axes[1].set(title="objective over the certified minimum", ylabel="F/F* − 1")
    axes[2].set(title="least pure neuron", ylabel="1 − purity")
    for ax in axes:
        ax.set(yscale="log", ylim=(FLOOR / 3, 3))
        _style.at_sizes(ax, -np.log10(rows.lam.unique()), "$\\log_{10}$ 1/λ")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


FLOOR = 1e-16  # of differences: below it is rounding


def _ranges(ax, rows: pandas.DataFrame, column: str, look: _style.Look, label: str) -> None:
    """The best seed's value at each λ, with bars over all seeds."""
    found = rows.assign(shown=np.maximum(rows[column], FLOOR)).groupby("lam").shown
    _style.with_ends(ax, *_best(found), label=label, **look)


def _best(found) -> tuple:
    return -np.log10(found.min().index), found.min(), found.min(), found.max()


EXPERIMENT = Experiment(
    "group_margins", Config, PRESETS, points, run, claims, figure,
    (EXACT, REACHED, MINIMUM, PURITY, LAW, RELU), table=by_lam, host=True,
)  # fmt: skip
