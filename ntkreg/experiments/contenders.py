"""The same training work done by different programs: what the benchmark puts side by side.

Full-batch gradient descent on the plain objective, mean logistic loss + λ‖Θ‖², of two-layer ReLU
networks from one start, one network for each λ, float32. Every contender returns the final mean
losses, by which the benchmark checks that all did the same work.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ntkreg import data, networks, sweeps
from ntkreg._types import Array, Params, PyTree
from ntkreg.data.dataset import Dataset
from ntkreg.training import trainers

LEARNING_RATE = 0.1


class Work(NamedTuple):
    """One size of the work: the networks, λ by λ, and the steps that each takes."""

    num_samples: int
    width: int
    num_lams: int
    num_steps: int
    dim: int

    def operations(self) -> int:
        """Floating-point operations of all matrix products, forward and backward."""
        return 6 * self.num_samples * self.dim * self.width * self.num_lams * self.num_steps

    def traffic(self) -> int:
        """Bytes that must move where no activation stays in a cache: hidden layer and gradient.

        Each is written once and read once, in float32; whether a unit is active is one with it.
        """
        return 4 * 4 * self.num_samples * self.width * self.num_lams * self.num_steps


class Problem(NamedTuple):
    """Samples, start and λ of the work, the same for all contenders."""

    work: Work
    train: Dataset
    params: Params
    lams: np.ndarray


def problem(work: Work) -> Problem:
    """The samples and the start, drawn from fixed keys."""
    train = data.noisy_xor(jax.random.key(0), work.num_samples, work.dim)
    params = networks.fully_connected(2, work.width).init(jax.random.key(1), work.dim)
    lams = np.geomspace(1e-6, 1e-2, work.num_lams).astype(np.float32)
    cast = lambda tree: jax.tree.map(lambda a: a.astype(jnp.float32), tree)
    return Problem(work, cast(train), cast(params), lams)


def _trainer(work: Work) -> trainers.Trainer:
    return trainers.Trainer(
        networks.fully_connected(2, work.width),
        descend="plain",
        optimizer=optax.sgd,
        schedule=trainers.constant,
        num_steps=work.num_steps + 1,  # the last one only evaluates the loss
    )


def _knobs(lam: Array) -> trainers.Knobs:
    return trainers.knobs(lam, LEARNING_RATE, jnp.float32)


def _trained(work: Work, train: Dataset, params: Params, lam: Array) -> Array:
    trainer = _trainer(work)
    state = trainers.init(trainer, params)
    state = trainers.advance(trainer, train, _knobs(lam), state, work.num_steps + 1)
    return jnp.exp(state.log_loss)


def cell(given: Problem) -> sweeps.Cell:
    """The cell of one λ, whose result is its final mean loss."""
    trainer = _trainer(given.work)

    def prepare(point: sweeps.Point) -> tuple[PyTree, PyTree]:
        return (), trainers.init(trainer, given.params)

    def advance(point: sweeps.Point, context: PyTree, state: PyTree, num_steps: Array):
        knobs = _knobs(point["lam"])
        state = trainers.advance(trainer, given.train, knobs, state, num_steps)
        return state, trainers.is_done(trainer, knobs, state)

    steps = given.work.num_steps + 1
    finish = lambda point, context, state: {"loss": jnp.exp(state.log_loss)}
    return sweeps.Cell(prepare, advance, finish, steps, lambda point: steps)


def sweep(given: Problem, **options) -> Callable[[], np.ndarray]:
    """ntkreg's engine, planned and compiled beforehand, with options of `sweeps.prepared`."""
    compute = sweeps.prepared(cell(given), {"lam": given.lams}, **options)
    return lambda: compute().arrays["loss"]


def loop(given: Problem) -> Callable[[], np.ndarray]:
    """One jitted run after the other."""
    run = jax.jit(functools.partial(_trained, given.work))
    return lambda: np.stack([run(given.train, given.params, lam) for lam in given.lams])


def vmap(given: Problem) -> Callable[[], np.ndarray]:
    """All runs in one vmapped program."""
    run = jax.jit(jax.vmap(functools.partial(_trained, given.work), (None, None, 0)))
    return lambda: np.asarray(run(given.train, given.params, given.lams))


def torch_eager(given: Problem) -> Callable[[], np.ndarray]:
    """PyTorch as most people write it: one model after the other, autograd, no compilation."""
    import torch

    x, y, start = _in_torch(given)

    def run(lam: float) -> float:
        first, last = (p.clone().requires_grad_() for p in start)
        for _ in range(given.work.num_steps):
            objective = _torch_loss(torch, first, last, x, y)
            objective = objective + lam * (first.square().sum() + last.square().sum())
            gradients = torch.autograd.grad(objective, (first, last))
            with torch.no_grad():
                first -= LEARNING_RATE * gradients[0]
                last -= LEARNING_RATE * gradients[1]
        return float(_torch_loss(torch, first, last, x, y).detach())

    return lambda: np.array([run(float(lam)) for lam in given.lams])


def torch_compiled(given: Problem) -> Callable[[], np.ndarray]:
    """PyTorch at its best: torch.compile of the vmapped step of all models."""
    import torch

    x, y, start = _in_torch(given)
    lams = torch.from_numpy(given.lams).to(x.device)

    def step(first, last, lam):
        def objective(first, last):
            penalty = lam * (first.square().sum() + last.square().sum())
            return _torch_loss(torch, first, last, x, y) + penalty

        gradients = torch.func.grad(objective, argnums=(0, 1))(first, last)
        return first - LEARNING_RATE * gradients[0], last - LEARNING_RATE * gradients[1]

    torch.compiler.reset()  # else sizes seen before count against the limit of recompilations
    compiled = torch.compile(torch.func.vmap(step), dynamic=False)
    losses = torch.func.vmap(lambda first, last: _torch_loss(torch, first, last, x, y))

    def run() -> np.ndarray:
        first, last = (p.expand(len(lams), *p.shape).contiguous() for p in start)
        with torch.no_grad():
            for _ in range(given.work.num_steps):
                first, last = compiled(first, last, lams)
            return losses(first, last).cpu().numpy()

    return run


def _in_torch(given: Problem):
    """Samples, labels and start as PyTorch's, on a GPU where JAX is on one."""
    import torch

    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    tensor = lambda array: torch.from_numpy(np.array(array)).to(device)
    return tensor(given.train.x), tensor(given.train.y), tuple(map(tensor, given.params))


def _torch_loss(torch, first, last, x, y):
    outputs = (torch.relu(x @ first) @ last)[:, 0]
    return torch.nn.functional.softplus(-y * outputs).mean()


CONTENDERS = {
    "sweep": sweep,
    "loop": loop,
    "vmap": vmap,
    "torch_eager": torch_eager,
    "torch_compiled": torch_compiled,
}
# What these take is proportional to the number of λ: some of them tell the time of one.
ONE_BY_ONE = ("loop", "torch_eager")
