"""A user's own arrays and network on the λ-path: what is read, what is refused, what comes out."""

import dataclasses
import json
import pathlib
import pickle
import subprocess
import sys

import jax
import numpy as np
import pandas
import pytest

from ntkreg import records
from ntkreg.experiments import configs, user_data, user_path
from ntkreg.experiments.user_path import COLUMNS, Config
from ntkreg.experiments.user_path_figure import figure
from ntkreg.training import paths

LAUNCHER = pathlib.Path(__file__).parents[1] / "launch" / "lambda_path.py"
MUST = r"^--data must hold x of shape \(n, d\) and y of shape \(n,\), ±1 or class indices, got "
RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 3))
SIGNS = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 1.0])
CLASSES = np.array([0, 1, 2, 2, 1, 0])
TINY = dict(width=4, num_seeds=2, lams=(1e-2, 1e-4), num_steps=50, finish_steps=5)
MODULES = """
from flax import linen, nnx


class Net(linen.Module):
    outputs: int = 1
    biased: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(4, use_bias=False)(x))
        return linen.Dense(self.outputs, use_bias=self.biased)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 4, use_bias=False, rngs=rngs)
        self.last = nnx.Linear(4, 1, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


class Needy(linen.Module):
    outputs: int


THREE, BIASED, NUMBER = Net(3), Net(1, True), 7
"""


def saved(folder, **arrays):
    np.savez(folder / "mine.npz", **arrays)
    return str(folder / "mine.npz")


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A module of a user's in the working directory, under a name that no other test has."""
    name = f"nets_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize(
    ("y", "loss", "num_classes"),
    [
        (SIGNS, "logistic", 2),
        (SIGNS.astype(np.float32), "logistic", 2),
        (SIGNS.astype(int), "logistic", 2),
        (CLASSES, "cross_entropy", 3),
        (CLASSES.astype(np.uint8) % 2, "cross_entropy", 2),
    ],
)
def test_labels_choose_the_loss(tmp_path, y, loss, num_classes):
    arrays = user_data.loaded(saved(tmp_path, x=X.astype(np.float32), y=y, x_test=X, y_test=y))
    assert (arrays.loss, arrays.num_classes) == (loss, num_classes)
    assert arrays.train.x.dtype == np.float64 and (arrays.test.y == y).all()


@pytest.mark.parametrize(
    ("arrays", "got"),
    [
        (dict(x=X), r"x \(x_test and y_test are the only others"),
        (dict(x=X, labels=SIGNS), "labels, x "),
        (dict(x=X, y=SIGNS, x_val=X), "x, x_val, y "),
        (dict(x=X, y=SIGNS, x_test=X), "x, x_test, y "),
        (dict(x=X[:, :, None], y=SIGNS), r"x of \(6, 3, 1\), y of \(6,\)"),
        (dict(x=X, y=SIGNS[:, None]), r"x of \(6, 3\), y of \(6, 1\)"),
        (dict(x=X[:5], y=SIGNS), r"x of \(5, 3\), y of \(6,\)"),
        (dict(x=X[:0], y=SIGNS[:0]), "at least one sample"),
        (dict(x=X.astype(int), y=SIGNS), "x of int64, where floats are wanted"),
        (dict(x=np.where(X > 0, X, np.nan), y=SIGNS), "x must be finite, got nan at"),
        (dict(x=X, y=0.5 * SIGNS), r"y of float64 with the values -0.5, 0.5 \(class"),
        (dict(x=X, y=CLASSES.astype(float)), "y of float64 with the values 0.0, 1.0, 2.0 "),
        (dict(x=X, y=CLASSES + 1), "y of int64 with the values 1, 2, 3 "),
        (dict(x=X, y=2 * CLASSES), "y of int64 with the values 0, 2, 4 "),
        (dict(x=X, y=0 * CLASSES), "y of int64 with the values 0 "),
        (dict(x=X, y=SIGNS > 0), "y of bool with no numbers"),
        (dict(x=X, y=CLASSES, x_test=X[:, :2], y_test=CLASSES), r"x_test of shape \(6, 2\)"),
        (dict(x=X, y=CLASSES, x_test=X, y_test=CLASSES + 1), "y_test with the value 3"),
        (dict(x=X, y=CLASSES, x_test=X, y_test=1.0 * CLASSES), "y_test of float64"),
        (dict(x=X, y=SIGNS, x_test=X, y_test=0 * SIGNS), "y_test with the value 0.0"),
        (dict(x=X, y=np.array([{}] * 6)), "pickled objects, which are never loaded"),
    ],
)
def test_wrong_arrays_are_told_in_one_line(tmp_path, arrays, got):
    with pytest.raises(ValueError, match=MUST + ".*" + got) as error:
        user_data.loaded(saved(tmp_path, **arrays))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (pickle.dumps({"x": X}), "pickled objects, which are never loaded"),
        (b"", "no npz file"),
        (b"PK\x03\x04 but no more", "a file that is damaged"),
    ],
)
def test_files_of_another_kind_are_told_in_one_line(tmp_path, content, got):
    (tmp_path / "mine.npz").write_bytes(content)
    with pytest.raises(ValueError, match=MUST + got) as error:
        user_data.loaded(str(tmp_path / "mine.npz"))
    assert "\n" not in str(error.value)


