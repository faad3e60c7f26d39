"""Certified margins and minima: both sides checked by other code, and against known answers."""

import functools
import math

import flint
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from samples import orthonormal, population

from ntkreg.certificates.balls import above, below
from ntkreg.certificates.certified import dual_bound, global_minimum, max_margin, polish
from ntkreg.data.dataset import Dataset, noisy_xor
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.kernels.l1_machines import circle, l1_svm, relu_dictionary
from ntkreg.networks.network import fully_connected
from ntkreg.theory.closed_forms import orthonormal_margin
from ntkreg.training.margins import normalized_margin
from ntkreg.training.objectives import get_loss, log_objective, objective
from ntkreg.training.trainers import train


def dataset(x, y):
    return Dataset(jnp.asarray(x, float), jnp.asarray(y, float))


def random_labels(seed, n, rank):
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], n)
    y[:2] = 1, -1
    return dataset(rng.normal(size=(n, rank)), y)


exact_margin = functools.cache(lambda *key: max_margin(random_labels(*key)))
SMALL = (0, 12, 3)  # (seed, n, rank) of the set that most tests share


WIDE = fully_connected(2, 64)


def padded(params):
    """With neurons that are zero: programs are compiled for one width."""
    more = max(0, 64 - params[0].shape[1])
    first, last = map(np.asarray, params)
    return jnp.asarray(np.pad(first, [(0, 0), (0, more)])), np.pad(last, [(0, more), (0, 0)])


_margin = jax.jit(functools.partial(normalized_margin, WIDE))
_objective = jax.jit(
    lambda loss, *arguments: objective(get_loss(loss), WIDE, *arguments), static_argnums=0
)
_log_objective = jax.jit(functools.partial(log_objective, get_loss("logistic"), WIDE))


def margin_again(params, data):
    """By the package's network, in JAX."""
    return float(_margin(padded(params), data))


def objective_again(params, data, lam, loss):
    return float(_objective(loss, padded(params), data, jnp.log(lam)))


def log_objective_again(params, data, lam):
    return float(_log_objective(padded(params), data, jnp.log(lam)))


@functools.cache
def unit_directions(count, dim):
    u = np.random.default_rng(11).normal(size=(count, dim))
    return u / np.linalg.norm(u, axis=1, keepdims=True)


def largest_gain(weights, data, count=100_000):
    """max |Σ cᵢ relu(uᵀxᵢ)| over random directions."""
    x, largest = np.asarray(data.x), 0.0
    for u in np.array_split(unit_directions(count, x.shape[1]), 4):
        largest = max(largest, np.abs(np.maximum(u @ x.T, 0.0) @ weights).max())
    return largest


@jax.jit
def ascended(weights, x, starts):
    """The same by projected gradient ascent with shrinking steps."""
    gain = lambda u: jnp.maximum(x @ u, 0.0) @ weights
    size = jnp.abs(weights) @ jnp.linalg.norm(x, axis=1)

    def step(k, u):
        u = u + jax.vmap(jax.grad(gain))(u) * 3 / (size * (1 + k))
        return u / jnp.linalg.norm(u, axis=1, keepdims=True)

    return jnp.max(jax.vmap(gain)(jax.lax.fori_loop(0, 300, step, starts)))


SETS = [(seed, n, rank) for rank in (2, 3) for seed, n in ((0, 10), (2, 15), (3, 20), (5, 30))]


@pytest.mark.parametrize("key", SETS, ids=str)
def test_random_labels_of_rank_two_and_three_are_solved_exactly(key):
    found = exact_margin(*key)
    assert 0 < found.lower <= found.upper
    assert found.gap == pytest.approx(1 - found.lower / found.upper, abs=1e-15)
    assert found.gap <= 1e-6
    assert found.kind == "exact"


@pytest.mark.slow
def test_rank_four_is_solved_exactly():
    found = exact_margin(0, 20, 4)
    assert 0 < found.lower <= found.upper and found.gap <= 1e-5
    assert found.kind == "exact"


@pytest.mark.parametrize("key", SETS, ids=str)
def test_primal_has_the_lower_bound_in_other_code(key):
    """And no more neurons than there are samples."""
    found, data = exact_margin(*key), random_labels(*key)
    assert margin_again(found.primal, data) == pytest.approx(found.lower, rel=1e-9)
    assert found.primal[0].shape[1] <= len(data.y) + 1
    norms = np.linalg.norm(found.primal[0], axis=0)
    np.testing.assert_allclose(norms, np.abs(found.primal[1][:, 0]), rtol=1e-9)


@pytest.mark.parametrize("key", [SETS[3], SETS[7]], ids=str)
def test_dual_weights_leave_nothing_above_the_upper_bound(key):
    """10⁵ random directions, and ascents from 10³ of them, reach it and do not pass it."""
    found, data = exact_margin(*key), random_labels(*key)
    alpha = found.dual
    assert (alpha >= 0).all() and alpha.sum() == pytest.approx(1, rel=1e-12)
    weights = alpha * np.asarray(data.y)
    limit, starts = 2 * found.upper, jnp.asarray(unit_directions(1000, key[2]))
    assert largest_gain(weights, data) <= limit * (1 + 1e-9)
    best = max(float(ascended(sign * weights, data.x, starts)) for sign in (1, -1))
    assert 0.98 * limit <= best <= limit * (1 + 1e-9)


def test_what_is_outside_the_row_space_changes_nothing():
    """x in seven dimensions: the network comes out there, with the same margin."""
    data, rng = random_labels(*SMALL), np.random.default_rng(1)
    into = np.linalg.qr(rng.normal(size=(7, 3)))[0].T
    found = max_margin(dataset(data.x @ into, data.y))
    assert found.primal[0].shape[0] == 7 and found.kind == "exact"
    assert found.lower == pytest.approx(exact_margin(*SMALL).lower, rel=1e-6)
    skew = rng.normal(size=(3, 7))
    skewed = dataset(data.x @ skew, data.y)
    found = max_margin(skewed)
    assert margin_again(found.primal, skewed) == pytest.approx(found.lower, rel=1e-9)
    within = max_margin(dataset(data.x @ np.linalg.qr(skew.T)[1].T, data.y))
    assert found.lower == pytest.approx(within.lower, rel=1e-6)


