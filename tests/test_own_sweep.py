"""The README's sweep as a researcher runs it: a script, resumed, and spread over devices."""

import os
import subprocess
import sys

import numpy as np
import pytest
from test_readme import BLOCKS

from ntkreg.records import load_record

(SCRIPT,) = [block for block in BLOCKS if "sweeps.sweep" in block]


def run_in(folder, num_devices=1):
    """The script as a file of the user's; the record that it leaves."""
    (folder / "my_script.py").write_text(SCRIPT)
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={num_devices}"}
    done = subprocess.run(
        [sys.executable, "my_script.py"],
        cwd=folder, env=os.environ | flags, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return load_record(folder / "my-sweep")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    return folder, run_in(folder)


def test_it_is_about_twenty_lines_and_plots(first):
    assert len([line for line in SCRIPT.splitlines() if line.strip()]) <= 22
    assert (first[0] / "my-sweep" / "margins.png").read_bytes().startswith(b"\x89PNG")
    assert first[1].arrays["margin"].shape == (2, 4, 3)
    assert not first[1].arrays["diverged"].any()


def test_a_deleted_chunk_alone_is_computed_again_to_the_same_bits(first):
    folder, record = first
    chunks = sorted((folder / "my-sweep").glob("chunk-*.npz"))
    assert len(chunks) > 1
    before = {path: path.stat().st_mtime_ns for path in chunks}
    chunks[0].unlink()
    again = run_in(folder)
    after = {path: path.stat().st_mtime_ns for path in chunks}
    assert {path for path in chunks if before[path] != after[path]} == {chunks[0]}
    np.testing.assert_array_equal(again.arrays["margin"], record.arrays["margin"])


def test_four_devices_give_the_bits_of_one(first, tmp_path):
    spread = run_in(tmp_path, num_devices=4)
    np.testing.assert_array_equal(spread.arrays["margin"], first[1].arrays["margin"])
