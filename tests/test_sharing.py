"""Several processes at one record: each takes what is free, and a death costs little."""

import pathlib
import socket
import subprocess
import sys
import textwrap
import threading
import time

import kill_sweeps
import numpy as np
import pytest

from ntkreg import records, sharing

HERE = pathlib.Path(__file__).parent


def test_a_chunk_is_claimed_by_one_at_a_time_and_until_it_is_there(tmp_path):
    path = tmp_path / "chunk-000000.npz"
    with sharing.claimed(path) as first, sharing.claimed(path) as second:
        assert first and not second
    with sharing.claimed(path) as again:
        assert again
        path.write_bytes(b"")
    with sharing.claimed(path) as done:
        assert not done
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_is_cleared(tmp_path):
    (tmp_path / "chunk-000000.npzx.tmp").write_bytes(b"half")
    (tmp_path / "chunk-000001.npzx.tmp").write_bytes(b"another's")
    (tmp_path / f"{records.MANIFEST}x.tmp").write_bytes(b"half")
    with sharing.alone(tmp_path), sharing.claimed(tmp_path / "chunk-000000.npz"):
        left = {path.name for path in tmp_path.glob("*.tmp")}
    assert left == {"chunk-000001.npzx.tmp"}


def test_a_second_one_waits_while_the_first_opens(tmp_path, capsys):
    entered = []

    def second():
        with sharing.alone(tmp_path):
            entered.append(time.monotonic())

    with sharing.alone(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        left = time.monotonic()
    thread.join()
    assert entered[0] >= left and "waiting for another process" in capsys.readouterr().err


def two_processes(script, *arguments):
    """Two processes of one job on this host, which find each other at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    head = """
        import pathlib, sys, jax
        sys.path.insert(0, sys.argv[1])
        jax.config.update("jax_enable_x64", True)
        import kill_sweeps
        from ntkreg import sharing
        join = lambda identity: sharing.join(identity, coordinator_address=sys.argv[2],
                                             num_processes=2, process_id=int(sys.argv[3]))
        """
    source = textwrap.dedent(head) + textwrap.dedent(script)
    return [
        subprocess.Popen(
            [sys.executable, "-c", source, str(HERE), address, str(number), *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(2)
    ]  # fmt: skip


def test_of_two_processes_one_dies_and_the_other_finishes_the_record(tmp_path):
    script = """
        assert join("same") == (int(sys.argv[3]), 2)
        print("begun", flush=True)
        kill_sweeps.run(pathlib.Path(sys.argv[4]))
        """
    first, second = two_processes(script, tmp_path / "shared")
    first.stdout.readline()
    while not list((tmp_path / "shared").glob("chunk-*.npz")) and first.poll() is None:
        time.sleep(0.01)
    first.kill()
    assert second.wait(timeout=300) == 0, second.stderr.read()
    whole = kill_sweeps.run(tmp_path / "alone")
    found = records.load_record(tmp_path / "shared")
    for name, values in whole.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values)
    assert not list((tmp_path / "shared").glob("*.lock"))


def test_two_processes_share_the_chunks_and_both_return_the_whole_record(tmp_path):
    script = """
        join("same")
        written, write = [], kill_sweeps.records.write_chunk
        kill_sweeps.records.write_chunk = lambda *a: (written.append(a[1]), write(*a))
        record = kill_sweeps.run(pathlib.Path(sys.argv[4]))
        print(len(written), len(record.arrays["mean"].ravel()))
        """
    found = [p.communicate(timeout=300) for p in two_processes(script, tmp_path / "shared")]
    counts = np.array([list(map(int, out.splitlines()[-1].split())) for out, _ in found])
    num_chunks = len(records.read_manifest(tmp_path / "shared")["plan"]["chunks"])
    assert counts[:, 0].sum() == num_chunks and (counts[:, 0] > 0).all()
    assert (counts[:, 1] == 24).all()


def test_processes_of_different_code_or_configuration_are_all_told(tmp_path):
    script = """
        try:
            join(f"code of {sys.argv[3]}")
        except ValueError as error:
            print(error)
        """
    told = [p.communicate(timeout=300)[0] for p in two_processes(script)]
    for number, text in enumerate(told):
        assert (
            f"same in all 2 processes, those of {1 - number} differ from those of {number}" in text
        )


def test_without_a_job_joining_is_refused():
    with pytest.raises(ValueError, match="must be one of a job that JAX can read"):
        sharing.join("alone")
