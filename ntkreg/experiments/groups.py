"""Which representations of a finite group a small network learns under weight decay

A network of one hidden layer learns the table of a group: the input is a pair (a, b), the label ab.
A public list of open problems poses an experiment on which representations its outputs are made
of, and how the law of these changes with width and λ; it is run here to the letter (preset
`open_experiment`). Kept apart from it are runs whose rate falls to 0 (`thorough`).

A *representation* here is a nontrivial irreducible one together with its complex conjugate: two
frequencies on C₅, sgn and std on S₃. The *fraction* of one in the outputs f° (less their mean over
c) is ‖projection of f°‖/‖f°‖ onto the functions χ(abc⁻¹) of it; 0 where f° is. The *key set* holds
those of a fraction ≥ 0.005; *N* is the smallest number of them with 95 % of the squared fractions.
A neuron is *pure* for one with ≥ 95 % of ‖u°‖² + ‖v°‖² + ‖w°‖², each less its mean; if nothing is
left of it, for none.

To the letter: G ∈ {C₅, S₃}; f = Σᵢ σ(uᵢ(a) + vᵢ(b)) wᵢ(c) with σ ∈ {z², relu}, relu′(0) = 0, and 2
or 8 neurons; coordinates N(0, 1/n), n = |G|; mean cross-entropy over the whole table + λ‖Θ‖₂² with
λ ∈ {0, 1e-4, 1e-2}; full-batch Adam (0.001, 0.9, 0.999, 1e-8) of at most 20,000 updates; 100 fixed
seeds; float64. Where the specification leaves a choice, these were made:

- The seeds are 0 … 99, the same for every setting; all 3n·m coordinates are one draw in float64,
  `jax.random.normal(jax.random.key(seed), (3n, m)) / √n`, u above v above w.
- *Converged*: in 500 consecutive updates both |F′ − F| < 1e-7 |F| and ‖Θ′ − Θ‖ < 1e-7 ‖Θ‖, where F
  is the whole objective and F, Θ are those before the update. A run ends at its first convergence;
  where F or Θ is 0 nothing is below, so that such a run counts as not converged.
- Every run counts in every share, converged or not and whatever it has learned. *Learned*: at every
  pair the right logit is strictly larger than all others; a tie counts as wrong.
- The fraction of a pair of conjugate representations is of the span of both.
- Intervals are Clopper and Pearson's at 95 %, each by itself.

Source: the public list of open problems MAIS, O61 (the experiment), O59, O56; Morwani, Edelman,
Oncescu, Zhao, Kakade (ICLR 2024) for the task.
"""

import dataclasses
import functools
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import scipy

from ntkreg import networks
from ntkreg._types import Array, Float, Params, PyTree, Scalar
from ntkreg.data import groups
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
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


# The table ------------------------------------------------------------------------------------


def _names(group: str) -> list[str]:
    return [rho.name for rho in groups.named(group).representations]


def all_of(group: str) -> str:
    """The key set that has every representation."""
    return "+".join(_names(group))


def settings(table: pandas.DataFrame):
    """(group, activation, width, λ) and the runs of each, in the table's order."""
    return table.groupby(["group", "activation", "width", "lam"], sort=False)


def key_sets(table: pandas.DataFrame) -> pandas.DataFrame:
    """How often each key set was met, a row each, with exact binomial intervals."""
    rows = []
    for (group, activation, width, lam), part in settings(table):
        names = _names(group)
        sizes = range(len(names) + 1)
        sets = itertools.chain.from_iterable(itertools.combinations(names, k) for k in sizes)
        for name in ["+".join(chosen) or "none" for chosen in sets]:
            count = int(part.key_set.eq(name).sum())
            if not count and len(names) > 2:
                continue
            low, high = _statistics.share_interval(np.asarray(count), len(part))
            rows.append(
                dict(group=group, activation=activation, width=width, lam=lam, key_set=name,
                     count=count, runs=len(part), share=count / len(part), low=low, high=high)
            )  # fmt: skip
    return pandas.DataFrame(rows)


# Claims ---------------------------------------------------------------------------------------

