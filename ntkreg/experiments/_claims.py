"""Claims: a number that theory predicts, beside the one that was measured."""

import dataclasses
from collections.abc import Sequence
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Claim:
    """One row of results/README.md.

    Attributes:
      statement: what is claimed, in a sentence.
      source: where it comes from.
      predicted, measured: the numbers, in words that fit a table.
      interval: how sure the measured one is, with the method named.
      certified: whether the measured one rests on proofs, closed forms or certificates, whatever
        training reached.
      status: whether what was measured agrees with what was predicted.
      command: what computes it again.
      hardware, time: where it was computed, and how long that took.
    """

    statement: str
    source: str
    predicted: str
    measured: str = "—"
    interval: str = "—"
    certified: bool = False
    status: Literal["holds", "fails", "not run"] = "not run"
    command: str = "—"
    hardware: str = "—"
    time: str = "—"


def table(claims: Sequence[Claim]) -> str:
    """The claims as a Markdown table."""
    names = [field.name for field in dataclasses.fields(Claim)]
    rows = [[_told(getattr(claim, name)) for name in names] for claim in claims]
    header = [name.capitalize() for name in names]
    lines = [header, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _told(value: str | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value.replace("|", "\\|")
