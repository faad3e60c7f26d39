"""Brings README, CONTRIBUTING and results/ into the site, and turns links, as a hook of MkDocs.

Pages keep the links that they have in the repository, which become the site's here. A link to a
file that is no page leads to the repository, or is plain text while its address is not set.
"""

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS, RESULTS = ROOT / "docs", ROOT / "results"
SHOWN = (".md", ".png", ".gif")  # of results/
FOLDERS = "|".join(sorted(file.parent.name for file in ROOT.glob("ntkreg/*/__init__.py")))
NAME = re.compile(rf"(?<!\[)`(?:ntkreg\.)?((?:{FOLDERS})(?:\.\w+)+)`")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")


def on_config(config: MkDocsConfig) -> None:
    """Adds the experiments' pages to the contents that mkdocs.yml lists."""
    (section,) = [one["Gallery"] for one in config.nav or [] if "Gallery" in one]
    section += [{title(page): page} for page in experiments()]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that stand outside docs/, their pictures, and the gallery."""
    for source, place in places().items():
        if not source.startswith("docs/"):
            files.append(File.generated(config, place, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "gallery.md", content=gallery()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """The page with the site's links, names of the package as links, and tables that unfold."""
    place = page.file.src_uri
    if place.startswith("reference/"):
        return markdown
    known = places()
    source = next((source for source, there in known.items() if there == place), place)
    turn = lambda link: turned(link, source, known, config.repo_url)
    markdown = NAME.sub(r"[`\1`][ntkreg.\1]", LINK.sub(turn, markdown))
    return markdown.replace("<details>", '<details markdown="1">')


def places() -> dict[str, str]:
    """The place on the site of every file of the repository that it shows."""
    pages = [*DOCS.rglob("*.md"), *DOCS.rglob("*.ipynb")]
    shown = {_name(path): path.relative_to(DOCS).with_suffix(".md").as_posix() for path in pages}
    results = [_name(path) for path in RESULTS.rglob("*") if path.suffix in SHOWN]
    apart = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
    return shown | dict(zip(results, results, strict=True)) | apart


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def turned(link: re.Match[str], source: str, known: dict[str, str], address: str | None) -> str:
    """A link of that file as the site has it; left alone where it means no file of the repository.

    MkDocs then says whether it is broken.
    """
    mark, text, target, anchor = link.groups(default="")
    meant = os.path.normpath(PurePosixPath(source).parent / target)
    if meant in known:
        there = os.path.relpath(known[meant], PurePosixPath(known.get(source, source)).parent)
        return f"{mark}[{text}]({there}{anchor})"
    if not (ROOT / meant).exists():
        return link[0]
    return f"[{text}]({address}/blob/main/{meant}{anchor})" if address else text


def experiments() -> list[str]:
    """The experiments' pages, in the order of the claims."""
    names = re.findall(r"\]\((\w+)/README\.md\)", (RESULTS / "README.md").read_text())
    return [f"results/{name}/README.md" for name in dict.fromkeys(names)]


def title(page: str) -> str:
    """The first heading of a file."""
    return (ROOT / page).read_text().split("\n", 1)[0].removeprefix("# ")


def gallery() -> str:
    """The page that has a picture of each experiment."""
    cards = "\n".join(filter(None, map(_card, experiments())))
    return f"""# Gallery

A picture of each experiment. Its page has the theorem, every number beside it, and the command.
[Claims](results/README.md) has one row for each, [the paper beside ours](results/paper.md) goes
through theorems and figures.

<div class="grid cards" markdown>

{cards}
</div>
"""


def _card(page: str) -> str | None:
    """An experiment's title above its first picture; none without a picture."""
    picture = PICTURE.search((ROOT / page).read_text())
    if picture is None:
        return None
    there = PurePosixPath(page).parent / picture[1]
    return f"-   [{title(page)}]({page})\n\n    ![{title(page)}]({there})\n"
