"""The certify experiment: bounds in order, proofs labelled, and a claim that can fail."""

import dataclasses

import judged
import numpy as np
import pytest
from launchers import launched_here

from ntkreg.experiments import certify
from ntkreg.experiments.certify import EXPERIMENT, Config, Problem

CONFIG = EXPERIMENT.preset("smoke")


@pytest.fixture(scope="module")
def smoke(smoke_table):
    return smoke_table("certify")


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


TREE, LISTED, FIRST = "branch_and_bound", "enumerate", 0  # the first row's proof is by enumeration


@pytest.mark.parametrize(
    ("edit", "status"),
    [
        (lambda rows: rows, "holds"),
        (lambda rows: rows.assign(gap=rows.gap.mask(rows.oracle == LISTED, 1e-5)), "fails"),
        (lambda rows: rows.assign(gap=rows.gap.mask(rows.oracle == TREE, 1e-4)), "fails"),
        (lambda rows: rows.assign(gap=rows.gap.mask(rows.index == FIRST, -1e-6)), "fails"),
        (lambda rows: rows.assign(polished_margin=1.001 * rows.upper), "fails"),
        (lambda rows: rows.assign(trained_margin=1.001 * rows.upper), "fails"),
        (lambda rows: rows.assign(gap=rows.gap.mask(rows.index == FIRST)), "undecided"),
        (lambda rows: rows.assign(nodes=10**9), "undecided"),
        (lambda rows: rows[~rows.oracle.isin([TREE, LISTED])], "not run"),
        (lambda rows: rows[rows.oracle == LISTED], "holds"),
    ],
)
def test_the_claim_is_judged_by_the_proofs_that_ended(edit, status):
    assert judged.status("certify", certify.CLAIM, edit) == status


def test_proofs_that_ended_early_are_counted_apart():
    (found,) = judged.judged("certify", lambda rows: rows[rows.index < 9]).values()
    assert found.apart == (
        "1 of 1 proofs cut by the limit of nodes (random, d = 6, n = 60), gap to 0.095",
    )
    assert found.checks[0].runs == "1 of 2 proofs"


def test_a_run_that_raised_an_error_leaves_the_claim_undecided_and_is_drawn(smoke):
    results = [name for name in smoke if name not in (*certify.AXIS, "seed")]
    rows = smoke.copy()
    rows.loc[0, results] = np.nan
    (found,) = certify.claims(rows, CONFIG)
    assert found.status == "undecided" and certify.figure(rows, CONFIG).axes


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
    assert "holds" in done.stdout and "fails" not in done.stdout
    header, *lines = (out / "summary.csv").read_text().splitlines()
    wanted = {"dataset", "dim", "num_samples", "seed", "lower", "upper", "gap", "kind", "nodes"}
    assert wanted <= set(header.split(",")) and len(lines) == 8
    drawn = (out / "figure.png").read_bytes()
    (out / "figure.png").unlink()
    again = launched_here(EXPERIMENT, "--redraw", f"--out={out}")
    assert again.returncode == 0 and "holds" in again.stdout
    assert (out / "figure.png").read_bytes() == drawn