SAME = Claim(
    statement="Two z² neurons on C₅: how often both are pure for the same frequency",
    source="O61, O59 of the list MAIS",
)
KEYS = Claim(
    statement="How often the outputs hold every representation, by width and λ",
    source="O61 of the list MAIS",
)
CONVERGED = Claim(
    statement="How many runs meet the rule of convergence, as specified",
    source="O61 of the list MAIS",
)
ANNEALED = Claim(
    statement="How many runs end at stationary points where the rate falls to 0",
    source="derived here, beside O61",
)
ANNEALED_KEYS = Claim(
    statement="At stationary points: how often the outputs hold every representation",
    source="derived here, beside O61",
)
RESIDUAL = stationarity.CONVERGED
ZERO = 1e-100  # norm up to which a network is on its way to Θ = 0


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has runs for."""
    if config.schedule == "constant":
        found = [same_claim(table), keys_claim(KEYS, table), converged_claim(table)]
    else:
        found = [annealed_claim(table), keys_claim(ANNEALED_KEYS, stationary(table))]
    return [claim for claim in found if claim.checks]


def same_claim(table: pandas.DataFrame) -> Claim:
    """The first readout that was asked for, and how it depends on the threshold of purity."""
    rows = table[(table.group == "C5") & (table.activation == "quadratic") & (table.width == 2)]
    checks = []
    for lam, part in rows.groupby("lam"):
        share = lambda what, of, part=part, lam=lam: _claims.share(
            f"λ = {lam:g}: {what}", int(of.sum()), len(part)
        )
        learned = part.accuracy == 1
        checks += [
            share("both pure (δ = 0.05), one frequency", part["same_0.05"]),
            share("both pure (δ = 0.1), one frequency", part["same_0.1"]),
            share("nearest frequency the same", part.nearest_same),
            share("learned the table", learned),
            share("learned, nearest frequencies differ", learned & ~part.nearest_same),
        ]
    return SAME.on(*checks)


def keys_claim(claim: Claim, table: pandas.DataFrame) -> Claim:
    """The second readout: the share of runs whose key set has every representation."""
    return claim.on(
        *(
            _claims.share(
                f"{group}, {ACTIVATIONS[activation]}, m = {width}, λ = {lam:g}",
                int(part.key_set.eq(all_of(group)).sum()),
                len(part),
            )
            for (group, activation, width, lam), part in settings(table)
        )
    )


def converged_claim(table: pandas.DataFrame) -> Claim:
    """Runs that met the rule, where a minimum exists and the objective is smooth, and elsewhere."""
    is_smooth = table.activation == "quadratic"
    parts = {
        "z², λ > 0": is_smooth & (table.lam > 0),
        "z², λ = 0": is_smooth & (table.lam == 0),
        "relu": ~is_smooth,
    }
    return CONVERGED.on(
        *(
            _claims.share(f"{what}: converged", int(table.converged[rows].sum()), int(rows.sum()))
            for what, rows in parts.items()
            if rows.any()
        )
    )


def stationary(table: pandas.DataFrame) -> pandas.DataFrame:
    """Ends that are stationary, and no zero network, which is so at every λ."""
    return table[table.converged & (table.norm > ZERO)]


def annealed_claim(table: pandas.DataFrame) -> Claim:
    """The share of stationary ends, for each activation and λ; zero networks are counted apart."""
    is_zero = table.norm <= ZERO
    zeros = [
        f"λ = {lam:g}: {len(part)} runs end at Θ = 0" for lam, part in table[is_zero].groupby("lam")
    ]
    return ANNEALED.on(
        *(
            _claims.share(
                f"{ACTIVATIONS[activation]}, λ = {lam:g}: residual below {RESIDUAL:g}",
                int(part.converged.sum()),
                len(part),
            )
            for (activation, lam), part in table[~is_zero].groupby(["activation", "lam"])
        ),
        apart=zeros,
    )


# The picture ----------------------------------------------------------------------------------

QUANTITIES = {
    "all representations in the key set": lambda part: part.key_set.eq(all_of(part.group.iloc[0])),
    "all neurons pure for one": lambda part: part["same_0.05"],
    "table learned": lambda part: part.accuracy == 1,
    "converged": lambda part: part.converged,
}


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Shares of runs with their intervals, against λ; for several widths a panel each group."""
    if len(config.widths) > 2:
        return _by_width(table, config)
    fig, axes = _style.panels(len(QUANTITIES), columns=2, ratio=0.62)
    names = list(itertools.product(config.groups, config.activations, config.widths))
    looks = _style.categories(names)
    for ax, (title, quantity) in zip(axes, QUANTITIES.items(), strict=True):
        for number, name in enumerate(names):
            mine = table[(table[["group", "activation", "width"]] == list(name)).all(axis=1)]
            label = f"{name[0]}, {ACTIVATIONS[name[1]]}, m = {name[2]}"
            shift = 0.06 * (number - (len(names) - 1) / 2)
            _shares(ax, mine.groupby("lam"), quantity, shift, label, looks[name])
        ax.set_xticks(range(len(config.lams)), [_style.number(lam) for lam in sorted(config.lams)])
        ax.set(title=title, xlabel="λ", ylabel="share of runs", ylim=(-0.04, 1.04))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return fig


