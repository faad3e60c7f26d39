"""Importing the package is quiet and light, and neural-tangents works on this JAX."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._compat import is_concrete, neural_tangents, quick_compilation

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


def test_neural_tangents_twice_is_the_same_working_module():
    first, second = neural_tangents(), neural_tangents()
    assert first is second
    x = jnp.eye(3)
    gram = first.stax.serial(first.stax.Dense(1, b_std=None))[2](x, None, "nngp")
    np.testing.assert_allclose(gram, np.eye(3) / 3, rtol=1e-12)
    assert gram.shape == (3, 3)


def test_neural_tangents_comes_without_tensorflow():
    code = "from ntkreg._compat import neural_tangents; neural_tangents(); import sys"
    loaded = python(code + "; print(*sys.modules)").stdout.split()
    assert "neural_tangents" in loaded
    assert {"tensorflow", "tf2jax"}.isdisjoint(loaded)


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
    monkeypatch.setattr("ntkreg._compat._QUICK", {"xla_cpu_no_such_option": False})
    assert quick_compilation.__wrapped__("cpu") == {}


def test_several_threads_may_ask_first():
    """Workers of a sweep do: the import is done once, whole, before anyone gets the module."""
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from ntkreg._compat import neural_tangents\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    futures = [pool.submit(lambda: neural_tangents().stax.Relu()) for _ in range(8)]\n"
        "print(sum(f.exception() is None for f in futures))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "8", done.stderr
