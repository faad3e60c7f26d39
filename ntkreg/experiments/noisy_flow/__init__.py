"""Claim III: noisy gradient descent at infinite width reaches the global optimum.

Particles of the perturbed Wasserstein gradient flow, on data whose global minimum is certified.
Initial particles that trap the flow without noise, at a level that is certified too, and what noise
makes of them; the iterations to a relative gap ε, against ε and against d, with σ tied to ε; and
the floor at which a constant σ and a number of particles end.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, Theorem 3.3.
"""

import pandas

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.noisy_flow import claims, figure, runs
from ntkreg.experiments.noisy_flow.claims import CLAIMS, ESCAPE, POLYNOMIAL, SET
from ntkreg.experiments.noisy_flow.runs import PRESETS, Config
from ntkreg.training import flows

__all__ = ["CLAIMS", "ESCAPE", "EXPERIMENT", "POLYNOMIAL", "PRESETS", "Config"]


def summary(table: pandas.DataFrame, config: Config) -> str:
    """Gaps by set and noise, iterations by ε and d, floors by σ, and what diverged."""
    escapes, floors = (table[table.part == part] for part in ("escape", "floor"))
    gaps = escapes.groupby([*SET, "start", "noise"]).final_gap.max().unstack("noise")
    arrivals = table[table.part == "arrival"].groupby(["dataset", "epsilon"]).iterations.mean()
    ends = floors.groupby(["dataset", "num_particles", "sigma"]).final_gap.mean().unstack()
    lines = [
        "final gap to the certified minimum, worst of the seeds",
        gaps.to_string(float_format="{:.1e}".format),
        "iterations to the gap, mean of the seeds",
        arrivals.unstack().to_string(na_rep=""),
        "floors: final gap by σ",
        ends.to_string(float_format="{:.1e}".format),
    ]
    unknown = table[~claims.is_proved(table)].groupby(SET).ngroups
    if unknown:
        lines += [f"{unknown} sets have a heuristic minimum only: no claim is made from them"]
    infinite = table[table.failed == "not finite"]
    if len(infinite):
        step = infinite.step_size.min()
        lines += [f"{len(infinite)} flows: " + flows.diverged(step, step / config.step_factor)]
    return "\n".join(lines)


EXPERIMENT = Experiment(
    "noisy_flow", Config, PRESETS, runs.points, runs.run, claims.claims, figure.figure, summary,
    CLAIMS, host=True, more=figure.film,
)  # fmt: skip
