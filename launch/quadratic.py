"""D with z² networks, whose kernel has the target among its features: certified, in any dimension.

    uv run launch/quadratic.py                    # two minutes on two cores
    uv run launch/quadratic.py --preset=thorough  # to d = 60, 20 samples
    uv run launch/quadratic.py --preset=smoke     # seconds

Writes summary.csv (one row per sample and predictor), run.json, figure.png and figure.pdf to
results/quadratic/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, quadratic

if __name__ == "__main__":
    _experiment.main(quadratic.EXPERIMENT)
