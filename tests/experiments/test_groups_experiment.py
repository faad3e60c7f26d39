"""The open experiment on groups: its rule, its start, its law, and the pages made of it."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import judged
import numpy as np
import optax
import pandas
import pytest

from ntkreg import fully_connected, sweep
from ntkreg.data import groups as data_groups
from ntkreg.experiments.groups import CONVERGED, EXPERIMENT, KEYS, SAME, Config, claims
from ntkreg.experiments.groups.claims import annealed_claim, key_sets
from ntkreg.experiments.groups.runs import descended, initial, with_key_sets
from ntkreg.sweeps import load

CONFIG = Config(
    groups=("C5",), activations=("quadratic",), widths=(2,), lams=(1e-2,), num_seeds=3,
    num_steps=300, patience=20,
)  # fmt: skip


def swept(config):
    return with_key_sets(
        sweep(
            functools.partial(EXPERIMENT.run, config), EXPERIMENT.points(config),
            static_argnames=EXPERIMENT.static, batch_size=EXPERIMENT.batch_size,
        ),
        config,
    )  # fmt: skip


@pytest.fixture(scope="module")
def table():
    return swept(CONFIG)


def test_the_experiment_as_specified_has_24_settings_of_100_seeds():
    config = EXPERIMENT.preset("open_experiment")
    assert len(EXPERIMENT.points(config)) == 2400
    assert (config.groups, config.activations) == (("C5", "S3"), ("quadratic", "relu"))
    assert (config.widths, config.lams) == ((2, 8), (0.0, 1e-4, 1e-2))
    assert (config.schedule, config.learning_rate, config.num_steps) == ("constant", 1e-3, 20_000)
    assert (config.tolerance, config.patience) == (1e-7, 500)


def test_the_start_is_gaussian_with_the_variance_one_over_n():
    first, last = initial(data_groups.symmetric(3), 5000, jnp.asarray(3))
    assert first.shape == (12, 5000) and last.shape == (5000, 6)
    for part in (first[:6], first[6:], last):
        assert float(part.std()) == pytest.approx(6**-0.5, rel=0.02)
        assert abs(float(part.mean())) < 0.01
    drawn = jax.random.normal(jax.random.key(3), (18, 5000)) / 6**0.5
    np.testing.assert_array_equal(jnp.concatenate([first, last.T]), drawn)


def test_a_run_is_plain_adam_on_the_objective(table):
    """Written again with optax alone, without the package's loss and loop."""
    n, optimizer = 5, optax.adam(1e-3, 0.9, 0.999, 1e-8)
    a, b = np.divmod(np.arange(n * n), n)
    label = (a + b) % n

    def objective(vectors):
        u, v, w = vectors[:n], vectors[n : 2 * n], vectors[2 * n :]
        logits = (u[a] + v[b]) ** 2 @ w.T
        log_prob = jax.nn.log_softmax(logits)[np.arange(n * n), label]
        return -log_prob.mean() + 1e-2 * jnp.sum(vectors**2)

    step = jax.jit(jax.value_and_grad(objective))
    for row in table.itertuples():
        vectors = jax.random.normal(jax.random.key(row.seed), (3 * n, 2)) / np.sqrt(n)
        state = optimizer.init(vectors)
        for _ in range(row.steps):
            _, slope = step(vectors)
            change, state = optimizer.update(slope, state)
            vectors = vectors + change
        np.testing.assert_allclose(row.params, vectors, atol=1e-9)
        assert row.objective == pytest.approx(float(objective(vectors)), rel=1e-9)


def test_the_rule_asks_for_quiet_updates_in_a_row():
    """On (x − 1)² + 1 from x = 1 nothing changes; from far away Adam moves on and on."""
    value = lambda x: jnp.sum((x - 1.0) ** 2) + 1.0
    at_rest = descended(CONFIG, value, jnp.array([1.0]))
    assert at_rest.step == at_rest.quiet == CONFIG.patience
    far = descended(CONFIG, value, jnp.array([9.0]))
    assert far.step == CONFIG.num_steps and far.quiet == 0
    # F or Θ of 0 has no relative change, so that such a run is not converged.
    zero = descended(CONFIG, lambda x: jnp.sum((x - 1.0) ** 2), jnp.array([1.0]))
    assert zero.step == CONFIG.num_steps and zero.quiet == 0


def test_the_same_command_gives_the_same_numbers(table):
    again = swept(CONFIG)
    plain = [name for name in table if name != "params"]
    pandas.testing.assert_frame_equal(table[plain], again[plain], check_exact=True)
    for one, other in zip(table.params, again.params, strict=True):
        assert one.tobytes() == other.tobytes()


def test_columns_that_others_rely_on_are_there(table):
    wanted = ["group", "activation", "width", "lam", "seed", "steps", "converged", "loss"]
    wanted += ["accuracy", "key_set", "spectral_count", "multiplicity_0", "multiplicity_1"]
    assert set(wanted) <= set(table)
    assert set(table.key_set) <= {"1", "2", "1+2", "none"}


