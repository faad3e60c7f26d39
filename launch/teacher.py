"""Teachers in d = 20: the network's errors beside those of two kernels, and their margin bounds.

    uv run launch/teacher.py                      # three to five minutes on two cores
    uv run launch/teacher.py --preset=smoke       # seconds
    uv run launch/teacher.py --tasks=parity --sizes=80,640 --out=/tmp/parity

Writes summary.csv (one row per predictor, task, n and trial), run.json, figure.png and figure.pdf
to results/teacher/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, teacher

if __name__ == "__main__":
    _experiment.main(teacher.EXPERIMENT)
