"""Claims: what a theorem says of measured numbers, checked with its quantifiers.

A claim is a list of checks, each a measured number with an interval and the bound that the theorem
puts on it. The interval decides: a claim is settled neither by a number that could have fallen on
the other side, nor by runs whose optimizer fell short.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from ntkreg.experiments import _statistics

Status = Literal["fails", "undecided", "holds", "finding", "not run"]
Relation = Literal["≤", "≥", ""]


class Check(NamedTuple):
    """One number that is measured, and what it must be.

    Attributes:
      what: is measured, in a few words, by which docs/paper.md.in names it.
      measured: the number; NaN where no run measured it.
      low, high: ends of its 95 % interval, both sides of its certificate, or the number itself
        where it is exact; NaN where unknown.
      bound, relation: the theorem's, "≤" or "≥"; without them the number is a finding.
      runs: what the interval is over, as "20 seeds".
    """

    what: str
    measured: float
    low: float
    high: float
    bound: float | None = None
    relation: Relation = ""
    runs: str = ""

    @property
    def status(self) -> Status:
        """holds or fails where the whole interval is on one side of the bound, else undecided."""
        if self.bound is None:
            return "finding"
        good = self.high <= self.bound if self.relation == "≤" else self.low >= self.bound
        bad = self.low > self.bound if self.relation == "≤" else self.high < self.bound
        return "holds" if good else "fails" if bad else "undecided"  # NaN decides nothing

    @property
    def required(self) -> str:
        """The bound as it is printed."""
        return f"{self.relation} {number(self.bound)}" if self.bound is not None else "—"

    @property
    def found(self) -> str:
        """The number with its interval, as it is printed."""
        if self.low == self.high == self.measured or math.isnan(self.measured):
            return number(self.measured)
        return f"{number(self.measured)} [{number(self.low)}, {number(self.high)}]"


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is claimed, and the checks that it must pass.

    Attributes:
      statement: in a sentence, for someone who has not seen the project.
      source: where it comes from.
      checks: all of which it must pass, the one that says most first; none before a run.
      apart: what is counted apart, as runs that provably missed the minimum.
      certified: whether the numbers rest on proofs, closed forms or certificates, whatever training
        reached.
    """

    statement: str
    source: str
    checks: tuple[Check, ...] = ()
    apart: tuple[str, ...] = ()
    certified: bool = False

    @property
    def status(self) -> Status:
        """Of its worst check."""
        return self.deciding.status if self.checks else "not run"

    @property
    def deciding(self) -> Check:
        """The first of the worst checks: fails before undecided before holds before finding."""
        worst: tuple[Status, ...] = ("fails", "undecided", "holds", "finding")
        return min(self.checks, key=lambda check: worst.index(check.status))

    def on(self, *checks: Check, apart: Iterable[str] = ()) -> "Claim":
        """The claim with what was measured; empty words of `apart` are left out."""
        return dataclasses.replace(self, checks=checks, apart=tuple(filter(None, apart)))

    def as_dict(self) -> dict[str, Any]:
        """What run.json keeps, JSON having no NaN or infinity: null and "inf" stand for them."""
        checks = [
            {name: _kept(value) for name, value in check._asdict().items()}
            | {"status": check.status}
            for check in self.checks
        ]
        return dataclasses.asdict(self) | {"checks": checks, "status": self.status}


def restored(known: Mapping[str, Any]) -> Claim:
    """The claim that `as_dict` gave."""
    value = lambda v: math.nan if v is None else float(v)

    def check(fields: Mapping[str, Any]) -> Check:
        own = {name: fields[name] for name in Check._fields}
        return Check(**own | {name: value(own[name]) for name in ("measured", "low", "high")})

    own = {field.name: known[field.name] for field in dataclasses.fields(Claim)}
    checks = tuple(map(check, known["checks"]))
    return Claim(**own | {"checks": checks, "apart": tuple(known["apart"])})


def _kept(value: Any) -> Any:
    """As JSON has it."""
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def number(value: float) -> str:
    """Three digits, as a person writes them; n/a for NaN."""
    return f"{value:.3g}".replace("nan", "n/a").replace("inf", "∞")


def exact(
    what: str, value: float, bound: float | None = None, relation: Relation = "", runs: str = ""
) -> Check:
    """Of a number without an interval, as a count; NaN decides nothing."""
    return Check(what, float(value), float(value), float(value), bound, relation, runs)


def every(what: str, values: Any, bound: float, relation: Relation, runs: str) -> Check:
    """That each of the values keeps the bound: the worst decides, NaN and no value decide nothing.

    `runs` is what the values are of; their number stands before it.
    """
    values = np.asarray(values, float)  # a Series would pass over NaN
    worst: Callable[..., Any] = np.max if relation == "≤" else np.min
    value = float(worst(values)) if values.size else math.nan
    return exact(what, value, bound, relation, f"{values.size} {runs}")


def mean(
    what: str, values: Any, bound: float | None = None, relation: Relation = "", runs: str = "seeds"
) -> Check:
    """The mean of independent values with Student's 95 % interval (`_statistics.mean_interval`)."""
    values = np.asarray(values, float)
    low, high = _statistics.mean_interval(values)
    found = float(values.mean()) if values.size else math.nan
    return Check(what, found, float(low), float(high), bound, relation, f"{values.size} {runs}")


def share(
    what: str,
    successes: int,
    trials: int,
    bound: float | None = None,
    relation: Relation = "",
    runs: str = "runs",
) -> Check:
    """A share of runs with its exact binomial interval; 0 of 0 decides nothing."""
    if not trials:
        return exact(what, math.nan, bound, relation, f"0 of 0 {runs}")
    low, high = _statistics.share_interval(np.asarray(successes), trials)
    counted = f"{successes} of {trials} {runs}"
    return Check(what, successes / trials, float(low), float(high), bound, relation, counted)


def slope(
    what: str,
    found: _statistics.Scaling,
    bound: float | None = None,
    relation: Relation = "",
    runs: str = "seeds",
) -> Check:
    """The exponent of d at which a level is crossed, with its bootstrap interval."""
    return Check(what, found.slope, *found.slope_interval, bound, relation, runs)


def worst(checks: Iterable[Check]) -> Check:
    """Of checks of one bound, as one for each dimension, that whose interval is furthest from it.

    One that decides nothing, its interval unknown, comes first.
    """
    unknown = lambda check: math.isnan(check.low) or math.isnan(check.high)
    far = lambda check: check.high if check.relation == "≤" else -check.low
    return max(checks, key=lambda check: math.inf if unknown(check) else far(check))
