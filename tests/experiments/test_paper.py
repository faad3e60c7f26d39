"""The page on the paper: what it names exists, and its numbers are those of the results."""

import functools
import json
import pathlib
import pydoc
import re
import shutil
import subprocess
import sys

import jinja2
import numpy as np
import pandas
import pytest

from ntkreg.data import named
from ntkreg.experiments import _paper, _report

ROOT = pathlib.Path(__file__).parents[2]
RESULTS = ROOT / "results"
TEMPLATE = ROOT / "docs" / "paper.md.in"
TEXT = TEMPLATE.read_text()
UNWRAPPED = re.sub(r"\s+", " ", TEXT)
SOURCES = re.findall(r"^- \*([^*]+)\*: ", TEXT, re.M)
FOLDERS = "data|networks|kernels|training|certificates|theory|experiments"
FUNCTIONS = sorted(set(re.findall(rf"`((?:{FOLDERS})\.[\w.]+)`", TEXT)))
CLAIMS = [c for name in _report.EXPERIMENTS for c in _report.experiment(name).statements]
TABLES = re.findall(r'table\("(\w+)", (\w+)\)', TEXT)
CITED = r"\b(\w+)\.([A-Z_]+)\b"
ENTRIES = [part for part in TEXT.split("\n**") if "{{ status(" in part]

page = functools.partial(_paper.page, template=TEMPLATE)


def claim_id(claim):
    return claim.statement[:40]


def readings():
    """The claim of every reading, and its two conclusions."""
    found = []
    keep = lambda claim, holds, fails: found.append((claim, holds, fails))
    for call in re.findall(r"\{\{ reading\(.*?\) \}\}", TEXT, re.S):
        jinja2.Environment().from_string(call).render(_paper.modules(), reading=keep)
    return found


READINGS = readings()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_page_exist(name):
    assert callable(pydoc.locate(f"ntkreg.{name}"))


def test_every_entry_has_a_source_a_function_and_the_launchers_of_its_claims():
    assert len(ENTRIES) > 15
    for entry in ENTRIES:
        assert "*Known" in entry and any(f"`{name}`" in entry for name in FUNCTIONS)
        cited = {name for name, _ in re.findall(CITED, entry)}
        assert set(re.findall(r"launch/(\w+)\.py", entry)) == cited


def test_sources_are_those_that_the_page_explains():
    known = [part for text in re.findall(r"\*Known from: ([^*]+)\.\*", UNWRAPPED)
             for part in text.split("; ")]  # fmt: skip
    rows = [line.split(" | ") for line in TEXT.splitlines() if line.startswith("| ")]
    settings = [row[2] for row in rows if row[2] not in ("Known from", "---")]
    assert len(SOURCES) == 6 and len(settings) > 40
    assert set(known) | set(settings) == set(SOURCES)
    assert len(re.findall(r"\*Known from:", UNWRAPPED)) == len(ENTRIES) + TEXT.count("**There.**")


def test_claims_of_the_page_are_those_of_the_table_and_have_a_launcher():
    for name, claim in set(re.findall(CITED, TEXT)):
        one = getattr(_paper.modules()[name], claim)
        for found in one.values() if isinstance(one, dict) else [one]:
            assert found in CLAIMS and _paper.launcher(found) == name
    assert all((ROOT / "launch" / f"{name}.py").is_file() for name in _report.EXPERIMENTS)


def test_commands_and_tests_of_the_page_are_files():
    files = re.findall(r"\b(?:launch|tests)/[\w/]+\.py", page(RESULTS))
    assert len(set(files)) > 10
    assert all((ROOT / file).is_file() for file in files)


@pytest.mark.parametrize("claim", CLAIMS, ids=claim_id)
def test_every_claim_from_the_paper_or_the_talk_is_on_the_page(claim):
    if "Wei et al." in claim.source or "slides" in claim.source:
        assert claim.statement in (RESULTS / "paper.md").read_text()


def test_the_committed_page_is_made_of_the_committed_results():
    assert (RESULTS / "paper.md").read_text() == page(RESULTS)


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)]+)\)", (RESULTS / "paper.md").read_text())
    assert links and all((RESULTS / link).is_file() for link in links)


def test_the_teacher_of_the_width_experiment_is_the_papers():
    units, margin = named.TEACHER_UNITS, named.TEACHER_MARGIN
    assert f"| teacher | {units} hidden units, \\|f(x)\\| ≥ {margin}, d = 20 | the revised" in TEXT
    assert f"| {units} and {margin}, d as below |" in TEXT


def test_without_results_nothing_is_run(tmp_path):
    text = page(tmp_path)
    assert "**not run**" in text
    assert "**holds**" not in text and "**fails**" not in text
    for name, _ in TABLES:
        assert f"`{name}`: not run" in text
    assert "| trials | 100 | the ICLR 2019 submission | not run |" in text


