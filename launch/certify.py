"""The max margin of two-layer ReLU networks from both sides: trained, polished, certified.

    uv run launch/certify.py                      # two to four minutes on two cores
    uv run launch/certify.py --preset=thorough    # some six
    uv run launch/certify.py --preset=smoke       # seconds
    uv run launch/certify.py --problems=D:10:60:branch_and_bound,random:3:20:enumerate --out=/tmp/c

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/certify/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, certify

if __name__ == "__main__":
    _experiment.main(certify.EXPERIMENT)
