"""The distribution D, the digits, and what a dataset is refused for."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.data.dataset import (
    Dataset,
    check_dataset,
    digits,
    gaussian_parity,
    noisy_xor,
    random_labels,
    relu_feature,
    split,
    unseen,
)
from ntkreg.data.named import load

KEY = jax.random.key(0)


@given(st.integers(0, 2**30), st.sampled_from([1, 40]), st.sampled_from([3, 12]))
def test_noisy_xor_has_the_support_of_D(seed, n, dim):
    x, y = map(np.asarray, noisy_xor(jax.random.key(seed), n, dim))
    assert x.shape == (n, dim) and y.shape == (n,)
    assert np.isin(x[:, :2], (-1, 0, 1)).all() and np.isin(x[:, 2:], (-1, 1)).all()
    assert np.array_equal((x**2).sum(1), np.full(n, dim - 1))
    assert np.array_equal(y, x[:, 0] ** 2 - x[:, 1] ** 2)
    assert np.isin(y, (-1, 1)).all()


def test_noisy_xor_is_uniform_over_its_support():
    """All 4 · 2³ points at d = 5 come up, each within five standard deviations of 1/32."""
    n = 32_000
    points, counts = np.unique(np.asarray(noisy_xor(KEY, n, 5).x), axis=0, return_counts=True)
    assert len(points) == 32
    assert np.abs(counts - n / 32).max() < 5 * np.sqrt(n / 32)


def test_noisy_xor_is_a_function_of_its_key():
    first, again = noisy_xor(KEY, 50, 6), noisy_xor(KEY, 50, 6)
    other = noisy_xor(jax.random.key(1), 50, 6)
    assert np.array_equal(first.x, again.x) and np.array_equal(first.y, again.y)
    assert not np.array_equal(first.x, other.x)


@pytest.mark.parametrize(("n", "dim", "said"), [(0, 5, "num_samples.*0"), (4, 2, "dim.*2")])
def test_noisy_xor_refuses_empty_sizes(n, dim, said):
    with pytest.raises(ValueError, match=said):
        noisy_xor(KEY, n, dim)


@given(st.integers(0, 2**30), st.sampled_from([1, 12]), st.sampled_from([1, 12]))
def test_unseen_agrees_with_brute_force(seed, m, n):
    """d = 4 has 16 points, so that both answers are common."""
    new, old = jax.random.split(jax.random.key(seed))
    x, seen = noisy_xor(new, m, 4).x, noisy_xor(old, n, 4).x
    rows = {tuple(row) for row in np.asarray(seen)}
    assert unseen(x, seen).tolist() == [tuple(row) not in rows for row in np.asarray(x)]


def test_digits_have_ten_classes():
    x, y = digits()
    assert x.shape == (1797, 64) and y.shape == (1797,)
    assert jnp.issubdtype(y.dtype, jnp.integer)
    assert set(y.tolist()) == set(range(10))
    assert (float(x.min()), float(x.max())) == (0.0, 1.0)
    check_dataset(Dataset(x, y), "class", 10)


def test_digits_of_a_pair_are_signed():
    everything, pair = digits(), digits((3, 8))
    threes, eights = int((everything.y == 3).sum()), int((everything.y == 8).sum())
    assert pair.x.shape == (threes + eights, 64)
    assert int((pair.y == 1).sum()) == threes and int((pair.y == -1).sum()) == eights
    assert np.array_equal(pair.x[pair.y == 1], everything.x[everything.y == 3])


@pytest.mark.parametrize("classes", [(3, 3), (0, 10), (1, 2, 3)])
def test_digits_refuses_other_than_a_pair(classes):
    with pytest.raises(ValueError, match=r"classes must be two.*got \("):
        digits(classes)


@given(st.integers(0, 2**30), st.sampled_from([1, 7, 19]))
def test_split_is_a_partition(seed, num_train):
    x = jnp.arange(20.0)[:, None]
    train, test = split(jax.random.key(seed), Dataset(x, 10 * x[:, 0]), num_train)
    assert train.x.shape == (num_train, 1) and test.x.shape == (20 - num_train, 1)
    assert sorted([*train.y.tolist(), *test.y.tolist()]) == [10.0 * i for i in range(20)]
    assert np.array_equal(train.y, 10 * train.x[:, 0])
    assert np.array_equal(test.y, 10 * test.x[:, 0])


@pytest.mark.parametrize("num_train", [0, 6, 7])
def test_split_refuses_an_empty_side(num_train):
    with pytest.raises(ValueError, match=f"num_train.*{num_train}"):
        split(KEY, noisy_xor(KEY, 6, 3), num_train)


GOOD = np.ones((3, 2))
SIGNS = np.array([1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    ("x", "y", "labels", "said"),
    [
        (np.array([[1.0, np.nan]]), SIGNS[:1], "sign", r"data\.x.*nan at \[0, 1\]"),
        (np.array([[1.0], [-np.inf]]), SIGNS[:2], "sign", r"data\.x.*-inf at \[1, 0\]"),
        (GOOD, np.array([1.0, 0.0, 1.0]), "sign", r"data\.y.*0\.0 at \[1\]"),
        (GOOD, np.array([1.0, np.nan, 1.0]), "sign", r"data\.y.*nan at \[1\]"),
        (GOOD, np.array([0, 1, 4]), "class", r"data\.y.*4 at \[2\]"),
        (GOOD, np.array([-1, 1, 0]), "class", r"data\.y.*-1 at \[0\]"),
        (GOOD, np.array([0.5, 1, 0]), "class", r"data\.y.*0\.5 at \[0\]"),
        (GOOD, np.array([0.5, np.inf, 0]), "real", r"data\.y.*inf at \[1\]"),
        (GOOD, SIGNS[:2], "sign", r"\(3, 2\), \(2,\)"),
        (GOOD[0], SIGNS, "sign", r"\(2,\), \(3,\)"),
        (GOOD, SIGNS[:, None], "sign", r"\(3, 2\), \(3, 1\)"),
        (GOOD[:0], SIGNS[:0], "sign", r"\(0, 2\)"),
        (GOOD[:, :0], SIGNS, "sign", r"\(3, 0\)"),
    ],
)
def test_check_dataset_names_what_is_wrong(x, y, labels, said):
    with pytest.raises(ValueError, match=said):
        check_dataset(Dataset(x, y), labels, 4)


@pytest.mark.parametrize(
    ("y", "labels"), [(SIGNS, "sign"), (np.int32([0, 3, 1]), "class"), (SIGNS / 3, "real")]
)
def test_check_dataset_leaves_good_data_as_they_are(y, labels):
    checked = check_dataset(Dataset(GOOD, y), labels, 4)
    assert checked.x is GOOD or np.shares_memory(checked.x, GOOD)
    assert checked.y.dtype == y.dtype and np.array_equal(checked.y, y)


TABLE = {  # dtype of x -> what comes back
    "float32": "float32", "float64": "float64", "float16": "float32", "bfloat16": "float32",
    "float8_e4m3fn": "float32", "int32": "float64", "uint8": "float64", "bool": "float64",
}  # fmt: skip


@pytest.mark.parametrize("make", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("dtype", TABLE)
def test_check_dataset_casts_by_its_table(make, dtype):
    x, labels = make(GOOD).astype(dtype), make(np.array([1, 0, 1])).astype(dtype)
    signs = make(np.array([1, 1, 1])).astype(dtype)
    for kind, y, wanted in (
        ("sign", signs, TABLE[dtype]),
        ("class", labels, "int32"),
        ("real", labels, TABLE[dtype]),
        ("any", labels, dtype),
    ):
        if dtype == "bool" and kind == "sign":
            continue
        checked = check_dataset(Dataset(x, y), kind, 2)
        assert (checked.x.dtype, checked.y.dtype) == (TABLE[dtype], wanted)
        assert np.array_equal(checked.x, GOOD) and isinstance(checked.x, type(x))
        assert np.array_equal(checked.y, [1, 1, 1] if kind == "sign" else [1, 0, 1])


@pytest.mark.parametrize("make", [pandas.DataFrame, np.ndarray.tolist, np.asmatrix])
def test_check_dataset_takes_what_holds_numbers(make):
    y = pandas.Series([1, -1, 1], index=[7, 8, 9])
    for labels in (y, y.tolist()):
        x, found = check_dataset(Dataset(make(GOOD + 0.5), labels))
        assert type(x) is type(found) is np.ndarray and x.dtype == found.dtype == float
        assert np.array_equal(x, GOOD + 0.5) and found.tolist() == [1, -1, 1]


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (scipy.sparse.csr_matrix(GOOD), SIGNS, "x must be an array of real numbers, got csr_matr"),
        (scipy.sparse.csr_array(GOOD), SIGNS, r"data\.x must be .* got csr_array of dtype object"),
        (pandas.DataFrame({"a": [1.0, 2.0, 3.0], "b": list("abc")}), SIGNS, r"data\.x.*DataFrame"),
        (GOOD.astype(object), SIGNS, r"data\.x must be .* got ndarray of dtype object"),
        (GOOD + 1j, SIGNS, r"data\.x must be .* got ndarray of dtype complex128"),
        ([[1.0, 2.0], [3.0]], SIGNS[:2], r"data\.x must be .* got a list that makes none"),
        (None, SIGNS, r"data\.x must be .* got NoneType"),
        (np.ma.masked_equal(GOOD, 1.0), SIGNS, r"data\.x must be .* MaskedArray with masked entr"),
        (GOOD, list("aba"), r"data\.y must be .* got list of dtype <U1"),
        (GOOD, SIGNS + 0j, r"data\.y must be .* of dtype complex128"),
        (GOOD, SIGNS.astype(object), r"data\.y must be .* of dtype object"),
        (GOOD, SIGNS > 0, r"data\.y must be −1 or \+1, got bools"),
        (GOOD, np.ones(3, bool), r"data\.y must be −1 or \+1, got bools"),
        (GOOD, jax.random.split(jax.random.key(0), 3), r"data\.y must be .* of dtype key"),
        (GOOD, SIGNS.tolist()[:2], r"\(3, 2\), \(2,\)"),
    ],
)
def test_check_dataset_refuses_what_are_no_numbers_in_one_line(x, y, said):
    with pytest.raises(ValueError, match=said) as caught:
        check_dataset(Dataset(x, y))
    assert "\n" not in str(caught.value)


def test_check_dataset_refuses_a_pair_that_is_no_dataset():
    with pytest.raises(ValueError, match=r"data must be a Dataset\(x, y\), got tuple"):
        check_dataset((GOOD, SIGNS))


def test_check_dataset_under_a_trace_looks_at_shapes_and_dtypes_only():
    checked = jax.jit(lambda x, y: check_dataset(Dataset(x, y)))
    data = checked(GOOD.astype(np.float16), np.int32([7, 1, 1]))
    assert data.x.dtype == data.y.dtype == np.float32 and data.y[0] == 7
    with pytest.raises(ValueError, match=r"\(3, 2\), \(2,\)"):
        checked(GOOD, SIGNS[:2])
    with pytest.raises(ValueError, match="integer dtype under a trace, got float64"):
        jax.jit(lambda y: check_dataset(Dataset(GOOD, y), "class", 2))(SIGNS)


def test_random_labels_hold_both_classes_and_tell_nothing_of_the_points():
    drawn = random_labels(jax.random.key(0), 4000, 3)
    assert drawn.x.shape == (4000, 3) and set(np.unique(drawn.y)) == {-1.0, 1.0}
    assert np.abs(np.asarray(drawn.y @ drawn.x) / 4000).max() < 0.06
    for seed in range(5):
        assert set(np.asarray(random_labels(jax.random.key(seed), 2, 1).y)) == {-1.0, 1.0}
    with pytest.raises(ValueError, match=r"num_samples must be at least 2.*got 1"):
        random_labels(jax.random.key(0), 1, 3)
    with pytest.raises(ValueError, match="dim must be at least 1, got 0"):
        random_labels(jax.random.key(0), 2, 0)


def test_gaussian_parity_is_the_product_of_two_signs_among_gaussians():
    x, y = map(np.asarray, gaussian_parity(jax.random.key(0), 20_000, 5))
    assert np.isin(x[:, :2], (-1, 1)).all() and np.array_equal(y, x[:, 0] * x[:, 1])
    corners = np.unique(x[:, :2], axis=0, return_counts=True)[1]
    assert len(corners) == 4 and np.abs(corners - 5000).max() < 5 * np.sqrt(20_000 * 3 / 16)
    np.testing.assert_allclose(x[:, 2:].T @ x[:, 2:] / 20_000, np.eye(3), atol=0.06)
    assert np.abs(y @ x[:, 2:] / 20_000).max() < 0.04


def test_relu_feature_has_one_unit_direction():
    x, y = map(np.asarray, relu_feature(jax.random.key(0), 50, 4))
    direction = np.linalg.lstsq(x[y > 0], y[y > 0], rcond=None)[0]
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    np.testing.assert_allclose(np.maximum(x @ direction, 0), y, atol=1e-12)
    other = np.asarray(relu_feature(jax.random.key(1), 50, 4).y)
    assert (y >= 0).all() and not np.array_equal(y, other)


@pytest.mark.parametrize(
    ("law", "least", "said"),
    [(gaussian_parity, 2, "dim must be at least 2, got 1"), (relu_feature, 1, "dim.*1, got 0")],
)
def test_gaussian_laws_refuse_empty_sizes(law, least, said):
    assert law(KEY, 1, least).x.shape == (1, least)
    with pytest.raises(ValueError, match=said):
        law(KEY, 4, least - 1)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        law(KEY, 0, 5)


@pytest.mark.parametrize(
    ("name", "x_shape", "num_test", "num_classes"),
    [
        ("random:3:8", (8, 3), None, 2),
        ("teacher:3:8", (8, 3), 5, 2),
        ("D:3:8", (8, 3), 5, 2),
        ("digits:20", (20, 64), 1777, 10),
    ],
)
def test_load_gives_what_the_name_says(name, x_shape, num_test, num_classes):
    train, test = load(name, KEY, num_test=5)
    assert train.x.shape == x_shape and train.y.shape == x_shape[:1]
    assert (None if test is None else len(test.y)) == num_test
    assert set(np.asarray(train.y)) <= (set(range(10)) if num_classes == 10 else {-1, 1})
    again, _ = load(name, KEY, num_test=5)
    assert np.array_equal(again.x, train.x) and np.array_equal(again.y, train.y)


def test_load_draws_no_test_points_by_default():
    assert load("D:3:8", KEY)[1] is None and load("teacher:3:8", KEY)[1] is None


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("", {}, "name must be random:DIM:N, teacher:DIM:N, D:DIM:N, digits:N or a path .*''"),
        ("D:3", {}, "name must be .*'D:3'"),
        ("D:3:-4", {}, "name must be .*'D:3:-4'"),
        ("moons:3:4", {}, "name must be .*'moons:3:4'"),
        ("D:2:8", {}, "name must be .*, with DIM of D at least 3, got 'D:2:8'"),
        ("digits:1", {}, "name must be .*, with N of digits at least 2, got 'digits:1'"),
        ("digits:1797", {}, "num_train must lie between 1 and 1796, got 1797"),
        ("D:3:8", dict(num_test=-1), "num_test must be at least 0, got -1"),
        ("D:3:8", dict(key=None), "key must be given.*D:3:8, got None"),
        ("none.npz", {}, "'none.npz' must be a data file .*there is no file"),
    ],
)
def test_load_refuses_by_argument_and_value(name, options, said):
    with pytest.raises(ValueError, match=said):
        load(name, **(dict(key=KEY) | options))


def test_load_reads_a_file_onto_the_device(tmp_path):
    x, y = np.random.default_rng(0).normal(size=(6, 3)), np.array([0, 1, 2, 2, 1, 0])
    np.savez(tmp_path / "mine.npz", x=x, y=y, x_test=-x, y_test=y)
    for path in (tmp_path / "mine.npz", str(tmp_path / "mine.npz")):
        train, test = load(path)
        assert isinstance(train.x, jax.Array) and train.x.dtype == float
        assert train.y.dtype == test.y.dtype == np.int32
        assert np.array_equal(train.y, y) and np.array_equal(test.x, -x)
    np.savez(tmp_path / "two.npz", x=x, y=y > 0)
    train, test = load(tmp_path / "two.npz")
    assert test is None and train.y.dtype == float
    assert np.array_equal(train.y, np.where(y > 0, 1.0, -1.0))
