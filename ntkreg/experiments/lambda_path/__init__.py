"""As λ → 0 the regularised minimizer becomes the max-margin network, at any depth

The paper proves that the normalized margin of the minimizer of F_λ tends to the max margin γ* as
λ → 0. The question is whether trained networks and true minimizers show it, and how fast: the dual
weights of the max margin alone predict the margin at every λ, with the constant, up to O(1/R²),
where R is ‖Θ‖ to the order in which the network is homogeneous.

Networks are trained along a path of λ down to 1e-200, each beside the best margin that is known:
certified in low rank, in closed form for linear networks and on orthonormal samples up to three
layers (two with several classes), and from below alone for deeper ones. In low rank the certified
minimizer is computed at every λ too, so that what training misses stands apart from the theorem.
Of three and four classes (preset `classes`) it is the minimum itself that stands beside training:
certified down to λ = 1e-8, and bounded from below by the weights of the max margin beyond.

Source: Wei, Lee, Liu, Ma (ICLR 2019 submission, Theorem 2.1; NeurIPS 2019, Section 4).
"""

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from ntkreg.experiments import _experiment
from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.lambda_path import claims, figure, runs
from ntkreg.experiments.lambda_path.claims import (
    CERTIFIED,
    CLAIMS,
    CLASSES,
    DEEP,
    ESTIMATE,
    EXACT_CLASSES,
    OWN,
    RATE,
)
from ntkreg.experiments.lambda_path.runs import parsed

__all__ = [
    "CERTIFIED", "CLAIMS", "CLASSES", "DEEP", "ESTIMATE", "EXACT_CLASSES", "EXPERIMENT", "OWN",
    "PRESETS", "RATE", "Config", "check_path", "claims", "figure", "points", "runs",
]  # fmt: skip


def all_problems(depths: Iterable[int]) -> tuple[str, ...]:
    """Problems of every kind, the orthonormal samples with networks of these depths."""
    return (
        *(f"random:{dim}:{n}/2/100/relu/2" for dim in (2, 3) for n in (10, 15, 20)),
        *(f"orthonormal:6:2/{depth}/32/relu/2" for depth in depths),
        *(f"orthonormal:6:2/3/32/relu/{power}" for power in (1, 4)),
        "orthonormal:6:2/2/32/quadratic/2",
        *(f"halfspace:5:12/{depth}/16/identity/2" for depth in (2, 4)),
        *(f"orthonormal:4:3:2/{depth}/32/relu/2" for depth in (2, 3)),
        *(f"digits:100/{depth}/32/relu/2" for depth in (2, 3)),
        *(f"D:{dim}:{n}/2/50/relu/2" for dim, n in ((4, 10), (4, 24), (5, 30))),
    )


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes of the experiment.

    Attributes:
      problems: each "dataset:sizes/depth/width/activation/power" (`problems`).
      num_draws: samples drawn of each random data set.
      num_seeds: random starts on each.
      lams: the path of λ, falling.
      num_steps, finish_steps: of Adam and then L-BFGS at each λ.
      learning_rate: of Adam.
    """

    problems: tuple[str, ...] = all_problems(range(2, 9))
    num_draws: int = 9
    num_seeds: int = 4
    lams: tuple[float, ...] = (
        1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-16, 1e-32, 1e-64, 1e-100, 1e-200,
    )  # fmt: skip
    num_steps: int = 6000
    finish_steps: int = 100
    learning_rate: float = 0.03

    def __post_init__(self):
        _experiment.check_field(
            "problems", self.problems, lambda text: bool(parsed(text)), "problems"
        )
        _experiment.check_field("num_draws", self.num_draws, lambda v: v >= 1, "at least 1")
        check_path(self)


def check_path(config: Any) -> None:
    """Raises ValueError where a Config's path of λ, or how it is followed, will not do."""
    check = lambda name, *rule: _experiment.check_field(name, getattr(config, name), *rule)
    check("lams", lambda v: 1e-300 <= v < np.inf, "at least 1e-300 and finite")
    check("learning_rate", lambda v: 0 < v < np.inf, "positive and finite")
    for name in ("num_seeds", "num_steps"):
        check(name, lambda v: v >= 1, "at least 1")
    check("finish_steps", lambda v: v >= 0, "at least 0")
    if list(config.lams) != sorted(set(config.lams), reverse=True):
        raise ValueError(f"lams must fall from each to the next, got {config.lams}")


# smoke: seconds. laptop, thorough, classes: minutes on two cores. full: hours.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": dict(
        problems=(
            "random:2:6/2/16/relu/2", "orthonormal:2:1/3/8/relu/2", "orthonormal:2:1:1/2/8/relu/2",
            "D:3:8/2/16/relu/2",
        ),
        num_draws=1, num_seeds=1,
        lams=(1e-3, 1e-6, 1e-16, 1e-32, 1e-100),
        num_steps=300, finish_steps=10,
    ),
    "laptop": dict(  # one of each kind: every problem compiles programs of its own
        problems=(
            *(f"random:{dim}:{n}/2/100/relu/2" for dim, n in ((2, 10), (3, 10), (3, 20))),
            *(f"orthonormal:6:2/{depth}/32/relu/2" for depth in (2, 4, 8)),
            *(f"orthonormal:6:2/3/32/relu/{power}" for power in (1, 4)),
            "orthonormal:6:2/2/32/quadratic/2", "halfspace:5:12/4/16/identity/2",
            "orthonormal:4:3:2/2/32/relu/2", "digits:100/2/32/relu/2", "D:4:24/2/50/relu/2",
        ),
        num_draws=2, num_seeds=2, num_steps=3000,
    ),
    "thorough": {},
    "classes": dict(
        problems=tuple(f"classes:{sizes}/2/50/relu/2" for sizes in ("3:2:9", "3:3:9", "4:2:8")),
        num_draws=3, num_seeds=3, num_steps=3000,
    ),
    "full": dict(
        num_draws=100, num_seeds=20, num_steps=20_000,
        lams=(1e-1, 1e-2, 1e-3, *(10.0 ** -np.arange(4, 201, 4)).tolist()),
    ),
}  # fmt: skip


def points(config: Config) -> list[dict[str, Any]]:
    """On every data set warm paths, a cold one for its first draw, and the certified one.

    Neighbours are of different problems: else two threads would compile one program.
    """
    found = []
    for problem in map(parsed, config.problems):
        for draw in range(config.num_draws if problem.name in runs.DRAWN else 1):
            starts = [(False, True, seed) for seed in range(config.num_seeds)]
            starts += [(False, False, 0)] if draw == 0 else []
            starts += [(True, False, 0)] if problem.is_certifiable else []
            axes = [dict(zip(("certified", "warm", "seed"), s, strict=True)) for s in starts]
            found += [{**problem._asdict(), "draw": draw, **start} for start in axes]
    first = lambda point: (point["draw"], point["seed"], not point["certified"], point["warm"])
    return sorted(found, key=first)


EXPERIMENT = Experiment(
    "lambda_path", Config, PRESETS, points, runs.run, claims.claims, figure.figure,
    CLAIMS, table=runs.table, host=True,
)  # fmt: skip
