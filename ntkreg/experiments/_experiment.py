"""An experiment as a command: flags made from its Config, its sweep, and what the table shows.

uv run launch/NAME.py --preset=smoke
uv run launch/NAME.py --redraw       # judges and draws the results that are there, runs nothing
"""

import dataclasses
import datetime
import functools
import inspect
import json
import math
import os
import pathlib
import random
import re
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

import jax
import pandas
from absl import app, flags, logging

from ntkreg.experiments import _style
from ntkreg.experiments._claims import Claim, Status
from ntkreg.sweeps import Executor, Refused, load, programs, store, sweep

Config = Any  # a frozen dataclass of numbers, words and tuples of these


def check_field(name: str, value: Any, good: Callable[[Any], bool], wanted: str) -> None:
    """Raises ValueError where `value`, or one of its entries if it is a tuple, is not good."""
    values = value if isinstance(value, tuple) else (value,)
    if not values:
        raise ValueError(f"{name} must have at least one value, got none")
    for entry in values:
        if not good(entry):
            raise ValueError(f"{name} must be {wanted}, got {entry}")


def check_distinct(config: Config, *names: str) -> None:
    """Raises ValueError where a field of these names has a value twice: it would be run twice."""
    for name in names:
        values = getattr(config, name)
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{name} must have each value once, got {value} twice")


def one_of(values: Collection) -> tuple[Callable[[Any], bool], str]:
    """The check, and its words, that a value is one of `values`."""
    return (lambda value: value in values), f"one of {', '.join(map(str, values))}"


