"""An experiment's batches as jobs, with submitit's executor for this machine for a scheduler's."""

import pandas
import pytest
from launchers import launched


@pytest.mark.slow
def test_batches_are_jobs_and_the_results_are_those_of_this_process(tmp_path):
    flags = ["--cluster=local", "--preset=smoke", "--out=out", "--problems=random:2:8:enumerate"]
    done = launched("certify", *flags, name="slurm", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "results go to out" in done.stdout
    rows = pandas.read_csv(tmp_path / "out/summary.csv")
    assert rows.failed.isna().all() and (rows.gap <= 1e-6).all() and len(rows) == 2
    assert len(list((tmp_path / "results/slurm").glob("*_result.pkl"))) == 2


def test_an_experiment_that_is_none_is_named():
    done = launched("forest", name="slurm")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.strip() == "slurm: the first argument must be an experiment, got forest"
