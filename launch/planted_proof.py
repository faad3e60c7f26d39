"""Whether the planted network has a sample's max margin, decided by proofs at d = 20 too.

    uv run launch/planted_proof.py                      # minutes on two cores
    uv run launch/planted_proof.py --preset=thorough    # to d = 20, half an hour
    uv run launch/planted_proof.py --preset=smoke       # seconds
    uv run launch/planted_proof.py --dims=16 --out=/tmp/small

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/planted_proof/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, planted_proof

if __name__ == "__main__":
    _experiment.main(planted_proof.EXPERIMENT)
