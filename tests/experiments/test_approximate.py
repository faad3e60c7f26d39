"""Approximate minimizers: feasible networks, bounds below them, and a claim that can fail."""

import dataclasses
import math

import jax.numpy as jnp
import judged
import numpy as np
import pandas
import pytest

from ntkreg import certificates
from ntkreg.data.dataset import Dataset
from ntkreg.experiments import approximate
from ntkreg.experiments.approximate import EXPERIMENT, worst_margin

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("approximate")


def test_every_network_found_has_at_least_the_proved_margin(smoke):
    rows = smoke
    assert len(rows) == 4 and (rows.minimum_gap < 1e-6).all()
    assert (rows.worst_found >= rows.least_proved).all()
    small = rows[rows.lam < 1e-10]
    # Found and proved are near each other, and both far above the theorem's.
    assert (small.worst_found < 1.1 * small.least_proved).all()
    assert (small.least_proved > 5 * small.theorem).all()
    assert (small.worst_found < 1 / small.beta).all()


def test_the_search_stays_within_beta_and_finds_what_is_worse_than_a_stretched_minimizer():
    """On two opposite points the minimizer is known: two neurons, γ* = 1/4."""
    samples = Dataset(jnp.array([[1.0], [-1.0]]), jnp.array([1.0, -1.0]))
    lam, beta = 1e-8, 1.5
    minimum = certificates.global_minimum(samples, lam)
    params = tuple(map(jnp.asarray, minimum.primal))
    config = dataclasses.replace(CONFIG, num_steps=1000)
    found = worst_margin(
        config, samples, params, jnp.log(lam), math.log(minimum.upper), jnp.asarray(beta), 0.25
    )
    # All the slack in the norm of layers out of balance gives γ_λ/β and a little more.
    squared = sum(float(jnp.sum(p**2)) for p in params)
    q = float(jnp.min(samples.y * (jnp.maximum(samples.x @ params[0], 0) @ params[1])[:, 0]))
    slack = beta * minimum.upper - np.log1p(np.exp(-q))
    assert float(found) < 0.999 * q / (slack / lam)
    assert slack / lam > 1.4 * squared


def test_an_infeasible_end_is_taken_back_to_the_limit():
    value = lambda p: jnp.sum(p)
    start, end = jnp.zeros(2), jnp.array([1.0, 3.0])
    found = approximate._back_to(value, start, end, jnp.asarray(1.0))
    np.testing.assert_allclose(found, [0.25, 0.75], rtol=1e-9)
    np.testing.assert_allclose(approximate._back_to(value, start, end, jnp.asarray(9.0)), end)


def put(column, value, lam=1e-100):
    """The table with that value in the column of one row at that λ."""
    return lambda rows: rows.assign(
        **{column: rows[column].mask(rows.index == (rows.lam == lam).idxmax(), value)}
    )


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        (lambda rows: rows, "holds"),
        (lambda rows: rows.assign(least_proved=0.9 * rows.theorem), "fails"),
        (lambda rows: rows.assign(worst_found=0.97 / rows.beta), "fails"),
        (put("worst_found", 1.01 / 1.1), "fails"),  # a better constant than 1/β
        (put("worst_found", 0.9 / 1.1), "fails"),  # below what is proved
        (put("minimum_gap", -1e-3, lam=1e-2), "fails"),
        (put("least_proved", 0.95 / 1.1), "undecided"),
        *((put("minimum_gap", gap), "undecided") for gap in (0.04, 1.0, 3.0)),
        *(
            (put(column, np.nan, lam), "undecided")
            for column in ("max_margin", "minimum_gap", "worst_found", "least_proved")
            for lam in (1e-2, 1e-100)
        ),
        (lambda rows: rows.assign(max_margin=np.nan), "undecided"),
        (put("minimum_gap", 1e-4), "holds"),
        (put("minimum_gap", 0.04, lam=1e-8), "holds"),  # what is proved rests on the upper bound
        (lambda rows: rows.assign(max_margin=0.0), "not run"),
    ],
)
def test_the_claim_is_judged_by_proofs_and_by_networks_found(edit, status):
    assert judged.status("approximate", approximate.CLAIM, edit) == status


def test_sets_that_nothing_separates_are_left_out(monkeypatch):
    same = Dataset(np.ones((4, 1)), np.array([1.0, -1.0, 1.0, -1.0]))
    monkeypatch.setattr(approximate.data, "random_labels", lambda *_: same)
    found = pandas.DataFrame([approximate.run(CONFIG, dim=1, num_samples=4, seed=0)])
    rows = approximate.table(found.assign(dim=1, num_samples=4, seed=0, failed=""), CONFIG)
    assert (rows.max_margin == 0).all() and rows.worst_found.isna().all() and len(rows) == 2
    assert not approximate.claims(rows, CONFIG)


def test_a_data_set_that_raised_an_error_has_empty_rows_and_leaves_the_claim_undecided():
    axes = dict(dim=2, num_samples=6)
    arrays = dict(log_minimum=np.full(2, -30.0), minimum_gap=np.zeros(2))
    good = axes | dict(seed=0, max_margin=0.1, failed="", worst_found=np.full((2, 1), 0.06))
    bad = axes | dict(seed=1, failed="RuntimeError: no solution")
    for sets in ([good | arrays, bad], [bad]):
        rows = approximate.table(pandas.DataFrame(sets), CONFIG)
        assert len(rows) == 2 * len(sets)
        assert (rows.worst_found.isna() == (rows.failed != "")).all()
        (found,) = approximate.claims(rows, CONFIG)
        assert "undecided" in [check.status for check in found.checks]


def test_the_figure_shows_every_beta(smoke):
    left, right = approximate.figure(smoke, CONFIG).axes
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert "worst found, β = 1.5" in labels and right.lines


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(betas=(1.0,)), "betas must be above 1 and at most 2, got 1.0"),
        (dict(betas=(2.5,)), "betas must be above 1 and at most 2, got 2.5"),
        (dict(dims=(5,)), "dims must be from 1 to 4, for the certificates, got 5"),
        (dict(lams=(-1.0,)), "lams must be at least 1e-300 and finite, got -1.0"),
        (dict(num_steps=0), "num_steps must be at least 1, got 0"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **fields)
