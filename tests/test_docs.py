"""The site is built strictly and whole; docstrings have what it needs, and name what exists."""

import ast
import builtins
import html
import pydoc
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hooks import docstrings, pages, reference
from matplotlib.mathtext import MathTextParser
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

import ntkreg

ROOT = Path(__file__).parents[1]
FILES = sorted(Path(ntkreg.__file__).parent.rglob("*.py"))
SECTION = re.compile(
    r"^(Args|Raises|Attributes|Returns|Sources?):\n((?:[ \t]+.*(?:\n|$)|\n)*)", re.M
)
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef
DEFINITIONS = docstrings.definitions()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[str, str]:
    """What stands on every page, by its place."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    files = {str(f.parent.relative_to(folder)): f for f in folder.rglob("index.html")}
    assert not [path for file in files.values() for path in pictures(file) if not path.exists()]
    return {name: contents(file.read_text()) for name, file in files.items()}


def contents(page: str) -> str:
    return page.split("<article")[1].split("</article>")[0]


def pictures(file: Path) -> list[Path]:
    found = re.findall(r'<img[^>]*\bsrc="([^"]+)"', file.read_text())
    return [file.parent / source for source in found if not source.startswith("data:")]


def built(folder: Path, page: str, module: str = '"""A module."""\n') -> None:
    """Builds a site of one page, beside a module `added`, as mkdocs.yml says but for our hooks."""
    (folder / "docs").mkdir()
    (folder / "docs" / "index.md").write_text(page)
    (folder / "added.py").write_text(module)
    places = {"docs_dir": str(folder / "docs"), "site_dir": str(folder / "site")}
    config = load_config(
        str(ROOT / "mkdocs.yml"), hooks=[], nav=["index.md"], strict=True, **places
    )
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(folder)]
    build(config)


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


GOOD = '"""A."""\n\n\ndef f(x: int):\n    """F.\n\n    Args:\n      x: a number.\n    """\n'


def test_what_is_right_is_built(tmp_path):
    built(tmp_path, "# A\n\n[a link](#a), [`f`][added.f]\n\n::: added\n", GOOD)
    assert "a number" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("[a link](nowhere.md)", GOOD),
        ("[a heading](#nowhere)", GOOD),
        ("[a name][ntkreg.nowhere]", GOOD),
        ("::: nowhere", GOOD),
        ("::: added", GOOD.replace("x: a number", "y: a number")),
        ("::: added", GOOD.replace("x: a number", "of some kind")),
    ],
)
def test_what_is_broken_fails_the_build(tmp_path, page, module):
    with pytest.raises(Abort):
        built(tmp_path, page, module)


def test_every_public_module_has_a_page(site):
    found = {name.replace("/", ".") for name in site if name.startswith("reference")}
    names = map(reference.dotted, reference.modules())
    assert found == {f"reference{name.removeprefix('ntkreg')}" for name in names}


def test_every_experiment_has_a_page_with_its_tables_and_picture(site):
    places = [page.removesuffix("/README.md") for page in pages.experiments()]
    assert len(places) >= 20 and set(places) <= set(site)
    assert all("<td" in site[place] for place in places)
    assert site["gallery"].count("<img") >= len(places) - 3


def test_no_markdown_is_left_on_a_page(site):
    """Tables, lists, emphasis and links are read as GitHub reads them, sections by mkdocstrings."""
    start = r"\| |Args:|Raises:|Attributes:|- |&gt;&gt;&gt; "
    left = re.compile(rf"^\s*(?:<p>)?(?:{start})|\]\(|\*\*", re.M)
    code = re.compile(r"<(pre|code)\b.*?</\1>|\\\[.*?\\\]", re.S)
    found = {name: left.search(code.sub("", page)) for name, page in site.items()}
    assert not {name: match[0] for name, match in found.items() if match}


def test_emphasis_is_not_read_into_formulas(site):
    marked = re.findall(r"<em>(.*?)</em>", "".join(site.values()), re.S)
    assert marked and not [text for text in marked if re.search(r"^[\s)/,{]|[γ‖]", text)]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.title)
def test_definitions_stand_by_what_computes_them(definition, site):
    formula = f"\\[\n{html.escape(definition.formula, quote=False)}\n\\]"
    assert definition.names and formula in site["definitions"]
    shown = [page for name, page in site.items() if name.startswith("reference")]
    for name in definition.names:
        assert pydoc.locate(f"ntkreg.{name}") is not None
        assert any(formula in page for page in shown)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda d: d.title)
def test_formulas_are_well_formed(definition):
    formula = definition.formula.replace("\n", " ")
    assert MathTextParser("path").parse(f"${formula}$").width > 0


def test_links_to_files_without_a_page_need_the_repository_s_address():
    link = pages.LINK.fullmatch("[the code](../ntkreg/data/groups.py)")
    turned = lambda address: pages.turned(link, "docs/limits.md", pages.places(), address)
    assert turned("") == "the code"
    assert (
        turned("https://a.org/b") == "[the code](https://a.org/b/blob/main/ntkreg/data/groups.py)"
    )


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


def test_dotted_names_resolve():
    docs = [doc for tree in parsed().values() for _, doc in documented(tree)]
    quoted = re.findall(r"`(ntkreg\.[\w.]+)`", "".join(docs))
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
        named = [(n.name, e, known_to(n)) for n, doc in own for e in entries(doc, section)]
        assert not [(name, entry) for name, entry, known in named if entry not in known]


def test_what_is_wrong_is_seen():
    docstring = "Does.\n\nArgs:\n\nRaises:\n  ValueError: where\n    it must.\n  Gone, **more: too."
    assert empty_sections(docstring) == ["Args"]
    assert entries(docstring, "Raises") == ["ValueError", "Gone", "more"]
    tree = ast.parse("class A:\n    'Doc.'\n    def f(self, x): 1\n    def h(): ...\ndef _g(): ...")
    assert undocumented(tree) == ["A.f"]
    assert identifiers(tree) == {"A", "f", "h", "_g", "self", "x"}
