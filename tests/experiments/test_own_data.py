"""A user's own data and network on the λ-path: what is refused, measured, and said on the page."""

import base64
import json
import pathlib
import re
import sys

import jax
import numpy as np
import pandas
import pytest
from launchers import launched, launched_here
from sklearn.datasets import load_breast_cancer, load_iris

from ntkreg import certificates, fully_connected
from ntkreg.experiments import _experiment
from ntkreg.experiments.own_data import EXPERIMENT, Config, answers, figure, runs
from ntkreg.experiments.own_data.runs import COLUMNS, LOGISTIC, NETWORK, PROOF, RIDGE, SVM
from ntkreg.experiments.own_data.runs import UNREGULARISED as PLAIN
from ntkreg.sweeps import Refused
from ntkreg.training import paths, trainers

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
X[:, 2] = 1.0
SIGNS = np.where(X[:, 0] * X[:, 1] > 0, 1.0, -1.0)
CLASSES = np.arange(24) % 3
TINY = dict(
    width=4, widths=(2,), num_seeds=2, lams=(1e-1, 1e-3), num_steps=50,
    finish_steps=5, kernel_lams=(1e-1, 1e-3), certify=60,
)  # fmt: skip
MODULES = """
from flax import linen, nnx


class Net(linen.Module):
    outputs: int = 1
    biased: bool = False
    dropped: float = 0.0
    is_pair: bool = False

    @linen.compact
    def __call__(self, x):
        x = linen.relu(linen.Dense(4, use_bias=False)(x))
        x = linen.Dropout(self.dropped, deterministic=False)(x)
        found = linen.Dense(self.outputs, use_bias=self.biased)(x)
        return (found, x) if self.is_pair else found


class Flagged(Net):
    @linen.compact
    def __call__(self, x, train):
        return super().__call__(x)


class Nnx(nnx.Module):
    def __init__(self, rngs, size=3):
        self.first = nnx.Linear(size, 4, use_bias=False, rngs=rngs)
        self.last = nnx.Linear(4, 1, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x)))


class Listed(Nnx):
    def __init__(self, rngs, container=nnx.List):
        layers = [nnx.Linear(3, 4, use_bias=False, rngs=rngs)]
        self.layers = container([*layers, nnx.Linear(4, 1, use_bias=False, rngs=rngs)])

    def __call__(self, x):
        return self.layers[1](nnx.relu(self.layers[0](x)))


class Needy(linen.Module):
    outputs: int


TWO, THREE, BIASED, PAIR, NUMBER = Net(2), Net(3), Net(1, True), Net(is_pair=True), 7
DROPPED = Net(dropped=0.5)
SIZED, PLAIN_LIST = lambda rngs: Nnx(rngs, 7), lambda rngs: Listed(rngs, list)
"""


def saved(folder, name="mine.npz", **arrays):
    np.savez(folder / name, **arrays)
    return str(folder / name)


def problem_of(folder, y=SIGNS, x=X, module="", **fields):
    path = saved(folder, x=x, y=y)
    return runs.prepare(Config(data=path, module=module, **TINY | fields))


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """A module of a user's in the working directory, under a name that no other test has."""
    name = f"nets_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(MODULES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


