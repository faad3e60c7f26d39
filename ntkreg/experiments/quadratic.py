"""Where the separation is when the kernel has the right features

The labels of D are y = x₁² − x₂², a quadratic form of rank two. For networks with the activation z²
the kernel's functions are the quadratic forms: unlike relu's NTK it has the target among its
features. What is left of the separation? In the norm ℓ_{2,3} the network of the max margin is a
semidefinite programme, certified at any dimension: it is the form xᵀAx of the smallest sum of
|eigenvalues|; the kernel's is, for trace 0, that of the smallest sum of squares. The first should
tell a form of rank two from noise with n about d times a logarithm, the second needs d².

For each sample of D: the certified max-margin network (`max_margin` with z²), the kernel's
hard-margin SVM, and, for some, a network trained along a path of λ with the penalty λ Σᵢ ‖θᵢ‖³.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1, for D and for relu; the rest is derived here
(`certificates.quadratic`).
"""

import dataclasses
from typing import Any

import jax
import numpy as np
import pandas

from ntkreg import kernels, networks
from ntkreg._checks import check_lams
from ntkreg._types import Params
from ntkreg.certificates import max_margin
from ntkreg.data import noisy_xor
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid
from ntkreg.theory import closed_forms
from ntkreg.training import paths

NORM = (2, 3)
NETWORK, KERNEL, TRAINED = "certified", "ntk", "network"
NAMES = {NETWORK: "max margin, certified", KERNEL: "its kernel's SVM", TRAINED: "trained, λ → 0"}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dims: d.
      sizes_over_d, sizes_over_d2: n/d of the networks and n/d² of the kernel.
      num_seeds: samples of each size.
      num_test: fresh test points.
      trained_dims: in which networks are trained too.
      width, lams, num_steps, finish_steps: of these.
    """

    dims: tuple[int, ...] = (10, 20, 40)
    sizes_over_d: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0, 6.0, 8.0)
    sizes_over_d2: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
    num_seeds: int = 5
    num_test: int = 4096
    trained_dims: tuple[int, ...] = (10, 20)
    width: int = 40
    lams: tuple[float, ...] = (1e-2, 1e-4, 1e-8, 1e-16, 1e-64)
    num_steps: int = 500
    finish_steps: int = 200

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for name in ("dims", "trained_dims"):
            check(name, lambda v: v >= 3, "at least 3")
        for name in ("sizes_over_d", "sizes_over_d2"):
            check(name, lambda v: 1 / min(self.dims) <= v < np.inf, "finite, of a sample at least")
        check("trained_dims", lambda v: v in self.dims, f"among the dims {self.dims}")
        check_lams(self.lams, falling=True)
        for name in ("num_seeds", "num_test", "width", "num_steps", "finish_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        _experiment.check_distinct(self, "dims", "sizes_over_d", "sizes_over_d2", "trained_dims")


# smoke: seconds. laptop: two minutes on two cores. thorough: to d = 80, some ten minutes.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dims=(6,), trained_dims=(6,), sizes_over_d=(4.0,), sizes_over_d2=(0.6,), num_seeds=2,
        lams=(1e-2, 1e-8), num_steps=200, finish_steps=50,
    ),
    "laptop": {},
    "thorough": dict(
        dims=(10, 20, 40, 60), sizes_over_d=(2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0),
        num_seeds=20,
    ),
    "full": dict(
        dims=(10, 20, 40, 60, 80, 100), num_seeds=20,
        sizes_over_d=(2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0),
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Every predictor on its samples."""
    found = []
    for dim in config.dims:
        sizes = {
            NETWORK: [round(c * dim) for c in config.sizes_over_d],
            KERNEL: [round(c * dim**2) for c in config.sizes_over_d2],
        }
        if dim in config.trained_dims:
            sizes[TRAINED] = [max(sizes[NETWORK])]
        for predictor, numbers in sizes.items():
            found += grid(
                predictor=[predictor], dim=[dim], num_samples=numbers,
                seed=range(config.num_seeds),
            )  # fmt: skip
    return found


# A run ----------------------------------------------------------------------------------------


def run(config: Config, predictor: str, dim: int, num_samples: int, seed: int) -> dict[str, Any]:
    """The predictor's test error; of networks the margin over that of D's population."""
    train_key, test_key, key = jax.random.split(jax.random.key(seed), 3)
    train = noisy_xor(train_key, num_samples, dim)
    test = noisy_xor(test_key, config.num_test, dim)
    if predictor == KERNEL:
        network = networks.fully_connected(2, 1, activation="quadratic")
        svm = kernels.hard_margin_svm(kernels.ntk(network, train.x), train.y)
        outputs = kernels.ntk(network, test.x, train.x) @ svm.coefficients
        return _errors(outputs, test) | {"gap": float(svm.relative_gap)}
    population = closed_forms.population_quadratic_margin()
    best = max_margin(train, activation="quadratic", norm=NORM)
    found = {"gap": best.gap, "excess": best.upper / population - 1}
    if predictor == NETWORK:
        return _errors(_outputs(best.primal, test), test) | found
    network = networks.fully_connected(2, config.width, activation="quadratic")
    path = paths.train_path(
        network, train, lams=list(config.lams), key=key, norm=NORM, num_steps=config.num_steps,
        finish_steps=config.finish_steps,
    )  # fmt: skip
    last = jax.tree.map(lambda leaf: np.asarray(leaf[-1]), path.params)
    short = 1 - float(path.info.normalized_margin[-1]) / best.upper
    residual = float(path.info.log_residual[-1])
    return _errors(_outputs(last, test), test) | found | {"short": short, "log_residual": residual}


