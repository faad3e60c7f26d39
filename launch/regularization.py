"""What λ breaks: the same start with and without ℓ2, its margin, error, patterns and kernel.

    uv run launch/regularization.py                      # three to five minutes on two cores
    uv run launch/regularization.py --preset=smoke       # seconds
    uv run launch/regularization.py --datasets=D --lams=0,1e-3,1e-2 --out=/tmp/lams

Writes summary.csv (one row per network and measurement), run.json, figure.png and figure.pdf to
results/regularization/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, regularization

if __name__ == "__main__":
    _experiment.main(regularization.EXPERIMENT)
