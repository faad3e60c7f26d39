"""Claim II, width: the max margin does not fall with width, and larger margins bound the error.

    uv run launch/width.py                      # two to five minutes on two cores
    uv run launch/width.py --preset=thorough    # six to twelve
    uv run launch/width.py --preset=smoke       # seconds
    uv run launch/width.py --error_sets=digits:1000 --out=/tmp/digits

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/width/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, width
from ntkreg.experiments.width_claims import at_last_lam, best_margins, claims, table
from ntkreg.experiments.width_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Margins and errors by width, at the least λ of each data set."""
    rows = table(record)
    lines = ["margin over the certified max margin, best of the seeds"]
    for (dataset, draw), row in best_margins(rows).iterrows():
        shown = "  ".join(f"{width}: {ratio:.4f}" for width, ratio in row.items())
        lines.append(f"  {dataset}, draw {draw}   {shown}")
    for dataset in rows.dataset[~rows.dataset.str.startswith("random")].unique():
        part = at_last_lam(rows, dataset)
        means = part.groupby(["depth", "width"])[
            ["normalized_margin", "test_error", "bound"]
        ].mean()
        lines += [f"{dataset}, λ = {part.lam.min():.0e}, means", means.to_string()]
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("width", width, figure, summary, claims, table)
