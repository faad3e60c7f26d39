"""An experiment as a command: flags made from its Config, results written, errors in one line."""

import dataclasses
import datetime
import functools
import hashlib
import json
import math
import pathlib
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from absl import app, flags, logging

from ntkreg import provenance, records, sharing, sources, sweeps, timing
from ntkreg.experiments import _style, configs
from ntkreg.experiments._claims import Claim
from ntkreg.records import Record


def main(
    name: str,
    experiment: types.ModuleType,
    figure,
    summary,
    claims=None,
    table=None,
    more=lambda config, out: None,
    folder: Callable[[str], str] | None = None,
) -> None:
    """Runs `experiment` (Config, grid, memory, run) as the command `name`.

    Args:
      figure: record -> matplotlib figure.
      summary: record -> the lines that a person wants to see at the end.
      claims: record -> list of claims; by default the one of `experiment.claim`.
      table: record -> what summary.csv holds; by default `experiment.table` or the record's.
      more: (config, folder) -> None, writes what else there is to see.
      folder: preset -> where results go; by default results/NAME/PRESET.
    """
    claims = claims or (lambda record: [experiment.claim(record)])
    table = table or getattr(experiment, "table", Record.table)

    def execute(config, out: pathlib.Path) -> None:
        num_cells = _num_cells(experiment.grid(config)["axes"])
        print(f"{num_cells} cells; results go to {out}")
        begun = time.time()
        record = experiment.run(config, out / "record")
        found = claims(record)
        write(out, config, table(record), figure(record), record.seconds, found)
        more(config, out)
        print(summary(record))
        for claim in found:
            print(f"{claim.statement}:\n  predicted {claim.predicted}")
            print(f"  measured  {claim.measured}\n  {claim.interval}\n  {claim.status.upper()}")
        now = time.time() - begun
        print(f"{record.seconds:.0f} s of computing, {now:.0f} s now: {out}/figure.png")

    folder = folder or (lambda preset: f"results/{name}/{preset}")
    memory = lambda config: configs.memory_by_shape(
        config, experiment.grid(config), experiment.memory
    )
    launch(name, experiment, functools.partial(_tell, experiment), execute, folder, memory)


def launch(
    name: str,
    experiment: types.ModuleType,
    tell: Callable[[Any, pathlib.Path], None],
    execute: Callable[[Any, pathlib.Path], None],
    folder: Callable[[str], str],
    memory: Callable[[Any], Mapping[str, int]],
) -> None:
    """Makes flags from `experiment.Config` and calls `execute` with a Config and a folder.

    Args:
      tell: what --dry_run calls in its place.
      folder: preset -> where results go unless --out says otherwise.
      memory: Config -> bytes that its parts need, as `timing.check_memory` takes them.
    """
    logging.set_verbosity(logging.WARNING)  # JAX reports every backend that it does not find
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    # The sweeps' workers are threads already: a program handed to one more only waits for it.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    flags.DEFINE_string("preset", "laptop", f"Sizes: {', '.join(experiment.PRESETS)}.")
    flags.DEFINE_bool("dry_run", False, "Tell cells, memory and time; run nothing, write nothing.")
    flags.DEFINE_bool(
        "distributed", False, "Wait for the other processes of this job (SLURM, Kubernetes, a TPU "
        "pod) and check that all run the same."
    )  # fmt: skip
    flags.DEFINE_string("out", None, f"Folder of the results [{folder('PRESET')}].")
    for field in dataclasses.fields(experiment.Config):
        flags.DEFINE_string(
            field.name, None, f"{_kind(field.default).__name__} of Config; lists as a,b,c."
        )

    def run(argv: list[str]) -> None:
        sys.exit(_run(name, experiment, tell, execute, folder, memory, argv))

    app.run(run)