@pytest.mark.parametrize(
    ("name", "y", "loss"),
    [
        ("Net", SIGNS, "logistic"),
        ("Nnx", SIGNS, "logistic"),
        ("Listed", SIGNS, "logistic"),
        ("TWO", SIGNS, "cross_entropy"),
        ("THREE", CLASSES, "cross_entropy"),
    ],
)
def test_a_module_is_found_by_name_from_the_working_directory(modules, tmp_path, name, y, loss):
    problem = problem_of(tmp_path, y, module=f"{modules}:{name}")
    assert problem.network.order == 2 and problem.loss == loss
    signs = np.isin(problem.rows.y, (-1, 1)).all()
    assert signs == (loss == "logistic") and len(np.unique(problem.rows.y)) == len(np.unique(y))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NETS", "must be package.module:name of a flax.linen"),
        ("NETS:Missing", "must be package.module:name.*no attribute 'Missing'"),
        ("nowhere_at_all:Net", "must be package.module:name.*No module named"),
        ("NETS:Needy", "must be package.module:name.*outputs"),
        ("NETS:NUMBER", "module must be a flax.linen module or what builds"),
        ("NETS:BIASED", "must be homogeneous.*Dense_1/bias"),
        ("NETS:THREE", "it must have 1 or 2 outputs for 2 classes, got 3"),
        ("NETS:DROPPED", r"alone \(dropout must be deterministic"),
        ("NETS:Flagged", r"x of shape \(n, 3\) alone \(flags as train need a default"),
        ("NETS:PAIR", "module must give one array, got a tuple"),
        ("NETS:SIZED", r"its first layer must have as many inputs as there are features.*\(7,\)"),
        ("NETS:PLAIN_LIST", "layers of an nnx module are kept in nnx.List"),
    ],
)
def test_a_module_that_will_not_do_is_refused_in_one_line(modules, tmp_path, name, message):
    with pytest.raises(ValueError, match=f"--module=.*{message}") as error:
        problem_of(tmp_path, module=name.replace("NETS", modules))
    assert "\n" not in str(error.value) and "http" not in str(error.value)


# Splits --------------------------------------------------------------------------------------


