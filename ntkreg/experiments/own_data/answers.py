"""What the table says to whoever has the data: a question, a verdict and the numbers for it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas

from ntkreg.experiments import _statistics
from ntkreg.experiments.own_data.runs import (
    DATA,
    KERNEL,
    MACHINES,
    NETWORK,
    PROOF,
    UNREGULARISED,
    Config,
)
from ntkreg.sweeps.programs import FAILED
from ntkreg.training.stationarity import CONVERGED

NEAR = 0.05  # the residual of a network that is nearly at a stationary point
NEAR_MINIMUM = 0.01  # the excess over the minimum that no one would notice
LAZY, RICH = 0.1, 0.5  # drifts of the kernel
ENOUGH = 0.01  # of the error, by which a narrower network may be worse
SPLITS = "intervals are of 95 % over {} splits, which share rows and so vary a little too little"


class Answer(NamedTuple):
    """A question about the data, what there is to say in a word, and why.

    Attributes:
      panel: the picture that shows it; empty where none does.
    """

    question: str
    verdict: str
    sentences: tuple[str, ...]
    panel: str = ""


# Rows ----------------------------------------------------------------------------------------


def sound(rows: pandas.DataFrame, *models: str) -> pandas.DataFrame:
    """The rows of these models that came to an end."""
    return rows[rows.model.isin(models) & (rows[FAILED].fillna("") == "") & rows.lam.notna()]


def along_path(rows: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """The rows of the network of full width, λ > 0."""
    found = sound(rows, NETWORK)
    return found[found.width == config.width]


def chosen(rows: pandas.DataFrame) -> pandas.DataFrame:
    """For every seed the row that errs least on its validation part; of equals, of largest λ."""
    order = ["seed", "validation_error", "lam"]
    ordered = rows.sort_values(order, ascending=[True, True, False])
    return ordered.drop_duplicates("seed").set_index("seed")


def best_lam(rows: pandas.DataFrame) -> float:
    """The λ of smallest mean error on the validation parts; of equals the largest."""
    means = rows.groupby("lam").validation_error.mean().sort_index(ascending=False)
    return float(means.idxmin())


def notes(rows: pandas.DataFrame, model: str) -> list[str]:
    """The notes of a model, each once."""
    return [note for note in rows[rows.model == model].note.dropna().unique() if note]


# Words ---------------------------------------------------------------------------------------


def ends(values: Sequence[float] | pandas.Series) -> tuple[float, float]:
    """The ends of the interval of the mean over splits; NaN for one split."""
    low, high = _statistics.mean_interval(np.asarray(values, float))
    return float(low), float(high)


def percent(values: Sequence[float] | pandas.Series, least: float = 0.0) -> str:
    """The mean of shares with its interval, where there is one, none of it below `least`."""
    found = np.asarray(values, float)
    low, high = ends(found)
    interval = "" if np.isnan(low) else f" ({100 * max(low, least):.1f} … {100 * high:.1f} %)"
    return f"{100 * found.mean():.1f} %{interval}".replace("-", "−")


def versus(first: pandas.Series, second: pandas.Series, words: dict[int, str]) -> tuple[str, str]:
    """(the word for the sign of first − second, 0 where splits show none; the difference)."""
    difference = (first - second).dropna()
    low, high = ends(difference)
    sign = 1 if low > 0 else -1 if high < 0 else 0
    verdict = words[sign] if len(difference) > 1 else "one split cannot tell"
    return verdict, percent(difference, least=-1.0)


def _list(values) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values, reverse=True))


# Answers -------------------------------------------------------------------------------------


def answers(rows: pandas.DataFrame, config: Config) -> list[Answer]:
    """All that can be answered from the table, in the order in which one asks."""
    if not len(along_path(rows, config)):
        failed = rows[FAILED].fillna("")
        reasons = "; ".join(failed[failed != ""].unique())
        return [Answer("Was anything trained?", "no", (f"No network came to its end: {reasons}",))]
    return [
        at_minimum(rows, config),
        along_lam(rows, config),
        which_lam(rows, config),
        against_kernel(rows, config),
        is_lazy(rows, config),
        which_width(rows, config),
    ]


def at_minimum(rows: pandas.DataFrame, config: Config) -> Answer:
    """By the residual of stationarity, and where there is a certificate by the minimum itself."""
    path = along_path(rows, config)
    largest = path.stationarity.max()
    medians = path.groupby("lam").stationarity.median().fillna(0.0).sort_index(ascending=False)
    near = medians.index[(medians < NEAR).cummin()]
    if path.converged.all():
        verdict = "at a stationary point at every λ"
    elif len(near) == len(medians):
        verdict = "nearly, at every λ"
    else:
        verdict = f"nearly down to λ = {near[-1]:g}, not below" if len(near) else "no"
    said = []
    if len(left := path[~path.converged.astype(bool)]):
        said.append(
            f"{len(left)} of {len(path)} networks have a residual of stationarity above "
            f"{CONVERGED:g}, at most {largest:.2g}, λ = {_list(left.lam.unique())}: more "
            "--num_steps and --finish_steps lower it, as far as kinks of the ReLU let them."
        )
    if path.is_zero.any():
        zero = path[path.is_zero.astype(bool)].lam.unique()
        said.append(
            f"At λ = {_list(zero)} training converged to the zero network: so large a λ costs more "
            "than any fit gains."
        )
    said += dead_units(path)
    if suffers_from_scale(path, config):
        verdict += " (the scale of the inputs may be why: try without --raw)"
        said.append(RAW)
    proofs = sound(rows, PROOF)
    if excess := excess_of_minimum(rows, config):
        is_near = max(excess.values()) < NEAR_MINIMUM
        verdict = "at the global minimum, proved" if is_near else verdict
        parts = [f"{100 * value:.2g} % at λ = {lam:g}" for lam, value in excess.items()]
        said.append(
            "On the first split the minimum over networks of any width is certified: F of the "
            f"trained network is above it by at most {', '.join(parts)}."
        )
    if len(margin := proofs[proofs.lam == 0]):
        found = path[path.seed == 0].normalized_margin.max()
        said.append(
            f"The max margin there is {margin.lower.iloc[0]:.4g} … {margin.upper.iloc[0]:.4g}, the "
            f"largest that a λ of the path reached {found:.4g}."
        )
    said += [f"No certificate: {note}." for note in notes(rows, PROOF)]
    return Answer("Is the network at the minimum?", verdict, tuple(said), "residual")


def excess_of_minimum(rows: pandas.DataFrame, config: Config) -> dict[float, float]:
    """λ -> (F − lower)/lower of the first seed's network, at most so far above the minimum."""
    path = along_path(rows, config)
    objective = np.exp(path[path.seed == 0].set_index("lam").log_objective)
    lower = sound(rows, PROOF).set_index("lam").lower
    both = [lam for lam in config.lams if lam in lower and lam in objective]
    return {lam: float(objective[lam] / lower[lam] - 1) for lam in both if lower[lam] > 0}


