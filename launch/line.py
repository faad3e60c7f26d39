"""The paper's points on a line: network and ℓ1-SVM, their margins as λ falls and their functions.

    uv run launch/line.py                      # about a minute on two cores
    uv run launch/line.py --preset=smoke       # seconds
    uv run launch/line.py --sizes=8 --num_draws=3 --out=/tmp/line

Writes summary.csv (one row per network and λ), arrays.npz (functions), run.json, figure.png and
figure.pdf to results/line/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, line

if __name__ == "__main__":
    _experiment.main(line.EXPERIMENT)
