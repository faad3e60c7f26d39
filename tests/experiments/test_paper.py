"""The page on the paper: what it names exists, and its numbers are those of the results."""

import functools
import pathlib
import pydoc
import re
import shutil
import subprocess
import sys

import jinja2
import pytest

from ntkreg.data import named
from ntkreg.experiments import _paper, _report, approximate, line
from ntkreg.experiments._claims import Check, Claim

ROOT = pathlib.Path(__file__).parents[2]
RESULTS, TEMPLATE = ROOT / "results", ROOT / "docs" / "paper.md.in"
TEXT = TEMPLATE.read_text()
CHECK = Check("gap", 0.5, 0.25, 0.75, 1.0, "≤")
PAPERS = re.compile(r"Wei|ICLR|slides|revised|Smith")  # in the source of a claim

page = functools.partial(_paper.page, template=TEMPLATE)


def filled_in(tmp_path, text, results=RESULTS):
    """A page whose template is `text`."""
    (tmp_path / "page.md.in").write_text(text)
    return _paper.page(results, tmp_path / "page.md.in")


def write_results(monkeypatch, **runs):
    """Makes `runs`, a claim for each preset, those of every experiment."""
    found = [_report.Run(preset, {"config": {}}, (claim,)) for preset, claim in runs.items()]
    monkeypatch.setattr(_report, "runs_of", lambda folder: found)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+\.[\w.]+)`", TEXT))))
def test_functions_of_the_page_exist(name):
    assert callable(pydoc.locate(f"ntkreg.{name}"))


def test_files_of_the_page_exist():
    files = re.findall(r"\b(?:launch|docs)/[\w/.]+\b", TEXT)
    assert files and all((ROOT / file).is_file() for file in files)


def test_sources_are_those_that_the_page_explains():
    sources = re.findall(r"^- \*([^*]+)\*: ", TEXT, re.M)
    text = re.sub(r"\s+", " ", TEXT.split("## Theorems")[1])
    cited = re.findall(r"(?<![*\\\w])\*([^*]+)\*(?!\*)", text)
    assert {source for several in cited for source in several.split("; ")} == set(sources)


def test_every_claim_from_the_paper_has_its_verdict_on_the_page(monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(_paper, "status", lambda results, claim: found.append(claim))
    page(tmp_path)
    claims = [one for name in _report.EXPERIMENTS for one in _report.experiment(name).statements]
    assert {claim for claim in claims if PAPERS.search(claim.source)} <= set(found) <= set(claims)
    assert len(found) == len(set(found))


def test_the_committed_page_is_made_of_the_committed_results():
    assert (RESULTS / "paper.md").read_text() == page(RESULTS)


def test_links_lead_somewhere():
    links = set(re.findall(r"\]\(([^)]+)\)", (RESULTS / "paper.md").read_text()))
    assert links and all((RESULTS / link).is_file() for link in links)


def test_the_teacher_of_the_width_experiment_is_the_papers():
    assert (named.TEACHER_UNITS, named.TEACHER_MARGIN) == (10, 0.01)
    assert "| teacher | 10 hidden units, \\|f(x)\\| ≥ 0.01, d = 20 | the same |" in TEXT


def test_without_results_nothing_is_run(tmp_path):
    text = page(tmp_path)
    assert "**not run**" in text and "| trials | 100 | not run |" in text
    assert not re.search(r"\*\*(agreed|differs|undecided|finding)\*\* \(|must be [≤≥]", text)


@pytest.mark.parametrize(("bound", "verdict", "required"), [
    (1.0, "agreed", " (must be ≤ 1)"), (0.5, "undecided", " (must be ≤ 0.5: undecided)"),
    (0.2, "differs", " (must be ≤ 0.2: fails)"), (None, "finding", ""),
])  # fmt: skip
def test_those_of_the_largest_run_are_shown(monkeypatch, tmp_path, bound, verdict, required):
    claim = approximate.CLAIM
    smaller, larger = (claim.on(CHECK._replace(bound=limit)) for limit in (9.0, bound))
    write_results(monkeypatch, laptop=smaller, thorough=larger, full=line.MARGIN.on(CHECK))
    text = "{{ status(approximate.CLAIM) }}, {{ check(approximate.CLAIM, 'gap') }}"
    link = "([approximate](approximate/README.md), thorough)"
    assert filled_in(tmp_path, text) == f"**{verdict}** {link}, 0.5 [0.25, 0.75]{required}"


@pytest.mark.parametrize("text", ["status(line.NO)", "config.line.no", "no", "check(line.NO, '')"])
def test_a_name_that_is_nothing_is_an_error(tmp_path, text):
    with pytest.raises(jinja2.UndefinedError, match=r"no|NO"):
        filled_in(tmp_path, f"{{{{ {text} }}}}", tmp_path)


def test_an_unknown_check_or_claim_is_an_error(monkeypatch, tmp_path):
    write_results(monkeypatch, laptop=line.MARGIN.on(CHECK))
    with pytest.raises(KeyError, match="half that of the ℓ1-SVM over unit neurons: gaps"):
        filled_in(tmp_path, "{{ check(line.MARGIN, 'gaps') }}")
    with pytest.raises(KeyError, match="unheard"):
        _paper.status(RESULTS, Claim("unheard", "here"))


@pytest.mark.slow
def test_a_launcher_without_the_text_says_so(tmp_path):
    (tmp_path / "launch").mkdir()
    alone = shutil.copy(ROOT / "launch" / "reproduce.py", tmp_path / "launch")
    done = subprocess.run([sys.executable, alone], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("reproduce: docs/paper.md.in must be in the clone, got none at")
