"""Certificates of networks with z²: other solvers, other code, closed forms, and training."""

import functools
import math

import clarabel
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy
from samples import orthonormal

from ntkreg.certificates import global_minimum, max_margin
from ntkreg.certificates.proofs import CrossingBounds, Problem, proved
from ntkreg.certificates.quadratic import largest
from ntkreg.data.dataset import Dataset, noisy_xor, noisy_xor_population
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.networks.network import fully_connected
from ntkreg.theory.closed_forms import population_minimum, population_quadratic_margin

QUADRATIC = {"activation": "quadratic", "norm": (2, 3)}
VALUE = 2 / (3 * math.sqrt(3))


def dataset(x, y):
    return Dataset._make((np.asarray(x, float), np.asarray(y, float)))


def margin(x, y, **options):
    return max_margin(dataset(x, y), **QUADRATIC, **options)


def minimum(x, y, lam, **options):
    return global_minimum(dataset(x, y), lam, **QUADRATIC, **options)


@functools.cache
def random_set(seed):
    """Up to 10 dimensions, and samples that some form separates."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 11))
    n = int(rng.integers(1, d * (d + 1) // 2 + 1))
    return rng.normal(size=(n, d)), rng.choice([-1.0, 1.0], n)


def cost(params):
    """‖Θ‖_{2,3}³."""
    first, last = map(np.asarray, params)
    return float(np.sum(np.linalg.norm(np.concatenate([first, last.T]), axis=0) ** 3))


def outputs(params, x):
    network = fully_connected(2, params[0].shape[1], activation="quadratic")
    return np.asarray(network.apply(tuple(map(jnp.asarray, params)), jnp.asarray(x)))


def dual_norm(x, c):
    return np.linalg.norm((x.T * c) @ x, 2)


# Other solvers ---------------------------------------------------------------------------------


def cone_programme(objective, rows, right, cones, quadratic=None):
    """clarabel's optimal value of min ½vᵀPv + qᵀv with b − Av in the cones."""
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    matrix = scipy.sparse.csc_matrix(np.concatenate(rows))
    size = len(objective)
    quadratic = np.zeros((size, size)) if quadratic is None else quadratic
    solver = clarabel.DefaultSolver(
        scipy.sparse.csc_matrix(np.triu(quadratic)), np.asarray(objective, float), matrix,
        np.concatenate(right), cones, settings,
    )  # fmt: skip
    return solver.solve().obj_val


def blocks(x, more):
    """Of variables (Z, more), Z = [[V, B], [Bᵀ, W]] ⪰ 0 packed: xᵢᵀBxᵢ, ½ tr Z, and Z itself.

    ½ tr Z is at least the sum of B's singular values, and at the best Z it is that.
    """
    d = x.shape[1]
    columns, rows = np.tril_indices(2 * d)  # clarabel packs the upper triangle by columns
    outer = rows[None] * 0.0 + (x[:, rows % d] * x[:, columns % d])
    scale = np.where(rows == columns, 1.0, math.sqrt(2))
    corner = (rows < d) & (columns >= d)
    forms = np.where(corner, outer, 0.0) / scale
    trace = np.where(rows == columns, 0.5, 0.0)
    pad = lambda part: np.pad(part, [(0, 0), (0, more)])
    return pad(forms), pad(trace[None])[0], pad(np.eye(len(rows))), 2 * d


def reference_margin(x, y):
    """max t with yᵢxᵢᵀBxᵢ ≥ t and ½ tr Z ≤ κ."""
    forms, trace, cone, order = blocks(x, 1)
    n, size = len(y), cone.shape[1]
    objective = -np.eye(size)[-1]
    rows = -y[:, None] * forms
    rows[:, -1] = 1.0
    return -cone_programme(
        objective, [rows, trace[None], -cone], [np.zeros(n), [VALUE], np.zeros(len(cone))],
        [clarabel.NonnegativeConeT(n + 1), clarabel.PSDTriangleConeT(order)],
    )  # fmt: skip


