"""Initial scale against λ on D: who learns without λ, who needs it, and the published baseline.

    uv run launch/phase_diagram.py                      # one to two minutes on two cores
    uv run launch/phase_diagram.py --preset=smoke       # seconds
    uv run launch/phase_diagram.py --widths=30 --num_seeds=10 --out=/tmp/phases

Writes summary.csv (one row per network), run.json, figure.png and figure.pdf to
results/phase_diagram/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import _experiment, phase_diagram

if __name__ == "__main__":
    _experiment.main(phase_diagram.EXPERIMENT)
