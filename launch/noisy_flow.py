"""Claim III: noisy gradient descent at infinite width reaches the global optimum.

    uv run launch/noisy_flow.py                      # two to five minutes on two cores
    uv run launch/noisy_flow.py --preset=thorough    # five to thirteen
    uv run launch/noisy_flow.py --preset=smoke       # seconds
    uv run launch/noisy_flow.py --problems=random:2:10 --sigma=1e-2 --out=/tmp/one

Writes summary.csv (one row per flow), run.json, figure.png, figure.pdf and particles.gif, in which
the particles of a small problem are trapped, escape and find the optimum, to
results/noisy_flow/PRESET. The same command goes on where an interrupted one ended.
"""

from ntkreg.experiments import command, noisy_flow
from ntkreg.experiments.noisy_flow_animation import animate
from ntkreg.experiments.noisy_flow_claims import SET, claims, table
from ntkreg.experiments.noisy_flow_figure import figure
from ntkreg.records import Record
from ntkreg.training import flows


def summary(record: Record) -> str:
    """Gaps by set and noise, iterations by ε and d, floors by σ, and what diverged."""
    rows = table(record)
    escapes, floors = (rows[rows.part == part] for part in ("escape", "floor"))
    lines = ["final gap to the certified minimum, worst of the seeds"]
    by_noise = escapes.groupby([*SET, "start", "noise"]).final_gap.max().unstack("noise")
    lines += [by_noise.to_string(float_format="{:.1e}".format)]
    arrivals = rows[rows.part == "arrival"].groupby(["dataset", "epsilon"]).iterations.mean()
    lines += ["iterations to the gap, mean of the seeds", arrivals.unstack().to_string(na_rep="")]
    ends = floors.groupby(["dataset", "num_particles", "sigma"]).final_gap.mean().unstack()
    lines += ["floors: final gap by σ", ends.to_string(float_format="{:.1e}".format)]
    unknown = rows[~rows.proved].groupby(SET).ngroups
    if unknown:
        lines += [f"{unknown} sets have a heuristic minimum only: no claim is made from them"]
    if rows.diverged.any():
        step = rows[rows.diverged].step_size.min()
        factor = record.identity["config"]["step_factor"]
        lines += [f"{rows.diverged.sum()} flows: " + flows.diverged(step, step / factor)]
    return "\n".join(lines)


if __name__ == "__main__":
    command.main("noisy_flow", noisy_flow, figure, summary, claims, table, animate)
