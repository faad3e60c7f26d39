"""Claim II: as λ → 0 the regularised minimizer becomes the max-margin network, at any depth.

    uv run launch/lambda_path.py                      # four to seven minutes on two cores
    uv run launch/lambda_path.py --preset=thorough    # six to fifteen
    uv run launch/lambda_path.py --preset=classes     # two: three and four classes, certified
    uv run launch/lambda_path.py --preset=smoke       # seconds
    uv run launch/lambda_path.py --problems=random:3:12/2/100/relu/2 --out=/tmp/one

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/lambda_path/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, lambda_path

if __name__ == "__main__":
    _experiment.main(lambda_path.EXPERIMENT)
