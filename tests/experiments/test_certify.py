"""The certify experiment: bounds in order, proofs labelled, and a claim that can fail."""

import dataclasses

import numpy as np
import pytest
from launchers import launched_here

from ntkreg.experiments import certify
from ntkreg.experiments.certify import EXPERIMENT, Config, Problem

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("certify")


def claim(rows):
    (found,) = certify.claims(rows, CONFIG)
    return found


def test_each_step_closes_in_on_the_max_margin(smoke):
    slack = 1 + 1e-7  # the table has eight digits
    assert (smoke.trained_margin <= smoke.polished_margin * slack).all()
    assert (smoke.polished_margin <= smoke.lower * slack).all()
    assert (smoke.lower <= smoke.upper * slack).all()
    proved = smoke[smoke.kind != "heuristic"]
    assert (proved.upper <= proved.trained_bound * (1 + 1e-6)).all()
    np.testing.assert_allclose(smoke.gap, 1 - smoke.lower / smoke.upper, atol=1e-7)


def test_kinds_are_those_of_the_oracles(smoke):
    kinds = dict(zip(smoke.oracle, smoke.kind, strict=True))
    assert kinds == dict(enumerate="exact", branch_and_bound="certified", multistart="heuristic")
    assert (smoke[smoke.kind != "heuristic"].gap <= 1e-5).all()


def test_oracles_see_the_same_samples(smoke):
    """A proof and a search on one problem: their networks come from one sample and start."""
    rows = smoke[smoke.dataset == "D"]
    by = rows.pivot(index="seed", columns="oracle", values="trained_margin")
    np.testing.assert_array_equal(by["branch_and_bound"], by["multistart"])


def changed(rows, **columns):
    """The table with other values in some places: column -> (row, value)."""
    rows = rows.copy()
    for name, (row, value) in columns.items():
        rows.loc[row, name] = value
    return rows


def test_the_claim_holds_on_the_smoke_table(smoke):
    assert claim(smoke).status == "holds"


@pytest.mark.parametrize(
    "broken",
    [
        dict(gap=(0, 1e-4)),
        dict(gap=(2, 1e-3)),
        dict(gap=(5, -1e-6)),
        dict(trained_margin=(3, 1.0)),
    ],
    ids=str,
)
def test_the_claim_fails_on_a_table_that_breaks_it(smoke, broken):
    assert claim(changed(smoke, **broken)).status == "fails"


def test_proofs_that_ended_early_are_counted_and_not_judged(smoke):
    found = claim(changed(smoke, nodes=(2, CONFIG.max_nodes), gap=(2, 0.2)))
    assert found.status == "holds" and "1 proofs ended" in found.measured
    assert "2.0e-01" in found.measured


def test_a_run_that_raised_an_error_is_counted_and_fails_the_claim(smoke):
    results = [name for name in smoke if name not in (*certify.AXIS, "seed")]
    rows = smoke.copy()
    rows.loc[0, results] = np.nan
    rows.loc[0, "failed"] = "RuntimeError: no solution"
    assert claim(rows).status == "fails" and "1 runs raised an error" in claim(rows).measured
    assert certify.figure(rows, CONFIG).axes and "nan" in certify.summary(rows, CONFIG)


def test_the_figure_has_three_panels(smoke):
    axes = certify.figure(smoke, CONFIG).axes
    assert len(axes) == 3
    assert len(axes[0].get_xticklabels()) == len(CONFIG.problems)


def test_problems_are_parsed():
    assert certify.parsed("D:10:60:enumerate") == Problem("D", 10, 60, "enumerate")


@pytest.mark.parametrize(
    "text", ["D:10:60", "E:10:60:enumerate", "D:2:60:enumerate", "D:x:6:enumerate", "random:3:1:no"]
)
def test_bad_problems_are_named(text):
    with pytest.raises(ValueError, match=f"problems must be .* got '{text}'"):
        dataclasses.replace(Config(), problems=(text,))


def test_the_launcher_shows_bounds_and_writes_a_row_for_every_sample(smoke, smoke_results):
    out = smoke_results / "certify" / "smoke"  # where the sweep is complete
    done = launched_here(EXPERIMENT, "--preset=smoke", f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert "trained ≤ polished" in done.stdout and "HOLDS" in done.stdout
    header, *lines = (out / "summary.csv").read_text().splitlines()
    wanted = {"dataset", "dim", "num_samples", "seed", "lower", "upper", "gap", "kind", "nodes"}
    assert wanted <= set(header.split(",")) and len(lines) == 8
    drawn = (out / "figure.png").read_bytes()
    (out / "figure.png").unlink()
    again = launched_here(EXPERIMENT, "--redraw", f"--out={out}")
    assert again.returncode == 0 and "HOLDS" in again.stdout
    assert (out / "figure.png").read_bytes() == drawn
