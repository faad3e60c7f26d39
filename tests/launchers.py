"""The launchers as commands, and their `main` in this process, for tests of several folders."""

import contextlib
import dataclasses
import io
import pathlib
import subprocess
import sys
from unittest import mock

from absl import flags

from ntkreg.experiments import _experiment

LAUNCH = pathlib.Path(__file__).parents[1] / "launch"


def command(*arguments, name="separation"):
    """The command line of a launcher."""
    return [sys.executable, str(LAUNCH / f"{name}.py"), *arguments]


def launched(*arguments, cwd=None, **options):
    """A launcher that has ended."""
    line = command(*arguments, **options)
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd)


def launched_here(experiment, *arguments):
    """What `launched` gives, of an experiment's `main` without a process of its own."""
    out, err = io.StringIO(), io.StringIO()
    line = [f"{experiment.name}.py", *arguments]
    try:
        with (
            mock.patch.object(sys, "argv", line),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            _experiment.main(experiment)
    except SystemExit as end:
        code = end.code or 0
    finally:
        fields = [field.name for field in dataclasses.fields(experiment.config)]
        for name in ["preset", "dry_run", "distributed", "redraw", "out", *fields]:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
    return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())
