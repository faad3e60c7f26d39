"""The pages of results: rows that fit, every check, and the numbers that the tables give."""

import functools
import json
import re

import judged
import pytest

from ntkreg.experiments import _report
from ntkreg.experiments._claims import every

NAMES = (*_report.EXPERIMENTS, "benchmark")
MOST = 200  # characters of a row
committed = _report._runs_of


@functools.cache
def runs(name):
    """The committed runs with their claims judged again."""
    again = lambda preset: tuple(judged.judged(name, preset=preset).values())
    known = committed(judged.RESULTS, name, _report.PRESETS)
    return [run._replace(claims=again(run.preset)) for run in known]


def line(row):
    """A row as it stands in a page."""
    return _report._table(row, ()).splitlines()[0]


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_short_and_names_of_checks_are_unique(name):
    for run in runs(name):
        for claim in run.claims:
            shown = [re.sub(r"\]\(.*?\)", "", cell) for cell in _report._row(claim, "", name)]
            length = sum(map(len, shown)) - len("[, ") + len(f", {run.preset}")
            assert length <= MOST, (run.preset, length, shown)
            whats = [check.what for check in claim.checks]
            assert len(set(whats)) == len(whats)


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_table_has_what_the_tables_give_when_judged_again(name):
    page = (judged.RESULTS / "README.md").read_text().splitlines()
    for claim in _report.experiment(name).statements:
        found, preset = _report.measured(runs(name), claim)
        unrun = f"- {claim.statement}: `uv run launch/{name}.py`"
        assert (line(_report._row(found, preset, name)) if preset else unrun) in page


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_an_experiment_has_every_check_of_every_preset(name, monkeypatch):
    monkeypatch.setattr(_report, "_runs_of", lambda *_: runs(name))
    page = _report.experiment_page(judged.RESULTS, name)
    for run in runs(name):
        for claim in run.claims:
            statement = claim.statement.replace("*", "\\*")
            _, section = page.split(f"**{statement}** (")
            lines = re.split(r"\n(?:\*\*|## )", section)[0].splitlines()
            rows = [x.strip("| ").split(" | ") for x in lines if x.startswith("| ")]
            found = {what: cells[rows[0].index(run.preset) - 1] for what, *cells in rows}
            for check in claim.checks:
                cell = f"{check.found}, {check.runs}: **{check.status}**"
                assert found[check.what.replace("|", "\\|")] == cell
            assert all(f"- {run.preset}: {words}" in lines for words in claim.apart)


def test_a_claim_of_which_no_run_was_solved_reads_undecided(tmp_path):
    first, *others = _report.experiment("lazy_training").statements
    found = first.on(every("gap", [], 0.1, "≤", "of 12 runs solved"))
    folder = tmp_path / "lazy_training" / "laptop"
    folder.mkdir(parents=True)
    known = dict(command="x", git="", seconds=1, hardware="", claims=[found.as_dict()])
    (folder / "run.json").write_text(json.dumps(known))
    rows = [x for x in _report.page(tmp_path).splitlines() if "lazy_training" in x]
    assert f"| {first.statement} |" in rows[0] and "| undecided |" in rows[0]
    unrun = [f"- {other.statement}: `uv run launch/lazy_training.py`" for other in others]
    assert rows[1:] == unrun
    page = _report.experiment_page(tmp_path, "lazy_training")
    assert "0 of 12 runs solved: **undecided**" in page
