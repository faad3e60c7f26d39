"""The separation: its parts against hand-made values, and a claim that can fail."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from judged import judged, status

from ntkreg import data, kernels, networks
from ntkreg.experiments import _statistics
from ntkreg.experiments.separation import (
    CURED,
    EXPERIMENT,
    JUMP,
    LEARNS,
    MACHINE,
    SPAN,
    Config,
    claims,
    figure,
    runs,
)  # fmt: skip
from ntkreg.kernels import kernel_machines
from ntkreg.training import trainers

drawn = jax.jit(runs._draw, static_argnames=("config", "dim", "num_rows"))


def test_crossing_interpolates_in_log_size():
    sizes = np.array([10, 40, 160])
    assert _statistics.crossing(sizes, np.array([0.5, 0.3, 0.2]), 0.25) == pytest.approx(80.0)


def test_crossing_is_nan_where_the_level_is_not_crossed_for_good():
    sizes = np.array([1, 2, 4])
    errors = np.array([[0.5, 0.4, 0.3], [0.1, 0.1, 0.1], [0.5, 0.1, 0.3]])
    assert np.isnan(_statistics.crossing(sizes, errors, 0.25)).all()


def test_crossing_takes_the_last_one():
    found = _statistics.crossing(np.array([1, 2, 4, 8]), np.array([0.3, 0.2, 0.3, 0.2]), 0.25)
    assert 4 < found < 8


def test_log_slope_recovers_a_power():
    dims = np.array([10, 20, 80])
    assert _statistics.log_slope(dims, 3.0 * dims**1.7) == pytest.approx(1.7)


def test_bootstrap_interval_covers_the_spread_of_means():
    values = np.random.default_rng(0).normal(size=(1, 400))
    draws = _statistics.resampled(values, 2000, np.random.default_rng(1))
    for low, high in (_statistics.interval(draws), _statistics.mean_interval(values[0])):
        assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)


def test_an_interval_is_unknown_only_where_a_seed_is():
    low, high = _statistics.mean_interval(np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]]))
    # Student's, of one degree of freedom: the mean of 1 and 3 has the standard error 1.
    pair = _statistics.mean_interval(np.array([1.0, 3.0]))
    assert pair == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-3)
    assert low[0] < 1 < 2 < 3 < high[0]
    assert np.isnan([low[1], high[1]]).all()


def test_one_seed_has_no_interval():
    """All its resamples are itself; a width of zero would claim certainty."""
    draw = lambda values: _statistics.resampled(values, 50, np.random.default_rng(0))
    one, two = draw(np.ones((3, 1))), draw(np.ones((3, 2)))
    assert one.shape == two.shape == (50, 3)
    assert np.isnan(one).all() and (two == 1).all()
    assert np.isnan(_statistics.mean_interval(np.array([0.3]))).all()
    assert _statistics.mean_interval(np.array([0.3, 0.3])) == (0.3, 0.3)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_scaling_over_one_seed_has_a_slope_and_no_interval(seeds):
    sizes = np.geomspace(1, 1000, 30)
    curves = {d: (sizes, np.repeat(0.5 / (1 + sizes[:, None] / d), seeds, 1)) for d in (10, 20)}
    found = _statistics.scaling(curves, 0.25, 100)
    assert found.dims == [10, 20] and found.slope == pytest.approx(1.0, abs=0.02)
    is_known = seeds > 1
    assert np.isfinite(found.intervals).all() == np.isfinite(found.slope_interval).all() == is_known
    assert found.intervals.shape == (2, 2)


def test_signal_share_is_one_for_the_label_and_small_for_a_noise_coordinate():
    samples = data.noisy_xor(jax.random.key(0), 20_000, 6)
    counted = jnp.ones(20_000, bool)
    share = lambda f: float(runs.signal_share(f, samples.x, counted))
    assert share(samples.y) == pytest.approx(1.0)
    assert share(samples.x[:, 4]) < 1e-3
    # y and a noise coordinate are independent and of variance 1: half of the sum is signal.
    assert share(samples.y + samples.x[:, 4]) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("lam", [1e-8, 1e-3, 0.05, 0.07, 1.0])
def test_planted_objective_is_the_minimum_over_its_scales(lam):
    scales = np.linspace(0, 40, 400_001)
    on_grid = np.logaddexp(0, -scales) + 8 * lam * scales
    assert runs.planted_objective(lam) == pytest.approx(on_grid.min(), rel=1e-8)


def test_a_network_above_the_planted_objective_is_not_solved():
    """The planted network at its best scale, and at half of it: the residual is exact."""
    lam, network = 1e-3, networks.fully_connected(2, 4)
    signs = jnp.array([1.0, -1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0, -1.0])
    first = jnp.zeros((6, 4)).at[:2].set(jnp.stack(signs))
    last = jnp.array([1.0, 1.0, -1.0, -1.0])[:, None]
    samples = data.noisy_xor(jax.random.key(0), 50, 6)
    best = np.log(1 / (8 * lam) - 1)
    residual = lambda scale: float(
        runs._above_planted(network, (np.sqrt(scale) * first, np.sqrt(scale) * last), samples, lam)
    )
    assert residual(best) == pytest.approx(0.0, abs=1e-12)
    half = np.log1p(np.exp(-best / 2)) + 8 * lam * best / 2
    expected = half / runs.planted_objective(lam) - 1
    assert residual(best / 2) == pytest.approx(expected) and expected > runs.NET_SOLVED


def test_test_points_are_fresh_and_many():
    """At d = 10 there are 1,024 inputs: many drawn points are among the samples."""
    draw, _ = drawn(Config(), 0, 160, dim=10, num_rows=160)
    seen = {row.tobytes() for row in np.asarray(draw.train.x)}
    is_fresh = np.array([row.tobytes() not in seen for row in np.asarray(draw.test.x)])
    np.testing.assert_array_equal(draw.is_fresh, is_fresh)
    assert is_fresh.sum() >= runs.MIN_TEST
    assert not is_fresh.all()


CLAIMS = {
    (LEARNS, "fails"): lambda r: r.assign(test_error=1.0),
    (LEARNS, "undecided"): lambda r: r.assign(residual=1.0),
    (SPAN, "fails"): lambda r: r.assign(r_squared=r.r_squared + 0.1),
    (SPAN, "undecided"): lambda r: r.assign(solved=False),
    (JUMP, "fails"): lambda r: r.assign(r_squared=r.r_squared * 0.7),
    (JUMP, "undecided"): lambda r: r.assign(r_squared=r.r_squared * (1.1 - 0.1 * r.seed)),
    (MACHINE, "fails"): lambda r: r.assign(test_error=r.test_error / 2),
    (MACHINE, "undecided"): lambda r: r[r.dim == r.dim.min()],
}


@pytest.mark.parametrize("claim", [claim for claim, _ in CLAIMS][::2])
def test_the_claims_hold_on_the_committed_table(claim):
    assert status("separation", claim) == "holds"


@pytest.mark.parametrize("case", CLAIMS, ids=lambda case: f"{case[0].statement[:20]} {case[1]}")
def test_a_changed_table_is_judged_otherwise(case):
    claim, wanted = case
    assert status("separation", claim, CLAIMS[case]) == wanted


def test_networks_that_go_along_the_path_again_are_a_claim_of_their_own():
    """Of ten that missed the minimum at first three still do: a finding, with exact intervals."""
    largest = lambda r: (r.predictor == runs.NETWORK) & (r.dim == 25)
    first = lambda r: largest(r) & (r.num_samples == 100) | largest(r) & (r.num_samples == 150)
    edit = lambda r: r.assign(
        first_residual=r.first_residual.mask(first(r), 0.1),
        residual=r.residual.mask(first(r) & (r.num_samples == 100) & (r.seed < 3), 0.1),
    )
    found = judged("separation", edit)[CURED.statement]
    assert found.status == "finding"
    assert [check.measured for check in found.checks] == pytest.approx([0.7, 17 / 20, 10 / 20])
    assert CURED.statement not in judged("separation")


def test_networks_that_missed_the_minimum_are_counted_apart():
    """Their errors say nothing of the theorem, however large."""
    lost = lambda r: r.assign(
        residual=r.residual.mask(r.seed == 0, 0.1), test_error=r.test_error.mask(r.seed == 0, 0.5)
    )
    found = judged("separation", lost)[LEARNS.statement]
    assert found.checks[0].runs == "48 of 60 networks" and found.status == "holds"
    assert found.apart[0] == ("d = 10: 4 of 20 networks end above the planted network's objective")


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_growth_recovers_the_power(power):
    """Errors √(d/n) · d^power: their supremum over n grows like that."""
    cells = [
        dict(dim=d, num_samples=c * d, seed=s) for d in (10, 40) for c in (2, 8) for s in (0, 1)
    ]
    rows = pandas.DataFrame(cells)
    rows["test_error"] = (rows.dim / rows.num_samples) ** 0.5 * rows.dim**power / 10
    slope, ends = _statistics.growth(rows)
    assert slope == pytest.approx(power) and ends == pytest.approx((power, power))


def synthetic():
    """A table whose errors fall from ½ like a power of n over its threshold."""
    points = pandas.DataFrame(runs.points(Config()))
    rows = runs.by_predictor(points, Config())
    is_net = ~rows.predictor.isin(runs.KERNELS)
    threshold = np.where(is_net, 3.0 * rows.dim, 0.6 * rows.dim**2)
    noise = 1 + 0.02 * np.random.default_rng(0).normal(size=len(rows))
    errors = 0.5 / (1 + (rows.num_samples / threshold) ** np.where(is_net, 8.0, 1.0)) * noise
    return rows.assign(
        test_error=errors,
        train_error=0.0,
        signal_share=1 - errors,
        residual=0.0,
        r_squared=1 - 2 * errors,
        solved=True,
        plane=[np.zeros((5, 5))] * len(rows),
        failed="",
    )


def test_the_best_coefficients_are_no_worse_than_the_svm_s_on_the_same_samples():
    """R² of the SVM's function over all inputs at d = 6 is below the largest of any."""
    config = Config(dims=(6,), oracle_dims=(6,), oracle_sizes=(0.5,), sizes_over_d2=(0.5,))
    best = runs._kernels(config, 6, 18, 18, 0)
    draw, _ = drawn(config, 0, 18, dim=6, num_rows=18)
    everything = data.noisy_xor_population(6)
    gram, cross = kernels.ntk(
        networks.fully_connected(2, 1), draw.train.x,
        jnp.concatenate([draw.train.x, everything.x]),
    )[:, :18], kernels.ntk(networks.fully_connected(2, 1), everything.x, draw.train.x)  # fmt: skip
    outputs = cross @ kernel_machines.hard_margin_svm(gram, draw.train.y).coefficients
    of_svm = float(jnp.mean(everything.y * outputs) ** 2 / jnp.mean(outputs**2))
    assert of_svm < float(best["r_squared"][-1]) < 1


