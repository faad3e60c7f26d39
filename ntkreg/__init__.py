"""Regularised neural networks against their induced kernels, as functions.

The chain, in which every module knows only those before it:

    draws -> data -> image_data                           what is learned from,
         -> arc_cosine -> networks -> flax_networks       by what,
         -> convolutional -> fused                        for images, or in less memory traffic,
         -> kernels -> gram_operators                     and by which kernel, at any size
         -> kernel_machines -> l1_machines                what that kernel learns
         -> objectives -> kernel_regime                   and when training is that kernel's
         -> margins                                       what a network is measured by
         -> trainers -> mean_field -> flows               how it is trained, at any width
         -> stationarity -> paths                         and followed to λ = 0
         -> closed_forms -> bounds -> path_law            what theory says of it
         -> certificates -> global_training -> planted    what the truth is, and training to it
         -> cells -> lanes -> timing -> plans             many runs: compiled, timed, batched
         -> records -> sweeps -> claims -> experiments    kept on disk, and what they show

Source: Wei, Lee, Liu, Ma, "Regularization Matters: Generalization and Optimization of Neural Nets
v.s. their Induced Kernel" (NeurIPS 2019).
"""

from ntkreg import (
    bounds,
    certificates,
    claims,
    closed_forms,
    convolutional,
    data,
    flax_networks,
    flows,
    fused,
    global_training,
    gram_operators,
    image_data,
    kernel_machines,
    kernel_regime,
    kernels,
    l1_machines,
    margins,
    mean_field,
    networks,
    objectives,
    path_law,
    paths,
    planted,
    records,
    stationarity,
    sweeps,
    trainers,
)
from ntkreg.data import Dataset
from ntkreg.networks import Network, fully_connected

__all__ = [
    "Dataset",
    "Network",
    "bounds",
    "certificates",
    "claims",
    "closed_forms",
    "convolutional",
    "data",
    "flax_networks",
    "flows",
    "fully_connected",
    "fused",
    "global_training",
    "gram_operators",
    "image_data",
    "kernel_machines",
    "kernel_regime",
    "kernels",
    "l1_machines",
    "margins",
    "mean_field",
    "networks",
    "objectives",
    "path_law",
    "paths",
    "planted",
    "records",
    "stationarity",
    "sweeps",
    "trainers",
]
