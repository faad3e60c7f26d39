"""On a line the network becomes the ℓ1-SVM over 1000 neurons

As λ falls the paper's network, trained on points of a line, comes to the margin and the function of
an ℓ1-SVM over neurons that are evenly spaced on the unit circle. Both are run again, on points of
our own, beside certified minimizers, so that what training misses is kept apart from what the
theorem says. With a_j and ‖(w_j, b_j)‖ equal a network has ‖Θ‖² = 2 Σ |a_j| ‖(w_j, b_j)‖, so its
max normalized margin γ* is half the ℓ1-SVM's over all unit neurons.

Points x are inputs (x, 1) of a two-layer network of neurons a·relu(wx + b), trained along a path of
λ. Functions are compared after each is divided by its own smallest margin; that of largest margin
need not be the only one.

Source: Wei, Lee, Liu, Ma (arXiv 1810.05369, version 1), one-dimensional experiment.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import certificates, networks
from ntkreg._types import Array, Params, PRNGKey, Scalar
from ntkreg.certificates import two_layer
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _experiment, _style
from ntkreg.experiments._claims import Claim, every, mean
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.lambda_path import check_path
from ntkreg.experiments.lambda_path.claims import KNOWN, LARGE, MISSED, NEAR
from ntkreg.experiments.lambda_path.runs import CLOSED, LARGEST_LOG, measure_minimizers, minima
from ntkreg.kernels import l1_machines
from ntkreg.networks.network import Network
from ntkreg.theory import path_law
from ntkreg.training import paths
from ntkreg.training.stationarity import CONVERGED

GRID = np.linspace(-1.0, 1.0, 401)  # where functions are compared
SPREAD = 0.5  # of the interval between neighbours, within which a point is drawn
PAPERS_LAM = 1e-14
SET = ("num_samples", "draw")
MEASURED = ("normalized_margin", "log_objective", "norm", "log_residual")
MARGINS = ("max_margin", "max_margin_gap", "svm_margin", "circle_loss")
COLUMNS = (
    *SET, "start", "seed", "lam", "normalized_margin", "max_margin", "svm_margin", "ratio",
    "shortfall", "svm_ratio", "predicted_ratio", "function_gap", "limit_gap", "svm_gap",
    "log_objective", "norm", "stationarity", "converged", "optimality_gap", "max_margin_gap",
    "circle_loss", "failed", "function", "svm_function",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      sizes: numbers of points.
      num_draws: data sets of each size.
      num_seeds: random starts on each.
      width: of the network.
      num_neurons: of the ℓ1-SVM, on the circle.
      lams: the path of λ, falling.
      num_steps, finish_steps: of Adam and then L-BFGS at each λ.
      learning_rate: of Adam.
    """

    sizes: tuple[int, ...] = (6, 10)
    num_draws: int = 8
    num_seeds: int = 3
    width: int = 100
    num_neurons: int = 1000
    lams: tuple[float, ...] = (
        1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-11, 1e-14, 1e-20, 1e-32, 1e-64, 1e-100,
    )  # fmt: skip
    num_steps: int = 4000
    finish_steps: int = 100
    learning_rate: float = 0.03

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("sizes", lambda n: n >= 2, "at least 2")
        for name in ("num_draws", "width"):
            check(name, lambda v: v >= 1, "at least 1")
        check("num_neurons", lambda m: m >= 3, "at least 3, to go round")
        _experiment.check_distinct(self, "sizes")
        check_path(self)


# smoke: seconds. laptop: a minute on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        sizes=(4,), num_draws=2, num_seeds=1, width=16, num_neurons=200,
        lams=(1e-2, 1e-6, 1e-14, 1e-32), num_steps=400, finish_steps=20,
    ),
    "laptop": dict(num_draws=6),
    "full": dict(sizes=(6, 10, 20), num_draws=50, num_seeds=10, num_steps=20_000),
}  # fmt: skip


# The runs ----------------------------------------------------------------------------------------


def points(config: Config) -> list[dict[str, Any]]:
    """Each data set once certified, and once from every start."""
    kinds = [("certified", 0), *(("network", seed) for seed in range(config.num_seeds))]
    return [
        dict(kind=kind, num_samples=num_samples, draw=draw, seed=seed)
        for num_samples in config.sizes
        for draw in range(config.num_draws)
        for kind, seed in kinds
    ]