def restored(kind: type, fields: Mapping[str, Any]) -> Config:
    """The Config whose fields JSON kept, which has lists for tuples.

    A field that is newer than the results has its default.

    Raises:
      ValueError: for a field that there is no more.
    """
    for name in fields.keys() - {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"the results' fields must be those of Config, got {name}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def changed(config: Config, texts: Mapping[str, str]) -> Config:
    """The Config with other values in some fields, given as text; lists as a,b,c.

    Raises:
      ValueError: for a text that is no value of its field.
    """
    kinds = {field.name: field.default for field in dataclasses.fields(config)}
    given = {name: _parsed(name, text, kinds[name]) for name, text in texts.items()}
    return dataclasses.replace(config, **given)


def kind_of(default: Any) -> type:
    """The type of a field's values, or of its entries."""
    return type(default[0]) if isinstance(default, tuple) else type(default)


BOOLS = {"True": True, "False": False}


def _parsed(name: str, text: str, default: Any) -> Any:
    kind = kind_of(default)
    if kind is str and not isinstance(default, tuple):
        return text  # commas are its own
    parse = BOOLS.__getitem__ if kind is bool else kind
    try:
        values = tuple(parse(part) for part in text.split(",") if part)
    except (KeyError, ValueError):
        raise ValueError(f"--{name} must hold {kind.__name__}, got {text}") from None
    if isinstance(default, tuple):
        return values
    if len(values) != 1:
        raise ValueError(f"--{name} must be one {kind.__name__}, got {text!r}")
    return values[0]


MEASURE_SECONDS = 20.0  # of a dry run


class Experiment(NamedTuple):
    """What makes an experiment. Claims and figure read the table on disk alone.

    Attributes:
      name: of its launcher, and of its folder in results/.
      config: a frozen dataclass of numbers, words and tuples of these.
      presets: name -> the fields in which it differs from the defaults.
      points: config -> the points of the sweep.
      run: (config, **point) -> results, as `sweep` takes them; what `prepare` gives for config.
      claims: (table, config) -> the claims, judged; without those that it has no runs of.
      figure: (table, config) -> its picture.
      statements: the claims, as they stand before a run.
      table: (the sweep's table, config) -> the table that is kept, where it is another.
      static: the axes that are Python values.
      host: whether `run` is called as it is; "cpu" where that is so on a CPU alone: its parts are
        jitted and shared by points, so that they compile in less time than a program of each.
      batch_size: of `sweep`; how many points are one vmapped program.
      more: (table, config, folder) -> None, writes what else there is to see, after a run.
      pages: (table, config) -> texts by the names of their files, written whenever it is drawn.
      prepare: config -> what `run` takes in its place, as arrays of the user's files and functions
        of theirs: a folder of results belongs to these too. Its ValueErrors end in one line.
      folder: (config, the preset's name) -> where results go.
      summary: (table, config) -> lines to be printed at the end, where claims do not say it all.
    """

    name: str
    config: type
    presets: dict[str, dict[str, Any]]
    points: Callable[[Any], list[programs.Point]]
    run: Callable[..., dict[str, Any]]
    claims: Callable[[pandas.DataFrame, Any], list[Claim]]
    figure: Callable[[pandas.DataFrame, Any], _style.Figure]
    statements: tuple[Claim, ...]
    table: Callable[[pandas.DataFrame, Any], pandas.DataFrame] | None = None
    static: tuple[str, ...] = ()
    host: bool | Literal["cpu"] = False
    batch_size: int | None = None
    more: Callable[[pandas.DataFrame, Any, pathlib.Path], None] | None = None
    pages: Callable[[pandas.DataFrame, Any], dict[str, str]] | None = None
    prepare: Callable[[Any], Any] = lambda config: config
    folder: Callable[[Any, str], str] | None = None
    summary: Callable[[pandas.DataFrame, Any], str] | None = None

    @property
    def is_host(self) -> bool:
        """Whether `run` is called as it is, on the device that there is."""
        return self.host is True or (self.host == "cpu" and jax.default_backend() == "cpu")

    def preset(self, name: str) -> Any:
        """The Config of that name.

        Raises:
          ValueError: for an unknown name.
        """
        if name not in self.presets:
            raise ValueError(f"preset must be one of {', '.join(self.presets)}, got {name!r}")
        return self.config(**self.presets[name])

    def sweep(
        self, config: Any, folder: pathlib.Path | None = None, executor: Executor | None = None
    ) -> pandas.DataFrame:
        """The table of a Config, resumed where its folder was begun."""
        found = sweep(
            functools.partial(self.run, self.prepare(config)), self.points(config), folder,
            static_argnames=self.static, host=self.is_host, executor=executor,
            batch_size=self.batch_size,
        )  # fmt: skip
        kept = self.table(found, config) if self.table else found
        if folder is None:
            return kept
        if self.table:
            store.write_table(folder, kept, json.loads((folder / store.RUN).read_text()))
        return load(folder)


def main(experiment: Experiment, executor: Callable[[], Executor] | None = None) -> None:
    """The command of an experiment; `executor` makes what its points go to."""
    logging.set_verbosity(logging.WARNING)  # JAX reports every backend that it does not find
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_matmul_precision", "highest")
    # The sweeps' workers are threads already: a program handed to one more only waits for it.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    where = f"results/{experiment.name}/{'…' if experiment.folder else 'PRESET'}"
    flags.DEFINE_string("preset", "laptop", f"Sizes: {_presets(experiment)}.")
    flags.DEFINE_bool("dry_run", False, "Say what it would take; run and write nothing.")
    flags.DEFINE_bool(
        "distributed", False, "Share the points with the other processes of this job (SLURM, "
        "Kubernetes, a TPU pod), in a folder that all of them see."
    )  # fmt: skip
    flags.DEFINE_bool("redraw", False, "Judge and draw the results that are there; run nothing.")
    flags.DEFINE_string("out", None, f"Folder of the results [{where}].")
    about = meanings(experiment.config)
    for field in dataclasses.fields(experiment.config):
        kind = kind_of(field.default)
        define = flags.DEFINE_bool if kind is bool else flags.DEFINE_string
        lists = ",…" if isinstance(field.default, tuple) else ""
        define(field.name, None, f"{about[field.name]} [{kind.__name__}{lists}].")
    for flag in flags.FLAGS.get_flags_for_module(__name__):  # --help lists those of the script
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)
    app.run(functools.partial(_run, experiment, executor))


def meanings(kind: type) -> dict[str, str]:
    """What each field of a Config is, from the entries of its docstring's Attributes."""
    text = (inspect.getdoc(kind) or "").partition("Attributes:")[2]
    entries = re.findall(r"^  (\w[\w, ]*): (.*(?:\n    .*)*)", text, re.MULTILINE)
    found = {}
    for field in dataclasses.fields(kind):
        word = re.compile(rf"\b{field.name}\b")
        own = [" ".join(about.split()) for names, about in entries if word.search(names)]
        inside = [" ".join(about.split()) for _, about in entries if word.search(about)]
        found[field.name] = next(iter(own + inside), "of Config").rstrip(".")
    return found