def test_a_split_has_every_row_once_and_the_classes_in_proportion(tmp_path):
    problem = problem_of(tmp_path, CLASSES, x=np.arange(72.0).reshape(24, 3), raw=True)
    for seed in range(3):
        parts = runs.split(problem, seed)
        assert [len(part.y) for part in parts] == [15, 4, 5]
        together = np.concatenate([part.x for part in parts])
        assert np.array_equal(np.sort(together, axis=0), problem.rows.x)
        assert all(np.ptp(np.bincount(part.y, minlength=3)) <= 1 for part in parts)
        again = runs.split(problem, seed)
        assert all(np.array_equal(a.x, b.x) for a, b in zip(parts, again, strict=True))
    first, second = (runs.split(problem, seed).test.x for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_features_are_standardised_by_the_training_part_alone(tmp_path):
    scales, shift = np.array([1e3, 1e-3, 1.0]), np.array([5e3, 0.0, 0.0])
    plain, moved = (problem_of(tmp_path, x=x) for x in (X, X * scales + shift))
    train, _, test = runs.split(moved, 0)
    np.testing.assert_allclose(train.x.mean(axis=0), [0, 0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(train.x.std(axis=0), [1, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(test.x, runs.split(plain, 0).test.x, atol=1e-6)
    assert abs(test.x[:, 0].mean()) > 1e-3  # its own mean is not taken away
    assert any("1 of 3 features are constant and are 0" in line for line in moved.said)
    assert any(line.startswith("features standardised") for line in moved.said)
    raw = problem_of(tmp_path, raw=True)
    assert np.isin(runs.split(raw, 0).train.x, X).all() and raw.said[-2].startswith("features as")
    assert runs.split(problem_of(tmp_path, bias=False), 0).train.x.shape[1] == 3


def test_the_test_part_is_the_files_own_where_there_is_one(tmp_path):
    path = saved(tmp_path, x=X, y=SIGNS, x_test=-X[:7], y_test=SIGNS[:7])
    problem = runs.prepare(Config(data=path, raw=True, num_samples=10, **TINY))
    parts = runs.split(problem, 1)
    assert [len(part.y) for part in parts] == [10, 5, 7]
    assert np.array_equal(np.sort(parts.test.x, axis=0), np.sort(-X[:7], axis=0))
    assert any("22 of 31 rows are used" in line for line in problem.said)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(slice(0, 3), "more rows for their test_share, got 3"), (slice(0, 24), "too few of class 1")],
)
def test_too_few_rows_are_refused(tmp_path, rows, message):
    y = np.zeros(24)
    y[1] = 1
    with pytest.raises(ValueError, match=message):
        problem_of(tmp_path, y[rows], X[rows], test_share=0.5 if rows.stop > 3 else 0.2)


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (load_breast_cancer, "→ −1 (212 rows), benign"),
        (load_iris, "3 classes, setosa (50), versicolor (50), virginica (50)"),
    ],
)
def test_sets_of_scikit_learn_come_through_a_csv(tmp_path, load, said):
    found = load(as_frame=True)
    names = found.target_names[found.target]
    if load is load_breast_cancer:  # whose classes are not in the order of their names
        names = np.where(found.target == 0, "a malignant", "benign")
    found.data.assign(kind=names).to_csv(tmp_path / "set.csv", index=False)
    problem = runs.prepare(Config(data=str(tmp_path / "set.csv")))
    np.testing.assert_array_equal(problem.rows.x, found.data.to_numpy())
    assert any(said in line for line in problem.said)
    y = np.asarray(problem.rows.y)
    assert np.array_equal(y if y.dtype == np.int32 else (y + 1) / 2, found.target)


# Runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("swept")
    config = Config(data=saved(folder, x=X, y=SIGNS), **TINY)
    return config, folder / "out", EXPERIMENT.sweep(config, folder / "out")


def test_every_model_is_there_and_came_to_its_end(swept):
    _, _, rows = swept
    assert list(rows.columns) == list(COLUMNS) and (rows.failed == "").all()
    counts = rows.groupby(["model", "width"]).size().to_dict()
    assert counts[NETWORK, 4] == counts[NETWORK, 2] == counts[RIDGE, 4] == counts[LOGISTIC, 4] == 4
    assert counts[PLAIN, 4] == 2 and counts[PROOF, 4] == 3 and counts[SVM, 4] <= 2
    shares = rows[rows.model.isin([NETWORK, PLAIN, SVM, RIDGE, LOGISTIC])]
    for column in ("train_error", "validation_error", "test_error"):
        assert shares[column].between(0, 1).all()


def test_every_start_is_followed_as_train_path_does(swept):
    config, _, rows = swept
    problem = runs.prepare(config)
    direct = paths.train_path(
        fully_connected(2, 4), runs.split(problem, 1).train, lams=config.lams,
        key=jax.random.key(1), num_steps=config.num_steps, finish_steps=config.finish_steps,
    )  # fmt: skip
    found = rows[(rows.seed == 1) & (rows.model == NETWORK) & (rows.width == 4)]
    np.testing.assert_allclose(found.norm, direct.info.norm, 1e-6)
    np.testing.assert_allclose(found.normalized_margin, direct.info.normalized_margin, 1e-6)


@pytest.mark.parametrize("depth", [2, 3])
def test_a_narrower_network_is_a_part_of_the_wide_one_the_rest_of_which_stays_zero(tmp_path, depth):
    problem, key = problem_of(tmp_path, depth=depth), jax.random.key(3)
    narrow, x = fully_connected(depth, 2), runs.split(problem, 0).train.x
    own = narrow.init(key, 4)
    padded = runs._start(problem, 2, key)
    slope = lambda network, params: jax.grad(lambda p: (network.apply(p, x) ** 3).sum())(params)
    own_slope, padded_slope = slope(narrow, own), slope(problem.network, padded)
    for whole, part in zip((*padded, *padded_slope), (*own, *own_slope), strict=True):
        rows, columns = part.shape
        np.testing.assert_allclose(whole[:rows, :columns], part, rtol=1e-12)
        assert not whole[rows:].any() and not whole[:, columns:].any()
    assert any(slice.shape[0] < whole.shape[0] for slice, whole in zip(own, padded, strict=True))


def test_without_lam_the_loss_itself_is_descended(swept):
    config, _, rows = swept
    direct = trainers.train(
        fully_connected(2, 4), runs.split(runs.prepare(config), 0).train, lam=0.0,
        key=jax.random.key(0), descend="plain", num_steps=100, learning_rate=0.03,
    )  # fmt: skip
    found = rows[(rows.model == PLAIN) & (rows.seed == 0)].iloc[0]
    np.testing.assert_allclose(found.norm, direct.info.norm, 1e-6)
    np.testing.assert_allclose(found.log_objective, direct.info.log_loss, 1e-6)


def test_certificates_hold_for_the_first_split(swept):
    config, _, rows = swept
    train = runs.split(runs.prepare(config), 0).train
    proofs = rows[rows.model == PROOF].set_index("lam")
    exact = certificates.global_minimum(train, 1e-1)
    assert proofs.lower[1e-1] <= exact.upper * (1 + 1e-7)
    assert exact.lower <= proofs.upper[1e-1] * (1 + 1e-7)
    path = rows[(rows.model == NETWORK) & (rows.seed == 0)]
    for lam, part in path.groupby("lam"):
        assert (np.exp(part.log_objective) >= proofs.lower[lam] * (1 - 1e-7)).all()
    assert path.normalized_margin.max() <= proofs.upper[0.0] * (1 + 1e-7)


def test_the_drift_of_the_kernel_is_that_of_two_gram_matrices(swept):
    config, _, rows = swept
    problem = runs.prepare(config)
    train = runs.split(problem, 0).train
    start = problem.network.init(jax.random.key(0), 4)
    end = paths.train_path(
        problem.network, train, lams=config.lams, key=jax.random.key(0), num_steps=50,
        finish_steps=5,
    ).params  # fmt: skip

    def gram(params):
        slopes = jax.jacobian(lambda p: problem.network.apply(p, train.x))(params)
        flat = np.concatenate([np.reshape(slope, (len(train.y), -1)) for slope in slopes], axis=1)
        return flat @ flat.T

    first, last = map(gram, (start, jax.tree.map(lambda a: a[-1], end)))
    found = rows[(rows.model == NETWORK) & (rows.seed == 0) & (rows.width == 4)].iloc[-1]
    norm = np.linalg.norm
    np.testing.assert_allclose(found.drift, norm(last - first) / norm(first), 1e-6)
    cosine = np.sum(last * first) / norm(last) / norm(first)
    np.testing.assert_allclose(found.alignment, cosine, 1e-6)


def test_a_module_of_several_classes_has_its_empirical_kernel_and_no_widths(
    modules, tmp_path, monkeypatch
):
    problem = problem_of(tmp_path, CLASSES, module=f"{modules}:THREE")
    assert {point["width"] for point in runs.points(problem.config)} == {4}
    found = runs.run(problem, runs.KERNEL, 4, 0)
    assert (
        "the empirical NTK at the start" in found["note"] and "two classes alone" in found["note"]
    )
    assert set(found["machine"]) == {RIDGE} and list(found["lam"]) == [1e-1, 1e-3]
    parts = runs.split(problem, 0)
    start = problem.network.init(jax.random.key(0), 3)
    features = jax.jacobian(lambda p: problem.network.apply(p, parts.train.x))(start)
    flat = np.concatenate([np.reshape(f, (15, 3, -1)) for f in jax.tree.leaves(features)], axis=-1)
    gram = np.einsum("ikp,jkp->ij", flat, flat) / 3
    targets = 2.0 * np.eye(3)[parts.train.y] - 1
    outputs = gram @ np.linalg.solve(gram + 15 * 1e-1 * np.eye(15), targets)
    wrong = outputs.argmax(axis=1) != parts.train.y
    np.testing.assert_allclose(found["train_error"][0], wrong.mean())
    assert "two layers of ReLU units alone" in runs.run(problem, PROOF, 4, 0)["note"]
    monkeypatch.setattr(runs, "MOST_BYTES", 1000)
    refused = runs.run(problem, runs.KERNEL, 4, 0)
    assert set(refused) == {"note"} and "take 0.0 GiB" in refused["note"]


def test_other_arrays_under_the_same_name_are_refused(swept):
    config, folder, _ = swept
    before = pathlib.Path(config.data).read_bytes()
    saved(folder.parent, x=X + RNG.normal(size=X.shape), y=SIGNS)
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


# Answers -------------------------------------------------------------------------------------


def test_the_zero_network_has_converged_and_has_no_margin():
    """What rounding left of its outputs is no prediction."""
    row = {
        "model": NETWORK, "width": 4, "seed": 0, "failed": "", "lam": np.array([1e-1, 1e-3]),
        "log_residual": np.array([3.0, np.log(1e-4)]), "largest_output": np.array([1e-140, 1.0]),
        "normalized_margin": np.array([-0.007, 0.2]), "log_objective": np.log([np.log(2), 0.1]),
        "train_error": np.array([0.3, 0.0]), "validation_error": np.array([0.3, 0.1]),
        "test_error": np.array([0.3, 0.1]), "norm": np.array([2e-140, 3.0]),
        "drift": np.ones(2), "alignment": np.ones(2),
    }  # fmt: skip
    config = Config(lams=(1e-1, 1e-3), width=4, widths=())
    rows = runs.table(pandas.DataFrame([row]), config)
    assert list(rows.is_zero) == [True, False] and list(rows.converged) == [True, True]
    assert list(rows.normalized_margin) == [0.0, 0.2] and list(rows.test_error) == [1.0, 0.1]
    assert list(rows.stationarity.isna()) == [True, False]
    found = answers.at_minimum(rows, config)
    assert found.verdict == "at a stationary point at every λ"
    assert "At λ = 0.1 training converged to the zero network" in found.sentences[0]


def made(*entries):
    """A table of three seeds and two λ; entries are (column, model, λ, values) that are other."""
    config = Config(lams=(1e-1, 1e-3), width=4, widths=(2,), num_seeds=2)
    sizes = [(NETWORK, 4, s, lam) for s in range(3) for lam in (1e-1, 1e-3)]
    sizes += [(PLAIN, 4, s, 0.0) for s in range(3)] + [(RIDGE, 4, s, 1e-2) for s in range(3)]
    sizes += [(NETWORK, 2, s, lam) for s in range(2) for lam in (1e-1, 1e-3)]
    rows = pandas.DataFrame(sizes, columns=["model", "width", "seed", "lam"])
    rows = rows.reindex(columns=[*COLUMNS])
    errors = dict.fromkeys(("train_error", "validation_error", "test_error"), 0.1)
    plain = dict(
        norm=1.0, normalized_margin=0.1, stationarity=1e-4, converged=True, is_zero=False,
        drift=1.0, alignment=0.5, log_objective=-1.0, dual_weighted_margin=0.2, failed="",
    )  # fmt: skip
    rows = rows.assign(**plain | errors)
    for column, model, lam, values in entries:
        chosen = (rows.model == model) & (rows.lam == lam) & (rows.width == 4)
        rows.loc[chosen, column] = values
    return rows, config


@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ([], "λ = 0.1; without λ: no difference is seen"),  # of equals the largest
        (
            [("validation_error", NETWORK, 1e-3, 0.05)],
            "λ = 0.001; without λ: no difference is seen",
        ),
        ([("test_error", PLAIN, 0.0, [0.2, 0.21, 0.19])], "λ = 0.1; without λ: worse"),
        ([("test_error", PLAIN, 0.0, [0.02, 0.01, 0.0])], "λ = 0.1; without λ: better"),
        (
            [("test_error", PLAIN, 0.0, [0.0, 0.1, 0.9])],
            "λ = 0.1; without λ: no difference is seen",
        ),
        ([("failed", PLAIN, 0.0, "ValueError")], "λ = 0.1"),
    ],
)
def test_the_best_lam_is_that_of_least_validation_error(entries, verdict):
    assert answers.which_lam(*made(*entries)).verdict == verdict


