"""Claim I: the ℓ2-regularised network learns D from O(d) samples, its NTK needs Ω(d²).

    uv run launch/separation.py                      # two to three minutes on two cores
    uv run launch/separation.py --preset=thorough    # to d = 80: some five
    uv run launch/separation.py --preset=smoke       # seconds
    uv run launch/separation.py --dims=10,20 --out=/tmp/small

Writes summary.csv (one row per cell), run.json, figure.png and figure.pdf to
results/separation/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, separation, separation_claims
from ntkreg.experiments.separation_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Mean test error over seeds by predictor, dimension and n, and the fitted slopes."""
    table = record.table()
    lines = []
    for predictor in record.identity["config"]["predictors"]:
        found = separation_claims.scaling(record, predictor)
        low, high = found.slope_interval
        slope = f"n ∝ d^{found.slope:.2f} [{low:.2f}, {high:.2f}]" if len(found.dims) > 1 else ""
        lines.append(f"{predictor}  {slope}")
        rows = table[table.predictor == predictor]
        for dim, group in rows.groupby("dim"):
            means = group.groupby("num_samples").test_error.mean()
            shown = "  ".join(f"n={n}: {error:.3f}" for n, error in means.items())
            lines.append(f"  d={dim:<4} {shown}")
        unsolved = int((~rows.solved.astype(bool)).sum())
        if unsolved:
            lines.append(
                f"  {unsolved} of {len(rows)} cells not solved: no evidence on the theorem"
            )
    return "\n".join(["mean test error on fresh points", *lines])


if __name__ == "__main__":
    claims = lambda record: [separation_claims.claim(record)]
    command.main("separation", separation, figure, summary, claims)
