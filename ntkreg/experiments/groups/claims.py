"""What the runs show of representations, by width and λ."""

import itertools

import numpy as np
import pandas

from ntkreg.data import groups
from ntkreg.experiments import _claims, _statistics
from ntkreg.experiments._claims import Claim
from ntkreg.experiments.groups.runs import ACTIVATIONS, Config
from ntkreg.training import stationarity


def names_of(group: str) -> list[str]:
    """The names of a group's representations."""
    return [rho.name for rho in groups.named(group).representations]


def all_of(group: str) -> str:
    """The key set that has every representation."""
    return "+".join(names_of(group))


def settings(table: pandas.DataFrame):
    """(group, activation, width, λ) and the runs of each, in the table's order."""
    return table.groupby(["group", "activation", "width", "lam"], sort=False)


def key_sets(table: pandas.DataFrame) -> pandas.DataFrame:
    """How often each key set was met, a row each, with exact binomial intervals."""
    rows = []
    for (group, activation, width, lam), part in settings(table):
        names = names_of(group)
        sizes = range(len(names) + 1)
        sets = itertools.chain.from_iterable(itertools.combinations(names, k) for k in sizes)
        for name in ["+".join(chosen) or "none" for chosen in sets]:
            count = int(part.key_set.eq(name).sum())
            if not count and len(names) > 2:
                continue
            low, high = map(float, _statistics.share_interval(np.asarray(count), len(part)))
            rows.append(
                dict(group=group, activation=activation, width=width, lam=lam, key_set=name,
                     count=count, runs=len(part), share=count / len(part), low=low, high=high)
            )  # fmt: skip
    return pandas.DataFrame(rows)


SAME = Claim(
    statement="Two z² neurons on C₅: how often both are pure for the same frequency",
    source="O61, O59 of the list MAIS",
)
KEYS = Claim(
    statement="How often the outputs hold every representation, by width and λ",
    source="O61 of the list MAIS",
)
CONVERGED = Claim(
    statement="How many runs meet the rule of convergence, as specified",
    source="O61 of the list MAIS",
)
ANNEALED = Claim(
    statement="How many runs end at stationary points where the rate falls to 0",
    source="derived here, beside O61",
)
ANNEALED_KEYS = Claim(
    statement="At stationary points: how often the outputs hold every representation",
    source="derived here, beside O61",
)
RESIDUAL = stationarity.CONVERGED
ZERO = 1e-100  # norm up to which a network is on its way to Θ = 0


def claims(table: pandas.DataFrame, config: Config) -> list[Claim]:
    """The claims that the table has runs for."""
    if config.schedule == "constant":
        found = [same_claim(table), keys_claim(KEYS, table), converged_claim(table)]
    else:
        found = [annealed_claim(table), keys_claim(ANNEALED_KEYS, stationary(table))]
    return [claim for claim in found if claim.checks]


def same_claim(table: pandas.DataFrame) -> Claim:
    """The first readout of the experiment, and how it depends on the threshold of purity."""
    rows = table[(table.group == "C5") & (table.activation == "quadratic") & (table.width == 2)]
    checks = []
    for lam, part in rows.groupby("lam"):
        share = lambda what, of, part=part, lam=lam: _claims.share(
            f"λ = {lam:g}: {what}", int(of.sum()), len(part)
        )
        learned = part.accuracy == 1
        checks += [
            share("both pure (δ = 0.05), one frequency", part["same_0.05"]),
            share("both pure (δ = 0.1), one frequency", part["same_0.1"]),
            share("nearest frequency the same", part.nearest_same),
            share("learned the table", learned),
            share("learned, nearest frequencies differ", learned & ~part.nearest_same),
        ]
    return SAME.on(*checks)


def keys_claim(claim: Claim, table: pandas.DataFrame) -> Claim:
    """The second readout: the share of runs whose key set has every representation."""
    return claim.on(
        *(
            _claims.share(
                f"{group}, {ACTIVATIONS[activation]}, m = {width}, λ = {lam:g}",
                int(part.key_set.eq(all_of(group)).sum()),
                len(part),
            )
            for (group, activation, width, lam), part in settings(table)
        )
    )


def converged_claim(table: pandas.DataFrame) -> Claim:
    """Runs that met the rule, where a minimum exists and the objective is smooth, and elsewhere."""
    is_smooth = table.activation == "quadratic"
    parts = {
        "z², λ > 0": is_smooth & (table.lam > 0),
        "z², λ = 0": is_smooth & (table.lam == 0),
        "relu": ~is_smooth,
    }
    return CONVERGED.on(
        *(
            _claims.share(f"{what}: converged", int(table.converged[rows].sum()), int(rows.sum()))
            for what, rows in parts.items()
            if rows.any()
        )
    )


def stationary(table: pandas.DataFrame) -> pandas.DataFrame:
    """Ends that are stationary, and no zero network, which is so at every λ."""
    return table[table.converged & (table.norm > ZERO)]


def annealed_claim(table: pandas.DataFrame) -> Claim:
    """The share of stationary ends, for each activation and λ; zero networks are counted apart."""
    is_zero = table.norm <= ZERO
    zeros = [
        f"λ = {lam:g}: {len(part)} runs end at Θ = 0" for lam, part in table[is_zero].groupby("lam")
    ]
    return ANNEALED.on(
        *(
            _claims.share(
                f"{ACTIVATIONS[activation]}, λ = {lam:g}: residual below {RESIDUAL:g}",
                int(part.converged.sum()),
                len(part),
            )
            for (activation, lam), part in table[~is_zero].groupby(["activation", "lam"])
        ),
        apart=zeros,
    )
