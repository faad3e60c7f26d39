"""What sweeps keep on disk: resume to the same bits, and nothing lost where something fails."""

import errno
import os
import subprocess
import sys
import textwrap

import kill_sweeps
import numpy as np
import pytest
from test_sweeps import GRID, expected, random_walk, scaled

from ntkreg import chunks, records, sweeps


def test_a_resumed_sweep_computes_only_what_is_missing_and_equals_the_whole(tmp_path):
    whole = sweeps.sweep(random_walk(), {"seed": range(6)}, folder=tmp_path / "whole")
    sweeps.sweep(random_walk(), {"seed": range(6)}, folder=tmp_path / "cut")
    for chunk in (1, 4):
        records.chunk_path(tmp_path / "cut", chunk).unlink()
    kept = records.chunk_path(tmp_path / "cut", 0).stat().st_mtime_ns
    resumed = sweeps.sweep(random_walk(), {"seed": range(6)}, folder=tmp_path / "cut")
    np.testing.assert_array_equal(resumed.arrays["end"], whole.arrays["end"])
    assert records.chunk_path(tmp_path / "cut", 0).stat().st_mtime_ns == kept


def test_a_complete_record_runs_nothing(tmp_path, monkeypatch):
    sweeps.sweep(scaled, GRID, static=["n"], folder=tmp_path)

    def never(*args):
        raise AssertionError("computed again")

    monkeypatch.setattr(chunks.Work, "__call__", never)
    record = sweeps.sweep(scaled, GRID, static=["n"], folder=tmp_path)
    np.testing.assert_allclose(record.arrays["value"], expected())


def test_the_record_of_another_function_is_refused(tmp_path):
    sweeps.sweep(scaled, GRID, static=["n"], folder=tmp_path)
    with pytest.raises(ValueError, match=r"its code is \w+, this one's \w+"):
        sweeps.sweep(kill_sweeps.kill_and_resume, GRID, static=["n"], folder=tmp_path)


def test_sweeps_killed_at_random_moments_resume_to_the_same_bits(tmp_path):
    """Three here; `python tests/kill_sweeps.py` does it two hundred times."""
    counts = kill_sweeps.kill_and_resume(3, tmp_path, seed=0)
    assert counts["different"] == 0
    assert counts["during"] >= 1, "no kill met the sweep at work"


def test_a_read_only_folder_is_told_and_keeps_what_is_there(tmp_path, monkeypatch):
    """The first file that is tried in it gives the error; root could write past permissions."""
    sweeps.sweep(random_walk(), {"seed": range(2)}, folder=tmp_path)
    (tmp_path / "chunk-000000.npz").unlink()  # so that there is something left to do
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(records.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(ValueError, match=f"folder to write in, got {tmp_path}.*Read-only"):
        sweeps.sweep(random_walk(), {"seed": range(2)}, folder=tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    """A limit on the size of files stands in for the disk; without it the run goes on."""
    script = textwrap.dedent(
        f"""
        import resource, signal, sys, jax.numpy as jnp
        from ntkreg import sweeps
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
        sweeps.sweep(lambda seed: {{"a": jnp.zeros(4000) + seed}}, {{"seed": range(3)}},
                     folder={str(tmp_path)!r}, batch_size=1, num_workers=1)
        """
    )
    run = lambda limit: subprocess.run(
        [sys.executable, "-c", script, str(limit)], capture_output=True, text=True
    )
    full = run(3000)
    assert full.returncode != 0
    assert "File too large" in full.stderr and "chunk-000000.npz" in full.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock", records.MANIFEST]
    manifest = (tmp_path / records.MANIFEST).read_bytes()
    assert run(10**6).returncode == 0
    assert (tmp_path / records.MANIFEST).read_bytes() == manifest
    np.testing.assert_array_equal(records.load_record(tmp_path).arrays["a"][:, 0], range(3))
