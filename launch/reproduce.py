"""Writes results/README.md, the table of claims, from the records in results/.

uv run launch/reproduce.py
"""

import pathlib

import launcher
from absl import app, flags

from ntkreg import claims, records
from ntkreg.claims import Claim

RESULTS = flags.DEFINE_string("results", "results", "Folder of the results.")

CLAIMS = {
    "separation": Claim(
        statement="The ℓ2-regularised network learns D from O(d) samples, the NTK needs Ω(d²)",
        source="Wei et al. 2019, Theorem 2.1; slides, Main Results I",
        predicted="n at 25 % test error ∝ d¹ (network), ∝ d² (NTK)",
    ),
}


def page(results: pathlib.Path) -> str:
    """The page: one row per experiment and preset, "not run" where there is no record."""
    rows, figures = [], []
    for name, claim in CLAIMS.items():
        for preset in ("laptop", "full"):
            folder = results / name / preset
            not_run = Claim(
                claim.statement,
                claim.source,
                claim.predicted,
                command=f"`uv run launch/{name}.py --preset={preset}`",
            )
            rows.append(launcher.claim_of(folder, not_run))
            if (folder / "figure.png").exists():
                figures.append(f"![{name}, {preset}]({name}/{preset}/figure.png)\n")
    return "\n".join(
        [
            "# Claims",
            "",
            "Written by `uv run launch/reproduce.py` from the `run.json` of each experiment.",
            "",
            claims.table(rows),
            *figures,
        ]
    )


def main(argv: list[str]) -> None:
    del argv
    results = pathlib.Path(RESULTS.value)
    records.write_text(results / "README.md", page(results))
    print(f"wrote {results / 'README.md'}")


if __name__ == "__main__":
    app.run(main)
