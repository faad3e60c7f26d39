"""The README's sweep as a researcher runs it: a script, resumed, and with several devices."""

import os
import pathlib
import subprocess
import sys

import pandas
import pytest
from test_readme import BLOCKS

(SCRIPT,) = [block for block in BLOCKS if "sweep(run" in block]


def run_in(folder: pathlib.Path, num_devices: int = 1) -> bytes:
    """The script as a file of the user's; the summary that it leaves."""
    (folder / "my_script.py").write_text(SCRIPT)
    given = os.environ.get("XLA_FLAGS", "")
    flags = {"XLA_FLAGS": f"{given} --xla_force_host_platform_device_count={num_devices}"}
    done = subprocess.run(
        [sys.executable, "my_script.py"],
        cwd=folder, env=os.environ | flags, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (folder / "my-sweep" / "summary.csv").read_bytes()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return folder, run_in(folder)


def test_it_is_about_twenty_lines_and_plots(first):
    folder, _ = first
    assert len([line for line in SCRIPT.splitlines() if line.strip()]) <= 22
    assert (folder / "margins.png").read_bytes().startswith(b"\x89PNG")
    table = pandas.read_csv(folder / "my-sweep" / "summary.csv")
    assert len(table) == 24 and table.failed.isna().all() and table.margin.notna().all()


@pytest.mark.slow
def test_a_deleted_batch_alone_is_computed_again_to_the_same_bytes(first):
    folder, summary = first
    deleted, *others = sorted((folder / "my-sweep" / "batches").glob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in others}
    deleted.unlink()
    assert run_in(folder) == summary
    # The points of the deleted file may be split otherwise, where time passed between them.
    assert others and before == {path: path.stat().st_mtime_ns for path in others}


@pytest.mark.slow
def test_four_devices_give_the_bytes_of_one(first, tmp_path):
    assert run_in(tmp_path, num_devices=4) == first[1]