@pytest.mark.parametrize(
    ("entries", "verdict"),
    [
        ([], "no difference is seen"),
        ([("test_error", RIDGE, 1e-2, [0.2, 0.21, 0.19])], "yes"),
        ([("test_error", RIDGE, 1e-2, [0.01, 0.02, 0.0])], "no, the kernel errs less"),
    ],
)
def test_network_and_kernel_are_compared_split_by_split(entries, verdict):
    assert answers.against_kernel(*made(*entries)).verdict == verdict


def test_a_kernel_that_failed_is_said_to_have():
    rows, config = made(("failed", RIDGE, 1e-2, "ValueError: of it"))
    rows.loc[rows.model == RIDGE, ["model", "lam"]] = runs.KERNEL, np.nan
    found = answers.against_kernel(rows, config)
    assert found.verdict == "not known" and "ValueError: of it" in found.sentences[-1]


def test_one_split_tells_nothing_of_a_difference():
    rows, config = made(("test_error", RIDGE, 1e-2, 0.5))
    one = rows[rows.seed == 0]
    assert answers.against_kernel(one, config).verdict == "one split cannot tell"
    assert any("One split alone" in words for words in answers.which_lam(one, config).sentences)


@pytest.mark.parametrize(("drift", "verdict"), [(0.05, "yes"), (0.3, "in between"), (2.0, "no")])
def test_training_is_lazy_where_the_kernel_stays(drift, verdict):
    entries = [("drift", NETWORK, lam, drift) for lam in (1e-1, 1e-3)]
    assert answers.is_lazy(*made(*entries)).verdict == verdict


