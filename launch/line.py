"""The paper's points on a line: network and ℓ1-SVM, their margins as λ falls and their functions.

    uv run launch/line.py                      # about a minute on two cores
    uv run launch/line.py --preset=smoke       # seconds
    uv run launch/line.py --sizes=8 --num_draws=3 --out=/tmp/line

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/line/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, line
from ntkreg.experiments.line_claims import MISSED, best_of_seeds, claims, minimizers, table
from ntkreg.experiments.line_figure import figure
from ntkreg.records import Record


def summary(record: Record) -> str:
    """Medians over data sets at every λ: margins and functions beside the ℓ1-SVM's."""
    rows = table(record)
    best = best_of_seeds(rows)
    lines = ["margin over half the ℓ1-SVM's, and distance of the functions: medians over data sets"]
    for name, part in (("true minimizer", minimizers(rows)), ("trained, best", best)):
        medians = part.groupby("lam", sort=False)[["svm_ratio", "function_gap"]].median()
        medians = medians[medians.svm_ratio > 0]  # at large λ minimizers err
        told = (f"{r.svm_ratio:.4f} ({r.function_gap:.1%})" for r in medians.itertuples())
        pairs = zip(medians.index, told, strict=True)
        lines.append(f"  {name:<16}" + "  ".join(f"{lam:.0e}: {one}" for lam, one in pairs))
    missed = best[~(best.optimality_gap < MISSED)].groupby("lam", sort=False).size()
    where = ", ".join(f"{number} at {lam:.0e}" for lam, number in missed.items()) or "none"
    sets = best.groupby(["num_samples", "draw"]).ngroups
    lines.append(f"  sets of {sets} whose best is {MISSED:.0%} or more above the minimum: {where}")
    return "\n".join([*lines, "  there the optimizer fell short, not the theorem"])


if __name__ == "__main__":
    command.main("line", line, figure, summary, claims, table)
