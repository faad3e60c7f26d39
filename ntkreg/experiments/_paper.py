"""The page that sets the paper beside ours: docs/paper.md.in, with what is measured filled in."""

import dataclasses
import functools
import importlib
import pathlib
from typing import Any

import jinja2

from ntkreg.experiments import _report
from ntkreg.experiments._claims import Claim

NOT_RUN = "not run"
VERDICTS = {"holds": "agreed", "fails": "differs"}  # the other statuses are words of their own


def page(results: pathlib.Path, template: pathlib.Path) -> str:
    """The text of `template` filled in from `results`; "not run" where there are none.

    A name in it that is no experiment, claim, check or setting is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        finalize=_report.setting,
        keep_trailing_newline=True,
    )
    module = lambda name: importlib.import_module(f"ntkreg.experiments.{name}")
    return environment.get_template(template.name).render(
        {name: module(name) for name in _report.EXPERIMENTS},
        config={name: config(results, name) for name in _report.EXPERIMENTS},
        status=functools.partial(status, results),
        check=functools.partial(check, results),
    )


def config(results: pathlib.Path, name: str) -> dict[str, Any]:
    """The settings of an experiment's largest preset that was run."""
    runs = _report.runs_of(results / name)
    fields = dataclasses.fields(_report.experiment(name).config)
    return runs[-1].known["config"] if runs else {field.name: NOT_RUN for field in fields}


def experiment_of(claim: Claim) -> str:
    """The name of the experiment that makes the claim.

    Raises:
      KeyError: where none does.
    """
    for name in _report.EXPERIMENTS:
        if claim in _report.experiment(name).statements:
            return name
    raise KeyError(claim.statement)


def status(results: pathlib.Path, claim: Claim) -> str:
    """The verdict, with the experiment's page and the preset."""
    name = experiment_of(claim)
    found, preset = _report.measured(_report.runs_of(results / name), claim)
    verdict = VERDICTS.get(found.status, found.status)
    return f"**{verdict}** ([{name}]({name}/README.md), {preset})" if preset else f"**{NOT_RUN}**"


def check(results: pathlib.Path, claim: Claim, what: str) -> str:
    """What a check of the claim found, and its bound; its status too where it does not hold.

    Raises:
      KeyError: where the claim was run and has no such check.
    """
    found, preset = _report.measured(_report.runs_of(results / experiment_of(claim)), claim)
    if not preset:
        return NOT_RUN
    for one in found.checks:
        if one.what == what:
            doubt = "" if one.status == "holds" else f": {one.status}"
            bound = f" (must be {one.required}{doubt})" if one.bound is not None else ""
            return one.found + bound
    raise KeyError(f"{claim.statement}: {what}")
