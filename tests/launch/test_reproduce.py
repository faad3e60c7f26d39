"""The whole table from one command, and the one that is committed beside its records."""

import pathlib

import pytest
from launchers import launched

from ntkreg.experiments import _report

RESULTS = pathlib.Path(__file__).parents[2] / "results"


@pytest.mark.slow
def test_every_experiment_runs_at_smoke_and_its_claims_stand_in_the_table(smoke_results):
    done = launched("--preset=smoke", f"--results={smoke_results}", name="reproduce")
    assert done.returncode == 0, done.stderr
    for number, name in enumerate(_report.EXPERIMENTS, 1):
        assert f"[{number} of {len(_report.EXPERIMENTS)}" in done.stdout
        left = {path.name for path in (smoke_results / name / "smoke").iterdir()}
        assert {"summary.csv", "run.json", "figure.png"} <= left
    rows = [line for line in (smoke_results / "smoke.md").read_text().splitlines() if "|" in line]
    claims = [len(_report.experiment(name).statements) for name in _report.EXPERIMENTS]
    assert 2 + sum(claims) * 0.8 < len(rows) <= 2 + sum(claims)


def test_the_committed_table_is_that_of_the_committed_records():
    assert (RESULTS / "README.md").read_text() == _report.page(RESULTS)


@pytest.mark.slow
def test_an_experiment_that_fails_is_named_after_the_others_have_run(tmp_path):
    blocked = tmp_path / "certify" / "smoke"
    blocked.parent.mkdir()
    blocked.write_text("")  # a file where the folder should be
    flags = ["--preset=smoke", f"--results={tmp_path}", "--only=certify,approximate", "--jobs=2"]
    done = launched(*flags, name="reproduce")
    assert done.returncode == 1 and "reproduce: certify ended in an error" in done.stderr
    assert "s] certify\ncertify: " in done.stdout  # its own error, below its name
    assert (tmp_path / "approximate" / "smoke" / "summary.csv").is_file()
    assert "\nNot run:\n" in (tmp_path / "smoke.md").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset=smoke", "--only=forest"], "only must name experiments (separation, "),
        pytest.param(["leftover"], "arguments must be flags, got leftover", marks=pytest.mark.slow),
    ],
)
def test_bad_input_is_named_in_one_line(flags, message, tmp_path):
    done = launched(*flags, f"--results={tmp_path}", name="reproduce")
    assert done.returncode == 1 and done.stderr.startswith(f"reproduce: {message}")
    assert len(done.stderr.strip().splitlines()) == 1
