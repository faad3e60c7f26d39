"""Submits an experiment to SLURM: an array of jobs that share one record.

    uv run --extra cluster launch/slurm.py --jobs=8 --gpus=1 -- separation --preset=full
    uv run --extra cluster launch/slurm.py --jobs=2 --cluster=local -- separation --preset=smoke

Each job runs the experiment's own command. Jobs may start and die as they like: each takes cells
that nobody is at, and the same line again finishes what is missing. `--dry_run` among the
experiment's flags, without this launcher, tells what a run would take.
"""

import pathlib
import sys

from absl import app, flags

HERE = pathlib.Path(__file__).resolve().parent
NO_EXPERIMENTS = ("slurm", "reproduce", "benchmark", "scaling")

JOBS = flags.DEFINE_integer("jobs", 1, "Jobs in the array.", lower_bound=1)
CLUSTER = flags.DEFINE_enum("cluster", "slurm", ["slurm", "local"], "local: on this machine.")
PARTITION = flags.DEFINE_string("partition", None, "Partition of the scheduler.")
GPUS = flags.DEFINE_integer("gpus", 0, "GPUs of a job.", lower_bound=0)
CPUS = flags.DEFINE_integer("cpus", 2, "CPU cores of a job.", lower_bound=1)
MINUTES = flags.DEFINE_integer("minutes", 60, "Time limit of a job.", lower_bound=1)
LOGS = flags.DEFINE_string("logs", "results/slurm", "Folder of the jobs' logs.")
WAIT = flags.DEFINE_bool("wait", False, "Wait for all jobs; with --cluster=local always.")


def command_of(argv: list[str]) -> list[str]:
    """The experiment's command line, from what stands behind "--"."""
    known = sorted(p.stem for p in HERE.glob("*.py") if p.stem not in NO_EXPERIMENTS)
    name = argv[0] if argv else "none"
    if name not in known:
        sys.exit(f"slurm: the experiment must be one of {', '.join(known)}, got {name}")
    return [sys.executable, str(HERE / f"{name}.py"), *argv[1:]]


def main(argv: list[str]) -> None:
    command = command_of(argv[1:])
    try:
        import submitit
    except ImportError:
        sys.exit("slurm: submitit is missing, `uv run --extra cluster launch/slurm.py` brings it")
    executor = submitit.AutoExecutor(folder=LOGS.value, cluster=CLUSTER.value)
    wanted = dict(
        timeout_min=MINUTES.value,
        cpus_per_task=CPUS.value,
        gpus_per_node=GPUS.value,
        slurm_partition=PARTITION.value,
    )
    given = {name: value for name, value in wanted.items() if value is not None}
    executor.update_parameters(name=f"ntkreg-{argv[1]}", **given)
    with executor.batch():
        jobs = [
            executor.submit(submitit.helpers.CommandFunction(command)) for _ in range(JOBS.value)
        ]
    print(f"submitted {', '.join(job.job_id for job in jobs)}; logs go to {LOGS.value}")
    if WAIT.value or CLUSTER.value == "local":
        print(jobs[0].result())
        for job in jobs[1:]:
            job.result()  # raises what the job raised


if __name__ == "__main__":
    app.run(main)
