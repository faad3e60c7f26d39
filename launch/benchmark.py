"""A sweep beside plain vmap, threads, a loop of jitted runs and PyTorch, on the same work.

    uv run launch/benchmark.py                                # a quarter of an hour on two cores
    uv run --extra bench launch/benchmark.py                  # with PyTorch
    uv run launch/benchmark.py --preset=smoke --out=/tmp/b    # seconds

Writes summary.csv (one row for every repeat), run.json, figure.png and figure.pdf to
results/benchmark/PRESET. To measure anew, name another folder, or remove that one.
"""

from ntkreg.experiments import _experiment, benchmark

if __name__ == "__main__":
    _experiment.main(benchmark.EXPERIMENT)
