"""Noisy flows: problems and their levels, a small run, and claims that can fail."""

import dataclasses

import jax
import numpy as np
import pandas
import PIL.Image
import pytest
from judged import status

from ntkreg import certificates
from ntkreg.experiments import noisy_flow
from ntkreg.experiments.noisy_flow import EXPERIMENT, Config, runs
from ntkreg.experiments.noisy_flow.claims import escape_claim, polynomial_claim
from ntkreg.experiments.noisy_flow.figure import figure, film
from ntkreg.experiments.noisy_flow.runs import parsed
from ntkreg.theory import closed_forms
from ntkreg.training import flows

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("noisy_flow")


def row(part, dataset, noise, seed=0, **known):
    blank = dict(
        part=part, dataset=dataset, draw=0, dim=3, start="one_sign", noise=noise, seed=seed,
        sigma=0.0, epsilon=0.0, num_particles=1000, minimum=0.3, minimum_gap=1e-9, proved=True,
        trap_level=0.4, objective=0.3, step_size=0.1, iterations=np.nan, failed="",
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


def changed(rows, chosen, **columns):
    """The rows with other values in the first that is chosen."""
    rows = rows.copy()
    for name, value in columns.items():
        rows.loc[rows.index[chosen][0], name] = value
    return rows


def test_the_claims_hold_on_rows_that_do_as_predicted():
    assert escape_claim(all_rows()).status == "holds"
    claim = polynomial_claim(all_rows())
    assert claim.status == "holds"
    exponents = [check.measured for check in claim.checks[2:]]
    assert exponents == pytest.approx([0.6, 0.4, 1.0], abs=1e-6)


def test_each_claim_fails_where_its_rows_break_it():
    rows = all_rows()
    quenched = rows.noise == "resample, quenched"
    escaped = rows.assign(trap_gap=rows.trap_gap.where(rows.noise != "none", -0.02))
    for broken in (escaped, changed(rows, quenched, final_gap=2e-3)):
        assert escape_claim(broken).status == "fails"
    for broken in (all_rows(epsilon_power=4.1), all_rows(dim_power=2.1)):
        assert polynomial_claim(broken).status == "fails"


def test_soft_units_are_judged_beside_the_best_that_was_found():
    soft = [
        row("escape", "random:3:12", noise, start=start, objective=objective, unit="soft_relu")
        for noise, start, objective in (
            ("none", "one_sign", 0.5), ("resample, quenched", "one_sign", 0.2001),
            ("resample, quenched", "uniform", 0.2),
        )
    ]  # fmt: skip
    both = lambda change: pandas.concat([all_rows(), pandas.DataFrame(soft).assign(**change)])
    assert escape_claim(both({})).status == "holds"
    assert escape_claim(both({})).checks[-2].measured == pytest.approx(5e-4)
    assert escape_claim(both(dict(objective=[0.5, 0.3, 0.2]))).status == "fails"


def test_what_did_not_end_decides_nothing():
    rows = all_rows()
    diverged = dict(objective=np.nan, final_gap=np.nan, failed="not finite")
    lost = changed(rows, rows.noise == "resample, quenched", **diverged)
    assert escape_claim(lost).status == "undecided"
    none = polynomial_claim(rows.assign(iterations=np.nan))
    assert none.status == "undecided"
    assert none.apart == ("45 of 45 flows were cut before they arrived",)


def test_no_claim_is_made_from_a_heuristic_or_a_wide_level():
    for blind in (all_rows().assign(proved=False), all_rows().assign(minimum_gap=1e-2)):
        assert escape_claim(blind).status == polynomial_claim(blind).status == "undecided"


@pytest.mark.parametrize("claim", noisy_flow.CLAIMS, ids=["escape", "polynomial"])
def test_the_claims_hold_on_the_committed_table(claim):
    assert status("noisy_flow", claim) == "holds"


@pytest.mark.slow
def test_a_small_run_is_trapped_without_noise_and_never_below_the_minimum(smoke):
    assert (smoke.failed == "").all()
    smoke = smoke[smoke.unit == "relu"]
    assert (smoke.final_gap > -1e-6).all()
    escapes = smoke[smoke.part == "escape"]
    none = escapes[escapes.noise == "none"]
    assert (none[none.start != "uniform"].trap_gap.abs() < 0.02).all()
    assert (none[none.start == "uniform"].final_gap < 0.01).all()
    freed = escapes[escapes.noise == "resample, quenched"]
    assert (freed.objective < freed.trap_level).all()
    # The proved gap is of L, the other one of the minimum; to the oracle's rounding.
    low = smoke[smoke.dim <= 4]
    assert (low.proved_gap >= low.final_gap * low.minimum / low.objective - 1e-6).all()
    assert smoke[smoke.dim > 4].proved_gap.isna().all()
    arrivals = smoke[smoke.part == "arrival"]
    lowest = arrivals.trace.map(lambda trace: trace[1].min())  # the end is one noisy step later
    assert (lowest <= (1 + 1e-5) * (1 + arrivals.epsilon) * arrivals.minimum).all()
    assert arrivals.iterations.between(1, 5000).all()


@pytest.mark.slow
def test_traces_fall_from_the_first_step_to_the_end(smoke):
    for flow in smoke[(smoke.part == "escape") & (smoke.noise == "none")].itertuples():
        steps, objectives = flow.trace
        assert len(steps) > 20 and (np.diff(steps) > 0).all()
        assert objectives[0] > objectives[-1]
        assert objectives[-1] == pytest.approx(flow.objective, rel=1e-3)


@pytest.mark.slow
def test_the_figure_is_drawn_with_and_without_traces(smoke):
    assert noisy_flow.claims.claims(smoke, CONFIG)[0].status == "fails"  # 200 particles in d = 5
    for table in (smoke, smoke.drop(columns="trace")):
        assert len(figure(table, CONFIG).axes) == 6


@pytest.mark.slow
def test_a_flow_that_raised_an_error_is_not_drawn(smoke):
    rows = smoke.copy()
    rows.at[0, "trace"] = None
    assert len(figure(rows, CONFIG).axes) == 6


@pytest.mark.slow
def test_a_step_that_diverges_marks_its_flow(smoke):
    diverging = dataclasses.replace(CONFIG, step_factor=1e4, num_steps=100)
    points = [point for point in runs.points(CONFIG) if point["dataset"] == "random:2:6"][:5]
    table = EXPERIMENT._replace(points=lambda config: points).sweep(diverging)
    assert (table.failed == "not finite").any() and escape_claim(table).status != "holds"


def test_a_heuristic_oracle_is_said_in_the_levels():
    (_, found), (_, closed) = (
        runs.known(parsed(text), 0, 0.02, "multistart") for text in ("random:2:6", "D:3")
    )
    assert not found.proved and closed.proved


@pytest.mark.slow
def test_the_film_is_an_animation(smoke, tmp_path):
    config = dataclasses.replace(CONFIG, num_steps=2000)
    film(smoke, config, tmp_path, (("no noise", 0.0, 2), ("noise", 1.0, 3)))
    with PIL.Image.open(tmp_path / "particles.gif") as gif:
        assert gif.n_frames == 4 and gif.format == "GIF"  # a short run: two of each phase
    flat = dataclasses.replace(config, problems=("random:3:6",))
    film(smoke, flat, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_the_half_space_holds_a_flow_without_noise_at_its_level():
    problem = parsed("apart:9")
    samples, level = runs.known(problem, 0, 1e-2)
    particles = runs.initial_particles(problem, "half_space", jax.random.key(0), 300)
    assert (particles[:, -1] < 0).all()
    end = flows.noisy_flow(
        samples, lam=1e-2, key=jax.random.key(1), particles=particles, num_steps=6000
    )
    assert (end.particles[:, -1] <= 0).all()
    assert float(end.info.objective) == pytest.approx(level.trap_level, rel=0.01)
    assert level.trap_level > 1.05 * level.minimum


def test_levels_are_certificates():
    samples, level = runs.known(parsed("random:2:8"), 1, 0.02)
    best = certificates.global_minimum(jax.device_get(samples), 0.02)
    assert level.minimum == best.upper and level.proved
    population = runs.known(parsed("D:5"), 0, 0.02)[1]
    assert population.minimum == closed_forms.population_minimum(0.02)


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
