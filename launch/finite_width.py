"""The open question: does gradient descent reach the global optimum at finite width?

    uv run launch/finite_width.py                      # two to four minutes on two cores
    uv run launch/finite_width.py --preset=thorough    # four to eleven
    uv run launch/finite_width.py --preset=smoke       # seconds
    uv run launch/finite_width.py --lams=3e-3 --widths=8,32,128 --out=/tmp/one

Writes summary.csv (one row per network and data set), run.json, figure.png and figure.pdf to
results/finite_width/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, finite_width
from ntkreg.experiments.finite_width_claims import claims, table
from ntkreg.experiments.finite_width_figure import figure
from ntkreg.experiments.finite_width_runs import CURE
from ntkreg.records import Record


def summary(record: Record) -> str:
    """The share of successes by width, of every optimizer, λ, noise and size."""
    rows = table(record)
    rows = rows.assign(share=rows.successes / rows.starts)
    by = ["optimizer", "rank", "lam", "noise", "init_scale", "num_samples"]
    lines = ["share of starts within 1e-3 of the certified minimum, by width"]
    trained = rows[rows.optimizer != CURE]
    lines += [trained.pivot_table(index=by, columns="width", values="share").to_string(
        float_format="{:.2f}".format, na_rep=""
    )]  # fmt: skip
    ends = rows[["starts", "successes", "stationary", "unfinished"]].sum()
    lines += [
        f"{ends.starts} runs: {ends.successes} global, {ends.stationary} stationary and not, "
        f"{ends.unfinished} unfinished: there the optimizer says nothing of the landscape"
    ]
    unknown = rows[~rows.proved].groupby(["rank", "num_samples", "draw"]).ngroups
    if unknown:
        lines += [f"{unknown} sets have a heuristic minimum only: no claim is made from them"]
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("finite_width", finite_width, figure, summary, claims, table)
