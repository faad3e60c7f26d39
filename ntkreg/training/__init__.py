"""How it is learned: objectives, margins, training at one λ and along a path, noisy flow.

Each module holds one of them: `objectives`, `margins`, `trainers`, `paths`, `flows`, `mean_field`
(networks of infinite width), `kernel_regime` (training that is the kernel's), `stationarity`.
"""

from ntkreg.training.flows import FlowResult, noisy_flow
from ntkreg.training.margins import dual_weighted_margin, dual_weights, normalized_margin
from ntkreg.training.objectives import LOSSES, Loss, log_objective, objective
from ntkreg.training.paths import Path, PathResult, train_path
from ntkreg.training.trainers import Trainer, TrainResult, cosine, train

__all__ = [
    "LOSSES",
    "FlowResult",
    "Loss",
    "Path",
    "PathResult",
    "TrainResult",
    "Trainer",
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
