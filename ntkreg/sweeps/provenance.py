"""Where numbers come from: configuration, code, versions, hardware, command."""

import functools
import importlib.metadata
import os
import pathlib
import subprocess
import sys
from typing import Any

import jax

PACKAGES = ("ntkreg", "jax", "jaxlib", "optax", "flax", "neural-tangents", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": sys.version.split()[0], **found}


def provenance() -> dict[str, Any]:
    """Command, git revision, versions and hardware of this process, for run.json."""
    device = jax.devices()[0]
    return {
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git": _git_revision(),
        "versions": versions(),
        "hardware": f"{jax.device_count()} × {device.device_kind} ({device.platform}), "
        f"{os.cpu_count()} CPU cores",
    }


def _git_revision() -> str:
    """The commit that the sources come from, with "+changes" where they differ from it."""
    git = functools.partial(
        subprocess.run, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True
    )
    try:
        head = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
    except OSError:
        return "unknown"
    return f"{head or 'unknown'}{'+changes' if changed else ''}"