def write_results(folder, claims, config=()):
    folder.mkdir(parents=True)
    found = [
        dict(statement=claim.statement, source="", predicted="1", measured="17.25", status=status)
        for claim, status in claims.items()
    ]
    run = dict(
        config=dict(config),
        claims=found,
        command="x.py",
        hardware="a machine",
        seconds=1.0,
        git="0" * 40,
    )
    (folder / "run.json").write_text(json.dumps(run))


@pytest.mark.parametrize(
    ("claim", "holds", "fails"), READINGS, ids=[claim_id(claim) for claim, *_ in READINGS]
)
@pytest.mark.parametrize("status", ["holds", "fails"])
def test_status_and_conclusion_are_those_of_the_results(tmp_path, claim, holds, fails, status):
    name = _paper.launcher(claim)
    config = json.loads((RESULTS / name / "laptop" / "run.json").read_text())["config"]
    write_results(tmp_path / name / "laptop", {claim: status}, config)
    text = page(tmp_path)
    conclusion, other = (holds, fails) if status == "holds" else (fails, holds)
    assert f"**{claim.statement}**\n\n- `laptop`: **{status}**. {conclusion}\n" in text
    assert "Measured: 17.25\n" in text
    assert other not in text


def test_a_full_run_stands_beside_the_laptops(tmp_path):
    claim = READINGS[0][0]
    write_results(tmp_path / _paper.launcher(claim) / "full", {claim: "holds"})
    assert f"{claim.statement}: **not run**, `full` **holds**" in page(tmp_path)


def test_results_of_another_statement_are_none(tmp_path):
    claim = READINGS[0][0]
    write_results(tmp_path / _paper.launcher(claim) / "full", {CLAIMS[0]: "holds"})
    assert _paper.measured(tmp_path, claim) == {"laptop": claim}


def test_a_field_that_a_configuration_lacks_is_an_error(tmp_path):
    write_results(tmp_path / "teacher" / "laptop", {}, {"dim": 20})
    with pytest.raises(jinja2.UndefinedError, match="teacher_units"):
        page(tmp_path)


@pytest.mark.parametrize(
    "name", ["line.MISSING", "config.line.missing", "missing", "config.missing"]
)
def test_a_name_that_is_nothing_is_an_error(tmp_path, name):
    template = tmp_path / "page.md.in"
    template.write_text(f"{{{{ {name} }}}}")
    with pytest.raises(jinja2.UndefinedError, match=name.split(".")[-1]):
        _paper.page(RESULTS, template)


@pytest.mark.slow
def test_a_launcher_without_the_text_says_so(tmp_path):
    (tmp_path / "launch").mkdir()
    alone = shutil.copy(ROOT / "launch" / "reproduce.py", tmp_path / "launch")
    done = subprocess.run([sys.executable, alone], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("reproduce: docs/paper.md.in must be in the clone, got none at")


@pytest.mark.parametrize(("name", "of"), TABLES)
def test_tables_of_no_rows_are_empty(name, of):
    rows = pandas.read_csv(RESULTS / name / "laptop" / "summary.csv").iloc[:0]
    assert len(getattr(_paper, of)(rows)) == 0


def rows_of(name):
    return pandas.read_csv(RESULTS / name / "laptop" / "summary.csv").to_dict("records")


def test_errors_and_bounds_are_means_over_trials():
    found = _paper.network_and_kernels(pandas.DataFrame(rows_of("teacher")))
    for task, n, *means in found.drop(columns="bound, ReLU features").itertuples(index=False):
        same = [r for r in rows_of("teacher") if (r["task"], r["num_samples"]) == (task, n)]
        of = lambda name, who, same=same: np.mean([r[name] for r in same if r["predictor"] == who])
        errors = [of("test_error", who) for who in ("network", "nngp", "ntk")]
        wanted = [*errors, of("bound", "network"), of("bound", "ntk")]
        np.testing.assert_allclose(means, wanted, rtol=1e-12)


def test_panels_are_of_the_end_and_of_the_width_with_lam():
    found = _paper.with_and_without(pandas.DataFrame(rows_of("regularization")))
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
    (row,) = _paper.by_width(rows).itertuples(index=False)
    assert row[2:] == (pytest.approx(0.3), pytest.approx(0.2), 1, 2, 3)


def test_markdown_shows_means_to_four_decimals_and_lam_as_it_is():
    table = pandas.DataFrame({"λ": [1e-8], "error": [0.25], "n": [20], "of": ["|x|"]})
    last = _paper.markdown(table.assign(bound=np.nan)).splitlines()[-1]
    assert last == "| 1e-08 | 0.2500 | 20 | \\|x\\| | — |"
