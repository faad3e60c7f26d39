"""The launchers as commands, for tests of several folders."""

import pathlib
import subprocess
import sys

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"


def command(*arguments, name="separation"):
    """The command line of a launcher."""
    return [sys.executable, str(LAUNCH / f"{name}.py"), *arguments]


def launched(*arguments, cwd=None, **options):
    """A launcher that has ended."""
    line = command(*arguments, **options)
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd)
