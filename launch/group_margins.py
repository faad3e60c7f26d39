"""The max margin of a finite group's table, certified, and networks trained to it.

    uv run launch/group_margins.py                    # two minutes on two cores
    uv run launch/group_margins.py --preset=thorough  # modular addition to p = 53
    uv run launch/group_margins.py --preset=smoke     # seconds
    uv run launch/group_margins.py --cases=D4:64 --out=/tmp/mine

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/group_margins/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, group_margins

if __name__ == "__main__":
    _experiment.main(group_margins.EXPERIMENT)
