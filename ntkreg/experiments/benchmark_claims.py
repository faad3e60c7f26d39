"""What the benchmark must show on an accelerator; a CPU's times say nothing about it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pandas

from ntkreg.experiments import benchmark
from ntkreg.experiments._claims import Claim

SIZE = (400, 100, 1024)  # samples, width, λ
LOOP, TORCH, ROOF = 100.0, 2.0, 0.3
ENGINE = Claim(
    statement="On one accelerator a sweep of 1024 λ (n = 400, width 100) outruns a loop of jitted "
    "runs and compiled PyTorch, near what the machine can do",
    source="the engine's design: cells in batches, nothing exchanged",
    predicted=f"≥ {LOOP:g} times the loop, ≥ {TORCH:g} times torch.compile(vmap), ≥ {ROOF:.0%} of "
    "the roofline",
)


def claim(rows: Sequence[dict[str, Any]]) -> Claim:
    """Ratios of medians at one size; not run where a contender or the size is missing."""
    found = benchmark.medians(rows).reset_index()
    if not (found[["num_samples", "width", "num_lams"]] == list(SIZE)).all(axis=1).any():
        return ENGINE
    ratios = benchmark.ratios(rows, SIZE)
    if not {"loop", "torch_compiled"} <= set(ratios):
        return ENGINE
    share = roof_share(rows)
    good = ratios["loop"] >= LOOP and ratios["torch_compiled"] >= TORCH and ROOF <= share <= 1
    roof = f"{share:.0%} of the roofline"
    if share > 1:
        roof = "an unknown share of the roofline, whose measurement it outruns"
    return dataclasses.replace(
        ENGINE,
        measured=f"{ratios['loop']:.1f} times the loop, {ratios['torch_compiled']:.1f} times "
        f"torch.compile(vmap), {roof}",
        interval="medians of interleaved repeats",
        status="holds" if good else "fails",
    )


def roof_share(rows: Sequence[dict[str, Any]]) -> float:
    """The sweep's share of the peak, of arithmetic or of memory, whichever it is nearer to."""
    table = pandas.DataFrame(rows)
    at_size = (table[["num_samples", "width", "num_lams"]] == list(SIZE)).all(axis=1)
    ours = table[(table.contender == "sweep") & at_size]
    peaks = table[table.task == "peak"].groupby("contender")
    rates = ("gflops", "matrix_product"), ("gbytes_per_second", "matrix_copy")
    return max(ours[rate].median() / peaks[rate].median()[peak] for rate, peak in rates)
