"""A user's own arrays and network on the λ-path: what is refused, and what comes out."""

import json
import pathlib
import sys

import jax
import numpy as np
import pandas
import pytest
from launchers import launched, launched_here

from ntkreg.experiments import own_data
from ntkreg.experiments.own_data import COLUMNS, EXPERIMENT, Config
from ntkreg.sweeps import Refused
from ntkreg.training import paths

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


@pytest.mark.parametrize(("name", "y"), [("Net", SIGNS), ("Nnx", SIGNS), ("THREE", CLASSES)])
def test_a_module_is_found_by_name_from_the_working_directory(modules, tmp_path, name, y):
    data = saved(tmp_path, x=X, y=y)
    assert own_data.prepare(Config(data=data, module=f"{modules}:{name}")).network.order == 2


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
def test_a_module_that_will_not_do_is_refused_in_one_line(modules, tmp_path, name, message):
    config = Config(data=saved(tmp_path, x=X, y=SIGNS), module=name.replace("NETS", modules))
    with pytest.raises(ValueError, match=message) as error:
        own_data.prepare(config)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    data = saved(folder, x=X, y=CLASSES, x_test=-X, y_test=CLASSES)
    config = Config(data=data, **TINY)
    return config, folder / "out", EXPERIMENT.sweep(config, folder / "out")


def test_every_start_is_followed_as_train_path_does(swept):
    config, _, rows = swept
    problem = own_data.prepare(config)
    assert list(rows.columns) == list(COLUMNS) and len(rows) == 2 * 2
    assert rows[["train_error", "test_error"]].stack().between(0, 1).all()
    for seed in range(2):
        direct = paths.train_path(
            problem.network, problem.train, lams=config.lams, key=jax.random.key(seed),
            loss="cross_entropy", num_steps=config.num_steps, finish_steps=config.finish_steps,
        )  # fmt: skip
        found = rows[rows.seed == seed]
        np.testing.assert_allclose(found.normalized_margin, direct.info.normalized_margin, 1e-7)
        np.testing.assert_allclose(found.norm, direct.info.norm, 1e-7)


def test_a_zero_network_has_no_residual():
    """It is stationary and has learned nothing."""
    config = Config(lams=(1e-2, 1e-4))
    row = {"seed": 0, "failed": "", "log_residual": np.array([own_data.LARGEST_LOG, np.log(1e-4)])}
    rows = own_data.table(pandas.DataFrame([row]), config)
    assert list(rows.stationarity.isna()) == [True, False]
    assert list(rows.converged) == [False, True]


def test_other_arrays_under_the_same_name_are_refused(swept):
    config, folder, _ = swept
    before = pathlib.Path(config.data).read_bytes()
    saved(folder.parent, x=X + 1, y=CLASSES, x_test=-X, y_test=CLASSES)
    with pytest.raises(Refused, match="holds another run"):
        EXPERIMENT.sweep(config, folder)
    pathlib.Path(config.data).write_bytes(before)


@pytest.mark.slow
def test_a_changed_module_is_another_run(modules, tmp_path):
    tiny = TINY | dict(num_seeds=1, lams=(1e-2,), num_steps=2)
    config = Config(data=saved(tmp_path, x=X, y=SIGNS), module=f"{modules}:Net", **tiny)
    EXPERIMENT.sweep(config, tmp_path / "out")
    del sys.modules[modules]
    source = (tmp_path / f"{modules}.py").read_text()
    (tmp_path / f"{modules}.py").write_text(source.replace("Dense(4,", "Dense(40,"))
    with pytest.raises(Refused, match=rf"its {modules}\.Net\.__call__ is"):
        EXPERIMENT.sweep(config, tmp_path / "out")


def test_the_figure_shows_norm_margins_errors_and_residual(swept):
    axes = EXPERIMENT.figure(swept[2], swept[0]).axes
    assert [len(ax.get_legend().get_texts()) for ax in axes] == [1, 2, 2, 2]
    assert "stationarity" in axes[3].get_title()


def test_results_are_named_like_the_file():
    assert own_data.folder(Config(data="there/mine.npz"), "smoke") == "results/own_data/mine"


def test_bad_fields_are_named():
    for field, value in (("depth", 0), ("lams", (1e-4, 1e-2)), ("num_seeds", 0)):
        with pytest.raises(ValueError, match=field):
            Config(**{field: value})


@pytest.mark.slow
def test_the_command_writes_table_provenance_and_figure_and_draws_again(modules, tmp_path):
    saved(tmp_path, x=X, y=SIGNS)
    flags = ["--num_seeds=1", "--lams=1e-2,1e-4", "--num_steps=50", "--finish_steps=5"]
    flags += ["--data=mine.npz", f"--module={modules}:Net"]
    done = launched(*flags, name="own_data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "own_data" / "mine"
    table = pandas.read_csv(out / "summary.csv")
    assert list(table.columns) == list(COLUMNS) and list(table.lam) == [1e-2, 1e-4]
    assert table.test_error.isna().all() and table.failed.isna().all()
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["module"] == f"{modules}:Net" and run["claims"] == []
    assert "networks converged" in done.stdout
    (out / "figure.png").unlink()
    assert launched_here(EXPERIMENT, "--redraw", "--data=mine.npz").returncode == 0
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flag", "part"),
    [
        ("--data=mine.npz", "own_data: --data=mine.npz must hold x of shape (n, d)"),
        ("--preset=smoke", "own_data: --data='' must be an npz file with x of shape (n, d)"),
    ],
)
def test_the_command_ends_in_one_line_without_a_traceback(tmp_path, monkeypatch, flag, part):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, x=X, y=SIGNS + 3)
    done = launched_here(EXPERIMENT, flag)
    assert done.returncode == 2 and done.stderr.startswith(part)
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
