"""What stands beside the paper's figures: means of the rows that each experiment left.

Each function takes the rows of an experiment's summary.csv.
"""

import pandas

from ntkreg.experiments import line_claims, width_claims


def toward_l1_svm(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Margin over the ℓ1-SVM's and distance of the functions at every λ, medians over data sets.

    Of the true minimizers, and of the best of each set's starts.
    """
    parts = {
        "true minimizers": line_claims.minimizers(rows),
        "trained": line_claims.best_of_seeds(rows),
    }
    columns = {"svm_ratio": "margin", "function_gap": "difference"}
    told = {
        f"{title}, {name}": part.groupby("lam")[column].median()
        for column, title in columns.items()
        for name, part in parts.items()
    }
    found = pandas.DataFrame(told).sort_index(ascending=False).rename_axis("λ")
    return found[found.filter(like="margin").min(axis=1) > 0].reset_index()


def network_and_kernels(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean test errors and bounds of network, ReLU features and NTK, for every task and n."""
    names = {
        ("test_error", "network"): "error, network",
        ("test_error", "nngp"): "error, ReLU features",
        ("test_error", "ntk"): "error, NTK",
        ("bound", "network"): "bound, network",
        ("bound", "nngp"): "bound, ReLU features",
        ("bound", "ntk"): "bound, NTK",
    }
    found = rows.pivot_table(
        index=["task", "num_samples"], columns="predictor", values=["test_error", "bound"]
    ).reindex(columns=list(names))
    found.columns = list(names.values())
    return found.reset_index().rename(columns={"num_samples": "n"})


def by_width(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Margin and test error for every width at the least λ, means of the trials that fit."""
    last = pandas.concat([width_claims.at_last_lam(rows, name) for name in ("teacher", "digits")])
    by = ["dataset", "width"]
    found = (
        last[last.normalized_margin > 0]
        .groupby(by, sort=False)
        .agg(
            margin=("normalized_margin", "mean"),
            error=("test_error", "mean"),
            rest=("converged", "sum"),
            fit=("seed", "size"),
        )
    )
    found["trials"] = last.groupby(by).size()
    return found.reset_index().rename(columns={"error": "test error", "rest": "at rest"})


def with_and_without(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Margin, test accuracy and changed activation patterns at the end, for every λ from one start.

    Of the width that is trained with λ too.
    """
    with_lam = rows[rows.width.isin(rows.width[rows.lam > 0]) & (rows["look"] == "end")]
    return _panels(with_lam, ["dataset", "num_samples", "lam"])


def from_unit_start(rows: pandas.DataFrame) -> pandas.DataFrame:
    """The same from entries N(0, 1), for every width and λ."""
    return _panels(rows[rows.init_scale == 1.0], ["width", "num_samples", "lam"])


def _panels(rows: pandas.DataFrame, by: list[str]) -> pandas.DataFrame:
    """Means of what the three panels of the paper's figure show."""
    panels = {
        "margin": rows.normalized_margin,
        "test accuracy": 1 - rows.test_error,
        "activation patterns changed": rows.activation_change,
    }
    found = pandas.DataFrame(panels).groupby([rows[name] for name in by]).mean()
    return found.reset_index().rename(columns={"num_samples": "n", "lam": "λ"})


def annealing(rows: pandas.DataFrame) -> pandas.DataFrame:
    """Mean test error of the networks with annealed λ and with a fixed one, where all were run."""
    networks = rows[rows.predictor == "network"]
    found = networks.pivot_table(
        index=["dataset", "model", "num_samples"], columns="schedule", values="test_error"
    )
    found = found.dropna().rename_axis(columns=None)
    return found.reset_index().rename(columns={"num_samples": "n"})


def markdown(table: pandas.DataFrame) -> str:
    """The table in Markdown: means to four decimals, λ and sizes as they are."""

    def shown(name: str, cell) -> str:
        is_mean = isinstance(cell, float) and name != "λ"
        text = f"{cell:.4f}" if is_mean else f"{cell:g}" if isinstance(cell, float) else str(cell)
        return {"nan": "—"}.get(text, text).replace("|", "\\|")

    names = list(table)
    lines = [names, ["---"] * len(names)]
    for row in table.itertuples(index=False):
        lines.append([shown(name, cell) for name, cell in zip(names, row, strict=True)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
