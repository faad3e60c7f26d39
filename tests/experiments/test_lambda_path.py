"""The λ-path: its problems, a small run beside certificates, and claims that can fail."""

import dataclasses

import jax
import judged
import numpy as np
import pandas
import pytest

from ntkreg.certificates import global_minimum, max_margin
from ntkreg.data.dataset import Dataset
from ntkreg.experiments.lambda_path import (
    CERTIFIED,
    CLASSES,
    DEEP,
    ESTIMATE,
    EXACT_CLASSES,
    EXPERIMENT,
    OWN,
    RATE,
    Config,
    runs,
)
from ntkreg.experiments.lambda_path.claims import claims, classes_claim, lost
from ntkreg.experiments.lambda_path.figure import figure
from ntkreg.experiments.lambda_path.runs import (
    LARGEST_LOG,
    Problem,
    best_of_seeds,
    parsed,
    random_sets,
    reference_of,
    run,
    table,
    within,
)
from ntkreg.training.margins import normalized_margin

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("lambda_path")


def test_ends_of_a_range_of_lam_count_however_they_were_rounded():
    lams = pandas.Series([1e-6, 1e-16 * (1 + 1e-12), 1e-100 * (1 - 1e-12), 1e-200])
    assert within(lams, 1e-16).tolist() == [False, True, True, True]
    assert within(lams, 1e-16, smallest=1e-100).tolist() == [False, True, True, False]


def of(start="", kind="exact", dataset=""):
    """The rows of a start, of a kind of reference, and of data sets of a name."""
    return lambda rows: (
        rows.start.str.startswith(start)
        & (rows.reference_kind == kind)
        & rows.dataset.str.startswith(dataset)
    )


def change(where, **changes):
    """The table with its columns changed on some rows, and what differences they are part of."""

    def edit(rows):
        rows, at = rows.copy(), where(rows)
        for name, new in changes.items():
            rows.loc[at, name] = new(rows[at])
        return rows

    return edit


TRUE, BEST, CLOSED = (
    of("certified", dataset="random"),
    of(kind="best known"),
    of(kind="closed form"),
)
SEVERAL = of(kind="closed form", dataset="orthonormal:4:3:2")
ON_D = of("certified", dataset="D:")
ONE = 0.0086534501  # the max margin of one random set


@pytest.mark.parametrize(
    ("claim", "edit", "status"),
    [
        *((c, lambda rows: rows, "holds") for c in EXPERIMENT.statements if c != EXACT_CLASSES),
        (EXACT_CLASSES, lambda rows: rows, "not run"),
        (CERTIFIED, change(TRUE, ratio=lambda r: 0.97), "fails"),
        (CERTIFIED, change(TRUE, shortfall=lambda r: 5 * r.shortfall), "fails"),
        (CERTIFIED, change(of("warm"), shortfall=lambda r: -2e-9), "fails"),
        (
            CERTIFIED,
            change(of("warm"), optimality_gap=lambda r: 0.001, ratio=lambda r: 0.9),
            "fails",
        ),
        (CERTIFIED, change(of("warm"), optimality_gap=lambda r: 0.05), "undecided"),
        (CERTIFIED, change(TRUE, optimality_gap=lambda r: 1e-3), "undecided"),
        (CERTIFIED, change(TRUE, ratio=lambda r: np.nan), "undecided"),
        (CERTIFIED, lambda rows: rows[rows.reference_kind != "exact"], "not run"),
        (CERTIFIED, lambda rows: rows.assign(reference_margin=0.0), "not run"),
        (DEEP, change(BEST, ratio=lambda r: 0.99), "fails"),
        (DEEP, change(CLOSED, shortfall=lambda r: -1e-8), "fails"),
        (DEEP, change(BEST, converged=lambda r: False), "undecided"),
        (DEEP, change(BEST, shortfall=lambda r: 0.5), "undecided"),  # provably no minimizers
        (DEEP, lambda rows: rows[rows.reference_kind == "exact"], "not run"),
        (CLASSES, change(SEVERAL, ratio=lambda r: 0.99), "fails"),
        (CLASSES, change(SEVERAL, shortfall=lambda r: -1e-8), "fails"),
        (CLASSES, change(SEVERAL, converged=lambda r: False), "undecided"),
        (CLASSES, lambda rows: rows[rows.reference_kind == "exact"], "not run"),
        (RATE, change(TRUE, law_error=lambda r: 1 / np.log(r.lam)), "fails"),  # ∝ 1/R
        (RATE, change(BEST, shortfall=lambda r: 1.1 * r.shortfall), "fails"),
        (RATE, change(BEST, converged=lambda r: False), "undecided"),
        (RATE, lambda rows: rows[~TRUE(rows) | (rows.reference_margin == ONE)], "undecided"),
        (ESTIMATE, change(TRUE, weighted_error=lambda r: 1 / np.log(r.lam)), "fails"),
        (ESTIMATE, change(TRUE, weighted_error=lambda r: -r.weighted_error - 2e-6), "fails"),
        (ESTIMATE, change(TRUE, weighted_error=lambda r: r.shortfall / 9), "fails"),
        (ESTIMATE, change(TRUE, optimality_gap=lambda r: 1e-3), "undecided"),
        (ESTIMATE, lambda rows: rows[~TRUE(rows)], "not run"),
        (OWN, change(ON_D, self_predicted=lambda r: 1.001 * r.normalized_margin), "fails"),
        (OWN, change(ON_D, self_predicted=lambda r: np.nan), "undecided"),
        (OWN, lambda rows: rows[~rows.dataset.str.startswith("D:")], "not run"),
    ],
)
def test_claims_are_judged(claim, edit, status):
    assert judged.status("lambda_path", claim, edit) == status