def _run(name, experiment, tell, execute, folder, memory, argv) -> int:
    try:
        config, out = _checked(experiment, folder, memory, argv)
    except ValueError as error:
        return _refused(name, error)
    try:
        (tell if flags.FLAGS.dry_run else execute)(config, out)
    except (records.Refused, OSError) as error:  # others are bugs: their traceback is wanted
        return _refused(name, error)
    except KeyboardInterrupt:
        again = f"uv run launch/{name}.py {' '.join(sys.argv[1:])}".strip()
        print(f"\nstopped; what is finished is kept. To go on: {again}", file=sys.stderr)
        return 130
    return 0


def _refused(name: str, error: Exception) -> int:
    print(f"{name}: {error}", file=sys.stderr)
    return 2


def _checked(experiment: types.ModuleType, folder, memory, argv: list[str]):
    """The Config and the folder that the flags ask for; ValueError where they cannot be had."""
    if argv[1:]:
        raise ValueError(f"arguments must be flags, got {' '.join(argv[1:])}")
    config = _config(experiment)
    out = pathlib.Path(flags.FLAGS.out or folder(flags.FLAGS.preset))
    if flags.FLAGS.distributed:
        index, count = sharing.join(_identity(experiment, config))
        print(f"process {index} of {count}")
    timing.check_memory(memory(config))
    if not flags.FLAGS.dry_run:
        records.check_writable(out)
    return config, out


def _identity(experiment: types.ModuleType, config) -> str:
    text = json.dumps([sources.digest(experiment.run), dataclasses.asdict(config)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _config(experiment: types.ModuleType):
    preset = experiment.Config.preset(flags.FLAGS.preset)
    given = {
        field.name: _parsed(field.name, str(flags.FLAGS[field.name].value), field.default)
        for field in dataclasses.fields(preset)
        if flags.FLAGS[field.name].value is not None
    }
    return dataclasses.replace(preset, **given)


def _kind(default) -> type:
    return type(default[0]) if isinstance(default, tuple) else type(default)


def _parsed(name: str, text: str, default):
    try:
        values = tuple(_kind(default)(part) for part in text.split(",") if part)
    except ValueError:
        raise ValueError(f"--{name} must hold {_kind(default).__name__}, got {text}") from None
    if isinstance(default, tuple):
        return values
    if len(values) != 1:
        raise ValueError(f"--{name} must be one {_kind(default).__name__}, got {text!r}")
    return values[0]


def _tell(experiment, config, out: pathlib.Path) -> None:
    """What the run would take."""
    grid, available = experiment.grid(config), timing.memory_available()
    needed = configs.memory_by_shape(config, grid, experiment.memory)
    largest = max(needed, key=needed.__getitem__)
    print(f"{_num_cells(grid['axes'])} cells; results would go to {out}")
    print(
        f"memory: {needed[largest] / 2**30:.2f} GiB of {available / 2**30:.2f} GiB free, for a "
        f"cell of {largest}"
    )
    found = sweeps.estimate(**experiment.grid(config))
    print(
        f"time: about {datetime.timedelta(seconds=round(found.seconds))} h:min:s, from one "
        f"cell each of {found.num_measured} of {found.num_shapes} shapes"
    )


def _num_cells(axes) -> int:
    return math.prod(len(values) for values in axes.values())


def write(
    out: pathlib.Path, config, table, figure, seconds: float, claims: Sequence[Claim] = ()
) -> None:
    """Writes summary.csv, figure.png, figure.pdf and run.json, each whole or not at all."""
    records.write_text(out / "summary.csv", table.to_csv(index=False, float_format="%.8g"))
    for kind in _style.FORMATS:
        with records.written_atomically(out / f"figure.{kind}") as file:
            _style.save(figure, file, kind)
    report = {
        "preset": flags.FLAGS.preset,
        "config": dataclasses.asdict(config),
        **({"claims": list(map(dataclasses.asdict, claims))} if claims else {}),
        "seconds": round(seconds, 1),
        **provenance.provenance(),
    }
    records.write_text(out / "run.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")
