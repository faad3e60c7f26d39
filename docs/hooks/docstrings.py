"""Docstrings as pages: doctests in code blocks, dotted names as links, definitions.md's formulas.

Docstrings have their formulas in plain text, to be read in a terminal. The central ones are written
in LaTeX too, in definitions.md, and shown with what computes them.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import griffe

DEFINITIONS = Path(__file__).parents[1] / "definitions.md"
PROSE = re.compile(r"^\S.*", re.M)
DOCTEST = re.compile(r"^>>> .*(?:\n.+)*", re.M)
NAME = re.compile(r"`(\w+(?:\.\w+)+)`")
SOURCE = re.compile(r"^(Sources?): ", re.M)
ENTRY = re.compile(r"^  (\w+(?:, \w+)+):(.*(?:\n    .*)*)", re.M)  # of several fields


class Definition(NamedTuple):
    """A section of definitions.md.

    Attributes:
      title: its heading.
      names: of what computes it, from the package on.
      formula: in LaTeX.
    """

    title: str
    names: tuple[str, ...]
    formula: str


def definitions() -> list[Definition]:
    """The sections of definitions.md."""
    _, *sections = DEFINITIONS.read_text().split("\n## ")
    return [_definition(section) for section in sections]


def _definition(section: str) -> Definition:
    head, formula, _ = section.split("$$")
    title, names = head.split("\n", maxsplit=1)
    return Definition(title, tuple(re.findall(r"`([\w.]+)`", names)), formula.strip())


class Docstrings(griffe.Extension):
    """The package's docstrings as Markdown."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Changes all docstrings, once every module is read."""
        if pkg.name != "ntkreg":
            return
        for one in documented(pkg):
            one.docstring.value = markdown(one.docstring.value, one, pkg)
        for definition in definitions():
            for name in definition.names:
                pkg[name].docstring.value += f"\n\n$$\n{definition.formula}\n$$"


def documented(of: Any) -> Iterator[Any]:
    """Whatever has a docstring in a module or class, and itself."""
    if of.docstring:
        yield of
    for member in of.members.values():
        if not member.is_alias:
            yield from documented(member)


def markdown(docstring: str, of: griffe.Object, pkg: griffe.Module) -> str:
    """The docstring as it is in Markdown."""
    docstring = PROSE.sub(lambda line: _norms(line[0]), docstring)
    docstring = DOCTEST.sub(lambda block: f"```pycon\n{block[0]}\n```", docstring)
    docstring = ENTRY.sub(_apart, SOURCE.sub(r"**\1:** ", docstring))
    return NAME.sub(lambda name: _linked(name, of, pkg), docstring)


def _norms(line: str) -> str:
    """The line with the subscripts of norms, ‖·‖_* too, as they are: not as emphasis."""
    return line.replace("‖_*", r"‖\_\*").replace("‖_", r"‖\_")


def _apart(entry: re.Match[str]) -> str:
    """An entry for each of the fields that one describes together."""
    return "\n".join(f"  {name}:{entry[2]}" for name in entry[1].split(", "))


def _linked(name: re.Match[str], of: griffe.Object, pkg: griffe.Module) -> str:
    """A link where the name is one of the package's that has a page."""
    for place in (of.package, of.module, of.module.parent, *pkg.modules.values()):
        found = _found(place, name[1].removeprefix("ntkreg."))
        if found and (found.is_module or found.docstring) and "._" not in found.path:
            return f"[{name[0]}][{found.path}]"
    return name[0]


def _found(place: griffe.Object | None, name: str) -> Any:
    try:
        found = place[name] if place else None
        return found.final_target if found and found.is_alias else found
    except (KeyError, griffe.AliasResolutionError):
        return None
