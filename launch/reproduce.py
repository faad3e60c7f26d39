"""Runs every experiment at a preset, then writes the table of claims and the page on the paper.

    uv run launch/reproduce.py                   # the pages alone, from the results that are there
    uv run launch/reproduce.py --redraw          # judges and draws them again first
    uv run launch/reproduce.py --preset=smoke --jobs=2  # some minutes: does everything run?
    uv run launch/reproduce.py --preset=laptop   # the whole table: an hour on two cores
    uv run launch/reproduce.py --preset=thorough # those that have more to show on two cores
    uv run launch/reproduce.py --preset=full     # one accelerator

Experiments that are complete are only drawn again; one that was stopped goes on. The pages are
results/README.md, results/paper.md and results/EXPERIMENT/README.md; the table of smoke is
results/smoke.md. Exits with 1 where an experiment ended in an error, after the others have run.
"""

import functools
import multiprocessing.pool
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

from absl import app, flags

from ntkreg.experiments import _experiment, _paper, _report
from ntkreg.sweeps import store

TEMPLATE = pathlib.Path(__file__).parents[1] / "docs" / "paper.md.in"
PRESET = flags.DEFINE_enum(
    "preset", None, ["smoke", *_report.PRESETS], "Sizes of the experiments; without it none is run."
)
RESULTS = flags.DEFINE_string("results", "results", "Folder of the results.")
ONLY = flags.DEFINE_list("only", None, "Names of the experiments to run [all].")
REDRAW = flags.DEFINE_bool("redraw", False, "Judge and draw all results again; run nothing.")
JOBS = flags.DEFINE_integer(
    "jobs", 1, "Experiments run at a time. With several their output waits until each ends, and "
    "the times that they record are those of shared cores.", lower_bound=1
)  # fmt: skip


def main(argv: list[str]) -> None:
    if argv[1:]:
        sys.exit(f"reproduce: arguments must be flags, got {' '.join(argv[1:])}")
    if not TEMPLATE.is_file():
        sys.exit(f"reproduce: docs/paper.md.in must be in the clone, got none at {TEMPLATE}")
    results = pathlib.Path(RESULTS.value)
    failed = run_all(results, PRESET.value) if PRESET.value else []
    if REDRAW.value:
        redraw(results)
    for name, page in pages(PRESET.value).items():
        if (results / name).parent.is_dir():
            store.write_text(results / name, page(results))
    print(f"wrote {results}/{'smoke.md' if PRESET.value == 'smoke' else 'README.md'}")
    if failed:
        sys.exit(f"reproduce: {', '.join(failed)} ended in an error, see above")


def pages(preset: str | None) -> dict[str, Callable[[pathlib.Path], str]]:
    """What makes each page of the results, by its name."""
    if preset == "smoke":
        return {"smoke.md": functools.partial(_report.page, presets=("smoke",))}
    found: dict[str, Callable[[pathlib.Path], str]] = {
        "README.md": _report.page,
        "paper.md": functools.partial(_paper.page, template=TEMPLATE),
    }
    for name in (*_report.EXPERIMENTS, "benchmark"):
        found[f"{name}/README.md"] = functools.partial(_report.experiment_page, name=name)
    return found


def redraw(results: pathlib.Path) -> None:
    """Judges and draws every experiment's results again."""
    for name in _report.EXPERIMENTS:
        experiment = _report.experiment(name)
        for run in sorted((results / name).glob("*/run.json")):
            print(f"{run.parent}")
            _experiment.show(experiment, _experiment.config_of(experiment, run.parent), run.parent)


def run_all(results: pathlib.Path, preset: str) -> list[str]:
    """Runs the experiments, --jobs at a time; returns the names of those that failed."""
    names = ONLY.value or _report.experiments_with(preset)
    unknown = set(names) - set(_report.EXPERIMENTS)
    if unknown:
        sys.exit(
            f"reproduce: only must name experiments ({', '.join(_report.EXPERIMENTS)}), got "
            f"{', '.join(sorted(unknown))}"
        )
    begun = time.time()

    def run(name: str) -> int:
        heading = lambda: f"[{names.index(name) + 1} of {len(names)}, {time.time() - begun:.0f} s]"
        out = [f"--out={results / name / preset}"] if RESULTS.value != "results" else []
        launcher = pathlib.Path(__file__).with_name(f"{name}.py")
        line = [sys.executable, str(launcher), f"--preset={preset}", *out]
        if JOBS.value == 1:
            print(heading(), name, flush=True)
            return subprocess.run(line).returncode
        ended = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(f"{heading()} {name}\n{ended.stdout}", end="", flush=True)
        return ended.returncode

    with multiprocessing.pool.ThreadPool(JOBS.value) as pool:  # begins no more once interrupted
        codes = pool.map(run, names, chunksize=1)
    return [name for name, code in zip(names, codes, strict=True) if code]


if __name__ == "__main__":
    app.run(main)
