"""The max margin of two-layer ReLU networks from both sides: trained, polished, certified.

    uv run launch/certify.py                      # two to four minutes on two cores
    uv run launch/certify.py --preset=thorough    # some six
    uv run launch/certify.py --preset=smoke       # seconds
    uv run launch/certify.py --problems=D:10:60:branch_and_bound,random:3:20:enumerate --out=/tmp/c

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/certify/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import certify, command
from ntkreg.experiments.certify_claims import claim
from ntkreg.experiments.certify_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Bounds by problem: of the first seed, and the largest gap over seeds."""
    lines = ["problem: trained ≤ polished ≤ lower … upper of seed 0; largest gap of all seeds"]
    for names, rows in certify.table(record).groupby(list(certify.AXIS), sort=False):
        first = rows.iloc[0]
        lines.append(
            f"  {':'.join(map(str, names)):<32} {first.trained_margin:.6f} ≤ "
            f"{first.polished_margin:.6f} ≤ {first.lower:.6f} … {first.upper:.6f}  "
            f"{rows.gap.max():.1e} {'/'.join(sorted(set(rows.kind)))}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("certify", certify, figure, summary, lambda record: [claim(record)])
