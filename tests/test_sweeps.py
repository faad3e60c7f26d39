"""Sweeps: every cell once, one compilation per shape, equal bits however they are batched."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import chunks, lanes, records, sweeps
from ntkreg._compat import quick_compilation
from ntkreg.cells import chosen


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


def test_a_static_coordinate_chooses_the_cell():
    options = {
        "sum": lambda kind, x: {"value": x + 1.0},
        "product": lambda kind, x: {"value": 2 * x},
    }
    grid = {"kind": list(options), "x": [3.0, 5.0]}
    record = sweeps.sweep(chosen("kind", options), grid, batch_size=1)
    np.testing.assert_array_equal(record.arrays["value"], [[4.0, 6.0], [6.0, 10.0]])


@pytest.fixture
def compilations(monkeypatch):
    """The options of the programs compiled so far."""
    quick_compilation("cpu")  # asked once for all, by compiling
    compiled, compile = [], jax.stages.Lowered.compile

    def counting(lowered, compiler_options):
        compiled.append(compiler_options)
        return compile(lowered, compiler_options)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counting)
    return compiled


@pytest.mark.parametrize("batch_size", [1, 4])
def test_each_shape_is_compiled_once(batch_size, compilations):
    """prepare, advance and finish; six lanes of each n."""
    sweeps.sweep(scaled, GRID, static=["n"], batch_size=batch_size, num_workers=2)
    assert len(compilations) == 3 + 1  # only prepare differs between the shapes


@pytest.mark.parametrize(("num_points", "num_merges"), [(2, 0), (3, 1), (7, 1)])
def test_what_merges_lanes_is_compiled_once_where_they_are_refilled(
    num_points, num_merges, compilations
):
    programs = lanes.Programs(sweeps.as_cell(scaled), ["n"], jax.devices()[:1])
    points = [{"lam": 0.5, "n": 3, "seed": seed} for seed in range(num_points)]
    (found,) = lanes.run_lanes(programs, [points], num_lanes=2)
    np.testing.assert_array_equal(found["value"], 1.5 + np.arange(num_points))
    assert len(compilations) == 3 + num_merges


def test_shapes_that_lower_to_one_program_share_it():
    def function(kind, seed):
        return {"value": seed * 2.0}

    programs = lanes.Programs(sweeps.as_cell(function), ["kind"], jax.devices()[:1])
    first, second = (
        programs.stages((("kind", k),), {"seed": jnp.ones(1)}, num_lanes=1) for k in "ab"
    )
    assert first.prepare is second.prepare and first.finish is second.finish


def test_shapes_with_other_constants_share_nothing():
    tables = {"a": jnp.arange(100.0), "b": jnp.arange(100.0) + 1}
    function = lambda kind, seed: {"value": jnp.sum(tables[kind] * seed)}
    record = sweeps.sweep(function, {"kind": ["a", "b"], "seed": [1]})
    np.testing.assert_allclose(record.arrays["value"][:, 0], [4950.0, 5050.0])


def test_shapes_that_call_back_other_functions_share_nothing():
    """The text of a lowered program does not hold what runs on the host."""
    on_host = {"a": lambda seed: seed + 1.0, "b": lambda seed: seed + 2.0}

    def function(kind, seed):
        result = jax.ShapeDtypeStruct((), float)
        return {"value": jax.pure_callback(on_host[kind], result, 1.0 * seed)}

    record = sweeps.sweep(function, {"kind": ["a", "b"], "seed": [1]}, batch_size=1)
    np.testing.assert_allclose(record.arrays["value"][:, 0], [2.0, 3.0])


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


def test_only_what_takes_the_steps_is_compiled_to_run_fast(compilations):
    quick = quick_compilation(jax.default_backend())
    sweeps.sweep(random_walk(), {"seed": [0, 1]}, batch_size=2, num_workers=1)
    assert compilations == [quick, {}, quick]  # prepare, advance, finish


def test_a_function_is_compiled_to_run_fast_whatever_its_results_are(compilations):
    weak, whole = (lambda seed: {"value": 2.0, "number": seed + 1}), {"seed": range(3)}
    record = sweeps.sweep(weak, whole, batch_size=1, num_workers=1)
    np.testing.assert_array_equal(record.arrays["value"], [2.0, 2.0, 2.0])
    np.testing.assert_array_equal(record.arrays["number"], [1, 2, 3])
    assert compilations[1] == {}


def test_lanes_end_at_their_own_step():
    record = sweeps.sweep(random_walk(), {"seed": range(4)}, batch_size=4)
    np.testing.assert_array_equal(record.arrays["steps"], 50 + np.arange(4))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_refilled_lanes_give_what_single_ones_give(batch_size):
    """Ten lanes of very different lengths through few places."""
    lengths = jnp.asarray([1, 90, 5, 60, 2, 2, 40, 1, 7, 30])

    def prepare(point):
        return (), (jnp.zeros(()), jnp.int32(0))

    def advance(point, context, state, num_steps):
        end = jnp.minimum(state[1] + num_steps, lengths[point["seed"]])
        step = lambda s: (jnp.sin(s[0]) + point["seed"], s[1] + 1)
        state = jax.lax.while_loop(lambda s: s[1] < end, step, state)
        return state, state[1] >= lengths[point["seed"]]

    finish = lambda point, context, state: {"end": state[0], "steps": state[1]}
    cell = sweeps.Cell(prepare, advance, finish, stage_steps=10)
    record = sweeps.sweep(cell, {"seed": range(10)}, batch_size=batch_size, num_workers=1)
    np.testing.assert_array_equal(record.arrays["steps"], lengths)
    single = sweeps.sweep(cell, {"seed": range(10)}, batch_size=1)
    np.testing.assert_allclose(record.arrays["end"], single.arrays["end"], rtol=1e-12)


def test_done_lanes_retire_early():
    """Eight lanes in four places, one of them long: a stage is not run for every lane's longest."""
    looks = []

    def advance(point, context, state, num_steps):
        jax.debug.callback(lambda seed: looks.append(int(seed)), point["seed"])
        length = jnp.where(point["seed"] == 0, 12, 1)
        return state + 1, state + 1 >= length

    cell = sweeps.Cell(
        lambda point: ((), jnp.int32(0)), advance, lambda p, c, state: {"steps": state}
    )
    record = sweeps.sweep(cell, {"seed": range(8)}, batch_size=4, num_workers=1)
    jax.effects_barrier()
    assert record.arrays["steps"][0] == 12 and (record.arrays["steps"][1:] >= 1).all()
    assert looks.count(5) <= 3  # it left; it did not run beside lane 0 to the end


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_nan_lane_is_marked_and_stops_no_other(batch_size):
    def function(lam):
        return {"value": jnp.log(lam)}

    record = sweeps.sweep(function, {"lam": [1.0, -1.0, 2.0]}, batch_size=batch_size)
    np.testing.assert_array_equal(record.arrays["diverged"], [False, True, False])
    np.testing.assert_allclose(record.arrays["value"][[0, 2]], np.log([1.0, 2.0]))


