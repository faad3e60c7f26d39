"""float64 and whole float32 products for every test, and hypothesis that draws the same each time.

On a GPU products of float32 matrices are TF32 otherwise, and no tolerance here would hold.
"""

import importlib
import os
import pathlib

import hypothesis
import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_default_matmul_precision", "highest")

hypothesis.settings.register_profile(
    "ntkreg", deadline=None, max_examples=6, derandomize=True, database=None
)
hypothesis.settings.load_profile("ntkreg")


MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = 20_000  # a process may have 65,530, and XLA crashes where it gets no more


@pytest.fixture(scope="module", autouse=True)
def few_programs():
    """Forgets what was compiled before a file's tests where that has become too much."""
    if MAPS.exists() and len(MAPS.read_bytes().splitlines()) > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def smoke_results(tmp_path_factory):
    """A folder of results at the smoke preset, shared by all workers of a run of the tests."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "results"


@pytest.fixture(scope="session")
def smoke_table(smoke_results):
    """The table of an experiment at the smoke preset, by name: computed once for all workers."""

    def table(name):
        experiment = importlib.import_module(f"ntkreg.experiments.{name}").EXPERIMENT
        return experiment.sweep(experiment.preset("smoke"), smoke_results / name / "smoke")

    return table