def dead_units(path: pandas.DataFrame) -> list[str]:
    """A line where the margin is exactly zero though the network is not."""
    dead = path[(path.normalized_margin.abs() < 1e-14) & ~path.is_zero.astype(bool)]
    if not len(dead):
        return []
    return [
        f"At λ = {_list(dead.lam.unique())} the margin is exactly 0 in {len(dead)} networks: at "
        "some training rows all units are off (dead), and nothing moves them any more."
    ]


def suffers_from_scale(path: pandas.DataFrame, config: Config) -> bool:
    """Whether training failed as it does on features of very different scales."""
    last = path[path.lam == path.lam.min()]
    return config.raw and bool((last.normalized_margin <= 0).any() or path.stationarity.max() > 1)


RAW = (
    "Features are as they are (--raw): where their scales differ by much, units die and the "
    "optimizer stalls. Without --raw they have mean 0 and variance 1."
)


def along_lam(rows: pandas.DataFrame, config: Config) -> Answer:
    """Where the network separates, and what becomes of margin and test error."""
    path = along_path(rows, config)
    means = path.groupby("lam")[["normalized_margin", "train_error", "test_error"]].mean()
    means = means.sort_index(ascending=False)
    fits = path.groupby("lam").train_error.max()
    separated = fits.index[fits == 0]
    first, last = means.iloc[0], means.iloc[-1]
    said = [
        f"From λ = {means.index[0]:g} to {means.index[-1]:g} the training error goes from "
        f"{100 * first.train_error:.1f} % to {100 * last.train_error:.1f} %, the test error "
        f"from {100 * first.test_error:.1f} % to {100 * last.test_error:.1f} %."
    ]
    if len(separated):
        verdict = f"every start separates the training rows from λ = {separated.max():g} down"
        said.append(
            f"The normalized margin is {last.normalized_margin:.3g} at the end; as λ → 0 "
            "it tends to the max margin, short of it by about 1/log(1/λ)."
        )
    else:
        verdict = "no λ of the path separates the training rows in every split"
        said.append("Where rows contradict each other, or training stalls, no margin is positive.")
    return Answer("How do margin and error go with λ?", verdict, tuple(said), "margin")