def test_a_nan_lane_ends_its_run():
    """A loop that waits for its state to pass a bound would wait for NaN for ever."""
    advance = lambda point, context, state, num_steps: (state * point["rate"], state > 1e3)
    cell = sweeps.Cell(lambda p: ((), jnp.ones(())), advance, lambda p, c, s: {"end": s})
    record = sweeps.sweep(cell, {"rate": [10.0, np.nan]})
    np.testing.assert_array_equal(record.arrays["diverged"], [False, True])


DEVICES = """
    import sys; sys.path.insert(0, {tests!r})
    import jax, numpy as np
    from test_sweeps import random_walk
    from ntkreg import sweeps
    assert jax.device_count() == 4
    for batch_size in (1, 2):
        grid = {{"seed": range(11)}}
        one = sweeps.sweep(random_walk(), grid, batch_size=batch_size, devices=jax.devices()[:1],
                           folder={folder!r} + f"/one-{{batch_size}}")
        import shutil, pathlib
        source = pathlib.Path({folder!r}, f"one-{{batch_size}}")
        target = pathlib.Path({folder!r}, f"four-{{batch_size}}")
        target.mkdir()
        shutil.copy(source / "manifest.json", target)  # the same plan
        four = sweeps.sweep(random_walk(), grid, batch_size=batch_size, folder=target)
        for name in one.arrays:
            np.testing.assert_array_equal(one.arrays[name], four.arrays[name])
        assert (one.arrays["steps"] == 50 + np.arange(11)).all()
"""


def test_four_devices_give_the_bits_of_one(tmp_path):
    script = textwrap.dedent(DEVICES.format(tests=os.path.dirname(__file__), folder=str(tmp_path)))
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | flags, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_out_of_memory_halves_the_batch_once_and_says_so(tmp_path, monkeypatch):
    run_lanes = chunks.run_lanes

    def small_device(programs, queues, num_lanes):
        if num_lanes > 2:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
        return run_lanes(programs, queues, num_lanes)

    monkeypatch.setattr(chunks, "run_lanes", small_device)
    with pytest.warns(RuntimeWarning, match="batches of 4 become 2") as warned:
        record = sweeps.sweep(
            random_walk(), {"seed": range(16)}, batch_size=4, num_workers=1, folder=tmp_path
        )
    assert len([w for w in warned if w.category is RuntimeWarning]) == 1
    assert (record.arrays["steps"] == 50 + np.arange(16)).all()
    planned = records.read_manifest(tmp_path)["plan"]["chunks"]
    assert {chunk["batch"] for chunk in planned} == {2}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda n: {"a": jnp.zeros(n)}, r"same arrays at every point, got a of shape .*n': 3.*n"),
        (lambda n: {"a" if n == 3 else "b": jnp.zeros(())}, r"got a of shape \(\) .* nothing"),
        (lambda n: jnp.zeros(()), "must return a dict of arrays, got"),
        (lambda n: {"a": jnp.zeros(()) + np.random.rand()}, "function must be pure"),
    ],
)
def test_a_bad_function_is_named(function, message):
    with pytest.raises(ValueError, match=message):
        sweeps.sweep(function, {"n": [3, 4]}, static=["n"])


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
        ({"devices": 99}, "devices must be from 1 to 1, which there are, got 99"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        sweeps.sweep(lambda lam: {"value": lam}, {"lam": [1.0]}, **options)
