"""Claim III: noisy gradient descent at infinite width reaches the global optimum.

    uv run launch/noisy_flow.py                      # two to five minutes on two cores
    uv run launch/noisy_flow.py --preset=thorough    # five to thirteen
    uv run launch/noisy_flow.py --preset=smoke       # seconds
    uv run launch/noisy_flow.py --problems=random:2:10 --sigma=1e-2 --out=/tmp/one

Writes summary.csv (one row per flow), run.json, figure.png, figure.pdf and particles.gif, in which
the particles of a small problem are trapped, escape and find the optimum, to
results/noisy_flow/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, noisy_flow

if __name__ == "__main__":
    _experiment.main(noisy_flow.EXPERIMENT)
