"""The λ-path: its problems, a small run beside certificates, and claims that can fail."""

import dataclasses

import jax
import numpy as np
import pandas
import pytest

from ntkreg.data.dataset import Dataset
from ntkreg.experiments.lambda_path import CLAIMS, EXPERIMENT, Config, runs
from ntkreg.experiments.lambda_path.claims import (
    certified_claim,
    claims,
    classes_claim,
    deep_claim,
    estimate_claim,
    own_claim,
    rate_claim,
)
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
LAMS = (1e-6, 1e-16, 1e-32, 1e-64, 1e-100, 1e-200)


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("lambda_path")


def paths(dataset, kind, number, starts, order=2, depth=2, power=2.0, gamma=0.05):
    """Rows on which the law holds with the constant 0.8 and the remainder 0.3/(Rγ*)²."""
    rows = []
    for draw in range(number):
        for start in starts:
            for lam in LAMS:
                scale = (1 + 0.1 * draw) * (-np.log(lam) - 2.0)
                predicted = 1 - 0.8 / scale
                ratio = predicted + 0.3 / scale**2
                weighted = gamma * (1 + 0.5 / scale**2)
                rows.append(dict(
                    dataset=dataset, draw=draw, depth=depth, width=9, activation="relu",
                    power=power, start=start, seed=0, lam=lam, normalized_margin=gamma * ratio,
                    reference_margin=gamma, reference_kind=kind, reference_gap=1e-10, ratio=ratio,
                    predicted_ratio=predicted, self_predicted=gamma * ratio,
                    end_predicted=gamma * (ratio + 1e-5), dual_weighted_margin=weighted,
                    log_objective=0.0, norm=(scale / gamma) ** (1 / order), stationarity=1e-4,
                    converged=True, optimality_gap=1e-9,
                ))  # fmt: skip
    return differences(pandas.DataFrame(rows))


def differences(rows):
    """The columns that are differences of others, to more digits than these have on disk."""
    return rows.assign(
        shortfall=1 - rows.ratio,
        law_error=rows.ratio - rows.predicted_ratio,
        weighted_error=rows.dual_weighted_margin / rows.reference_margin - 1,
    )


def all_rows():
    digits = paths("digits:50", "best found", 1, ("warm",))
    return pandas.concat([
        paths("random:2:10", "exact", 12, ("warm", "certified")),
        paths("orthonormal:6:2", "closed form", 1, ("warm", "cold")),
        paths("orthonormal:6:2", "best known", 1, ("warm",), order=3, depth=3),
        paths("orthonormal:4:3:2", "closed form", 1, ("warm",)),
        digits.assign(ratio=digits.ratio / digits.ratio.max()),
        paths("D:4:24", "exact", 1, ("warm", "certified")),
    ], ignore_index=True)  # fmt: skip


def test_ends_of_a_range_of_lam_count_however_they_were_rounded():
    lams = pandas.Series([1e-6, 1e-16 * (1 + 1e-12), 1e-100 * (1 - 1e-12), 1e-200])
    assert within(lams, 1e-16).tolist() == [False, True, True, True]
    assert within(lams, 1e-16, smallest=1e-100).tolist() == [False, True, True, False]


def test_the_claims_hold_on_rows_that_follow_the_law():
    found = claims(all_rows(), CONFIG)
    assert [claim.statement for claim in found] == [claim.statement for claim in CLAIMS]
    assert all(claim.status == "holds" for claim in found), found


def changed(rows, where, **values):
    rows = rows.copy()
    for name, change in values.items():
        rows.loc[where, name] = change(rows.loc[where, name])
    return differences(rows)


