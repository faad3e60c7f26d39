"""The maximum of Σ cᵢ relu(uᵀxᵢ) on the ball: three oracles against each other and brute force."""

import flint
import jax
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkreg.certificates import branch_and_bound, sphere_search
from ntkreg.certificates.balls import balls, precision
from ntkreg.certificates.enumeration import arranged, largest, peaks
from ntkreg.certificates.oracles import KINDS, make_oracle
from ntkreg.data.dataset import noisy_xor

BOUNDED = ("enumerate", "branch_and_bound")


def gaussian(seed, spread=True):
    """(x, c) of rank 2–4 and 6–14 rows; lengths and weights over some decades where `spread`."""
    rng = np.random.default_rng(seed)
    num_points, rank = rng.integers(6, 15), rng.integers(2, 5)
    x, c = rng.normal(size=(num_points, rank)), rng.normal(size=num_points)
    return (x * np.exp(rng.normal(size=(num_points, 1))), c**3) if spread else (x, c)


def on_D(seed):
    """Few and integer coordinates: hyperplanes that share lines, and rows that repeat."""
    dim = 3 + seed % 2
    data = noisy_xor(jax.random.key(seed), 14, dim)
    return np.asarray(data.x), np.random.default_rng(seed).normal(size=14)


def with_repeats(seed):
    """Rows that repeat or are parallel, with weights of both signs, and a row of zeros."""
    x, _ = gaussian(seed, spread=False)
    x = np.concatenate([x, x[:2], -x[:2], 2 * x[2:3], np.zeros((1, x.shape[1]))])
    return x, np.random.default_rng(seed).normal(size=len(x))


PROBLEMS = {"gaussian": gaussian, "D": on_D, "repeats": with_repeats}


def value(x, c, u):
    return np.maximum(u @ x.T, 0.0) @ c


def size(x, c):
    """Σ|cᵢ|‖xᵢ‖, which h does not exceed."""
    return np.abs(c) @ np.linalg.norm(x, axis=1)


def largest_of_random(x, c, count=20_000):
    u = np.random.default_rng(7).normal(size=(count, x.shape[1]))
    return max(0.0, value(x, c, u / np.linalg.norm(u, axis=1, keepdims=True)).max())


def check(found, x, c):
    """What every answer promises: unit directions, best first, of different patterns."""
    values, rounding = value(x, c, found.directions), 1e-12 * size(x, c)
    np.testing.assert_allclose(np.linalg.norm(found.directions, axis=1), 1, rtol=1e-12)
    assert (np.diff(values) <= rounding).all()
    assert found.lower == pytest.approx(max([0.0, *values]), abs=rounding)
    assert found.lower <= found.upper + rounding
    patterns = found.directions @ x.T > 0
    assert len(np.unique(patterns, axis=0)) == len(patterns)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("oracle", BOUNDED)
def test_the_maximum_is_that_of_a_dense_net_of_directions(oracle, rank):
    """200,000 directions come within 1e-4 of it on the circle and 1 % on the sphere, not above."""
    rng = np.random.default_rng(rank)
    x, c = rng.normal(size=(12, rank)), rng.normal(size=12)
    found = make_oracle(oracle, x)(c, None)
    best = largest_of_random(x, c, 200_000)
    assert best * (1 - 1e-9) <= found.upper <= best * (1.0001 if rank == 2 else 1.01)
    assert found.lower == pytest.approx(found.upper, rel=1e-6)


@pytest.mark.parametrize("problem", PROBLEMS)
def test_three_oracles_agree_on_many_problems(problem):
    """Local search is proved nothing; it still misses no more than a few of these."""
    missed = 0
    for seed in range(40 if problem == "gaussian" else 15):
        x, c = PROBLEMS[problem](seed)
        exact, bounded, local = (make_oracle(name, x)(c, None) for name in KINDS)
        for found in (exact, bounded, local):
            check(found, x, c)
        assert exact.upper - exact.lower <= 1e-10 * exact.upper + 1e-12 * size(x, c)
        assert exact.lower <= bounded.upper <= exact.upper * (1 + 1e-6) + 1e-8 * size(x, c)
        assert bounded.lower >= exact.lower * (1 - 1e-4)
        assert local.lower <= exact.upper
        missed += local.lower < exact.lower * (1 - 1e-4)
        assert largest_of_random(x, c, 2000) <= min(exact.upper, bounded.upper)
    assert missed <= 1