def _presets(experiment: Experiment) -> str:
    """The presets, with the minutes that they took where they were run."""
    words = []
    for name in experiment.presets:
        file = pathlib.Path(f"results/{experiment.name}/{name}/{store.RUN}")
        seconds = json.loads(file.read_text()).get("seconds") if file.is_file() else None
        words.append(f"{name} ({math.ceil(seconds / 60)} min)" if seconds else name)
    return ", ".join(words)


def _run(experiment: Experiment, executor, argv: list[str]) -> None:
    given = flags.FLAGS
    try:
        if argv[1:]:
            raise ValueError(f"arguments must be flags, got {' '.join(argv[1:])}")
        if given.distributed:
            _join()
        config = _wanted(experiment)
        place = experiment.folder or (lambda _, preset: f"results/{experiment.name}/{preset}")
        folder = pathlib.Path(given.out or place(config, given.preset))
        if given.redraw:
            config = config_of(experiment, folder)
        else:
            prepared = experiment.prepare(config)
            experiment = experiment._replace(prepare=lambda config: prepared)
        points = [] if given.redraw else experiment.points(config)  # which may need data
        if not (given.dry_run or given.redraw):
            store.check_writable(folder)
    except ValueError as error:
        _refuse(experiment, error)
    begun = time.time()
    print(f"{folder}" if given.redraw else f"{len(points)} points; results go to {folder}")
    try:
        if given.dry_run:
            return print(_estimate(experiment, config))
        if not given.redraw:
            table = experiment.sweep(config, folder, executor and executor())
        if jax.process_index() == 0:
            if not given.redraw:
                _add(folder, preset=given.preset, config=dataclasses.asdict(config))
                if experiment.more:
                    experiment.more(table, config, folder)
            show(experiment, config, folder)
    except (Refused, OSError, MemoryError) as error:  # others are bugs: their traceback is wanted
        _refuse(experiment, error)
    except KeyboardInterrupt:
        again = " ".join(["uv run", *sys.argv])
        print(f"\nstopped; what is finished is kept. To go on: {again}", file=sys.stderr)
        sys.exit(130)
    print(f"{time.time() - begun:.0f} s; {folder}/figure.png")


def show(experiment: Experiment, config: Any, folder: pathlib.Path) -> None:
    """Judges and draws the table in `folder`, and prints what a person wants to see.

    Raises:
      Refused: where the table lacks rows, or columns that the experiment reads; nothing is written.
    """
    table, is_whole = _complete(folder)
    try:
        claims, figure, summary = _read(experiment, table, config)
    except Exception as error:
        _check_table(experiment, table, config, folder / store.SUMMARY, error, is_whole)
        raise
    size = {"rows": len(table), "columns": list(table)}  # older tables came without
    _add(folder, claims=[claim.as_dict() for claim in claims], **size)
    for kind in _style.FORMATS:
        with store.written_atomically(folder / f"figure.{kind}") as file:
            _style.save(figure, file, kind)
    for name, text in experiment.pages(table, config).items() if experiment.pages else ():
        store.write_text(folder / name, text)
    if summary:
        print(summary)
    for claim in claims:
        _print(claim)


def _read(
    experiment: Experiment, table: pandas.DataFrame, config: Any
) -> tuple[list[Claim], _style.Figure, str]:
    """(claims, figure, summary) of a table."""
    summary = experiment.summary(table, config) if experiment.summary else ""
    return experiment.claims(table, config), experiment.figure(table, config), summary


def _complete(folder: pathlib.Path) -> tuple[pandas.DataFrame, bool]:
    """(the table in `folder`, whether it is known to be whole; older tables are not).

    Raises:
      Refused: where it is damaged, or has not the rows and columns that were written.
    """
    file = folder / store.SUMMARY
    try:
        table, known = load(folder), json.loads((folder / store.RUN).read_text())
    except Refused:
        raise
    except ValueError as error:
        raise Refused(f"{file} must be a sweep's table, got {error}") from None
    if len(table) != known.get("rows", len(table)):
        raise Refused(f"{file} must have {known['rows']} rows, got {len(table)}")
    for column in known.get("columns", ()):
        if column not in table:
            raise Refused(f"{file} must have the column {column}")
    return table, "rows" in known


