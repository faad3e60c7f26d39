"""Quadratic programmes over cones, by clarabel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp


def solved(
    quadratic: sp.spmatrix,
    linear: np.ndarray,
    matrix: sp.spmatrix,
    right: np.ndarray,
    cones: Sequence[tuple[str, int]],
    tolerance: float = 1e-10,
) -> Any:
    """clarabel's solution (x, z, status) of min ½xᵀPx + qᵀx with b − Ax in a product of cones.

    `cones` names the blocks of rows in order, each ("zero" | "nonnegative" | "second_order", rows).
    What the solver says of itself is not checked here.
    """
    import clarabel  # not needed until something is solved

    kinds = {
        "zero": clarabel.ZeroConeT,
        "nonnegative": clarabel.NonnegativeConeT,
        "second_order": clarabel.SecondOrderConeT,
    }
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_iter = False, 100
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = tolerance
    return clarabel.DefaultSolver(
        sp.csc_matrix(sp.triu(quadratic)), linear, sp.csc_matrix(matrix), right,
        [kinds[kind](rows) for kind, rows in cones], settings,
    ).solve()  # fmt: skip
