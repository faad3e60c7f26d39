"""The source code that a result comes from, as a hash: a record resumes under the same one."""

import ast
import functools
import hashlib
import inspect
import pathlib
import tokenize
from collections.abc import Iterator
from typing import Any

PACKAGE = pathlib.Path(__file__).parent


def digest(value: Any) -> str:
    """A hash of the code behind the functions in `value`.

    It covers the files that define them and whatever these import of ntkreg, directly or not; so a
    claim or a figure can change and the records that it reads stay as they are. Comments,
    docstrings, layout and annotations of functions do not count. Functions are looked for in
    tuples, lists, dicts, partial applications and closures. One that has no file, as in a notebook,
    counts by its own text, and with all of ntkreg: what else it calls there is not seen.
    """
    texts = {_code(path)[0] for path in files(value)}
    texts |= {_own_text(f) for f in _functions(value, set()) if _own_file(f) is None}
    return hashlib.sha256("\0".join(sorted(texts)).encode()).hexdigest()[:16]


def files(value: Any) -> set[pathlib.Path]:
    """The files that `digest` covers."""
    reached: set[pathlib.Path] = set()
    waiting = [_own_file(f) or PACKAGE / "__init__.py" for f in _functions(value, set())]
    while waiting:
        path = waiting.pop()
        if path not in reached:
            reached.add(path)
            waiting += [_file(name) for name in _code(path)[1]]
    return reached


def imports(source: str, package: tuple[str, ...] = ()) -> set[str]:
    """The dotted names of ntkreg that `source`, a module inside `package`, imports anywhere."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            kept = package[: len(package) + 1 - node.level] if node.level else ()
            base = ".".join([*kept, *([node.module] if node.module else [])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == PACKAGE.name}


def _functions(value: Any, seen: set[int]) -> Iterator[Any]:
    if id(value) in seen:
        return
    seen.add(id(value))
    inside: tuple = ()
    if inspect.isfunction(value):
        yield value
        inside = tuple(inspect.getclosurevars(value).nonlocals.values())
    elif isinstance(value, functools.partial):
        inside = (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, dict):
        inside = tuple(value.values())
    elif isinstance(value, (tuple, list)):
        inside = tuple(value)
    elif hasattr(value, "__wrapped__"):  # as jax.jit makes them
        inside = (value.__wrapped__,)
    for part in inside:
        yield from _functions(part, seen)


def _own_file(function: Any) -> pathlib.Path | None:
    path = pathlib.Path(inspect.getsourcefile(function) or "")
    return path if path.suffix == ".py" and path.is_file() else None


def _file(name: str) -> pathlib.Path:
    """Where the module, or the module that has the object, of this dotted name lies."""
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        path = PACKAGE.joinpath(*parts[:length])
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return PACKAGE / "__init__.py"


@functools.cache
def _code(path: pathlib.Path) -> tuple[str, frozenset[str]]:
    """The code of a file without what does not run, and what it imports of ntkreg."""
    source = path.read_text()
    inside = path.is_relative_to(PACKAGE)
    package = path.relative_to(PACKAGE.parent).parts[:-1] if inside else ()
    return _stripped(source), frozenset(imports(source, package))


def _stripped(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    return ast.unparse(tree)


def _own_text(function: Any) -> str:
    code = getattr(function, "__code__", None)
    try:
        # Python 3.13 takes the text of `python -c` for that of any code that came from no file.
        if code is not None and code.co_filename == "<string>":
            raise OSError
        return inspect.getsource(function)
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):  # its lines are no Python
        code = function.__code__
        constants = [c for c in code.co_consts if not inspect.iscode(c)]
        return repr((code.co_code, code.co_names, constants))
