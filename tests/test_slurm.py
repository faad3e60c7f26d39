"""The array of jobs, with submitit's executor for this machine in place of a scheduler's."""

import subprocess
import sys

import pandas
from test_launch import LAUNCH, TINY

from ntkreg import records


def submitted(*arguments, cwd):
    return subprocess.run(
        [sys.executable, LAUNCH / "slurm.py", *arguments], capture_output=True, text=True, cwd=cwd
    )


def test_two_jobs_share_one_record_and_its_results_are_there(tmp_path):
    done = submitted(
        "--cluster=local", "--jobs=2", "--logs=logs", "--", "separation", *TINY,
        "--predictors=ntk_svm", "--out=out",  # of a flag that stands twice the last one counts
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "results go to out" in done.stdout
    plan = records.read_manifest(tmp_path / "out/record")["plan"]
    assert not records.missing_chunks(tmp_path / "out/record", plan)
    rows = pandas.read_csv(tmp_path / "out/summary.csv")
    assert rows.test_error.notna().all() and (tmp_path / "out/figure.png").exists()
    assert len(list((tmp_path / "logs").glob("*_result.pkl"))) == 2


def test_an_experiment_that_is_none_is_named(tmp_path):
    done = submitted("--cluster=local", "--", "forest", cwd=tmp_path)
    assert done.returncode != 0 and done.stderr.startswith("slurm: the experiment must be one of")
    assert done.stderr.strip().endswith("got forest") and "separation" in done.stderr
