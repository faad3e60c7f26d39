"""How fast a sweep is, beside other ways to run many λ

Does `ntkreg.sweep` cost anything? It takes as long as the best that one could write by hand: one
vmapped program, jitted runs on threads, or a loop of them; PyTorch stands beside them.

Full-batch gradient descent on the plain objective, mean logistic loss + λ‖Θ‖², of two-layer ReLU
networks from the same initial parameters, one network for each λ, in float32. All ways work in one
process, one after the other, several times: ratios within a repeat can be compared; seconds on
another machine, or day, cannot. So this table, unlike every other, holds times, and no run of it
repeats another; a folder that is finished is only drawn again.

Source: the contract of `ntkreg.sweep`.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import importlib.util
import io
import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas

from ntkreg import data, networks
from ntkreg._types import Array, Params
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import _claims, _experiment, _style
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment
from ntkreg.sweeps import grid, sweep
from ntkreg.sweeps.programs import Point
from ntkreg.training import trainers

SIZE = ["num_samples", "width", "num_lams"]
LEARNING_RATE = 0.1
AGREE = 2e-3  # relative: float32 sums in another order drift apart over a run
PROC = pathlib.Path("/proc/self")  # of Linux
Ends = Callable[[], np.ndarray]  # -> the final mean loss of each λ


class Work(NamedTuple):
    """What every way computes."""

    train: Dataset
    params: Params
    lams: list[float]
    num_steps: int


def work(config: "Config", num_samples: int, width: int, num_lams: int) -> Work:
    """Samples and initial parameters from fixed keys, and so many steps that all sizes are alike.

    A step's operations are those of its matrix products, forward and backward.
    """
    train = data.noisy_xor(jax.random.key(0), num_samples, config.dim)
    params = networks.fully_connected(2, width).init(jax.random.key(1), config.dim)
    train, params = optax.tree.cast((train, params), jnp.float32)
    one_step = 6 * num_samples * config.dim * width * num_lams
    num_steps = max(1, round(config.operations / one_step))
    return Work(train, params, np.geomspace(1e-6, 1e-2, num_lams).tolist(), num_steps)


def _trained(given: Work, lam: Array) -> dict[str, Array]:
    """One run: its final mean loss."""
    network = networks.fully_connected(2, given.params[0].shape[1])
    options = trainers.TrainOptions(
        descend="plain", optimizer=optax.sgd, schedule=trainers.constant,
        num_steps=given.num_steps + 1,  # the last one only evaluates the loss
    )  # fmt: skip
    log_lam = trainers.logs_of(lam, jnp.float32)[0]
    rate = jnp.float32(LEARNING_RATE)
    end = trainers.minimized(options, network, given.train, log_lam, rate, given.params)
    return {"loss": jnp.exp(end.log_loss)}


# The ways ------------------------------------------------------------------------------------


def by_sweep(given: Work) -> Ends:
    """`ntkreg.sweep`, in memory."""
    run, points = functools.partial(_trained, given), grid(lam=given.lams)

    def ends() -> np.ndarray:
        with contextlib.redirect_stderr(io.StringIO()):  # no progress bar within another
            return sweep(run, points)["loss"].to_numpy()

    return ends


def by_vmap(given: Work) -> Ends:
    """All runs in one vmapped program."""
    program = jax.jit(jax.vmap(functools.partial(_trained, given)))
    return lambda: np.asarray(program(np.asarray(given.lams))["loss"])


def by_threads(given: Work) -> Ends:
    """Jitted runs on as many threads as there are cores."""
    program = jax.jit(functools.partial(_trained, given))
    one = lambda lam: float(program(lam)["loss"])

    def ends() -> np.ndarray:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.array(list(pool.map(one, given.lams)))

    return ends


def by_loop(given: Work) -> Ends:
    """One jitted run after the other."""
    program = jax.jit(functools.partial(_trained, given))
    return lambda: np.array([float(program(lam)["loss"]) for lam in given.lams])


def by_torch(given: Work) -> Ends:
    """PyTorch at its best: torch.compile of the vmapped step of all models."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    tensor = lambda array: torch.from_numpy(np.array(array, np.float32)).to(device)
    x, y, lams = (tensor(array) for array in (*given.train, given.lams))

    def loss(first, last):
        outputs = (torch.relu(x @ first) @ last)[:, 0]
        return torch.nn.functional.softplus(-y * outputs).mean()

    def step(first, last, lam):
        penalty = lambda first, last: lam * (first.square().sum() + last.square().sum())
        objective = lambda *params: loss(*params) + penalty(*params)
        slopes = torch.func.grad(objective, argnums=(0, 1))(first, last)
        return first - LEARNING_RATE * slopes[0], last - LEARNING_RATE * slopes[1]

    torch.compiler.reset()  # else sizes seen before count against the limit of recompilations
    compiled = torch.compile(torch.func.vmap(step), dynamic=False)

    def ends() -> np.ndarray:
        params = tuple(tensor(p).expand(len(lams), *p.shape).contiguous() for p in given.params)
        with torch.no_grad():
            for _ in range(given.num_steps):
                params = compiled(*params, lams)
            return torch.func.vmap(loss)(*params).cpu().numpy()

    return ends


