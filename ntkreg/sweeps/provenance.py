"""Where numbers come from: code, configuration, versions, hardware, command.

A folder of results belongs to one fingerprint of what its function does, in parts that can be
compared: its code, and all that it reads elsewhere. So old numbers answer no new question.
"""

import contextlib
import dataclasses
import dis
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import os
import pathlib
import pickle
import subprocess
import sys
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

SHOWN = 60  # characters up to which a value stands for itself
INSTALLED = tuple(
    os.path.realpath(sysconfig.get_path(kind)) + os.sep for kind in ("stdlib", "purelib", "platlib")
)
PLAIN = (int, float, complex, bool, str, bytes, type(None), type(...), np.generic, np.dtype)
NO_VALUES = ("_thread", "threading", "types", "typing")  # modules of locks and types
Parts = list[tuple[str, Any]]


def fingerprint(function: Callable) -> dict[str, str]:
    """Name of each part -> its value, where that is short, or a hash of it.

    Parts are the code of the function and of those it calls, as far as they are not installed
    packages (which count by their versions), and what these read: closed-over variables, defaults,
    arguments of partials, globals, and the content of files that a string or path among them names.

    Raises:
      ValueError: for a value that cannot be compared, as an open file.
    """
    found: dict[str, str] = {}
    waiting: Parts = [(getattr(function, "__name__", "function"), function)]
    seen: list[Any] = []  # kept, so that no two have one id
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, PLAIN):
            found[name] = _short(value)
        elif not any(value is other for other in seen):
            seen.append(value)
            waiting += _parts(value, name, found)
    return found


def hashed(content: bytes | str) -> str:
    """A short hash."""
    data = content if isinstance(content, bytes) else content.encode()
    return hashlib.sha256(data).hexdigest()[:16]


def _parts(value: Any, name: str, found: dict[str, str]) -> Parts:
    """What is inside a value; what has no inside is entered into `found`."""
    if getattr(_module(value), "__package__", None) == __package__:
        return []  # a sweep within a sweep decides no number
    if _is_named(value) and _is_installed(value):
        found[name] = _version(value)
    elif isinstance(value, functools.partial):
        return [(name, value.func), (name, value.args), (name, value.keywords)]
    elif isinstance(value, types.MethodType):
        return [(name, value.__func__), (f"{name}.self", value.__self__)]
    elif inspect.isfunction(value):
        return _parts_of_function(value, found)
    elif hasattr(value, "__wrapped__"):  # as jax.jit and functools.cache make them
        return [(name, value.__wrapped__)]
    elif isinstance(value, types.ModuleType):
        return []  # functions look up what they use of it
    elif isinstance(value, type):
        methods = [(f"{name}.{k}", v) for k, v in vars(value).items() if inspect.isfunction(v)]
        return methods + [(base.__name__, base) for base in value.__bases__]
    elif isinstance(value, jax.Array | np.ndarray):
        found[name] = _array(value)
    elif isinstance(value, dict):
        return [(f"{name}.{key}", part) for key, part in value.items()]
    elif isinstance(value, tuple | list | range | set | frozenset):
        return _members(value, name)
    elif isinstance(value, os.PathLike):
        return [(name, os.fspath(value))]
    elif dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return [(f"{name} of", type(value)), (name, fields)]
    elif not _is_installed(type(value)):
        return [(f"{name} of", type(value)), (name, vars(value))]
    else:
        found[name] = _pickled(value, name)
    return []


def _members(values: Iterable, name: str) -> Parts:
    members = sorted(values, key=repr) if isinstance(values, set | frozenset) else list(values)
    if all(isinstance(member, PLAIN) for member in members):
        return [(name, repr(members))]
    return [(f"{name}[{i}]", member) for i, member in enumerate(members)]


def _parts_of_function(function: types.FunctionType, found: dict[str, str]) -> Parts:
    module, code, space = function.__module__, function.__code__, function.__globals__
    name = f"{module}.{function.__qualname__}"
    found[name] = hashed(_text(code))
    parameters = inspect.signature(function).parameters.values()
    parts = [(f"{name}.{p.name}", p.default) for p in parameters if p.default is not p.empty]
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        parts += [(f"{name}.{variable}", cell.cell_contents)] if _is_set(cell) else []
    names = _names(code)
    read = [(f"{module}.{v}", space[v]) for v in sorted(names & space.keys())]
    read += [(found.__name__, found) for found in _imported(code, space.get("__package__"))]
    return parts + read + _parts_of_modules([value for _, value in read], names)


