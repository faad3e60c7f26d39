"""Scaling: fitted exponents, the page, and a small run."""

import dataclasses

import numpy as np
import pandas
import pytest

from ntkreg.experiments import scaling, scaling_page, separation
from ntkreg.experiments.scaling import COUNTED, Config
from ntkreg.experiments.scaling_figure import figure

CONFIG = Config.preset("smoke")


def synthetic(power=1.0):
    """Times that grow as counted, to that power, with a fixed cost that the larger sizes hide."""
    rows = []
    for quantity, axes in COUNTED.items():
        for axis, (counted, held) in axes.items():
            for size in (1, 10, 100, 1000, 10_000, 100_000):
                for repeat in range(4):
                    fixed = 10 if counted > 0 else 0
                    seconds = (size ** (counted * power) + fixed) * (1 + 0.01 * repeat)
                    rows.append(
                        dict(quantity=quantity, axis=axis, size=size, repeat=repeat)
                        | dict(seconds=seconds, num_bytes=float(size) ** held)
                    )
    claim = dict(quantity="claim of a chunk", axis="", size=1, repeat=0, seconds=2e-4)
    steps = [
        dict(quantity=f"{name} step", axis="n = 400", size=1, num_bytes=moved)
        for name, moved in (("plain", 3.0 * 2**20), ("fused", 2.0**20))
    ]
    return [*rows, *steps, claim]


@pytest.mark.parametrize("power", [1.0, 1.5])
def test_exponents_are_those_of_the_larger_sizes(power):
    found = scaling.lines(synthetic(power))
    assert len(found) == 9
    for line in found:
        assert line.exponent == pytest.approx(power * line.counted, abs=0.01)
        assert line.interval[0] <= line.exponent <= line.interval[1]
        assert line.bytes_exponent == pytest.approx(line.bytes_counted)


def test_a_small_run_has_every_line_and_repeat():
    rows = scaling.run(CONFIG)
    table = pandas.DataFrame(rows)
    timed = table[(table["axis"] != "") & table.seconds.notna()]
    counts = timed.groupby(["quantity", "axis"])["size"].nunique()
    assert len(counts) == 8 and (counts == 2).all()
    moved = table[table.quantity.str.endswith("n step") | table.quantity.str.endswith("d step")]
    assert len(moved) == 2 * 4 and (moved.num_bytes > 0).all()
    assert (table.seconds.drop(moved.index) > 0).all()
    assert table.repeat.nunique() == CONFIG.num_repeats
    held = {(line.quantity, line.axis): line.bytes_exponent for line in scaling.lines(rows)}
    assert (
        0.7 < held["training step", "num_lams"] < 1.1 and held["gram matrix", "num_samples"] > 1.8
    )
    assert len([ax for ax in figure(rows).axes if ax.lines]) == 8


def test_the_page_tells_what_ran_and_what_did_not(tmp_path):
    folder = tmp_path / "scaling" / "cpu-2-cores"
    folder.mkdir(parents=True)
    pandas.DataFrame(synthetic()).to_csv(folder / "summary.csv", index=False)
    (folder / "run.json").write_text('{"hardware": "1 × cpu", "command": "scaling.py"}')
    page = scaling_page.page(tmp_path)
    assert "| training step | num_samples |" in page and "0.2 ms" in page
    assert "| n = 400 | 3 | 1 | 3 |" in page
    assert "not run: `uv run launch/scaling.py --preset=full`" in page
    assert "H100" in page and "{" not in page
    folder.rename(tmp_path / "scaling" / "nvidia-h100")
    assert "not run" not in scaling_page.page(tmp_path)


def test_the_page_sets_what_was_measured_beside_the_projection(tmp_path):
    assert "has not been run" in scaling_page.page(tmp_path)
    folder = tmp_path / "separation" / "full"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"hardware": "1 × card", "seconds": 123.4}')
    page = scaling_page.page(tmp_path)
    assert "took 123 s on 1 × card" in page and "has not been run" not in page


def test_a_cell_takes_the_slower_of_arithmetic_and_memory():
    card = scaling_page.Card("", flops=100.0, bandwidth=10.0, memory=1.0)
    assert scaling_page.seconds_on(card, scaling_page.Amount(1000.0, 10.0)) == 20.0
    assert scaling_page.seconds_on(card, scaling_page.Amount(1000.0, 1000.0)) == 200.0


def test_projections_grow_with_the_work():
    config = separation.Config.preset("smoke")
    more = dataclasses.replace(config, num_seeds=2 * config.num_seeds)
    one, two = (scaling_page.projections(c)["one card, hours"] for c in (config, more))
    np.testing.assert_allclose(two, 2 * one)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(2,)), "dims must be at least 3, got 2"),
        (dict(widths=(8, 8)), "widths must have each value once, got 8 twice"),
    ],
)
def test_a_bad_config_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