def reference_squared(x, y, lam):
    """min mean (xᵢᵀBxᵢ − yᵢ)² + λ ½tr Z/κ, by a quadratic objective."""
    forms, trace, cone, order = blocks(x, 0)
    quadratic = 2 * forms.T @ forms / len(y)
    objective = -2 * forms.T @ y / len(y) + lam / VALUE * trace
    found = cone_programme(
        objective, [-cone], [np.zeros(len(cone))], [clarabel.PSDTriangleConeT(order)], quadratic
    )
    return found + float(np.mean(y**2))


def reference_logistic(x, y, lam):
    """min mean vᵢ + λ ½tr Z/κ with exp(−yᵢfᵢ − vᵢ) + exp(−vᵢ) ≤ 1, by exponential cones."""
    n = len(y)
    forms, trace, cone, order = blocks(x, 3 * n)  # v, and bounds p and q of both exponentials
    size = cone.shape[1]
    v, p, q = (np.eye(size)[size - k * n : size - (k - 1) * n] for k in (3, 2, 1))
    zero = np.zeros((n, size))
    exponential = [
        np.stack(part, axis=1).reshape(3 * n, size)  # s = right − rows @ variables
        for part in ((y[:, None] * forms + v, zero, -p), (v, zero, -q))
    ]
    ones = np.tile([0.0, 1.0, 0.0], n)
    return cone_programme(
        v.mean(axis=0) + lam / VALUE * trace,
        [p + q, *exponential, -cone], [np.ones(n), ones, ones, np.zeros(len(cone))],
        [clarabel.NonnegativeConeT(n), *[clarabel.ExponentialConeT()] * (2 * n),
         clarabel.PSDTriangleConeT(order)],
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_the_max_margin_is_that_of_another_solver(seed):
    x, y = random_set(seed)
    found = margin(x, y)
    assert found.kind == "certified" and 0 <= found.gap <= 1e-9
    assert found.upper == pytest.approx(reference_margin(x, y), rel=1e-7)


@pytest.mark.parametrize("seed", range(0, 30, 3))
def test_minima_are_those_of_another_solver(seed):
    x, y = random_set(seed)
    for lam in (1e-1, 1e-3):
        found = minimum(x, y, lam)
        assert found.kind == "certified" and 0 <= found.gap <= 1e-9
        assert found.upper == pytest.approx(reference_logistic(x, y, lam), rel=1e-7, abs=1e-9)
        real = y + np.sin(np.arange(len(y)))
        found = minimum(x, real, lam, loss="squared")
        assert 0 <= found.gap <= 1e-9
        assert found.upper == pytest.approx(reference_squared(x, real, lam), rel=1e-7, abs=1e-9)


# Other code ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3, 7))
def test_network_and_weights_have_the_bounds_of_the_margin(seed):
    x, y = random_set(seed)
    found = margin(x, y)
    q = y * outputs(found.primal, x)
    assert q.min() / cost(found.primal) == pytest.approx(found.lower, rel=1e-9)
    assert (found.dual >= 0).all() and found.dual.sum() == pytest.approx(1, rel=1e-12)
    assert VALUE * dual_norm(x, found.dual * y) == pytest.approx(found.upper, rel=1e-9)
    first, last = found.primal
    np.testing.assert_allclose((first**2).sum(axis=0), 2 * last[:, 0] ** 2, rtol=1e-12)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_network_and_weights_have_the_bounds_of_the_minimum(loss):
    (x, y), lam = random_set(4), 1e-2
    found = minimum(x, y, lam, loss=loss)
    f, b = outputs(found.primal, x), found.dual
    value = np.logaddexp(0, -y * f) if loss == "logistic" else (f - y) ** 2
    assert value.mean() + lam * cost(found.primal) == pytest.approx(found.upper, rel=1e-12)
    assert dual_norm(x, b) / len(y) <= lam / VALUE * (1 + 1e-12)
    a = b * y
    conjugate = scipy.special.entr(a) + scipy.special.entr(1 - a)
    dual = conjugate if loss == "logistic" else a - b**2 / 4
    assert dual.mean() == pytest.approx(found.lower, rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_the_operator_norm_of_balls_is_float64s_from_above(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(9, 4)), rng.choice([-1.0, 1.0], 9)
    weights = rng.uniform(size=9)
    bound = float(largest(Problem(x, y, activation="quadratic"), weights))
    known = 2 * VALUE * dual_norm(x, weights * y)
    assert known * (1 - 1e-14) <= bound <= known * (1 + 1e-12)


def test_no_network_passes_the_bound_of_any_weights():
    rng = np.random.default_rng(0)
    x, y = random_set(5)
    problem = Problem(x, y, activation="quadratic")
    for _ in range(20):
        weights = rng.uniform(size=len(y)) ** 4
        net = rng.normal(size=(x.shape[1], 3)), rng.normal(size=(3, 1))
        lower, upper = proved(problem, net, weights, largest(problem, weights))
        assert lower == pytest.approx((y * outputs(net, x)).min() / cost(net), rel=1e-9)
        assert lower < upper


def test_bounds_that_cross_raise(monkeypatch):
    monkeypatch.setattr("ntkreg.certificates.quadratic.largest", lambda *_: 1e-6)
    with pytest.raises(CrossingBounds):
        margin(*random_set(4))


# Training --------------------------------------------------------------------------------------


def descended(x, value, seed, width=12):
    """The network at which L-BFGS ends, of `value`: (outputs, cost) -> (loss, its two slopes)."""
    rng, d = np.random.default_rng(seed), x.shape[1]
    start = rng.normal(size=(d + 1, width)) / 2

    def objective(flat):
        first, last = np.split(flat.reshape(d + 1, width), [d])
        hidden, norms = x @ first, np.linalg.norm(flat.reshape(d + 1, width), axis=0)
        loss, of_outputs, of_cost = value(hidden**2 @ last[0], np.sum(norms**3))
        slope = 3 * of_cost * norms * flat.reshape(d + 1, width)
        slope[:d] += 2 * x.T @ (hidden * of_outputs[:, None]) * last
        slope[d] += of_outputs @ hidden**2
        return loss, slope.ravel()

    options = {"maxiter": 600, "ftol": 1e-15, "gtol": 1e-10}
    found = scipy.optimize.minimize(
        objective, start.ravel(), jac=True, method="L-BFGS-B", options=options
    )
    first, last = np.split(found.x.reshape(d + 1, width), [d])
    return first, last.T


def soft_margin(y, sharpness):
    """log Σ exp(−s yf/‖Θ‖³)/s: the margin negated, to log(n)/s."""

    def value(f, size):
        q = y * f / size
        shares = scipy.special.softmax(-sharpness * q)
        slope = -shares * y / size
        return scipy.special.logsumexp(-sharpness * q) / sharpness, slope, shares @ q / size

    return value


@pytest.mark.parametrize("seed", [5, 8])
def test_training_comes_near_the_max_margin_and_never_beyond(seed):
    x, y = random_set(seed)
    found = margin(x, y)
    reached = [
        (y * outputs(net, x)).min() / cost(net)
        for start in range(2)
        for net in [descended(x, soft_margin(y, 300 / found.upper), start)]
    ]
    assert 0.98 * found.lower <= max(reached) <= found.upper


@pytest.mark.parametrize("lam", [1e-1, 1e-2])
@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_training_comes_near_the_minimum_and_never_below(loss, lam):
    x, y = random_set(8)

    def value(f, size):
        if loss == "logistic":
            total, slope = np.logaddexp(0, -y * f), -y * scipy.special.expit(-y * f)
        else:
            total, slope = (f - y) ** 2, 2 * (f - y)
        return total.mean() + lam * size, slope / len(y), lam

    found = minimum(x, y, lam, loss=loss)
    nets = [descended(x, value, start) for start in range(3)]
    reached = min(value(outputs(net, x), cost(net))[0] for net in nets)
    assert found.lower * (1 - 1e-9) <= reached <= found.upper * (1 + 1e-3)


# Closed forms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", range(3, 9))
def test_the_population_has_the_margin_of_theory(dim):
    data = noisy_xor_population(dim)
    found = max_margin(data, **QUADRATIC)
    known = population_quadratic_margin()
    assert found.lower <= known * (1 + 1e-15) and known <= found.upper * (1 + 1e-15)
    assert found.lower == pytest.approx(known, rel=1e-9)
    form = (found.primal[0] * found.primal[1][:, 0]) @ found.primal[0].T
    planted = np.diag([1.0, -1.0, *[0.0] * (dim - 2)])
    np.testing.assert_allclose(form / np.linalg.norm(form), planted / 2**0.5, atol=1e-6)


@pytest.mark.parametrize("lam", [0.5, 1e-2, 1e-5, 1e-100])
def test_the_population_has_the_minimum_of_theory(lam):
    """A margin c costs 3√3 c here and 8c with relu; uniform weights prove both."""
    found = global_minimum(noisy_xor_population(4), lam, **QUADRATIC)
    assert found.gap <= 1e-9
    assert found.upper == pytest.approx(population_minimum(math.sqrt(27) * lam / 8), rel=1e-9)


@pytest.mark.parametrize(("positive", "negative"), [(1, 0), (0, 3), (2, 2), (4, 1)])
def test_orthonormal_inputs(positive, negative):
    """‖A‖_* ≥ Σ |Aᵢᵢ| ≥ nt: γ* = κ/n, of uniform weights too."""
    found = max_margin(orthonormal(positive, negative), **QUADRATIC)
    assert found.upper == pytest.approx(VALUE / (positive + negative), rel=1e-9)
    assert found.gap <= 1e-9


def test_samples_of_d_have_at_least_its_margin():
    few, many = (noisy_xor(jax.random.key(n), n, 12) for n in (30, 400))
    few, many = (max_margin(data, **QUADRATIC) for data in (few, many))
    known = population_quadratic_margin()
    assert few.gap <= 1e-9 and many.gap <= 1e-9
    assert few.lower > 1.02 * known
    assert many.upper == pytest.approx(known, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["random labels", "noisy xor"])
def test_a_thousand_samples_in_fifty_dimensions(name):
    data = noisy_xor(jax.random.key(0), 1000, 50)
    if name == "random labels":
        rng = np.random.default_rng(0)
        data = dataset(rng.normal(size=(1000, 50)), rng.choice([-1.0, 1.0], 1000))
    assert max_margin(data, **QUADRATIC).gap <= 1e-8
    assert global_minimum(data, 1e-3, **QUADRATIC).gap <= 1e-8


# Data of all kinds -----------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [-300, 300])
def test_powers_of_two_change_no_digit(exponent):
    """γ*(cx) = c²γ*(x), and F*(cx, c²λ) = F*(x, λ)."""
    (x, y), scale = random_set(4), 2.0**exponent
    one, other = margin(x, y), margin(scale * x, y)
    assert (other.lower, other.upper) == (one.lower * scale**2, one.upper * scale**2)
    one, other = minimum(x, y, 1e-3), minimum(scale * x, y, 1e-3 * scale**2)
    assert (other.lower, other.upper) == (one.lower, one.upper)


def test_a_hundred_decimal_powers_either_way():
    x, y = random_set(5)
    one, small, large = (margin(c * x, y) for c in (1.0, 1e-100, 1e100))
    assert small.upper == pytest.approx(one.upper * 1e-200, rel=1e-9, abs=0)
    assert large.lower == pytest.approx(one.lower * 1e200, rel=1e-9)
    assert small.gap <= 1e-9 and large.gap <= 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_lengths_far_apart(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(6, 5)) * 10.0 ** rng.uniform(-4, 4, (6, 1)), rng.choice([-1.0, 1.0], 6)
    assert margin(x, y).gap <= 1e-9
    assert minimum(x, y, 1e-3).gap <= 1e-9


@pytest.mark.parametrize("seed", [7, 36, 59])
def test_long_rows_whose_outputs_must_nearly_vanish(seed):
    """They have 1e-11 of the short row's share in the margin: rounding alone would undo it."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(30, 6)) * 10.0 ** rng.uniform(-3, 3, (30, 1))
    assert margin(x, rng.choice([-1.0, 1.0], 30)).gap <= 1e-9


@pytest.mark.parametrize("lam", [1e-6, 1e-30, 1e-299])
def test_tiny_lambda_of_data_that_are_separated(lam):
    """F*/λ is about log(1/λ)/γ*."""
    x, y = random_set(4)
    found, known = minimum(x, y, lam), margin(x, y).upper
    assert found.gap <= 1e-9
    assert found.upper == pytest.approx(lam * math.log(known / lam) / known, rel=0.06)


@pytest.mark.parametrize("loss", ["logistic", "squared"])
def test_tiny_lambda_where_no_form_fits(loss):
    """The minimum tends to the least loss of any form, here of f(x) = ax² and f(2x) = 4ax²."""
    value = lambda f, y: np.logaddexp(0, -y * f) if loss == "logistic" else (f - y) ** 2
    total = lambda a: (value(a, 1.0) + value(4 * a, -1.0)) / 2
    known = scipy.optimize.minimize_scalar(total, (-1, 1), tol=1e-12).fun
    found = minimum([[1.0, 0.0], [2.0, 0.0]], [1, -1], 1e-9, loss=loss)
    assert found.gap <= 1e-9 and found.upper == pytest.approx(known, rel=1e-7)


def test_what_is_outside_the_row_space_changes_nothing():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), np.array([1.0, -1, 1, -1, 1])
    into = np.linalg.qr(rng.normal(size=(7, 3)))[0].T
    inside, outside = margin(x, y), margin(x @ into, y)
    assert outside.primal[0].shape[0] == 7 and outside.primal[0].shape[1] <= 3
    assert outside.gap <= 1e-9
    assert outside.lower == pytest.approx(inside.lower, rel=1e-9)


def test_every_sample_twice_changes_no_bound():
    x, y = random_set(4)
    twice = np.r_[x, x], np.r_[y, y]
    assert margin(*twice).upper == pytest.approx(margin(x, y).upper, rel=1e-9)
    assert minimum(*twice, 1e-3).upper == pytest.approx(minimum(x, y, 1e-3).upper, rel=1e-9)


def test_a_row_of_zeros_costs_log_two():
    x, y = np.array([[1.0, 2.0], [0.0, 0.0]]), np.array([1.0, -1.0])
    alone = minimum(x[:1], y[:1], 2e-3)
    found = minimum(x, y, 1e-3)
    assert found.upper == pytest.approx((alone.upper + math.log(2)) / 2, rel=1e-9)


def test_a_large_lambda_leaves_no_neuron():
    found = minimum(*random_set(4), 1e6)
    assert found.primal[0].shape[1] == 0
    assert found.upper == pytest.approx(math.log(2), rel=1e-15) and found.gap <= 1e-12


def test_a_trained_network_is_not_forgotten():
    x, y = random_set(4)
    best, least = margin(x, y), minimum(x, y, 1e-2)
    assert margin(x, y, tolerance=0.5).lower < 0.999 * best.lower
    assert margin(x, y, tolerance=0.5, params=best.primal).lower == best.lower
    assert minimum(x, y, 1e-2, tolerance=0.5).upper > 1.001 * least.upper
    assert minimum(x, y, 1e-2, tolerance=0.5, params=least.primal).upper == least.upper


# Errors ----------------------------------------------------------------------------------------

RNG = np.random.default_rng(3)
MANY = RNG.normal(size=(40, 3)), RNG.choice([-1.0, 1.0], 40)
GOOD = random_set(4)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([[1.0, 2.0], [1.0, 2.0]], [1, -1]),
        ([[1.0, 2.0], [-2.0, -4.0]], [1, -1]),
        ([[1e5, 0.0], [1e5, 0.0], [0.0, 1.0]], [1, -1, 1]),
        ([[1e12, 0.0], [1e12, 0.0], [0.0, 1.0]], [1, -1, 1]),
        ([[1.0, 2.0], [0.0, 0.0]], [1, -1]),
        ([[1.0, 0.0], [1.0, 1e-13]], [1, -1]),
        MANY,
        (1e80 * MANY[0], MANY[1]),
    ],
    ids=["equal", "opposite", "long", "longer", "zero", "a hair apart", "many", "many large"],
)
def test_data_that_no_form_separates_are_refused(x, y):
    with pytest.raises(NotSeparable, match=r"quadratic form.*unit length by \d\.\de[-+]\d\d"):
        margin(x, y)


def test_one_class_is_separated():
    assert margin([[3.0, 4.0]], [-1]).upper == pytest.approx(25 * VALUE, rel=1e-12)


def test_the_euclidean_norm_of_relu_has_two_names():
    x, y = dataset([[1.0, 0.2], [-1.0, 0.5]], [1, -1]), (2, 2)
    one, other = max_margin(x), max_margin(x, activation="relu", norm=y)
    assert (one.lower, one.upper) == (other.lower, other.upper)
    one, other = global_minimum(x, 1e-2), global_minimum(x, 1e-2, activation="relu", norm=y)
    assert (one.lower, one.upper) == (other.lower, other.upper)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: max_margin(dataset(*GOOD), activation="quadratic"), r"norm must be \(2, 3\).*2$"),
        (lambda: global_minimum(dataset(*GOOD), 1, activation="quadratic", norm=(2, 2)), "norm mu"),
        (lambda: max_margin(dataset(*GOOD), norm=(2, 3)), r"norm must be 2 or \(2, 2\).*\(2, 3\)"),
        (lambda: max_margin(dataset(*GOOD), activation="tanh"), "activation must be.*'tanh'"),
        (lambda: margin(*GOOD, oracle="enumerate"), "oracle must not be given.*'enumerate'"),
        (lambda: margin(*GOOD, max_rounds=7), "max_rounds must not be given.*got 7"),
        (lambda: margin(*GOOD, max_nodes=7), "max_nodes must not be given.*got 7"),
        (lambda: minimum(*GOOD, 1, output_sign=1), "output_sign must not be given.*got 1"),
        (lambda: minimum(*GOOD, 1, limit=margin(*GOOD)), "limit must not.*a certificate$"),
        (lambda: margin(*GOOD, tolerance=0.0), "tolerance must lie.*got 0.0"),
        (lambda: margin(*GOOD, params=GOOD), "params must be"),
        (lambda: margin(GOOD[0] * np.nan, GOOD[1]), r"data\.x must be finite"),
        (lambda: margin(GOOD[0] * 0, GOOD[1]), "zero throughout"),
        (lambda: margin(GOOD[0], GOOD[1] * 2), r"data\.y must be −1 or \+1"),
        (lambda: margin(GOOD[0] * 1e-160, GOOD[1]), r"data\.x must have its largest entry.*e-160"),
        (lambda: minimum(GOOD[0] * 1e140, GOOD[1], 1e-30), "lam divided by.*got about"),
        (lambda: minimum(*GOOD, 0.0), "lam must be finite.*got 0.0"),
        (lambda: minimum(*GOOD, 1, loss="hinge"), "loss must be.*'hinge'"),
    ],
)
def test_bad_input_is_named(call, said):
    with pytest.raises(ValueError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
