"""What is true: global minima and max margins of two-layer networks, proved from both sides.

`certified` is what a user calls. Weak duality needs the largest value of Σ cᵢ relu(uᵀxᵢ) on the
unit sphere: `oracles` find it, from all faces (`enumeration`, exact signs in integers), by the
compiled `branch_and_bound`, or by the local search of `sphere_search`. To rank 4, and of few
samples beyond, `refinement` solves for weights and network by `cutting_planes` over all faces: in
float64, and where digits cancel in `balls` of 512 bits and more. Else `convex` solves for the best
network over known activation patterns (`two_layer`), `column_generation` goes back and forth
between that and the oracle, and the level method of `cutting_planes` betters the weights of a
network that is already the best. `insertion` trains, adds the neurons that the oracle finds
missing, and goes on until a certificate closes.

Whatever found them, `proofs.proved` alone says what a network and weights prove: it takes exactly
the arrays that are returned, encloses every operation in a ball, and bounds that cross raise.
`planted` does so for one network on D, by `planted_relaxation` where branch and bound does not end.
All of this is NumPy on the host. Networks with an output a class come from all faces, too
(`several_classes`).

With the activation z² and the norm ‖·‖_{2,3} the largest value is an eigenvalue, and `quadratic`
solves for weights and network at any rank; on the table of a finite group both problems are small
programmes over representations, which `group_games` solves.
"""

from ntkreg.certificates.certified import (
    Certificate,
    certificate,
    dual_bound,
    global_minimum,
    max_margin,
    polish,
)
from ntkreg.certificates.group_games import group_margin, group_minimum
from ntkreg.certificates.insertion import GlobalResult, train_to_global
from ntkreg.certificates.planted import Optimality, planted_minimum, planted_optimality
from ntkreg.certificates.planted_relaxation import planted_proof

__all__ = [
    "Certificate",
    "GlobalResult",
    "Optimality",
    "certificate",
    "dual_bound",
    "global_minimum",
    "group_margin",
    "group_minimum",
    "max_margin",
    "planted_minimum",
    "planted_optimality",
    "planted_proof",
    "polish",
    "train_to_global",
]
