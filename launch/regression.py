"""Claim I for the squared loss: the network learns from O(d) samples, its NTK needs Ω(d²).

    uv run launch/regression.py                      # three to five minutes on two cores
    uv run launch/regression.py --preset=smoke       # seconds
    uv run launch/regression.py --laws=D --dims=10,20 --out=/tmp/small

Writes summary.csv (one row per cell), run.json, figure.png and figure.pdf to
results/regression/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, regression
from ntkreg.experiments.regression_claims import claims, scaling
from ntkreg.experiments.regression_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Mean test error over seeds by law, predictor, dimension and n, and the fitted slopes."""
    table = record.table()
    lines = []
    for (law, predictor), rows in table.groupby(["law", "predictor"], sort=False):
        found = scaling(table, law, predictor)
        low, high = found.slope_interval
        slope = f"n ∝ d^{found.slope:.2f} [{low:.2f}, {high:.2f}]" if len(found.dims) > 1 else ""
        unsolved = int((~rows.solved.astype(bool)).sum())
        lines.append(f"{law}, {predictor}  {slope}  {unsolved} of {len(rows)} cells not solved")
        for dim, group in rows.groupby("dim"):
            means = group.groupby("num_samples").test_error.mean()
            lines.append(f"  d={dim:<4} " + "  ".join(f"n={n}: {e:.3f}" for n, e in means.items()))
    return "\n".join(["mean test error on fresh points", *lines])


if __name__ == "__main__":
    command.main("regression", regression, figure, summary, claims)
