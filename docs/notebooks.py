"""Runs the tutorials and keeps what they print and draw: uv run docs/notebooks.py [NAME …]

By default all of docs/tutorials/. The repository's address, `repo_url` in mkdocs.yml, is written
into the first code cell of every notebook, launch/reproduce.ipynb's too, which keeps no outputs.
"""

import re
import sys
import tempfile
from pathlib import Path

import nbformat
from mkdocs.utils.yaml import yaml_load
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"
STORY = ROOT / "launch" / "reproduce.ipynb"


def address() -> str:
    """The repository's address; "" while it is not set."""
    return yaml_load((ROOT / "mkdocs.yml").read_text())["repo_url"]


def addressed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with the repository's address in its first code cell."""
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    line = f'REPOSITORY = "{address()}"'
    first.source = re.sub(r'^REPOSITORY = ".*?"', line, first.source, flags=re.M)
    return notebook


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with what its cells print and draw; raises where one does."""
    with tempfile.TemporaryDirectory() as folder:
        place = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=None, record_timing=False, resources=place)
        return _quiet(client.execute())


def _quiet(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without progress and warnings."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    return notebook


def main(names: list[str]) -> None:
    """Runs the tutorials of these names, or all, and writes them."""
    nbformat.write(addressed(nbformat.read(STORY, as_version=4)), STORY)
    for file in sorted(TUTORIALS.glob("*.ipynb")):
        notebook = addressed(nbformat.read(file, as_version=4))
        if not names or file.stem in names:
            notebook = executed(notebook)
        nbformat.write(notebook, file)


if __name__ == "__main__":
    main(sys.argv[1:])
