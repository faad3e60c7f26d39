"""λ → 0 on a group's table under ‖Θ‖₂²: which representations, and how near the best margin.

    uv run launch/group_limit.py                    # minutes on two cores
    uv run launch/group_limit.py --preset=thorough  # more groups, widths and starts
    uv run launch/group_limit.py --preset=smoke     # seconds

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/group_limit/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, group_limit

if __name__ == "__main__":
    _experiment.main(group_limit.EXPERIMENT)
