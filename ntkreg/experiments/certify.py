"""The max margin from both sides, and how far proofs of it reach

The paper's theorems speak of the largest normalized margin of a network and leave its value open.
For two layers of ReLU a network bounds it from below, and weights on the samples bound it from
above. The question is whether the two bounds meet, and to which size that can be proved.

On each sample a network is trained and polished, and its own dual weights bound the max margin.
Better weights and new neurons close in from both sides, found by a local search. What the search
found is then proved: by enumeration of all activation patterns to rank 4, beyond by branch and
bound, which ends without a proof at a limit of nodes. Samples are of the distribution D, or
Gaussian points with random labels.

Source: derived here; Pilanci and Ergen (ICML 2020) for the convex dual of two-layer networks.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas

from ntkreg import certificates, data
from ntkreg._types import Params
from ntkreg.certificates import oracles, two_layer
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment, _style, _training
from ntkreg.experiments._claims import Claim, every, exact
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid

DATASETS = ("D", "random")
AXIS = ("dataset", "dim", "num_samples", "oracle")
CLOSED = 1e-6  # relative gap that the search and the proofs aim at
LEVEL_ROUNDS = 40


class Problem(NamedTuple):
    """A kind of sample and what proves its margin."""

    dataset: str
    dim: int
    num_samples: int
    oracle: str


def parsed(text: str) -> Problem:
    """The problem that "dataset:dim:num_samples:oracle" names.

    Raises:
      ValueError: where it names none.
    """
    parts = text.split(":")
    wanted = f"dataset:dim:num_samples:oracle, of {DATASETS} and {tuple(oracles.KINDS)}"
    if len(parts) != 4 or not (parts[1].isdigit() and parts[2].isdigit()):
        raise ValueError(f"problems must be {wanted}, got {text!r}")
    problem = Problem(parts[0], int(parts[1]), int(parts[2]), parts[3])
    sizes = problem.dim >= (3 if problem.dataset == "D" else 1) and problem.num_samples >= 2
    if problem.dataset not in DATASETS or problem.oracle not in oracles.KINDS or not sizes:
        raise ValueError(f"problems must be {wanted}, got {text!r}")
    return problem


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      problems: each "dataset:dim:num_samples:oracle"; dataset is D or random (Gaussian points with
        random labels), oracle one of `oracles.KINDS`.
      num_seeds: samples of each.
      max_nodes: of one proof by branch and bound.
      num_starts: of the local search.
      width, lams, num_steps, learning_rate: of the networks (`_training.Training`).
    """

    problems: tuple[str, ...] = (
        *(f"random:{rank}:{n}:enumerate" for rank in (2, 3) for n in (10, 20, 30)),
        "random:4:20:enumerate",
        *(f"random:6:{n}:branch_and_bound" for n in (40, 60, 100)),
        *(f"random:8:{n}:branch_and_bound" for n in (40, 60, 80)),
        *(f"random:10:{n}:branch_and_bound" for n in (40, 60)),
        *(f"D:10:{n}:branch_and_bound" for n in (40, 60, 100)),
        *(f"D:20:{n}:branch_and_bound" for n in (60, 80, 100)),
        *(f"D:20:{n}:multistart" for n in (100, 200, 400)),
    )
    num_seeds: int = 2
    max_nodes: int = 100_000
    num_starts: int = 300
    width: int = 128
    lams: tuple[float, ...] = (*4 * (1e-3, 1e-8), 1e-16, 1e-32)
    num_steps: int = 1000
    learning_rate: float = 0.03

    def __post_init__(self):
        _experiment.check_field(
            "problems", self.problems, lambda text: bool(parsed(text)), "problems"
        )
        for name in ("num_seeds", "max_nodes", "num_starts"):
            _experiment.check_field(name, getattr(self, name), lambda v: v >= 1, "at least 1")
        _training.check(self)


# At the laptop's number of nodes they end unfinished, after up to a minute each.
SLOW_PROOFS = ("D:20:80:branch_and_bound", "D:20:100:branch_and_bound")

