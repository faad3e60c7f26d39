"""Sweeps: every cell once, one compilation per shape, resume equal to an uninterrupted run."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import records, sweeps


def scaled(lam, seed, n):
    return {"value": lam * jnp.sum(jnp.arange(n)) + seed, "row": jnp.full(3, seed)}


GRID = {"lam": [0.5, 2.0], "n": [3, 4], "seed": range(3)}


def expected():
    sums = np.array([3.0, 6.0])
    return np.array([0.5, 2.0])[:, None, None] * sums[:, None] + np.arange(3)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 6, 100])
@pytest.mark.parametrize("num_workers", [1, 3])
def test_arrays_have_the_grid_s_shape_whatever_the_batches(batch_size, num_workers):
    record = sweeps.sweep(
        scaled, GRID, static=["n"], batch_size=batch_size, num_workers=num_workers
    )
    np.testing.assert_allclose(record.arrays["value"], expected())
    assert record.arrays["row"].shape == (2, 2, 3, 3)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_shape_is_traced_once(batch_size):
    traced = []

    def function(lam, seed, n):
        traced.append(n)
        return scaled(lam, seed, n)

    sweeps.sweep(function, GRID, static=["n"], batch_size=batch_size, num_workers=2)
    assert traced.count(3) == traced.count(4) == 1


def test_shapes_that_lower_to_one_program_share_it():
    def function(kind, seed):
        return {"value": seed * 2.0}

    runner = sweeps._Runner(
        sweeps.as_cell(function), [{"kind": k, "seed": 1} for k in "ab"], ("kind",)
    )
    first, second = (runner._stages((("kind", k),), {"seed": jnp.ones(1)}) for k in "ab")
    assert first.finish is second.finish


def test_shapes_with_other_constants_share_nothing():
    tables = {"a": jnp.arange(100.0), "b": jnp.arange(100.0) + 1}
    function = lambda kind, seed: {"value": jnp.sum(tables[kind] * seed)}
    record = sweeps.sweep(function, {"kind": ["a", "b"], "seed": [1]})
    np.testing.assert_allclose(record.arrays["value"][:, 0], [4950.0, 5050.0])


def random_walk(num_steps=50, stage_steps=7):
    """A cell of several stages whose lanes end at different times."""

    def prepare(point):
        return jax.random.key(point["seed"]), (jnp.zeros(()), jnp.int32(0))

    def advance(point, key, state, num_steps_now):
        last = jnp.minimum(state[1] + num_steps_now, num_steps + point["seed"])
        draw = lambda s: (s[0] + jax.random.normal(jax.random.fold_in(key, s[1])), s[1] + 1)
        state = jax.lax.while_loop(lambda s: s[1] < last, draw, state)
        return state, state[1] >= num_steps + point["seed"]

    finish = lambda point, key, state: {"end": state[0], "steps": state[1]}
    return sweeps.Cell(prepare, advance, finish, stage_steps)


def test_where_stages_fall_does_not_change_a_bit():
    ends = [
        sweeps.sweep(random_walk(stage_steps=s), {"seed": range(4)}, batch_size=2).arrays["end"]
        for s in (1, 7, 1000)
    ]
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_lanes_end_at_their_own_step():
    record = sweeps.sweep(random_walk(), {"seed": range(4)}, batch_size=4)
    np.testing.assert_array_equal(record.arrays["steps"], 50 + np.arange(4))


def test_a_resumed_sweep_computes_only_what_is_missing_and_equals_the_whole(tmp_path):
    whole = sweeps.sweep(random_walk(), {"seed": range(6)}, folder=tmp_path / "whole")
    sweeps.sweep(random_walk(), {"seed": range(6)}, folder=tmp_path / "cut")
    for chunk in (1, 4):
        records.chunk_path(tmp_path / "cut", chunk).unlink()
    kept = records.chunk_path(tmp_path / "cut", 0).stat().st_mtime_ns
    resumed = sweeps.sweep(random_walk(), {"seed": range(6)}, folder=tmp_path / "cut")
    np.testing.assert_array_equal(resumed.arrays["end"], whole.arrays["end"])
    assert records.chunk_path(tmp_path / "cut", 0).stat().st_mtime_ns == kept


def test_a_complete_record_runs_nothing(tmp_path):
    sweeps.sweep(scaled, GRID, static=["n"], folder=tmp_path)

    def never(**point):
        raise AssertionError("computed again")

    record = sweeps.sweep(never, GRID, static=["n"], folder=tmp_path)
    np.testing.assert_allclose(record.arrays["value"], expected())


def test_a_killed_sweep_resumes_to_the_same_bits(tmp_path):
    """kill -9 after the first chunks; then the same call, and an undisturbed one."""
    script = textwrap.dedent(
        f"""
        import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
        import jax; jax.config.update("jax_enable_x64", True)
        from test_sweeps import random_walk
        from ntkreg import sweeps
        import time
        cell = random_walk()
        slow = cell._replace(finish=lambda *a: (jax.debug.callback(lambda: time.sleep(0.05)),
                                                cell.finish(*a))[1])
        sweeps.sweep(slow, {{"seed": range(40)}}, folder={str(tmp_path / "cut")!r}, num_workers=2)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    while not records.chunk_path(tmp_path / "cut", 3).exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(list((tmp_path / "cut").glob("chunk-*.npz")))
    assert done < 40
    resumed = sweeps.sweep(random_walk(), {"seed": range(40)}, folder=tmp_path / "cut")
    whole = sweeps.sweep(random_walk(), {"seed": range(40)}, folder=tmp_path / "whole")
    np.testing.assert_array_equal(resumed.arrays["end"], whole.arrays["end"])


def test_the_first_error_ends_the_sweep(tmp_path):
    def function(lam):
        raise RuntimeError("from the cell")

    with pytest.raises(RuntimeError, match="from the cell"):
        sweeps.sweep(function, {"lam": [1.0, 2.0]}, folder=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"static": ["width"]}, r"static must name axes \(lam\), got 'width'"),
        ({"batch_size": -1}, "batch_size must be at least 1, got -1"),
        ({"num_workers": -2}, "num_workers must be at least 1, got -2"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sweeps.sweep(lambda lam: {"value": lam}, {"lam": [1.0]}, **options)
