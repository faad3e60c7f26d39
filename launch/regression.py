"""Claim I for the squared loss: the network learns from O(d) samples, its NTK needs Ω(d²).

    uv run launch/regression.py                      # three to five minutes on two cores
    uv run launch/regression.py --preset=smoke       # seconds
    uv run launch/regression.py --laws=D --dims=10,20 --out=/tmp/small

Writes summary.csv (one row per predictor, n and seed), run.json, figure.png and figure.pdf to
results/regression/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, regression

if __name__ == "__main__":
    _experiment.main(regression.EXPERIMENT)
