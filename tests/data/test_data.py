"""The distribution D, the digits, and what a dataset is refused for."""

import pickle

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


X = np.random.default_rng(0).normal(size=(6, 3))
LABELS = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])
CLASSES = np.array([0, 1, 2, 2, 1, 0])
MUST = r"mine\.npz must hold x of shape \(n, d\) and y of shape \(n,\), ±1 or class indices, got "


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
        ("none.npz", {}, "'none.npz' must be an npz file with x of shape"),
    ],
)
def test_load_refuses_by_argument_and_value(name, options, said):
    with pytest.raises(ValueError, match=said):
        load(name, **(dict(key=KEY) | options))


def saved(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return folder / "mine.npz"


@pytest.mark.parametrize(
    ("y", "dtype"),
    [
        (LABELS, np.float64),
        (LABELS.astype(np.float32), np.float64),
        (LABELS.astype(int), np.float64),
        (CLASSES, np.int32),
        (CLASSES.astype(np.uint8) % 2, np.int32),
    ],
)
def test_a_file_has_signs_or_classes(tmp_path, y, dtype):
    train, test = load(saved(tmp_path, x=X.astype(np.float32), y=y, x_test=X, y_test=y))
    assert train.x.dtype == np.float64 and train.y.dtype == test.y.dtype == dtype
    assert np.array_equal(train.y, y) and np.array_equal(test.x, X)
    assert load(saved(tmp_path, x=X, y=y))[1] is None


@pytest.mark.parametrize(
    ("arrays", "got"),
    [
        (dict(x=X), r"x \(x_test and y_test are the only others"),
        (dict(x=X, labels=LABELS), "labels, x "),
        (dict(x=X, y=LABELS, x_val=X), "x, x_val, y "),
        (dict(x=X, y=LABELS, x_test=X), "x, x_test, y "),
        (dict(x=X[:, :, None], y=LABELS), r"x of \(6, 3, 1\), y of \(6,\)"),
        (dict(x=X, y=LABELS[:, None]), r"x of \(6, 3\), y of \(6, 1\)"),
        (dict(x=X[:5], y=LABELS), r"x of \(5, 3\), y of \(6,\)"),
        (dict(x=X[:0], y=LABELS[:0]), "at least one sample"),
        (dict(x=X.astype(int), y=LABELS), "x of int64, where floats are wanted"),
        (dict(x=np.where(X > 0, X, np.nan), y=LABELS), "x must be finite, got nan at"),
        (dict(x=X, y=0.5 * LABELS), r"y of float64 with the values -0.5, 0.5 \(class"),
        (dict(x=X, y=CLASSES.astype(float)), "y of float64 with the values 0.0, 1.0, 2.0 "),
        (dict(x=X, y=CLASSES + 1), "y of int64 with the values 1, 2, 3 "),
        (dict(x=X, y=2 * CLASSES), "y of int64 with the values 0, 2, 4 "),
        (dict(x=X, y=0 * CLASSES), "y of int64 with the values 0 "),
        (dict(x=X, y=LABELS > 0), "y of bool with no numbers"),
        (
            dict(x=X, y=CLASSES, x_test=X[:, :2], y_test=CLASSES),
            r"x_test of shape \(6, 2\)",
        ),
        (
            dict(x=X, y=CLASSES, x_test=X, y_test=CLASSES + 1),
            "y_test with the value 3",
        ),
        (dict(x=X, y=CLASSES, x_test=X, y_test=1.0 * CLASSES), "y_test of float64"),
        (
            dict(x=X, y=LABELS, x_test=X, y_test=0 * LABELS),
            "y_test with the value 0.0",
        ),
        (dict(x=X, y=np.array([{}] * 6)), "pickled objects, which are never loaded"),
    ],
)
def test_a_file_with_wrong_arrays_is_refused_in_one_line(tmp_path, arrays, got):
    with pytest.raises(ValueError, match=MUST + ".*" + got) as error:
        load(saved(tmp_path, **arrays))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (pickle.dumps({"x": X}), "pickled objects, which are never loaded"),
        (b"", "no npz file"),
        (b"PK\x03\x04 but no more", "a file that is damaged"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, content, got):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(ValueError, match=MUST + got) as error:
        load(tmp_path / "mine.npz")
    assert "\n" not in str(error.value)
