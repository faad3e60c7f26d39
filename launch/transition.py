"""Where the planted network becomes the sample's max-margin network, decided from both sides.

    uv run launch/transition.py                      # one to two minutes on two cores
    uv run launch/transition.py --preset=thorough    # some twenty
    uv run launch/transition.py --preset=smoke       # seconds
    uv run launch/transition.py --dims=10,20 --out=/tmp/small

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/transition/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, transition

if __name__ == "__main__":
    _experiment.main(transition.EXPERIMENT)
