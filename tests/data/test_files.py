"""Files of one's own: every kind and coding is read, and what is wrong is said in one line."""

import gzip
import io
import pickle
import struct
import zipfile

import numpy as np
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntkreg.data import array_files, files
from ntkreg.data.image_data import images

RNG = np.random.default_rng(0)
X = RNG.normal(size=(8, 3)).round(3)
CLASSES = np.array([0, 1, 2, 2, 1, 0, 1, 2])
BITS = np.array([0, 1, 1, 0, 0, 1, 1, 1])
SIGNS = 2.0 * BITS - 1
WORDS = np.array(["no", "yes"])[BITS]


def text(separator=",", header=("a", "b", "c", "label"), labels=BITS, x=X, end="\n", first=False):
    """A table as text, the label last or first."""
    rows = [[*map(str, row)] for row in x.tolist()]
    for row, label in zip(rows, labels, strict=True):
        row.insert(0 if first else len(row), str(label))
    lines = [header] if header else []
    return "".join(separator.join(cells) + end for cells in [*lines, *rows])


def saved(folder, name, content):
    """A file with that content: bytes, text, an array, or several by name."""
    path = folder / name
    if isinstance(content, dict):
        np.savez(path, **content)
    elif isinstance(content, np.ndarray):
        np.save(path, content)
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def idx(array, code):
    shape = struct.pack(f">{array.ndim}I", *array.shape)
    return (
        bytes([0, 0, code, array.ndim])
        + shape
        + array.astype(array_files.IDX_DTYPES[code]).tobytes()
    )


def refused(path, **options):
    """What is said of a file that will not do, in one line with its name."""
    with pytest.raises(ValueError) as error:
        files.read(path, **options)
    assert "\n" not in str(error.value) and path.name in str(error.value)
    return str(error.value)


