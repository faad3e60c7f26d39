"""Where numbers come from: configuration, code, versions, hardware, command."""

import functools
import importlib.metadata
import os
import pathlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax

from ntkreg import sources

PACKAGES = ("ntkreg", "jax", "jaxlib", "optax", "flax", "neural-tangents", "numpy", "scipy")


def identity(config: Mapping[str, Any], code: Any) -> dict[str, Any]:
    """What a record's numbers depend on. Records are resumed only under an equal identity.

    Args:
      code: the functions that compute them (`sources.digest`).
    """
    device = jax.devices()[0]
    return {
        "config": dict(config),
        "code": sources.digest(code),
        "jax": jax.__version__,
        "device": f"{device.platform}: {device.device_kind}",
        "x64": bool(jax.config.read("jax_enable_x64")),
    }


def provenance() -> dict[str, Any]:
    """Versions, hardware, command and git revision of this process, for run.json."""
    device = jax.devices()[0]
    return {
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git": _git_revision(),
        "python": sys.version.split()[0],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
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
