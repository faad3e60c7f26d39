"""The Python blocks of README, CONTRIBUTING and the docs run as they stand."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "your_own.md",
    ROOT / "docs" / "open_question.md", ROOT / "docs" / "local_maximum.md",
]  # fmt: skip
BLOCKS = [
    block for page in PAGES for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
]


def test_there_are_blocks():
    assert len(BLOCKS) >= 4


# test_own_sweep runs the sweep, as a script.
SHORT = [block for block in BLOCKS if "sweep(run" not in block]
README = PAGES[0].read_text()
MARKED = [
    block if block in README else pytest.param(block, marks=pytest.mark.slow) for block in SHORT
]


@pytest.mark.parametrize("block", MARKED, ids=lambda block: block.splitlines()[-1])
def test_block_runs_and_prints_a_number(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {})
    assert re.search(r"\d\.\d", capsys.readouterr().out)


def test_the_tutorial_is_short():
    (block,) = re.findall(r"```python\n(.*?)```", PAGES[3].read_text(), re.S)
    assert len(block.splitlines()) <= 60


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CONTRIBUTING.md",
        "docs/limits.md",
        "docs/open_question.md",
        "docs/local_maximum.md",
        "docs/planted_proof.md",
    ],
)
def test_files_that_a_page_links_to_are_there(page):
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
    assert not [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
