"""Imports go one way between folders, and in no circle between modules."""

import ast
import graphlib
from pathlib import Path

import pytest

import ntkreg

PACKAGE = Path(ntkreg.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ABOVE = {  # each folder, and the folders that it may import from
    "data": set(),
    "networks": {"data"},
    "kernels": {"data", "networks"},
    "training": {"data", "networks"},
    "certificates": {"data", "networks", "kernels", "training"},
    "theory": set(),
    "sweeps": set(),
}
BELOW_ALL = {"_types", "_compat", "_checks", "neural_tangents"}


def imports(source: str, package: tuple[str, ...], root: str = PACKAGE.name) -> set[str]:
    """The dotted names of `root` that `source`, a module inside `package`, imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            kept = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*kept, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == root}


def imports_of(file: Path, root: str = PACKAGE.name) -> set[str]:
    return imports(file.read_text(), file.relative_to(PACKAGE.parent).parts[:-1], root)


def module_of(name: str) -> str:
    """The module that a dotted name is, or is in."""
    path = PACKAGE.parent.joinpath(*name.split("."))
    exists = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    return name if exists else module_of(name.rpartition(".")[0])


def dotted(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("folder", ABOVE)
def test_a_folder_imports_only_from_those_above_it(folder):
    names = {name for file in (PACKAGE / folder).rglob("*.py") for name in imports_of(file)}
    folders = {[*name.split("."), "ntkreg"][1] for name in names}
    assert folders <= ABOVE[folder] | BELOW_ALL | {folder}


def test_no_modules_import_each_other_in_a_circle():
    """A folder's own list of names counts where somebody imports from it."""
    graph = {dotted(file): {module_of(name) for name in imports_of(file)} for file in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_library_neural_tangents_is_had_from_one_module():
    """Which imports nothing of ours, and the library by its name, among what that needs first."""
    assert not any(imports_of(file, "neural_tangents") for file in FILES)
    assert not imports_of(PACKAGE / "neural_tangents.py")


@pytest.mark.parametrize(
    ("source", "package", "names"),
    [
        ("import jax, ntkreg.data as d", ("ntkreg",), {"ntkreg.data"}),
        ("def f():\n    from ntkreg import theory", ("ntkreg",), {"ntkreg.theory"}),
        ("from . import networks", ("ntkreg",), {"ntkreg.networks"}),
        ("from ..data import Dataset", ("ntkreg", "networks"), {"ntkreg.data.Dataset"}),
        ("from .b import run", ("ntkreg", "data"), {"ntkreg.data.b.run"}),
        ("import ntkreg_other, numpy.data", ("ntkreg",), set()),
        ("if TYPE_CHECKING:\n    import ntkreg.kernels", ("ntkreg",), {"ntkreg.kernels"}),
    ],
)
def test_every_form_of_import_is_seen(source, package, names):
    assert imports(source, package) == names