@pytest.mark.parametrize(("error", "verdict"), [(0.1, "2"), (0.08, "4")])
def test_enough_is_the_smallest_width_that_errs_as_little(error, verdict):
    entries = [("test_error", NETWORK, lam, error) for lam in (1e-1, 1e-3)]
    assert answers.which_width(*made(*entries)).verdict == verdict


@pytest.mark.parametrize(
    ("residuals", "verdict"),
    [
        ((1e-4, 1e-4), "at a stationary point at every λ"),
        ((1e-4, 1e-2), "nearly, at every λ"),
        ((1e-2, 0.5), "nearly down to λ = 0.1, not below"),
        ((0.5, 1e-4), "no"),
    ],
)
def test_the_residual_says_whether_the_optimizer_got_there(residuals, verdict):
    entries = [
        ("stationarity", NETWORK, lam, r) for lam, r in zip((1e-1, 1e-3), residuals, strict=True)
    ]
    entries += [("converged", NETWORK, e[2], e[3] < 1e-3) for e in entries]
    assert answers.at_minimum(*made(*entries)).verdict == verdict


def test_a_certificate_says_more_than_the_residual():
    rows, config = made(("stationarity", NETWORK, 1e-3, 0.5))
    proof = rows.iloc[:2].assign(model=PROOF, lower=[np.exp(-1) / 1.002, np.exp(-1) / 1.004])
    found = answers.at_minimum(pandas.concat([rows, proof]), config)
    assert found.verdict == "at the global minimum, proved"
    assert any("at most 0.2 % at λ = 0.1, 0.4 % at λ = 0.001" in s for s in found.sentences)
    far = pandas.concat([rows, proof.assign(lower=0.3)])
    assert answers.at_minimum(far, config).verdict != "at the global minimum, proved"


