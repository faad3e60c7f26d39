"""One run of an experiment as a cell in stages."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg._types import Array, PyTree

Point = dict[str, Any]


class Cell(NamedTuple):
    """One run of an experiment, in stages. All are pure functions of the point.

    A point maps coordinate names to values: static ones are plain Python values, the others
    traced scalars. Randomness is a coordinate like any other (`seed`), so a cell's result depends
    on its point alone. On a CPU `advance` alone is compiled to run fast, the rest to compile fast.

    Attributes:
      prepare: point -> (context, state). The context stays as it is, the state evolves.
      advance: (point, context, state, num_steps) -> (state, whether the run is over). `num_steps`
        is traced; where the stages fall must not change the result.
      finish: (point, context, state) -> dict of arrays, the same shapes for all cells.
      stage_steps: the number of steps between two looks at which runs are over.
      num_steps: the point's static coordinates -> the steps of a whole run, at most, or 0 where
        nobody knows; for the estimate of time alone.
    """

    prepare: Callable[[Point], tuple[PyTree, PyTree]]
    advance: Callable[[Point, PyTree, PyTree, Array], tuple[PyTree, Array]]
    finish: Callable[[Point, PyTree, PyTree], dict[str, Array]]
    stage_steps: int = 1000
    num_steps: Callable[[Point], int] = lambda point: 0


def as_cell(function: Callable[..., dict[str, Array]] | Cell) -> Cell:
    """A function of the coordinates, by name, as a cell of one step; a cell as it is.

    The step is `advance`, the stage that is compiled to run fast (`lanes.Programs`).
    """
    if isinstance(function, Cell):
        return function

    def prepare(point: Point) -> tuple[PyTree, PyTree]:
        return (), jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: function(**point)))

    def advance(point: Point, context: PyTree, zeros: PyTree, num_steps: Array):
        results = jax.tree.map(lambda a, b: jnp.asarray(a, b.dtype), function(**point), zeros)
        return results, jnp.asarray(True)

    return Cell(prepare, advance, lambda point, context, state: state, num_steps=lambda point: 1)


def chosen(coordinate: str, options: Mapping[str, Callable[..., dict[str, Array]] | Cell]) -> Cell:
    """The cell that a point names in this static coordinate; all finish with the same arrays."""
    cells = {name: as_cell(option) for name, option in options.items()}
    of = lambda point: cells[point[coordinate]]
    return Cell(
        prepare=lambda point: of(point).prepare(point),
        advance=lambda point, *rest: of(point).advance(point, *rest),
        finish=lambda point, *rest: of(point).finish(point, *rest),
        stage_steps=max(cell.stage_steps for cell in cells.values()),
        num_steps=lambda point: of(point).num_steps(point),
    )


def check_pure(cell: Cell, static: Sequence[str], point: Point) -> None:
    """Raises ValueError where tracing the cell twice does not give the same program twice."""
    fixed = {name: point[name] for name in static}
    varied = {name: jnp.asarray(value) for name, value in point.items() if name not in static}

    def whole(varied):
        full = {**fixed, **varied}
        context, state = cell.prepare(full)
        state, _ = cell.advance(full, context, state, jnp.int32(1))
        return cell.finish(full, context, state)

    first, second = (_traced(whole, varied) for _ in range(2))
    # A program's text also tells what earlier traces left in JAX's caches, so that the first one's
    # may be alone in what it says. What is not pure differs each time.
    if first != second and second != _traced(whole, varied):
        raise ValueError(
            "function must be pure: traced twice it gives two programs, as with NumPy's random "
            "numbers or a counter inside; draw from jax.random with a key made of `seed`"
        )


def _traced(function: Callable, *args: PyTree) -> tuple:
    jaxpr = jax.make_jaxpr(lambda *a: function(*a))(*args)  # a new function: no cached trace
    constants = tuple(np.asarray(c).tobytes() for c in jaxpr.consts if not _is_key(c))
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr)), constants


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(getattr(value, "dtype", np.float64), jax.dtypes.prng_key)