def test_a_single_array_is_no_npz_file(tmp_path):
    np.save(tmp_path / "mine.npy", X)
    with pytest.raises(ValueError, match=MUST + "no npz file"):
        user_data.loaded(str(tmp_path / "mine.npy"))


@pytest.mark.parametrize(("name", "y"), [("Net", SIGNS), ("Nnx", SIGNS), ("THREE", CLASSES)])
def test_a_module_is_found_by_name_from_the_working_directory(modules, tmp_path, name, y):
    data = saved(tmp_path, x=X, y=y)
    path = user_path.problem(Config(data=data, module=f"{modules}:{name}"))[1]
    assert path.trainer.network.order == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NETS", "must be package.module:name of a flax.linen"),
        ("NETS:Missing", "must be package.module:name.*no attribute 'Missing'"),
        ("nowhere_at_all:Net", "must be package.module:name.*No module named"),
        ("NETS:Needy", "must be package.module:name.*outputs"),
        ("NETS:NUMBER", "module must be a flax.linen module or what builds"),
        ("NETS:BIASED", "must be homogeneous.*Dense_1/bias"),
        ("NETS:THREE", "must have one output for the loss logistic"),
    ],
)
def test_a_module_that_will_not_do_is_told_in_one_line(modules, tmp_path, name, message):
    config = Config(data=saved(tmp_path, x=X, y=SIGNS), module=name.replace("NETS", modules))
    with pytest.raises(ValueError, match=message) as error:
        user_path.problem(config)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    data = saved(folder, x=X, y=CLASSES, x_test=-X, y_test=CLASSES)
    config = Config(data=data, **TINY)
    return config, folder / "record", user_path.run(config, folder / "record")


def test_every_start_is_followed_as_train_path_does(swept):
    config, _, record = swept
    arrays, path = user_path.problem(config)
    rows = user_path.table(record)
    assert list(rows.columns) == list(COLUMNS) and len(rows) == 2 * 2
    assert rows[["train_error", "test_error"]].stack().between(0, 1).all()
    for seed in range(2):
        direct = paths.train_path(
            path.trainer.network, jax.tree.map(jax.numpy.asarray, arrays.train),
            lams=config.lams, key=jax.random.key(seed), loss="cross_entropy",
            num_steps=config.num_steps, finish_steps=config.finish_steps,
        )  # fmt: skip
        found = rows[rows.seed == seed]
        np.testing.assert_allclose(found.normalized_margin, direct.info.normalized_margin, 1e-9)
        np.testing.assert_allclose(found.norm, direct.info.norm, 1e-9)


