"""How fast the engine and the kernels are, beside what people would use instead.

All contenders do the same work in one process, in turn, several times: the medians and the spread
of these repeats are what can be compared; seconds on another machine, or day, are not. So this
table, unlike every other, holds times, and no run of it repeats another.
"""

import dataclasses
import importlib.util
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
import pandas
import tqdm

from ntkreg.experiments import configs, contenders, kernel_contenders, repeats
from ntkreg.experiments.contenders import CONTENDERS, Work

STEPS = (200, 1000)  # least and most of a run; training takes thousands
AGREE = 2e-3  # relative: float32 sums in another order drift apart over a run


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the benchmark.

    Attributes:
      num_samples, widths, num_lams: all combinations are trained, but those whose matrix products
        take more than `most_operations`.
      extra: one more size of (num_samples, width, num_lams), always with the most steps.
      dim: of the samples of D.
      operations: matrix products that a run should take; it sets the steps, within STEPS.
      most_operations: see above.
      contenders: any of contenders.CONTENDERS; those of PyTorch only where it is installed.
      num_repeats: interleaved repeats of every size, after one that is not counted.
      gram_samples: sizes of Gram matrices and hard-margin SVMs, with dim gram_dim, float32.
      peak_size: of the matrices whose product and copy tell what the machine can do at most.
    """

    num_samples: tuple[int, ...] = (100, 400, 4000)
    widths: tuple[int, ...] = (100, 1000)
    num_lams: tuple[int, ...] = (1, 8, 32, 1024)
    extra: tuple[int, ...] = (320, 128, 32)
    dim: int = 20
    operations: float = 2e10
    most_operations: float = 2.5e11
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    num_repeats: int = 5
    gram_samples: tuple[int, ...] = (1000, 4000)
    gram_dim: int = 80
    peak_size: int = 8192

    def __post_init__(self):
        check = lambda name, *rule: configs.check_field(name, getattr(self, name), *rule)
        for name in ("num_samples", "widths", "num_lams", "extra", "gram_samples"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("num_repeats", "peak_size"):
            check(name, lambda v: v >= 1, "at least 1")
        for name in ("dim", "gram_dim"):
            check(name, lambda d: d >= 3, "at least 3")
        for name in ("operations", "most_operations"):
            check(name, lambda v: 0 < v < np.inf, "positive and finite")
        check("contenders", *configs.one_of(tuple(CONTENDERS)))
        if len(self.extra) != 3:
            raise ValueError(f"extra must be num_samples,width,num_lams, got {self.extra}")

    @classmethod
    def preset(cls, name: str) -> "Config":
        """smoke: seconds. laptop: some ten minutes on two cores. full: an accelerator."""
        return cls(**configs.preset(PRESETS, name))


PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        num_samples=(20,),
        widths=(8,),
        num_lams=(1, 4),
        extra=(20, 8, 2),
        operations=1e5,
        contenders=("sweep", "loop", "vmap"),
        num_repeats=2,
        gram_samples=(50,),
        gram_dim=10,
        peak_size=64,
    ),
    "laptop": {},
    "full": dict(
        num_samples=(400,),
        widths=(100,),
        num_lams=(1024,),
        operations=2e12,
        most_operations=1e14,
        num_repeats=3,
        gram_samples=(4000,),
    ),
}


def works(config: Config) -> list[Work]:
    """The sizes of training that are timed."""
    sizes = [
        (n, width, lams)
        for n in config.num_samples
        for width in config.widths
        for lams in config.num_lams
    ]
    num_samples, width, num_lams = config.extra
    found = [Work(num_samples, width, num_lams, STEPS[1], config.dim)]
    for size in sizes:
        one_step = Work(*size, 1, config.dim).operations()
        work = Work(*size, int(np.clip(config.operations / one_step, *STEPS)), config.dim)
        if work.operations() <= config.most_operations:
            found.append(work)
    return list(dict.fromkeys(found))


def available(config: Config) -> tuple[str, ...]:
    """The contenders that can run here."""
    has_torch = importlib.util.find_spec("torch") is not None
    return tuple(c for c in config.contenders if has_torch or not c.startswith("torch"))


def run(config: Config) -> list[dict[str, Any]]:
    """One row for every repeat of every contender and size.

    Raises:
      RuntimeError: where contenders do not agree on the result, so that times would not compare.
    """
    sizes = works(config)
    rows: list[dict[str, Any]] = []
    with tqdm.tqdm(total=len(sizes) + len(config.gram_samples), unit="size") as bar:
        for work in sizes:
            rows += _trainings(config, work)
            bar.update()
        for num_samples in config.gram_samples:
            for task in kernel_contenders.TASKS.values():
                rows += task(num_samples, config.gram_dim, config.num_repeats)
            bar.update()
        rows += kernel_contenders.peaks(config.peak_size, config.num_repeats)
    return rows


def _trainings(config: Config, work: Work) -> Iterator[dict[str, Any]]:
    runs, share = {}, {}
    for name in available(config):
        few = min(work.num_lams, 2) if name in contenders.ONE_BY_ONE else work.num_lams
        share[name] = few / work.num_lams
        runs[name] = CONTENDERS[name](contenders.problem(work._replace(num_lams=few)))
    results = {name: np.asarray(run()) for name, run in runs.items()}
    reference = next(iter(results.values()))
    for name, losses in results.items():
        # The first λ is the same however many there are.
        if not np.allclose(losses[0], reference[0], rtol=AGREE):
            raise RuntimeError(f"{name} ends at {losses[0]}, others at {reference[0]}: {work}")
    for row in repeats.interleaved(runs, config.num_repeats):
        seconds = row["seconds"] / share[row["contender"]]
        yield {"task": "training", **work._asdict(), **row} | {
            "seconds": seconds,
            "microseconds_per_step": 1e6 * seconds / (work.num_lams * work.num_steps),
            "gflops": work.operations() / seconds / 1e9,
            "gbytes_per_second": work.traffic() / seconds / 1e9,
        }


def device_name() -> str:
    """The device that JAX uses, as a folder's name."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"cpu-{os.cpu_count()}-cores"
    return device.device_kind.lower().replace(" ", "-")


