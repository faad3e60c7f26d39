"""What λ breaks: the same start with and without ℓ2, its margin, error, patterns and kernel.

    uv run launch/regularization.py                      # three to five minutes on two cores
    uv run launch/regularization.py --preset=smoke       # seconds
    uv run launch/regularization.py --datasets=D --lams=0,1e-3,1e-2 --out=/tmp/lams

Writes summary.csv (one row per network and look), run.json, figure.png and figure.pdf to
results/regularization/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, regularization
from ntkreg.experiments.regularization_claims import COMPARED, claims, table
from ntkreg.experiments.regularization_figure import figure
from ntkreg.records import Record

GROUPS = ["look", "dataset", "num_samples", "width", "lam"]
SHOWN = [*COMPARED, "kernel_distance", "prediction_distance", "step"]


def summary(record: Record) -> str:
    """Means over seeds where the training error is first 0, and at the end."""
    rows = table(record)
    means = rows[rows.look != "on the way"].groupby(GROUPS, sort=False)[SHOWN].mean()
    return "means over seeds\n" + means.sort_index().to_string(float_format="{:.4g}".format)


if __name__ == "__main__":
    command.main("regularization", regularization, figure, summary, claims, table)