@pytest.mark.parametrize(("positive", "negative"), [(1, 1), (1, 3), (2, 2), (3, 1)])
def test_orthonormal_inputs_have_the_closed_form(positive, negative):
    found = max_margin(orthonormal(positive, negative))
    expected = orthonormal_margin(2, positive, negative)
    assert found.lower == pytest.approx(expected, rel=1e-6)
    assert found.upper == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dim", [3, 4])
def test_the_population_of_D_has_one_eighth(dim):
    found = max_margin(population(dim))
    assert found.kind == "exact" and found.gap <= 1e-6
    assert found.lower <= 1 / 8 * (1 + 1e-12) and found.upper >= 1 / 8 * (1 - 1e-12)


def test_a_point_and_its_opposite():
    """Each has its own neuron, as orthonormal ones do: ‖x‖/4."""
    found = max_margin(dataset([[1.0, 2.0], [-1.0, -2.0]], [1, -1]))
    assert found.lower == pytest.approx(5**0.5 / 4, rel=1e-7)
    assert found.upper == pytest.approx(5**0.5 / 4, rel=1e-7)


@pytest.mark.parametrize("oracle", ["enumerate", "branch_and_bound", "multistart"])
@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e9])
def test_margin_scales_with_the_inputs(scale, oracle):
    data, known = random_labels(*SMALL), exact_margin(*SMALL)
    found = max_margin(Dataset(scale * data.x, data.y), oracle=oracle)
    assert found.gap <= 1e-6
    assert found.lower == pytest.approx(scale * known.lower, rel=1e-6)


@pytest.mark.parametrize("oracle", ["enumerate", "branch_and_bound"])
def test_a_further_sample_never_raises_the_margin(oracle):
    data, before = random_labels(2, 10, 3), np.inf
    for n in range(3, 11):
        found = max_margin(Dataset(data.x[:n], data.y[:n]), oracle=oracle)
        assert found.lower <= before * (1 + 1e-9)
        before = found.upper


@functools.cache
def trained_far():
    """On SMALL to λ = 1e-100."""
    options = {"lam": (1e-4, 1e-16, 1e-100), "learning_rate": 0.1, "num_steps": 6000}
    network = fully_connected(2, 64)
    return train(network, random_labels(*SMALL), key=jax.random.key(0), **options).params


def test_training_comes_near_the_margin_and_never_past_it():
    """λ → 1e-100."""
    data, found = random_labels(*SMALL), exact_margin(*SMALL)
    network = fully_connected(2, 64)
    reached = float(normalized_margin(network, trained_far(), data))
    assert 0.97 * found.lower <= reached <= found.upper * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(2))
def test_points_on_a_line_have_half_the_l1_margin(seed):
    """A circle of 1000 neurons holds one within π/1000 of each: it gives at most 1e-4 less."""
    points = np.sort(np.random.default_rng(seed).uniform(-2, 2, 8))
    x, y = np.stack([points, np.ones(8)], axis=1), np.array([1.0, -1, -1, 1, 1, -1, 1, 1])
    half = l1_svm(relu_dictionary(circle(1000), x), y).lower / 2
    found = max_margin(dataset(x, y))
    assert half <= found.upper
    assert half == pytest.approx(found.lower, rel=0.02)
    finer = l1_svm(relu_dictionary(circle(20_000), x), y).lower / 2
    assert finer <= found.upper and finer == pytest.approx(found.lower, rel=1e-3)


@pytest.mark.parametrize(
    "data",
    [noisy_xor(jax.random.key(0), 24, 6), random_labels(0, 16, 5)],
    ids=["D", "gaussian of rank 5"],
)
def test_branch_and_bound_certifies_beyond_rank_four(data):
    found = max_margin(data)
    assert found.kind == "certified" and 0 <= found.gap <= 1e-5
    assert found.nodes > 0
    assert margin_again(found.primal, data) == pytest.approx(found.lower, rel=1e-9)
    weights = found.dual * np.asarray(data.y)
    starts = jnp.asarray(unit_directions(1000, data.x.shape[1]))
    best = max(float(ascended(sign * weights, data.x, starts)) for sign in (1, -1))
    assert 0.9 * found.upper <= best / 2 <= found.upper * (1 + 1e-9)


def test_the_three_oracles_agree_and_say_what_they_prove():
    data, kinds = random_labels(*SMALL), ("exact", "certified", "heuristic")
    for oracle, kind in zip(("enumerate", "branch_and_bound", "multistart"), kinds, strict=True):
        margin = max_margin(data, oracle=oracle)
        minimum = global_minimum(data, 1e-2, oracle=oracle)
        assert margin.kind == minimum.kind == kind
        assert margin.lower == pytest.approx(exact_margin(*SMALL).lower, rel=1e-6)
        assert minimum.lower == pytest.approx(global_minimum(data, 1e-2).lower, rel=1e-6)


@pytest.mark.parametrize("oracle", ["enumerate", "branch_and_bound"])
@pytest.mark.parametrize("max_rounds", [1, 2])
def test_a_search_that_stops_early_has_valid_bounds_and_is_not_called_exact(max_rounds, oracle):
    unfinished = 0
    for key in (SETS[2], SETS[6]):
        data, known = random_labels(*key), exact_margin(*key)
        for found in (
            max_margin(data, oracle=oracle, max_rounds=max_rounds),
            dual_bound(known.primal, data, oracle=oracle, max_rounds=max_rounds),
        ):
            assert found.lower <= known.upper * (1 + 1e-9)
            assert found.upper >= known.lower * (1 - 1e-9)
            assert found.kind == "certified" or (found.kind == "exact" and found.gap <= 1e-6)
        least = global_minimum(data, 1e-3, oracle=oracle, max_rounds=max_rounds)
        assert least.lower <= least.upper * (1 + 1e-12)
        assert least.kind == "certified" or least.gap <= 1e-7
        unfinished += least.gap > 1e-7
    assert unfinished > 0


# The minimum ---------------------------------------------------------------------------------