ROWS = text(header=None).split()
TEXTS = {
    "plain": text(),
    "no header": text(header=None),
    "counted": text(header=("0", "1", "2", "3")),
    "BOM and CRLF": b"\xef\xbb\xbf" + text(end="\r\n").encode(),
    "UTF-16": text().encode("utf-16"),
    "tabs": text("\t"),
    "semicolons": text("; "),
    "decimal commas": text(";").replace(".", ","),
    "decimal commas, no header": text(";", header=None).replace(".", ","),
    "white space": text("   ", header=None),
    "names with blanks": text(header=("the a", "the b", "the c", "its label")),
    "comments and empty lines": "# from somewhere\n\n" + text(end="\n\n"),
    "quotes": text(header=('"a, first"', '"b"', "c", "label")),
    "gzip": gzip.compress(text().encode()),
    "an index": "\n".join([",a,b,c,label", *(f"{i},{row}" for i, row in enumerate(ROWS))]),
    "an empty column": "\n".join(["a,empty,b,c,label", *(r.replace(",", ",,", 1) for r in ROWS)]),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_a_table_is_read(tmp_path, kind):
    found = files.read(saved(tmp_path, "mine.data", TEXTS[kind]))
    np.testing.assert_array_equal(found.train.x, X)
    assert np.array_equal(found.train.y, SIGNS) and found.test is None
    has_header = "no header" not in kind and kind != "white space"
    assert ("numbers have decimal commas" in found.said) == ("decimal" in kind)
    assert ("the first line is a header" in found.said) == has_header
    assert any("mine.data: 8 rows of 3 features" in line for line in found.said)


@pytest.mark.parametrize("cell", ["1.000,5", "1,000,5"])
def test_commas_that_are_no_decimal_ones_are_refused(tmp_path, cell):
    content = f"a;b;label\n1,5;2;0\n{cell};2;1\n"
    assert cell in refused(saved(tmp_path, "mine.csv", content))


@pytest.mark.parametrize("label", ["label", "1", "-4"])
def test_the_label_is_a_column_by_name_or_place(tmp_path, label):
    header = ("label", "a", "b", "c")
    path = saved(tmp_path, "mine.csv", text(header=header, labels=WORDS, first=True))
    found = files.read(path, label=label)
    assert np.array_equal(found.train.x, X) and found.classes == ("no", "yes")
    assert "labels in column, 'label': no → −1 (3 rows), yes → +1 (5 rows)" in found.said


@pytest.mark.parametrize("label", ["none", "0", "5", "-5", "-"])
def test_a_label_that_is_no_column_is_refused(tmp_path, label):
    said = refused(saved(tmp_path, "mine.csv", text()), label=label)
    assert "label's column by its name or place, of 'a', 'b', 'c', 'label'" in said
    assert said.endswith(f"got {label!r}")


CODINGS = {
    "signs": SIGNS, "bits": BITS, "from one": BITS + 1, "words": WORDS, "bools": BITS > 0,
    "bytes": WORDS.astype("S"), "column": SIGNS[:, None], "float16": SIGNS.astype(np.float16),
    "far apart": 7 * BITS - 100, "words of numbers": (BITS + 1).astype(str),
    "uint8": np.uint8(BITS), "one-hot": np.eye(2)[BITS],
}  # fmt: skip


@pytest.mark.parametrize("coding", CODINGS)
def test_two_classes_become_signs(tmp_path, coding):
    found = files.read(saved(tmp_path, "mine.npz", dict(x=X, y=CODINGS[coding])))
    assert np.array_equal(found.train.y, SIGNS) and found.train.y.dtype == float
    assert sum("→ −1 (3 rows)" in line and "→ +1 (5 rows)" in line for line in found.said) == 1
    assert any("one-hot" in line for line in found.said) == (coding == "one-hot")


@given(st.permutations(range(-3, 4)), st.sampled_from([int, float, np.float32, "U8", "S8"]))
def test_several_classes_become_indices_in_their_order(values, dtype):
    """Names are sorted as numbers where they are numbers: −3 before 0, 10 after 9."""
    names = np.sort(values[:3]) * 5
    part = array_files.Part(X, names[CLASSES].astype(dtype), lambda row, column: "")
    labels = files.plain_labels("mine", part, [])
    assert np.array_equal(np.unique(labels, return_inverse=True)[1], CLASSES)
    assert np.array_equal(labels, names[CLASSES])


def test_classes_are_named_in_the_order_of_their_codes(tmp_path):
    words = np.array(["b", "c", "a"])[CLASSES]
    found = files.read(saved(tmp_path, "mine.npz", dict(x=X, y=words)))
    assert found.classes == ("a", "b", "c") and found.train.y.dtype == np.int32
    assert np.array_equal(np.array(found.classes)[found.train.y], words)
    assert "labels y: 3 classes, a (3), b (2), c (3)" in found.said


@pytest.mark.parametrize("pair", [("X", "y"), ("DATA", "Target"), *array_files.PAIRS], ids="/".join)
def test_an_npz_file_has_any_usual_names(tmp_path, pair):
    found = files.read(saved(tmp_path, "mine.npz", {pair[0]: X, pair[1]: BITS, "names": WORDS}))
    assert np.array_equal(found.train.x, X) and np.array_equal(found.train.y, SIGNS)
    assert "not read: names" in found.said


def test_what_keras_keeps_of_mnist_is_read(tmp_path):
    x, y = RNG.integers(0, 256, (20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    arrays = dict(x_train=x, y_train=y, x_test=x[:5], y_test=y[:5])
    found = files.read(saved(tmp_path, "mnist.npz", arrays))
    assert found.train.x.shape == (20, 784) and found.test.x.shape == (5, 784)
    assert np.array_equal(found.train.x, x.reshape(20, -1)) and np.array_equal(found.test.y, y[:5])
    assert any("(28, 28) are rows of 784 numbers" in line for line in found.said)
    assert np.array_equal(images("mnist", tmp_path).y, [*y, *y[:5]])


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.float16, np.float32, np.int64])
def test_inputs_of_any_real_dtype_are_read(tmp_path, dtype):
    x = (X > 0).astype(dtype)
    found = files.read(saved(tmp_path, "mine.npz", dict(x=x, y=CLASSES)))
    assert found.train.x.dtype == np.float64 and np.array_equal(found.train.x, X > 0)


@pytest.mark.parametrize("where", ["x.npy", ""])
def test_a_pair_of_npy_files_is_read(tmp_path, where):
    saved(tmp_path, "x.npy", X), saved(tmp_path, "y.npy", WORDS)
    found = files.read(tmp_path / where)
    assert np.array_equal(found.train.x, X) and np.array_equal(found.train.y, SIGNS)


def test_libsvm_is_read(tmp_path):
    lines = [
        f"{y:+d} 1:{a} 3:{c} # b is 0\n" for (a, _, c), y in zip(X, SIGNS.astype(int), strict=True)
    ]
    for name, content in (("mine", "".join(lines)), ("z", gzip.compress("".join(lines).encode()))):
        found = files.read(saved(tmp_path, name, content))
        np.testing.assert_array_equal(found.train.x, X * [1, 0, 1])
        assert np.array_equal(found.train.y, SIGNS)
    said = refused(saved(tmp_path, "bad", "".join([*lines, "+1 1:2 oops\n"])))
    assert "line 9 must be label index:value" in said and said.endswith("got +1 1:2 oops")


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files_are_read_with_their_test_part(tmp_path, zipped):
    x = RNG.integers(0, 128, (8, 2, 3), np.uint8)
    pack = gzip.compress if zipped else bytes
    end = ".gz" if zipped else ""
    for part in ("train", "t10k"):
        values, code = (x, 8) if part == "train" else (-x.astype(np.int16), 11)
        saved(tmp_path, f"{part}-images-idx3-ubyte{end}", pack(idx(values, code)))
        saved(tmp_path, f"{part}-labels-idx1-ubyte{end}", pack(idx(CLASSES, 8)))
    for path in (tmp_path / f"train-images-idx3-ubyte{end}", tmp_path):
        found = files.read(path)
        assert np.array_equal(found.train.x, x.reshape(8, -1))
        assert np.array_equal(found.train.y, CLASSES)
        assert np.array_equal(found.test.x, -(x.reshape(8, -1) + 0.0))
    cut = saved(tmp_path, "cut-images-idx3-ubyte", idx(x, 8)[:-1])
    saved(tmp_path, "cut-labels-idx1-ubyte", idx(CLASSES, 8))
    assert "must have 64 bytes, an IDX file of shape (8, 2, 3), got 63" in refused(cut)


def test_parquet_is_read_where_pandas_can(tmp_path, monkeypatch):
    path = saved(tmp_path, "mine.parquet", b"PAR1 and more")
    frame = pandas.DataFrame(X, columns=list("abc")).assign(label=WORDS)
    monkeypatch.setattr(pandas, "read_parquet", lambda path: frame)
    found = files.read(path)
    assert np.array_equal(found.train.x, X) and np.array_equal(found.train.y, SIGNS)

    def lacking(path):
        raise ImportError("Unable to find a usable engine;\n tried using pyarrow")

    monkeypatch.setattr(pandas, "read_parquet", lacking)
    assert "no pyarrow to read parquet with" in refused(path)

    def broken(path):
        raise ValueError("Parquet magic bytes not found in footer. Either the file is corrupted …")

    monkeypatch.setattr(pandas, "read_parquet", broken)
    assert "mine.parquet must be whole parquet, got Parquet magic bytes not found" in refused(path)


def test_the_home_folder_is_meant_by_its_sign(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path, "mine.csv", text())
    assert len(files.read("~/mine.csv").train.y) == 8


def sheet() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    return file.getvalue()


NUMBERS = text(header=None).splitlines()
BROKEN = {
    "an empty file": b"", "an empty file ": b"\n \n",
    "an HTML page": b"<!DOCTYPE html><html>", "a pickle, which is never loaded": pickle.dumps([1]),
    "a JSON file": b'{"x": [1]}', "binary content": b"\x89HDF\r\n\x1a\n\0\0",
    "a spreadsheet": sheet(), "damaged": b"PK\x03\x04 but no more",
    "damaged ": gzip.compress(text().encode())[:-20],
    "line 7 must have 4 cells, got 3": text().replace(NUMBERS[5], NUMBERS[5].rsplit(",", 1)[0]),
    "line 4 must have 4 cells, got 5": text().replace(NUMBERS[2], NUMBERS[2] + ",1"),
    "line 3, column 'b' must be a number": text().replace(f",{X[1, 1]},", ",male,"),
    "got 'male'": text().replace(f",{X[1, 1]},", ",male,"),
    "line 3, column 'b' must be finite": text().replace(f",{X[1, 1]},", ",inf,"),
    "got 2 missing cells in 2 rows, the first at line 3, column 'b'":
        text().replace(f",{X[1, 1]},", ",,").replace(f",{X[4, 1]},", ",?,"),
    "the first at line 5, column 'label'": text(labels=["a", "b", "a", "", *"abab"]),
    "the label 1 in all 8 rows": text(labels=np.ones(8, int)),
    "must have classes for labels (--label names their column), line 2, column 'label'":
        text(labels=X[:, 0]),
    "8 labels in 8 rows": text(labels=range(10, 18)),
    "at least two rows": "a,label\n1,2\n",
    "must have features and a label": "label\n1\n2\n",
}  # fmt: skip


@pytest.mark.parametrize("said", BROKEN)
def test_what_is_wrong_is_said_with_its_place(tmp_path, said):
    assert said.strip() in refused(saved(tmp_path, "mine.file", BROKEN[said]))


ARRAYS = {
    "must hold x and y (or X and y, data and target, x_train and y_train), got x": dict(x=X),
    "inputs of shape (n, d) and n labels": dict(x=X[:5], y=BITS),
    "got (8,) and (8,)": dict(x=X[:, 0], y=BITS),
    "got (0, 3)": dict(x=X[:0], y=BITS[:0]),
    "inputs that are numbers, got complex128": dict(x=X + 1j, y=BITS),
    "labels of shape (8, 3)": dict(x=X, y=X),
    "x[2] (entry 1) must be finite": dict(x=np.where(X[2, 1] == X, np.inf, X), y=BITS),
    "pickled objects as y": dict(x=X, y=np.array([{}] * 8)),
    "y[0], got 0.5": dict(x=X, y=0.5 * SIGNS + 0.0 + (SIGNS < 0)),
    "must have 3 test features, got 2": dict(x=X, y=BITS, x_test=X[:, :2], y_test=BITS),
    "must have test labels of 0, 1, got 2": dict(x=X, y=BITS, x_test=X, y_test=2 * BITS),
}


@pytest.mark.parametrize("said", ARRAYS)
def test_arrays_that_will_not_do_are_refused(tmp_path, said):
    assert said in refused(saved(tmp_path, "mine.npz", ARRAYS[said]))


def test_what_lies_alone_is_refused(tmp_path):
    assert refused(saved(tmp_path, "x.npy", X)).endswith("as x.npy and y.npy, got no y.npy")
    assert refused(saved(tmp_path, "z.npy", X)).endswith("got a name that goes with none")
    assert "must hold x.npy and y.npy, or IDX" in refused(tmp_path)
    alone = saved(tmp_path, "train-images-idx3-ubyte", idx(CLASSES, 8))
    assert refused(alone).endswith("got no train-labels-idx1-ubyte")
    assert "there is no file" in refused(tmp_path / "none.csv")
    whole = saved(tmp_path, "mine.npz", dict(x=X, y=BITS))
    assert refused(whole, label="y").endswith("so that label must be left out, got 'y'")


def test_rows_with_missing_cells_are_left_out_where_that_is_wanted(tmp_path):
    content = text(labels=WORDS).replace(f",{X[1, 1]},", ",NA,")
    found = files.read(saved(tmp_path, "mine.csv", content), drop_missing=True)
    assert np.array_equal(found.train.x, np.delete(X, 1, axis=0))
    assert np.array_equal(found.train.y, np.delete(SIGNS, 1))
    assert any("left out: 1 of 8 rows" in line for line in found.said)


def test_rows_that_contradict_each_other_are_named(tmp_path):
    """Lines are those of the file, also where one before them was left out."""
    x = X.copy()
    x[6] = x[3]
    same = files.read(saved(tmp_path, "same.csv", text(x=x, labels=BITS * 0 + (np.arange(8) == 1))))
    assert not any("separates" in line for line in same.said)
    content = text(x=x).replace(f",{X[1, 1]},", ",,")
    found = files.read(saved(tmp_path, "mine.csv", content), drop_missing=True)
    assert "no network separates line 5 and line 8: equal inputs, labels 0 and 1" in found.said


def test_a_column_that_names_rows_is_pointed_out(tmp_path):
    x = np.column_stack([RNG.permutation(100)[:30], RNG.normal(size=30)])
    frame = pandas.DataFrame(x, columns=["id", "a"]).astype({"id": int}).assign(y=np.arange(30) % 2)
    found = files.read(saved(tmp_path, "mine.csv", frame.to_csv(index=False)))
    assert any("column 'id' has another whole number in every row" in line for line in found.said)