# smoke: seconds. laptop, thorough: minutes on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        problems=(
            "random:2:8:enumerate", "random:5:10:branch_and_bound",
            "D:5:20:branch_and_bound", "D:5:20:multistart",
        ),
        num_seeds=2, max_nodes=1000, num_starts=50, width=32, lams=(1e-3, 1e-8), num_steps=300,
    ),
    "laptop": dict(
        problems=tuple(text for text in Config.problems if text not in SLOW_PROOFS),
        num_seeds=1, max_nodes=2_500,
    ),
    "thorough": {},
    "full": dict(num_seeds=20, max_nodes=10_000_000, num_starts=1000),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """The problem and the seed of every sample."""
    seeds = range(config.num_seeds)
    return [parsed(text)._asdict() | seed for text in config.problems for seed in grid(seed=seeds)]


def run(
    config: Config, dataset: str, dim: int, num_samples: int, oracle: str, seed: int
) -> dict[str, Any]:
    """What is known of the max margin of one sample.

    Returns:
      trained_margin and trained_bound, what a trained network and its own dual weights prove, the
      latter by local search; polished_margin, of the network polished; search_bound, where better
      weights end, by local search; and lower, upper, gap, kind and nodes of the certificate, whose
      network has so many neurons.
    """
    # The key leaves the oracle out: all of them see the same samples.
    key = jax.random.fold_in(jax.random.key(seed), dim * 2**20)
    start_key, key = jax.random.split(jax.random.fold_in(key, num_samples))
    draw = data.noisy_xor if dataset == "D" else data.random_labels
    train = draw(key, num_samples, dim)
    params = jax.tree.map(np.asarray, _training.trained(config, train, start_key))
    x, y = (np.asarray(part) for part in train)
    local: dict[str, Any] = dict(oracle="multistart", num_starts=config.num_starts)
    own = certificates.dual_bound(params, train, **local)
    polished = certificates.polish(params, train)
    if oracle == "enumerate":
        searched = found = certificates.max_margin(train, params=polished, oracle=oracle)
    elif oracle == "branch_and_bound":
        # Weights at a solver's optimum are sparser than a network's own: their trees are smaller.
        searched = certificates.max_margin(train, params=polished, tolerance=CLOSED, **local)
        found = _proved(config, train, searched)
    else:
        searched = found = _searched(train, polished, own.dual, local)
    return {
        "trained_margin": own.lower,
        "trained_bound": own.upper,
        "polished_margin": two_layer.normalized_margin(polished, x, y),
        "search_bound": searched.upper,
        "lower": found.lower,
        "upper": found.upper,
        "gap": found.gap,
        "kind": found.kind,
        "nodes": found.nodes,
        "neurons": found.primal[0].shape[1],
    }


def _searched(
    train: Dataset, polished: Params, alpha: np.ndarray, local: dict[str, Any]
) -> certificates.Certificate:
    """Both bounds by local search: the network's own weights improved, then new units if needed."""
    found = certificates.dual_bound(
        polished, train, alpha=alpha, tolerance=CLOSED, max_rounds=LEVEL_ROUNDS, **local
    )
    if found.gap <= CLOSED:
        return found
    return certificates.max_margin(train, params=polished, tolerance=CLOSED, **local)


def _proved(
    config: Config, train: Dataset, searched: certificates.Certificate
) -> certificates.Certificate:
    """The certificate by branch and bound at the weights that the search ended with.

    Where it closes in time and finds what the search had missed, column generation goes on with it.
    """
    exact: dict[str, Any] = dict(
        oracle="branch_and_bound", num_starts=config.num_starts, max_nodes=config.max_nodes
    )
    found = certificates.dual_bound(searched.primal, train, alpha=searched.dual, **exact)
    if found.gap <= 2 * CLOSED or found.nodes >= config.max_nodes:
        return found
    better = certificates.max_margin(train, params=searched.primal, tolerance=CLOSED, **exact)
    return min(found, better, key=lambda certificate: certificate.gap)


