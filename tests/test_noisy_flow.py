"""Noisy flows: problems and their levels, a small run, and claims that can fail."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import PIL.Image
import pytest

from ntkreg import certificates
from ntkreg.experiments import flow_problems, noisy_flow
from ntkreg.experiments.flow_problems import parsed
from ntkreg.experiments.noisy_flow import Config, cells
from ntkreg.experiments.noisy_flow_animation import animate
from ntkreg.experiments.noisy_flow_claims import (
    COLUMNS,
    claims,
    escape_claim,
    polynomial_claim,
    table,
)
from ntkreg.experiments.noisy_flow_figure import figure
from ntkreg.theory import closed_forms
from ntkreg.training import flows, mean_field


@pytest.fixture(scope="module")
def record(smoke_record):
    return smoke_record("noisy_flow")


def row(part, dataset, noise, seed=0, **known):
    blank = dict.fromkeys(COLUMNS, 0.0) | dict(
        part=part, dataset=dataset, draw=0, dim=3, start="one_sign", noise=noise, seed=seed,
        minimum=0.3, minimum_gap=1e-9, proved=True, trap_level=0.4, objective=0.3, step_size=0.1,
        diverged=False, num_particles=1000, iterations=np.nan,
    )  # fmt: skip
    found = blank | known
    found["final_gap"] = found["objective"] / found["minimum"] - 1
    found["trap_gap"] = found["objective"] / found["trap_level"] - 1
    return found


def all_rows(epsilon_power=0.6, dim_power=0.4):
    rows = []
    for seed in range(3):
        for name in ("random:3:12", "apart:12", "D:3"):
            rows.append(row("escape", name, "none", seed, objective=0.4005))
            ends = dict(objective=0.3 * (1 + 1e-4 * (seed + 1)))
            rows.append(row("escape", name, "resample, quenched", seed, **ends))
            rows.append(row("escape", name, "resample, quenched", seed, start="uniform", **ends))
        for epsilon in (0.3, 0.1, 0.03, 0.01, 0.003):
            for name in ("random:3:12", "random:2:12"):
                steps = (1 + 0.02 * seed) * 100 * epsilon**-epsilon_power
                options = dict(epsilon=epsilon, iterations=steps)
                rows.append(row("arrival", name, "resample", seed, **options))
        for dim in (3, 4, 5, 6, 8):
            steps = (1 + 0.02 * seed) * 100 * dim**dim_power
            options = dict(epsilon=0.01, iterations=steps, dim=dim)
            rows.append(row("arrival", f"D:{dim}", "resample", seed, **options))
        for sigma in (1e-4, 1e-3, 1e-2):
            options = dict(sigma=sigma, objective=0.3 * (1 + sigma))
            rows.append(row("floor", "random:2:12", "resample", seed, **options))
    return pandas.DataFrame(rows)


def test_the_claims_hold_on_rows_that_do_as_predicted():
    assert escape_claim(all_rows()).status == "holds"
    claim = polynomial_claim(all_rows())
    assert claim.status == "holds"
    assert "(1/ε)^0.60" in claim.measured and "d^0.40" in claim.measured
    assert "σ^1.00" in claim.measured


def test_each_claim_fails_where_its_rows_break_it():
    rows = all_rows()
    trapped = rows.noise == "none"
    escaped = rows.assign(trap_gap=rows.trap_gap.where(~trapped, -0.02))
    assert escape_claim(escaped).status == "fails"
    one = rows.index[rows.noise == "resample, quenched"][0]
    short = rows.copy()
    short.loc[one, "final_gap"] = 2e-3
    assert escape_claim(short).status == "fails"
    diverged = rows.copy()
    diverged.loc[one, ["objective", "final_gap"]] = np.nan
    assert escape_claim(diverged).status == "fails"
    assert polynomial_claim(all_rows(epsilon_power=4.1)).status == "fails"
    assert polynomial_claim(all_rows(dim_power=2.1)).status == "fails"
    lost = rows.copy()
    lost.loc[lost.index[lost.part == "arrival"][0], "iterations"] = np.nan
    assert polynomial_claim(lost).status == "fails"


def test_no_claim_is_made_from_a_heuristic_or_a_wide_level():
    for blind in (all_rows().assign(proved=False), all_rows().assign(minimum_gap=1e-2)):
        assert escape_claim(blind).status == polynomial_claim(blind).status == "not run"


def test_a_small_run_is_trapped_without_noise_and_never_below_the_minimum(record):
    rows = table(record)
    assert len(rows) == len(cells(Config.preset("smoke")))
    assert (rows.final_gap > -1e-6).all() and not rows.diverged.any()
    escapes = rows[rows.part == "escape"]
    none = escapes[escapes.noise == "none"]
    assert (none[none.start != "uniform"].trap_gap.abs() < 0.02).all()
    assert (none[none.start == "uniform"].final_gap < 0.01).all()
    freed = escapes[escapes.noise == "resample, quenched"]
    assert (freed.objective < freed.trap_level).all()
    known = escapes[escapes.proved_gap.notna()]
    # The proved gap is of L, the other one of the minimum; to the oracle's rounding.
    true = known.final_gap * known.minimum / known.objective
    assert len(known) and (known.proved_gap >= true - 1e-6).all()
    arrivals = rows[rows.part == "arrival"]
    least = record.arrays["trace"][arrivals.index].min(axis=1)  # the end is one noisy step later
    assert (least <= (1 + 1e-5) * (1 + arrivals.epsilon) * arrivals.minimum).all()
    assert arrivals.iterations.between(1, 3000).all()


def test_the_claims_and_the_figure_are_made_of_a_record(record):
    assert [claim.status for claim in claims(record)].count("not run") == 0
    assert len(figure(record).axes) == 6


def test_traces_fall_from_the_start_to_the_end(record):
    rows = table(record)
    for number in rows.index[(rows.part == "escape") & (rows.noise == "none")]:
        trace = record.arrays["trace"][number]
        trace = trace[np.isfinite(trace)]
        assert len(trace) > 20 and trace[0] > trace[-1]
        assert trace[-1] == pytest.approx(rows.objective[number], rel=1e-3)


def test_a_step_that_diverges_marks_its_cells_and_no_others(tmp_path):
    config = dataclasses.replace(
        Config.preset("smoke"), dims=(3,), epsilons=(0.1,), step_factor=1e4, num_steps=100,
        population_steps=100,
    )  # fmt: skip
    rows = table(noisy_flow.run(config, tmp_path))
    assert rows.diverged.any() and escape_claim(rows).status == "fails"


def test_a_heuristic_oracle_is_told_in_the_table(tmp_path):
    config = dataclasses.replace(
        Config.preset("smoke"),
        oracle="multistart",
        dims=(3,),
        epsilons=(0.1,),
        num_steps=50,
        population_steps=50,
    )
    rows = table(noisy_flow.run(config, tmp_path))
    assert not rows[rows.dataset == "random:2:6"].proved.any()
    assert rows[rows.dataset == "D:3"].proved.all()  # a closed form


def test_the_film_is_an_animation(tmp_path):
    config = dataclasses.replace(Config.preset("smoke"), num_steps=2000)
    animate(config, tmp_path, (("no noise", 0.0, 2), ("noise", 1.0, 3)))
    with PIL.Image.open(tmp_path / "particles.gif") as film:
        assert film.n_frames == 4 and film.format == "GIF"  # a short run: two of each phase
    flat = dataclasses.replace(config, problems=("random:3:6",))
    animate(flat, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_half_space_holds_a_flow_without_noise_at_its_level():
    problem = parsed("apart:9")
    samples = flow_problems.draw(problem, 0)
    level = flow_problems.levels(problem, samples, 1e-2)
    start = flow_problems.start(problem, "half_space", jax.random.key(0), 300)
    assert (start[:, -1] < 0).all()
    end = flows.noisy_flow(
        samples, lam=1e-2, key=jax.random.key(1), particles=start, num_steps=6000
    )
    assert (end.particles[:, -1] <= 0).all()
    assert float(end.info.objective) == pytest.approx(float(level.trap), rel=0.01)
    assert float(level.trap) > 1.05 * float(level.minimum)


def test_levels_are_certificates():
    problem = parsed("random:2:8")
    samples = flow_problems.draw(problem, 1)
    level = flow_problems.levels(problem, samples, 0.02)
    best = certificates.global_minimum(jax.device_get(samples), 0.02)
    assert float(level.minimum) == best.upper and float(level.proved) == 1.0
    population = parsed("D:5")
    known = flow_problems.levels(population, flow_problems.draw(population, 0), 0.02)
    assert float(known.minimum) == closed_forms.population_minimum(0.02)


def test_what_a_flow_proves_of_itself_is_nothing_beyond_rank_four():
    samples = flow_problems.draw(parsed("D:5"), 0)
    particles = mean_field.uniform_start(jax.random.key(0), 10, 5)
    assert jnp.isinf(flow_problems.proved_gap(parsed("D:5"), samples, 0.02, particles))


@pytest.mark.parametrize("text", ["random:2", "D:2", "apart:5", "spiral:9", "random:0:9", "D:x"])
def test_a_problem_that_is_none_is_named(text):
    with pytest.raises(ValueError, match=f"problems must be random:DIM:N.*got '{text}'"):
        parsed(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(sigma=-1e-3), "sigma must be at least 0 and finite, got -0.001"),
        (dict(num_particles=0), "num_particles must be at least 1, got 0"),
        (dict(dims=(2,)), "dims must be at least 3, got 2"),
        (dict(epsilons=(0.0,)), "epsilons must be positive and finite, got 0.0"),
        (dict(oracle="guess"), "oracle must be one of auto, enumerate.*got guess"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
