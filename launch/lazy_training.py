"""When training is the kernel method: distances from the NTK against width and output scale.

    uv run launch/lazy_training.py                      # three to five minutes on two cores
    uv run launch/lazy_training.py --preset=smoke       # seconds
    uv run launch/lazy_training.py --losses=squared --num_seeds=3 --out=/tmp/lazy

Writes summary.csv (one row per network and time), run.json, figure.png and figure.pdf to
results/lazy_training/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, lazy_training
from ntkreg.experiments.lazy_training_claims import at_end, claims, table
from ntkreg.experiments.lazy_training_figure import figure
from ntkreg.records import Record

SHOWN = [
    "prediction_distance",
    "linearised_prediction_distance",
    "linearised_distance",
    "kernel_distance",
]


def summary(record: Record) -> str:
    """Means over seeds at the end of training."""
    rows = at_end(table(record))
    means = rows.groupby(["loss", "depth", "width", "output_scale"], sort=False)[SHOWN].mean()
    return f"relative distances at time {rows.time.max():g}, means over seeds\n" + means.to_string()


if __name__ == "__main__":
    command.main("lazy_training", lazy_training, figure, summary, claims, table)
