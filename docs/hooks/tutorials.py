"""Makes a page of every tutorial, with what it printed and drew, as a hook of MkDocs."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import TagRemovePreprocessor

FOLDER = Path(__file__).parents[1] / "tutorials"
GITHUB, COLAB = "https://github.com", "https://colab.research.google.com/github"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages and their pictures."""
    for notebook in sorted(FOLDER.glob("*.ipynb")):
        page, pictures = converted(notebook, config.repo_url)
        made: dict[str, str | bytes] = {f"{notebook.stem}.md": page, **pictures}
        for name, content in made.items():
            files.append(File.generated(config, f"tutorials/{name}", content=content))
    return files


def converted(notebook: Path, address: str | None) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, without the cell that installs, and its pictures by name."""
    exporter = MarkdownExporter()
    without = TagRemovePreprocessor(remove_cell_tags={"install"})
    exporter.register_preprocessor(without, enabled=True)
    names = {"output_files_dir": f"{notebook.stem}_files"}
    body, resources = exporter.from_filename(str(notebook), resources=names)
    head, rest = body.lstrip().split("\n", 1)
    return f"{head}\n\n{colab(notebook.name, address)}\n{rest}", resources["outputs"]


def colab(name: str, address: str | None) -> str:
    """The line that opens a tutorial on Colab."""
    if not address:
        return f"*docs/tutorials/{name}; it opens on Colab once `repo_url` is set in mkdocs.yml.*"
    place = f"{address.replace(GITHUB, COLAB)}/blob/main/docs/tutorials/{name}"
    return f"[Open on Colab]({place})"
