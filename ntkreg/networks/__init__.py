"""By what it is learned: homogeneous networks as pure functions, of any depth, or from Flax."""

from ntkreg.networks.convolution import convolutional, patches
from ntkreg.networks.flax_modules import from_flax
from ntkreg.networks.network import (
    ACTIVATIONS,
    SCALINGS,
    Kernels,
    Network,
    check_homogeneous,
    fully_connected,
    homogeneity_error,
    load_params,
    measured_order,
    save_params,
    scales,
)

__all__ = [
    "ACTIVATIONS",
    "SCALINGS",
    "Kernels",
    "Network",
    "check_homogeneous",
    "convolutional",
    "from_flax",
    "fully_connected",
    "homogeneity_error",
    "load_params",
    "measured_order",
    "patches",
    "save_params",
    "scales",
]