def test_the_slope_s_interval_holds_the_true_power():
    found = claims.scaling(synthetic(), "ntk_svm")
    assert found.slope == pytest.approx(2.0, abs=0.05)
    assert found.slope_interval[0] <= found.slope <= found.slope_interval[1]


def test_the_figure_has_a_line_for_every_curve():
    drawn = figure.figure(synthetic(), Config())
    texts = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in drawn.axes[:5]]
    assert texts[0][-1] == "best β, n = 0.3 d²" and "√(d/n)" in texts[1]
    assert texts[3] == [f"d = {dim}" for dim in Config().oracle_dims]
    assert texts[4] == ["predicted", *texts[3]]


def test_without_the_learned_functions_the_figure_says_so():
    drawn = figure.figure(synthetic().drop(columns="plane"), Config())
    for ax in drawn.axes[6:8]:
        assert "function not kept" in [text.get_text() for text in ax.texts]


def test_the_table_keeps_the_functions_that_are_drawn_and_residuals_where_there_is_a_lam():
    points = pandas.DataFrame(runs.points(Config()))
    one = [np.zeros(4)] * len(points)
    each = dict(residual=one, r_squared=one, first_residual=one, paths_more=one)
    each |= dict(plane=[np.zeros((4, 5, 5))] * len(points))
    rows = runs.table(points.assign(**each), Config())
    drawn = rows[rows.plane.notna()]
    assert set(drawn.predictor) == {"net_regularized", "ntk_svm"}
    assert set(zip(drawn.dim, drawn.num_samples, strict=True)) == {(40, 240)}
    assert len(drawn) == 2 * Config().num_seeds
    assert set(rows[rows.residual.isna()].predictor) == set(runs.BASELINES)
    assert set(rows[rows.r_squared.notna()].predictor) == {runs.ORACLE}


