"""The annotations hold: mypy finds nothing in the package, the launchers and the reference."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def mypy(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mypy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_nothing_is_found():
    done = mypy()
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_call_is_found(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from ntkreg import data\n\ndata.noisy_xor(0, 10, 'three')\n")
    done = mypy(str(wrong))
    assert 'incompatible type "str"; expected "int"' in done.stdout