def _by_width(table: pandas.DataFrame, config: Config) -> _style.Figure:
    panels = list(itertools.product(config.activations, config.groups))
    fig, axes = _style.panels(len(panels), columns=min(3, len(config.groups)), ratio=0.75)
    looks = _style.categories(config.lams)
    for ax, (activation, group) in zip(axes, panels, strict=True):
        mine = stationary(table[(table.group == group) & (table.activation == activation)])
        for number, lam in enumerate(config.lams):
            shift = 0.06 * (number - (len(config.lams) - 1) / 2)
            part = mine[mine.lam == lam].groupby("width")
            quantity = QUANTITIES["all representations in the key set"]
            _shares(ax, part, quantity, shift, f"λ = {_style.number(lam)}", looks[lam])
        ax.set_xticks(range(len(config.widths)), [f"{m}" for m in config.widths])
        ax.set(title=f"{group}, {ACTIVATIONS[activation]}: all representations", xlabel="width m")
        ax.set(ylabel="share of stationary ends", ylim=(-0.04, 1.04))
    shown = [zip(*ax.get_legend_handles_labels(), strict=True) for ax in axes]
    by_label = {label: handle for pairs in shown for handle, label in pairs}
    fig.legend(by_label.values(), by_label, loc="outside lower center", ncols=5)
    return fig


def _shares(ax, parts, quantity, shift: float, label: str, look: _style.Look) -> None:
    """Shares of the parts, in order, a little beside each other."""
    counts = np.array([[int(quantity(part).sum()), len(part)] for _, part in parts])
    if not len(counts):
        return
    ends = [_statistics.share_interval(np.asarray(k), n) for k, n in counts]
    at = np.arange(len(counts)) + shift
    _style.with_ends(ax, at, counts[:, 0] / counts[:, 1], *np.array(ends).T, label=label, **look)


# What is published ----------------------------------------------------------------------------


def pages(table: pandas.DataFrame, config: Config) -> dict[str, str]:
    """key_sets.csv; of the experiment as posed also a page for someone without this package."""
    sets = key_sets(table)
    found = {"key_sets.csv": sets.to_csv(index=False, float_format="%.6g")}
    if config == Config(**PRESETS["open_experiment"]):
        found["README.md"] = page(table, sets, config)
    return found


def page(table: pandas.DataFrame, sets: pandas.DataFrame, config: Config) -> str:
    """The results in words and tables."""
    doc = (__doc__ or "").split("\n\n")
    body = "".join(f"{part}\n\n" for part in doc[1:-1])
    return f"""# Which representations a small network learns: an open experiment, run

{body}## Answers

**How often are both neurons pure for one frequency (C5, m = 2)?** It depends on what counts as
pure: in many runs both neurons share a frequency and miss 95 % by little.

{_same_table(table)}
**How does the law of the key set change with width and λ?** Shares of runs whose key set has every
representation, and two-sided p-values: Fisher's exact test between m = 2 and m = 8, and between
λ = 0 and 0.01 the exact test on the seeds that differ.

{_change_table(table, config)}
A key set's threshold decides too: *near* are runs whose smaller fraction is within a factor 2 of
0.005.

## What came out

{_setting_table(table, sets)}
*Converged* runs met the rule at some update; the others ran for all {config.num_steps:,}. *N = 1*:
one representation has 95 % of the squared fractions. *ν*: the share of neurons pure for each
representation. relu runs rattle at kinks to the end, and their counts change by a few from one
machine to another.

![shares](figure.png)

## Files

The command is `uv run launch/groups.py --preset=open_experiment`.

- `summary.csv`: a row a run; `share_i`, `multiplicity_i` are of the i-th representation in the
  order of the table above. `same_δ`: all neurons pure at δ for one. `nearest_same`: all neurons
  have the same nearest representation.
- `key_sets.csv`: every key set with its count and interval.
- `arrays.npz`: `params/ROW` are the final coordinates of row ROW of summary.csv, of shape (3n, m):
  u above v above w. Elements of C5 are residues, those of S3 permutations of (0, 1, 2) in
  lexicographic order, with the product p∘q.
- `run.json`: configuration, versions, hardware, time.
"""


