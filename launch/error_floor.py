"""A floor under the error on D of every combination of the NTK's functions at a sample: proved.

    uv run launch/error_floor.py                      # half a minute on two cores
    uv run launch/error_floor.py --preset=thorough    # two minutes
    uv run launch/error_floor.py --preset=smoke       # seconds
    uv run launch/error_floor.py --depth=3 --out=/tmp/deeper

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/error_floor/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, error_floor

if __name__ == "__main__":
    _experiment.main(error_floor.EXPERIMENT)