def test_each_claim_fails_where_its_rows_break_it():
    rows = all_rows()
    exact = rows.reference_kind == "exact"
    last = rows.lam == min(LAMS)
    warm = rows.start == "warm"
    one = exact & warm & (rows.draw == 3)
    above = changed(rows, one & last, ratio=lambda r: 1 + 2e-10 + 0 * r)
    assert certified_claim(above).status == "fails"
    low = changed(rows, one, ratio=lambda r: 0.98 * r, normalized_margin=lambda m: 0.98 * m)
    assert certified_claim(low).status == "fails"
    missed = changed(low, one, optimality_gap=lambda gap: 0.05 + 0 * gap)
    assert certified_claim(missed).status == "holds"  # the optimizer failed, not the theorem
    unknown = changed(low, one, optimality_gap=lambda gap: np.nan + gap)
    assert certified_claim(unknown).status == "fails"
    unsolved = changed(rows, exact & ~warm, optimality_gap=lambda gap: 1e-3 + gap)
    assert certified_claim(unsolved).status == rate_claim(unsolved).status == "fails"
    deep = (rows.reference_kind == "best known") & warm
    assert deep_claim(changed(rows, deep, ratio=lambda r: 0.99 * r)).status == "fails"
    assert deep_claim(changed(rows, deep & last, ratio=lambda r: 1.001 + 0 * r)).status == "fails"
    split = rows.dataset == "orthonormal:4:3:2"
    assert classes_claim(changed(rows, split, ratio=lambda r: 0.99 * r)).status == "fails"
    digits = (rows.dataset == "digits:50") & last
    falling = changed(rows, digits, normalized_margin=lambda m: 0.9 * m)
    assert classes_claim(falling).status == "fails"
    wrong = changed(rows, digits, normalized_margin=lambda m: -m)
    assert classes_claim(wrong).status == "fails"
    certified = exact & (rows.start == "certified")
    assert (
        rate_claim(changed(rows, certified, ratio=lambda r: 1 - (1 - r) ** 1.1)).status == "fails"
    )
    slow = changed(rows, certified, predicted_ratio=lambda p: p - 0.05 * (1 - p))
    assert rate_claim(slow).status == "fails"
    no_gain = changed(rows, certified, dual_weighted_margin=lambda m: 1.02 * m)
    assert estimate_claim(no_gain).status == "fails"
    below = changed(rows, certified & last, dual_weighted_margin=lambda m: 0.99 * m)
    assert estimate_claim(below).status == "fails"
    assert rate_claim(changed(rows, deep, ratio=lambda r: 1 - 1.1 * (1 - r))).status == "fails"


def test_the_claim_of_the_path_s_own_weights_fails_where_they_are_off():
    rows = all_rows()
    assert own_claim(rows[~rows.dataset.str.startswith("D:")]).status == "not run"
    on_d = rows.dataset == "D:4:24"
    solver = changed(rows, on_d, predicted_ratio=lambda p: p + 0.01)
    assert own_claim(solver).status == "holds"  # many weights prove the margin: others are off
    off = changed(rows, on_d & (rows.lam == 1e-64), end_predicted=lambda m: 1.001 * m)
    assert own_claim(off).status == "fails"
    at_hand = changed(rows, rows.dataset == "digits:50", self_predicted=lambda m: 1.001 * m)
    assert own_claim(at_hand).status == "fails"


def test_claims_without_rows_are_not_run():
    rows = all_rows()
    assert certified_claim(rows[rows.reference_kind != "exact"]).status == "not run"
    assert rate_claim(rows[rows.reference_kind != "exact"]).status == "not run"
    inseparable = rows.assign(reference_margin=0.0)
    assert certified_claim(inseparable).status == rate_claim(inseparable).status == "not run"
    assert deep_claim(rows[rows.reference_kind == "exact"]).status == "not run"
    assert classes_claim(rows[rows.reference_kind == "exact"]).status == "not run"


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
    assert certified_claim(rows).status == "not run"


def test_a_certificate_that_raised_makes_the_claims_fail():
    rows = table(swept(failed="ArithmeticError: bounds cross"), CONFIG)
    assert certified_claim(rows).status == rate_claim(rows).status == "fails"
    assert estimate_claim(rows).status == "fails"


def test_the_zero_network_is_at_no_stationary_point_and_has_not_diverged():
    rows = table(swept(max_margin=0.0), CONFIG)
    assert rows.stationarity.isna().all() and not rows.converged.any()


@pytest.mark.slow
def test_the_figure_has_six_panels_and_lines_in_them(smoke):
    axes = figure(smoke, CONFIG).axes
    assert len(axes) == 6 and all(ax.lines for ax in axes)
    found = claims(smoke, CONFIG)
    assert [claim.status for claim in found].count("not run") == 1  # no digits


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
        "digits:0/2/8/relu/2", "orthonormal:3/2/8/relu/2", "random:2:9/2/8/relu/0",
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
    assert parsed("random:4:9/2/8/relu/2").is_certifiable
    for text in ("random:5:9/2/8/relu/2", "random:2:9/3/8/relu/2", "random:2:9/2/8/relu/1"):
        assert not parsed(text).is_certifiable


def test_the_best_of_the_seeds_has_the_least_objective_whatever_its_margin():
    two = pandas.concat([paths("random:2:10", "exact", 1, ("warm",))] * 2, ignore_index=True)
    first = two.index < len(LAMS)
    two.loc[first, "log_objective"], two.loc[~first, "normalized_margin"] = -1.0, 9.0
    assert (best_of_seeds(two).index == np.flatnonzero(first)).all()


def test_a_problem_has_the_loss_and_outputs_of_its_classes():
    assert Problem("digits:50", 2, 8, "relu", 2.0).loss == "cross_entropy"
    assert parsed("orthonormal:2:1/2/8/relu/2").loss == "logistic"
    assert parsed("orthonormal:2:1:4/2/8/relu/2").num_classes == 3
