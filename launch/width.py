"""Claim II, width: the max margin does not fall with width, and larger margins bound the error.

    uv run launch/width.py                      # two to five minutes on two cores
    uv run launch/width.py --preset=thorough    # six to twelve
    uv run launch/width.py --preset=smoke       # seconds
    uv run launch/width.py --error_sets=digits:1000 --out=/tmp/digits

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/width/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, width

if __name__ == "__main__":
    _experiment.main(width.EXPERIMENT)