WAYS = {
    "sweep": by_sweep,
    "vmap": by_vmap,
    "threads": by_threads,
    "loop": by_loop,
    "torch_compiled": by_torch,
}
PLAIN = ("vmap", "threads", "loop")  # what a sweep is made of
LABELS = {
    "sweep": "ntkreg.sweeps",
    "vmap": "jit(vmap(run))",
    "threads": "jit(run) on threads",
    "loop": "jit(run) in turn",
    "torch_compiled": "PyTorch, torch.compile(vmap)",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      num_samples, widths, num_lams: all combinations are trained.
      dim: of the samples of D.
      operations: of the matrix products of a size; it sets the steps.
      ways: any of `WAYS`; torch_compiled only where PyTorch is installed.
      num_repeats: of every way in turn, after one that is not counted.
    """

    num_samples: tuple[int, ...] = (100, 400)
    widths: tuple[int, ...] = (100, 400)
    num_lams: tuple[int, ...] = (16, 64)
    dim: int = 20
    operations: float = 3e11
    ways: tuple[str, ...] = tuple(WAYS)
    num_repeats: int = 4

    def __post_init__(self):
        check = lambda name, *rule: _experiment.check_field(name, getattr(self, name), *rule)
        for name in ("num_samples", "widths", "num_lams", "num_repeats"):
            check(name, lambda v: v >= 1, "at least 1")
        check("dim", lambda d: d >= 3, "at least 3")
        check("operations", lambda v: 0 < v < np.inf, "positive and finite")
        check("ways", *_experiment.one_of(tuple(WAYS)))
        _experiment.check_distinct(self, "num_samples", "widths", "num_lams", "ways")


# smoke: seconds. laptop: a quarter of an hour on two cores. full: an accelerator.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        num_samples=(20,), widths=(8,), num_lams=(1, 4), operations=1e5,
        ways=("sweep", *PLAIN), num_repeats=2,
    ),
    "laptop": {},
    "full": dict(
        num_samples=(400,), widths=(100,), num_lams=(1024,), operations=2e13, num_repeats=3
    ),
}  # fmt: skip


def points(config: Config) -> list[Point]:
    """The sizes."""
    return grid(num_samples=config.num_samples, width=config.widths, num_lams=config.num_lams)


_timing = threading.Lock()  # sizes are timed one at a time


def run(config: Config, num_samples: int, width: int, num_lams: int) -> dict[str, Any]:
    """The seconds and the memory of every repeat of every way, at one size.

    Raises:
      RuntimeError: where the ways do not agree on the result, so that times would not compare.
    """
    with _timing:
        given = work(config, num_samples, width, num_lams)
        has_torch = importlib.util.find_spec("torch") is not None
        names = [name for name in config.ways if has_torch or name != "torch_compiled"]
        ways = {name: WAYS[name](given) for name in names}
        losses = {name: ends() for name, ends in ways.items()}
        for name, found in losses.items():
            if not np.allclose(found, losses[names[0]], rtol=AGREE):
                raise RuntimeError(f"{name} ends at {found[0]}, others at {losses[names[0]][0]}")
        return {"num_steps": given.num_steps, **interleaved(ways, config.num_repeats)}


def interleaved(ways: dict[str, Callable[[], Any]], num_repeats: int) -> dict[str, np.ndarray]:
    """way, repeat, seconds, and peak_mib where the system says it: an entry for every call.

    The ways take turns, so that what slows the machine down for a while meets all of them. peak_mib
    is what the process held at most beyond what it held before, on the host.
    """
    rows: list[dict[str, Any]] = []
    for repeat in range(num_repeats):
        for name, call in ways.items():
            before = _held_mib("VmRSS")
            if PROC.exists():
                (PROC / "clear_refs").write_text("5")  # sets the peak back to what is held now
            begun = time.perf_counter()
            call()
            row = dict(way=name, repeat=repeat, seconds=time.perf_counter() - begun)
            rows.append(row | dict(peak_mib=_held_mib("VmHWM") - before))
    table = pandas.DataFrame(rows).dropna(axis="columns")
    return {name: np.asarray(table[name].tolist()) for name in table}


def _held_mib(key: str) -> float:
    if not PROC.exists():
        return float("nan")
    lines = (PROC / "status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(key))
    return int(line.split()[1]) / 1024


def table(found: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """One row for every repeat of every way and size; microseconds are of a network's step.

    Raises:
      RuntimeError: where a size failed.
    """
    if (found.failed != "").any():
        raise RuntimeError("; ".join(found.failed[found.failed != ""]))
    entries = [name for name in ("way", "repeat", "seconds", "peak_mib") if name in found]
    rows = found.explode(entries, ignore_index=True).infer_objects()
    steps = rows.num_lams * rows.num_steps
    return rows.assign(microseconds_per_step=1e6 * rows.seconds / steps)


# What it shows -------------------------------------------------------------------------------

LIMIT = 1.1  # of the time of a sweep over that of the best plain way
SHORTEST = 2.0  # seconds of the best plain way: below, the tenth that a sweep takes once is seen
ENGINE = Claim(
    statement="A sweep takes at most a tenth longer than the best plain way to run many λ",
    source="the sweep's contract",
)


def ratios(rows: pandas.DataFrame) -> list[pandas.Series]:
    """The sweep's time over that of the best plain way, by repeat, where that takes long enough.

    One for each size; the best way is that of the smallest median.
    """
    found = []
    for _, part in rows.groupby(SIZE, sort=False):
        seconds = part.pivot(index="repeat", columns="way", values="seconds")
        medians = seconds[[*PLAIN]].median()
        if medians.min() >= SHORTEST:
            found.append(seconds["sweep"] / seconds[medians.idxmin()])
    return found


def claims(rows: pandas.DataFrame, config: Config) -> list[Claim]:
    """The ratio of the worst size; not run where a way is missing."""
    if not {"sweep", *PLAIN} <= set(rows.way):
        return []
    none = pandas.Series(dtype=float)  # a ratio that is NaN is the worst
    worst = max(ratios(rows), key=lambda ratio: ratio.fillna(np.inf).mean(), default=none)
    what = "its time over theirs, worst size"
    return [ENGINE.on(_claims.mean(what, worst, LIMIT, "≤", "interleaved repeats"))]


@_style.styled
def figure(rows: pandas.DataFrame, config: Config) -> _style.Figure:
    """A panel for each number of samples and width; medians with the range of the repeats."""
    parts = list(rows.groupby(["width", "num_samples"]))
    columns = min(len(parts), 4)
    fig, axes = _style.panels(len(parts), columns, ratio=1.05)
    for ax, ((width, num_samples), part) in zip(axes, parts, strict=True):
        for name, style in _style.categories(LABELS).items():
            times = part[part.way == name].groupby("num_lams").microseconds_per_step
            if len(times):
                _style.with_range(ax, times, label=LABELS[name], **style)
        _style.at_sizes(ax, part.num_lams.unique(), "number of λ")
        _style.plain_ticks(ax.yaxis)
        ax.set(title=f"n = {num_samples:g}, width {width:g}", ylabel="µs a step")
    handles = axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=min(columns, 3))
    return fig


EXPERIMENT = Experiment(
    "benchmark", Config, PRESETS, points, run, claims, figure, (ENGINE,), table, host=True
)