def which_lam(rows: pandas.DataFrame, config: Config) -> Answer:
    """The λ that errs least on the validation parts, and training without λ beside it."""
    path, without = along_path(rows, config), sound(rows, UNREGULARISED)
    best = best_lam(path)
    own = chosen(path).test_error
    at_best = path[path.lam == best]
    said = [
        f"λ = {best:g} errs least on the validation parts, {percent(at_best.validation_error)}, "
        f"and errs {percent(at_best.test_error)} on the test parts.",
        f"With λ chosen on each split's own validation part the test error is {percent(own)}.",
    ]
    verdict = f"λ = {best:g}"
    if len(without):
        plain = without.set_index("seed").test_error
        words = {1: "worse", -1: "better", 0: "no difference is seen"}
        whether, more = versus(plain, own, words)
        verdict += f"; without λ: {whether}"
        steps = config.num_steps * len(config.lams)
        said.append(
            f"Without λ ({steps} steps of Adam on the loss itself) it is {percent(plain)}, more by "
            f"{more}."
        )
    said.append(_of_splits(path))
    return Answer(
        "Which λ is best, and is training without λ worse?", verdict, tuple(said), "errors"
    )


def _of_splits(rows: pandas.DataFrame) -> str:
    number = rows.seed.nunique()
    if number < 2:
        return "One split alone gives no interval (--num_seeds)."
    return f"Here and below {SPLITS.format(number)}."


def against_kernel(rows: pandas.DataFrame, config: Config) -> Answer:
    """Both with λ chosen on the validation part of each split."""
    question = "Does the network beat its own NTK?"
    machines, failed = sound(rows, *MACHINES), rows[(rows.model == KERNEL)]
    why = [f"Kernel: {note}." for note in notes(rows, KERNEL) + notes(rows, MACHINES[1])]
    if not len(machines):
        reasons = "; ".join(failed[FAILED].dropna().unique())
        return Answer(question, "not known", (*why, f"No kernel machine ended: {reasons}."))
    own, kernel = chosen(along_path(rows, config)), chosen(machines)
    words = {-1: "yes", 1: "no, the kernel errs less", 0: "no difference is seen"}
    verdict, less = versus(own.test_error, kernel.test_error, words)
    used = ", ".join(f"{name.removeprefix('NTK, ')} {n}" for name, n in _counts(kernel.model))
    said = [
        f"Test errors: network {percent(own.test_error)}, NTK {percent(kernel.test_error)}, "
        f"network less NTK {less}.",
        f"On each split the machine and its λ are those of least validation error: {used}.",
        *(
            f"{name}: {percent(chosen(part).test_error)}."
            for name in MACHINES
            if len(part := machines[machines.model == name])
        ),
        *why,
    ]
    return Answer(question, verdict, tuple(said), "kernel")