def _markdown(head: tuple[str, ...], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _share(count: int, total: int) -> str:
    """The count with the interval of its share."""
    low, high = _statistics.share_interval(np.asarray(count), total)
    return f"{count} of {total} [{low:.2f}, {high:.2f}]"


def _same_table(table: pandas.DataFrame) -> str:
    mine = table[(table.group == "C5") & (table.width == 2)]
    columns = ("same_0.05", "same_0.1", "nearest_same")
    rows = []
    for (activation, lam), part in mine.groupby(["activation", "lam"]):
        learned = part[part.accuracy == 1]
        of_them = _share(int(learned.nearest_same.sum()), len(learned)) if len(learned) else "—"
        shares = [_share(int(part[column].sum()), len(part)) for column in columns]
        rows.append([ACTIVATIONS[activation], f"{lam:g}", *shares, of_them])
    head = ("σ", "λ", "both pure, 95 %: as posed", "both pure, 90 %", "nearest the same",
            "nearest the same, of those that learned")  # fmt: skip
    return _markdown(head, rows)


def _change_table(table: pandas.DataFrame, config: Config) -> str:
    full = table.assign(full=[row.key_set == all_of(row.group) for row in table.itertuples()])
    rows = []
    for group, activation in itertools.product(config.groups, config.activations):
        mine = full[(full.group == group) & (full.activation == activation)]
        cell = lambda width, lam, mine=mine: mine[(mine.width == width) & (mine.lam == lam)]
        first, *_, last = sorted(config.lams)
        for what, one, other in (
            (f"m = {min(config.widths)} → {max(config.widths)}, λ = {first:g}",
             cell(min(config.widths), first), cell(max(config.widths), first)),
            (f"λ = {first:g} → {last:g}, m = {min(config.widths)}",
             cell(min(config.widths), first), cell(min(config.widths), last)),
        ):  # fmt: skip
            counts = [[int(part.full.sum()), int((~part.full).sum())] for part in (one, other)]
            if what.startswith("m"):
                p = scipy.stats.fisher_exact(counts).pvalue
            else:
                fell = one.full.to_numpy() & ~other.full.to_numpy()
                rose = ~one.full.to_numpy() & other.full.to_numpy()
                changed = int(fell.sum() + rose.sum())
                p = scipy.stats.binomtest(int(rose.sum()), changed).pvalue if changed else 1.0
            near = int(one.smallest_share.between(KEY / 2, 2 * KEY).sum())
            shares = [_share(counts[i][0], sum(counts[i])) for i in range(2)]
            rows.append([group, ACTIVATIONS[activation], what, *shares, f"{p:.2g}", near])
    head = ("group", "σ", "change", "before", "after", "p", "near, before")
    return _markdown(head, rows)


def _setting_table(table: pandas.DataFrame, sets: pandas.DataFrame) -> str:
    rows = []
    for (group, activation, width, lam), part in settings(table):
        own = sets[["group", "activation", "width", "lam"]] == [group, activation, width, lam]
        found = sets[own.all(axis=1) & (sets["count"] > 0)]
        laws = ", ".join(
            f"{{{name.replace('+', ', ')}}} {count} [{low:.2f}, {high:.2f}]"
            for name, count, low, high in found[["key_set", "count", "low", "high"]].to_numpy()
        )
        multiple = ", ".join(
            f"{name} {part[f'multiplicity_{i}'].mean():.3f}" for i, name in enumerate(_names(group))
        )
        rows.append(
            [group, ACTIVATIONS[activation], width, f"{lam:g}", len(part),
             int(part.converged.sum()), int((part.accuracy == 1).sum()), laws,
             int((part.spectral_count == 1).sum()), multiple, int(part["same_0.05"].sum())]
        )  # fmt: skip
    head = ("group", "σ", "m", "λ", "runs", "converged", "learned", "key sets: runs [95 %]",
            "N = 1", "mean ν", "all neurons pure for one")  # fmt: skip
    return _markdown(head, rows)


EXPERIMENT = Experiment(
    "groups", Config, PRESETS, points, run, claims, figure,
    (SAME, KEYS, CONVERGED, ANNEALED, ANNEALED_KEYS), table=with_key_sets,
    static=("group", "activation", "width"), batch_size=100, pages=pages,
)  # fmt: skip