def test_a_zero_network_has_no_residual(swept):
    """It is stationary and has learned nothing."""
    record = swept[2]
    residual = np.full_like(record.arrays["log_residual"], np.inf)
    arrays = {**record.arrays, "log_residual": residual}
    rows = user_path.table(dataclasses.replace(record, arrays=arrays))
    assert rows.stationarity.isna().all() and not rows.converged.any()


def test_a_deleted_chunk_is_computed_again_to_the_same_bits(swept):
    config, folder, record = swept
    next(iter(sorted(folder.glob("chunk-*.npz")))).unlink()
    again = user_path.run(config, folder)
    for name, array in record.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


def test_other_arrays_under_the_same_name_are_refused(swept):
    config, folder, _ = swept
    before = pathlib.Path(config.data).read_bytes()
    saved(folder.parent, x=X + 1, y=CLASSES, x_test=-X, y_test=CLASSES)
    with pytest.raises(records.Refused, match="its arrays is"):
        user_path.run(config, folder)
    pathlib.Path(config.data).write_bytes(before)


def test_a_changed_module_is_another_run(modules, tmp_path):
    user_data.imported(f"{modules}:Net")
    before = user_data.source_digest(f"{modules}:Net")
    (tmp_path / f"{modules}.py").write_text(MODULES + "\nmore = 1\n")
    assert user_data.source_digest(f"{modules}:Net") != before


def test_the_figure_shows_norm_margins_errors_and_residual(swept):
    axes = figure(swept[2]).axes
    assert [len(ax.get_legend().get_texts()) for ax in axes] == [1, 2, 2, 2]
    assert "stationarity" in axes[3].get_title()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--preset=smoke"], None),
        (["--data=a.npz", "--depth=3"], "a.npz"),
        (["--depth=3", "--data", "a.npz"], "a.npz"),
        (["-data=a.npz"], "a.npz"),
    ],
)
def test_the_flag_chooses_the_user_s_path(arguments, found):
    assert user_path.asked(arguments) == found


def test_results_are_named_like_the_file_and_spare_the_experiment_s_own():
    assert user_path.folder("there/mine.npz") == "results/lambda_path/mine"
    assert user_path.folder("laptop.npz") == "results/lambda_path/laptop-data"


def test_bad_fields_are_named():
    for field, value in (("depth", 0), ("lams", (1e-4, 1e-2)), ("num_seeds", 0)):
        with pytest.raises(ValueError, match=field):
            Config(**{field: value})


def test_memory_grows_with_the_network(tmp_path):
    config = Config(data=saved(tmp_path, x=X, y=SIGNS), **TINY)
    of = lambda config: configs.memory_by_shape(config, user_path.grid(config), user_path.memory)
    small, large = (sum(of(c).values()) for c in (config, dataclasses.replace(config, width=400)))
    assert 0 < 50 * small < large


def launched(folder, *flags):
    command = [sys.executable, str(LAUNCHER), *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_the_command_writes_table_provenance_and_figure(modules, tmp_path):
    saved(tmp_path, x=X, y=SIGNS)
    flags = ["--num_seeds=1", "--lams=1e-2,1e-4", "--num_steps=50", "--finish_steps=5"]
    done = launched(tmp_path, "--data=mine.npz", f"--module={modules}:Net", *flags)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "lambda_path" / "mine"
    table = pandas.read_csv(out / "summary.csv")
    assert list(table.columns) == list(COLUMNS) and list(table.lam) == [1e-2, 1e-4]
    assert table.test_error.isna().all()
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["module"] == f"{modules}:Net" and "claims" not in run
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "networks converged" in done.stdout


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--data=mine.npz"], "lambda_path: --data must hold x of shape (n, d)"),
        (["--data=none.npz"], "lambda_path: --data must be an npz file with x of shape (n, d)"),
        (["--data=mine.npz", "--problems=D:3:8/2/16/relu/2"], "Unknown command line flag"),
    ],
)
def test_the_command_tells_errors_without_a_traceback(tmp_path, flags, part):
    saved(tmp_path, x=X, y=SIGNS + 3)
    done = launched(tmp_path, *flags)
    assert done.returncode != 0 and part in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 or "Unknown" in part
