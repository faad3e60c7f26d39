"""The page on the paper's figures: what it names is there, and its numbers are the records'."""

import importlib
import json
import pathlib
import re

import numpy as np
import pandas
import pytest

from ntkreg.experiments import _report, named_data, paper_page, paper_tables
from ntkreg.experiments.paper_experiments import SECTIONS
from ntkreg.experiments.paper_facts import INDEX, SURENESS

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "results"
ENTRIES = [entry for entries in INDEX.values() for entry in entries]
READINGS = [reading for section in SECTIONS for reading in section.readings]
TABLES = [table for section in SECTIONS for table in section.tables]
FUNCTIONS = sorted({name for entry in ENTRIES for name in entry.functions})
CLAIMS = [claim for claims in _report.EXPERIMENTS.values() for claim in claims]


def claim_id(claim):
    return claim.statement[:40]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_index_exist(name):
    module, function = name.rsplit(".", 1)
    assert callable(getattr(importlib.import_module(f"ntkreg.{module}"), function))


def test_claims_of_the_page_are_those_of_the_table_and_have_a_launcher():
    told = [claim for entry in ENTRIES for claim in entry.claims]
    for claim in [*told, *(reading.claim for reading in READINGS)]:
        assert claim in CLAIMS
        assert (ROOT / "launch" / f"{paper_page.launcher(claim)}.py").is_file()


def test_commands_of_the_page_have_launchers():
    commands = re.findall(r"launch/\w+\.py", paper_page.page(RESULTS))
    assert len(set(commands)) > 10
    assert all((ROOT / command).is_file() for command in commands)


@pytest.mark.parametrize("claim", CLAIMS, ids=claim_id)
def test_every_claim_from_the_paper_or_the_talk_is_in_the_index(claim):
    if "Wei et al." in claim.source or "slides" in claim.source:
        assert any(claim in entry.claims for entry in ENTRIES)


def test_what_stands_for_a_result_without_a_claim_is_there():
    for entry in ENTRIES:
        assert entry.claims or entry.note, entry.result
        assert set(entry.known) <= set(SURENESS)
        for name in re.findall(r"`(tests/\w+\.py)`", entry.note):
            assert (ROOT / name).is_file()
    assert {setting.known for section in SECTIONS for setting in section.settings} <= set(SURENESS)


def test_the_committed_page_is_made_of_the_committed_results():
    assert (RESULTS / "paper.md").read_text() == paper_page.page(RESULTS)


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", (RESULTS / "paper.md").read_text())
    assert links and all((RESULTS / link).is_file() for link in links)


def test_the_teacher_of_the_width_experiment_is_the_papers():
    section = next(section for section in SECTIONS if section.title.startswith("E3"))
    wanted = f"{named_data.TEACHER_UNITS} hidden units, |f(x)| ≥ {named_data.TEACHER_MARGIN}"
    assert section.settings[0].there.startswith(wanted)


def test_without_records_nothing_is_run(tmp_path):
    page = paper_page.page(tmp_path)
    assert "**not run**" in page
    assert "**holds**" not in page and "**fails**" not in page
    for table in TABLES:
        assert f"`{table.experiment}`: not run" in page
    assert "| trials | 100 | the ICLR 2019 submission | not run |" in page


def a_record(folder, claims, config=()):
    folder.mkdir(parents=True)
    told = [
        dict(statement=claim.statement, source="", predicted="1", measured="17.25", status=status)
        for claim, status in claims.items()
    ]
    run = dict(
        config=dict(config),
        claims=told,
        command="x.py",
        hardware="a machine",
        seconds=1.0,
        git="0" * 40,
    )
    (folder / "run.json").write_text(json.dumps(run))


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: claim_id(reading.claim))
@pytest.mark.parametrize("status", ["holds", "fails"])
def test_status_and_conclusion_are_the_records(tmp_path, reading, status):
    name = paper_page.launcher(reading.claim)
    config = json.loads((RESULTS / name / "laptop" / "run.json").read_text())["config"]
    a_record(tmp_path / name / "laptop", {reading.claim: status}, config)
    page = paper_page.page(tmp_path)
    other = {"holds": reading.fails, "fails": reading.holds}[status]
    assert f"- {reading.claim.statement}: **{status}**. {getattr(reading, status)}\n" in page
    assert f"{reading.claim.statement}: **{status}**" in page.split("## E1")[0]
    assert "Measured: 17.25\n" in page
    assert other not in page


