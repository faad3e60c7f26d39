"""The page on scaling: measured growth, what larger machines would do, where it breaks first."""

import dataclasses
import json
import pathlib
from typing import NamedTuple

import pandas

from ntkreg import records
from ntkreg.experiments import scaling, separation
from ntkreg.experiments.separation import NETS

PRODUCTS = 200  # of a Gram matrix with a vector, that an SVM takes
PLAIN_TRAFFIC = 9  # times that a step of the plain path moves its n × width activations


class Card(NamedTuple):
    """An accelerator by its data sheet: float32 without tensor cores, memory and its bandwidth."""

    name: str
    flops: float
    bandwidth: float
    memory: float


CARDS = (Card("H100, 80 GB", 67e12, 3.35e12, 80e9), Card("H200, 141 GB", 67e12, 4.8e12, 141e9))
EFFICIENCY = 0.5  # of both rates; assumed


class Amount(NamedTuple):
    """Operations and bytes of one cell of the separation."""

    operations: float
    traffic: float


def amount(config: separation.Config, point: dict) -> Amount:
    """What a cell of the separation counts: matrix products, and arrays of n × width or n × n."""
    n, dim = point["num_rows"], point["dim"]
    if point["predictor"] in NETS:
        steps = separation.cell(config).num_steps(point)
        return Amount(
            6.0 * n * dim * config.width * steps, 4.0 * PLAIN_TRAFFIC * n * config.width * steps
        )
    tests = config.num_test
    return Amount(2.0 * dim * n * (n + tests) + 2.0 * PRODUCTS * n**2, 4.0 * PRODUCTS * n**2)


def seconds_on(card: Card, counted: Amount) -> float:
    """The time of a cell at the card's rates, whichever of the two takes longer."""
    slowest = max(counted.operations / card.flops, counted.traffic / card.bandwidth)
    return slowest / EFFICIENCY


def projections(config: separation.Config) -> pandas.DataFrame:
    """One row for each card: hours of the separation on one and on eight, and its longest cell."""
    points = records.points(records.named_axes(separation.grid(config)["axes"]))
    counted = [amount(config, point) for point in points]
    rows = []
    for card in CARDS:
        times = [seconds_on(card, one) for one in counted]
        rows.append(
            {
                "card": card.name,
                "one card, hours": sum(times) / 3600,
                "eight cards, hours": max(sum(times) / 8, max(times)) / 3600,
                "longest cell, minutes": max(times) / 60,
            }
        )
    return pandas.DataFrame(rows)


def page(results: pathlib.Path) -> str:
    """The page, from the results of `launch/scaling.py` on every device that it ran on."""
    folders = sorted((results / "scaling").glob("*/summary.csv"))
    parts = [HEAD, *(_device(path.parent) for path in folders)]
    if not any("cpu" not in path.parent.name for path in folders):
        parts += ["## An accelerator, several devices", f"not run: `{FULL}`"]
    config = dataclasses.replace(
        separation.Config.preset("full"), dims=LARGE_DIMS, max_ntk_samples=LARGE_SAMPLES
    )
    num_shapes = len({row[:2] + row[3:] for row in separation.cells(config)})
    told = dict(table=_markdown(projections(config)), num_shapes=num_shapes, efficiency=EFFICIENCY)
    return "\n\n".join([*parts, TAIL.format(measured=_measured(results), **told)]) + "\n"


def _measured(results: pathlib.Path) -> str:
    """What the separation's `full` preset took where it has been run, beside its projection."""
    path = results / "separation" / "full" / "run.json"
    if not path.exists():
        return f"The preset itself has not been run: `{PRESET}`."
    run = json.loads(path.read_text())
    config = separation.Config.preset("full")
    hours = projections(config).set_index("card")["one card, hours"]
    seconds = 3600 * hours.iloc[0]
    return (
        f"The preset itself (to d = {max(config.dims)}) took {run['seconds']:.0f} s on "
        f"{run['hardware']},\ncompilation in it; projected without are {seconds:.0f} s on one "
        f"{hours.index[0]}."
    )


def _markdown(table: pandas.DataFrame) -> str:
    rows = [list(table), ["---"] * table.shape[1], *table.itertuples(index=False)]
    shown = lambda cell: f"{cell:.3g}" if isinstance(cell, float) else str(cell)
    return "\n".join(f"| {' | '.join(map(shown, row))} |" for row in rows)


