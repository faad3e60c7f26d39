"""Results to be drawn again: one line, and no change, where they are cut off or damaged."""

import json
import shutil

import judged
import pandas
import pytest
from launchers import launched_here

from ntkreg.experiments import _experiment
from ntkreg.experiments.certify import EXPERIMENT
from ntkreg.sweeps import Refused, load

CONFIG = EXPERIMENT.preset("laptop")


@pytest.fixture
def folder(tmp_path):
    """The committed results, with the size of their table."""
    shutil.copytree(judged.RESULTS / "certify" / "laptop", tmp_path / "results")
    table = load(tmp_path / "results")
    known(rows=len(table), columns=list(table))(tmp_path / "results")
    return tmp_path / "results"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def known(**entries):
    """Puts entries into run.json; None takes one out."""

    def edit(folder):
        found = json.loads((folder / "run.json").read_text()) | entries
        kept = {name: value for name, value in found.items() if value is not None}
        (folder / "run.json").write_text(json.dumps(kept))

    return edit


def rows(change):
    """Changes the table."""

    def edit(folder):
        change(load(folder)).to_csv(folder / "summary.csv", index=False)

    return edit


def text(name, content):
    return lambda folder: (folder / name).write_text(content)


DROPPED = rows(lambda table: table.drop(columns="oracle"))
CUT = rows(lambda table: table[:20])


@pytest.mark.parametrize(
    ("edits", "parts"),
    [
        ([DROPPED], ["summary.csv", "the column oracle"]),
        ([DROPPED, known(columns=["dataset", "dim"])], ["summary.csv", "the column oracle"]),
        ([DROPPED, known(rows=None, columns=None)], ["summary.csv", "the column oracle"]),
        ([CUT], ["summary.csv must have 22 rows, got 20"]),
        ([text("summary.csv", "")], ["summary.csv must be a sweep's table"]),
        ([text("summary.csv", "a,b\n1,2\n3,4,5\n")], ["summary.csv must be a sweep's table"]),
        ([lambda folder: (folder / "summary.csv").unlink()], ["without summary.csv"]),
        ([text("arrays.npz", "")], ["arrays.npz is damaged"]),
        ([text("run.json", "{")], ["run.json must have a config of this version"]),
        ([known(config=None)], ["run.json must have a config of this version", "config"]),
        ([known(config={"forest": 1})], ["run.json must have a config", "got forest"]),
    ],
)
def test_results_that_are_not_whole_end_in_one_line(edits, parts, folder):
    for edit in edits:
        edit(folder)
    before = contents(folder)
    done = launched_here(EXPERIMENT, "--redraw", f"--out={folder}")
    assert done.returncode == 2 and contents(folder) == before
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("certify: ") and all(part in line for part in parts)


def test_a_table_with_fewer_rows_than_its_arrays_is_refused(tmp_path):
    shutil.copytree(judged.RESULTS / "line" / "laptop", tmp_path, dirs_exist_ok=True)
    lines = (tmp_path / "summary.csv").read_text().splitlines(keepends=True)
    (tmp_path / "summary.csv").write_text("".join(lines[:20]))
    with pytest.raises(Refused, match=r"at least 29 rows, those of arrays.npz, got 19"):
        load(tmp_path)


def not_a_column(table, config):
    return table.pivot(index="seed", columns=["dataset", "dim", "num_samples"], values="lower")[
        "nngp"
    ]


@pytest.mark.parametrize("claims", [not_a_column, lambda table, config: {}["nothing"]])
def test_a_bug_is_refused_where_the_table_may_be_cut_and_keeps_its_traceback_elsewhere(
    claims, folder
):
    experiment = EXPERIMENT._replace(claims=claims)
    before = contents(folder)
    with pytest.raises(KeyError, match=r"nngp|nothing"):
        _experiment.show(experiment, CONFIG, folder)
    assert contents(folder) == before
    known(rows=None, columns=None)(folder)
    with pytest.raises(Refused, match=r"must be whole and of this version, got 22 rows, and KeyEr"):
        _experiment.show(experiment, CONFIG, folder)


def test_an_older_table_has_its_size_once_it_is_drawn_again(folder, monkeypatch):
    monkeypatch.setattr(_experiment._style, "save", lambda figure, file, kind: None)
    known(rows=None, columns=None)(folder)
    assert launched_here(EXPERIMENT, "--redraw", f"--out={folder}").returncode == 0
    found = json.loads((folder / "run.json").read_text())
    table = pandas.read_csv(folder / "summary.csv")
    assert (found["rows"], found["columns"]) == (len(table), list(table))
