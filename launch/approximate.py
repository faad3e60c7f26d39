"""Claim II, approximate minimizers: the worst margins of networks within β of the minimum.

    uv run launch/approximate.py                      # one to three minutes on two cores
    uv run launch/approximate.py --preset=thorough    # twice the data sets
    uv run launch/approximate.py --preset=smoke       # seconds
    uv run launch/approximate.py --betas=1.01,1.2 --out=/tmp/near

Writes summary.csv (one row per data set, λ and β), run.json, figure.png and figure.pdf to
results/approximate/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, approximate

if __name__ == "__main__":
    _experiment.main(approximate.EXPERIMENT)
