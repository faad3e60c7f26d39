"""The benchmark: contenders that do the same work, sizes that fit, a table that can be read."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from test_launch import launched

from ntkreg.experiments import benchmark, benchmark_claims, contenders, kernel_contenders, repeats
from ntkreg.experiments.benchmark import Config
from ntkreg.experiments.benchmark_figure import figure
from ntkreg.experiments.contenders import Work
from ntkreg.kernels.kernel_machines import hard_margin_svm

WORK = Work(num_samples=30, width=8, num_lams=3, num_steps=20, dim=6)


@pytest.mark.parametrize("name", ["sweep", "vmap", "torch_eager", "torch_compiled"])
def test_contenders_do_the_work_of_the_loop(name):
    if name.startswith("torch"):
        pytest.importorskip("torch", reason="PyTorch is of the extra bench")
    given = contenders.problem(WORK)
    found = contenders.CONTENDERS[name](given)()
    np.testing.assert_allclose(found, contenders.loop(given)(), rtol=1e-5)


def test_the_loop_is_gradient_descent():
    """Against the step written out by hand in NumPy."""
    given = contenders.problem(WORK._replace(num_lams=1))
    x, y = np.asarray(given.train.x, np.float64), np.asarray(given.train.y, np.float64)
    first, last = (np.asarray(p, np.float64) for p in given.params)
    lam = float(given.lams[0])
    margin = lambda: y * (np.maximum(x @ first, 0) @ last)[:, 0]
    for _ in range(WORK.num_steps):
        slope = -y / (1 + np.exp(margin())) / len(y)
        hidden = np.maximum(x @ first, 0)
        down = x.T @ (slope[:, None] * last.T * (hidden > 0)) + 2 * lam * first
        last = last - contenders.LEARNING_RATE * (hidden.T @ slope[:, None] + 2 * lam * last)
        first = first - contenders.LEARNING_RATE * down
    expected = np.mean(np.log1p(np.exp(-margin())))
    np.testing.assert_allclose(contenders.loop(given)(), [expected], rtol=1e-5)


def test_sizes_are_bounded_and_named_once():
    config = Config()
    sizes = benchmark.works(config)
    assert len(set(sizes)) == len(sizes)
    assert all(200 <= work.num_steps <= 1000 for work in sizes)
    assert all(work.operations() <= config.most_operations for work in sizes)
    assert {work.num_lams for work in sizes} == {1, 8, 32, 1024}


def test_contenders_that_disagree_end_the_benchmark(monkeypatch):
    wrong = lambda given: lambda: np.zeros(given.work.num_lams)
    monkeypatch.setitem(contenders.CONTENDERS, "vmap", wrong)
    with pytest.raises(RuntimeError, match=r"vmap ends at 0.0, others at 0\.\d+"):
        benchmark.run(Config.preset("smoke"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_repeats=0), "num_repeats must be at least 1, got 0"),
        (dict(contenders=("numpy",)), "contenders must be one of sweep"),
        (dict(extra=(1, 2)), r"extra must be num_samples,width,num_lams, got \(1, 2\)"),
        (dict(operations=-1.0), "operations must be positive"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_the_launcher_writes_every_repeat_and_shows_medians(tmp_path):
    done = launched("--preset=smoke", f"--out={tmp_path}", name="benchmark")
    assert done.returncode == 0, done.stderr
    assert "µs per network and step" in done.stdout and "times of ntkreg.sweeps" in done.stdout
    lines = (tmp_path / "summary.csv").read_text().splitlines()
    sizes, repeats = len(benchmark.works(Config.preset("smoke"))), 2
    assert len(lines) == 1 + repeats * (3 * sizes + 2 + 3 + 2)
    assert json.loads((tmp_path / "run.json").read_text())["hardware"]


def test_repeats_take_turns_and_tell_what_memory_they_took():
    order = []
    big = lambda: order.append("big") or np.ones(2**23).sum()  # 64 MiB
    rows = list(repeats.interleaved({"big": big, "small": lambda: order.append("small")}, 3))
    assert order == ["big", "small"] * 3
    assert [row["repeat"] for row in rows] == [0, 0, 1, 1, 2, 2]
    assert all(row["seconds"] > 0 for row in rows)
    if repeats.STATUS.exists():
        assert 60 < rows[0]["peak_mib"] < 80 and abs(rows[1]["peak_mib"]) < 8


def test_svc_ends_where_our_svm_does_but_for_its_bias():
    """On pairs ±x with labels ±1 the best bias is zero, so that both solve one problem."""
    x = np.random.default_rng(0).normal(size=(20, 30))
    x, y = np.concatenate([x, -x]), np.repeat([1.0, -1.0], 20)
    gram = x @ x.T
    machine = kernel_contenders.svc(gram, y)
    beta = np.zeros(40)
    beta[machine.support_] = machine.dual_coef_[0]
    margin = float(hard_margin_svm(jnp.asarray(gram), jnp.asarray(y)).margin)
    np.testing.assert_allclose(1 / np.sqrt(beta @ gram @ beta), margin, rtol=2e-3)
    assert 1e-9 < kernel_contenders.svc_gap(gram, y) < 1e-2


def test_the_figure_has_a_panel_for_every_size():
    row = dict(task="training", repeat=0, seconds=1.0, contender="sweep", num_steps=200)
    rows = [
        row | dict(num_samples=n, width=w, num_lams=k, microseconds_per_step=1.0 * k)
        for n in (10, 20)
        for w in (4, 8)
        for k in (1, 8)
    ]
    titles = [ax.get_title() for ax in figure(rows).axes]
    assert titles == ["n = 10, width 4", "n = 20, width 4", "n = 10, width 8", "n = 20, width 8"]


def engine_rows(loop=0.5, torch=0.01, gflops=900.0):
    """Seconds of each contender at the claim's size, and what the machine can do."""
    size = dict(zip(("num_samples", "width", "num_lams"), benchmark_claims.SIZE, strict=True))
    training = dict(task="training", num_steps=10, **size, gbytes_per_second=1.0, gflops=gflops)
    times = {"sweep": 0.004, "loop": loop, "torch_compiled": torch}
    rows = [
        {**training, "contender": name, "microseconds_per_step": time}
        for name, time in times.items()
    ]
    peaks = dict(task="peak", num_samples=1)
    return [
        *rows,
        {**peaks, "contender": "matrix_product", "gflops": 1000.0},
        {**peaks, "contender": "matrix_copy", "gbytes_per_second": 100.0},
    ]


def test_the_claim_on_accelerators_holds_where_all_three_are_reached():
    assert benchmark_claims.claim(engine_rows()).status == "holds"
    for broken in (dict(loop=0.3), dict(torch=0.006), dict(gflops=200.0)):
        assert benchmark_claims.claim(engine_rows(**broken)).status == "fails"


def test_a_roofline_that_the_sweep_outruns_was_not_measured_and_proves_nothing():
    found = benchmark_claims.claim(engine_rows(gflops=3000.0))
    assert found.status == "fails" and "unknown share of the roofline" in found.measured


def test_the_claim_on_accelerators_is_not_run_without_its_size_or_pytorch():
    rows = engine_rows()
    assert benchmark_claims.claim([r for r in rows if r["contender"] != "torch_compiled"]) == (
        benchmark_claims.ENGINE
    )
    other = [{**row, "width": 50} if row["task"] == "training" else row for row in rows]
    assert benchmark_claims.claim(other) == benchmark_claims.ENGINE
