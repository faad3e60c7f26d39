"""The pages that are made of what the experiments left: a table of claims, a page an experiment."""

import importlib
import inspect
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ntkreg.experiments import _claims
from ntkreg.experiments._claims import Claim, Status
from ntkreg.experiments._experiment import Experiment

EXPERIMENTS = (
    "separation", "certified_separation", "error_floor", "certify", "transition", "local_maximum",
    "planted_proof", "lambda_path", "line",
    "approximate", "width", "noisy_flow", "finite_width", "lazy_training", "regularization",
    "phase_diagram", "regression", "teacher", "practice", "groups", "two_neurons", "group_margins",
    "group_limit", "quadratic",
)  # fmt: skip
# Those whose results are kept, the largest last. Five of them are of one or two experiments; `cure`
# has more to say of the claim that it is run for than any other.
PRESETS = (
    "laptop", "classes", "open_experiment", "S4", "thorough", "more_groups", "mnist",
    "full", "cure",
)  # fmt: skip
SIZES = ("laptop", "thorough", "full")
STATUSES: tuple[Status, ...] = ("holds", "undecided", "fails", "finding")


class Run(NamedTuple):
    """What one preset of an experiment left.

    Attributes:
      preset: its name.
      known: what run.json holds.
      claims: as they were judged.
    """

    preset: str
    known: dict[str, Any]
    claims: tuple[Claim, ...]


def experiment(name: str) -> Experiment:
    """The experiment of that name."""
    return importlib.import_module(f"ntkreg.experiments.{name}").EXPERIMENT


def experiments_with(preset: str) -> list[str]:
    """Their names; only some have `thorough`, all have the other presets."""
    return [name for name in EXPERIMENTS if preset in experiment(name).presets]


def runs_of(folder: pathlib.Path, presets: Iterable[str] = PRESETS) -> list[Run]:
    """The runs in an experiment's folder, the largest preset last."""
    found = []
    for preset in presets:
        path = folder / preset / "run.json"
        if path.exists():
            known = json.loads(path.read_text())
            found.append(Run(preset, known, tuple(map(_claims.restored, known["claims"]))))
    return found


def measured(runs: Sequence[Run], claim: Claim) -> tuple[Claim, str]:
    """The claim as the largest preset measured it, and the preset; as it stands where none did."""
    found = [(one, run.preset) for run in runs for one in run.claims if _is(one, claim)]
    return found[-1] if found else (claim, "")


def _is(one: Claim, claim: Claim) -> bool:
    return one.statement == claim.statement


def page(results: pathlib.Path, presets: Sequence[str] = PRESETS) -> str:
    """The table: how many claims hold, a row for each that was run, and which were not."""
    rows, statuses, unrun = [], [], []
    for name in (*EXPERIMENTS, "benchmark"):
        runs = _runs_of(results, name, presets)
        for claim in experiment(name).statements:
            found, preset = measured(runs, claim)
            if found.checks:
                statuses.append(found.status)
                rows.append(_row(found, preset, name))
            else:
                unrun.append(f"- {claim.statement}: `uv run launch/{name}.py`\n")
    counted = ", ".join(f"{n} {s}" for s in STATUSES if (n := statuses.count(s)))
    apart = f"\nNot run:\n\n{''.join(unrun)}" if unrun else ""
    return f"""# Claims

**Claims by status: {counted or "none was run"}.**

A claim is judged by all its checks, on the largest preset that was run. Its row has the check that
decides, with its 95 % interval or both sides of its certificate; the last column leads to all of
them. *undecided*: the interval contains the bound. *finding*: measured, with nothing to hold it
against. Written by `uv run launch/reproduce.py`.

{_table(["claim", "source", "measured", "must be", "status", "run"], rows)}{apart}"""


def _row(claim: Claim, preset: str, name: str) -> list[str]:
    page = f"[{name}]({name}/README.md)"
    check = claim.deciding
    shown = f"{check.what}: {check.found}"
    return [claim.statement, claim.source, shown, check.required, claim.status, f"{page}, {preset}"]