@pytest.mark.parametrize("max_nodes", [1, 3, 10, 50])
def test_the_bound_holds_wherever_the_search_is_stopped(max_nodes):
    """Started where h is 0, so that nothing but the bound itself is there to hold."""
    tight = 0
    for seed in range(30):
        x, c = gaussian(seed)
        exact = make_oracle("enumerate", x)(c, None)
        x_used, start = np.ascontiguousarray(x), np.zeros(x.shape[1])
        upper, best, nodes = branch_and_bound.branch_and_bound(x_used, c, start, 1e-7, max_nodes)
        assert nodes <= max_nodes
        assert upper + branch_and_bound.rounding_allowance(x, c) >= exact.lower
        assert value(x, c, best) <= exact.upper
        whole = make_oracle("branch_and_bound", x, max_nodes=max_nodes)(c, None)
        assert whole.lower <= exact.upper and whole.upper >= exact.lower
        tight += upper <= exact.upper * (1 + 1e-6)
    assert tight <= 20 if max_nodes == 1 else tight >= {3: 15, 10: 25, 50: 28}[max_nodes]


def test_more_nodes_never_loosen_the_bound():
    rng = np.random.default_rng(3)
    x, c = rng.normal(size=(40, 6)), rng.normal(size=40)
    uppers = [
        branch_and_bound.branch_and_bound(x, c, np.zeros(6), 1e-7, count)[0]
        for count in (0, 1, 2, 5, 20, 100, 10_000)
    ]
    assert uppers[0] == np.inf
    assert (np.diff(uppers[1:]) <= 0).all()
    assert uppers[-1] < 0.95 * uppers[1]
    start = make_oracle("multistart", x)(c, None)
    assert uppers[-1] == pytest.approx(start.lower, rel=1e-6)


@pytest.mark.parametrize("oracle", KINDS)
@settings(max_examples=6)
@given(st.integers(0, 1000), st.sampled_from([0.5, 0.99, 1.01, 2.0]))
def test_a_floor_is_passed_or_the_bound_is_proved(oracle, seed, share):
    """Below the maximum a direction above it is found; from the maximum on there is a bound."""
    x, c = gaussian(seed, spread=False)
    exact = make_oracle("enumerate", x)(c, None)
    floor = share * exact.lower
    found = make_oracle(oracle, x)(c, floor)
    assert found.upper >= exact.lower or oracle == "multistart"
    above = found.above(x, c, floor)
    assert (value(x, c, above) > floor).all()
    assert (len(above) > 0) == (share < 1)
    if not len(above):
        assert np.isfinite(found.upper)
    if oracle == "branch_and_bound":
        assert (found.upper == np.inf) == (share < 1) and (found.nodes == 0) == (share < 1)


@pytest.mark.parametrize("oracle", KINDS)
@pytest.mark.parametrize("c", [-np.ones(8), np.zeros(8)], ids=["negative", "zero"])
def test_nothing_to_gain_is_zero(oracle, c):
    x = np.random.default_rng(0).normal(size=(8, 3))
    x -= 4 * x.mean(axis=0)  # no half-space is free of them
    found = make_oracle(oracle, x)(c, None)
    assert found.lower == 0.0
    assert 0.0 <= found.upper <= 1e-8


@pytest.mark.parametrize("oracle", BOUNDED)
def test_parallel_rows_that_cancel_leave_no_bound(oracle):
    """2 relu(z) − relu(2z) = 0 everywhere: its relaxation is constant, in no direction better."""
    for seed in range(20):
        row = np.random.default_rng(seed).normal(size=(1, 1 + seed % 3))
        x = np.concatenate([row, 2 * row])
        for weights in ([2 / 3, -1 / 3], [-2 / 3, 1 / 3]):
            assert make_oracle(oracle, x)(np.array(weights), None).upper <= 1e-8


@pytest.mark.parametrize("oracle", KINDS)
def test_rows_of_zeros_change_nothing(oracle):
    x, c = gaussian(3)
    longer = np.concatenate([np.zeros((1, x.shape[1])), x, np.zeros((2, x.shape[1]))])
    weights = np.concatenate([[5.0], c, [-1.0, 2.0]])
    known = make_oracle("enumerate", x)(c, None)
    assert make_oracle(oracle, longer)(weights, None).upper == pytest.approx(known.upper, rel=1e-6)


