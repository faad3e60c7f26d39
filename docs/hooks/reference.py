"""Makes a page of every public module, for mkdocstrings to fill, as a hook of MkDocs."""

import ast
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).parents[2] / "ntkreg"


def on_config(config: MkDocsConfig) -> None:
    """Adds the modules to the contents that mkdocs.yml lists."""
    (section,) = [one["Reference"] for one in config.nav or [] if "Reference" in one]
    section += contents(PACKAGE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages."""
    for file in modules():
        files.append(File.generated(config, place(file), content=page(file)))
    return files


def modules() -> list[Path]:
    """The files of all public modules; a folder's is its `__init__.py`."""
    return [file for file in sorted(PACKAGE.rglob("*.py")) if "._" not in dotted(file)]


def dotted(file: Path) -> str:
    """The name of the module in a file."""
    inside = file.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(inside.parts).removesuffix(".__init__")


def is_folder(file: Path) -> bool:
    """Whether the module in a file is a folder's."""
    return file.name == "__init__.py"


def below(folder: Path) -> list[Path]:
    """The modules that a folder holds."""
    parent = lambda file: file.parents[1 if is_folder(file) else 0]
    return [file for file in modules() if parent(file) == folder]


def place(file: Path) -> str:
    """Where the page of a module is."""
    inside = file.relative_to(PACKAGE).with_suffix(".md").as_posix()
    return f"reference/{inside.replace('__init__', 'index')}"


def contents(folder: Path) -> list[dict[str, Any]]:
    """The modules of a folder by their names, each with its page, or with its own contents."""
    entry = lambda file: [place(file), *contents(file.parent)] if is_folder(file) else place(file)
    return [{dotted(file).rpartition(".")[2]: entry(file)} for file in below(folder)]


def page(file: Path) -> str:
    """A module's page. A folder's has what is written in it, and what it takes from its modules."""
    if not is_folder(file):
        return f"::: {dotted(file)}\n"
    written = [
        node for node in _tree(file).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    options = f"    options:\n      members: {[node.name for node in written] or 'false'}\n"
    inside = list(map(dotted, below(file.parent)))
    names = [name for name in taken(file) if name not in inside]
    return f"::: {dotted(file)}\n{options}{_listed('Names', names)}{_listed('Modules', inside)}"


def _listed(head: str, names: list[str]) -> str:
    rows = "".join(f"- [`{name.rpartition('.')[2]}`][{name}]\n" for name in names)
    return f"\n## {head}\n\n{rows}" if rows else ""


def taken(file: Path) -> list[str]:
    """The functions and classes that a folder has from its modules; the root, by its stub."""
    stub = file.with_suffix(".pyi")
    lines = _tree(stub if stub.exists() else file).body
    imports = [line for line in lines if isinstance(line, ast.ImportFrom) and line.module]
    names = [name for line in imports for name in _names(line, dotted(file))]
    return [name for name in names if name.startswith(f"{dotted(file)}.") and "._" not in name]


def _names(line: ast.ImportFrom, folder: str) -> list[str]:
    """The names that an import brings, in full, without constants, which have no docstrings."""
    module = f"{folder}.{line.module}" if line.level else line.module
    return [f"{module}.{alias.name}" for alias in line.names if not alias.name.isupper()]


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())
