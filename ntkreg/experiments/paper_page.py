"""The page that sets the paper's results and figures beside ours, from what the runs left."""

import json
import pathlib
from collections.abc import Iterator

import pandas

from ntkreg.experiments import _report, paper_tables
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.paper_experiments import SECTIONS, Reading, Section, Table
from ntkreg.experiments.paper_facts import INDEX, SURENESS, Entry

PRESETS = _report.PRESETS  # the settings, tables and figures are those of the first
NOT_RUN = "not run"


def page(results: pathlib.Path) -> str:
    """The page: the index, then a section for each of the paper's experiments.

    Numbers are those in run.json and summary.csv, or means of the latter's rows; "not run" where
    there is no record.
    """
    sources = "\n".join(f"- *{name}*: {meaning}." for name, meaning in SURENESS.items())
    parts = [HEAD.format(sources=sources), *_index(results)]
    for section in SECTIONS:
        parts += _section(results, section)
    return "\n\n".join(parts) + "\n"


def launcher(claim: Claim) -> str:
    """The experiment whose claim it is; its launcher has the same name.

    Raises:
      KeyError: where no experiment has it.
    """
    for name, claims in _report.EXPERIMENTS.items():
        if claim in claims:
            return name
    raise KeyError(claim.statement)


def measured(results: pathlib.Path, claim: Claim) -> dict[str, Claim]:
    """The claim as each preset's record has it: always of the first, of others where it is there.

    Unchanged, and so "not run", where the first has none of that statement.
    """
    found = {PRESETS[0]: claim}
    for preset in PRESETS:
        for one in _report.claims_of(results / launcher(claim) / preset, launcher(claim), ()):
            if one.statement == claim.statement:
                found[preset] = one
    return found


def _index(results: pathlib.Path) -> Iterator[str]:
    columns = ["The paper and the talk", "Known from", "In ntkreg", "Command", "Claim, and status"]
    for title, entries in INDEX.items():
        yield f"## {title}"
        rows = [_row(results, entry) for entry in entries]
        yield paper_tables.markdown(pandas.DataFrame(rows, columns=columns))


def _row(results: pathlib.Path, entry: Entry) -> list[str]:
    names = dict.fromkeys(launcher(claim) for claim in entry.claims)
    told = "; ".join(f"{claim.statement}: {_status(results, claim)}" for claim in entry.claims)
    return [
        entry.result,
        "; ".join(entry.known),
        ", ".join(f"`{name}`" for name in entry.functions) or "—",
        ", ".join(f"`launch/{name}.py`" for name in names) or "—",
        " ".join(filter(None, [told, entry.note and f"({entry.note})"])),
    ]


def _status(results: pathlib.Path, claim: Claim) -> str:
    found = measured(results, claim)
    first = f"**{found.pop(PRESETS[0]).status}**"
    return ", ".join([first, *(f"`{preset}` **{one.status}**" for preset, one in found.items())])


def _section(results: pathlib.Path, section: Section) -> Iterator[str]:
    yield f"## {section.title}"
    yield f"**There.** {section.shows}"
    yield f"**Here.** {section.covered[0].upper()}{section.covered[1:]}. {section.remarks}"
    if section.settings:
        configs = {name: _config(results, name) for name in _report.EXPERIMENTS}
        rows = [one._replace(here=one.here.format(**configs)) for one in section.settings]
        columns = ["Setting", "There", "Known from", "Here"]
        yield paper_tables.markdown(pandas.DataFrame(rows, columns=columns))
    if section.readings:
        yield "\n".join(line for one in section.readings for line in _reading(results, one))
    for table in section.tables:
        yield _table(results, table)


class _Config(dict):
    """A configuration as text; every field of one without a record is "not run"."""

    def __missing__(self, name: str) -> str:
        if self:
            raise KeyError(name)
        return NOT_RUN


def _config(results: pathlib.Path, name: str) -> _Config:
    path = results / name / PRESETS[0] / "run.json"
    config = json.loads(path.read_text())["config"] if path.exists() else {}
    return _Config({field: _text(value) for field, value in config.items()})


def _text(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _reading(results: pathlib.Path, reading: Reading) -> Iterator[str]:
    for preset, one in measured(results, reading.claim).items():
        follows = {"holds": f" {reading.holds}", "fails": f" {reading.fails}"}
        yield f"- {one.statement}: **{one.status}**.{follows.get(one.status, '')}"
        yield f"  - Predicted: {one.predicted}"
        yield f"  - Measured: {one.measured}"
        yield f"  - Interval: {one.interval}"
        yield f"  - Command: {_command(one, preset)}"


def _command(claim: Claim, preset: str) -> str:
    if claim.status == NOT_RUN:
        return f"`uv run launch/{launcher(claim)}.py --preset={preset}`"
    return f"{claim.command}, {claim.hardware}"


def _table(results: pathlib.Path, table: Table) -> str:
    folder = results / table.experiment / PRESETS[0]
    if not (folder / "summary.csv").exists():
        return f"`{table.experiment}`: {NOT_RUN}"
    rows = pandas.read_csv(folder / "summary.csv")
    where = f"{table.experiment}/{PRESETS[0]}"
    links = f"[summary.csv]({where}/summary.csv)"
    if (folder / "figure.png").exists():
        links += f", [figure]({where}/figure.png)"
    return f"{table.caption} From {links}.\n\n{paper_tables.markdown(table.of(rows))}"


HEAD = """# The paper's own figures, side by side with ours

Written by `uv run launch/reproduce.py` from `run.json` and `summary.csv` of each experiment's
`laptop` preset; [README.md](README.md) has all claims with all their numbers. The paper is Wei,
Lee, Liu, Ma, *Regularization Matters* (NeurIPS 2019; arXiv 1810.05369). The full text of that
version was not at hand when this was written. Where a fact is known from:

{sources}

The status of a claim is that of its row in the table: `fails` means that the measured number is
outside what the claim asks for, which is often narrower than the theorem. Below, *there* is the
paper and *here* is ntkreg."""