def test_dead_units_of_raw_inputs_hint_at_their_scale():
    rows, config = made(("normalized_margin", NETWORK, 1e-3, 0.0))
    said = answers.at_minimum(rows, config)
    assert any("margin is exactly 0 in 3 networks" in words for words in said.sentences)
    assert "--raw" not in said.verdict + "".join(said.sentences)
    raw = answers.at_minimum(rows, Config(raw=True, lams=(1e-1, 1e-3), width=4, widths=(2,)))
    assert "try without --raw" in raw.verdict and answers.RAW in raw.sentences
    sound = answers.at_minimum(made()[0], Config(raw=True, width=4, widths=(2,)))
    assert "--raw" not in sound.verdict


def test_a_run_without_any_network_says_why():
    rows, config = made()
    (only,) = answers.answers(rows.assign(failed="ValueError: too large"), config)
    assert only.verdict == "no" and "ValueError: too large" in only.sentences[0]
    assert len(figure.figure(rows.assign(failed="ValueError: too large"), config).axes) == 1


# Page ----------------------------------------------------------------------------------------


def test_the_figure_has_a_panel_for_each_question(swept):
    config, _, rows = swept
    axes = figure.figure(rows, config).axes
    assert len(axes) == len(answers.answers(rows, config)) == 6
    assert axes[0].get_title() == "distance from a stationary point"
    labels = [text.get_text() for text in axes[1].get_legend().get_texts()]
    assert "normalized margin" in labels and "max margin of the first split" in labels