def _parts_of_modules(values: list[Any], names: set[str]) -> Parts:
    """What has one of these names in the modules among `values`, or in modules inside them."""
    modules = [value for value in values if isinstance(value, types.ModuleType)]
    parts: Parts = []
    for module in modules:  # which grows
        if not _is_installed(module):
            used = [key for key in sorted(names) if hasattr(module, key)]  # loads what is lazy
            parts += [(f"{module.__name__}.{key}", getattr(module, key)) for key in used]
            inside = [getattr(module, key) for key in used]
            modules += [m for m in inside if isinstance(m, types.ModuleType) and m not in modules]
    return parts


def _imported(code: types.CodeType, package: str | None) -> Iterator[types.ModuleType]:
    """The modules that a function imports when it is called, as far as they are there."""
    for name in _imported_names(code):
        with contextlib.suppress(ImportError):
            yield importlib.import_module(importlib.util.resolve_name(name, package))


def _imported_names(code: types.CodeType) -> Iterator[str]:
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opname == "IMPORT_NAME":
            module = "." * level.argval + step.argval
            yield module
            inside = module + "." if step.argval else module
            yield from (inside + name for name in names.argval or ())
    for inner in filter(inspect.iscode, code.co_consts):
        yield from _imported_names(inner)


def _is_set(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _names(code: types.CodeType) -> set[str]:
    return set(code.co_names).union(*(_names(c) for c in code.co_consts if inspect.iscode(c)))


def _text(value: Any) -> str:
    """The instructions of a code object, without docstring, comments and lines; else a repr."""
    if inspect.iscode(value):
        return "\n".join(f"{s.opname} {_text(s.argval)}" for s in dis.get_instructions(value))
    return repr(sorted(value, key=repr)) if isinstance(value, frozenset) else repr(value)


def _short(value: Any) -> str:
    text = repr(value) if len(repr(value)) <= SHOWN else hashed(repr(value))
    if isinstance(value, str) and "\0" not in value and len(value) < 4096 and os.path.isfile(value):
        return f"{text} {hashed(pathlib.Path(value).read_bytes())}"
    return text


def _array(value: Any) -> str:
    is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
    array = np.asarray(jax.random.key_data(value) if is_key else value)
    return f"{array.dtype}{list(array.shape)} {hashed(array.tobytes())}"


def _pickled(value: Any, name: str) -> str:
    if type(value).__module__ in NO_VALUES:
        return type(value).__name__
    if isinstance(value, np.ufunc):  # one of `frompyfunc` does not say what of
        return value.__name__
    try:
        return hashed(pickle.dumps(value))
    except Exception as error:
        raise ValueError(
            f"what the function reads must be a value that can be compared, got {name} of type "
            f"{type(value).__name__} ({error}); give it arrays or numbers"
        ) from None


def _is_named(value: Any) -> bool:
    """Whether it is what its module has under its name: then the module's version says it all."""
    if isinstance(value, types.ModuleType | type):
        return True
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or ""
    found = _module(value)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


def _module(value: Any) -> Any:
    if isinstance(value, types.ModuleType):
        return value
    return sys.modules.get(getattr(value, "__module__", None) or "builtins")


def _is_installed(value: Any) -> bool:
    module = _module(value)
    if module is None or module.__name__ == "__main__":
        return False
    path = getattr(module, "__file__", None)
    return path is None or os.path.realpath(path).startswith(INSTALLED)


def _version(value: Any) -> str:
    top = sys.modules[_module(value).__name__.partition(".")[0]]
    own = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    return f"{own} of {top.__name__} {getattr(top, '__version__', '')}".strip()


PACKAGES = ("ntkreg", "jax", "jaxlib", "optax", "flax", "neural-tangents", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": sys.version.split()[0], **found}


def provenance() -> dict[str, Any]:
    """Command, git revision, versions and hardware of this process, for run.json."""
    device = jax.devices()[0]
    return {
        "command": " ".join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "git": _git_revision(),
        "versions": versions(),
        "hardware": f"{jax.device_count()} × {device.device_kind} ({device.platform}), "
        f"{os.cpu_count()} CPU cores",
    }


def _git_revision() -> str:
    """The commit that the sources come from, with "+changes" where they differ from it."""
    git = functools.partial(
        subprocess.run, cwd=pathlib.Path(__file__).parent, capture_output=True, text=True
    )
    try:
        head = git(["git", "rev-parse", "HEAD"]).stdout.strip()
        changed = git(["git", "status", "--porcelain", "--", "."]).stdout.strip()
    except OSError:
        return "unknown"
    return f"{head or 'unknown'}{'+changes' if changed else ''}"