def _runs_of(results: pathlib.Path, name: str, presets: Sequence[str]) -> list[Run]:
    """The runs of an experiment; of the benchmark a preset is the machine that it ran on."""
    folder = results / name
    machines = sorted(path.parent.name for path in folder.glob("*/run.json"))
    return runs_of(folder, machines if name == "benchmark" else presets)


def experiment_page(results: pathlib.Path, name: str, presets: Sequence[str] = PRESETS) -> str:
    """What an experiment asks, its picture, every check at every preset, and what was run."""
    runs = _runs_of(results, name, presets)
    text = inspect.getdoc(importlib.import_module(f"ntkreg.experiments.{name}")) or ""
    title, *rest = text.split("\n", 1)
    drawn = [run.preset for run in runs if (results / name / run.preset / "figure.png").exists()]
    # That of the largest size: presets of one experiment each fill few of its panels.
    largest = [preset for preset in drawn if preset in SIZES] or drawn
    picture = f"![{name}]({largest[-1]}/figure.png)\n\n" if largest else ""
    statements = experiment(name).statements
    parts = [_checks(claim, runs) for claim in statements if measured(runs, claim)[1]]
    return f"""# {title.rstrip(".")}

{picture}{"".join(rest).strip()}

## What was checked

{"".join(parts)}## What was run

{_table(["preset", "command", "commit", "time", "machine"], (_ran(run, drawn) for run in runs))}
{_settings(runs)}"""


def _checks(claim: Claim, runs: Sequence[Run]) -> str:
    """A claim's checks, one a row, with the presets side by side, and what is counted apart."""
    ran = {run.preset: one for run in runs for one in run.claims if _is(one, claim)}
    last = list(ran.values())[-1]
    whats = dict.fromkeys(check.what for one in ran.values() for check in one.checks)
    rows = []
    for what in whats:
        found = [next((c for c in one.checks if c.what == what), None) for one in ran.values()]
        required = next(check.required for check in reversed(found) if check)
        cells = [f"{c.found}, {c.runs}: **{c.status}**" if c else "—" for c in found]
        rows.append([what, required, *cells])
    apart = [f"- {preset}: {words}\n" for preset, one in ran.items() for words in one.apart]
    note = f"\nCounted apart:\n\n{''.join(apart)}" if apart else ""
    certified = "; rests on proofs or closed forms" if claim.certified else ""
    statement = claim.statement.replace("*", r"\*")  # the star of γ* would end the bold type
    return (
        f"**{statement}** ({claim.source}{certified}): **{last.status}**\n\n"
        f"{_table(['check', 'must be', *ran], rows)}{note}\n"
    )


def _ran(run: Run, drawn: Sequence[str]) -> list[str]:
    known = run.known
    preset = f"[{run.preset}]({run.preset}/figure.png)" if run.preset in drawn else run.preset
    command = f"`uv run launch/{known['command']}`"
    return [preset, command, known["git"][:8], f"{known['seconds']:.0f} s", known["hardware"]]


def _settings(runs: Sequence[Run]) -> str:
    """The configuration of every preset, out of sight until it is wanted."""
    names = dict.fromkeys(name for run in runs for name in run.known.get("config", {}))
    rows = [[name, *(setting(run.known["config"].get(name)) for run in runs)] for name in names]
    table = _table(["setting", *(run.preset for run in runs)], rows)
    return f"<details><summary>Settings</summary>\n\n{table}\n</details>\n" if rows else ""


def setting(value: Any) -> str:
    """A setting as it is printed."""
    if isinstance(value, list):
        return ", ".join(map(setting, value))
    return "—" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    cells = lambda line: " | ".join(cell.replace("|", "\\|") for cell in line)
    return "".join(f"| {cells(line)} |\n" for line in lines)
