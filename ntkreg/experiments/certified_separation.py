"""Network against kernel on D with proofs on both sides: no optimizer, no test set

Elsewhere a network is trained, which may miss the minimum, and errors are counted on a test set.
In few dimensions neither is needed. The minimum of F_λ over two-layer networks of any width is
certified on each sample, the error of the network that has it is counted on all 2^d inputs of D,
and for the network's NTK the largest share of the label that any combination of its functions at
the same sample explains is known exactly, with the error of the one that does. Does the network at
its minimum keep the theorem's bound on every sample, and below n = d(d + 1)/2, the number of
quadratic features, does the kernel do worse on the same samples?

Source: derived here, for Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas

from ntkreg import certificates, data, kernels, networks
from ntkreg.certificates import two_layer
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid
from ntkreg.theory import kernel_span

NETWORK = networks.fully_connected(2, 1)  # whose infinite-width kernel it is
CLOSED = 1e-5  # relative gap from which a minimum counts as certified


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: the dimensions d.
      sizes_over_d: n/d.
      num_seeds: samples of each size.
      lam: λ of the objective.
    """

    dims: tuple[int, ...] = (5, 6, 7, 8, 9, 10)
    sizes_over_d: tuple[float, ...] = (3.0, 4.0, 5.0)
    num_seeds: int = 20
    lam: float = 1e-4

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dims", lambda d: 4 <= d <= 12, "between 4 and 12")
        check("sizes_over_d", lambda v: 1 <= v < np.inf, "at least 1 and finite")
        check("num_seeds", lambda v: v >= 1, "at least 1")
        check("lam", lambda v: 1e-300 <= v < np.inf, "at least 1e-300 and finite")
        _experiment.check_distinct(self, "dims", "sizes_over_d")


# smoke: seconds. laptop: a minute on two cores. thorough: to d = 10, ten minutes. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(dims=(4, 5), sizes_over_d=(2.0, 4.0), num_seeds=2),
    "laptop": dict(dims=(5, 6, 8)),
    "thorough": {},
    "full": dict(sizes_over_d=(2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0), num_seeds=100),
}


def points(config: Config) -> list[dict[str, Any]]:
    """Dimension, size and seed of every sample."""
    found = grid(dim=config.dims, ratio=config.sizes_over_d, seed=range(config.num_seeds))
    return [
        dict(dim=p["dim"], num_samples=round(p["ratio"] * p["dim"]), seed=p["seed"]) for p in found
    ]


def run(config: Config, dim: int, num_samples: int, seed: int) -> dict[str, Any]:
    """The certified minimum and the exact error of its network; what the NTK can do, exactly.

    Returns:
      minimum, gap: F* from above, and the certificate's relative gap; network_error; r_squared of
      the best coefficients, and their ntk_error; the max-margin predictor's svm_error.
    """
    key = jax.random.fold_in(jax.random.key(seed), dim * 2**20 + num_samples)
    samples = data.noisy_xor(key, num_samples, dim)
    everything = data.noisy_xor_population(dim)
    found = certificates.global_minimum(jax.tree.map(np.asarray, samples), config.lam)
    outputs = two_layer.outputs(found.primal, np.asarray(everything.x, np.float64))
    best = kernel_span.best_signal_to_noise(NETWORK, samples)
    of_span = lambda beta: kernel_span.predictions(NETWORK, samples, beta, everything.x)
    return {
        "minimum": found.upper,
        "gap": found.gap,
        "network_error": _error(everything, outputs),
        "r_squared": float(best.r_squared),
        "ntk_error": _error(everything, of_span(best.coefficients)),
        "svm_error": _error(everything, of_span(_svm(samples))),
    }


def _svm(samples: Dataset) -> jax.Array:
    """Coefficients of the max-margin predictor; 0 where nothing separates."""
    try:
        return kernels.hard_margin_svm(kernels.ntk(NETWORK, samples.x), samples.y).coefficients
    except kernels.NotSeparable:
        return jnp.zeros(len(samples.y))


