"""Which representations of a finite group a small network learns under weight decay.

    uv run launch/groups.py                           # 20 seeds: two minutes on two cores
    uv run launch/groups.py --preset=open_experiment  # as it was posed, 100 seeds: five minutes
    uv run launch/groups.py --preset=thorough         # annealed, widths 2 to 16
    uv run launch/groups.py --preset=smoke            # seconds

Writes summary.csv (one row per run), key_sets.csv, arrays.npz (the final parameters), run.json,
README.md, figure.png and figure.pdf to results/groups/PRESET. The same command goes on where an
interrupted one ended.
"""

from ntkreg.experiments import _experiment, groups

if __name__ == "__main__":
    _experiment.main(groups.EXPERIMENT)