def test_what_training_missed_is_counted_apart():
    found = judged.judged("lambda_path")
    apart = found[CERTIFIED.statement].apart
    assert apart == ("training ended 1 % or more above F* on 1 of 6 data sets",)
    fewer = judged.judged("lambda_path", change(BEST, converged=lambda r: r.depth < 6))
    assert "2 of 4 networks (best known) not stationary or no minimizers" in (
        fewer[DEEP.statement].apart
    )


def test_below_a_large_norm_the_estimate_is_not_judged():
    edit = change(lambda rows: TRUE(rows) & (rows.lam > 1e-5), weighted_error=lambda r: 1.0)
    assert judged.status("lambda_path", ESTIMATE, edit) == "holds"


def on_classes(**changes):
    """Warm paths on four random sets of three classes, all at the minimum, which follow the law."""
    lams, rows = np.array([1e-4, 1e-8, 1e-16, 1e-200]), []
    for draw in range(4):
        short = 3 / np.log(1 / lams)
        own = dict(
            lam=lams, draw=draw, seed=0, start="warm", reference_kind="exact", shortfall=short,
            ratio=1 - short, predicted_ratio=1 - 1.01 * short, normalized_margin=1 - short,
            log_objective=np.log(lams), optimality_gap=1e-4,
        )  # fmt: skip
        rows.append(pandas.DataFrame(parsed("classes:3:2:9/2/8/relu/2")._asdict() | own | changes))
    return pandas.concat(rows, ignore_index=True)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "holds"),
        (dict(ratio=0.97), "fails"),
        (dict(shortfall=-2e-9), "fails"),
        (dict(optimality_gap=-2e-9), "fails"),
        (dict(predicted_ratio=0.999), "fails"),
        (dict(optimality_gap=0.005), "undecided"),  # too far from the minimum for the law
        (dict(optimality_gap=0.05), "undecided"),
    ],
)
def test_several_classes_are_judged_beside_their_certificates(changes, status):
    assert classes_claim(on_classes(**changes)).status == status


def test_several_classes_are_judged_where_they_were_run():
    assert not classes_claim(on_classes(dataset="random:2:9")).checks
    assert not classes_claim(on_classes(reference_kind="best found")).checks


def test_networks_of_several_classes_that_missed_the_minimum_are_counted_apart():
    rows = on_classes()
    found = classes_claim(change(lambda r: r.draw == 0, optimality_gap=lambda r: 0.05)(rows))
    assert found.status == "holds"
    assert found.apart == (
        "training ended 1 % or more above F* on 1 of 4 data sets",
        "2 of 8 networks (law) more than 0.1 % above F*",
    )


def test_classes_are_in_turn():
    _, samples = runs.samples_of(parsed("classes:3:2:7/2/8/relu/2"), 0)
    assert np.asarray(samples.y).tolist() == [0, 1, 2, 0, 1, 2, 0] and samples.x.shape == (7, 2)


@pytest.mark.parametrize("text", ["classes:3:2:6/2/8/relu/2", "classes:4:2:8/2/8/relu/2"])
def test_several_classes_have_a_certified_margin_and_a_bound_of_every_minimum(text):
    problem, config = parsed(text), dataclasses.replace(CONFIG, lams=(1e-2, 1e-32))
    _, samples = runs.samples_of(problem, 0)
    found = run(config, True, False, 0, 0, **problem._asdict())
    best, minimum = max_margin(samples), global_minimum(samples, 1e-2)
    assert found["max_margin"] == best.upper and found["max_margin_gap"] <= 1e-8
    assert found["max_margin_alpha"].sum() == pytest.approx(1.0)
    assert np.exp(found["log_lower"][0]) == pytest.approx(minimum.lower, rel=1e-12)
    # F* is at most that of a multiple of the max-margin network.
    radius = np.log(1e32) / best.lower * np.linspace(0.9, 1.1, 10_001)
    losses = np.log(problem.num_classes - 1) - radius * best.lower
    above = np.min(np.logaddexp(losses, np.log(1e-32 * radius)))
    assert -0.05 < found["log_lower"][1] - above <= 0


