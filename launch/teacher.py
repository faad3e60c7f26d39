"""Teachers in d = 20: the network's errors beside those of two kernels, and their margin bounds.

    uv run launch/teacher.py                      # three to five minutes on two cores
    uv run launch/teacher.py --preset=smoke       # seconds
    uv run launch/teacher.py --tasks=parity --sizes=80,640 --out=/tmp/parity

Writes summary.csv (one row per predictor, task, n and trial), run.json, figure.png and figure.pdf
to results/teacher/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, teacher
from ntkreg.experiments.teacher_claims import claims, table, tasks_of
from ntkreg.experiments.teacher_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Mean errors, bounds and margins over trials, by task, predictor and n."""
    rows, lines = table(record), []
    for task in tasks_of(rows):
        part = rows[rows.task == task]
        lines.append(f"{task}, d = {part.dim.iloc[0]}, means over {part.seed.nunique()} trials")
        columns = ["test_error", "bound", "normalized_margin", "solved"]
        means = part.groupby(["predictor", "num_samples"])[columns].mean()
        lines.append(means.dropna(axis="columns").to_string(float_format="%.4f"))
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("teacher", teacher, figure, summary, claims, table)