def _outputs(params: Params, data: Dataset) -> np.ndarray:
    first, last = (np.asarray(part) for part in params)
    return ((np.asarray(data.x) @ first) ** 2 @ last)[:, 0]


def _errors(outputs, test: Dataset) -> dict[str, float]:
    return {"test_error": float(np.mean(np.asarray(outputs) * np.asarray(test.y) <= 0))}


# Claims ---------------------------------------------------------------------------------------

LEVEL = 0.1
CERTIFIED = Claim(
    statement="The max margin of z² networks on D is certified in every dimension",
    source="derived here",
    certified=True,
)
SEPARATION = Claim(
    statement="z² networks need fewer powers of d than their kernel, though it has the target",
    source="derived here",
)
POPULATION = Claim(
    statement="How often, at the largest n/d, the planted form is a sample's max-margin network",
    source="derived here",
    certified=True,
)
REACHED = Claim(
    statement="z² networks trained with λ Σ‖θ‖³ reach the certified margin, and never pass it",
    source="derived here",
)
GAP, SAME, SHORT, ROUNDING = 1e-8, 1e-6, 0.02, 1e-9


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for."""
    found = [certified_claim(table), separation_claim(table), population_claim(table)]
    trained = table[table.predictor == TRAINED]
    found += [reached_claim(trained)] if len(trained) else []
    return [claim for claim in found if claim.checks]


def certified_claim(table: pandas.DataFrame) -> Claim:
    """The largest gap."""
    gaps = table.gap[table.predictor == NETWORK]
    return CERTIFIED.on(_claims.every("relative gap", gaps, GAP, "≤", "samples"))


def curves(table: pandas.DataFrame, predictor: str) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """d -> (sizes, errors by size and seed)."""
    mine = table[table.predictor == predictor]
    by_seed = lambda part: _statistics.by_seed(part, "num_samples", "test_error")
    return {dim: by_seed(part) for dim, part in mine.groupby("dim")}


def separation_claim(table: pandas.DataFrame) -> Claim:
    """The exponents of d in the sizes at which the mean errors are 10 %, and their difference, with
    an interval from the farther ends of both."""
    network = _statistics.scaling(curves(table, NETWORK), LEVEL)
    kernel = _statistics.scaling(curves(table, KERNEL), LEVEL)
    (low, high), ends = network.slope_interval, kernel.slope_interval
    difference = kernel.slope - network.slope
    what = "kernel's exponent less the network's"
    return SEPARATION.on(
        Check(what, difference, ends[0] - high, ends[1] - low, 0.0, "≥", "seeds"),
        _claims.slope("network: exponent of n at 10 % error", network),
        _claims.slope("kernel: exponent of n at 10 % error", kernel),
    )


def population_claim(table: pandas.DataFrame) -> Claim:
    """The share of samples, at the largest n/d, whose max margin is the population's."""
    mine = table[table.predictor == NETWORK]
    checks = []
    for dim, part in mine.groupby("dim"):
        last = part[part.num_samples == part.num_samples.max()]
        same = int((last.excess <= SAME).sum())
        what = f"d = {dim}, n = {last.num_samples.iloc[0]}: planted is the best"
        checks.append(_claims.share(what, same, len(last), runs="samples"))
    return POPULATION.on(*checks)


def reached_claim(trained: pandas.DataFrame) -> Claim:
    """How far trained networks stay short of the certified margin."""
    return REACHED.on(
        _claims.mean("short of γ*, relative", trained.short, SHORT, "≤", "samples"),
        _claims.every("short of γ*, each", trained.short, -ROUNDING, "≥", "networks"),
    )


# The picture ----------------------------------------------------------------------------------


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Errors against n/d and n/d², margins over the population's, and the sizes against d."""
    fig, axes = _style.panels(4, columns=2, ratio=0.72)
    colors = {NETWORK: _style.BLUE, KERNEL: _style.VERMILION}
    for ax, predictor, power in zip(axes, (NETWORK, KERNEL), (1, 2), strict=False):
        looks = _style.ordinal(config.dims, colors[predictor])
        for dim, (sizes, errors) in curves(table, predictor).items():
            _style.with_interval(ax, sizes / dim**power, errors, label=f"d = {dim}", **looks[dim])
        unit = "d" if power == 1 else "d²"
        ax.set(xlabel=f"samples n/{unit}", ylabel="test error", ylim=(-0.02, 0.55))
        ax.set_title(NAMES[predictor])
        ax.axhline(LEVEL, **_style.LEVEL)
        ax.legend(loc="upper right")
    looks = _style.ordinal(config.dims, _style.BLUE)
    for dim, part in table[table.predictor == NETWORK].groupby("dim"):
        sizes, excess = _statistics.by_seed(part, "num_samples", "excess")
        _style.with_interval(axes[2], sizes / dim, 1 + excess, label=f"d = {dim}", **looks[dim])
    axes[2].axhline(1.0, **_style.CERTIFIED)
    axes[2].set(xlabel="samples n/d", ylabel="γ*/population's")
    axes[2].set(title="certified margin over D's own", yscale="log")
    _style.plain_ticks(axes[2].yaxis)
    lines = []
    for name, marker, power in ((NETWORK, "o", 1), (KERNEL, "s", 2)):
        look: _style.Look = dict(color=colors[name], marker=marker)
        found = _statistics.scaling(curves(table, name), LEVEL)
        lines.append((NAMES[name], look, found, power))
    _style.scalings(axes[3], lines, config.dims)
    axes[3].set(ylabel="samples n at 10 % error", title="samples needed")
    _style.legend(axes[3], above=0.2)
    return fig


EXPERIMENT = Experiment(
    "quadratic", Config, PRESETS, points, run, claims, figure,
    (SEPARATION, CERTIFIED, POPULATION, REACHED), host=True,
)  # fmt: skip