@pytest.mark.slow
def test_no_network_is_above_its_reference_and_none_below_the_certified_minimum(smoke):
    exact = smoke[smoke.reference_kind == "exact"]
    assert len(exact) == 30 and (exact.reference_gap < 1e-8).all()
    assert (-exact.shortfall <= exact.reference_gap + 1e-12).all()
    assert (exact.optimality_gap > -1e-9).all()
    certified = exact[exact.start == "certified"]
    assert (certified.optimality_gap < 1e-6).all() and certified.converged.all()
    small = certified[certified.lam < 1e-3]
    # A network within 1 + gap of the minimum has a margin within O(√gap) of the minimizer's.
    bound = np.maximum(2e-6, 0.1 * np.sqrt(small.optimality_gap.clip(lower=0)))
    assert (np.abs(small.self_predicted / small.normalized_margin - 1) < bound).all()
    closed = smoke[smoke.reference_kind.isin(["closed form", "best known"])]
    assert len(closed) == 20 and (closed.ratio <= 1 + 1e-9).all()
    assert (best_of_seeds(closed).ratio > 0.95).all()


@pytest.mark.slow
def test_the_law_is_near_what_training_reaches(smoke):
    best = best_of_seeds(smoke[smoke.lam == 1e-32])
    on_d = best.dataset == "D:3:8"  # whose dual weights are many: the path takes its own
    np.testing.assert_allclose(best.end_predicted[on_d], best.normalized_margin[on_d], rtol=1e-4)
    assert (best.predicted_ratio - best.ratio)[on_d].item() > 1e-3
    best = best[~on_d]
    np.testing.assert_allclose(best.ratio, best.predicted_ratio, atol=1e-3)


@pytest.mark.slow
def test_converged_networks_gain_nothing_from_ten_times_more_steps(smoke):
    longer = dataclasses.replace(
        CONFIG, problems=CONFIG.problems[1:2], num_steps=10 * CONFIG.num_steps
    )
    rows = smoke[smoke.depth == 3].reset_index(drop=True)
    more = EXPERIMENT.sweep(longer)
    assert rows.converged.sum() >= 4
    assert (more.ratio - rows.ratio)[rows.converged].max() < 1e-3


def swept(**certified):
    """What a sweep finds on one certified data set: a network at zero, and the true minimizers."""
    set_of = dict(dataset="random:2:4", depth=2, width=3, activation="relu", power=2.0, draw=0)
    lams = np.array(CONFIG.lams)
    measured = dict(
        normalized_margin=0 * lams, dual_weighted_margin=0 * lams, log_objective=0 * lams,
        norm=0 * lams, log_residual=0 * lams + LARGEST_LOG, alpha=np.full((len(lams), 4), 0.25),
    )  # fmt: skip
    return pandas.DataFrame([
        {**set_of, "certified": False, "warm": True, "seed": 0, "failed": "", **measured},
        {**set_of, "certified": True, "warm": False, "seed": 0, "failed": "", **certified},
    ])  # fmt: skip


def test_samples_that_no_network_separates_are_told_from_a_failure(monkeypatch):
    flat = Dataset(np.ones((4, 1)), np.array([1.0, -1.0, 1.0, -1.0]))
    monkeypatch.setattr(runs, "samples_of", lambda problem, number: (None, flat))
    found = run(CONFIG, True, False, 0, 0, **parsed("random:1:4/2/3/relu/2")._asdict())
    assert found == {"max_margin": 0.0}
    rows = table(swept(**found), CONFIG)
    assert (rows.reference_margin == 0).all() and not len(random_sets(rows))
    assert not claims(rows, CONFIG)


def test_a_certificate_that_raised_leaves_the_claims_undecided():
    found = claims(table(swept(failed="ArithmeticError: bounds cross"), CONFIG), CONFIG)
    statuses = {claim.statement: claim.status for claim in found}
    assert statuses == dict.fromkeys(
        (c.statement for c in (CERTIFIED, RATE, ESTIMATE)), "undecided"
    )


def test_the_zero_network_is_at_no_stationary_point_and_has_not_diverged():
    rows = table(swept(max_margin=0.0), CONFIG)
    assert rows.stationarity.isna().all() and not rows.converged.any()


