"""The Python blocks of README, CONTRIBUTING and the docs run as they stand."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS]
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