def test_a_full_record_stands_beside_the_laptops(tmp_path):
    claim = READINGS[0].claim
    a_record(tmp_path / paper_page.launcher(claim) / "full", {claim: "holds"})
    assert f"{claim.statement}: **not run**, `full` **holds**" in paper_page.page(tmp_path)


def test_a_record_of_another_statement_is_none(tmp_path):
    claim = READINGS[0].claim
    a_record(tmp_path / paper_page.launcher(claim) / "full", {CLAIMS[0]: "holds"})
    assert paper_page.measured(tmp_path, claim) == {"laptop": claim}


def test_a_field_that_a_configuration_lacks_is_an_error(tmp_path):
    a_record(tmp_path / "teacher" / "laptop", {}, {"dim": 20})
    with pytest.raises(KeyError, match="teacher_units"):
        paper_page.page(tmp_path)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.experiment)
def test_tables_of_no_rows_are_empty(table):
    rows = pandas.read_csv(RESULTS / table.experiment / "laptop" / "summary.csv").iloc[:0]
    assert len(table.of(rows)) == 0


def rows_of(name):
    return pandas.read_csv(RESULTS / name / "laptop" / "summary.csv").to_dict("records")


def test_errors_and_bounds_are_means_over_trials():
    found = paper_tables.network_and_kernels(pandas.DataFrame(rows_of("teacher")))
    for task, n, *means in found.drop(columns="bound, ReLU features").itertuples(index=False):
        same = [r for r in rows_of("teacher") if (r["task"], r["num_samples"]) == (task, n)]
        of = lambda name, who, same=same: np.mean([r[name] for r in same if r["predictor"] == who])
        errors = [of("test_error", who) for who in ("network", "nngp", "ntk")]
        wanted = [*errors, of("bound", "network"), of("bound", "ntk")]
        np.testing.assert_allclose(means, wanted, rtol=1e-12)


def test_panels_are_of_the_end_and_of_the_width_with_lam():
    found = paper_tables.with_and_without(pandas.DataFrame(rows_of("regularization")))
    first = found.iloc[0]
    same = [
        r for r in rows_of("regularization")
        if (r["dataset"], r["num_samples"], r["lam"]) == tuple(first[["dataset", "n", "λ"]])
        and r["look"] == "end"
    ]  # fmt: skip
    assert len({r["width"] for r in same}) == 1
    assert first["margin"] == pytest.approx(np.mean([r["normalized_margin"] for r in same]))
    assert first["test accuracy"] == pytest.approx(1 - np.mean([r["test_error"] for r in same]))
    assert found.margin.notna().all()


def test_trials_that_do_not_fit_are_counted_and_left_out():
    rows = pandas.DataFrame(
        dict(
            dataset="teacher:2:9", width=4, seed=range(3), lam=1e-5,
            normalized_margin=[0.2, 0.4, -1.0], test_error=[0.1, 0.3, 0.5],
            converged=[True, False, True],
        )
    )  # fmt: skip
    (row,) = paper_tables.by_width(rows).itertuples(index=False)
    assert row[2:] == (pytest.approx(0.3), pytest.approx(0.2), 1, 2, 3)


def test_markdown_shows_means_to_four_decimals_and_lam_as_it_is():
    table = pandas.DataFrame({"λ": [1e-8], "error": [0.25], "n": [20], "of": ["|x|"]})
    last = paper_tables.markdown(table.assign(bound=np.nan)).splitlines()[-1]
    assert last == "| 1e-08 | 0.2500 | 20 | \\|x\\| | — |"