def test_observables_of_the_table_are_those_of_its_parameters(table):
    group = data_groups.cyclic(5)
    network = fully_connected(2, 2, 5, "quadratic")
    for row in table.itertuples():
        params = jnp.asarray(row.params[:10]), jnp.asarray(row.params[10:].T)
        logits = network.apply(params, data_groups.pairs(group).x)
        shares = data_groups.fractions(group, logits)
        assert row.key_set == "+".join(str(i + 1) for i in range(2) if shares[i] >= 0.005)
        assert row.smallest_share == pytest.approx(float(shares.min()), abs=1e-12)
        right = (logits.argmax(axis=1) == data_groups.pairs(group).y).mean()
        assert row.accuracy == pytest.approx(float(right))


def test_lam_of_zero_is_run_and_never_counted_as_converged():
    config = dataclasses.replace(CONFIG, lams=(0.0,), num_steps=50)
    found = swept(config)
    assert not found.converged.any() and (found.steps == 50).all()
    assert np.isfinite(found.loss).all()


@pytest.mark.slow
def test_an_annealed_run_ends_at_a_stationary_point():
    config = dataclasses.replace(
        CONFIG, schedule="annealed", learning_rate=1e-2, num_steps=2000, finish_steps=200
    )
    found = swept(config)
    assert found.converged.all() and (found.log_residual < np.log(1e-3)).all()


def test_key_sets_are_counted_with_their_intervals(table):
    made = table.assign(key_set=["1", "1+2", "1+2"])
    found = key_sets(made).set_index("key_set")
    assert found["count"].to_dict() == {"none": 0, "1": 1, "2": 0, "1+2": 2}
    assert (found.low <= found.share).all() and (found.share <= found.high).all()
    assert found.low["none"] == 0 and found.high["1+2"] < 1


def test_the_page_says_what_came_out():
    folder = judged.RESULTS / "groups" / "open_experiment"
    made = EXPERIMENT.pages(load(folder), EXPERIMENT.preset("open_experiment"))
    assert made["README.md"] == (folder / "README.md").read_text()
    assert made["key_sets.csv"] == (folder / "key_sets.csv").read_text()
    assert "| z² | 0 | 18 of 100 [0.11, 0.27] |" in made["README.md"]
    assert "np.float" not in made["README.md"]
    assert "README.md" not in EXPERIMENT.pages(load(folder), CONFIG)  # it says what was specified


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        (SAME, lambda rows: rows, "finding"),
        (SAME, lambda rows: rows[rows.group == "S3"], "not run"),
        (KEYS, lambda rows: rows, "finding"),
        (CONVERGED, lambda rows: rows, "finding"),
    ],
)
def test_findings_are_findings(claim, edit, status):
    assert judged.status("groups", claim, edit, preset="open_experiment") == status


def test_stationary_ends_are_counted():
    made = {"activation": "relu", "lam": 0.1, "norm": 1.0, "converged": np.arange(20) < 19}
    rows = pandas.DataFrame(made)
    (check,) = annealed_claim(rows).checks
    assert check.status == "finding" and check.runs == "19 of 20 runs"
    rows.loc[:4, "norm"] = 1e-150
    claim = annealed_claim(rows)
    assert claim.checks[0].runs == "14 of 15 runs"
    assert claim.apart == ("λ = 0.1: 5 runs end at Θ = 0",)


def test_the_committed_probability_is_the_share_of_the_committed_runs():
    found = judged.judged("groups", preset="open_experiment")[SAME.statement]
    check = found.checks[0]
    assert check.what.startswith("λ = 0: both pure") and check.runs.endswith("of 100 runs")
    assert check.measured == pytest.approx(int(check.runs.split()[0]) / 100)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(groups=("K5",)), "groups must be names of groups, got 'K5': name must be C, D"),
        (dict(groups=("C1",)), "got 'C1': order must be a whole number, at least 2, got 1"),
        (dict(schedule="annealed"), "lams must be positive with the schedule annealed, got 0"),
        (dict(activations=("tanh",)), "activations must be one of quadratic, relu, got tanh"),
        (dict(lams=(-1.0,)), "lams must be finite and at least 0, got -1.0"),
        (dict(widths=(0,)), "widths must be at least 1, got 0"),
        (dict(schedule="cosine"), "schedule must be one of constant, annealed, got cosine"),
        (dict(groups=("C5", "C5")), "groups must have each value once, got C5 twice"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_figures_are_drawn_for_few_widths_and_for_many(table):
    assert len(EXPERIMENT.figure(table, CONFIG).axes) == 4
    wide = [table.assign(width=width, converged=True) for width in (2, 4, 8)]
    config = dataclasses.replace(CONFIG, widths=(2, 4, 8), schedule="annealed")
    assert len(EXPERIMENT.figure(pandas.concat(wide, ignore_index=True), config).axes) == 1


def test_all_representations_of_a_group_have_names():
    for name, wanted in (("C5", "1+2"), ("S3", "sgn+std")):
        assert claims.all_of(name) == wanted
    assert all(
        "+" not in rho.name
        for name in ("Q8", "S4", "A5", "D4")
        for rho in data_groups.named(name).representations
    )
    assert len(list(itertools.chain(data_groups.named("C2xC2").representations))) == 3
