"""Lanes of cells as compiled programs: each shape once, on one device or several."""

import collections
import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ntkreg._compat import program_text_is_whole, quick_compilation
from ntkreg._types import Array, Bool, PyTree
from ntkreg.cells import Cell, Point

LANES = PartitionSpec("lanes")


class Stages(NamedTuple):
    """A cell's stages for one shape and number of lanes, compiled. Lanes are the first axis.

    Attributes:
      prepare: varied -> (context, state).
      advance: (varied, context, state, num_steps) -> (state, over); NaN ends a lane too. The state
        given is donated.
      finish: (varied, context, state) -> the cell's arrays, and `diverged`: whether there is NaN in
        the lane's state.
      merge: (mask, new, old) -> the new lanes where the mask is set, else the old ones;
        compiled when it is first called.
    """

    prepare: Callable
    advance: Callable
    finish: Callable
    merge: Callable


class Programs:
    """Compiles each shape and number of lanes once; shapes that lower to one program share it."""

    def __init__(self, cell: Cell, static: Sequence[str], devices: Sequence[jax.Device]):
        """Lanes are spread over `devices`, equally many on each."""
        self.cell, self.static, self.num_devices = cell, tuple(static), len(devices)
        self._mesh = jax.sharding.Mesh(np.asarray(devices), ("lanes",))
        self._by_lane = NamedSharding(self._mesh, LANES)
        self._everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._shapes, self._programs = _Once(), _Once()
        self._outputs: dict[str, tuple] = {}

    def shape_of(self, point: Point) -> tuple:
        """The point's static coordinates, by name: cells that share them share their programs."""
        return tuple((name, point[name]) for name in self.static)

    def varied(self, points: Sequence[Point]) -> dict[str, np.ndarray]:
        """The traced coordinates of several points, by name, in the dtypes that JAX gives them.

        They stay on the host: a compiled program takes them to its devices itself, in a tenth of
        the time that `device_put` takes.
        """
        names = [name for name in points[0] if name not in self.static]
        arrays = {name: np.asarray([point[name] for point in points]) for name in names}
        canonical = jax.dtypes.canonicalize_dtype
        return {name: a.astype(canonical(a.dtype), copy=False) for name, a in arrays.items()}

    def stages(self, shape: tuple, varied: dict[str, np.ndarray], num_lanes: int) -> Stages:
        """The stages for this shape and number of lanes on each device; `varied` tells dtypes.

        Raises:
          ValueError: where the cell does not give a dict of arrays, the same for every shape.
        """
        return self._shapes((shape, num_lanes), lambda: self._compiled(shape, varied, num_lanes))

    def _compiled(self, shape: tuple, varied: dict[str, np.ndarray], num_lanes: int) -> Stages:
        total = num_lanes * self.num_devices
        point = {
            name: jax.ShapeDtypeStruct((total, *array.shape[1:]), array.dtype)
            for name, array in varied.items()
        }
        lift = functools.partial(self._on_lanes, num_lanes)
        prepare, advance, finish = _with_nan_marked(self.cell, dict(shape))
        prepare, advance, finish = lift(prepare), lift(advance, shared=(3,)), lift(finish)
        context, state = jax.eval_shape(prepare, point)
        self._check_outputs(shape, jax.eval_shape(finish, point, context, state))
        steps = jax.ShapeDtypeStruct((), jnp.int32)
        mask = jax.ShapeDtypeStruct((total,), bool)
        lanes, program = (point, context, state), functools.partial(self._program, shape)
        return Stages(
            program(prepare, point),
            program(advance, *lanes, steps, donated=(2,), shared=(3,), quick=False),
            program(finish, *lanes),
            _when_called(program, lift(_merged), mask, lanes, lanes) if total > 1 else _second,
        )

    def _on_lanes(
        self, num_lanes: int, function: Callable, shared: tuple[int, ...] = ()
    ) -> Callable:
        """`function` of one lane on the lanes of all devices, which share some arguments."""

        def on_device(*args):
            if num_lanes > 1:
                axes = tuple(None if i in shared else 0 for i in range(len(args)))
                return jax.vmap(function, in_axes=axes)(*args)
            # Without vmap: fewer dimensions run faster on a CPU.
            first = [
                arg if i in shared else jax.tree.map(lambda a: a[0], arg)
                for i, arg in enumerate(args)
            ]
            return jax.tree.map(lambda a: jnp.asarray(a)[None], function(*first))

        return self._spread(on_device, shared)

    def _spread(self, on_device: Callable, shared: tuple[int, ...] = ()) -> Callable:
        """Runs `on_device` on every device's own lanes: nothing is exchanged."""
        if self.num_devices == 1:
            return on_device

        def spread(*args):
            specs = tuple(PartitionSpec() if i in shared else LANES for i in range(len(args)))
            # Devices take different numbers of steps, so nothing in it counts as replicated.
            run = jax.shard_map(
                on_device, mesh=self._mesh, in_specs=specs, out_specs=LANES, check_vma=False
            )
            return run(*args)

        return spread

    def _check_outputs(self, shape: tuple, outputs: Any) -> None:
        if not isinstance(outputs, dict):
            raise ValueError(f"function must return a dict of arrays, got {type(outputs).__name__}")
        found = {name: a.shape[1:] for name, a in outputs.items()}
        first = self._outputs.setdefault("first", (found, shape))
        if found == first[0]:
            return
        # Shapes compile in any order: sorted, so that the message does not depend on it.
        pairs = sorted((first, (found, shape)), key=lambda pair: str(pair[1]))
        (one, at_one), (two, at_two) = pairs
        name = next(n for n in {**one, **two} if one.get(n) != two.get(n))
        raise ValueError(
            f"function must return the same arrays at every point, got {name} of shape "
            f"{one.get(name, 'nothing')} at {dict(at_one)} and {two.get(name, 'nothing')} at "
            f"{dict(at_two)}"
        )

    def _program(
        self,
        shape: tuple,
        function: Callable,
        *args: PyTree,
        donated: tuple[int, ...] = (),
        shared: tuple[int, ...] = (),
        quick: bool = True,
    ) -> Callable:
        where = tuple(self._everywhere if i in shared else self._by_lane for i in range(len(args)))
        jitted = jax.jit(
            function, donate_argnums=donated, in_shardings=where, out_shardings=self._by_lane
        )
        lowered = jitted.lower(*args)
        text = lowered.as_text()
        key: tuple = (text, str(lowered.args_info), str(lowered.out_info))
        if not program_text_is_whole(text):
            key = (shape, *key)
        platform = self._mesh.devices.flat[0].platform
        options = quick_compilation(platform) if quick else {}
        return self._programs(key, lambda: lowered.compile(compiler_options=options))


