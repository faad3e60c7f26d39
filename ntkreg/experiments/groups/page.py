"""The page of the open experiment, and the table of key sets."""

import itertools

import numpy as np
import pandas
import scipy

from ntkreg.experiments import _statistics
from ntkreg.experiments.groups.claims import all_of, key_sets, names_of, settings
from ntkreg.experiments.groups.runs import ACTIVATIONS, KEY, PRESETS, Config


def pages(about: str, table: pandas.DataFrame, config: Config) -> dict[str, str]:
    """key_sets.csv; of the experiment as posed also a page for someone without this package."""
    sets = key_sets(table)
    found = {"key_sets.csv": sets.to_csv(index=False, float_format="%.6g")}
    if config == Config(**PRESETS["open_experiment"]):
        found["README.md"] = page(about, table, sets, config)
    return found


def page(about: str, table: pandas.DataFrame, sets: pandas.DataFrame, config: Config) -> str:
    """The results in words and tables."""
    body = "".join(f"{part}\n\n" for part in about.split("\n\n")[1:-1])
    return f"""# Which representations a small network learns: an open experiment, run

{body}## Answers

**How often are both neurons pure for one frequency (C5, m = 2)?** It depends on what counts as
pure: in many runs both neurons share a frequency and miss 95 % by little.

{_same_table(table)}
**How does the law of the key set change with width and λ?** Shares of runs whose key set has every
representation, and two-sided p-values: Fisher's exact test between m = 2 and m = 8, and between
λ = 0 and 0.01 the exact test on the seeds that differ.

{_change_table(table, config)}
A key set's threshold decides too: *near* are runs whose smaller fraction is within a factor 2 of
0.005.

## What came out

{_setting_table(table, sets)}
*Converged* runs met the rule at some update; the others ran for all {config.num_steps:,}. *N = 1*:
one representation has 95 % of the squared fractions. *ν*: the share of neurons pure for each
representation. relu runs rattle at kinks to the end, and their counts change by a few from one
machine to another.

![shares](figure.png)

## Files

The command is `uv run launch/groups.py --preset=open_experiment`.

- `summary.csv`: a row a run; `share_i`, `multiplicity_i` are of the i-th representation in the
  order of the table above. `same_δ`: all neurons pure at δ for one. `nearest_same`: all neurons
  have the same nearest representation.
- `key_sets.csv`: every key set with its count and interval.
- `arrays.npz`: `params/ROW` are the final coordinates of row ROW of summary.csv, of shape (3n, m):
  u above v above w. Elements of C5 are residues, those of S3 permutations of (0, 1, 2) in
  lexicographic order, with the product p∘q.
- `run.json`: configuration, versions, hardware, time.
"""


def _markdown(head: tuple[str, ...], rows: list[list]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _share(count: int, total: int) -> str:
    """The count with the interval of its share."""
    low, high = _statistics.share_interval(np.asarray(count), total)
    return f"{count} of {total} [{low:.2f}, {high:.2f}]"


def _same_table(table: pandas.DataFrame) -> str:
    mine = table[(table.group == "C5") & (table.width == 2)]
    columns = ("same_0.05", "same_0.1", "nearest_same")
    rows = []
    for (activation, lam), part in mine.groupby(["activation", "lam"]):
        learned = part[part.accuracy == 1]
        of_them = _share(int(learned.nearest_same.sum()), len(learned)) if len(learned) else "—"
        shares = [_share(int(part[column].sum()), len(part)) for column in columns]
        rows.append([ACTIVATIONS[activation], f"{lam:g}", *shares, of_them])
    head = ("σ", "λ", "both pure, 95 %: as posed", "both pure, 90 %", "nearest the same",
            "nearest the same, of those that learned")  # fmt: skip
    return _markdown(head, rows)


def _change_table(table: pandas.DataFrame, config: Config) -> str:
    full = table.assign(full=[row.key_set == all_of(row.group) for row in table.itertuples()])
    rows = []
    for group, activation in itertools.product(config.groups, config.activations):
        mine = full[(full.group == group) & (full.activation == activation)]
        cell = lambda width, lam, mine=mine: mine[(mine.width == width) & (mine.lam == lam)]
        first, *_, last = sorted(config.lams)
        for what, one, other in (
            (f"m = {min(config.widths)} → {max(config.widths)}, λ = {first:g}",
             cell(min(config.widths), first), cell(max(config.widths), first)),
            (f"λ = {first:g} → {last:g}, m = {min(config.widths)}",
             cell(min(config.widths), first), cell(min(config.widths), last)),
        ):  # fmt: skip
            counts = [[int(part.full.sum()), int((~part.full).sum())] for part in (one, other)]
            if what.startswith("m"):
                p = scipy.stats.fisher_exact(counts).pvalue
            else:
                fell = one.full.to_numpy() & ~other.full.to_numpy()
                rose = ~one.full.to_numpy() & other.full.to_numpy()
                changed = int(fell.sum() + rose.sum())
                p = scipy.stats.binomtest(int(rose.sum()), changed).pvalue if changed else 1.0
            near = int(one.smallest_share.between(KEY / 2, 2 * KEY).sum())
            shares = [_share(counts[i][0], sum(counts[i])) for i in range(2)]
            rows.append([group, ACTIVATIONS[activation], what, *shares, f"{p:.2g}", near])
    head = ("group", "σ", "change", "before", "after", "p", "near, before")
    return _markdown(head, rows)


def _setting_table(table: pandas.DataFrame, sets: pandas.DataFrame) -> str:
    rows = []
    for (group, activation, width, lam), part in settings(table):
        own = sets[["group", "activation", "width", "lam"]] == [group, activation, width, lam]
        found = sets[own.all(axis=1) & (sets["count"] > 0)]
        laws = ", ".join(
            f"{{{name.replace('+', ', ')}}} {count} [{low:.2f}, {high:.2f}]"
            for name, count, low, high in found[["key_set", "count", "low", "high"]].to_numpy()
        )
        multiple = ", ".join(
            f"{name} {part[f'multiplicity_{i}'].mean():.3f}"
            for i, name in enumerate(names_of(group))
        )
        rows.append(
            [group, ACTIVATIONS[activation], width, f"{lam:g}", len(part),
             int(part.converged.sum()), int((part.accuracy == 1).sum()), laws,
             int((part.spectral_count == 1).sum()), multiple, int(part["same_0.05"].sum())]
        )  # fmt: skip
    head = ("group", "σ", "m", "λ", "runs", "converged", "learned", "key sets: runs [95 %]",
            "N = 1", "mean ν", "all neurons pure for one")  # fmt: skip
    return _markdown(head, rows)
