"""When training is the kernel method: distances from the NTK against width and output scale.

    uv run launch/lazy_training.py                      # three to five minutes on two cores
    uv run launch/lazy_training.py --preset=smoke       # seconds
    uv run launch/lazy_training.py --losses=squared --num_seeds=3 --out=/tmp/lazy

Writes summary.csv (one row per network and time), run.json, figure.png and figure.pdf to
results/lazy_training/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, lazy_training

if __name__ == "__main__":
    _experiment.main(lazy_training.EXPERIMENT)
