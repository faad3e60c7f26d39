"""Whatever changes what a function does changes its fingerprint, and nothing else does."""

import dataclasses
import functools
import subprocess
import sys
import types
from typing import NamedTuple

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkreg.networks.network import fully_connected
from ntkreg.sweeps.provenance import fingerprint

RATE = 0.1
TABLE = np.arange(3.0)


class Options(NamedTuple):
    rate: float


@dataclasses.dataclass(frozen=True)
class Config:
    rate: float


class Model:
    def __init__(self, rate):
        self.rate = rate

    def run(self, x):
        return {"y": self.rate * x}


def closure(value):
    return lambda x: {"y": value * x}


def default(value):
    def run(x, rate=value):
        return {"y": rate * x}

    return run


def keyword_default(value):
    def run(x, *, rate=value):
        return {"y": rate * x}

    return run


def scaled(x, rate):
    return {"y": rate * x}


def partial(value):
    return functools.partial(scaled, rate=value)


def positional_partial(value):
    return functools.partial(lambda rate, x: {"y": rate * x}, value)


def array(value):
    rates = np.full(3, value)
    return lambda x: {"y": rates * x}


def jax_array(value):
    rates = jnp.full(3, value)
    return lambda x: {"y": rates * x}


def key(value):
    drawn = jax.random.key(int(10 * value))
    return lambda x: {"y": jax.random.normal(drawn) * x}


def inner_function(value):
    scale = lambda x: value * x
    return lambda x: {"y": scale(x)}


def named_tuple(value):
    options = Options(value)
    return lambda x: {"y": options.rate * x}


def dataclass(value):
    config = Config(value)
    return lambda x: {"y": config.rate * x}


def dictionary(value):
    options = {"rate": value}
    return lambda x: {"y": options["rate"] * x}


def long_list(value):
    rates = [value] * 100
    return lambda x: {"y": rates[0] * x}


def method(value):
    return Model(value).run


def jitted(value):
    return jax.jit(lambda x: {"y": value * x})


def network(value):
    net = fully_connected(2, int(100 * value))
    return lambda x: {"y": net.init(jax.random.key(0), 3)[0] * x}


def optimizer(value):
    adam = optax.adam(value)
    return lambda x: {"y": adam.update(x, adam.init(x))[0]}


def flax_module(value):
    dense = flax.linen.Dense(int(100 * value))
    return lambda x: {"y": dense.init(jax.random.key(0), x)}


FORMS = (
    closure, default, keyword_default, partial, positional_partial, array, jax_array, key,
    inner_function, named_tuple, dataclass, dictionary, long_list, method, jitted, network,
    optimizer, flax_module,
)  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_another_value_is_another_function_and_the_same_is_the_same(form):
    assert fingerprint(form(0.1)) == fingerprint(form(0.1))
    assert fingerprint(form(0.1)) != fingerprint(form(0.2))


def test_globals_count_where_they_are_named_even_in_inner_functions(monkeypatch):
    run = lambda x: {"y": (lambda: RATE * TABLE * x)()}
    before = fingerprint(run)
    monkeypatch.setitem(globals(), "RATE", 0.2)
    assert fingerprint(run) != before
    monkeypatch.setitem(globals(), "RATE", 0.1)
    monkeypatch.setitem(globals(), "TABLE", np.arange(4.0))
    assert fingerprint(run) != before


def test_the_functions_of_other_own_modules_count(monkeypatch):
    module = types.ModuleType("own_module")
    module.__file__ = __file__
    exec("def scale(x):\n    return 2 * x", vars(module))
    monkeypatch.setitem(globals(), "own_module", module)
    run = eval("lambda x: {'y': own_module.scale(x)}", globals())
    before = fingerprint(run)
    exec("def scale(x):\n    return 3 * x", vars(module))
    assert fingerprint(run) != before


def test_modules_that_a_function_imports_itself_count(tmp_path, monkeypatch):
    package = tmp_path / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("def scale(x):\n    return 2 * x")
    monkeypatch.syspath_prepend(tmp_path)
    for how, use in {
        "from own_package.inner import scale": "scale(x)",
        "from own_package import missing, inner": "inner.scale(x)",
        "import own_package.inner": "own_package.inner.scale(x)",
        "from . import inner": "inner.scale(x)",
        "from .inner import scale": "scale(x)",
    }.items():
        space = {"__package__": "own_package", "__name__": "own_package.run"}
        exec(f"def run(x):\n    {how}\n    return {{'y': {use}}}", space)
        assert "own_package.inner.scale" in fingerprint(space["run"])
    exec("def run(x):\n    import no_such_module\n    from . import none", space := {})
    assert fingerprint(space["run"])


def test_names_that_a_package_loads_when_they_are_used_count():
    script = (
        "import ntkreg\n"
        "from ntkreg.sweeps.provenance import fingerprint\n"
        "print(*fingerprint(lambda x: ntkreg.train(x)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "ntkreg.training.trainers.train" in run.stdout


def test_inherited_methods_count():
    base = lambda rate: type("Base", (), {"rate": lambda self: rate})
    of = lambda rate: type("Own", (base(rate),), {"run": lambda self, x: {"y": self.rate() * x}})
    assert fingerprint(of(0.1)().run) == fingerprint(of(0.1)().run)
    assert fingerprint(of(0.1)().run) != fingerprint(of(0.2)().run)


def test_the_content_of_a_named_file_counts(tmp_path):
    path = tmp_path / "data.npy"
    for read in (str(path), path):
        np.save(path, np.zeros(3))
        run = lambda x, read=read: {"y": np.load(read) * x}
        before = fingerprint(run)
        assert fingerprint(run) == before
        np.save(path, np.ones(3))
        assert fingerprint(run) != before


def test_comments_docstrings_and_places_do_not_count():
    one, two = {}, {}
    exec("def run(x):\n    return {'y': 2 * x}", one)
    exec('\n\ndef run(x):\n    """Twice x."""\n    # not thrice\n    return {"y": 2 * x}', two)
    own = lambda space: {k: v for k, v in fingerprint(space["run"]).items() if "run" in k}
    assert own(one) == own(two)


def test_the_parts_are_named_by_what_they_are():
    found = fingerprint(default(0.1))
    assert [value for name, value in found.items() if name.endswith("run.rate")] == ["0.1"]


def test_what_cannot_be_compared_is_refused_by_name(tmp_path):
    with (tmp_path / "log").open("w") as file:
        run = lambda x, log=file: {"y": x}
        with pytest.raises(ValueError, match=r"must be a value that can be compared, got .*\.log"):
            fingerprint(run)


def test_it_is_the_same_in_another_process():
    """Sets have another order there."""
    script = (
        "from ntkreg.sweeps.provenance import fingerprint\n"
        "def run(x, names=frozenset('abcdef')):\n"
        "    return {'y': x if str(x) in {'p', 'q', 'r'} else 0}\n"
        "print(sorted(fingerprint(run).items()))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(texts) == 1 and texts.pop().strip()