@pytest.mark.slow
def test_the_figure_has_six_panels_and_lines_in_them(smoke):
    axes = figure(smoke, CONFIG).axes
    assert len(axes) == 6 and all(ax.lines for ax in axes)
    assert len(claims(smoke, CONFIG)) == 6


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize(
    "text",
    [
        "orthonormal:3:2/2/8/relu/2", "orthonormal:3:2/4/8/relu/1", "orthonormal:2:2:1/3/8/relu/2",
        "orthonormal:3:2/2/8/quadratic/2", "halfspace:3:9/3/8/identity/2",
    ],
)  # fmt: skip
def test_known_margins_come_with_weights_of_all_their_margins(text, number):
    problem = parsed(text)
    found = reference_of(problem, number)
    _, samples = runs.samples_of(problem, number)
    network = runs.network_of(problem)
    num_margins = problem.num_samples * (problem.num_classes - 1)
    assert found.alpha.shape == (num_margins,) and (found.alpha >= -1e-12).all()
    assert found.alpha.sum() == pytest.approx(1.0)
    params = network.init(jax.random.key(0), samples.x.shape[1])
    assert float(normalized_margin(network, params, samples)) < found.margin


def test_draws_of_one_number_are_one_data_set():
    problem = parsed("random:3:12/2/8/relu/2")
    (_, one), (_, same), (_, other) = (runs.samples_of(problem, n) for n in (1, 1, 2))
    assert np.array_equal(one.x, same.x) and not np.array_equal(one.x, other.x)
    assert set(np.asarray(one.y)) == {-1.0, 1.0}


@pytest.mark.parametrize(
    "text",
    [
        "random:2/2/8/relu/2", "spiral:2:9/2/8/relu/2", "random:2:9/2/8/relu",
        "digits:0/2/8/relu/2", "classes:2:2:8/2/8/relu/2", "classes:3:8/2/8/relu/2",
        "orthonormal:3/2/8/relu/2", "random:2:9/2/8/relu/0",
        "random:2:9/x/8/relu/2", "random:2:9/2/8/relu/nan", "random:2:9/2/8/relu/2/1",
    ],
)  # fmt: skip
def test_a_problem_that_is_none_is_named(text):
    with pytest.raises(ValueError, match=f"problems must be dataset/depth.*got '{text}'"):
        parsed(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(problems=("random:2:9/0/8/relu/2",)), "depth must be at least 1, got 0"),
        (dict(problems=("random:2:9/2/8/tanh/2",)), "activation must be one of.*got 'tanh'"),
        (dict(lams=(0.0,)), "lams must be at least 1e-300 and finite, got 0.0"),
        (dict(lams=(float("nan"),)), "lams must be at least 1e-300 and finite, got nan"),
        (dict(lams=(1e-6, 1e-3)), r"lams must fall from each to the next, got \(1e-06, 0.001\)"),
        (dict(learning_rate=-1.0), "learning_rate must be positive and finite, got -1.0"),
        (dict(num_seeds=0), "num_seeds must be at least 1, got 0"),
        (dict(finish_steps=-1), "finish_steps must be at least 0, got -1"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_certificates_are_for_two_layers_of_relu_and_few_dimensions():
    for text in ("random:4:9/2/8/relu/2", "classes:5:4:9/2/8/relu/2", "D:6:9/2/8/relu/2"):
        assert parsed(text).is_certifiable
    for text in (
        "classes:3:5:9/2/8/relu/2",
        "digits:9/2/8/relu/2",
        "random:5:9/2/8/relu/2",
        "random:2:9/3/8/relu/2",
        "random:2:9/2/8/relu/1",
    ):
        assert not parsed(text).is_certifiable


def test_the_best_of_the_seeds_has_the_least_objective_whatever_its_margin():
    set_of = dict(**parsed("random:2:10/2/9/relu/2")._asdict(), draw=0, start="warm", lam=1e-6)
    two = pandas.DataFrame([
        {**set_of, "seed": 0, "log_objective": -1.0, "normalized_margin": 0.1},
        {**set_of, "seed": 1, "log_objective": 0.0, "normalized_margin": 9.0},
    ])  # fmt: skip
    assert best_of_seeds(two).seed.tolist() == [0]


def test_a_network_of_smaller_margin_than_log_m_allows_is_no_minimizer():
    """Its loss is above that of the network of max margin at the same norm."""
    row = parsed("random:2:10/2/9/relu/2")._asdict()
    for shortfall, misses in ((0.9 * np.log(10) / 50, False), (1.1 * np.log(10) / 50, True)):
        rows = pandas.DataFrame([row | dict(norm=10.0, reference_margin=0.5, shortfall=shortfall)])
        at_best = np.log1p(np.exp(-50.0))
        at_least = np.log1p(np.exp(-50.0 * (1 - shortfall))) / 10
        assert (lost(rows).item() > 1) == misses == (at_least > at_best)


def test_a_problem_has_the_loss_and_outputs_of_its_classes():
    assert Problem("digits:50", 2, 8, "relu", 2.0).loss == "cross_entropy"
    assert parsed("orthonormal:2:1/2/8/relu/2").loss == "logistic"
    assert parsed("orthonormal:2:1:4/2/8/relu/2").num_classes == 3