def test_points_leave_out_what_is_too_large():
    config = Config(max_ntk_samples=320, max_tuned_samples=100)
    rows = runs.by_predictor(pandas.DataFrame(runs.points(config)), config)
    sizes = set(zip(rows.predictor, rows.dim, rows.num_samples, strict=True))
    assert ("ntk_svm", 20, 320) in sizes and ("ntk_svm", 40, 1280) not in sizes
    assert max(n for predictor, _, n in sizes if predictor in runs.TUNED) <= 100
    assert {predictor for predictor, _, _ in sizes} == set(runs.PREDICTORS)


def test_few_programs_serve_all_sizes():
    points = pandas.DataFrame(runs.points(EXPERIMENT.preset("laptop")))
    assert (points.num_rows >= points.num_samples).all()
    assert len(points.groupby(["kind", "dim", "num_rows"])) <= 6


@pytest.mark.parametrize(("num_samples", "num_rows"), [(3, 12), (5, 12), (12, 12)])
def test_all_samples_count_equally(num_samples, num_rows):
    draw, _ = drawn(Config(), 0, num_samples, dim=20, num_rows=num_rows)
    _, number = np.unique(np.asarray(draw.train.x), axis=0, return_inverse=True)
    weights = np.bincount(number, draw.weights)
    np.testing.assert_allclose(weights, np.full(num_samples, num_rows / num_samples))


