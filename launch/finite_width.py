"""The open question: does gradient descent reach the global optimum at finite width?

    uv run launch/finite_width.py                      # two to four minutes on two cores
    uv run launch/finite_width.py --preset=thorough    # four to eleven
    uv run launch/finite_width.py --preset=smoke       # seconds
    uv run launch/finite_width.py --lams=3e-3 --widths=8,32,128 --out=/tmp/one

Writes summary.csv (one row per network and data set), arrays.npz, run.json, figure.png and
figure.pdf to results/finite_width/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, finite_width

if __name__ == "__main__":
    _experiment.main(finite_width.EXPERIMENT)
