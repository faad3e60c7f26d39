"""The engine beside a loop of jitted runs, plain vmap and PyTorch, on the same work.

    uv run launch/benchmark.py                                # some ten minutes on two cores
    uv run --extra bench launch/benchmark.py                  # with PyTorch
    uv run launch/benchmark.py --preset=smoke --out=/tmp/b    # seconds

Writes summary.csv (one row for every repeat), run.json, figure.png and figure.pdf to
results/benchmark/DEVICE.
"""

import time

import jax
import pandas

from ntkreg.experiments import benchmark, benchmark_claims, command
from ntkreg.experiments.benchmark import Config
from ntkreg.experiments.benchmark_figure import figure


def tell(config: Config, out) -> None:
    """What a run would take."""
    works = benchmark.works(config)
    operations = sum(work.operations() for work in works)
    runs = (config.num_repeats + 1) * len(benchmark.available(config))
    print(f"{len(works)} sizes of training, {len(config.gram_samples)} of kernels; to {out}")
    print(f"memory: {max(benchmark.memory(config).values()) / 2**30:.2f} GiB")
    print(f"time: {runs} runs of {operations:.1e} operations")


def execute(config: Config, out) -> None:
    """Runs, writes and shows the medians."""
    begun = time.time()
    missing = set(config.contenders) - set(benchmark.available(config))
    if missing:
        print(f"not installed, left out: {', '.join(sorted(missing))} (extra bench)")
    rows = benchmark.run(config)
    is_accelerator = jax.default_backend() != "cpu"
    found = [benchmark_claims.claim(rows)] if is_accelerator else []
    command.write(out, config, pandas.DataFrame(rows), figure(rows), time.time() - begun, found)
    with pandas.option_context(
        "display.width", 120, "display.max_columns", 9, "display.precision", 2
    ):
        print("medians, µs per network and step")
        print(benchmark.medians(rows))
        print("Gram matrix of the NTK, float32: medians, seconds")
        print(benchmark.kernel_medians(rows, "gram"))
        print("hard-margin SVM of it to a gap of 1e-6, and of the one of SVC: medians, seconds")
        print(benchmark.kernel_medians(rows, "svm"))
        print("rates of training, and of a matrix product and copy")
        print(benchmark.roofline(rows))
    told = (f"{name} {ratio:.2f}" for name, ratio in benchmark.ratios(rows, config.extra).items())
    n, width, lams = config.extra
    print(f"n = {n}, width {width}, {lams} λ, times of ntkreg.sweeps: {', '.join(told)}")


if __name__ == "__main__":
    folder = lambda preset: f"results/benchmark/{benchmark.device_name()}"
    command.launch("benchmark", benchmark, tell, execute, folder, benchmark.memory)
