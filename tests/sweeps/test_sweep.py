"""Sweeps: the same as jit, vmap and a pool; kept, resumed, refused; on threads and elsewhere."""

import concurrent.futures
import functools
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg.sweeps import Refused, grid, load, programs, sweep

POINTS = grid(num=[3, 5], seed=range(4), lam=[0.5, 2.0])


def walk(num, seed, lam):
    """The end of a random walk, in arrays whose shape is static."""
    key = jax.random.key(seed)
    move = lambda i, x: jnp.sin(x + lam * jax.random.normal(jax.random.fold_in(key, i), (num,)))
    end = jax.lax.fori_loop(0, 20, move, jnp.zeros(num))
    return {"mean": jnp.mean(end), "end": end}


def swept(folder=None, **options):
    return sweep(walk, POINTS, folder, static_argnames="num", **options)


def assert_same(table, other):
    assert list(table) == list(other)
    for name in table:
        for one, two in zip(table[name], other[name], strict=True):
            np.testing.assert_array_equal(one, two)


def batch_files(folder):
    return sorted(folder.glob("batches/*.npz"))


def test_a_table_has_the_axes_the_results_and_what_failed():
    table = swept()
    assert list(table) == ["num", "seed", "lam", "mean", "end", "failed"]
    assert table[["num", "seed", "lam"]].to_dict("records") == POINTS
    assert (table.failed == "").all()
    jitted = jax.jit(walk, static_argnames="num")
    for point, end in zip(POINTS, table.end, strict=True):
        np.testing.assert_array_equal(end, jitted(**point)["end"])


def text_of(lowered):
    """A compiled program's instructions, without what they and their places are called."""
    text = lowered.compile().as_text()
    text = text[text.index("\n%") :] if "\n%" in text else text[text.index("ENTRY") :]
    text = re.sub(r"\b[a-z]+__(\w+?)__", r"\1", text)  # an argument by keyword
    return re.sub(r",? ?metadata=\{[^}]*\}|(?<=ENTRY )%?[\w.-]+", "", text)


def work(run, **traced):
    return programs.Work(run, traced, False, "", (True, "highest"))


def test_what_runs_on_a_cpu_is_jit_of_the_function():
    lam, point = np.dtype("float64"), dict(num=3, seed=0, lam=0.5)
    _, own = programs.lowered(work(walk, seed=np.dtype("int64"), lam=lam), point, 0)
    shapes = dict(seed=jax.ShapeDtypeStruct((), int), lam=jax.ShapeDtypeStruct((), float))
    plain = jax.jit(functools.partial(walk, num=3)).lower(**shapes)
    assert text_of(own) == text_of(plain)


def test_what_runs_in_batches_is_jit_of_vmap():
    point = dict(num=3, seed=0, lam=0.5)
    _, own = programs.lowered(work(walk, seed=np.dtype(int), lam=np.dtype(float)), point, 8)
    of_all = lambda **points: jax.vmap(lambda point: walk(3, **point))(points)
    shapes = dict(seed=jax.ShapeDtypeStruct((8,), int), lam=jax.ShapeDtypeStruct((8,), float))
    assert text_of(own) == text_of(jax.jit(of_all).lower(**shapes))


def test_every_combination_of_static_values_is_compiled_once(tmp_path):
    once = lambda num, seed: {"mean": jnp.zeros(num).sum() + seed}
    sweep(once, grid(num=[3, 5], seed=range(20)), tmp_path, static_argnames=["num"])
    assert json.loads((tmp_path / "run.json").read_text())["programs"] == 2


def test_programs_that_host_runs_compile_are_counted(tmp_path):
    jitted = jax.jit(lambda x: jnp.sin(x).sum())
    sweep(lambda num: {"sum": jitted(np.zeros(num))}, grid(num=[3, 5, 3, 5]), tmp_path, host=True)
    assert json.loads((tmp_path / "run.json").read_text())["programs"] == 2


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_batches_give_what_single_points_give(batch_size):
    table, single = swept(batch_size=batch_size), swept()
    np.testing.assert_allclose(table["mean"], single["mean"], rtol=1e-12)
    assert len(table) == len(POINTS)


def test_a_batch_is_halved_where_memory_runs_out(monkeypatch):
    compiled, sizes = programs.compiled, []

    def small(work, point, size):
        sizes.append(size)
        if size > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
        return compiled(work, point, size)

    monkeypatch.setattr(programs, "compiled", small)
    np.testing.assert_allclose(swept(batch_size=8)["mean"], swept()["mean"], rtol=1e-12)
    assert sizes[:3] == [8, 4, 2]


def test_a_program_larger_than_the_memory_is_refused_before_it_runs(monkeypatch):
    monkeypatch.setattr(programs, "memory_free", lambda: 2**30)
    large = lambda num, x: {"sum": jnp.sort(x + jnp.arange(float(num))).sum()}
    with pytest.raises(MemoryError, match=r"num=300000000 needs .* GiB on .*, which has 1.0 GiB"):
        sweep(large, [{"num": 300_000_000, "x": 1.0}], static_argnames="num")
    assert sweep(large, [{"num": 3, "x": 1.0}], static_argnames="num")["sum"][0] == 6.0


