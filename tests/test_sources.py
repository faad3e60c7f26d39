"""The hash of the code that a result comes from."""

import functools

import jax
import pytest

from ntkreg import sources
from ntkreg.cells import as_cell, chosen
from ntkreg.experiments import separation

FILES = {
    "__init__.py": "from ntkreg.helper import double",
    "helper.py": "FACTOR = 2\n\n\ndef double(x):\n    return FACTOR * x\n",
    "cell.py": "def cell(x):\n    from ntkreg import helper\n\n    return helper.double(x)\n",
    "figure.py": "from ntkreg.cell import cell\n",
}


@pytest.fixture
def digest(tmp_path, monkeypatch):
    """The digest of cell.py's function in a small package, where some texts are replaced."""
    package = tmp_path / "ntkreg"
    package.mkdir()
    monkeypatch.setattr(sources, "PACKAGE", package)

    def of(**changed):
        for name, text in {**FILES, **{f"{k}.py": v for k, v in changed.items()}}.items():
            (package / name).write_text(text)
        sources._code.cache_clear()
        found = {}
        exec(compile((package / "cell.py").read_text(), package / "cell.py", "exec"), {}, found)
        return sources.digest(found["cell"])

    yield of
    sources._code.cache_clear()


def test_what_is_imported_counts(digest):
    assert digest() != digest(helper=FILES["helper.py"].replace("2", "3"))
    assert digest() != digest(cell=FILES["cell.py"].replace("double(x)", "double(-x)"))


def test_what_imports_it_does_not_count(digest):
    assert digest() == digest(figure="CHANGED = True")


def test_comments_docstrings_layout_and_annotations_do_not_count(digest):
    text = '"""Doubles."""\n# why\nFACTOR = (2)\ndef double(x: int) -> int:\n  "Twice."\n'
    text += "  return FACTOR*x"
    assert digest() == digest(helper=text)


def test_importing_the_package_counts_what_it_gives_out(digest):
    cell = "def cell(x):\n    import ntkreg\n\n    return ntkreg.double(x)\n"
    assert digest(cell=cell) != digest(cell=cell, helper="def double(x):\n    return x + x\n")


def _one(x):
    return {"y": x}


def test_functions_are_found_in_cells_closures_partials_and_jit():
    direct = sources.digest(_one)
    assert sources.digest((1, {"cell": functools.partial(jax.jit(_one), 1)})) == direct
    assert sources.digest(as_cell(_one)) == direct  # cells.py is imported here too
    assert sources.digest(chosen("name", {"a": _one})) == direct
    assert sources.digest(()) != direct


def test_a_function_without_file_counts_by_its_own_text():
    texts = ("f = lambda x: x + x", "f = lambda x: x * x")
    found = [{}, {}]
    for text, names in zip(texts, found, strict=True):
        exec(text, names)
    assert sources.digest(found[0]["f"]) != sources.digest(found[1]["f"])


def test_a_function_out_of_a_page_counts_by_its_code(tmp_path):
    """Its lines are looked for in a file that is no Python, as those of a README's block are."""
    page, found = tmp_path / "page.md", [{}, {}]
    page.write_text("An example (of which\nthe bracket is not closed.\n")
    for text, names in zip(
        ("def f(x): return x + x", "def f(x): return x * x"), found, strict=True
    ):
        exec(compile(text, str(page), "exec"), names)
    assert sources.digest(found[0]["f"]) != sources.digest(found[1]["f"])


def test_a_figure_is_no_part_of_its_experiment():
    config = separation.Config.preset("smoke")
    function = separation.grid(config)["function"]
    names = {path.stem for path in sources.files(function)}
    assert {"separation", "trainers", "network"} <= names
    assert not {"separation_figure", "command", "_report", "certify"} & names
