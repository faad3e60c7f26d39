"""The open question: does gradient descent reach the global optimum at finite width?

Two-layer networks of growing width are trained on F_λ from many initial parameters, by gradient
descent at the stable step, with and without the resampling noise of the infinite-width theory, and
by Adam. The end of each run is global (within 1e-3 of the certified minimum), stationary but not
global, or unfinished. Narrow networks are then continued by `insertion`, the cure.

Source: the slides' last line; Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, for infinite width.
"""

import pandas

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.finite_width import claims, figure, runs
from ntkreg.experiments.finite_width.claims import CLAIMS, CURING, NOISE, SUCCESS
from ntkreg.experiments.finite_width.runs import CURE, PRESETS, Config

__all__ = ["CLAIMS", "CURING", "EXPERIMENT", "NOISE", "PRESETS", "SUCCESS", "Config"]


def summary(table: pandas.DataFrame, config: Config) -> str:
    """The share of successes by width, of every optimizer, λ, noise and size."""
    rows = table.assign(share=table.successes / table.starts)
    by = ["optimizer", "rank", "lam", "noise", "init_scale", "num_samples"]
    shares = rows[rows.optimizer != CURE].pivot_table(index=by, columns="width", values="share")
    ends = rows[["starts", "successes", "stationary", "unfinished"]].sum()
    lines = [
        "share of runs within 1e-3 of the certified minimum, by width",
        shares.to_string(float_format="{:.2f}".format, na_rep=""),
        f"{ends.starts} runs: {ends.successes} global, {ends.stationary} stationary and not, "
        f"{ends.unfinished} unfinished: there the optimizer says nothing of the landscape",
    ]
    unknown = rows[rows.proved.eq(False)].groupby(["rank", "num_samples", "draw"]).ngroups
    if unknown:
        lines += [f"{unknown} sets have a heuristic minimum only: no claim is made from them"]
    return "\n".join(lines)


EXPERIMENT = Experiment(
    "finite_width", Config, PRESETS, runs.points, runs.run, claims.claims, figure.figure, summary,
    CLAIMS, table=runs.table, host=True,
)  # fmt: skip