def _with_nan_marked(cell: Cell, fixed: Point) -> tuple[Callable, Callable, Callable]:
    """The three stages as functions of the traced coordinates."""

    def advance(point, context, state, num_steps):
        state, over = cell.advance({**fixed, **point}, context, state, num_steps)
        return state, over | has_nan(state)

    def finish(point, context, state):
        outputs = cell.finish({**fixed, **point}, context, state)
        return {**outputs, "diverged": has_nan(state)} if isinstance(outputs, dict) else outputs

    return lambda point: cell.prepare({**fixed, **point}), advance, finish


def has_nan(state: PyTree) -> Bool[Array, ""]:
    """Whether any float in it is NaN."""
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(state)]
    marks = [jnp.any(jnp.isnan(a)) for a in leaves if jnp.issubdtype(a.dtype, jnp.inexact)]
    return jnp.any(jnp.stack(marks)) if marks else jnp.asarray(False)


def _when_called(program: Callable, *args) -> Callable:
    """What program(*args) gives, not made before it is called: few sweeps refill their lanes."""
    made = functools.cache(lambda: program(*args))
    return lambda *rest: made()(*rest)


def _merged(is_new: Array, new: PyTree, old: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(is_new, a, b), new, old)


def _second(is_new: Array, new: PyTree, old: PyTree) -> PyTree:
    return new


def run_lanes(
    programs: Programs, queues: Sequence[Sequence[Point]], num_lanes: int
) -> list[dict[str, np.ndarray]]:
    """The results of several queues of points of one shape, one queue for each device.

    A device works on num_lanes points of its queue at a time. Once half of its lanes are over they
    leave, and the next points take their places: none waits for the slowest. What a device does
    depends on its own queue alone, so a queue's results have the same bits on any number of
    devices.

    Returns:
      For each queue its arrays, with one entry for each point on the first axis.
    """
    steps = np.int32(programs.cell.stage_steps)
    shape = programs.shape_of(queues[0][0])
    rows: list[dict[int, dict]] = [{} for _ in queues]
    # The place in its queue of the point in each lane; −1 for a lane without a task, which runs
    # along on some point.
    at = np.full((programs.num_devices, num_lanes), -1)
    coordinates = np.full(at.shape, queues[0][0])
    begun = [0] * len(queues)
    lanes: Any = None
    while True:
        fresh = _filled(queues, begun, at, coordinates)
        if fresh.any():
            varied = programs.varied(list(coordinates.reshape(-1)))
            stages = programs.stages(shape, varied, num_lanes)
            new = (varied, *stages.prepare(varied))
            lanes = new if lanes is None else stages.merge(fresh.reshape(-1), new, lanes)
        if (at < 0).all():
            break
        varied, context, state = lanes
        state, over = stages.advance(varied, context, state, steps)
        lanes = (varied, context, state)
        over = np.asarray(over).reshape(at.shape) & (at >= 0)
        due = over & _leaving(over, at)[:, None]
        if due.any():
            outputs = {name: np.asarray(a) for name, a in stages.finish(*lanes).items()}
            for device, lane in np.argwhere(due):
                row = {name: a[device * num_lanes + lane] for name, a in outputs.items()}
                rows[device][at[device, lane]] = row
            at[due] = -1
    return [
        {name: np.stack([found[i][name] for i in range(len(found))]) for name in found[0]}
        for found in rows
    ]


def _filled(queues, begun: list[int], at: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """Puts the queues' next points into free lanes, in place; returns which lanes are new."""
    fresh = np.zeros(at.shape, bool)
    for device, queue in enumerate(queues):
        for lane in np.flatnonzero(at[device] < 0)[: len(queue) - begun[device]]:
            at[device, lane] = begun[device]
            coordinates[device, lane] = queue[begun[device]]
            fresh[device, lane] = True
            begun[device] += 1
    return fresh


def _leaving(over: np.ndarray, at: np.ndarray) -> np.ndarray:
    """For each device whether its lanes that are over leave now: all of them, or at least half."""
    num_over, num_busy = over.sum(1), (at >= 0).sum(1)
    return (num_over == num_busy) | (2 * num_over >= at.shape[1])


class _Once:
    """Values by key, each made once, by the thread that first asks; the others wait for it."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}
        self._locks: dict[Any, threading.Lock] = collections.defaultdict(threading.Lock)
        self._guard = threading.Lock()

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        with self._guard:
            lock = self._locks[key]
        with lock:
            if key not in self._values:
                self._values[key] = make()
            return self._values[key]
