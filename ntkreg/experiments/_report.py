"""The table of claims: all experiments, and the page that is made of what they left."""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Sequence

from ntkreg.experiments import (
    _claims,
    approximate_claims,
    benchmark_claims,
    certify,
    finite_width_claims,
    lambda_path_claims,
    lazy_training_claims,
    line_claims,
    noisy_flow_claims,
    path_law_claims,
    phase_diagram_claims,
    practice_claims,
    regression_claims,
    regularization_claims,
    separation_claims,
    teacher_claims,
    transition_claims,
    width_claims,
)
from ntkreg.experiments._claims import Claim

EXPERIMENTS = {
    "separation": (separation_claims.CLAIM,),
    "certify": certify.EXPERIMENT.statements,
    "transition": (transition_claims.CLAIM,),
    "lambda_path": (*lambda_path_claims.CLAIMS, *path_law_claims.CLAIMS),
    "line": line_claims.CLAIMS,
    "approximate": (approximate_claims.CLAIM,),
    "width": width_claims.CLAIMS,
    "noisy_flow": noisy_flow_claims.CLAIMS,
    "finite_width": finite_width_claims.CLAIMS,
    "lazy_training": lazy_training_claims.CLAIMS,
    "regularization": regularization_claims.CLAIMS,
    "phase_diagram": phase_diagram_claims.CLAIMS,
    "regression": regression_claims.CLAIMS,
    "teacher": teacher_claims.CLAIMS,
    "practice": practice_claims.CLAIMS,
}


PRESETS = ("laptop", "thorough", "full")  # those whose results are kept


def experiments_with(preset: str) -> list[str]:
    """Their names; only some have `thorough`, all have the other presets."""
    module = lambda name: importlib.import_module(f"ntkreg.experiments.{name}")
    return [name for name in EXPERIMENTS if preset in module(name).PRESETS]


def page(results: pathlib.Path, presets: Sequence[str] = PRESETS) -> str:
    """The page: one row per claim and preset, "not run" where there is no record."""
    rows, figures = [], []
    for name, unrun in EXPERIMENTS.items():
        for preset in presets:
            if preset == "thorough" and not (results / name / preset).exists():
                continue  # some experiments have none
            rows += claims_of(results / name / preset, name, unrun)
            if (results / name / preset / "figure.png").exists():
                figures.append(f"![{name}, {preset}]({name}/{preset}/figure.png)\n")
    rows += accelerator_claims(results / "benchmark")
    return "\n".join(
        [
            "# Claims",
            "",
            f"Written by `uv run launch/reproduce.py --preset={presets[0]}`, which runs every "
            "experiment, from the `run.json` of each. Certified: whether the number rests on "
            "proofs, closed forms or certificates, whatever training reached. A command is told "
            "with the commit whose code it ran.",
            "",
            _claims.table(rows),
            *figures,
        ]
    )


def accelerator_claims(folder: pathlib.Path) -> list[Claim]:
    """The benchmark's claim on every accelerator that it ran on, else not run."""
    ran = [
        path.parent for path in sorted(folder.glob("*/run.json")) if "cpu" not in path.parent.name
    ]
    unrun = (benchmark_claims.ENGINE,)
    return [c for path in ran or [folder / "full"] for c in claims_of(path, "benchmark", unrun)]


def claims_of(folder: pathlib.Path, name: str, unrun: Sequence[Claim]) -> list[Claim]:
    """The claims of a finished run in `folder`, with command, hardware and time; else `unrun`."""
    path = folder / "run.json"
    if not path.exists():
        line = f"`uv run launch/{name}.py --preset={folder.name}`"
        return [dataclasses.replace(claim, command=line) for claim in unrun]
    run = json.loads(path.read_text())
    told = {
        "command": f"`uv run launch/{run['command']}` at {run['git'][:8]}",
        "hardware": run["hardware"],
        "time": f"{run['seconds']:.0f} s",
    }
    certified = {claim.statement: claim.certified for claim in unrun}
    return [
        Claim(**{**found, **told, "certified": certified.get(found["statement"], False)})
        for found in run["claims"]
    ]
