"""Writes results/README.md, the table of claims, from the records in results/.

uv run launch/reproduce.py
"""

import pathlib

from absl import app, flags

from ntkreg import records
from ntkreg.experiments import report

RESULTS = flags.DEFINE_string("results", "results", "Folder of the results.")


def main(argv: list[str]) -> None:
    del argv
    results = pathlib.Path(RESULTS.value)
    records.write_text(results / "README.md", report.page(results))
    print(f"wrote {results / 'README.md'}")


if __name__ == "__main__":
    app.run(main)
