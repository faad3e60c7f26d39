"""The launchers as a person runs them: results, resume after a kill, one line for an error."""

import json
import signal
import subprocess
import time

import pandas
import pytest
from launchers import command, launched, launched_here

from ntkreg.experiments.separation import EXPERIMENT

# Two predictors in one dimension: enough to see every file and the resume, in seconds.
TINY = [
    "--preset=smoke",
    "--predictors=net_small_init,ntk_svm",
    "--sizes_over_d=1",
    "--num_seeds=4",
]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    out = tmp_path_factory.mktemp("tiny") / "results" / "separation" / "laptop"
    done = launched(*TINY, f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_summary_has_a_row_for_every_point(tiny):
    table = pandas.read_csv(tiny[0] / "summary.csv")
    wanted = ["predictor", "dim", "num_samples", "seed", "test_error", "normalized_margin"]
    assert set(wanted) <= set(table.columns)
    assert len(table) == 4 * 3  # the network at n = d; the NTK at n = d and d²
    assert table[["test_error", "normalized_margin"]].notna().all().all()
    assert table.test_error.between(0, 1).all()
    assert (table[table.predictor == "ntk_svm"].residual < 1e-6).all()


def test_run_json_tells_where_the_numbers_come_from(tiny):
    run = json.loads((tiny[0] / "run.json").read_text())
    assert {"config", "versions", "hardware", "git", "seconds", "command", "claims"} <= set(run)
    assert run["config"]["predictors"] == ["net_small_init", "ntk_svm"]
    assert run["seconds"] > 0


def test_the_terminal_shows_the_claim_its_checks_and_where_the_picture_lies(tiny):
    assert "The NTK's max-margin predictor" in tiny[1] and "undecided" in tiny[1]
    assert "must be" in tiny[1] and "≥ 0.25" in tiny[1]
    assert tiny[1].rstrip().endswith("figure.png")
    assert (tiny[0] / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert (tiny[0] / "figure.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_files_byte_for_byte(tiny, tmp_path):
    process = subprocess.Popen(
        command(*TINY, f"--out={tmp_path}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not list(tmp_path.glob("batches/*.npz")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "summary.csv").exists()
    assert launched(*TINY, f"--out={tmp_path}").returncode == 0
    for name in ("summary.csv", "arrays.npz", "figure.png", "figure.pdf"):
        assert (tmp_path / name).read_bytes() == (tiny[0] / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--dims=2"], ["dims", "2"]),
        (["--width=0"], ["width", "0"]),
        (["--width=wide"], ["width", "wide"]),
        (["--lams=1e-3,nan"], ["lams", "nan"]),
        (["--predictors=forest"], ["predictors", "forest"]),
        (["--preset=huge"], ["preset", "huge"]),
        (["--out=/dev/null/here"], ["out", "/dev/null/here"]),
        (["leftover"], ["leftover"]),
        (["--distributed"], ["--distributed", "a job that JAX can read"]),
    ],
)
def test_bad_input_ends_in_one_line_that_names_it(flags, parts):
    """As a command where it is the process that matters."""
    flags = flags if any(f.startswith("--out") for f in flags) else [*flags, "--out=/dev/null/x"]
    own = "--distributed" in flags
    done = launched(*flags) if own else launched_here(EXPERIMENT, *flags)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("separation: ")
    assert all(part in done.stderr for part in parts)


def test_a_folder_with_another_run_is_refused(tiny):
    before = (tiny[0] / "summary.csv").read_bytes()
    done = launched_here(EXPERIMENT, *TINY, "--width=17", f"--out={tiny[0]}")
    assert done.returncode == 2
    assert "width is 16, this one's 17" in done.stderr
    assert (tiny[0] / "summary.csv").read_bytes() == before


def test_a_dry_run_says_points_and_time_and_writes_nothing(tmp_path):
    done = launched_here(EXPERIMENT, *TINY, "--dry_run", f"--out={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    assert "12 points" in done.stdout and "about 0:" in done.stdout
    assert "3 of 3 kinds" in done.stdout
    assert not (tmp_path / "out").exists()


def test_reproduce_writes_the_table_of_claims(tiny):
    results = tiny[0].parents[1]
    assert launched(f"--results={results}", name="reproduce").returncode == 0
    lines = (results / "README.md").read_text().splitlines()
    kernel, others = (
        [line for line in lines if statement in line]
        for statement in ("The NTK's max-margin predictor", "a network learns D from O(d)")
    )
    assert "| undecided | [separation](separation/README.md), laptop |" in kernel[0]
    assert "uv run launch/separation.py" in others[0]
    page = (results / "separation" / "README.md").read_text()
    assert "separation.py --preset=smoke" in page and "figure.png" in page