def _error(everything: Dataset, outputs: Any) -> float:
    """The share of all inputs that are wrong; an output of 0 is."""
    return float(np.mean(np.asarray(everything.y) * np.asarray(outputs) <= 0))


NETWORKS = Claim(
    "At its certified minimum the network's exact error on D is ≤ √(d/n), on every sample",
    "derived here, for Wei et al., Theorem 2.1", certified=True,
)  # fmt: skip
KERNELS = Claim(
    "Below n = d(d + 1)/2 the NTK's best coefficients err more than the network at its minimum",
    "derived here", certified=True,
)  # fmt: skip


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """Both claims on samples whose minimum is certified; the others are counted apart."""
    known = rows[(rows.failed == "") & (rows.gap <= CLOSED)]
    left = len(rows) - len(known)
    apart = [f"{left} of {len(rows)} samples, whose minimum is not certified to {CLOSED:g}"]
    scaled = known.network_error * np.sqrt(known.num_samples / known.dim)
    found = NETWORKS.on(
        _claims.every("largest exact error · √(n/d)", scaled, 1.0, "≤", "samples"),
        _claims.exact("largest relative gap", known.gap.max(), runs=f"{len(known)} samples"),
        *_learned(known),
        apart=apart if left else [],
    )
    return [claim for claim in (found, _kernels(known)) if claim.checks]


def _learned(known: pandas.DataFrame) -> list[_claims.Check]:
    """At the largest n/d, how many samples give a network without any error, by dimension."""
    last = known[known.num_samples >= (known.num_samples / known.dim).max() * known.dim - 0.5]
    return [
        _claims.share(
            f"d = {dim}, n = {part.num_samples.max()}: no input wrong",
            int((part.network_error == 0).sum()), len(part), runs="samples",
        )
        for dim, part in last.groupby("dim")
    ]  # fmt: skip


def _kernels(known: pandas.DataFrame) -> Claim:
    """Paired differences of exact errors, by dimension, at the largest n below d(d + 1)/2."""
    below = known[known.num_samples < known.dim * (known.dim + 1) / 2]
    last = below[below.num_samples == below.groupby("dim").num_samples.transform("max")]
    parts = [
        (f"d = {dim}, n = {part.num_samples.max()}", part) for dim, part in last.groupby("dim")
    ]
    less = lambda part: part.ntk_error - part.network_error
    paired = [
        _claims.mean(f"{what}: NTK − network", less(part), 0.0, "≥", "samples")
        for what, part in parts
    ]
    largest = [
        _claims.exact(f"{what}: largest R² of any β", part.r_squared.max(), runs="samples")
        for what, part in parts
    ]
    return KERNELS.on(*paired, *largest)


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Exact errors of the network at its minimum, and of the kernel's best β, against n/d."""
    fig, axes = _style.panels(2, columns=2, ratio=0.9)
    known = rows[rows.gap <= CLOSED]
    sides = (("network_error", "network, certified minimum", _style.METHODS["network"]),
             ("ntk_error", "NTK, best coefficients", _style.METHODS["ntk"]))  # fmt: skip
    for ax, (column, title, look) in zip(axes, sides, strict=True):
        for dim, own in _style.ordinal(config.dims, look["color"]).items():
            n, errors = _statistics.by_seed(known[known.dim == dim], "num_samples", column)
            _style.with_interval(ax, n / dim, errors, label=f"d = {dim}", **own)
        ax.set(title=title, xlabel="samples n/d", ylabel="exact error on D", ylim=(-0.02, 0.55))
        ratios = np.array(sorted(config.sizes_over_d))
        ax.set_xticks(ratios)
        top = 1.0
        if column == "network_error":
            ax.plot(ratios, ratios**-0.5, label="√(d/n)", **_style.PREDICTED)
            top = 0.75  # below that line
        ax.legend(loc="upper right", bbox_to_anchor=(1.0, top))
    return fig


EXPERIMENT = Experiment(
    "certified_separation", Config, PRESETS, points, run, claims, figure, (NETWORKS, KERNELS),
    host=True,
)  # fmt: skip
