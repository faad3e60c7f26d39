"""Claim I: the ℓ2-regularised network learns D from O(d) samples, its NTK needs Ω(d²).

    uv run launch/separation.py                      # two minutes on two cores
    uv run launch/separation.py --preset=thorough    # to d = 80: ten
    uv run launch/separation.py --preset=smoke       # seconds
    uv run launch/separation.py --dims=10,20 --out=/tmp/small

Writes summary.csv (one row per run), arrays.npz (the functions that are drawn), run.json,
figure.png and figure.pdf to results/separation/PRESET. The same command goes on where an
interrupted one ended.
"""

from ntkreg.experiments import _experiment, separation

if __name__ == "__main__":
    _experiment.main(separation.EXPERIMENT)
