"""Plans: the batch that a measurement asks for, inside the memory; chunks that cover the grid."""

import jax
import jax.numpy as jnp
import pytest

from ntkreg import plans, sweeps, timing
from ntkreg.lanes import Programs
from ntkreg.timing import Cost

CELL = sweeps.as_cell(lambda seed: {"value": 2.0 * seed})


def planned(monkeypatch, costs, num_lanes=64, batch_size=None, num_workers=1, backend="cpu"):
    """The plan where a batch of each size is said to cost what `costs` gives for it."""
    tried = []

    def measure(programs, points, size):
        tried.append(size)
        return costs(size)

    monkeypatch.setattr(timing, "measure", measure)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(timing, "memory_available", lambda: 1000)
    monkeypatch.setattr(timing, "bytes_of", lambda program: 100 * tried_lanes(program))
    programs = Programs(CELL, (), jax.devices()[:1])
    cells = [{"seed": seed} for seed in range(num_lanes)]
    return plans.plan(programs, cells, batch_size, num_workers), tried


def tried_lanes(program):
    """The number of lanes of a compiled stage."""
    return jax.tree.leaves(program.out_info)[0].shape[0]


def batches(plan):
    (batch,) = {chunk["batch"] for chunk in plan["chunks"]}
    return batch


def test_the_batch_grows_while_lanes_get_faster(monkeypatch):
    speeds = {1: 8.0, 4: 2.0, 16: 1.0, 64: 0.95}
    plan, tried = planned(monkeypatch, lambda size: Cost(speeds[size], 0.1, 0))
    assert (batches(plan), tried) == (16, [1, 4, 1, 16, 4, 64])


def test_a_loop_stays_a_loop_where_batches_are_slower(monkeypatch):
    plan, tried = planned(monkeypatch, lambda size: Cost(1.0 * size, 0.1, 0))
    assert (batches(plan), tried) == (1, [1, 4])


def test_a_slow_moment_does_not_choose_the_batch(monkeypatch):
    """One lane alone first seems slow, since something else ran; its second chance shows it."""
    slow = iter([5.0, 1.0])
    plan, tried = planned(monkeypatch, lambda size: Cost(next(slow) if size == 1 else 2.0, 0.1, 0))
    assert (batches(plan), tried) == (1, [1, 4, 1])


@pytest.mark.parametrize(("num_workers", "batch"), [(1, 4), (2, 1)])
def test_a_batch_on_two_cores_must_beat_two_workers_with_one_each(monkeypatch, num_workers, batch):
    monkeypatch.setattr(plans.os, "cpu_count", lambda: 2)
    costs = {
        1: Cost(1.0, 0.1, 0),
        4: Cost(0.6, 0.1, 0, cores=2.0),
        16: Cost(0.6, 0.1, 0, cores=2.0),
    }
    plan, _ = planned(monkeypatch, costs.get, num_workers=num_workers)
    assert batches(plan) == batch


def test_batches_fit_into_the_memory_of_each_worker(monkeypatch):
    cost = lambda size: Cost(1.0 / size, 0.01, 100 * size)
    assert batches(planned(monkeypatch, cost)[0]) == 4
    assert batches(planned(monkeypatch, cost, num_workers=4)[0]) == 1


def test_short_work_is_not_worth_another_compilation(monkeypatch):
    cost = lambda size: Cost(1e-7 / size, 0.0, 100 * size)
    assert planned(monkeypatch, cost)[1] == [1]
    plan, _ = planned(monkeypatch, cost, backend="gpu")  # which is filled, as memory allows
    assert batches(plan) == 8


def test_an_accelerator_takes_all_lanes_at_once_however_long_they_run(monkeypatch):
    monkeypatch.setattr(timing, "memory_available", lambda: 10**9)
    plan, tried = planned(monkeypatch, lambda size: Cost(1e3, 0.0, 0), 10, backend="gpu")
    assert (batches(plan), tried, len(plan["chunks"])) == (10, [], 1)


def test_a_batch_too_large_to_compile_is_halved(monkeypatch):
    compiled = timing.prepared

    def prepared(programs, points, size):
        if size > 3:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: while it was tried out")
        return compiled(programs, points, size)

    monkeypatch.setattr(timing, "prepared", prepared)
    plan, _ = planned(monkeypatch, lambda size: Cost(1.0, 0.0, 0), 9, backend="gpu")
    assert batches(plan) == 3


def test_other_errors_of_the_compiler_are_raised(monkeypatch):
    def prepared(programs, points, size):
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(timing, "prepared", prepared)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        planned(monkeypatch, lambda size: Cost(1.0, 0.0, 0), backend="gpu")


def test_nothing_is_compiled_where_every_worker_has_a_lane(monkeypatch):
    done = []
    monkeypatch.setattr(timing, "prepared", lambda *args: done.append("compiled"))
    programs = Programs(CELL, (), jax.devices()[:1])
    plan = plans.plan(programs, [{"seed": 0}, {"seed": 1}], None, 2, done.append)
    assert done == [1]  # one shape of which progress is told, without a program
    assert [chunk["lanes"] for chunk in plan["chunks"]] == [[0], [1]]


