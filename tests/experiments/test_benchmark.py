"""The benchmark: ways that do the same work, repeats in turn, a claim that can fail."""

import dataclasses
import importlib.util

import numpy as np
import pandas
import pytest

from ntkreg.experiments import benchmark
from ntkreg.experiments.benchmark import ENGINE, EXPERIMENT, PROC, Config

CONFIG = EXPERIMENT.preset("smoke")
SIZE = dict(num_samples=30, width=8, num_lams=3)
WORK = benchmark.work(dataclasses.replace(CONFIG, dim=6, operations=8e5), **SIZE)


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("benchmark")


SLOW = pytest.param("torch_compiled", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", ["sweep", "vmap", "threads", SLOW])
def test_every_way_does_the_work_of_the_loop(name):
    if name == "torch_compiled":
        pytest.importorskip("torch", reason="PyTorch is of the extra bench")
    found = benchmark.WAYS[name](WORK)()
    np.testing.assert_allclose(found, benchmark.by_loop(WORK)(), rtol=1e-5)


def test_the_loop_is_gradient_descent():
    """Against the step written out by hand in NumPy."""
    given = WORK._replace(lams=WORK.lams[:1])
    x, y = np.asarray(given.train.x, np.float64), np.asarray(given.train.y, np.float64)
    first, last = (np.asarray(p, np.float64) for p in given.params)
    margin = lambda: y * (np.maximum(x @ first, 0) @ last)[:, 0]
    for _ in range(given.num_steps):
        slope = -y / (1 + np.exp(margin())) / len(y)
        hidden = np.maximum(x @ first, 0)
        down = x.T @ (slope[:, None] * last.T * (hidden > 0)) + 2 * given.lams[0] * first
        up = hidden.T @ slope[:, None] + 2 * given.lams[0] * last
        first, last = first - benchmark.LEARNING_RATE * down, last - benchmark.LEARNING_RATE * up
    expected = np.mean(np.log1p(np.exp(-margin())))
    np.testing.assert_allclose(benchmark.by_loop(given)(), [expected], rtol=1e-5)


def test_ways_that_disagree_are_no_benchmark(monkeypatch):
    wrong = lambda given: lambda: np.zeros(len(given.lams))
    monkeypatch.setitem(benchmark.WAYS, "vmap", wrong)
    with pytest.raises(RuntimeError, match=r"vmap ends at 0.0, others at 0\.\d+"):
        EXPERIMENT.sweep(CONFIG)


def test_repeats_take_turns_and_say_what_memory_they_took():
    order = []
    big = lambda: order.append("big") or np.ones(2**23).sum()  # 64 MiB
    found = benchmark.interleaved({"big": big, "small": lambda: order.append("small")}, 3)
    assert order == found["way"].tolist() == ["big", "small"] * 3
    assert found["repeat"].tolist() == [0, 0, 1, 1, 2, 2] and (found["seconds"] > 0).all()
    if PROC.exists():
        assert 60 < found["peak_mib"][0] < 80 and abs(found["peak_mib"][1]) < 8


def test_the_table_has_a_row_for_every_repeat_of_every_way_and_size(smoke):
    assert len(smoke) == 2 * 2 * len(CONFIG.ways) and (smoke.failed == "").all()
    expected = 1e6 * smoke.seconds / (smoke.num_lams * smoke.num_steps)
    np.testing.assert_allclose(smoke.microseconds_per_step, expected, rtol=1e-6)
    labels = [text.get_text() for text in benchmark.figure(smoke, CONFIG).legends[0].get_texts()]
    assert labels == [benchmark.LABELS[name] for name in CONFIG.ways]
    (claim,) = benchmark.claims(smoke, CONFIG)
    assert claim.status == "undecided"  # no size takes long enough


def timed(scatter=0.0, **seconds):
    """Two sizes and three repeats of each way, which takes so long in each; the sweep scatters."""
    more = lambda way, repeat: 1 + 0.01 * repeat + scatter * (repeat - 1) * (way == "sweep")
    rows = [
        dict(num_samples=n, width=4, num_lams=8, num_steps=1, way=way, repeat=repeat, failed="",
             seconds=second * more(way, repeat), microseconds_per_step=second)
        for n in (10, 20) for repeat in range(3) for way, second in seconds.items()
    ]  # fmt: skip
    return pandas.DataFrame(rows)


@pytest.mark.parametrize(
    ("seconds", "status"),
    [
        (dict(sweep=3.1, threads=3.0), "holds"),
        (dict(sweep=3.5, threads=3.0), "fails"),
        (dict(sweep=3.3, threads=3.0, scatter=0.3), "undecided"),
        (dict(sweep=0.31, threads=0.30), "undecided"),  # too short
        (dict(sweep=np.nan, threads=3.0), "undecided"),
    ],
)
def test_the_claim_compares_a_sweep_with_the_best_plain_way(seconds, status):
    rows = timed(vmap=4.0, loop=8.0, **seconds)
    (claim,) = benchmark.claims(rows, CONFIG)
    assert claim.statement == ENGINE.statement and claim.status == status
    assert benchmark.claims(rows[rows.way != "loop"], CONFIG) == []
    assert benchmark.figure(rows, CONFIG).axes[0].get_title() == "n = 10, width 4"


def test_sizes_take_the_same_operations():
    first, *_, last = benchmark.points(Config())
    for size in (first, last):
        steps = benchmark.work(Config(), **size).num_steps
        operations = 6 * 20 * np.prod(list(size.values())) * steps
        assert operations == pytest.approx(Config.operations, rel=0.05)


def test_pytorch_is_left_out_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    config = dataclasses.replace(CONFIG, ways=("loop", "torch_compiled"))
    assert set(EXPERIMENT.sweep(config).way) == {"loop"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_repeats=0), "num_repeats must be at least 1, got 0"),
        (dict(ways=("numpy",)), "ways must be one of sweep"),
        (dict(operations=-1.0), "operations must be positive"),
        (dict(widths=(8, 8)), "widths must have each value once, got 8 twice"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
