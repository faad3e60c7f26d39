"""Builds the API reference from the docstrings, with pdoc: python docs/build.py [FOLDER].

Docstrings have their formulas in plain text, to be read in a terminal. The central ones are written
in LaTeX too, in definitions.md, and shown with what computes them. Anything that pdoc warns of is
an error.
"""

import importlib
import inspect
import pkgutil
import pydoc
import re
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import pdoc
import pdoc.doc
from pdoc import extract, render, render_helpers

import ntkreg
from ntkreg import _types

DOCS = Path(__file__).parent
ROOT = ntkreg.__name__
OUTPUT = DOCS / "html"
FOLDERS = [p.name for p in pkgutil.iter_modules(ntkreg.__path__) if p.ispkg]
ALIASES = (
    "Params",
    "PRNGKey",
    "Scalars",
    "Scalar",
)  # that signatures give by name
GENERATED = ("Alias for field number", "Create new instance of")


class Definition(NamedTuple):
    """A section of definitions.md.

    Attributes:
      title: its heading.
      names: of what computes it, from the package on.
      formula: in LaTeX.
      note: what it says below.
    """

    title: str
    names: tuple[str, ...]
    formula: str
    note: str


class Spelled(str):
    """An annotation that is shown as it is written."""

    __repr__ = str.__str__


def modules() -> list[str]:
    """The names of all public modules, packages before what they hold."""
    found = [module.name for module in pkgutil.walk_packages(ntkreg.__path__, f"{ROOT}.")]
    return [ROOT, *(name for name in found if "._" not in name)]


def definitions() -> tuple[str, list[Definition]]:
    """What stands at the head of definitions.md, and its sections."""
    introduction, *sections = (DOCS / "definitions.md").read_text().split("\n## ")
    return introduction, [_definition(section) for section in sections]


def _definition(section: str) -> Definition:
    head, formula, note = section.split("$$")
    title, names = head.split("\n", maxsplit=1)
    found = tuple(f"{ROOT}.{name}" for name in re.findall(r"`([\w.]+)`", names))
    return Definition(title, found, formula.strip(), note.strip())


def short(annotation: str) -> str:
    """An annotation as the source has it: `Float[Array, "n d"]`, Params, Scalar."""
    for name in ALIASES:
        annotation = annotation.replace(_formatted(getattr(_types, name)), name)
    annotation = re.sub(r"jaxtyping\.|(\w+\.)*_jax\.", "", annotation)
    return re.sub(r"\[(\w+), '([^']*)'\]", r'[\1, "\2"]', annotation)


def _formatted(annotation: object) -> str:
    return inspect.formatannotation(annotation)


def spelled(signature: inspect.Signature) -> inspect.Signature:
    """The signature with its annotations in short."""
    one = lambda a: a if a is inspect.Signature.empty else Spelled(short(_formatted(a)))
    parameters = [p.replace(annotation=one(p.annotation)) for p in signature.parameters.values()]
    return type(signature)(parameters, return_annotation=one(signature.return_annotation))


def marked_up(docstring: str) -> str:
    """The docstring with what Markdown would misread put right, and its references in full."""
    docstring = re.sub(r"(?<=[\w)])\*(?![\w*])", "∗", docstring)  # the star of γ*
    docstring = re.sub(r"\*\*(?=\w+:)", r"\*\*", docstring)  # two stars before an argument
    docstring = re.sub(r"\b(Sources?): ", r"**\1:** ", docstring)
    return re.sub(r"`(\w+\.[\w.]+)`", lambda match: f"`{_in_full(match[1])}`", docstring)


def _in_full(name: str) -> str:
    packages = (ROOT, *(f"{ROOT}.{folder}" for folder in FOLDERS))
    found = (f"{package}.{name}" for package in packages if pydoc.locate(f"{package}.{name}"))
    return next(found, name)


def described_here(doc: pdoc.doc.Doc) -> bool:
    """False for what NamedTuple writes of its fields, and for a default from another package."""
    module = doc.obj.__module__ if doc.kind == "function" else ROOT
    return module.startswith(ROOT) and not doc.docstring.startswith(GENERATED)


def reference(name: str) -> tuple[str, str]:
    """The module that a name from the package on is in, and the rest of it."""
    module = name if name in sys.modules else name.rpartition(".")[0]
    return module, name[len(module) + 1 :]


def configure() -> None:
    """pdoc with mathematics, and with what template/ uses."""
    render.configure(docformat="google", math=True, template_directory=DOCS / "template")
    introduction, sections = definitions()
    render.env.globals.update(introduction=introduction, definitions=sections, root=ROOT)
    show = lambda signature, colon: render_helpers.format_signature(spelled(signature), colon)
    filters = {"format_signature": show, "short": short}
    render.env.filters.update(filters, marked_up=marked_up, reference=reference)
    child_of = lambda name, parent: name.rpartition(".")[0] == parent
    render.env.tests.update(described_here=described_here, child_of=child_of)


def specs(names: list[str]) -> list[str]:
    """The root and what pdoc does not find from there: modules that their `__all__` leaves out."""
    given = [ROOT]
    for name in names:
        if name not in extract.walk_specs(given):
            given.append(name)
    return [*given, rf"!{ROOT}\..*\._.*"]


def build(folder: Path) -> None:
    """Writes a page for every public module."""
    names = modules()
    for name in names:  # before warnings are errors: what others warn of is theirs
        importlib.import_module(name)
    configure()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pdoc.pdoc(*specs(names), output_directory=folder)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
