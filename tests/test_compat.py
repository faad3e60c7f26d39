"""Importing the package is quiet and light; what differs between versions of JAX."""

import subprocess
import sys

import jax
import jax.numpy as jnp

from ntkreg._compat import is_concrete, quick_compilation

HEAVY = {
    "clarabel",
    "matplotlib",
    "neural_tangents",
    "pandas",
    "sklearn",
    "tensorflow",
    "tf2jax",
}


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_import_prints_nothing_and_leaves_heavy_modules_alone():
    quiet = python("import ntkreg")
    assert (quiet.stdout, quiet.stderr) == ("", "")
    loaded = python("import ntkreg, sys; print(*sys.modules)").stdout.split()
    assert "ntkreg" in loaded
    assert HEAVY.isdisjoint(loaded)


def test_import_leaves_the_float64_switch_alone():
    assert python("import ntkreg, jax; print(jax.config.jax_enable_x64)").stdout == "False\n"


def test_is_concrete_tells_values_from_traces():
    seen = []
    jax.jit(lambda v: seen.append(is_concrete({"a": 1.0}, v)))(1.0)
    assert seen == [False]
    assert is_concrete({"a": 1.0}, jnp.ones(2))


def test_options_for_quick_compilation_are_taken_by_this_xla_and_left_out_by_others(monkeypatch):
    options = quick_compilation("cpu")
    assert options  # else programs compile slower than they need to: has the name changed?
    twice = jax.jit(lambda x: 2 * x).lower(1.0).compile(compiler_options=options)
    assert twice(3.0) == 6.0
    assert quick_compilation("gpu") == {}
    known = {"xla_backend_optimization_level": "0"}  # to JAX 0.10 and 0.12
    monkeypatch.setattr("ntkreg._compat._QUICK", known | {"xla_cpu_no_such_option": False})
    assert quick_compilation.__wrapped__("cpu") == known
