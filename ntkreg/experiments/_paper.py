"""The page that sets the paper's results beside ours: docs/paper.md.in, with the numbers filled in.

Claims and configurations are read from run.json, tables from summary.csv, of each experiment.
"""

import dataclasses
import functools
import importlib
import json
import pathlib
import types
from collections.abc import Callable
from typing import Any

import jinja2
import pandas

from ntkreg.experiments import _report
from ntkreg.experiments._claims import Claim

NOT_RUN = "not run"
FIRST, *OTHERS = _report.PRESETS  # settings, tables and figures are those of the first


def page(results: pathlib.Path, template: pathlib.Path) -> str:
    """The text of `template` with the numbers in `results`; "not run" where there are none.

    A name in it that is no experiment, claim or field is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        undefined=jinja2.StrictUndefined,
        finalize=_text,
        keep_trailing_newline=True,
    )
    configs = {name: types.SimpleNamespace(**config(results, name)) for name in _report.EXPERIMENTS}
    return environment.get_template(template.name).render(
        modules(),
        config=types.SimpleNamespace(**configs),
        **{name: functools.partial(fill, results) for name, fill in FILLED_IN.items()},
        **{of.__name__: of for of in TABLES},
    )


def modules() -> dict[str, types.ModuleType]:
    """The experiments by name."""
    module = lambda name: importlib.import_module(f"ntkreg.experiments.{name}")
    return {name: module(name) for name in _report.EXPERIMENTS}


def config(results: pathlib.Path, name: str) -> dict[str, Any]:
    """The fields of an experiment's configuration, "not run" without results."""
    path = results / name / FIRST / "run.json"
    if path.exists():
        return json.loads(path.read_text())["config"]
    return {field.name: NOT_RUN for field in dataclasses.fields(_report.experiment(name).config)}


def launcher(claim: Claim) -> str:
    """The experiment that tests the claim, which is its launcher's name too.

    Raises:
      KeyError: where none does.
    """
    for name in _report.EXPERIMENTS:
        if claim in _report.experiment(name).statements:
            return name
    raise KeyError(claim.statement)


def measured(results: pathlib.Path, claim: Claim) -> dict[str, Claim]:
    """The claim as measured at each preset; as it stands where the first was not run."""
    found, name = {FIRST: claim}, launcher(claim)
    for preset in _report.PRESETS:
        if (results / name / preset / "run.json").exists():
            claims = _report.claims_of(results / name / preset, name)
            found.update((preset, one) for one in claims if one.statement == claim.statement)
    return found


def status(results: pathlib.Path, claim: Claim) -> str:
    """The claim in a sentence, and whether it holds."""
    found = measured(results, claim)
    others = (f", `{preset}` **{found[preset].status}**" for preset in OTHERS if preset in found)
    return f"{claim.statement}: **{found[FIRST].status}**{''.join(others)}"


def reading(results: pathlib.Path, claim: Claim, holds: str, fails: str) -> str:
    """The claim with all its numbers, and with what follows where it holds or where it fails."""
    text = f"**{claim.statement}**\n"
    for preset, one in measured(results, claim).items():
        conclusion = {"holds": f" {holds}", "fails": f" {fails}"}.get(one.status, "")
        ran = f"{one.command}, {one.hardware}"
        not_run = f"`uv run launch/{launcher(claim)}.py --preset={preset}`"
        text += f"""
- `{preset}`: **{one.status}**.{conclusion}
  - Predicted: {one.predicted}
  - Measured: {one.measured}
  - Interval: {one.interval}
  - Command: {not_run if one.status == NOT_RUN else ran}"""
    return text


def table(
    results: pathlib.Path, name: str, of: Callable[[pandas.DataFrame], pandas.DataFrame]
) -> str:
    """What `of` makes of an experiment's summary.csv, and links to that and the figure."""
    summary, figure = (f"{name}/{FIRST}/{file}" for file in ("summary.csv", "figure.png"))
    if not (results / summary).exists():
        return f"`{name}`: {NOT_RUN}"
    drawn = f", [figure]({figure})" if (results / figure).exists() else ""
    rows = markdown(of(pandas.read_csv(results / summary)))
    return f"From [summary.csv]({summary}){drawn}.\n\n{rows}"


