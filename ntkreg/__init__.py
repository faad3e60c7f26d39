"""Regularised neural networks against their induced kernels, as functions.

The chain, in which every module knows only those before it:

    data -> networks -> kernels -> kernel_machines        what is learned, and by which kernel
         -> objectives -> margins -> trainers             how a network is trained, what it reaches
         -> cells -> lanes -> timing -> plans             many runs: compiled, timed, batched
         -> records -> sweeps -> claims -> experiments    kept on disk, and what they show

Source: Wei, Lee, Liu, Ma, "Regularization Matters: Generalization and Optimization of Neural Nets
v.s. their Induced Kernel" (NeurIPS 2019).
"""

from ntkreg import (
    claims,
    data,
    kernel_machines,
    kernels,
    margins,
    networks,
    objectives,
    records,
    sweeps,
    trainers,
)
from ntkreg.data import Dataset
from ntkreg.networks import Network, fully_connected

__all__ = [
    "Dataset",
    "Network",
    "claims",
    "data",
    "fully_connected",
    "kernel_machines",
    "kernels",
    "margins",
    "networks",
    "objectives",
    "records",
    "sweeps",
    "trainers",
]