def test_points_that_are_not_finite_are_marked_and_the_others_go_on(capsys):
    table = sweep(lambda x: {"root": jnp.sqrt(x)}, grid(x=[4.0, -1.0, 9.0]))
    assert table.failed.tolist() == ["", "not finite", ""]
    assert table.root.tolist()[::2] == [2.0, 3.0]
    assert "1 of 3 points failed, rows 1: not finite" in capsys.readouterr().err


def fragile(n, name):
    if n == 2:
        raise ValueError("n must not be 2, got 2")
    return {"type": type(n).__name__, "value": n * len(name), **({"odd": 1.0} if n % 2 else {})}


def test_host_runs_get_python_values_and_their_errors_are_kept(tmp_path):
    points = [{"n": n, "name": "ab"} for n in (1, 2, 4)]
    for table in (sweep(fragile, points, tmp_path, host=True), load(tmp_path)):
        assert table.failed.tolist() == ["", "ValueError: n must not be 2, got 2", ""]
        assert table.type.tolist()[::2] == ["int", "int"]
        assert table.value.tolist()[::2] == [2, 8] and np.isnan(table.odd[2])


def test_a_run_that_gives_no_dict_is_refused():
    with pytest.raises(ValueError, match="run must return a dict of arrays, got"):
        sweep(lambda x: x, grid(x=[1.0]))


def test_a_fault_in_a_compiled_run_is_raised():
    def faulty(x):
        raise KeyError("no such thing")

    with pytest.raises(KeyError, match="no such thing"):
        sweep(faulty, grid(x=[1.0]))


# On disk.


