"""What is true: global minima and max margins of two-layer networks, proved from both sides.

`certified` is what a user calls; `proofs` computes every bound from the arrays that are returned;
`oracles` finds the neuron of the largest dual value, by `arrangements` or `branch_and_bound`.
"""

from ntkreg.certificates.certified import (
    Certificate,
    certificate,
    dual_bound,
    global_minimum,
    max_margin,
    polish,
)
from ntkreg.certificates.global_training import GlobalResult, train_to_global
from ntkreg.certificates.planted import Optimality, planted_optimality

__all__ = [
    "Certificate",
    "GlobalResult",
    "Optimality",
    "certificate",
    "dual_bound",
    "global_minimum",
    "max_margin",
    "planted_optimality",
    "polish",
    "train_to_global",
]
