"""When training is the kernel method: wide networks, and large output scales

The theory of the NTK says that a network, without λ, trains like a kernel method where it is wide
or its outputs are multiplied up. How wide, and how large, does that take?

Networks in `ntk` scaling descend the plain loss without λ, their initial function subtracted. Their
predictions are set beside those of the exact infinite-width kernel at the same time, and beside
those of the linearised network, whose kernel is the empirical one of the initial parameters.

Source: Jacot, Gabriel, Hongler (NeurIPS 2018); Chizat, Oyallon, Bach (NeurIPS 2019); Wei, Lee, Liu,
Ma (NeurIPS 2019), Section 1, on the learning rate and initial scale that it takes.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import data, kernels, networks
from ntkreg._compat import jit_quickly
from ntkreg._types import Array, Float, Params, Scalar
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _descents, _experiment, _statistics, _style
from ntkreg.experiments._claims import Check, Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid
from ntkreg.training import kernel_regime, objectives
from ntkreg.training.kernel_regime import FromStart, relative_change

LOSSES = ("squared", "logistic")


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      dim, num_samples, num_test: of the samples of D, and of the points where predictions are
        compared.
      widths, deep_widths: of networks with two and with three weight layers.
      losses: squared and logistic.
      output_scales, scale_width: multipliers of two-layer networks of that width; all the others
        have the multiplier 1.
      num_seeds: samples and initial parameters, drawn anew for each.
      learning_rate, num_steps: of gradient descent; their product is the time at which it stops,
        whatever the loss.
      num_looks: times at which predictions are compared, equally far apart in log time.
    """

    dim: int = 10
    num_samples: int = 32
    num_test: int = 256
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    deep_widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    losses: tuple[str, ...] = LOSSES
    output_scales: tuple[float, ...] = (0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
    scale_width: int = 256
    num_seeds: int = 10
    learning_rate: float = 1.0
    num_steps: int = 200
    num_looks: int = 9

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        check("dim", lambda v: v >= 3, "at least 3")
        sizes = ("num_samples", "num_test", "widths", "deep_widths", "scale_width")
        for name in (*sizes, "num_seeds", "num_steps"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("output_scales", "learning_rate"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("losses", *_experiment.one_of(LOSSES))
        _experiment.check_distinct(self, "widths", "deep_widths", "losses", "output_scales")
        _descents.log_steps(self.num_steps, self.num_looks)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps after which predictions are compared; the last is the end."""
        return _descents.log_steps(self.num_steps, self.num_looks)


# smoke: seconds. laptop, thorough: minutes on two cores. full: a GPU.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        dim=4, num_samples=8, num_test=16, widths=(16, 64), deep_widths=(16,),
        losses=("squared",), output_scales=(1.0, 64.0), scale_width=16, num_seeds=2, num_steps=50,
        num_looks=3,
    ),
    "laptop": dict(
        widths=(64, 128, 256, 512, 1024, 2048), deep_widths=(64, 128, 256, 512), num_seeds=5
    ),
    "thorough": {},
    "full": dict(
        dim=20, num_samples=64, num_test=1024, widths=tuple(2**k for k in range(6, 15)),
        deep_widths=tuple(2**k for k in range(6, 13)), scale_width=1024, num_seeds=20,
        learning_rate=0.2, num_steps=4000,
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """Networks against width at both depths, then against output scale, with every seed."""
    seeds, found = range(config.num_seeds), []
    for loss in config.losses:
        of = dict(loss=[loss], seed=seeds)
        found += grid(depth=[2], width=config.widths, output_scale=[1.0], **of)
        found += grid(depth=[3], width=config.deep_widths, output_scale=[1.0], **of)
        scaled = grid(
            depth=[2], width=[config.scale_width], output_scale=config.output_scales, **of
        )
        found += [point for point in scaled if point not in found]  # scale 1 may be there
    return found


def run(
    config: Config, depth: int, width: int, loss: str, output_scale: Scalar, seed: Array
) -> dict[str, Array]:
    """Relative distances, as arrays over `config.steps`, and what is measured at the end.

    - prediction_distance: of the network's test predictions from the exact kernel's.
    - linearised_prediction_distance: of the linearised network's from the exact kernel's.
    - linearised_distance: of the network's from the linearised network's.
    - flow_distance: of the exact kernel's, in steps, from its flow (squared loss alone).

    And at the end: kernel_distance of the empirical NTK on the samples; linearised_error, by which
    the linearised network misses (I − 2ηK/n)^t of the empirical kernel (squared loss alone);
    train_loss, and kernel_train_loss of the exact kernel's predictor.
    """
    train, test = _samples(config, seed)
    start, gain = _start(config, depth, width, output_scale, seed)
    network, linearised = (
        _outputs(config, depth, width, loss, is_linear, train, test, start, gain)
        for is_linear in (False, True)
    )
    exact = _exact(config, depth, loss, train, test)
    return _compared(config, depth, width, loss, train, start, gain, network, linearised, exact)


class Outputs(NamedTuple):
    """On samples (steps, n) and on test points (steps, m), after `config.steps`."""

    fitted: Float[Array, "t n"]
    tested: Float[Array, "t m"]


@functools.partial(jit_quickly, static_argnames=("config", "depth", "width", "loss"))
def _compared(
    config: Config, depth: int, width: int, loss: str, train: Dataset, start: Params, gain: Scalar,
    network: tuple[Outputs, Params], linearised: tuple[Outputs, Params],
    exact: tuple[Outputs, dict[str, Array]],
) -> dict[str, Array]:  # fmt: skip
    """The results of `run`."""
    (by_network, end), (linear, _), (by_kernel, flow) = network, linearised, exact
    made = networks.fully_connected(depth, width, scaling="ntk")
    before, after = (kernels.empirical_ntk(made, p, train.x) / gain for p in (start, end))
    compare = jax.vmap(relative_change)
    value = objectives.get_loss(loss).value
    found = {
        "prediction_distance": compare(by_network.tested, by_kernel.tested),
        "linearised_prediction_distance": compare(linear.tested, by_kernel.tested),
        "linearised_distance": compare(by_network.tested, linear.tested),
        "kernel_distance": relative_change(after, before),
        "train_loss": jnp.mean(value(by_network.fitted[-1], train.y)),
        "kernel_train_loss": jnp.mean(value(by_kernel.fitted[-1], train.y)),
    }
    if flow:  # there is a closed form
        found |= flow | {"linearised_error": _power_error(config, before, train, linear.fitted[-1])}
    return found


@functools.partial(jit_quickly, static_argnames=("config", "depth", "loss"))
def _exact(
    config: Config, depth: int, loss: str, train: Dataset, test: Dataset
) -> tuple[Outputs, dict[str, Array]]:
    """The exact kernel's predictor; and how far it is from its flow, for the squared loss."""
    network = networks.fully_connected(depth, 1, scaling="ntk")
    gram, cross = kernels.ntk(network, train.x), kernels.ntk(network, test.x, train.x)
    rate = config.learning_rate
    betas = _descents.kernel_at_steps(loss, gram, train.y, rate, config.steps)
    found = Outputs(betas @ gram, betas @ cross.T)
    if loss != "squared":
        return found, {}
    flow = kernel_regime.kernel_flow(gram, train.y, rate * jnp.asarray(config.steps))
    return found, {"flow_distance": jax.vmap(relative_change)(found.tested, flow @ cross.T)}


@functools.partial(jit_quickly, static_argnames="config")
def _samples(config: Config, seed: Array) -> tuple[Dataset, Dataset]:
    """Samples of D, and points to compare at."""
    data_key, _ = jax.random.split(jax.random.key(seed))
    drawn = data.noisy_xor(data_key, config.num_samples + config.num_test, config.dim)
    train = jax.tree.map(lambda a: a[: config.num_samples], drawn)
    return train, jax.tree.map(lambda a: a[config.num_samples :], drawn)


@functools.partial(jit_quickly, static_argnames=("config", "depth", "width"))
def _start(
    config: Config, depth: int, width: int, output_scale: Scalar, seed: Array
) -> tuple[Params, Scalar]:
    """(s·Θ₀, α²/s²): outputs are s^order = α times those at Θ₀, the kernel α²/s² times."""
    network = networks.fully_connected(depth, width, scaling="ntk")
    _, start_key = jax.random.split(jax.random.key(seed))
    scale = output_scale ** (1 / network.order)
    return optax.tree.scale(scale, network.init(start_key, config.dim)), output_scale**2 / scale**2


@functools.partial(jax.jit, static_argnames=("config", "depth", "width", "loss", "is_linear"))
def _outputs(
    config: Config, depth: int, width: int, loss: str, is_linear: bool, train: Dataset,
    test: Dataset, start: Params, gain: Scalar,
) -> tuple[Outputs, Params]:  # fmt: skip
    """Outputs of the centred or the linearised network, and its last parameters."""
    made = kernel_regime.linearised if is_linear else kernel_regime.centred
    network = made(networks.fully_connected(depth, width, scaling="ntk"))
    options, rate = _descents.gradient_descent(loss, config.num_steps), config.learning_rate / gain
    begun, both = FromStart(start, start), jnp.concatenate([train.x, test.x])
    measure = lambda params: network.apply(params, both)
    last, outputs = _descents.at_steps(
        options, network, train, 0.0, rate, begun, config.steps, measure
    )
    n = config.num_samples
    return Outputs(outputs[:, :n], outputs[:, n:]), last.params


def _power_error(config: Config, gram: Array, train: Dataset, outputs: Array) -> Array:
    """How far `outputs` are from y − (I − 2ηK/n)^t y, by the eigenvalues of K."""
    values, vectors = jnp.linalg.eigh(gram)
    shrunk = (1 - 2 * config.learning_rate * values / config.num_samples) ** config.num_steps
    return relative_change(outputs, train.y - vectors @ (shrunk * (vectors.T @ train.y)))


# The table ------------------------------------------------------------------------------------

AT_END = ["kernel_distance", "linearised_error", "train_loss", "kernel_train_loss"]
COLUMNS = (
    "depth", "width", "loss", "output_scale", "seed", "time", "prediction_distance",
    "linearised_prediction_distance", "linearised_distance", "flow_distance", *AT_END, "failed",
)  # fmt: skip


def by_time(table: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every network and time; what is measured at the end alone stands at the last.

    What only the squared loss has is NaN elsewhere.
    """
    times = [config.learning_rate * step for step in config.steps]
    rows = _descents.by_entry(table, "time", times).reindex(columns=COLUMNS)
    rows[AT_END] = rows[AT_END].where(rows.time == rows.time.max())
    return rows


def at_end(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The rows of the last time."""
    return rows[rows.time == rows.time.max()]


def at_scales(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The networks of the one width that was run at several output scales."""
    return rows[rows.groupby(["depth", "width"]).output_scale.transform("nunique") > 1]


def slope(rows: pandas.DataFrame, axis: str, column: str) -> tuple[float, tuple[float, float]]:
    """The log slope of the mean over seeds along the axis, and its bootstrap interval.

    A seed has the same samples at all widths and scales, so that whole seeds are drawn.
    """
    x, values = _statistics.by_seed(rows, axis, column)
    if len(x) < 2:
        return np.nan, (np.nan, np.nan)
    draws = _statistics.resampled(values, 2000, np.random.default_rng(0), paired=True)
    found = float(_statistics.log_slope(x, values.mean(-1)))
    ends = _statistics.interval(_statistics.log_slope(x, draws))
    return found, ends if np.isfinite(found) else (np.nan, np.nan)  # one seed that failed is enough


# Claims ---------------------------------------------------------------------------------------

TOLERANCE, NEAR, ROUNDING = 0.1, 0.01, 1e-6
SEEDS = "seeds"
WIDTH = Claim(
    statement="Without λ networks come to predict what the exact NTK does, like width^−½ or faster",
    source="Jacot et al. 2018",
)
SCALE = Claim(
    statement="At fixed width a large output scale α trains a network like its linearisation",
    source="Chizat et al. 2019",
)
POWER = Claim(
    statement="The linearised network descends as its empirical kernel does",
    source="derived here; Lee et al. 2019",
    certified=True,
)


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has rows for."""
    rows = at_end(table)
    found = [width_claim(rows), scale_claim(rows), power_claim(rows)]
    return [claim for claim in found if claim.checks]


def width_claim(rows: pandas.DataFrame) -> Claim:
    """The slope of the distance from the exact kernel, and the widest's distance network."""
    checks, distances = [], []
    for (loss, depth), part in rows[rows.output_scale == 1].groupby(["loss", "depth"], sort=False):
        what, column = f"{loss} loss, depth {depth}", "prediction_distance"
        found, ends = slope(part, "width", column)
        power = f"{what}: power of the width"
        checks.append(Check(power, found, *ends, TOLERANCE - 0.5, "≤", SEEDS))
        widest = part[part.width == part.width.max()]
        distances.append(_claims.mean(f"{what}: widest's distance", widest[column]))
    return WIDTH.on(*checks, *distances)


def scale_claim(rows: pandas.DataFrame) -> Claim:
    """The distance from the linearised network at the largest α, and its slope over four.

    The slope has no law: neurons cross samples in proportion to 1/α; where few do, the distance
    follows their number, and where many do, at random, its root.
    """
    checks = []
    for loss, part in at_scales(rows).groupby("loss", sort=False):
        scales, column = np.sort(part.output_scale.unique()), "linearised_distance"
        last = part[part.output_scale == scales[-1]]
        found, ends = slope(part[part.output_scale >= scales[-4:][0]], "output_scale", column)
        checks += [
            _claims.mean(f"{loss} loss: distance at the largest α", last[column], NEAR, "≤"),
            Check(f"{loss} loss: power of α", found, *ends, 0, "≤", SEEDS),
        ]
    return SCALE.on(*checks)


def power_claim(rows: pandas.DataFrame) -> Claim:
    """The largest error over all linearised networks under the squared loss."""
    errors = rows.linearised_error[rows.loss == "squared"]
    check = _claims.every("relative error of its outputs", errors, ROUNDING, "≤", "networks")
    return POWER.on(*[check] * (len(errors) > 0))


# The picture ----------------------------------------------------------------------------------

CURVES = {
    "prediction_distance": (_style.METHODS["network_no_lam"], "network − kernel"),
    "linearised_prediction_distance": (_style.METHODS["linearised"], "linearised − kernel"),
    "linearised_distance": (
        dict(color=_style.BLACK, marker="s", linestyle="--"),
        "network − linearised",
    ),
}


@_style.styled
def figure(table: pandas.DataFrame, config: Config) -> _style.Figure:
    """Six panels; every point is a mean over seeds with its 95 % interval."""
    end = at_end(table)
    plain, of_scale = end[end.output_scale == 1], at_scales(end)
    fig, axes = _style.panels(6, columns=3, ratio=1.1)
    for ax, loss in zip(axes, plain.loss.unique(), strict=False):
        _by_width(ax, plain[plain.loss == loss], f"{loss} loss, time {end.time.max():g}")
    _drift(axes[2], plain)
    _by_scale(axes[3], of_scale)
    _drift_by_scale(axes[4], of_scale)
    _by_time(axes[5], table)
    for ax in axes:
        if not ax.has_data():
            ax.set_axis_off()
    return fig


def _curves(ax, rows: pandas.DataFrame, axis: str, by: str) -> None:
    """Each of CURVES in its look, for each part of `rows`: filled the first, hollow the next."""
    parts = rows.groupby(by, sort=False)
    for (name, part), change in zip(parts, ({}, _style.HOLLOW), strict=False):
        for column, (look, label) in CURVES.items():
            fitted = slope(part, axis, column)[0] if axis == "width" else np.nan
            power = "" if np.isnan(fitted) else f": {fitted:.2f}".replace("-", "−")
            look = look | change | dict(label=f"{name}, {label}{power}")
            _style.with_interval(ax, *_statistics.by_seed(part, axis, column), **look)


def _by_width(ax, rows: pandas.DataFrame, title: str) -> None:
    _curves(ax, rows, "width", "depth")
    widths = np.sort(rows.width.unique())
    top = rows[rows.width == widths[0]].prediction_distance.mean()
    _style.guide(ax, widths, 1.5 * top, -0.5, "predicted: −½")
    _style.at_sizes(ax, widths, "width")
    ax.set(yscale="log", ylabel="relative distance of predictions", title=title)
    _style.legend(ax, below=0.8, title="depth, distance: power of the width", alignment="left")


def _drift(ax, rows: pandas.DataFrame) -> None:
    groups = dict(list(rows.groupby(["loss", "depth"], sort=False)))
    for (loss, depth), look in _style.categories(groups).items():
        part = groups[loss, depth]
        power = _style.power("width", slope(part, "width", "kernel_distance")[0])
        curve = _statistics.by_seed(part, "width", "kernel_distance")
        _style.with_interval(ax, *curve, label=f"{loss}, depth {depth}{power}", **look)
    _style.at_sizes(ax, rows.width.unique(), "width")
    ax.set(yscale="log", ylabel="relative change of the empirical NTK", title="drift of the kernel")
    _style.legend(ax, below=0.35)


def _by_scale(ax, rows: pandas.DataFrame) -> None:
    _curves(ax, rows, "output_scale", "loss")
    ax.axhline(NEAR, label="1 %", **_style.LEVEL)
    _scale_axes(ax, rows, "relative distance of predictions")
    _style.legend(ax, below=0.65, handlelength=1.8)


def _drift_by_scale(ax, rows: pandas.DataFrame) -> None:
    losses = _style.categories(rows.loss.unique())
    for number, (loss, look) in enumerate(losses.items()):
        part = rows[rows.loss == loss]
        scales, values = _statistics.by_seed(part, "output_scale", "kernel_distance")
        _style.with_interval(ax, scales, values, label=loss, **look)
        if (scales >= 1).any():
            start = values.mean(-1)[scales >= 1][0]
            label = None if number else "predicted: 1/α"
            _style.guide(ax, scales[scales >= 1], start, -1.0, label)
    _scale_axes(ax, rows, "relative change of the empirical NTK")
    _style.legend(ax)


def _scale_axes(ax, rows: pandas.DataFrame, label: str) -> None:
    title = f"width {rows.width.iloc[0]}, depth {rows.depth.iloc[0]}" if len(rows) else ""
    ax.set(xscale="log", yscale="log", xlabel="output scale α", ylabel=label, title=title)


def _by_time(ax, rows: pandas.DataFrame) -> None:
    shallow = rows[(rows.depth == 2) & (rows.loss == rows.loss.iloc[0]) & (rows.output_scale == 1)]
    widths = np.sort(shallow.width.unique())
    shown = widths[:: max(1, len(widths) // 4)]
    color = _style.METHODS["network_no_lam"]["color"]
    for width, look in _style.ordinal(shown, color).items():
        curve = _statistics.by_seed(shallow[shallow.width == width], "time", "prediction_distance")
        _style.with_interval(ax, *curve, label=f"width {width}", **look)
    flow = shallow[shallow.width == widths[0]].groupby("time").flow_distance.mean()
    ax.plot(flow.index, flow, label="steps − flow", **_style.PREDICTED)
    ax.set(xscale="log", yscale="log", xlabel="time: learning rate × steps")
    ax.set(ylabel="distance from the kernel", title=f"{shallow.loss.iloc[0]} loss, depth 2")
    _style.legend(ax, loc="lower left")


EXPERIMENT = Experiment(
    "lazy_training", Config, PRESETS, points, run, claims, figure, (WIDTH, SCALE, POWER),
    table=by_time, static=("depth", "width"), host="cpu",
)  # fmt: skip
