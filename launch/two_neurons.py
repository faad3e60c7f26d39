"""Two neurons on the group C₅: they fit its table, and never as two pure waves.

    uv run launch/two_neurons.py                    # two minutes on two cores
    uv run launch/two_neurons.py --preset=thorough  # 1,000 seeds of each scale
    uv run launch/two_neurons.py --preset=smoke     # seconds

Writes summary.csv (one row per flow), run.json, figure.png and figure.pdf to
results/two_neurons/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, two_neurons

if __name__ == "__main__":
    _experiment.main(two_neurons.EXPERIMENT)