def _counts(values: pandas.Series) -> list[tuple[str, int]]:
    return [(str(name), int(count)) for name, count in values.value_counts().items()]


def is_lazy(rows: pandas.DataFrame, config: Config) -> Answer:
    """By how far the empirical NTK moves between start and end."""
    path, without = chosen(along_path(rows, config)), sound(rows, UNREGULARISED)
    drift, alignment = path.drift.mean(), path.alignment.mean()
    verdict = "yes" if drift < LAZY else "no" if drift > RICH else "in between"
    said = [
        f"At the chosen λ the empirical NTK has changed by {100 * drift:.0f} % of its size since "
        f"the start (below {100 * LAZY:.0f} % training would be that of a kernel); its cosine to "
        f"the one at the start is {alignment:.2f}, which would be 1 if it had only grown or shrunk."
    ]
    if len(without):
        said.append(
            f"Without λ it changed by {100 * without.drift.mean():.0f} %, with a cosine of "
            f"{without.alignment.mean():.2f}."
        )
    return Answer("Is training lazy?", verdict, tuple(said), "drift")


def which_width(rows: pandas.DataFrame, config: Config) -> Answer:
    """The smallest width that errs about as little as the largest."""
    question = "What width is enough?"
    if config.module:
        return Answer(question, "not asked", ("A module has the width that it was written with.",))
    found = by_width(rows)
    if len(found.columns) < 2:
        return Answer(question, "not asked", ("There is one width alone (--widths).",))
    worse = found.mean() - found.mean().iloc[-1]
    enough = min(worse.index[worse <= ENOUGH])
    said = [f"Width {width}: test error {percent(found[width])}." for width in found]
    rule = (
        f"Enough is the smallest width that errs at most {100 * ENOUGH:.0f} % more than the "
        f"largest on the same {len(found)} splits, λ chosen for each."
    )
    return Answer(question, f"{enough}", (*said, rule), "width")


def by_width(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Test errors with λ chosen: a row for each seed that all widths have, a column a width."""
    found = {
        int(width): chosen(part).test_error for width, part in sound(rows, NETWORK).groupby("width")
    }
    return pandas.DataFrame(found).dropna()


# In the terminal -----------------------------------------------------------------------------


def by_lam(rows: pandas.DataFrame, config: Config) -> pandas.DataFrame:
    """Means over seeds at each λ of the path, and without λ: what the page and terminal show."""
    both = pandas.concat([along_path(rows, config), sound(rows, UNREGULARISED)])
    columns = {
        "norm": "‖Θ‖", "normalized_margin": "margin", "train_error": "training error",
        "validation_error": "validation error", "test_error": "test error",
        "stationarity": "residual",
    }  # fmt: skip
    means = both.groupby("lam")[[*columns]].mean().rename(columns=columns)
    means["converged"] = [
        f"{part.converged.mean():.0%}" if lam else "" for lam, part in both.groupby("lam")
    ]
    excess = excess_of_minimum(rows, config)
    if excess:
        means["above minimum"] = [excess.get(lam, np.nan) for lam in means.index]
    return means.sort_index(ascending=False).reset_index().rename(columns={"lam": "λ"})


def shown(value: object, name: str) -> str:
    """A cell of the table by λ: errors in percent."""
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if np.isnan(number):
        return "—"
    if "error" in name:
        return f"{100 * number:.1f} %"
    return (f"{100 * number:.2g} %" if name == "above minimum" else f"{number:.3g}").replace(
        "-", "−"
    )


def summary(rows: pandas.DataFrame, config: Config) -> str:
    """How the file was read, means at each λ, and the answers."""
    found = by_lam(rows, config)
    cells = pandas.DataFrame({name: [shown(v, name) for v in found[name]] for name in found})
    table = cells.to_string(index=False)
    lines = [f"{one.question} {one.verdict}" for one in answers(rows, config)]
    read = notes(rows, DATA)
    return "\n".join([*read, "", f"means over seeds\n{table}", "", *lines, "see report.html"])
