"""How time and memory grow with every size, and the page on scaling.

    uv run launch/scaling.py                                # some two minutes on two cores
    uv run launch/scaling.py --preset=smoke --out=/tmp/s    # seconds

Writes summary.csv (one row for every repeat), run.json, figure.png and figure.pdf to
results/scaling/DEVICE, and results/scaling.md from all that is there.
"""

import pathlib
import time

import pandas

from ntkreg import records
from ntkreg.experiments import command, scaling, scaling_page
from ntkreg.experiments.benchmark import device_name
from ntkreg.experiments.scaling import Config
from ntkreg.experiments.scaling_figure import figure

RESULTS = pathlib.Path("results")


def tell(config: Config, out: pathlib.Path) -> None:
    """What a run would take."""
    print(f"memory: {max(scaling.memory(config).values()) / 2**30:.2f} GiB; results to {out}")


def execute(config: Config, out: pathlib.Path) -> None:
    """Runs, writes and shows the exponents."""
    begun = time.time()
    rows = scaling.run(config)
    command.write(out, config, pandas.DataFrame(rows), figure(rows), time.time() - begun)
    for line in scaling.lines(rows):
        low, high = line.interval
        print(
            f"{line.quantity} against {line.axis}: time ∝ size^{line.exponent:.2f} "
            f"[{low:.2f}, {high:.2f}], counted {line.counted}; memory ∝ "
            f"size^{line.bytes_exponent:.2f}, counted {line.bytes_counted}"
        )
    if out.resolve().is_relative_to(RESULTS.resolve()):
        records.write_text(RESULTS / "scaling.md", scaling_page.page(RESULTS))
        print(f"wrote {RESULTS / 'scaling.md'}")


if __name__ == "__main__":
    folder = lambda preset: f"results/scaling/{device_name()}"
    command.launch("scaling", scaling, tell, execute, folder, scaling.memory)
