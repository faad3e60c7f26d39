"""How it is learned: objectives, margins, training at one λ and along a path, noisy flow.

`trainers` has the one loop. `paths` goes from λ to λ: Adam on log F, then L-BFGS, then the network
stretched along its ray cΘ to the next norm. `stationarity` says whether the optimizer got there, on
kinks too. `mean_field` is a two-layer network as particles of a measure, its objective, first
variation and what that proves; `flows` moves them, with noise or without. `kernel_regime` has
networks with their initial function subtracted, the same linearised, and gradient descent in a
kernel's space.
"""

from ntkreg.training.flows import FlowResult, noisy_flow
from ntkreg.training.margins import dual_weighted_margin, dual_weights, normalized_margin
from ntkreg.training.objectives import LOSSES, Loss, log_objective, objective
from ntkreg.training.paths import PathResult, train_path
from ntkreg.training.trainers import TrainOptions, TrainResult, cosine, train

__all__ = [
    "LOSSES",
    "FlowResult",
    "Loss",
    "PathResult",
    "TrainOptions",
    "TrainResult",
    "cosine",
    "dual_weighted_margin",
    "dual_weights",
    "log_objective",
    "noisy_flow",
    "normalized_margin",
    "objective",
    "train",
    "train_path",
]
