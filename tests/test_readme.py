"""The README's Python blocks run as they stand."""

import pathlib
import re

import pytest

README = pathlib.Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) >= 2


# test_own_sweep runs the sweep, as a script.
SHORT = [block for block in BLOCKS if "sweeps.sweep" not in block]


@pytest.mark.parametrize("block", SHORT, ids=lambda block: block.splitlines()[-1])
def test_block_runs_and_prints_a_number(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, str(README), "exec"), {})
    assert re.search(r"\d\.\d", capsys.readouterr().out)