CLAIM = Claim(
    "The max margin of two-layer ReLU networks is known from both sides wherever the proof ended",
    source="derived here", certified=True,
)  # fmt: skip
GAPS = {"branch_and_bound": 1e-5, "enumerate": 1e-6}  # relative, by the oracle of the proof


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """The one claim, of the samples whose proof ended; not run where none was begun."""
    proved, searched = rows[rows.oracle.isin(GAPS)], rows.gap[~rows.oracle.isin(GAPS)]
    is_cut = (proved.oracle == "branch_and_bound") & (proved.nodes >= config.max_nodes)
    checks = []
    for oracle, gap in proved.gap.groupby(proved.oracle):
        what, runs = f"relative gap ({oracle.replace('_', ' ')})", f"of {len(gap)} proofs"
        checks.append(every(what, gap[~is_cut], GAPS[oracle], "≤", runs))
    margins = proved[["trained_margin", "polished_margin"]].max(axis=1, skipna=False)
    over = every("margin over proved upper bound", margins / proved.upper, 1 + 1e-7, "≤", "samples")
    order = every("smallest relative gap", rows.gap, -1e-12, "≥", "samples")
    runs = f"{len(searched)} samples"
    local = exact("relative gap (local search alone)", searched.max(skipna=False), runs=runs)
    return [CLAIM.on(*checks, over, order, local, apart=_cut(proved, is_cut))] if checks else []


def _cut(proved: pandas.DataFrame, is_cut: pandas.Series) -> list[str]:
    """How many proofs the limit of nodes ended on each kind of sample, and the gap they leave."""
    return [
        f"{is_cut[of.index].sum()} of {len(of)} proofs cut by the limit of nodes ({dataset}, "
        f"d = {dim}, n = {n}), gap to {of[is_cut].max():.2g}"
        for (dataset, dim, n), of in proved.groupby([*AXIS[:3]], sort=False).gap
        if is_cut[of.index].any()
    ]


STEPS = {
    "trained": _style.METHODS["network"],
    "polished": dict(color=_style.ORANGE, marker="s"),
    "certified": _style.METHODS["certified"],
}
SHORT = {"enumerate": "exact", "branch_and_bound": "b&b", "multistart": "search"}
LEAST = 1e-12  # smaller gaps are drawn here


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Three panels; markers are medians over samples, bars run from the smallest to the largest."""
    fig, axes = _style.panels(3, columns=3, ratio=1.35)
    _steps(axes[0], rows)
    proofs = rows[rows.oracle == "branch_and_bound"]
    _reach(axes[1], proofs, "gap", "relative gap of the certificate")
    axes[1].set_title("branch and bound: gap")
    _reach(axes[2], proofs, "nodes", "nodes of branch and bound")
    axes[2].axhline(config.max_nodes, **_style.LEVEL)
    axes[2].set_title(f"work; dotted: limit {config.max_nodes:,}")
    return fig


def _steps(ax, rows) -> None:
    """The gap after each step, problem by problem."""
    names = list(dict.fromkeys(zip(*(rows[name] for name in AXIS), strict=True)))
    gaps = {
        "trained": 1 - rows.trained_margin / rows.trained_bound,
        "polished": 1 - rows.polished_margin / rows.search_bound,
        "certified": rows.gap,
    }
    for shift, (step, look) in zip((-0.22, 0.0, 0.22), STEPS.items(), strict=True):
        drawn = gaps[step].clip(LEAST, 2.0).groupby([rows[name] for name in AXIS])
        found = drawn.agg(["min", "median", "max"]).loc[names]
        ends = found["median"], found["min"], found["max"]
        _style.with_ends(ax, np.arange(len(names)) + shift, *ends, label=step, **look | _style.DOTS)
    labels = [f"{name[0]} d={name[1]} n={name[2]}, {SHORT[name[3]]}" for name in names]
    ax.set_xticks(range(len(names)), labels, rotation=90, fontsize=5 if len(names) > 12 else 6)
    ax.set(yscale="log", ylabel="1 − lower/upper", title="bounds close in")
    _style.legend(ax, above=0.22)


def _reach(ax, rows, column: str, label: str) -> None:
    """A quantity of the proofs against n, for each kind of sample."""
    parts = dict(list(rows.groupby(["dataset", "dim"], sort=False)))
    for (dataset, dim), look in _style.categories(parts).items():
        part = parts[dataset, dim]
        values = part[column].clip(lower=LEAST).groupby(part.num_samples)
        _style.with_range(ax, values, label=f"{dataset}, d = {dim}", **look)
    ax.set(yscale="log", xlabel="samples n", ylabel=label)
    _style.legend(ax, above=0.4)


EXPERIMENT = Experiment(
    "certify", Config, PRESETS, points, run, claims, figure, (CLAIM,), host=True
)