def _device(folder: pathlib.Path) -> str:
    rows = pandas.read_csv(folder / "summary.csv").to_dict("records")
    run = json.loads((folder / "run.json").read_text())
    table = [
        {
            "quantity": line.quantity,
            "against": line.axis,
            "sizes": f"{line.sizes[0]:g} … {line.sizes[-1]:g}",
            "time, smallest … largest": f"{line.seconds[0]:.2g} … {line.seconds[-1]:.2g} s",
            "exponent of time": f"{line.exponent:.2f} [{line.interval[0]:.2f}, "
            f"{line.interval[1]:.2f}]",
            "counted": line.counted,
            "exponent of memory": f"{line.bytes_exponent:.2f}",
            "counted ": line.bytes_counted,
        }
        for line in scaling.lines(rows)
    ]
    claim = pandas.DataFrame(rows).query("quantity == 'claim of a chunk'").seconds.median()
    return (
        f"## {run['hardware']}\n\n`uv run launch/{run['command']}`\n\n"
        f"{_markdown(pandas.DataFrame(table))}\n\n"
        f"{_traffic(rows)}\n\n"
        f"Claiming a chunk of a record and giving it back: {1e3 * claim:.2g} ms.\n\n"
        f"![growth of time](scaling/{folder.name}/figure.png)"
    )


def _traffic(rows: list[dict]) -> str:
    """What a step of training moves, plain and fused."""
    table = pandas.DataFrame(rows)
    steps = table[table.quantity.isin(["plain step", "fused step"])]
    moved = steps.pivot(index="axis", columns="quantity", values="num_bytes").reset_index()
    told = pandas.DataFrame(
        {
            "bytes moved by a step, as XLA counts them": moved["axis"],
            "plain": moved["plain step"] / 2**20,
            "fused": moved["fused step"] / 2**20,
            "ratio": moved["plain step"] / moved["fused step"],
        }
    )
    return _markdown(told.rename(columns={"plain": "plain, MiB", "fused": "`fused`, MiB"}))


FULL = "uv run launch/scaling.py --preset=full"
PRESET = "uv run launch/separation.py --preset=full"
# What is projected: the preset with these sizes in place of its own.
LARGE_DIMS, LARGE_SAMPLES = (10, 20, 40, 80, 160, 400, 800, 1600), 128_000
HEAD = """# Scaling

Written by `uv run launch/scaling.py`. Each size is varied alone, the others stay at their base.
Exponents are fitted over the upper half of the sizes, with 95 % intervals by bootstrap over
repeats. `counted` is the exponent of the floating-point operations, or of the bytes that the
arrays hold. Times of training are those of a whole run of all λ.

Where the time grows less than the operations: products over few dimensions leave a CPU's vector
units half idle, so the first dimensions cost little; and an entry of the Gram matrix takes an arc
cosine and a square root, which outweigh its inner product up to several hundred dimensions. The SVM
takes some more products as n grows."""

TAIL = """## What larger machines would do

Projected, not measured, for the separation's `full` preset with the network to d = 1600, the NTK to
d = 400, compilation left out: matrix products and the traffic of n × width and n × n arrays, at
{efficiency:.0%} of the card's data sheet, whichever takes longer. The plain path of training is
meant, which writes its activations to memory.

{table}

{measured}

Cells exchange nothing. Eight cards take an eighth of the time as long as there are eight cells
left, and the longest cell bounds what more can do. A hundred hosts are the same with one more cost:
each compiles every shape that it meets, some seconds for each of {num_shapes} shapes here, so that
a hundred hosts mostly compile once a host's share is under ten minutes. JAX's persistent
compilation cache (`JAX_COMPILATION_CACHE_DIR`) on the shared disk takes that away.

## Where it breaks first

1. **Memory of one cell.** The Gram matrix of n samples is one card's: n = 128,000 in float32 is
   61 GiB. Beyond it rows are spread over cards, or blocks made anew in every product
   (`kernels`, `gram_operators`); a sweep does not do so by itself.
2. **Compilation.** One program for each shape. Sizes are repeated to fill common shapes where that
   changes no result; the rest is what the persistent cache is for.
3. **The shared disk.** A chunk is one file and one lock. A process that waits lists the folder once
   a look, at most every ten seconds: a hundred hosts ask ten questions a second.
   Locks must reach over hosts (NFS 4, Lustre, GPFS).
4. **Steps in turn.** A run's steps cannot be spread: the longest path of λ sets the least time,
   whatever the number of machines."""