@pytest.mark.parametrize("oracle", KINDS)
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-6, 1e6, 1e30])
def test_the_maximum_scales_with_x_and_with_c(oracle, scale):
    x, c = gaussian(0, spread=False)
    known = make_oracle("enumerate", x)(c, None)
    for found in (make_oracle(oracle, scale * x)(c, None), make_oracle(oracle, x)(scale * c, None)):
        assert found.lower == pytest.approx(scale * known.lower, rel=1e-6)
        assert found.upper == pytest.approx(scale * known.upper, rel=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_ascent_never_lowers_h(seed):
    """From where it is positive, as far as the inner solver's sweeps carry."""
    x, c = gaussian(seed, spread=False)
    starts = np.random.default_rng(seed).normal(size=(20, x.shape[1]))
    starts /= np.linalg.norm(starts, axis=1, keepdims=True)
    before = value(x, c, starts)
    for rounds in (1, 2, 100):
        ends, values = sphere_search.ascend_all(x, c, starts, rounds, 3000)
        np.testing.assert_allclose(values, value(x, c, ends), atol=1e-12 * np.abs(c).max())
        assert (values >= before * (1 - 1e-4))[before > 0].all()
        before = values


def cone_has_interior(x, state):
    """By linear programme: whether some u has stateᵢ uᵀxᵢ ≥ 1 wherever a sign is given."""
    signed = (state[:, None] * x)[state != 0]
    free = [(None, None)] * x.shape[1]
    goal, least = np.zeros(x.shape[1]), -np.ones(len(signed))
    return scipy.optimize.linprog(goal, A_ub=-signed, b_ub=least, bounds=free).status == 0


@pytest.mark.parametrize("integer", [False, True])
def test_a_cone_is_empty_or_a_point_of_it_is_given(integer):
    """Gordan's alternative against a linear programme."""
    rng, empty_ones = np.random.default_rng(0), 0
    for _ in range(200):
        dim = rng.integers(2, 6)
        size = (rng.integers(2, 12), dim)
        x = rng.integers(-1, 2, size).astype(float) if integer else rng.normal(size=size)
        x = x[x.any(axis=1)]
        state = rng.integers(-1, 2, len(x)).astype(np.int8)
        if not len(x) or not state.any():
            continue
        empty, u = branch_and_bound.point_of_cone(x, state)
        assert empty == (not cone_has_interior(x, state))
        empty_ones += empty
        if not empty:
            assert (np.sign(x @ u)[state != 0] == state[state != 0]).all()
    assert 30 < empty_ones < 170


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_intervals_hold_all_units_of_a_cone_and_are_near_its_ends(scale):
    """The ends: distances to a hull, of scipy's non-negative least squares."""
    rng, shorter = np.random.default_rng(0), []
    for _ in range(40):
        num_units, dim = rng.integers(2, 14), rng.integers(1, 7)
        x, c = rng.normal(size=(num_units, dim)), rng.normal(size=num_units)
        inside = rng.normal(size=dim)
        state = (np.sign(x @ inside) * (rng.random(num_units) < 0.7)).astype(np.int8)
        state[0] = np.sign(x[0] @ inside)
        lengths = np.linalg.norm(x, axis=1)
        found = branch_and_bound.intervals(scale * x, c, scale * lengths, state)
        low, high = np.array(found) / scale
        units = inside + rng.exponential(2.0, (2000, 1)) * rng.normal(size=(2000, dim))
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        signed, open_ = (state[:, None] * x)[state != 0], (c > 0) & (state == 0)
        units = units[(units @ signed.T >= 0).all(axis=1)]
        z = units @ x[open_].T
        assert (low[open_] - 1e-14 * lengths[open_] <= z).all()
        assert (high[open_] + 1e-14 * lengths[open_] >= z).all()
        for i in np.flatnonzero(open_):
            for side, end in ((1, high[i]), (-1, -low[i])):
                _, exact = scipy.optimize.nnls(signed.T, -side * x[i])
                assert exact - 1e-14 * lengths[i] <= end <= exact + 0.2 * lengths[i]
                shorter.append(end < 0.9 * lengths[i])
    assert np.mean(shorter) > 0.5


@pytest.mark.parametrize("num_samples, dim", [(60, 6), (50, 8), (100, 6)])
def test_random_labels_end_within_few_nodes(num_samples, dim):
    """Chords on whole intervals take 3,500 nodes of the first, and over 20,000 of the others."""
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(num_samples, dim)), rng.choice([-1.0, 1.0], num_samples) / num_samples
    found = make_oracle("branch_and_bound", x, max_nodes=6000, num_starts=100)(c, None)
    assert found.lower <= found.upper <= found.lower * (1 + 1e-6)
    assert found.nodes < {60: 200, 50: 3000, 100: 6000}[num_samples]


