"""The notebook runs from start to end as it stands, draws its figures, and is kept without them."""

import os
import pathlib

import nbclient
import nbformat
import pytest

NOTEBOOK = pathlib.Path(__file__).parents[2] / "launch" / "reproduce.ipynb"
SECTIONS = ("tangent kernel", "result I:", "result II:", "result III:", "finite width")


@pytest.fixture
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_no_outputs_are_kept(notebook):
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in code_cells(notebook))


def test_the_story_is_told_in_the_order_of_the_talk(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    places = [text.index(section) for section in SECTIONS]
    assert places == sorted(places) and text.count("**See:**") == len(SECTIONS)


@pytest.mark.slow
def test_it_runs_and_draws_a_figure_for_every_section(notebook, monkeypatch, tmp_path):
    monkeypatch.setenv("NTKREG_NOTEBOOK_PRESET", "smoke")
    root = str(NOTEBOOK.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    client = nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    client.execute()  # raises where a cell does
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == len(SECTIONS)
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "max margin between" in printed and "with insertions: gap" in printed
    assert not list(tmp_path.iterdir())  # nothing is written