def _check_table(
    experiment: Experiment, table: pandas.DataFrame, config: Any, file: pathlib.Path,
    error: Exception, is_whole: bool,
) -> None:  # fmt: skip
    """Raises Refused where the error that reading the table gave is the table's fault.

    A column is missing if the error names it, and changes once the table has it. Any other error of
    a whole table is a bug.
    """
    for name in re.findall(r"'(\w+)'", repr(error)):
        if name in table:
            continue
        try:
            _read(experiment, table.assign(**{name: math.nan}), config)
        except Exception as other:
            if repr(other) == repr(error):
                continue
        raise Refused(f"{file} must have the column {name}") from None
    if not is_whole:
        found = f"{len(table)} rows, and {type(error).__name__}: {error}"
        raise Refused(f"{file} must be whole and of this version, got {found}") from None


COLORS: dict[Status, str] = {"holds": "green", "fails": "red", "undecided": "yellow"}


def _print(claim: Claim) -> None:
    """The claim and a table of its checks, in colour where the terminal has it."""
    import rich.box  # --help needs none of it
    import rich.console
    import rich.table
    import rich.text

    title = rich.text.Text(f"{claim.statement} ({claim.source})")
    checks = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for name in ("check", "measured", "must be", "status", "over"):
        checks.add_column(name)
    for check in claim.checks:
        status = rich.text.Text(check.status, COLORS.get(check.status, ""))
        checks.add_row(check.what, check.found, check.required, status, check.runs)
    apart = [f"apart: {words}" for words in claim.apart]
    # Intervals in brackets are no markup.
    console = rich.console.Console(markup=False, highlight=False)
    console.print(title, checks, *apart, sep="\n")


def _add(folder: pathlib.Path, **entries: Any) -> None:
    """Puts entries into run.json."""
    path = folder / store.RUN
    known = json.loads(path.read_text()) | entries
    first = [name for name in ("preset", "config", "claims") if name in known]
    ordered = {name: known[name] for name in [*first, *known]}
    store.write_text(path, json.dumps(ordered, indent=1, ensure_ascii=False) + "\n")


def _join() -> None:
    """Joins the job that this process is one of."""
    try:
        jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"--distributed must be of a process in a job that JAX can read, got none: {error}"
        ) from None


def _estimate(experiment: Experiment, config: Any) -> str:
    """Time and memory of a run, from single points of as many kinds as MEASURE_SECONDS allow."""
    kinds: dict[str, list[programs.Point]] = {}
    for point in experiment.points(config):
        kinds.setdefault(repr({**point, "seed": None}), []).append(point)
    order = random.Random(0).sample(list(kinds.values()), len(kinds))
    begun, compiling, running, count = time.perf_counter(), 0.0, 0.0, 0
    while count < len(order) and (not count or time.perf_counter() - begun < MEASURE_SECONDS):
        first = again = _seconds(experiment, config, order[count][0])
        if not experiment.is_host:
            again = _seconds(experiment, config, order[count][0])
        compiling, running = compiling + first - again, running + again * len(order[count])
        count += 1
    cores = (os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1
    seconds = datetime.timedelta(
        seconds=round((compiling + running) * len(order) / (count * cores))
    )
    needed, free = (
        f"{size / 2**30:.2f} GiB" for size in (programs.largest(), programs.memory_free())
    )
    memory = "" if experiment.is_host else f"; its largest program needs {needed} of {free} free"
    return f"about {seconds} h:min:s, from one point each of {count} of {len(order)} kinds{memory}"


def _seconds(experiment: Experiment, config: Any, point: programs.Point) -> float:
    begun = time.perf_counter()
    run = functools.partial(experiment.run, experiment.prepare(config))
    sweep(run, [point], static_argnames=experiment.static, host=experiment.is_host)
    return time.perf_counter() - begun


def _refuse(experiment: Experiment, error: Exception) -> None:
    print(f"{experiment.name}: {' '.join(str(error).split())}", file=sys.stderr)
    sys.exit(2)


def config_of(experiment: Experiment, folder: pathlib.Path) -> Any:
    """The Config of the results in `folder`.

    Raises:
      ValueError: where there are none, or they have a field that there is no more.
    """
    path = folder / store.RUN
    if not path.is_file():
        raise ValueError(f"out must hold results to draw again, got {folder} without {store.RUN}")
    try:
        return restored(experiment.config, json.loads(path.read_text())["config"])
    except (ValueError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise Refused(f"{path} must have a config of this version, got {found}") from None


def _wanted(experiment: Experiment) -> Any:
    """The preset's Config, with what the flags change."""
    fields = dataclasses.fields(experiment.config)
    given = {field.name: flags.FLAGS[field.name].value for field in fields}
    texts = {name: str(value) for name, value in given.items() if value is not None}
    return changed(experiment.preset(flags.FLAGS.preset), texts)
