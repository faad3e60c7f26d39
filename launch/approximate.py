"""Claim II, approximate minimizers: the worst margins of networks within β of the minimum.

    uv run launch/approximate.py                      # one to three minutes on two cores
    uv run launch/approximate.py --preset=thorough    # twice the data sets
    uv run launch/approximate.py --preset=smoke       # seconds
    uv run launch/approximate.py --betas=1.01,1.2 --out=/tmp/near

Writes summary.csv (one row per data set, λ and β), run.json, figure.png and figure.pdf to
results/approximate/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import approximate, command
from ntkreg.experiments.approximate_claims import claim
from ntkreg.experiments.approximate_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Least over the data sets at every λ and β: found, proved, and the theorem's."""
    rows = approximate.table(record)
    left_out = int((rows[rows.lam == rows.lam.min()].max_margin <= 0).sum())
    rows = rows[rows.max_margin > 0]
    lines = ["least margin over the max margin: worst network found (proved for all; theorem's)"]
    for beta, part in rows.groupby("beta"):
        lines.append(f"  β = {beta:g}  (theorem {part.theorem.iloc[0]:.3f})")
        least = part.groupby("lam", sort=False)[["worst_found", "least_proved"]].min()
        shown = (
            f"{lam:.0e}: {r.worst_found:.3f} ({r.least_proved:.3f})" for lam, r in least.iterrows()
        )
        lines.append("    " + "  ".join(shown))
    if left_out:
        lines.append(f"  {left_out} rows of data sets that no network separates left out")
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("approximate", approximate, figure, summary, lambda record: [claim(record)])
