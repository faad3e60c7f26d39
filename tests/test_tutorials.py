"""The tutorials are kept as they ran, run as they stand, and know one repository's address."""

import os
import re
from pathlib import Path

import nbclient
import nbformat
import notebooks
import pytest
from hooks import tutorials

TUTORIALS = sorted(notebooks.TUTORIALS.glob("*.ipynb"))
NAMES = ["certify", "lambda_path", "open_question"]


def read(file: Path) -> nbformat.NotebookNode:
    return nbformat.read(file, as_version=4)


def code_cells(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def printed(notebook: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in outputs(notebook))


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_a_tutorial_has_its_outputs_and_no_error(file):
    notebook = read(file)
    nbformat.validate(notebook)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert {output.output_type for output in outputs(notebook)} <= {
        "stream", "execute_result", "display_data"
    }  # fmt: skip
    assert not [output for output in outputs(notebook) if output.get("name") == "stderr"]
    assert len(re.findall(r"\d\.\d", printed(notebook))) >= 4


def test_there_are_three_and_two_of_them_draw():
    drawn = [
        sum("image/png" in output.get("data", {}) for output in outputs(read(file)))
        for file in TUTORIALS
    ]
    assert [file.stem for file in TUTORIALS] == NAMES and drawn == [1, 1, 0]


@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_files_that_a_tutorial_links_to_are_there(file):
    text = "\n".join(cell.source for cell in read(file).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links and not [link for link in links if not file.parent.joinpath(link).exists()]


def test_an_open_question_takes_some_fifty_lines():
    *_, file = TUTORIALS
    _, *cells = code_cells(read(file))  # the first installs
    assert sum(len(cell.source.splitlines()) for cell in cells) <= 60


@pytest.mark.parametrize("file", [*TUTORIALS, notebooks.STORY], ids=lambda file: file.stem)
def test_every_notebook_has_the_repository_s_address_of_mkdocs(file):
    source = code_cells(read(file))[0].source
    assert re.findall(r'REPOSITORY = "(.*?)"', source) == [notebooks.address()]


def test_the_address_is_written_into_a_notebook(monkeypatch):
    monkeypatch.setattr(notebooks, "address", lambda: "https://github.com/someone/ntkreg")
    notebook = notebooks.addressed(read(TUTORIALS[0]))
    assert 'REPOSITORY = "https://github.com/someone/ntkreg"' in code_cells(notebook)[0].source


def test_colab_opens_a_tutorial_where_the_address_is_set():
    assert "repo_url" in tutorials.colab("certify.ipynb", "")
    line = tutorials.colab("certify.ipynb", "https://github.com/someone/ntkreg")
    place = "colab.research.google.com/github/someone/ntkreg/blob/main/docs/tutorials/certify.ipynb"
    assert place in line


@pytest.mark.slow
@pytest.mark.parametrize("file", TUTORIALS, ids=lambda file: file.stem)
def test_a_tutorial_runs(file, monkeypatch, tmp_path):
    root = str(notebooks.ROOT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    place = {"metadata": {"path": str(tmp_path)}}
    notebook = nbclient.NotebookClient(read(file), timeout=600, resources=place).execute()
    assert printed(notebook).count("\n") == printed(read(file)).count("\n")
