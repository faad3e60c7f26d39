"""The table of claims: all experiments, and the page that is made of what they left."""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Sequence

from ntkreg.experiments import _claims
from ntkreg.experiments._claims import Claim
from ntkreg.experiments._experiment import Experiment

EXPERIMENTS = (
    "separation", "certify", "transition", "lambda_path", "line", "approximate", "width",
    "noisy_flow", "finite_width", "lazy_training", "regularization", "phase_diagram", "regression",
    "teacher", "practice",
)  # fmt: skip
PRESETS = ("laptop", "thorough", "full")  # those whose results are kept


def experiment(name: str) -> Experiment:
    """The experiment of that name."""
    return importlib.import_module(f"ntkreg.experiments.{name}").EXPERIMENT


def experiments_with(preset: str) -> list[str]:
    """Their names; only some have `thorough`, all have the other presets."""
    return [name for name in EXPERIMENTS if preset in experiment(name).presets]


def page(results: pathlib.Path, presets: Sequence[str] = PRESETS) -> str:
    """The page: one row per claim and preset, "not run" where there is no record."""
    rows, figures = [], []
    for name in EXPERIMENTS:
        for preset in presets:
            if preset == "thorough" and not (results / name / preset).exists():
                continue  # some experiments have none
            rows += claims_of(results / name / preset, name)
            if (results / name / preset / "figure.png").exists():
                figures.append(f"![{name}, {preset}]({name}/{preset}/figure.png)\n")
    rows += accelerator_claims(results / "benchmark")
    return "\n".join(
        [
            "# Claims",
            "",
            f"Written by `uv run launch/reproduce.py --preset={presets[0]}`, which runs every "
            "experiment, from the `run.json` of each. Certified: whether the number rests on "
            "proofs, closed forms or certificates, whatever training reached. A command stands "
            "with the commit whose code it ran.",
            "",
            _claims.table(rows),
            *figures,
        ]
    )


def accelerator_claims(folder: pathlib.Path) -> list[Claim]:
    """The benchmark's claim on every accelerator that it ran on, else not run."""
    ran = [path.parent for path in sorted(folder.glob("*/run.json")) if not _is_cpu(path)]
    return [c for path in ran or [folder / "full"] for c in claims_of(path, "benchmark")]


def _is_cpu(run: pathlib.Path) -> bool:
    return "(cpu)" in json.loads(run.read_text())["hardware"]


def claims_of(folder: pathlib.Path, name: str) -> list[Claim]:
    """The claims of a finished run in `folder`, with command, hardware and time; else not run."""
    path, unrun = folder / "run.json", experiment(name).statements
    if not path.exists():
        line = f"`uv run launch/{name}.py --preset={folder.name}`"
        return [dataclasses.replace(claim, command=line) for claim in unrun]
    run = json.loads(path.read_text())
    where = {
        "command": f"`uv run launch/{run['command']}` at {run['git'][:8]}",
        "hardware": run["hardware"],
        "time": f"{run['seconds']:.0f} s",
    }
    certified = {claim.statement: claim.certified for claim in unrun}
    return [
        Claim(**{**found, **where, "certified": certified.get(found["statement"], False)})
        for found in run["claims"]
    ]
