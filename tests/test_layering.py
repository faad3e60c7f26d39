"""Data flows down: a module imports only from the modules above it."""

from pathlib import Path

import pytest

import ntkreg
from ntkreg import sources

ROOMS = (
    "_types",
    "_compat",
    "sweep",
    "draws",
    "data",
    "image_data",
    "arc_cosine",
    "networks",
    "flax_networks",
    "convolutional",
    "fused",
    "kernels",
    "gram_operators",
    "gram_checks",
    "dual_solvers",
    "kernel_machines",
    "l1_machines",
    "objectives",
    "kernel_regime",
    "margins",
    "optimizers",
    "trainers",
    "mean_field",
    "flows",
    "stationarity",
    "paths",
    "closed_forms",
    "bounds",
    "path_law",
    "balls",
    "arrangements",
    "face_search",
    "sphere_search",
    "branch_and_bound",
    "oracles",
    "two_layer",
    "conic",
    "cone_programs",
    "conjugates",
    "proofs",
    "cutting_planes",
    "scaled_problems",
    "float_rounding",
    "refinement",
    "column_generation",
    "level_method",
    "certificates",
    "insertion",
    "global_training",
    "planted",
    "cells",
    "lanes",
    "timing",
    "plans",
    "sources",
    "provenance",
    "records",
    "sharing",
    "progress",
    "chunks",
    "sweeps",
    "claims",
    "experiments",
)
PACKAGE = Path(ntkreg.__file__).parent
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if p.name != "__init__.py")


def room(file: Path) -> str:
    return file.with_suffix("").parts[0]


def imported_rooms(source: str, file: Path) -> set[str]:
    """The rooms that `source` imports from; a name that is no room counts as one of its own."""
    package = ("ntkreg", *file.parts[:-1])
    return {[*name.split("."), "ntkreg"][1] for name in sources.imports(source, package)}


def above(name: str) -> set[str]:
    inside = {name} & {"experiments", "sweep"}
    return set(ROOMS[: ROOMS.index(name)]) | inside


def test_every_module_has_a_room():
    assert {room(file) for file in FILES} <= set(ROOMS)


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_come_from_above(file):
    if room(file) in ROOMS:
        assert imported_rooms((PACKAGE / file).read_text(), file) <= above(room(file))
    else:
        pytest.fail(f"{file} is in no room")


@pytest.mark.parametrize(
    ("source", "file", "rooms"),
    [
        ("import jax, ntkreg.data as d", "margins.py", {"data"}),
        ("from ntkreg.sweeps import sweep", "data.py", {"sweeps"}),
        ("def f():\n    from ntkreg import claims", "data.py", {"claims"}),
        ("from . import networks", "data.py", {"networks"}),
        ("from ..data import Dataset", "experiments/a.py", {"data"}),
        ("from .b import run", "experiments/a.py", {"experiments"}),
        ("import ntkreg", "data.py", {"ntkreg"}),
        ("import ntkreg_other, numpy.data", "data.py", set()),
    ],
)
def test_every_form_of_import_is_seen(source, file, rooms):
    assert imported_rooms(source, Path(file)) == rooms