def test_the_same_sweep_gives_the_same_bytes_and_is_read_as_it_was(tmp_path):
    first, second = swept(tmp_path / "a"), swept(tmp_path / "b")
    for name in ("summary.csv", "arrays.npz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert_same(first, second)
    read = load(tmp_path / "a")[list(first)]
    np.testing.assert_allclose(read["mean"], first["mean"], rtol=1e-7)
    assert_same(read[["num", "end", "failed"]], first[["num", "end", "failed"]])


def test_arrays_come_back_in_their_shapes(tmp_path):
    run = lambda n: {"line": np.arange(n), "table": np.ones((1, n))}
    sweep(run, grid(n=[1, 2]), tmp_path, host=True)
    assert [a.shape for a in load(tmp_path).line] == [(1,), (2,)]
    assert [a.shape for a in load(tmp_path)["table"]] == [(1, 1), (1, 2)]


def test_what_is_missing_is_computed_and_the_rest_is_kept(tmp_path):
    whole = swept(tmp_path / "whole")
    swept(tmp_path / "cut")
    removed, *kept = batch_files(tmp_path / "cut")
    removed.unlink()
    times = [path.stat().st_mtime_ns for path in kept]
    assert_same(swept(tmp_path / "cut"), whole)
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_a_finished_sweep_runs_nothing_again(tmp_path, monkeypatch):
    first, left = swept(tmp_path), (tmp_path / "run.json").read_bytes()
    monkeypatch.setattr(programs, "compiled", None)
    assert_same(swept(tmp_path), first)
    assert (tmp_path / "run.json").read_bytes() == left  # seconds and command of what was run


def test_a_folder_of_another_run_is_refused_by_what_differs(tmp_path):
    make = lambda rate: lambda x: {"y": rate * x}
    sweep(make(0.1), grid(x=[1.0, 2.0]), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(Refused, match=r"its .*rate is 0\.1, this one's 0\.2"):
        sweep(make(0.2), grid(x=[1.0, 2.0]), tmp_path)
    with pytest.raises(Refused, match=r"its points is 2 points .*, this one's 1 points"):
        sweep(make(0.1), grid(x=[1.0]), tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_foreign_and_damaged_files_are_refused(tmp_path):
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches" / "mine.txt").write_text("mine")
    with pytest.raises(Refused, match="has a sweep's batches but no identity"):
        swept(tmp_path)
    with pytest.raises(ValueError, match="folder must hold a finished sweep"):
        load(tmp_path)
    swept(tmp_path / "own")
    batch_files(tmp_path / "own")[0].write_bytes(b"PK")
    with pytest.raises(Refused, match="is damaged"):
        swept(tmp_path / "own")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"out must be a folder, got the file .*/file"):
        swept(tmp_path / "file" / "inside")


@pytest.mark.parametrize("size", [0, -1])
def test_a_bad_batch_size_is_named(size):
    with pytest.raises(ValueError, match=f"batch_size must be at least 1, got {size}"):
        swept(batch_size=size)


# In other processes.


def in_a_process(body, *arguments, **environment):
    script = "from test_sweep import *\n" + textwrap.dedent(body)
    paths = os.pathsep.join([str(pathlib.Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths, "JAX_ENABLE_X64": "1",
             "JAX_DEFAULT_MATMUL_PRECISION": "highest", **environment},
    )  # fmt: skip


def ended(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def slowly(num, seed, lam):
    time.sleep(0.2)
    return {"end": np.full(num, seed * lam)}


SLOWLY = "sweep(slowly, POINTS, sys.argv[1], host=True)"


def test_a_killed_sweep_goes_on_to_the_same_table(tmp_path):
    child = in_a_process(SLOWLY, tmp_path / "cut")
    deadline = time.monotonic() + 120
    while not batch_files(tmp_path / "cut") and time.monotonic() < deadline:
        time.sleep(0.01)
    child.kill()
    child.communicate()
    done = len(batch_files(tmp_path / "cut"))
    found = sweep(slowly, POINTS, tmp_path / "cut", host=True)
    assert done and not (tmp_path / "cut" / "batches" / "0000000-0000015.npz").exists()
    assert_same(found, sweep(slowly, POINTS, host=True))


@pytest.mark.slow
def test_fifty_kills_at_any_moment_leave_fifty_equal_tables(tmp_path):
    whole, moments, cut = sweep(slowly, POINTS, host=True), random.Random(0), 0
    for number in range(50):
        folder = tmp_path / str(number)
        child = in_a_process("print('begun', flush=True)\n" + SLOWLY, folder)
        child.stdout.readline()
        time.sleep(2.0 * (number + moments.random()) / 50)  # what the whole takes, and more
        child.kill()
        child.communicate()
        cut += 0 < len(batch_files(folder)) < len(POINTS)
        assert_same(sweep(slowly, POINTS, folder, host=True), whole)
        assert_same(load(folder)[["end"]], whole[["end"]])
    assert cut >= 10, "too few kills met the sweep at work"


def large(seed):
    return {"a": jnp.zeros(9000) + seed}


def test_a_full_disk_is_told_and_loses_nothing(tmp_path):
    """A limit on the size of files stands in for the disk; without it the run goes on."""
    body = """
        import resource, signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        sweep(large, grid(seed=range(3)), sys.argv[1])
        """
    full = in_a_process(body, tmp_path)
    _, said = full.communicate(timeout=300)
    assert full.returncode != 0 and "File too large" in said and ".npz" in said
    assert not list(tmp_path.rglob("*.tmp")) and not batch_files(tmp_path)
    sweep(large, grid(seed=range(3)), tmp_path)
    assert [a[0] for a in load(tmp_path)["a"]] == [0, 1, 2]


def test_several_devices_share_a_batch():
    body = """
        assert jax.device_count() == 4
        table = swept(batch_size=8)
        print(",".join(repr(float(v)) for v in table["mean"]))
        """
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    out = ended(in_a_process(body, XLA_FLAGS=flags))
    np.testing.assert_allclose([float(v) for v in out.split(",")], swept()["mean"], rtol=1e-12)


def test_processes_of_a_job_share_the_batches(tmp_path):
    body = """
        jax.distributed.initialize(sys.argv[2], 2, int(sys.argv[3]))
        table = swept(sys.argv[1])
        print("rows", len(table), int((table.failed == "").sum()))
        """
    port = 20_000 + os.getpid() % 20_000
    own = [in_a_process(body, tmp_path, f"localhost:{port}", index) for index in range(2)]
    for process in own:
        assert f"rows {len(POINTS)} {len(POINTS)}" in ended(process)
    assert_same(load(tmp_path)[["end"]], swept()[["end"]])


@pytest.mark.slow
def test_a_pool_of_processes_runs_the_batches(tmp_path):
    body = """
        import concurrent.futures, multiprocessing
        if __name__ == "__main__":
            spawned = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(2, spawned) as pool:
                sweep(walk, POINTS, sys.argv[1], static_argnames="num", executor=pool)
        """
    ended(in_a_process(body, tmp_path))
    assert_same(load(tmp_path)[["end"]], swept()[["end"]])


@pytest.mark.slow
def test_a_cluster_of_dask_runs_the_batches(tmp_path):
    body = """
        from distributed import Client, LocalCluster
        if __name__ == "__main__":
            with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
                with Client(cluster) as client:
                    sweep(walk, POINTS, sys.argv[1], static_argnames="num", executor=client)
        """
    ended(in_a_process(body, tmp_path))
    assert_same(load(tmp_path)[["end"]], swept()[["end"]])


def test_a_pool_of_threads_that_was_handed_over_stays_open():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        table = swept(executor=pool)
        assert pool.submit(lambda: 1).result() == 1
    assert_same(table, swept())


def test_host_runs_begin_with_one_of_each_static_combination():
    begun = []
    run = lambda n, seed: begun.append(n) or {"size": n}
    points = grid(n=[3, 5], seed=range(3))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        table = sweep(run, points, static_argnames="n", host=True, executor=pool)
    assert begun == [3, 5, 3, 5, 3, 5]
    assert table["size"].tolist() == [point["n"] for point in points]


def test_a_batch_is_not_filled_beyond_the_points_of_its_shape(monkeypatch):
    sizes, lowered = [], programs.lowered
    noted = lambda work, point, size: sizes.append(size) or lowered(work, point, size)
    monkeypatch.setattr(programs, "lowered", noted)
    assert len(sweep(lambda x: {"y": 2 * x}, grid(x=[1.0, 2.0, 3.0]), batch_size=64)) == 3
    assert sizes == [3]
