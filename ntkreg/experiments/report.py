"""The table of claims: all experiments, and the page that is made of what they left."""

import dataclasses
import pathlib

from ntkreg import claims
from ntkreg.experiments import (
    approximate,
    certify,
    command,
    finite_width_claims,
    lambda_path_claims,
    lazy_training_claims,
    noisy_flow_claims,
    path_law_claims,
    phase_diagram_claims,
    practice_claims,
    regression_claims,
    regularization_claims,
    separation,
    teacher_claims,
    transition,
    width_claims,
)

EXPERIMENTS = {
    "separation": (separation.CLAIM,),
    "certify": (certify.CLAIM,),
    "transition": (transition.CLAIM,),
    "lambda_path": (*lambda_path_claims.CLAIMS, *path_law_claims.CLAIMS),
    "approximate": (approximate.CLAIM,),
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


def page(results: pathlib.Path) -> str:
    """The page: one row per experiment and preset, "not run" where there is no record."""
    rows, figures = [], []
    for name, unrun in EXPERIMENTS.items():
        for preset in ("laptop", "full"):
            folder = results / name / preset
            line = f"`uv run launch/{name}.py --preset={preset}`"
            fallbacks = [dataclasses.replace(claim, command=line) for claim in unrun]
            rows += command.claims_of(folder, fallbacks)
            if (folder / "figure.png").exists():
                figures.append(f"![{name}, {preset}]({name}/{preset}/figure.png)\n")
    return "\n".join(
        [
            "# Claims",
            "",
            "Written by `uv run launch/reproduce.py` from the `run.json` of each experiment.",
            "",
            claims.table(rows),
            *figures,
        ]
    )
