"""Files of images: what is read from them, and what is said of files that hold anything else."""

import io
import types

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.datasets

from ntkreg.data.dataset import check_dataset
from ntkreg.data.image_data import images

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


def test_a_missing_file_and_an_unknown_name_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"cifar10\.npz must be an npz file .* no such file"):
        images("cifar10", tmp_path)
    with pytest.raises(ValueError, match="name must be one of mnist, cifar10, got 'svhn'"):
        images("svhn", tmp_path)
