"""Claim II: as λ → 0 the regularised minimizer becomes the max-margin network, at any depth.

    uv run launch/lambda_path.py                      # four to seven minutes on two cores
    uv run launch/lambda_path.py --preset=thorough    # six to fifteen
    uv run launch/lambda_path.py --preset=smoke       # seconds
    uv run launch/lambda_path.py --problems=random:3:12/2/100/relu/2 --out=/tmp/one

Writes summary.csv (one row per network and λ), run.json, figure.png and figure.pdf to
results/lambda_path/PRESET. The same command goes on where an interrupted one ended.

Your own arrays, and network:

    uv run launch/lambda_path.py --data=FILE.npz [--depth=2 --width=100]
    uv run launch/lambda_path.py --data=FILE.npz --module=package.module:Class

FILE.npz holds x, floats of shape (n, d), and y of shape (n,), ±1 or class indices 0 … k − 1; and
if you like x_test and y_test. Class is a Flax module, linen or nnx, found from here, homogeneous
and with one output for ±1, k for classes. Further flags: num_seeds, lams, num_steps, finish_steps,
learning_rate. Results go to results/lambda_path/FILE: ‖Θ‖, margins, errors, and whether the
optimizer got there.
"""

import sys

from ntkreg.experiments import (
    command,
    lambda_path,
    lambda_path_claims,
    path_law_claims,
    user_path,
    user_path_figure,
)
from ntkreg.experiments.lambda_path_figure import figure
from ntkreg.experiments.lambda_path_table import COLUMNS, PROBLEM, best_of_seeds, table
from ntkreg.records import Record


def summary(record: Record) -> str:
    """The ratio at each λ of the best seed, median over draws, by problem."""
    rows = table(record)
    best = best_of_seeds(rows)
    lines = ["margin over the reference, best of the seeds (median over draws), and the law's"]
    for names, part in best.groupby(list(PROBLEM[:-1]), sort=False):
        lines.append(f"  {'/'.join(map(str, names))}  ({part.reference_kind.iloc[0]})")
        for title, column in (("trained", "ratio"), ("law", "predicted_ratio")):
            medians = part.groupby("lam", sort=False)[column].median()
            shown = "  ".join(f"{lam:.0e}: {value:.4f}" for lam, value in medians.items())
            lines.append(f"    {title:<8}{shown}")
    inseparable = rows[(rows.start == "certified") & (rows.reference_margin <= 0)]
    if len(inseparable):
        number = inseparable.groupby(list(PROBLEM)).ngroups
        lines.append(f"  {number} data sets that no network of this kind separates: margins ≤ 0")
    trained = rows[rows.start != "certified"]
    done = f"{trained.converged.mean():.0%} of {len(trained)} networks converged"
    lines.append(f"  {done}; where one has not, the optimizer fell short, not the theorem")
    return "\n".join(lines)


if __name__ == "__main__":
    data = user_path.asked(sys.argv[1:])
    if data is not None:
        command.main(
            "lambda_path",
            user_path,
            user_path_figure.figure,
            user_path.summary,
            claims=lambda record: [],
            folder=lambda preset: user_path.folder(str(data)),
        )
    else:
        command.main(
            "lambda_path",
            lambda_path,
            figure,
            summary,
            lambda record: lambda_path_claims.claims(record) + path_law_claims.claims(record),
            lambda record: table(record)[[*COLUMNS]],
        )