def test_samples_repeated_unequally_make_the_same_network():
    config = Config(lams=(1e-4,), num_steps=50, width=16)
    trained = []
    for num_rows in (12, 20):
        draw, key = drawn(config, 0, 12, dim=6, num_rows=num_rows)
        network = networks.fully_connected(2, 16)
        options = runs._training_of(config, True) | dict(loss=runs.WEIGHTED)
        found = trainers.train(network, runs._weighted(draw), key=key, **options)
        trained.append(found.params)
    chex.assert_trees_all_close(*trained, rtol=1e-6)


def test_kernel_predictors_do_not_depend_on_the_number_of_rows():
    """With as many rows as samples they are the plain machines of the plain Gram matrix."""
    config = Config(dims=(6,), sizes_over_d2=(0.5,), oracle_dims=(6,), oracle_sizes=(0.5,))
    few, many = (runs._kernels(config, 6, 18, rows, 0) for rows in (18, 40))
    for name in ("test_error", "lam"):
        np.testing.assert_array_equal(few[name], many[name])
    for name in ("train_error", "normalized_margin", "signal_share", "plane", "r_squared"):
        np.testing.assert_allclose(few[name], many[name], rtol=1e-4, atol=1e-6)
    draw, _ = drawn(config, 0, 18, dim=6, num_rows=18)
    gram = kernels.ntk(networks.fully_connected(2, config.width), draw.train.x)
    svm = kernel_machines.hard_margin_svm(gram, draw.train.y)
    assert float(few["normalized_margin"][0]) == pytest.approx(float(svm.margin), rel=1e-7)


def test_repeating_all_samples_changes_no_predictor():
    """So a run may fill its rows with repetitions: means, minima and max margins stay."""
    samples = data.noisy_xor(jax.random.key(0), 12, 6)
    repeated = jax.tree.map(lambda a: a[jnp.arange(36) % 12], samples)
    network = networks.fully_connected(2, 16)
    once, thrice = (
        trainers.train(network, d, lam=1e-4, key=jax.random.key(1), num_steps=50)
        for d in (samples, repeated)
    )
    chex.assert_trees_all_close(once.params, thrice.params, rtol=1e-7)
    svms = [
        kernel_machines.hard_margin_svm(kernels.ntk(network, d.x), d.y) for d in (samples, repeated)
    ]
    assert float(svms[0].margin) == pytest.approx(float(svms[1].margin), rel=1e-8)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(10, 2)), "dims must be at least 3, got 2"),
        (dict(dims=()), "dims must have at least one value"),
        (dict(lams=(1e-3, -1.0)), "lams must be positive and finite, got -1.0"),
        (dict(lams=(float("nan"),)), "lams must be positive and finite, got nan"),
        (dict(predictors=("svm",)), "predictors must be one of net_regularized.*got svm"),
        (dict(width=0), "width must be at least 1, got 0"),
        (dict(num_test=100), "num_test must be at least 10000, got 100"),
        (dict(kernel_dtype="float16"), "kernel_dtype must be one of float32, float64"),
        (dict(kernel_dtype="float32"), "kernel_dtype must be float64 for ntk_oracle, got float32"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_an_unknown_preset_is_named():
    with pytest.raises(
        ValueError, match=r"preset must be one of smoke, laptop, thorough, cure, full, got 'big'"
    ):
        EXPERIMENT.preset("big")
