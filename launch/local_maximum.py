"""From how many samples on the planted network is a local maximum of the margin: predicted.

    uv run launch/local_maximum.py                      # a minute on two cores
    uv run launch/local_maximum.py --preset=thorough    # half an hour
    uv run launch/local_maximum.py --preset=smoke       # seconds
    uv run launch/local_maximum.py --dims=10,30 --num_seeds=20,20 --out=/tmp/small

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/local_maximum/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, local_maximum

if __name__ == "__main__":
    _experiment.main(local_maximum.EXPERIMENT)
