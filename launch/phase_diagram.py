"""Initial scale against λ on D: who learns without λ, who needs it, and the published baseline.

    uv run launch/phase_diagram.py                      # one to two minutes on two cores
    uv run launch/phase_diagram.py --preset=smoke       # seconds
    uv run launch/phase_diagram.py --widths=30 --num_seeds=10 --out=/tmp/phases

Writes summary.csv (one row per network), run.json, figure.png and figure.pdf to
results/phase_diagram/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, configs, phase_diagram
from ntkreg.experiments.phase_diagram_claims import claims, diagram, table
from ntkreg.experiments.phase_diagram_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Mean test errors, λ down and the initial scale across."""
    rows = diagram(table(record), configs.restored(phase_diagram.Config, record))
    lines = []
    for width, part in rows.groupby("width"):
        errors = part.pivot_table(index="lam", columns="init_scale", values="test_error")
        lines += [f"mean test error, width {width}", errors.to_string(float_format="{:.3f}".format)]
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("phase_diagram", phase_diagram, figure, summary, claims, table)
