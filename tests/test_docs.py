"""The API reference is whole: pages, rendered formulas, and docstrings that name what exists."""

import ast
import builtins
import html
import importlib.util
import pydoc
import re
from pathlib import Path

import pytest
from matplotlib.mathtext import MathTextParser

import ntkreg

ROOT = Path(__file__).parents[1]
FILES = sorted(Path(ntkreg.__file__).parent.rglob("*.py"))
SECTION = re.compile(
    r"^(Args|Raises|Attributes|Returns|Sources?):\n((?:[ \t]+.*(?:\n|$)|\n)*)", re.M
)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
REST = {"others"}  # of the arguments, in an entry that refers to another function's

spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)
_, DEFINITIONS = reference.definitions()


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """Every page by its module's name, without the sources that it shows."""
    folder = tmp_path_factory.mktemp("html")
    reference.build(folder)
    files = {
        ".".join(f.relative_to(folder).with_suffix("").parts): f for f in folder.rglob("*.html")
    }
    source = re.compile(r'<div class="pdoc-code codehilite">.*?</div>', re.S)
    return {name: source.sub("", file.read_text()) for name, file in files.items()}


def parsed() -> dict[Path, ast.Module]:
    return {file: ast.parse(file.read_text()) for file in FILES}


def documented(tree: ast.Module) -> list[tuple[DOCUMENTED, str]]:
    """Whatever has a docstring, and it."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, DOCUMENTED)]
    return [(node, doc) for node in nodes if (doc := ast.get_docstring(node))]


def undocumented(node: DOCUMENTED) -> list[str]:
    """Public names in a module or class, and their own, that have no docstring."""
    inside = [n for n in node.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    public = [n for n in inside if not n.name.startswith("_") and not _is_declared(n)]
    own = [n.name for n in public if not ast.get_docstring(n)]
    classes = [n for n in public if isinstance(n, ast.ClassDef)]
    return own + [f"{c.name}.{name}" for c in classes for name in undocumented(c)]


def _is_declared(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """True of what a Protocol asks for: its docstring is the class's."""
    return isinstance(node, ast.FunctionDef) and ast.unparse(node.body) == "..."


def identifiers(tree: ast.Module) -> set[str]:
    """The names that the code uses, imports or has in strings other than docstrings."""
    docstrings = {ast.get_docstring(node, clean=False) for node, _ in documented(tree)}
    fields = ("id", "attr", "arg", "name", "module", "asname", "value")
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.AST)]
    texts = {
        getattr(node, field, None) for node in nodes for field in fields if _is_text(node, field)
    }
    return {name for text in texts - docstrings for name in re.findall(r"\w+", text)}


def _is_text(node: ast.AST, field: str) -> bool:
    return isinstance(getattr(node, field, None), str)


def entries(docstring: str, section: str) -> list[str]:
    """The names that a section tells of, one or several to an entry."""
    bodies = [body for name, body in SECTION.findall(docstring) if name == section]
    heads = [head for body in bodies for head in re.findall(r"^  (\S[^:\n]*):", body, re.M)]
    return [name.lstrip("*") for head in heads for name in head.split(", ")]


def empty_sections(docstring: str) -> list[str]:
    return [name for name, body in SECTION.findall(docstring) if not body.strip()]


def known_to(node: DOCUMENTED) -> set[str]:
    """Parameters of a function; fields and methods of a class."""
    if isinstance(node, ast.FunctionDef):
        return {n.arg for n in ast.walk(node.args) if isinstance(n, ast.arg)}
    names = {n.target.id for n in node.body if isinstance(n, ast.AnnAssign)}
    return names | {n.name for n in node.body if isinstance(n, ast.FunctionDef)}


def test_every_public_module_has_a_page(pages):
    assert set(pages) == {*reference.modules(), "index"}


def test_every_page_renders_mathematics(pages):
    assert all("MathJax" in page for name, page in pages.items() if name != "index")


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.title)
def test_definitions_stand_by_what_computes_them(definition, pages):
    assert definition.names
    formula = rf"<div>\[ {html.escape(definition.formula).replace('&#x27;', '&#39;')} \]</div>"
    for name in (*definition.names, "ntkreg"):
        module, rest = reference.reference(name)
        assert pydoc.locate(name) is not None
        member = pages[module].split(f'<section id="{rest}">')[-1].split("</section>")[0]
        assert formula in member


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.title)
def test_formulas_are_well_formed(definition):
    formula = definition.formula.replace("\n", " ")
    assert MathTextParser("path").parse(f"${formula}$").width > 0


def test_no_mathematics_comes_from_elsewhere(pages):
    contents = {name: page.split("<main")[-1].split("</main>")[0] for name, page in pages.items()}
    assert not [name for name in reference.modules() if re.search(r"\$|\\\(", contents[name])]


def test_annotations_are_short(pages):
    assert not [name for name, page in pages.items() if re.search(r"jaxtyping\.|_jax\b", page)]


def test_sections_are_rendered(pages):
    raw = re.compile(r"^\s*(<p>)?(Args|Raises|Attributes):", re.M)
    assert not [(name, m[0]) for name, page in pages.items() for m in raw.finditer(page)]


def test_everything_public_has_a_docstring():
    trees = parsed()
    assert not [file for file, tree in trees.items() if not ast.get_docstring(tree)]
    assert not [(file.stem, name) for file, tree in trees.items() for name in undocumented(tree)]


def test_docstrings_name_what_exists():
    trees = parsed()
    known = {file.stem for file in FILES}.union(*(identifiers(tree) for tree in trees.values()))
    docs = [(file.stem, doc) for file, tree in trees.items() for _, doc in documented(tree)]
    quoted = [(stem, name) for stem, doc in docs for name in re.findall(r"`([^`]+)`", doc)]
    words = [(stem, word) for stem, name in quoted for word in re.findall(r"[A-Za-z_]\w*", name)]
    assert not [(stem, word) for stem, word in words if word not in known]


def test_dotted_names_resolve(pages):
    quoted = re.findall(r"<code>(ntkreg\.[\w.]+)</code>", "".join(pages.values()))
    assert not [name for name in quoted if pydoc.locate(name) is None]


def test_sections_name_parameters_and_fields():
    nodes = [pair for tree in parsed().values() for pair in documented(tree)]
    assert not [doc for _, doc in nodes if empty_sections(doc)]
    exceptions = identifiers(ast.parse("\n".join(f.read_text() for f in FILES))) | set(
        dir(builtins)
    )
    assert not [
        name for _, doc in nodes for name in entries(doc, "Raises") if name not in exceptions
    ]
    for section, kind in (("Args", ast.FunctionDef), ("Attributes", ast.ClassDef)):
        own = [(node, doc) for node, doc in nodes if isinstance(node, kind)]
        named = [(n.name, e, known_to(n) | REST) for n, doc in own for e in entries(doc, section)]
        assert not [(name, entry) for name, entry, known in named if entry not in known]


def test_what_is_wrong_is_seen():
    docstring = "Does.\n\nArgs:\n\nRaises:\n  ValueError: where\n    it must.\n  Gone, **more: too."
    assert empty_sections(docstring) == ["Args"]
    assert entries(docstring, "Raises") == ["ValueError", "Gone", "more"]
    tree = ast.parse("class A:\n    'Doc.'\n    def f(self, x): 1\n    def h(): ...\ndef _g(): ...")
    assert undocumented(tree) == ["A.f"]
    assert identifiers(tree) == {"A", "f", "h", "_g", "self", "x"}
