"""Where the planted network becomes the sample's max-margin network, decided from both sides.

    uv run launch/transition.py                      # one to two minutes on two cores
    uv run launch/transition.py --preset=thorough    # some twenty
    uv run launch/transition.py --preset=smoke       # seconds
    uv run launch/transition.py --dims=10,20 --out=/tmp/small

Writes summary.csv (one row per sample), run.json, figure.png and figure.pdf to
results/transition/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, transition
from ntkreg.experiments.transition_claims import claim, curve
from ntkreg.experiments.transition_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """The shares of samples by dimension and n."""
    lines = ["share of samples on which the planted network is optimal (its local condition holds)"]
    for dim in record.identity["config"]["dims"]:
        n, optimal = curve(record, dim, "optimal")
        _, local = curve(record, dim, "local")
        shares = zip(n, optimal.mean(-1), local.mean(-1), strict=True)
        shown = "  ".join(f"n={m}: {share:.2f} ({near:.2f})" for m, share, near in shares)
        lines.append(f"  d={dim:<4} {shown}")
    undecided = int((record.arrays["refuted"] == record.arrays["optimal"]).sum())
    if undecided:
        lines.append(f"  {undecided} samples undecided: no evidence for either side")
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("transition", transition, figure, summary, lambda record: [claim(record)])