@pytest.mark.parametrize("oracle", KINDS)
def test_a_single_sample_is_its_length(oracle):
    for weight in (2.0, -2.0):
        found = make_oracle(oracle, np.array([[3.0, 4.0]]))(np.array([weight]), None)
        assert found.upper == pytest.approx(max(5 * weight, 0.0), abs=1e-8)
        assert found.lower == pytest.approx(found.upper, abs=1e-8)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([1e-8, 1.0, 1e8]))
def test_nnls_agrees_with_scipy(seed, scale):
    rng = np.random.default_rng(seed)
    a = scale * rng.normal(size=(rng.integers(1, 7), rng.integers(1, 15)))
    b = rng.normal(size=len(a))
    mu, residual = sphere_search.nnls(a, b, 1000)
    assert (mu >= 0).all()
    np.testing.assert_allclose(residual, b - a @ mu, atol=1e-12)
    assert np.linalg.norm(residual) == pytest.approx(scipy.optimize.nnls(a, b)[1], abs=1e-10)
    # Karush–Kuhn–Tucker: no column helps, and those in use are at rest.
    slope = residual @ a / scale
    assert slope.max() <= 1e-10 and abs(slope @ mu) * scale <= 1e-10


@pytest.mark.parametrize("oracle", BOUNDED)
def test_bounds_of_cells_hold_for_any_stop_of_the_solver(oracle):
    """On D with integer weights many maximizers tie; both bounds meet them all the same."""
    x, _ = on_D(1)
    c = np.asarray(noisy_xor(jax.random.key(1), 14, 4).y) / 14
    found = make_oracle(oracle, x)(c, None)
    assert found.lower <= found.upper <= found.lower * (1 + 1e-6)
    assert largest_of_random(x, c) <= found.upper


def test_rounding_allowance_is_positive_and_small():
    """And scales with Σ|cᵢ|‖xᵢ‖, the Lipschitz constant of h."""
    for seed in range(10):
        x, c = gaussian(seed)
        lipschitz = size(x, c)
        allowance = branch_and_bound.rounding_allowance(x, c)
        assert 1e-12 * lipschitz < allowance < 1e-8 * lipschitz
        assert branch_and_bound.rounding_allowance(3 * x, 2 * c) == pytest.approx(6 * allowance)


def test_units_that_are_known_are_kept_as_they_are():
    x, c = gaussian(3)
    units = np.eye(x.shape[1])
    lone = make_oracle("multistart", 0 * x, known=units)(c, None)
    assert lone.lower == 0.0 and lone.nodes == 300 + 2 * len(units)  # themselves, and from them
    best = make_oracle("enumerate", x)(c, None)
    found = make_oracle("multistart", x, num_starts=0, known=best.directions[:1])(c, None)
    assert found.lower >= best.lower * (1 - 1e-12)


@pytest.mark.parametrize("oracle", KINDS)
def test_the_same_seed_gives_the_same_answer(oracle):
    x, c = gaussian(4)
    one, other = (make_oracle(oracle, x)(c, None) for _ in range(2))
    np.testing.assert_array_equal(one.directions, other.directions)
    assert one[:2] == other[:2] and one.nodes == other.nodes


def test_an_unknown_name_is_told_with_the_known_ones():
    said = "oracle must be one of enumerate, branch_and_bound, multistart, got 'magic'"
    with pytest.raises(ValueError, match=said):
        make_oracle("magic", np.eye(2))


def test_enumeration_of_too_large_a_rank_is_refused():
    with pytest.raises(ValueError, match=r"rank at most 4.*got more"):
        make_oracle("enumerate", np.random.default_rng(0).normal(size=(12, 5)))


@pytest.mark.parametrize("exponent", [-900, 900])
def test_weights_of_any_size_are_bounded_alike(exponent):
    """Their squares are beyond float64."""
    rng = np.random.default_rng(0)
    known, c = arranged(rng.normal(size=(6, 2))), np.abs(rng.normal(size=6))
    bound, size = largest(known, c), 2.0**exponent
    assert largest(known, c * size) == bound * size
    with precision():
        far = balls(c) * flint.arb(2) ** 3000
        assert (
            peaks(known, far).values[0] / flint.arb(2) ** 3000 == peaks(known, balls(c)).values[0]
        )


def test_weights_that_cancel_to_a_ball_around_zero_are_bounded():
    with precision():
        c = balls(np.array([1.0, 1.0, -2.0])) / 3
        c[2] += flint.arb(2) ** -520  # less than the radius, and yet the maximum
        assert 2.0**-520 <= largest(arranged(np.ones((3, 1))), c) <= 2.0**-500
