"""An experiment whose batches are jobs of SLURM; this process waits for them and keeps the results.

    uv run --extra cluster launch/slurm.py separation --preset=full --gpus=1 --minutes=120
    uv run --extra cluster launch/slurm.py separation --preset=smoke --cluster=local

Any flag of the experiment follows its name. Your own sweep does the same by
`ntkreg.sweep(run, points, folder, executor=submitit.AutoExecutor("logs"))`.
"""

import importlib
import sys

from absl import flags

from ntkreg.experiments import _experiment

CLUSTER = flags.DEFINE_enum("cluster", "slurm", ["slurm", "local"], "local: on this machine.")
PARTITION = flags.DEFINE_string("partition", None, "Of the scheduler.")
GPUS = flags.DEFINE_integer("gpus", 0, "Of each job.", lower_bound=0)
CPUS = flags.DEFINE_integer("cpus", 2, "Cores of each job.", lower_bound=1)
MINUTES = flags.DEFINE_integer("minutes", 60, "Time limit of each job.", lower_bound=1)


def executor():
    """SLURM behind the `submit` of concurrent.futures; logs go to results/slurm."""
    import submitit

    jobs = submitit.AutoExecutor("results/slurm", cluster=CLUSTER.value)
    jobs.update_parameters(
        timeout_min=MINUTES.value, gpus_per_node=GPUS.value, cpus_per_task=CPUS.value,
        slurm_partition=PARTITION.value,
    )  # fmt: skip
    return jobs


if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 else "none"
    try:
        experiment = importlib.import_module(f"ntkreg.experiments.{name}").EXPERIMENT
    except (ImportError, AttributeError):
        sys.exit(f"slurm: the first argument must be an experiment, got {name}")
    _experiment.main(experiment, executor)