def toward_l1_svm(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Margin over the ℓ1-SVM's and distance of the functions at every λ, medians over data sets.

    Of the true minimizers, and of the run of smallest objective on each set.
    """
    trained = rows[rows.start != "certified"]
    best = trained.groupby(["num_samples", "draw", "lam"], sort=False).log_objective.idxmin()
    parts = {"true minimizers": rows[rows.start == "certified"], "trained": trained.loc[best]}
    columns = {"svm_ratio": "margin", "function_gap": "difference"}
    medians = {
        f"{title}, {name}": part.groupby("lam")[column].median()
        for column, title in columns.items()
        for name, part in parts.items()
    }
    found = pandas.DataFrame(medians).sort_index(ascending=False).rename_axis("λ")
    return found[found.filter(like="margin").min(axis=1) > 0].reset_index()


def network_and_kernels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean test errors and bounds of network, ReLU features and NTK, for every task and n."""
    predictors = {"network": "network", "nngp": "ReLU features", "ntk": "NTK"}
    columns = {"test_error": "error", "bound": "bound"}
    by = ["task", "num_samples"]
    found = rows.pivot_table(index=by, columns="predictor", values=list(columns))
    found = found.reindex(columns=pandas.MultiIndex.from_product([columns, predictors]))
    found.columns = [f"{columns[column]}, {predictors[who]}" for column, who in found.columns]
    return found.reset_index().rename(columns={"num_samples": "n"})


def by_width(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Margin and test error for every width at the smallest λ, means of the trials that fit."""
    both = rows[rows.dataset.str.startswith(("teacher", "digits"))]
    last = both[both.lam == both.groupby("dataset").lam.transform("min")]
    groups = lambda rows: rows.groupby(["dataset", "width"], sort=False)
    found = groups(last[last.normalized_margin > 0]).agg(
        margin=("normalized_margin", "mean"),
        error=("test_error", "mean"),
        stationary=("converged", "sum"),
        fit=("seed", "size"),
    )
    found["trials"] = groups(last).size()
    return found.reset_index().rename(columns={"error": "test error"})


def annealing(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean test error of the networks with annealed λ and with a fixed one, where all were run."""
    by = ["dataset", "model", "num_samples"]
    networks = rows[rows.predictor == "network"]
    found = networks.pivot_table(index=by, columns="schedule", values="test_error").dropna()
    return found.rename_axis(columns=None).reset_index().rename(columns={"num_samples": "n"})


def with_and_without(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Means of the paper's three panels at the end of training, at the width trained with λ too."""
    with_lam = rows[rows.width.isin(rows.width[rows.lam > 0]) & (rows["look"] == "end")]
    return _panels(with_lam, ["dataset", "num_samples", "lam"])


def at_unit_scale(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Means of the paper's three panels from initial parameters N(0, 1)."""
    return _panels(rows[rows.init_scale == 1.0], ["width", "num_samples", "lam"])


def _panels(rows: pandas.DataFrame, by: list[str]) -> pandas.DataFrame:
    panels = {
        "margin": rows.normalized_margin,
        "test accuracy": 1 - rows.test_error,
        "activation patterns changed": rows.activation_change,
    }
    found = pandas.DataFrame(panels).groupby([rows[name] for name in by]).mean()
    return found.reset_index().rename(columns={"num_samples": "n", "lam": "λ"})


def markdown(rows: pandas.DataFrame) -> str:
    """The rows in Markdown: means to four decimals, λ and sizes as they are."""

    def shown(name: str, cell: Any) -> str:
        if isinstance(cell, float) and name != "λ":
            return "—" if pandas.isna(cell) else f"{cell:.4f}"
        return _text(cell).replace("|", "\\|")

    names = list(rows)
    lines = [names, ["---"] * len(names)]
    for row in rows.itertuples(index=False):
        lines.append([shown(name, cell) for name, cell in zip(names, row, strict=True)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


FILLED_IN: dict[str, Callable[..., str]] = dict(status=status, reading=reading, table=table)
TABLES = (toward_l1_svm, network_and_kernels, by_width, annealing, with_and_without, at_unit_scale)
