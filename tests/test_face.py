"""What `import ntkreg` gives: every name that the stub lists, loaded when it is first used."""

import doctest
import inspect
import subprocess
import sys

import flax.linen
import jax
import jax.numpy as jnp
import pytest

import ntkreg


@pytest.mark.parametrize("name", ntkreg.__all__)
def test_every_name_is_there_and_says_what_it_is(name):
    assert getattr(ntkreg, name).__doc__


def test_a_name_that_is_not_given_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        ntkreg.no_such_name  # noqa: B018


def test_importing_loads_no_folder_and_prints_nothing():
    code = "import sys, ntkreg; print(*(m for m in sys.modules if m.startswith('ntkreg.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "" and done.stderr == ""


FUNCTIONS = [name for name in ntkreg.__all__ if not inspect.ismodule(getattr(ntkreg, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_name_has_an_example_that_runs(name):
    """Its names are those of the face, `jax`, `jnp` and `flax`."""
    value = getattr(ntkreg, name)
    names = {given: getattr(ntkreg, given) for given in ntkreg.__all__}
    known = {**names, "jax": jax, "jnp": jnp, "flax": flax}
    tests = doctest.DocTestFinder(recurse=False).find(value, name, globs=known)
    examples = [test for test in tests if test.examples]
    assert examples
    for test in examples:
        assert doctest.DocTestRunner().run(test).failed == 0