def memory(config: Config) -> dict[str, int]:
    """Bytes that every size holds at once, counted from its arrays."""
    told = lambda w: f"num_samples={w.num_samples}, width={w.width}, num_lams={w.num_lams}"
    training = {told(w): 12 * w.num_samples * w.width * w.num_lams for w in works(config)}
    return training | {f"gram_samples={n}": 40 * n**2 for n in config.gram_samples}


def medians(rows: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    """One row for every size of training: median µs of one step of one network, by contender."""
    table = pandas.DataFrame(rows)
    sizes = ["num_samples", "width", "num_lams", "num_steps"]
    training = table[table.task == "training"].astype(dict.fromkeys(sizes, int))
    values = training.pivot_table("microseconds_per_step", sizes, "contender", "median", sort=False)
    return values[[c for c in CONTENDERS if c in values]]


def kernel_medians(rows: Sequence[dict[str, Any]], task: str) -> pandas.DataFrame:
    """One row for every size of `task`, gram or svm: median seconds, by contender."""
    table = pandas.DataFrame(rows)
    chosen = table[table.task == task]
    return chosen.pivot_table("seconds", ["num_samples", "dim"], "contender", "median", sort=False)


def roofline(rows: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    """GFLOP/s and GB/s of the sweep at the size where each is best, beside the machine's own.

    The machine's are medians at the largest matrix. Bytes are those of the hidden layer; a CPU
    keeps part of them in its cache and so can pass what its memory gives.
    """
    table = pandas.DataFrame(rows)
    rates = ["gflops", "gbytes_per_second"]
    peaks = table[table.task == "peak"]
    peaks = peaks[peaks.num_samples == peaks.num_samples.max()]
    sweeps = table[table.contender == "sweep"].groupby(["num_samples", "width", "num_lams"])
    found = {
        "machine": peaks.groupby("contender")[rates].median().max(),
        "sweep": sweeps[rates].median().max(),
    }
    return pandas.DataFrame(found).T


def ratios(rows: Sequence[dict[str, Any]], size: Sequence[int]) -> dict[str, float]:
    """How many times longer than the sweep each contender takes at one size, by medians."""
    found = medians(rows).reset_index()
    chosen = found[(found[["num_samples", "width", "num_lams"]] == list(size)).all(axis=1)]
    (row,) = chosen.to_dict("records")
    return {name: row[name] / row["sweep"] for name in CONTENDERS if name in row}
