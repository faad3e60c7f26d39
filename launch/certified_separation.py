"""Network against kernel on D with proofs on both sides: no optimizer, no test set.

    uv run launch/certified_separation.py                      # a minute on two cores
    uv run launch/certified_separation.py --preset=thorough    # to d = 10, ten minutes
    uv run launch/certified_separation.py --preset=smoke       # seconds

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/certified_separation/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, certified_separation

if __name__ == "__main__":
    _experiment.main(certified_separation.EXPERIMENT)
