"""Committed results judged again, as they are or with a changed table."""

import json
import pathlib

from ntkreg.experiments import _experiment, _report
from ntkreg.sweeps import load

RESULTS = pathlib.Path(__file__).parents[1] / "results"


def judged(name, edit=lambda rows: rows, preset="laptop"):
    """The claims of an experiment by statement, from a preset's table that `edit` has changed."""
    experiment, folder = _report.experiment(name), RESULTS / name / preset
    fields = json.loads((folder / "run.json").read_text())["config"]
    config = _experiment.restored(experiment.config, fields)
    return {c.statement: c for c in experiment.claims(edit(load(folder)), config)}


def status(name, claim, edit=lambda rows: rows, preset="laptop"):
    """The status of one claim; "not run" where the table has no runs of it."""
    found = judged(name, edit, preset)
    return found[claim.statement].status if claim.statement in found else "not run"