def hand_made_dual(found, data, loss):
    """mean −ℓ*(−b): entropy of by for the logistic loss, by − b²/4 for the squared one."""
    b, y = found.dual, np.asarray(data.y)
    if loss == "squared":
        return np.mean(b * y - b**2 / 4)
    share = b * y
    assert (share >= 0).all() and (share <= 1).all()
    parts = [a[a > 0] @ np.log(a[a > 0]) for a in (share, 1 - share)]
    return -sum(parts) / len(y)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("lam", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("rank", [2, 3])
def test_minima_are_exact_and_both_sides_hold_in_other_code(rank, lam, loss):
    data = random_labels(1, 14, rank)
    found = global_minimum(data, lam, loss=loss)
    assert found.kind == "exact" and found.gap <= 1e-6
    assert found.lower <= found.upper * (1 + 1e-14)
    assert objective_again(found.primal, data, lam, loss) == pytest.approx(found.upper, rel=1e-9)
    assert hand_made_dual(found, data, loss) == pytest.approx(found.lower, rel=1e-9)
    gain = largest_gain(found.dual / len(data.y), data)
    assert gain <= 2 * lam * (1 + 1e-9)
    if found.upper < 0.9 * get_loss(loss).value(0.0, 1.0):
        assert gain >= 1.9 * lam  # else the bound is slack
    assert found.primal[0].shape[1] <= len(data.y)


@pytest.mark.parametrize("seed", range(2))
def test_small_lambda_on_hard_labels_is_exact_too(seed):
    """Margins down to 4e-4: Σ‖v‖ is some thousands there, and the outputs near 10."""
    found = global_minimum(random_labels(seed, 20, 2), 1e-6)
    assert found.kind == "exact" and found.gap <= 1e-6


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("scale", [1e-6, 1e12])
def test_minimum_keeps_where_inputs_and_lambda_scale_together(loss, scale):
    """f(cx) of weights Θ is f(x) of √c Θ, and λc‖Θ‖² = λ‖√c Θ‖²."""
    data = random_labels(*SMALL)
    known = global_minimum(data, 1e-2, loss=loss)
    found = global_minimum(Dataset(scale * data.x, data.y), scale * 1e-2, loss=loss)
    assert found.gap <= 1e-6
    assert found.lower == pytest.approx(known.lower, rel=1e-6)


@pytest.mark.parametrize("lam", [1e-2, 1e-4])
def test_training_comes_to_the_minimum_and_never_below_it(lam):
    data = random_labels(*SMALL)
    found = global_minimum(data, lam)
    options = {"lam": lam, "learning_rate": 0.02, "num_steps": 8000, "descend": "log"}
    params = train(fully_connected(2, 64), data, key=jax.random.key(0), **options).params
    reached = objective_again(params, data, lam, "logistic")
    assert found.lower * (1 - 1e-9) <= reached <= found.upper * (1 + 1e-3)


@pytest.mark.parametrize(("loss", "value"), [("logistic", math.log(2)), ("squared", 1.0)])
def test_large_lambda_leaves_the_zero_network(loss, value):
    for lam in (1.0, 100.0):
        found = global_minimum(random_labels(*SMALL), lam, loss=loss)
        assert found.lower == pytest.approx(value, rel=1e-12)
        assert found.upper == pytest.approx(value, rel=1e-9)
        assert sum(np.sum(p**2) for p in found.primal) < 1e-8


@pytest.mark.parametrize("loss", ["logistic", "squared"])
@pytest.mark.parametrize("seed", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_one_sign_of_output_weights_is_no_better_than_both(seed, loss):
    """And y → −y exchanges the signs."""
    data = random_labels(seed, 12, 3)
    flipped = Dataset(data.x, -data.y)
    free = global_minimum(data, 1e-3, loss=loss)
    for sign in (1, -1):
        found = global_minimum(data, 1e-3, loss=loss, output_sign=sign)
        assert found.kind == "exact" and found.gap <= 1e-6
        assert found.lower > 1.01 * free.upper  # these labels need both
        assert (sign * found.primal[1] > 0).all()
        known = fully_connected(2, 20).init(jax.random.key(0), 3)  # of both signs
        again = global_minimum(data, 1e-3, loss=loss, output_sign=sign, params=known)
        assert again.upper == pytest.approx(found.upper, rel=1e-6)
        other = global_minimum(flipped, 1e-3, loss=loss, output_sign=-sign)
        assert other.upper == pytest.approx(found.upper, rel=1e-6)
        limit = largest_gain_of_sign(sign * found.dual / 12, data)
        assert limit <= 2e-3 * (1 + 1e-9)


def largest_gain_of_sign(weights, data):
    x = np.asarray(data.x)
    return (np.maximum(unit_directions(100_000, x.shape[1]) @ x.T, 0.0) @ weights).max()


def test_one_sign_that_gains_nothing_stays_at_zero():
    """relu(ux) of x = 1 and 2 says +1 of the second, which is −1, twice as loudly."""
    data = dataset([[1.0], [2.0]], [1, -1])
    found = global_minimum(data, 0.01, output_sign=1)
    assert found.upper == pytest.approx(math.log(2), rel=1e-12)
    assert global_minimum(data, 0.01, output_sign=-1).upper < 0.66


def test_labels_of_zero_are_fitted_by_the_zero_network():
    found = global_minimum(dataset(random_labels(*SMALL).x, np.zeros(12)), 0.1, loss="squared")
    assert found.lower == found.upper == found.gap == 0.0


@pytest.mark.parametrize("lam", [1e-4, 1e-2, 0.05, 0.0624, 0.07])
def test_minimum_on_the_population_of_D_is_the_planted_network(lam):
    """min over c of log(1 + e^(−c)) + 8λc, at e^(−c) = 8λ/(1 − 8λ): c = 0 from λ = 1/16 on."""
    c = max(0.0, math.log((1 - 8 * lam) / (8 * lam)))
    expected = math.log1p(math.exp(-c)) + 8 * lam * c
    found = global_minimum(population(3), lam)
    assert found.lower == pytest.approx(expected, rel=1e-7)
    assert found.upper == pytest.approx(expected, rel=1e-7)


def test_squared_loss_of_one_point_by_hand():
    """f = wu at x = 1: (f − y)² + 2λ|f| is least at f = y − λ, with λ(2y − λ)."""
    found = global_minimum(dataset([[1.0]], [3.0]), 0.5, loss="squared")
    assert found.upper == pytest.approx(0.5 * 5.5, rel=1e-8)
    assert found.lower == pytest.approx(0.5 * 5.5, rel=1e-8)


def test_minimum_rises_with_lambda_and_known_units_change_nothing():
    data = random_labels(*SMALL)
    network = fully_connected(2, 8)
    params = network.init(jax.random.key(0), 3)
    before = 0.0
    for lam in (1e-4, 1e-2, 1e-1):
        found = global_minimum(data, lam)
        assert found.lower > before
        before = found.upper
        again = global_minimum(data, lam, params=params)
        assert again.upper == pytest.approx(found.upper, rel=1e-6)
    margin = max_margin(data, params=params)
    assert margin.lower == pytest.approx(exact_margin(*SMALL).lower, rel=1e-6)


# Far down the path ---------------------------------------------------------------------------

FAR = [1e-16, 1e-100, 1e-300]
least = functools.cache(lambda key, lam: global_minimum(random_labels(*key), lam))


@pytest.mark.parametrize(
    ("key", "lam"), [*((SMALL, lam) for lam in FAR), (SETS[1], 1e-16), (SETS[5], 1e-300)], ids=str
)
def test_minima_far_down_the_path_hold_on_both_sides_in_other_code(key, lam):
    """All b are tiny: −ℓ*(−b) = a(1 − log a) at a = by, but for a² and above."""
    found, data = least(key, lam), random_labels(*key)
    assert 0 < found.lower <= found.upper and found.gap <= 1e-6
    assert found.gap == pytest.approx(1 - found.lower / found.upper, abs=1e-15)
    assert log_objective_again(found.primal, data, lam) == pytest.approx(
        math.log(found.upper), abs=1e-9
    )
    a = found.dual * np.asarray(data.y)
    assert (a >= 0).all() and a.max() < 1e-12
    value = np.mean(a[a > 0] * (1 - np.log(a[a > 0]))) * np.mean(a > 0)
    assert value == pytest.approx(found.lower, rel=1e-9)
    gain = largest_gain(found.dual / len(a) / lam, data)
    assert 1.8 <= gain <= 2 * (1 + 1e-9)
    assert found.primal[0].shape[1] <= len(a)


@pytest.mark.parametrize("key", [SMALL, SETS[1]], ids=str)
def test_minima_far_down_the_path_tend_to_the_max_margin(key):
    """λ‖Θ‖² is nearly all of F there: γ*F/λ falls towards log(1/λ), its margin rises to γ*."""
    known, margins = exact_margin(*key), []
    for lam in (1e-9, *FAR):
        found = least(key, lam)
        margins.append(margin_again(found.primal, random_labels(*key)) / known.upper)
        ratio = known.upper * found.upper / lam / math.log(1 / lam)
        assert abs(ratio - 1) < 10 / math.log(1 / lam)
    assert margins == sorted(margins) and 1 - 4 / math.log(1e300) < margins[-1] <= 1


def test_both_starts_meet_where_they_change():
    data = random_labels(*SMALL)
    near, far = (global_minimum(data, lam) for lam in (1e-9, 1e-9 * (1 - 1e-9)))
    assert near.gap <= 1e-6 and far.gap <= 1e-6
    assert far.upper == pytest.approx(near.upper, rel=1e-7)


def test_the_minimum_is_concave_and_rises_with_lambda_far_down():
    """As the least of functions that are linear in λ: F/λ falls."""
    lams = 1e-200 * np.array([1.0, 2.0, 16.0])
    values = [least(SMALL, lam).upper for lam in lams]
    assert (np.diff(values) > 0).all()
    assert (np.diff(values / lams) < 0).all()
    slopes = np.diff(values) / np.diff(lams)
    assert (np.diff(slopes) < 0).all()


@pytest.mark.parametrize("lam", FAR)
def test_no_trained_network_is_below_a_minimum_far_down_the_path(lam):
    """Trained to λ = 1e-100, and stretched to the others."""
    data = random_labels(*SMALL)
    for scale in np.geomspace(0.3, 3, 40):
        params = [scale * p for p in trained_far()]
        assert log_objective_again(params, data, lam) >= math.log(least(SMALL, lam).lower)
    if lam == 1e-100:
        reached = log_objective_again(trained_far(), data, lam)
        assert reached <= math.log(least(SMALL, lam).upper) + 0.03


@pytest.mark.parametrize("lam", FAR[::2])
def test_a_trained_start_comes_to_the_same_minimum_and_a_wrong_one_is_replaced(lam):
    data, known = random_labels(*SMALL), least(SMALL, lam)
    untrained = fully_connected(2, 8).init(jax.random.key(0), 3)
    assert margin_again(untrained, data) < 0 < margin_again(trained_far(), data)
    for params in (trained_far(), untrained):
        found = global_minimum(data, lam, params=params)
        assert found.gap <= 1e-6
        assert found.upper == pytest.approx(known.upper, rel=1e-6)


@pytest.mark.parametrize("lam", [1e-16, 1e-300])
def test_what_is_outside_the_row_space_changes_no_minimum_far_down(lam):
    data = random_labels(*SMALL)
    into = np.linalg.qr(np.random.default_rng(1).normal(size=(7, 3)))[0].T
    found = global_minimum(dataset(data.x @ into, data.y), lam)
    assert found.primal[0].shape[0] == 7
    assert found.upper == pytest.approx(least(SMALL, lam).upper, rel=1e-6)


@pytest.mark.parametrize("lam", [1e-16, 1e-100])
def test_orthonormal_inputs_have_their_minimum_by_hand_far_down(lam):
    """For each class c/n log(1 + e^(−q)) + 2λq√c, least at e^(−q) = t/(1 − t), t = 2λn/√c."""
    expected = 0.0
    for count in (3, 1):
        t = 2 * 4 / count**0.5  # of λ, beside which t² is nothing
        expected += count / 4 * t + 2 * count**0.5 * (math.log(1 / lam) - math.log(t))
    found = global_minimum(orthonormal(3, 1), lam)
    assert found.upper / lam == pytest.approx(expected, rel=1e-6)
    assert found.lower / lam == pytest.approx(expected, rel=1e-6)


def test_branch_and_bound_certifies_far_down_the_path_beyond_rank_four():
    data = noisy_xor(jax.random.key(0), 24, 6)
    found = global_minimum(data, 1e-100)
    assert found.kind == "certified" and found.gap <= 1e-5
    assert log_objective_again(found.primal, data, 1e-100) == pytest.approx(math.log(found.upper))


# Trained networks ----------------------------------------------------------------------------


@functools.cache
def trained_on_D():
    data = noisy_xor(jax.random.key(0), 60, 10)
    options = {"lam": 1e-6, "learning_rate": 0.01, "num_steps": 3000}
    return data, train(fully_connected(2, 64), data, key=jax.random.key(0), **options).params


@functools.cache
def trained_on_small():
    """At λ = 1e-6 a network's smallest margin is some percent short of the max."""
    options = {"lam": 1e-6, "learning_rate": 0.02, "num_steps": 8000}
    data = random_labels(*SMALL)
    return data, train(fully_connected(2, 64), data, key=jax.random.key(0), **options).params


@pytest.mark.parametrize("key", [SETS[0], SETS[4]], ids=str)
@pytest.mark.parametrize("width", [1, 40])
def test_polish_never_lowers_the_margin(key, width):
    """Random networks, most of them wrong on some sample."""
    data = random_labels(*key)
    for seed in range(3):
        params = fully_connected(2, width).init(jax.random.key(seed), key[2])
        better = polish(params, data)
        assert margin_again(better, data) >= margin_again(params, data) - 1e-14
        assert margin_again(better, data) <= exact_margin(*key).upper * (1 + 1e-9)
        patterns = lambda p: {
            (tuple(column), sign > 0)
            for column, sign in zip(
                (np.asarray(data.x) @ np.asarray(p[0]) > 1e-9).T,
                np.asarray(p[1])[:, 0],
                strict=True,
            )
        }
        assert len(patterns(better)) <= len(patterns(params))


@pytest.mark.slow
def test_polish_lifts_a_trained_network_on_D():
    data, params = trained_on_D()
    better = polish(params, data)
    assert better[0].shape[0] == 10 and better[0].shape[1] <= 60
    before, after = margin_again(params, data), margin_again(better, data)
    assert 0.08 < before < after * (1 - 1e-3)
    assert after <= 1 / 8 * (1 + 1e-3)
    assert margin_again(polish(better, data), data) >= after


def test_polish_of_the_best_network_keeps_it():
    data, best = random_labels(*SMALL), exact_margin(*SMALL)
    assert margin_again(polish(best.primal, data), data) >= best.lower * (1 - 1e-12)
    empty = (np.zeros((3, 0)), np.zeros((0, 1)))
    assert polish(empty, data)[0].shape == (3, 0)


def test_a_trained_network_brackets_the_margin():
    """Its own margin below; its own dual weights, proved by the oracle, above."""
    data, params = trained_on_small()
    known = exact_margin(*SMALL)
    found = dual_bound(params, data)
    assert found.lower == pytest.approx(margin_again(params, data), rel=1e-12)
    assert found.lower <= known.lower and known.upper <= found.upper * (1 + 1e-9)
    assert found.upper <= 1.05 * known.upper
    q = np.asarray(data.y * fully_connected(2, 64).apply(params, data.x))
    alpha = 1 / (1 + np.exp(q))
    np.testing.assert_allclose(found.dual, alpha / alpha.sum(), rtol=1e-9)
    assert largest_gain(found.dual * np.asarray(data.y), data) <= 2 * found.upper
    assert found.kind == "certified" and found.gap > 0
    np.testing.assert_array_equal(found.primal[0], params[0])


def test_a_known_network_is_never_undercut():
    """With `params` the lower bound is at least theirs, whatever rounds are left to better it."""
    data, known = random_labels(*SMALL), exact_margin(*SMALL)
    padded = (
        np.pad(np.asarray(known.primal[0]), [(0, 0), (0, 2)]),
        np.pad(np.asarray(known.primal[1]), [(0, 2), (0, 0)]),
    )
    for oracle in ("enumerate", "branch_and_bound"):
        found = max_margin(data, params=padded, oracle=oracle, max_rounds=1)
        assert found.lower >= known.lower * (1 - 1e-12)
        assert found.lower == pytest.approx(margin_again(found.primal, data), rel=1e-9)


def test_other_weights_give_other_bounds_and_rounds_better_them():
    data, params = trained_on_small()
    known = exact_margin(*SMALL)
    even = dual_bound(params, data, alpha=np.full(12, 7.0))
    assert even.upper > 1.05 * known.upper
    np.testing.assert_allclose(even.dual, 1 / 12, rtol=1e-12)
    best = dual_bound(params, data, alpha=known.dual)
    assert best.upper == pytest.approx(known.upper, rel=1e-9)
    own = dual_bound(params, data)
    rounds = dual_bound(params, data, alpha=np.ones(12), max_rounds=50)
    assert rounds.upper < min(even.upper, own.upper)
    assert rounds.upper == pytest.approx(known.upper, rel=1e-6)
    assert rounds.lower == own.lower and rounds.kind == "certified"


def test_a_trained_network_on_D_is_bracketed_by_branch_and_bound():
    """At d = 6, n = 24, where the planted 1/8 is nearly the sample's max margin."""
    data = noisy_xor(jax.random.key(0), 24, 6)
    options = {"lam": 1e-8, "learning_rate": 0.02, "num_steps": 4000}
    params = train(fully_connected(2, 32), data, key=jax.random.key(0), **options).params
    known, found = max_margin(data), dual_bound(params, data)
    assert found.kind == "certified"
    assert 0.9 * known.lower < found.lower < known.upper
    assert known.lower <= found.upper < 1.02 * known.upper


# Bad input -----------------------------------------------------------------------------------

GOOD = random_labels(*SMALL)
PLAIN = (np.ones((3, 2)), np.ones((2, 1)))
X3 = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
LABELS_OF_NO_LINE = [1, 1, -1, -1, -1, 1]  # odd, and not linear: +1, +1 but −1 of the sum


@pytest.mark.parametrize("oracle", ["enumerate", "branch_and_bound"])
@pytest.mark.parametrize(
    "data",
    [
        dataset([[1.0, 2.0], [1.0, 2.0]], [1, -1]),
        dataset([[1.0, 2.0], [2.0, 4.0]], [1, -1]),
        dataset([[1.0, 2.0], [2.0, 4.0], [0.3, -0.7]], [1, -1, 1]),
        dataset([[1.0, 2.0], [0.0, 0.0]], [1, -1]),
        dataset([*X3, *-X3], LABELS_OF_NO_LINE),
        dataset([*1e-8 * X3, *-1e-8 * X3], LABELS_OF_NO_LINE),
        dataset(np.vstack([GOOD.x, 3 * GOOD.x[:1]]), [*GOOD.y, -GOOD.y[0]]),
    ],
    ids=["equal", "parallel", "and a third", "zero", "antipodal", "tiny", "three dimensions"],
)
def test_data_that_no_network_separates_is_refused(data, oracle):
    """Two-layer networks without biases: f(2x) = 2f(x), f(0) = 0, f(x) − f(−x) is linear."""
    with pytest.raises(
        ValueError, match=r"separable.*bound the normalized margin.*by \d\.\de[-+]\d\d"
    ):
        max_margin(data, oracle=oracle)


@pytest.mark.parametrize("lam", [1e-3, 1e-12, 1e-100])
def test_the_minimum_exists_where_no_network_separates(lam):
    """Of one line f(2x) = 2f(x): the best is one number t = f(x), with labels +1 and −1."""
    least = global_minimum(dataset([[1.0, 2.0], [2.0, 4.0]], [1, -1]), lam)
    price = 2 * lam / np.sqrt(5.0)
    value = lambda t: (np.logaddexp(0, -t) + np.logaddexp(0, 2 * t)) / 2 + price * abs(t)
    known = scipy.optimize.minimize_scalar(value, bounds=(-2, 0), method="bounded").fun
    assert least.kind == "exact" and least.gap <= 1e-9
    assert least.upper == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("lam", [1e-190])
def test_samples_beside_an_inseparable_pair_cost_nothing_as_lambda_goes_to_zero(lam):
    """All else is fitted, and of x and 2x with opposite labels the best is one number t = f(x)."""
    rng = np.random.default_rng(6)
    x = rng.normal(size=(6, 2))
    y = np.sign(x[:, 0])
    value = lambda t: (np.logaddexp(0, -t) + np.logaddexp(0, 2 * t)) / 7
    known = scipy.optimize.minimize_scalar(value, (-2, 2), tol=1e-12).fun
    found = global_minimum(dataset(np.r_[x, 2 * x[:1]], np.r_[y, -y[:1]]), lam)
    assert found.kind == "exact" and found.upper == pytest.approx(known, rel=1e-9)


def test_the_squared_minimum_on_a_line_whatever_the_lengths():
    """Σ (y − w|x|)²/n + 2λ|w| on either side of 0: w = (S − nλ sgn S)/Σx², S = Σ y|x|, or 0."""
    x = np.array(
        [-2.88e6, 3.45e-6, -1.05e6, 8.16e9, 1.99e-3, 3.78e-2, 2.91e3, 4.4e-5, 392.0, -471.0]
    )
    y = np.array([-2.74, 0.171, 0.722, 1.07, 2.37, 1.57, -0.299, -2.02, -2.59, -0.985])
    lam, least = 1e6, np.mean(y**2)
    for side in (x > 0, x < 0):
        gain = max(0.0, abs(y[side] @ abs(x[side])) - len(x) * lam)
        least -= gain**2 / (x[side] @ x[side]) / len(x)
    found = global_minimum(dataset(x[:, None], y), lam, loss="squared")
    assert found.kind == "exact" and found.upper == pytest.approx(least, rel=1e-9)


def test_rows_that_only_float64_takes_for_parallel_are_not_separable_either():
    """Their singular value is 0 in float64 (of either sign), though their exact rank is 2."""
    a, b = np.array([134641190948.75954, 263670341747.29718]), 11160396797.850445
    c = np.array([-8141336253.17957, -15943329801.445837])
    x = [[*a, 0], [*c, -0.0], [0, 0, -b], [*-a, -0.0], [*a, b], [*c, -0.0]]
    with pytest.raises(NotSeparable):
        max_margin(dataset(x, [1, 1, 1, -1, 1, -1]))


@pytest.mark.slow
def test_bounds_have_the_digits_that_a_tiny_lambda_asks_for():
    """Two rows of one direction and opposite labels, one 4e7 times longer: log 2 for the other."""
    x = [
        [-7.229343589056525, -1.2048905981760876, -1.2048905981760876, -3.6146717945282627],
        [-67.4105132405745, -67.4105132405745, 0.0, 0.0],
        [-2518148.0609810418, 0.0, -2518148.0609810418, 0.0],
        [-0.06848859178780997, 0.0, -0.06848859178780997, 0.0],
        [-0.1752817265084812, -0.7887677692881654, -0.438204316271203, 0.7887677692881654],
    ]
    found = global_minimum(dataset(x, [1, 1, 1, -1, -1]), 1e-195)
    assert found.upper == pytest.approx(np.log(2) / 5, rel=1e-5) and found.lower <= found.upper


def test_of_nan_nothing_is_known():
    nothing = flint.arb("nan")
    assert below(nothing) == -np.inf and above(nothing) == np.inf


@pytest.mark.slow
def test_every_sample_twice_changes_no_minimum():
    """Rows of lengths 1e14 to 1e-2, whose outputs must be right to the last digits."""
    x = [[1.4e14, 1.4e14], [0.0, -0.0874], [7e11, -1.4e12], [0.31, 0.155], [-1.47e6, 1.47e6]]
    y = [497.17, 474.15, 571.35, -801.47, -426.04]
    once = global_minimum(dataset(x, y), 2.18, loss="squared")
    twice = global_minimum(dataset(x + x, y + y), 2.18, loss="squared")
    assert once.gap <= 1e-9 and twice.gap <= 1e-9
    assert twice.upper == pytest.approx(once.upper, rel=1e-9)


def test_a_separation_by_the_last_bits_is_no_margin():
    third = np.array([1.0, 1.0 / 3.0])
    data = dataset([third, 3.0 * third], [1, -1])  # 3·fl(1/3) rounds to 1
    with pytest.raises(ValueError, match="at unit length by"):
        max_margin(data)
    assert global_minimum(data, 1e-3).gap <= 1e-9


ONE_CLASS = {
    "one sample": ([[3.0, 4.0]], [1], 2.5),
    "one negative class": ([[3.0, 0.0], [0.0, 4.0]], [-1, -1], 1.2),
    "one positive class": (np.eye(2), [1, 1], 1 / (2 * np.sqrt(2))),
}


@pytest.mark.parametrize("name", ONE_CLASS)
def test_one_class_has_a_max_margin(name):
    """γ* = ½ max min over one neuron: ‖x‖/2 of one sample, 1/(2√(Σ 1/‖x‖²)) of orthogonal ones."""
    x, y, known = ONE_CLASS[name]
    found = max_margin(dataset(x, y))
    assert found.kind == "exact" and found.upper == pytest.approx(known, rel=1e-9)


def test_one_sample_has_a_minimum():
    """log(1 + e^(−q)) + 2λq/‖x‖ is least where e^q = ‖x‖/(2λ) − 1."""
    found = global_minimum(dataset([[2.0]], [1]), 0.1)
    assert found.upper == pytest.approx(np.log(10 / 9) + 0.1 * np.log(9), rel=1e-9)


@pytest.mark.parametrize("exponent", [-200, 200])
def test_powers_of_two_change_no_digit_of_a_certificate(exponent):
    """γ*(cx) = cγ*(x), and F*(cx, cλ) = F*(x, λ)."""
    data, scale = random_labels(0, 8, 2), 2.0**exponent
    moved = Dataset(data.x * scale, data.y)
    margin, other = max_margin(data), max_margin(moved)
    assert (other.lower, other.upper) == (margin.lower * scale, margin.upper * scale)
    least, again = global_minimum(data, 1e-3), global_minimum(moved, 1e-3 * scale)
    assert (again.lower, again.upper) == (least.lower, least.upper)


@pytest.mark.parametrize("exponent", [-20, 20])
def test_the_labels_size_changes_no_digit_of_the_squared_minimum(exponent):
    """F*(x, ty, tλ) = t²F*(x, y, λ)."""
    data, t = random_labels(1, 7, 3), 2.0**exponent
    least = global_minimum(data, 1e-2, loss="squared")
    again = global_minimum(Dataset(data.x, t * data.y), t * 1e-2, loss="squared")
    assert (again.lower, again.upper) == (least.lower * t**2, least.upper * t**2)


# (x, y, λ or None, options, right value), most of them where a solver's own tolerances fail.
KNOWN = {
    "squared, far above 0": ([[1.0]], [1e8], 1.0, {"loss": "squared"}, 199999999.0),
    "squared, large labels": ([[1.0]], [1e7], 1.0, {"loss": "squared"}, 19999999.0),
    "rows of 1e11 and 1": (
        [[1e11, 1.0], [1.0, 0.3], [-1.0, 2.0]], [1, -1, 1], None, {}, 0.11247093814414749,
    ),
    "rows of 1 and 1e-10": ([[1.0, 0.0], [0.0, 1e-10]], [1, -1], None, {}, 4.9999999995e-11),
    "rows a hair apart": ([[1.0, 0.0], [1.0, 1e-10]], [1, -1], None, {}, 2.4999999999992456e-11),
    "rows of 1e10 and 1e-3": ([[1e10], [-1e-3]], [1, -1], 1e-4, {}, 0.3365058335052652),
    "steps that went in circles": (
        [[-1.0, -3.0], [-4.0, -1.0], [3.0, -1.0]],
        [0.04444577111724202, -0.843733520048725, -0.09093993985954166], 0.2615061847186365,
        {"loss": "squared"}, 0.110421303582,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_certificates_of_badly_scaled_data(name):
    x, y, lam, options, known = KNOWN[name]
    data = Dataset._make((np.asarray(x), np.asarray(y, float)))
    found = max_margin(data) if lam is None else global_minimum(data, lam, **options)
    assert found.kind == "exact"
    assert found.lower <= known * (1 + 1e-10) and found.upper >= known * (1 - 1e-10)


def test_rows_that_rounding_turned_keep_equal_samples_apart_from_no_margin():
    """All rows are parallel but for their last bits, and two are equal with opposite labels."""
    rows = np.array([[2.0, 3.0], [2.0, 3.0], [-1.0, -1.5], [3.0, 4.5]])
    with pytest.raises(NotSeparable):
        max_margin(dataset(191.41489237643475 * rows, [1.0, -1.0, 1.0, 1.0]))


@pytest.mark.parametrize("seed", range(4))
def test_samples_nearly_on_top_of_each_other_are_fitted_apart(seed):
    """What fits them is next to nothing of the weights, and all of the objective."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, size=(4, 2)) @ rng.integers(-3, 4, size=(2, 3)).astype(float)
    x = np.concatenate([x, x[:2] + 1e-8 * rng.normal(size=(2, 3))])
    y = 1e6 * rng.normal(size=len(x))
    assert global_minimum(dataset(x, y), 1e-8, loss="squared", output_sign=1).gap <= 1e-9


@pytest.mark.slow
def test_weights_of_many_digits_cancel_where_no_network_separates():
    """F* tends to the least loss, of the samples on either side of 0; here by one number each."""
    x = np.array([403.82, -261.7, -198.61, -481.84, -100.2, 410.8, -261.7, 16.92])
    y = np.array([1.0, 1.0, 1.0, 1.0, 1.0, -1.0, -1.0, -1.0])
    least = 0.0
    for side in (x > 0, x < 0):
        loss = lambda slope, side=side: np.logaddexp(0, -y[side] * slope * abs(x[side])).sum()
        least += scipy.optimize.minimize_scalar(loss, (-1e-2, 1e-2), tol=1e-12).fun / len(x)
    found = global_minimum(dataset(x[:, None], y), 1e-60)
    assert found.gap <= 1e-8 and found.upper == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_few_samples_are_exact_beyond_rank_four_whatever_their_lengths(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(6, 5)) * 10.0 ** rng.uniform(-4, 4, (6, 1)), rng.choice([-1.0, 1.0], 6)
    data = dataset(x, y)
    for found in (max_margin(data), global_minimum(data, 1e-3)):
        assert found.kind == "exact" and found.gap <= 1e-9


def test_a_hundred_samples_of_rank_two_are_exact():
    found = max_margin(random_labels(1, 100, 2))
    assert found.kind == "exact" and found.gap <= 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("rank", "n"), [(6, 100), (8, 80)])
def test_random_labels_beyond_rank_four_are_proved_within_a_hundred_thousand_nodes(rank, n):
    """A local search's weights, proved by branch and bound: other samples than `certify`'s."""
    data = random_labels(7, n, rank)
    searched = max_margin(data, oracle="multistart", tolerance=1e-6)
    proof = dict(oracle="branch_and_bound", max_nodes=100_000)
    found = dual_bound(searched.primal, data, alpha=searched.dual, **proof)
    if found.gap > 2e-6:
        found = max_margin(data, params=searched.primal, tolerance=1e-6, **proof)
    assert found.kind == "certified" and found.gap <= 2e-6 and found.nodes < 100_000


@pytest.mark.parametrize("n", [16, pytest.param(32, marks=pytest.mark.slow)])
def test_a_minimizer_has_no_neurons_that_do_nothing(n):
    first, last = global_minimum(random_labels(n, n, 3), 1e-3).primal
    masses = np.linalg.norm(first, axis=0) * np.abs(last[:, 0])
    assert masses.min() > 1e-8 * masses.sum()


NAN_X, NO_ROWS = dataset(GOOD.x.at[1, 2].set(jnp.nan), GOOD.y), dataset(np.zeros((0, 3)), [])
ALPHA = r"alpha must be 12 weights"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: max_margin(NAN_X), r"data\.x must be finite, got nan at \[1, 2\]"),
        (lambda: global_minimum(NAN_X, 0.1), r"data\.x must be finite, got nan at \[1, 2\]"),
        (lambda: polish(PLAIN, NAN_X), r"data\.x must be finite, got nan at \[1, 2\]"),
        (lambda: dual_bound(PLAIN, NAN_X), r"data\.x must be finite, got nan at \[1, 2\]"),
        (lambda: max_margin(NO_ROWS), r"at least one sample.*got x \(0, 3\)"),
        (lambda: max_margin(dataset(GOOD.x[:, :0], GOOD.y)), r"one feature, got x \(12, 0\)"),
        (lambda: max_margin(dataset(0 * GOOD.x, GOOD.y)), "zero throughout"),
        (lambda: max_margin(dataset(GOOD.x, 2 * GOOD.y)), r"data\.y must be −1 or \+1, got 2"),
        (lambda: global_minimum(dataset(GOOD.x, GOOD.y * jnp.inf), 1, loss="squared"), "got inf"),
        (
            lambda: max_margin(random_labels(0, 12, 5), oracle="enumerate"),
            "rank at most 4.*got more",
        ),
        (lambda: max_margin(GOOD, oracle="magic"), "oracle must be one of.*got 'magic'"),
        (lambda: global_minimum(GOOD, 0.1, oracle="magic"), "oracle must be one of.*got 'magic'"),
        (lambda: dual_bound(PLAIN, GOOD, oracle="magic"), "oracle must be one of.*got 'magic'"),
        (lambda: global_minimum(GOOD, 0.0), r"lam must be finite and at least 1e-300, got 0\.0"),
        (lambda: global_minimum(GOOD, -1.0), r"lam must.*got -1\.0"),
        (lambda: global_minimum(GOOD, math.nan), r"lam must.*got nan"),
        (lambda: global_minimum(GOOD, math.inf), r"lam must.*got inf"),
        (lambda: global_minimum(GOOD, 1e-301), r"lam must.*at least 1e-300, got 1e-301"),
        (lambda: global_minimum(GOOD, 1, loss="hinge"), "loss.*logistic, squared, got 'hinge'"),
        (lambda: global_minimum(GOOD, 1, output_sign=2), "output_sign must be.*got 2"),
        (lambda: global_minimum(GOOD, 1, output_sign=0), "output_sign must be.*got 0"),
        (lambda: max_margin(GOOD, max_rounds=0), "max_rounds must be at least 1, got 0"),
        (lambda: max_margin(GOOD, tolerance=math.nan), "tolerance.*between 0 and 1, got nan"),
        (lambda: dual_bound(PLAIN, GOOD, tolerance=0.0), "tolerance.*got 0.0"),
        (lambda: global_minimum(GOOD, 1, max_rounds=0), "max_rounds must be at least 1, got 0"),
        (lambda: polish((np.ones((4, 2)), np.ones((2, 1))), GOOD), r"params.*got \[\(4, 2\)"),
        (lambda: polish((PLAIN[0], np.ones(2)), GOOD), r"params.*got.*\(2,\)"),
        (lambda: polish((PLAIN[0] * math.nan, PLAIN[1]), GOOD), "params must be finite"),
        (lambda: dual_bound((PLAIN[0], PLAIN[1] * math.inf), GOOD), "params must be finite"),
        (lambda: dual_bound(PLAIN[:1], GOOD), r"params.*got \[\(3, 2\)\]"),
        (lambda: max_margin(GOOD, params=PLAIN[::-1]), r"params.*got \[\(2, 1\), \(3, 2\)\]"),
        (lambda: global_minimum(GOOD, 1, params=PLAIN[:1]), r"params.*got \[\(3, 2\)\]"),
        (lambda: dual_bound(PLAIN, GOOD, alpha=np.ones(11)), ALPHA),
        (lambda: dual_bound(PLAIN, GOOD, alpha=np.ones((12, 1))), ALPHA),
        (lambda: dual_bound(PLAIN, GOOD, alpha=np.zeros(12)), ALPHA),
        (lambda: dual_bound(PLAIN, GOOD, alpha=np.arange(12.0) - 1), r"alpha.*got \[-1\."),
        (lambda: dual_bound(PLAIN, GOOD, alpha=np.full(12, np.nan)), "alpha.*nan"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
