"""Regularised neural networks against their induced kernels, as functions.

    data          what is learned from
    networks      by what, at any depth
    kernels       and by which kernel
    training      how, along λ and at infinite width
    theory        what is known: closed forms, bounds, the law of the path
    certificates  what is true: minima and margins proved from both sides
    sweeps        many runs, in a table
    experiments   what they show

Each imports only what stands above it; `theory` and `sweeps` import none. Folders and names are
loaded when they are first used.

Source: Wei, Lee, Liu, Ma, "Regularization Matters: Generalization and Optimization of Neural Nets
v.s. their Induced Kernel" (NeurIPS 2019).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
