"""The true minimizers along a λ-path, and the law's margins from dual weights (NumPy)."""

import numpy as np

from ntkreg import certificates
from ntkreg.certificates import two_layer
from ntkreg.certificates.certified import Certificate
from ntkreg.data.dataset import Dataset
from ntkreg.kernels.kernel_machines import NotSeparable
from ntkreg.theory import path_law
from ntkreg.training import paths

TRAINED = paths.PathInfo._fields
OWN_LAWS = ("self_predicted", "end_predicted")
UNKNOWN = np.inf  # in columns that a start does not have; NaN would mark a cell as diverged
COLUMNS = (
    *TRAINED,
    "log_lower",
    "predicted",
    *OWN_LAWS,
    "reference_margin",
    "reference_gap",
)
CLOSED = 1e-10  # relative gap that certificates aim at


def own_laws(
    log_lams: np.ndarray, dual_values: np.ndarray, alphas: np.ndarray, **shape
) -> dict[str, np.ndarray]:
    """The law's margins from a path's own weights α and their Σαq/‖Θ‖^order, at every λ (NumPy).

    `self_predicted` from those at the λ at hand, `end_predicted` from those at the last: the
    limits of α tell the whole path, also where many weights prove the max margin.
    """

    def law(log_lam: float, which: int) -> float:
        if not dual_values[which] > 0:
            return np.nan
        alpha = np.asarray(alphas[which], np.float64)
        known = path_law.predicted(log_lam, dual_values[which], alpha, **shape)
        return float(known.normalized_margin)

    each = range(len(log_lams))
    laws = ([law(log_lams[i], i) for i in each], [law(log_lams[i], -1) for i in each])
    return {name: _known(np.array(law)) for name, law in zip(OWN_LAWS, laws, strict=True)}


def certified_path(samples: Dataset, lams: tuple[float, ...]) -> dict[str, np.ndarray]:
    """The columns of the true minimizers of F_λ over two-layer networks of any width (NumPy, host).

    `predicted` is the law's margin from the max margin's dual weights. Data that no network
    separates have the reference 0.
    """
    num_lams = len(lams)
    columns = dict.fromkeys(COLUMNS, np.full(num_lams, UNKNOWN))
    try:
        best = certificates.max_margin(samples, tolerance=CLOSED)
    except NotSeparable:
        return {**columns, "reference_margin": np.zeros(num_lams)}
    minima = [
        certificates.global_minimum(samples, lam, limit=best, tolerance=CLOSED) for lam in lams
    ]
    rows = [_minimizer(samples, minimum) for minimum in minima]
    columns |= {name: np.array([row[name] for row in rows]) for name in rows[0]}
    alphas = columns.pop("alpha")
    columns |= own_laws(
        np.log(lams), columns["dual_weighted_margin"], alphas, num_samples=len(samples.y)
    )
    law = path_law.predicted(np.log(lams), best.upper, best.dual, len(samples.y))
    columns["predicted"] = _known(law.normalized_margin)
    columns["reference_margin"] = np.full(num_lams, best.upper)
    columns["reference_gap"] = np.full(num_lams, best.gap)
    return columns


def _minimizer(samples: Dataset, minimum: Certificate) -> dict[str, float | np.ndarray]:
    """What a certified minimizer has in common with a trained network, and what it proves."""
    x, y = (np.asarray(a, np.float64) for a in samples)
    squared = two_layer.squared_norm(minimum.primal)
    weights = np.maximum(minimum.dual * y, 0.0)
    alpha = weights / weights.sum()
    weighted = alpha @ (y * two_layer.outputs(minimum.primal, x)) / (squared or 1.0)
    return {
        "normalized_margin": two_layer.normalized_margin(minimum.primal, x, y),
        "dual_weighted_margin": weighted,
        "log_objective": np.log(minimum.upper),
        "norm": squared**0.5,
        "log_residual": -np.inf,
        "log_lower": np.log(minimum.lower),
        "alpha": alpha,
    }


def _known(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, UNKNOWN)
