"""How time and memory grow: each size varied alone, the exponents beside the counted operations.

Training is that of the benchmark, float32; the kernel side is the NTK's Gram matrix and the
hard-margin SVM of it. As in the benchmark the table holds times, which no second run repeats.
"""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas
import tqdm

from ntkreg import fused, kernels, networks, sharing, timing
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import configs, contenders, kernel_contenders, repeats, statistics
from ntkreg.experiments.contenders import Work
from ntkreg.kernels.kernel_machines import hard_margin_svm
from ntkreg.lanes import Programs
from ntkreg.networks.network import Network
from ntkreg.training import trainers

# Quantity -> its axes, with the exponents of the counted operations and of the bytes held.
COUNTED = {
    "training step": {
        "num_samples": (1, 1), "width": (1, 1), "dim": (1, 0), "num_lams": (1, 1),
        "num_workers": (-1, 1), "devices": (-1, 0),
    },
    "gram matrix": {"num_samples": (2, 2), "dim": (1, 0)},
    "hard-margin SVM": {"num_samples": (2, 2)},
}  # fmt: skip
TRAFFIC_DIM = 20
CLAIMS = 200  # chunks that are claimed to time one


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment: the first of each is what stays while another is varied.

    Attributes:
      num_samples, widths, dims, num_lams: of training.
      num_steps: of each timed run.
      gram_samples, gram_dims: of the kernel side.
      num_repeats: interleaved repeats, after one that is not counted.
    """

    num_samples: tuple[int, ...] = (800, 100, 200, 400, 1600, 3200)
    widths: tuple[int, ...] = (512, 64, 128, 256, 1024, 2048)
    dims: tuple[int, ...] = (40, 10, 20, 80, 160, 320)
    num_lams: tuple[int, ...] = (4, 1, 2, 8, 16, 32)
    num_steps: int = 50
    gram_samples: tuple[int, ...] = (2000, 500, 1000, 4000, 8000)
    gram_dims: tuple[int, ...] = (80, 20, 40, 160, 320)
    num_repeats: int = 5

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        for name in ("num_samples", "widths", "num_lams", "num_steps", "gram_samples"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("dims", "gram_dims"):
            check(name, lambda v: v >= 3, "at least 3")
        check("num_repeats", lambda v: v >= 1, "at least 1")
        configs.check_distinct(
            self, "num_samples", "widths", "dims", "num_lams", "gram_samples", "gram_dims"
        )

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: some three minutes on two cores. full: an accelerator."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        num_samples=(20, 40), widths=(8, 16), dims=(4, 8), num_lams=(2, 4), num_steps=3,
        gram_samples=(20, 40), gram_dims=(4, 8), num_repeats=2,
    ),
    "laptop": {},
    "full": dict(
        num_samples=(800, 100, 400, 1600, 6400, 25_600), widths=(512, 64, 128, 1024, 4096),
        dims=(40, 10, 80, 160, 640), num_lams=(64, 1, 4, 16, 256, 1024),
        gram_samples=(8000, 2000, 4000, 16_000, 32_000), num_repeats=3,
    ),
}  # fmt: skip


def run(config: Config) -> list[dict[str, Any]]:
    """One row for every repeat of every size of every line: quantity, axis, size, seconds, bytes.

    `num_bytes` is what the compiled program holds, arguments and temporaries; the last rows are
    those of a claim, the time in which a process takes a chunk of a record and gives it back.
    """
    lines = [*_training_lines(config), *_kernel_lines(config)]
    rows = []
    for quantity, axis, runs, num_bytes in tqdm.tqdm(lines, unit="line"):
        for one in runs.values():
            one()
        for row in repeats.interleaved(runs, config.num_repeats):
            size = row.pop("contender")
            named = {"quantity": quantity, "axis": axis, "size": size}
            rows.append({**named, **row, "num_bytes": num_bytes[size]})
    return rows + list(_traffic_rows(config)) + list(_claim_rows(config.num_repeats))


def _training_lines(config: Config) -> Iterator[tuple]:
    base = Work(
        config.num_samples[0], config.widths[0], config.num_lams[0], config.num_steps,
        config.dims[0],
    )  # fmt: skip
    axes = {
        "num_samples": config.num_samples,
        "width": config.widths,
        "dim": config.dims,
        "num_lams": config.num_lams,
    }

    @functools.cache  # the base is on every axis
    def compiled(work: Work) -> tuple[Callable[[], np.ndarray], int]:
        given = contenders.problem(work)
        return contenders.sweep(given), _held(given)

    for axis, sizes in axes.items():
        found = {size: compiled(base._replace(**{axis: size})) for size in sorted(sizes)}
        runs, held = ({size: pair[i] for size, pair in found.items()} for i in range(2))
        yield "training step", axis, runs, held
    yield _parallel_line(contenders.problem(base))


def _parallel_line(given: contenders.Problem) -> tuple:
    """Over devices where there are several, else over the workers of a CPU."""
    count, axis = len(jax.local_devices()), "devices"
    if count == 1:
        count, axis = os.cpu_count() or 1, "num_workers"
    sizes = [2**k for k in range(count.bit_length())]
    runs = {size: contenders.sweep(given, **{axis: size}) for size in sizes}
    one = _held(given._replace(lams=given.lams[:1]))
    num_lams = len(given.lams)
    held = {
        size: one * (min(size, num_lams) if axis == "num_workers" else num_lams) for size in sizes
    }
    return "training step", axis, runs, held


def _held(given: contenders.Problem) -> int:
    """Bytes of the compiled program of all λ in one batch."""
    programs = Programs(contenders.cell(given), (), jax.local_devices()[:1])
    points = [{"lam": lam} for lam in given.lams]
    stages, _ = timing.prepared(programs, points, len(points))
    return timing.bytes_of(stages.advance)


def _kernel_lines(config: Config) -> Iterator[tuple]:
    network = networks.fully_connected(2, 1)
    n, dim = config.gram_samples[0], config.gram_dims[0]
    samples = kernel_contenders.samples

    def gram(data: Dataset) -> Callable[[], Any]:
        def made() -> Any:
            with jax.enable_x64(False):  # else neural-tangents computes in float64
                return kernels.ntk(network, data.x).block_until_ready()

        return made

    for axis, sizes in (
        ("num_samples", {m: samples(m, dim) for m in sorted(config.gram_samples)}),
        ("dim", {d: samples(n, d) for d in sorted(config.gram_dims)}),
    ):
        runs = {size: gram(data) for size, data in sizes.items()}
        held = {s: 4 * (d.x.shape[0] ** 2 + d.x.size) for s, d in sizes.items()}
        yield "gram matrix", axis, runs, held
    data = {m: samples(m, dim) for m in sorted(config.gram_samples)}
    grams = {m: kernels.ntk(network, d.x) for m, d in data.items()}

    def machine(m: int) -> Callable[[], Any]:
        return lambda: float(hard_margin_svm(grams[m], data[m].y, "active_set", 1e-4).margin)

    runs = {m: machine(m) for m in grams}
    yield "hard-margin SVM", "num_samples", runs, {m: 4 * m**2 for m in grams}


def _traffic_rows(config: Config) -> Iterator[dict[str, Any]]:
    """Bytes of a step of the plain and of the fused network, at the first sizes and the largest."""
    for n in sorted({config.num_samples[0], max(config.num_samples)}):
        for width in sorted({config.widths[0], max(config.widths)}):
            samples = kernel_contenders.samples(n, TRAFFIC_DIM)
            networks_by_name = {
                "plain": networks.fully_connected(2, width), "fused": fused.two_layer(width)
            }  # fmt: skip
            for name, network in networks_by_name.items():
                shape = f"n = {n}, d = {TRAFFIC_DIM}, width = {width}"
                moved = step_traffic(network, samples)
                yield {"quantity": f"{name} step", "axis": shape, "size": 1, "num_bytes": moved}


def step_traffic(network: Network, samples: Dataset, num_lanes: int = 0) -> float:
    """Bytes that a compiled step of training reads and writes, as XLA counts them.

    Adam on the log objective, float32; of one network, or of num_lanes vmapped ones. No loop is in
    the program, which XLA would count once.
    """
    trainer = trainers.Trainer(network)
    knobs = trainers.knobs(1e-3, 0.01, jnp.float32)
    params = network.init(jax.random.key(1), samples.x.shape[1])
    state = trainers.init(trainer, optax.tree.cast(params, jnp.float32))
    step = lambda state: trainers.step(trainer, samples, knobs, state)
    if num_lanes:
        step, state = jax.vmap(step), jax.tree.map(lambda v: jnp.stack([v] * num_lanes), state)
    costs = jax.jit(step).lower(state).compile().cost_analysis() or {}
    return costs["bytes accessed"]


def _claim_rows(num_repeats: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "chunk-000000.npz"

        def claims() -> None:
            for _ in range(CLAIMS):
                with sharing.claimed(path) as mine:
                    assert mine

        for row in repeats.interleaved({"1": claims}, num_repeats):
            row.pop("contender")
            row["seconds"] /= CLAIMS
            yield {"quantity": "claim of a chunk", "axis": "", "size": 1, **row}


@dataclasses.dataclass(frozen=True)
class Line:
    """How one quantity grows with one size.

    Attributes:
      sizes, seconds: medians over repeats, in order.
      exponent: of the time, over the upper half of the sizes, where fixed costs weigh least.
      interval: of the exponent, 95 %, bootstrap over repeats.
      counted: exponent of the operations.
      bytes_exponent, bytes_counted: the same for what is held, over the same sizes.
    """

    quantity: str
    axis: str
    sizes: np.ndarray
    seconds: np.ndarray
    exponent: float
    interval: tuple[float, float]
    counted: int
    bytes_exponent: float
    bytes_counted: int


def lines(rows: list[dict[str, Any]]) -> list[Line]:
    """The fitted growth of every quantity along every size."""
    table = pandas.DataFrame(rows)
    found = []
    for quantity, axes in COUNTED.items():
        for axis, (counted, bytes_counted) in axes.items():
            part = table[(table.quantity == quantity) & (table.axis == axis)]
            if part["size"].nunique() < 2:
                continue
            seconds = part.pivot(index="size", columns="repeat", values="seconds")
            held = part.groupby("size").num_bytes.first().to_numpy(float)
            sizes = seconds.index.to_numpy(float)
            upper = slice(len(sizes) // 2 - (len(sizes) < 4), None)
            slope = functools.partial(statistics.log_slope, sizes[upper])
            middle = seconds.median(axis=1).to_numpy()
            rng = np.random.default_rng(0)
            draws = statistics.resampled(seconds.to_numpy()[upper], 1000, rng, middle=np.median)
            found.append(
                Line(
                    quantity, axis, sizes, middle, float(slope(middle[upper])),
                    statistics.interval(slope(draws)), counted, float(slope(held[upper])),
                    bytes_counted,
                )
            )  # fmt: skip
    return found


def memory(config: Config) -> dict[str, int]:
    """Bytes that the largest sizes hold, counted from their arrays."""
    n, width, lams = (max(v) for v in (config.num_samples, config.widths, config.num_lams))
    hidden = max(
        n * config.widths[0] * config.num_lams[0],
        config.num_samples[0] * width * config.num_lams[0],
        config.num_samples[0] * config.widths[0] * lams,
    )
    grams = 4 * sum(m**2 for m in config.gram_samples)
    return {"the largest training": 12 * hidden, "all Gram matrices": 2 * grams}