def run(config: Config, kind: str, num_samples: int, draw: int, seed: int) -> dict[str, Any]:
    """What is known of one data set, or of one path on it: arrays over λ, functions on GRID."""
    key, samples = on_line(num_samples, draw)
    if kind == "certified":
        return certified(config, samples)
    network = networks.fully_connected(2, config.width)
    ends, info = paths.train_path(
        network, samples, lams=config.lams, key=jax.random.fold_in(key, seed),
        learning_rate=config.learning_rate, num_steps=config.num_steps,
        finish_steps=config.finish_steps,
    )  # fmt: skip
    found = {name: getattr(info, name) for name in MEASURED}
    # The residual of the zero network is infinite; its path has not diverged.
    found["log_residual"] = np.minimum(info.log_residual, LARGEST_LOG)
    return {**found, "functions": _functions(network, ends)}


@functools.partial(jax.jit, static_argnames="num_samples")
def on_line(num_samples: int, number: Scalar) -> tuple[PRNGKey, Dataset]:
    """A key that depends on size and number alone, and that data set: inputs (x, 1), and labels.

    Of n equal parts of [−1, 1] each has one x, anywhere in its middle half, so that none are closer
    than 1/n; half of the labels, rounded down, are +1, in random order.
    """
    key = jax.random.fold_in(jax.random.key(number), num_samples)
    key, x_key, y_key = jax.random.split(key, 3)
    places = jax.random.uniform(
        x_key, (num_samples,), float, (1 - SPREAD) / 2, (1 + SPREAD) / 2
    ) + jnp.arange(num_samples)
    x = 2 * places / num_samples - 1
    labels = jnp.where(jnp.arange(num_samples) < num_samples // 2, 1.0, -1.0)
    inputs = jnp.stack([x, jnp.ones_like(x)], axis=1)
    return key, Dataset(inputs, jax.random.permutation(y_key, labels))


@functools.partial(jax.jit, static_argnames="network")
def _functions(network: Network, ends: Params) -> Array:
    """The functions over ‖Θ‖² at the end of every λ."""

    def on_grid(params: Params) -> Array:
        squared = optax.tree.norm(params, squared=True)
        outputs = network.apply(params, jnp.asarray(_inputs(GRID)))
        return outputs / jnp.where(squared > 0, squared, 1.0)

    return jax.lax.map(on_grid, ends)


def _inputs(x: np.ndarray) -> np.ndarray:
    return np.stack([x, np.ones_like(x)], axis=1)


def certified(config: Config, samples: Dataset) -> dict[str, Any]:
    """What stands beside the networks of a data set.

    max_margin: γ*, certified from above, with its relative gap and its dual weights. svm_margin:
    γ_SVM/2. circle_loss: how much less that can be. log_lower: certified, of log F. The rest is of
    the true minimizers of F_λ at every λ. Functions on GRID are over ‖Θ‖²; those of the ℓ1-SVM and
    of the network of max margin too, so that their smallest margins are svm_margin and γ*.
    """
    x, y = (np.asarray(a, np.float64) for a in samples)
    best = certificates.max_margin(samples, tolerance=CLOSED)
    features = lambda at: l1_machines.relu_dictionary(l1_machines.circle(config.num_neurons), at)
    svm = l1_machines.l1_svm(features(x), y)
    found = minima(samples, config.lams, best)
    return {
        **measure_minimizers(samples, found),
        "max_margin": best.upper,
        "max_margin_gap": best.gap,
        "max_margin_alpha": best.dual,
        "svm_margin": svm.lower / 2,
        "circle_loss": circle_loss(config.num_neurons, x),
        "functions": np.stack([_function(minimum.primal) for minimum in found]),
        "svm_function": features(_inputs(GRID)) @ svm.weights / 2,
        "limit_function": _function(best.primal),
    }


def circle_loss(num_neurons: int, x: np.ndarray) -> float:
    """By how much γ_SVM/2 over m evenly spaced neurons can be below γ*.

    To move a neuron to the nearest one, at a distance of 2 sin(π/2m) at most, costs a sample x at
    most ‖x‖ times that. Where no sample's kink is between two neighbours the loss is of second
    order, a factor of cos(π/m) at least; but the best neurons tend to have their kink on a sample.
    """
    farthest = float(np.linalg.norm(x, axis=1).max())
    return float(np.sin(np.pi / (2 * num_neurons))) * farthest


def _function(params: Params) -> np.ndarray:
    return two_layer.outputs(params, _inputs(GRID)) / (two_layer.squared_norm(params) or 1.0)


# The table ---------------------------------------------------------------------------------------


def table(swept: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every network and λ; start is "certified" for the true minimizers.

    max_margin: γ*, certified from above; svm_margin: half the ℓ1-SVM's; circle_loss: by how much
    that can be less at most. ratio, svm_ratio: normalized_margin over each; shortfall: 1 − ratio;
    predicted_ratio: the law's over γ*. function_gap: largest difference of the network's function
    and the ℓ1-SVM's on [−1, 1], each of smallest margin 1, over the range of the latter; limit_gap:
    the same against the network of max margin; svm_gap: the ℓ1-SVM's own from that. Empty where a
    network errs on some sample. stationarity, converged, optimality_gap: as in lambda_path's table.
    function, svm_function: on GRID at the paper's λ, of smallest margin 1, the latter once for each
    data set.
    """
    sets = swept.groupby([*SET], sort=False)
    found = [_of_set(points.to_dict("records"), np.array(config.lams)) for _, points in sets]
    rows = pandas.concat(found, ignore_index=True)
    rows["ratio"] = rows.normalized_margin / rows.max_margin
    rows["shortfall"] = 1 - rows.ratio
    rows["svm_ratio"] = rows.normalized_margin / rows.svm_margin
    rows["predicted_ratio"] = rows.predicted / rows.max_margin
    rows["stationarity"] = np.exp(rows.log_residual.where(rows.log_residual < LARGEST_LOG))
    rows["converged"] = rows.stationarity < CONVERGED
    excess = np.minimum(rows.log_objective - rows.log_lower, LARGEST_LOG)
    rows["optimality_gap"] = np.expm1(excess)
    return rows[[*COLUMNS]]


def _of_set(points: list[dict[str, Any]], lams: np.ndarray) -> pandas.DataFrame:
    """The rows of one data set; what is missing, of a run that raised an error, is NaN."""
    (known,) = (point for point in points if point["kind"] == "certified")
    beside = {name: known.get(name, np.nan) for name in (*MARGINS, "log_lower")}
    beside["predicted"] = _law(known, lams)
    on_grid = lambda name, margin: np.broadcast_to(known.get(name, np.nan), GRID.shape) / margin
    svm = on_grid("svm_function", beside["svm_margin"])
    limit = on_grid("limit_function", beside["max_margin"])
    gap = lambda functions, other: np.abs(functions - other).max(-1) / np.ptp(svm)
    is_papers = np.isclose(lams, PAPERS_LAM, rtol=1e-6, atol=0)
    at_papers = lambda values: [values[i] if is_papers[i] else None for i in range(lams.size)]
    found = []
    for point in points:
        own = {name: point.get(name, np.nan) for name in MEASURED}
        margin = np.broadcast_to(own["normalized_margin"], lams.shape)
        functions = np.broadcast_to(point.get("functions", np.nan), (lams.size, GRID.size))
        functions = functions / np.where(margin > 0, margin, np.nan)[:, None]
        is_true = point["kind"] == "certified"
        if is_true:
            own["log_residual"] = np.where(np.isfinite(margin), -np.inf, np.nan)
        found.append(pandas.DataFrame({
            **{name: point[name] for name in (*SET, "seed", "failed")},
            "start": "certified" if is_true else "warm",
            "lam": lams,
            **beside,
            **own,
            "function_gap": gap(functions, svm),
            "limit_gap": gap(functions, limit),
            "svm_gap": gap(svm, limit),
            "function": at_papers(functions.astype(np.float32)),
            "svm_function": at_papers([svm.astype(np.float32) if is_true else None] * lams.size),
        }))  # fmt: skip
    return pandas.concat(found)


def _law(known: dict[str, Any], lams: np.ndarray) -> Any:
    """The law's margins from the dual weights of the max margin; NaN where there are none."""
    if not isinstance(known.get("max_margin_alpha"), np.ndarray):
        return np.nan
    margin, alpha = known["max_margin"], known["max_margin_alpha"]
    return path_law.predicted(np.log(lams), margin, alpha, len(alpha)).normalized_margin


def minimizers(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The true minimizers' rows."""
    return rows[rows.start == "certified"]


def best_of_seeds(rows: pandas.DataFrame) -> pandas.DataFrame:
    """At every λ the trained network of smallest objective on each data set."""
    trained = rows[rows.start != "certified"]
    trained = trained[trained.log_objective.notna()]
    return trained.loc[trained.groupby([*SET, "lam"], sort=False).log_objective.idxmin()]


# The claims --------------------------------------------------------------------------------------

SOURCE = "Wei et al., arXiv v1, figure 2"
MARGIN = Claim(
    "On a line the margin tends, as λ falls, to half that of the ℓ1-SVM over unit neurons",
    SOURCE, certified=True,
)  # fmt: skip
FUNCTION = Claim(
    "On a line the network's function at λ = 1e-14 is that of the ℓ1-SVM to 5 % of its range",
    SOURCE, certified=True,
)  # fmt: skip
CLAIMS = (MARGIN, FUNCTION)
SIMILAR = 0.05  # a difference of two functions, over the range of one; set before the run


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """Both; that of functions where the paper's λ was run."""
    papers = rows[np.isclose(rows.lam, PAPERS_LAM, rtol=1e-6, atol=0)]
    return [margin_claim(rows), *([function_claim(papers)] if len(papers) else [])]


def known(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The true minimizers' rows, NaN where the minimum is not known well enough."""
    return minimizers(rows).where(minimizers(rows).optimality_gap <= KNOWN)


def came(rows: pandas.DataFrame) -> tuple[pandas.DataFrame, str, str]:
    """The best of seeds near the minimum, of how many data sets, and words on the others."""
    best = best_of_seeds(rows)
    near, number = best[best.optimality_gap < MISSED], f"of {len(best)} data sets"
    left = f"training ended 1 % or more above F* on {len(best) - len(near)} {number}"
    return near, number, left if len(near) < len(best) else ""


def margin_claim(rows: pandas.DataFrame) -> Claim:
    """The margins at the smallest λ, and how far from γ* they may be at any λ."""
    last = rows[rows.lam == rows.lam.min()]
    true, (near, number, left) = known(last), came(last)
    everywhere = known(rows)
    radius = everywhere.norm**2 * everywhere.max_margin
    lost = (radius * everywhere.shortfall / np.log(everywhere.num_samples))[~(radius < LARGE)]
    gaps = (true.max_margin - true.svm_margin) / true.circle_loss
    over = true.svm_margin / true.max_margin
    return MARGIN.on(
        every("γ_λ over half the ℓ1-SVM's margin", true.svm_ratio, NEAR, "≥", "minimizers"),
        every("R(γ* − γ_λ)/log n", lost, 1.0, "≤", "minimizers"),
        every("γ over half the ℓ1-SVM's, F < 1.01F*", near.svm_ratio, NEAR, "≥", number),
        every("half the ℓ1-SVM's margin/γ*", over, 1 + 1e-7, "≤", "data sets"),
        every("its distance from γ* over its bound", gaps, 1.0, "≤", "data sets"),
        every("largest γ/γ*", 1 - rows.shortfall, 1 + 1e-9, "≤", "networks"),
        apart=[left],
    )


def function_claim(rows: pandas.DataFrame) -> Claim:
    """The largest differences of functions at the paper's λ, over the range of the ℓ1-SVM's."""
    near, number, left = came(rows)
    true, trained = known(rows).function_gap, near.function_gap
    return FUNCTION.on(
        mean("difference/range, minimizers", true, SIMILAR, "≤", "data sets"),
        mean("difference/range, trained, F < 1.01F*", trained, SIMILAR, "≤", number),
        mean(
            "ℓ1-SVM's/range from the max-margin network", minimizers(rows).svm_gap, runs="data sets"
        ),
        apart=[left],
    )


# The figure --------------------------------------------------------------------------------------

TRAINED = _style.METHODS["network"]
TRUE = _style.METHODS["certified"]
LOWEST_SHOWN = 0.7  # bars that go on below, of training that failed, are cut
LIMIT: _style.Look = dict(color=_style.PURPLE, linestyle=":", linewidth=1.2)
CLASSES = {"+1": dict(marker="^"), "−1": dict(marker="v")}


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """Two panels; bars reach from the 10th to the 90th percentile over data sets."""
    fig, axes = _style.mosaic("AB", 2.6)
    _margins(axes[0], rows)
    _on_grid(axes[1], rows)
    return fig


def _margins(ax, rows: pandas.DataFrame) -> None:
    true = minimizers(rows)
    look = TRAINED | _style.DOTS | dict(label="trained, best of the starts")
    _spread(ax, best_of_seeds(rows), 0.97, **look)
    look = TRUE | _style.DOTS | _style.HOLLOW | dict(label="true minimizer")
    _spread(ax, true, 1.03, **look)
    law = (true.predicted_ratio * true.max_margin / true.svm_margin).groupby(true.lam).median()
    law = law[law.index.isin(_separating(true))]
    ax.plot(-np.log10(law.index), law, label="law, from the dual", **_style.PREDICTED)
    ax.axhline(1.0, label="ℓ1-SVM on the circle", **_style.CERTIFIED)
    limit = (true.max_margin / true.svm_margin).median()
    ax.axhline(limit, label="certified max margin, median", **LIMIT)
    ax.axvline(-np.log10(PAPERS_LAM), label="the paper's smallest λ", **_style.LEVEL)
    _style.at_sizes(ax, sorted({round(-np.log10(lam)) for lam in _separating(true)}), "log₁₀(1/λ)")
    sets = true.groupby(["num_samples", "draw"]).ngroups
    ax.set(ylabel="margin γ$_λ$ / half the ℓ1-SVM's", title=f"margins on {sets} sets of points")
    ax.set_ylim(LOWEST_SHOWN, None)
    _style.legend(ax, loc="lower right", frameon=True, framealpha=1.0, edgecolor="none")


def _separating(rows: pandas.DataFrame) -> list[float]:
    """The λ at which nine in ten networks have no sample wrong: only there they have a margin."""
    lowest = rows.svm_ratio.groupby(rows.lam).quantile(0.1)
    return lowest[lowest > 0].index.tolist()


def _spread(ax, rows: pandas.DataFrame, shift: float, **look) -> None:
    """Medians with the 10th and 90th percentile at every λ at which there are margins."""
    rows = rows[rows.lam.isin(_separating(rows))]
    groups = rows.svm_ratio.groupby(rows.lam)
    low, middle, high = (groups.quantile(q) for q in (0.1, 0.5, 0.9))
    _style.with_ends(ax, -shift * np.log10(middle.index.to_numpy()), middle, low, high, **look)


def _on_grid(ax, rows: pandas.DataFrame) -> None:
    """On the set whose difference is the median's, at the paper's λ, each of smallest margin 1."""
    at = rows[np.isclose(rows.lam, PAPERS_LAM, rtol=1e-6, atol=0)]
    best = best_of_seeds(at).dropna(subset="function_gap").sort_values("function_gap")
    ax.set(xlabel="x", ylabel="f(x) / smallest margin")
    if not len(best):
        return
    chosen = best.iloc[(len(best) - 1) // 2]
    num_samples, number = int(chosen.num_samples), int(chosen.draw)
    true = minimizers(at)
    same = true[(true.num_samples == num_samples) & (true.draw == number)].iloc[0]
    ax.plot(GRID, same.svm_function, label="ℓ1-SVM", **_style.CERTIFIED)
    look = dict(color=TRAINED["color"], linestyle=(0, (3, 2)), linewidth=2.0, alpha=0.8)
    ax.plot(GRID, chosen.function, label=f"network, λ = {_style.number(PAPERS_LAM)}", **look)
    x, y = map(np.asarray, on_line(num_samples, number)[1])
    for sign, marker in CLASSES.items():
        of = (y > 0) == (sign == "+1")
        look = _style.DOTS | _style.HOLLOW | marker | dict(color=_style.BLACK, zorder=3)
        ax.plot(x[of, 0], y[of], label="points, y = " + sign, **look)
    apart = f"{100 * chosen.function_gap:.1f} % of the range apart"
    ax.set_title(f"median set, n = {num_samples}: {apart}")
    _style.legend(ax, above=0.2, ncols=2)


EXPERIMENT = Experiment(
    "line", Config, PRESETS, points, run, claims, figure, CLAIMS, table=table, host=True
)
