"""In practice: networks against their exact kernels on digits, MNIST and CIFAR-10.

    uv run launch/practice.py                   # two to four minutes on two cores: digits alone
    uv run launch/practice.py --preset=thorough # five to nine
    uv run launch/practice.py --preset=smoke    # seconds
    uv run launch/practice.py --datasets=mnist --folder=FOLDER --out=/tmp/mnist

FOLDER holds mnist.npz and cifar10.npz: x, integers 0 … 255 of shape (n, 28, 28) or (n, 32, 32, 3),
and y, the classes 0 … 9. With --folder=openml they are fetched from there, never otherwise.

Writes summary.csv (one row per network or kernel), run.json, figure.png and figure.pdf to
results/practice/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, practice
from ntkreg.experiments.practice_claims import claims, table
from ntkreg.experiments.practice_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Mean test errors by n."""
    rows = table(record)
    names = ["dataset", "model", "predictor", "schedule", "num_samples"]
    errors = rows.groupby(names, sort=False).test_error.mean().unstack()
    return f"test error, mean over seeds\n{errors.round(4).to_string()}"


if __name__ == "__main__":
    command.main("practice", practice, figure, summary, claims, table)
