"""Writes the pages made from the records in results/: README.md, the table of claims, and paper.md.

uv run launch/reproduce.py
"""

import pathlib

from absl import app, flags

from ntkreg import records
from ntkreg.experiments import paper_page, report

RESULTS = flags.DEFINE_string("results", "results", "Folder of the results.")
PAGES = {"README.md": report.page, "paper.md": paper_page.page}


def main(argv: list[str]) -> None:
    del argv
    results = pathlib.Path(RESULTS.value)
    for name, page in PAGES.items():
        records.write_text(results / name, page(results))
        print(f"wrote {results / name}")


if __name__ == "__main__":
    app.run(main)
