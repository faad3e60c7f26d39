"""Claim III: noisy gradient descent at infinite width reaches the global optimum.

Particles of the perturbed Wasserstein gradient flow, on data whose global minimum is certified.
Initial particles that trap the flow without noise, at a level that is certified too, and what noise
makes of them; the iterations to a relative gap ε, against ε and against d, with σ tied to ε; and
the floor at which a constant σ and a number of particles end.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, Theorem 3.3.
"""

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.noisy_flow import claims, figure, runs
from ntkreg.experiments.noisy_flow.claims import CLAIMS, ESCAPE, POLYNOMIAL
from ntkreg.experiments.noisy_flow.runs import PRESETS, Config

__all__ = ["CLAIMS", "ESCAPE", "EXPERIMENT", "POLYNOMIAL", "PRESETS", "Config"]

EXPERIMENT = Experiment(
    "noisy_flow", Config, PRESETS, runs.points, runs.run, claims.claims, figure.figure,
    CLAIMS, host=True, more=figure.film,
)  # fmt: skip