def test_the_page_answers_with_embedded_pictures_and_links_nowhere(swept):
    config, _, rows = swept
    ((name, page),) = figure.pages(rows, config).items()
    assert name == "report.html"
    best = answers.best_lam(answers.along_path(rows, config))
    assert f"λ = {best:g} errs least on the validation parts" in page
    for one in answers.answers(rows, config):
        assert one.question in page and one.verdict in page
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == page.count("<img") == 6
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    assert not re.search(r"https?:|<script|<link|@import|url\(", page)
    assert "labels y: -1 → −1" in page  # how the file was read


def test_what_a_file_is_called_is_no_markup(swept):
    _, _, rows = swept
    config = Config(data="<b>&.csv", **TINY)
    page = figure.pages(rows, config)["report.html"]
    assert "<b>&.csv" not in page and "&lt;b&gt;&amp;.csv" in page


def test_the_terminal_has_the_table_and_a_line_for_each_answer(swept):
    config, _, rows = swept
    found = answers.summary(rows, config)
    assert "mine.npz: 24 rows of 3 features" in found and "features standardised" in found
    assert all(f"{o.question} {o.verdict}" in found for o in answers.answers(rows, config))
    table = answers.by_lam(rows, config)
    assert list(table["λ"]) == [1e-1, 1e-3, 0.0] and not table["above minimum"][:2].isna().any()


@pytest.mark.parametrize("name", ["there/mine.npz", "mine.csv.gz", "~/mine.csv"])
def test_results_are_named_like_the_file(name):
    assert runs.folder(Config(data=name), "smoke") == "results/own_data/mine"


def test_flags_that_are_switches_are_read(tmp_path):
    config = _experiment.changed(Config(), {"raw": "True", "bias": "False", "data": "a,b.csv"})
    assert config.raw is True and config.bias is False and config.data == "a,b.csv"
    with pytest.raises(ValueError, match="--raw must hold bool, got 2"):
        _experiment.changed(Config(), {"raw": "2"})


def test_bad_fields_are_named():
    for field, value in (
        ("depth", 0), ("lams", (1e-4, 1e-2)), ("num_seeds", 0), ("widths", (100,)),
        ("test_share", 0.0), ("kernel_lams", (0.0,)), ("certify", -1), ("num_samples", 0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=field):
            Config(**{field: value})


@pytest.mark.slow
def test_the_command_writes_table_provenance_page_and_figure_and_draws_again(modules, tmp_path):
    saved(tmp_path, x=X, y=SIGNS)
    flags = ["--num_seeds=1", "--lams=1e-2,1e-4", "--num_steps=50", "--finish_steps=5"]
    flags += ["--data=mine.npz", f"--module={modules}:Net", "--raw"]
    done = launched(*flags, name="own_data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "results" / "own_data" / "mine"
    table = pandas.read_csv(out / "summary.csv")
    assert list(table.columns) == list(COLUMNS)
    assert list(table[table.model == NETWORK].lam) == [1e-2, 1e-4]
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["module"] == f"{modules}:Net" and run["config"]["raw"] is True
    assert run["claims"] == [] and "Is training lazy?" in done.stdout
    (out / "figure.png").unlink()
    (out / "report.html").unlink()
    (tmp_path / "mine.npz").unlink()
    assert launched_here(EXPERIMENT, "--redraw", "--data=mine.npz").returncode == 0
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/png" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--data=mine.npz"], "own_data: --data=mine.npz must have classes for labels"),
        (["--data=none.csv"], "own_data: --data='none.csv' must be a data file"),
        (["--preset=smoke"], "own_data: --data must be a data file (npz, npy, CSV or TSV"),
    ],
)
def test_the_command_ends_in_one_line_without_a_traceback(tmp_path, monkeypatch, flags, part):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path, x=X, y=SIGNS / 2)
    done = launched_here(EXPERIMENT, *flags)
    assert done.returncode == 2 and done.stderr.startswith(part)
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "results").exists()