def test_an_explicit_batch_is_taken(monkeypatch):
    plan, tried = planned(monkeypatch, lambda size: Cost(1.0, 0.1, 10**9), batch_size=7)
    assert (batches(plan), tried) == (7, [7])


@pytest.mark.parametrize("lane_seconds", [1e-6, 0.1, 100.0])
def test_chunks_hold_each_cell_once_and_keep_all_workers_busy(monkeypatch, lane_seconds):
    plan, _ = planned(monkeypatch, lambda size: Cost(lane_seconds, 1e9, 0), 1000, num_workers=3)
    lanes = [lane for chunk in plan["chunks"] for lane in chunk["lanes"]]
    assert sorted(lanes) == list(range(1000))
    assert len(plan["chunks"]) >= plans.CHUNKS_PER_WORKER * 3
    longest = max(len(chunk["lanes"]) for chunk in plan["chunks"])
    assert longest == 1 or longest * lane_seconds <= plans.CHUNK_SECONDS


def test_measure_times_the_steps_of_a_whole_run():
    """A cell that says it takes a million steps costs a million of its steps, not those tried."""
    advance = lambda point, context, state, num_steps: (
        jax.lax.fori_loop(0, num_steps, lambda i, s: jnp.sin(s), state),
        jnp.asarray(False),
    )
    cell = sweeps.Cell(
        lambda point: ((), jnp.ones(10)), advance, lambda p, c, s: {"s": s}, 10, lambda p: 10**6
    )
    programs = Programs(cell, (), jax.devices()[:1])
    million = timing.measure(programs, [{"seed": 0}], 2)
    programs.cell = cell._replace(num_steps=lambda point: 0)
    none = timing.measure(programs, [{"seed": 0}], 2)
    assert million.lane_seconds > 10 * none.lane_seconds > 0
    assert million.num_bytes > 2 * 10 * 4


@pytest.mark.parametrize("cores", [1.0, 1.9])
def test_one_worker_takes_what_keeps_all_cores_busy_and_gains_nothing(monkeypatch, cores):
    """The clock is set so that two at once take three times as long as one alone."""
    ticks = iter([0.0, 1.0, 1.0, 4.0])
    cost = Cost(1.0, 0.1, 0, step_seconds=1.0, cores=cores)
    programs = Programs(CELL, (), jax.devices()[:1])
    clock = type("Clock", (), {"perf_counter": staticmethod(lambda: next(ticks))})
    monkeypatch.setattr(plans, "time", clock)
    workers = plans._workers(programs, [{"seed": 0}], 1, cost, 2)
    assert workers == (2 if cores < plans.SEVERAL_CORES else 1)


def test_few_lanes_of_one_stage_are_not_run_just_to_time_them():
    runs = []

    def function(seed):
        jax.debug.callback(lambda: runs.append(1))
        return {"value": 2.0 * seed}

    sweeps.sweep(function, {"seed": range(plans.WORTH_TIMING - 1)})
    jax.effects_barrier()
    assert len(runs) == plans.WORTH_TIMING - 1


def test_the_estimate_extrapolates_what_the_budget_does_not_reach(monkeypatch):
    """Times n² for one kind and n for another; only the first shape of each is in the budget."""
    power = {"a": 2, "b": 1}
    cost = lambda point: Cost(1e-3 * point["n"] ** power[point["kind"]], 0.5, 0)
    monkeypatch.setattr(
        timing, "measure", lambda programs, points, size, with_finish: cost(points[0])
    )
    programs = Programs(CELL, ("kind", "n"), jax.devices()[:1])
    sizes = (10, 100, 1000)
    cells = [{"kind": k, "n": n, "seed": s} for k in "ab" for n in sizes for s in range(4)]
    exact = sum(cost(cell).lane_seconds for cell in cells) + 6 * 0.5
    found = plans.estimate(programs, cells, 2, budget_seconds=60.0)
    assert (found.num_measured, found.num_shapes) == (5, 6)  # a at 1000 would take 1000 s
    assert found.seconds == pytest.approx(exact / 2)
    first = plans.estimate(programs, cells, 2, budget_seconds=0.0)
    assert first.num_measured == 2
    linear = sum(1e-3 * 10 ** power[c["kind"]] * c["n"] / 10 for c in cells) + 6 * 0.5
    assert first.seconds == pytest.approx(linear / 2)


def test_an_accelerator_s_estimate_is_of_all_lanes_at_once(monkeypatch):
    """A batch takes a second, however many lanes are in it."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    cost = lambda programs, points, size, with_finish: Cost(1.0 / size, 0.5, 0)
    monkeypatch.setattr(timing, "measure", cost)
    programs = Programs(CELL, (), jax.devices()[:1])
    found = plans.estimate(programs, [{"seed": s} for s in range(20)], 1, budget_seconds=60.0)
    assert found.seconds == pytest.approx(1.5)
