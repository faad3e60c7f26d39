"""Noisy gradient descent at infinite width reaches the global minimum

The paper proves that a gradient flow of infinitely many neurons, of which a few are drawn anew at
every step, comes within ε of the global minimum in polynomially many iterations. Is it true that
the noise is needed, that it is enough, and how many iterations does it take?

1,000 particles stand for the measure over neurons, on data whose global minimum is certified. Some
initial particles trap the flow without noise, at a level that is certified too; the same particles
are followed with noise, and with noise that ends after two thirds of the run (a quench), also for
differentiable units, which the theorem requires. Iterations to a relative gap ε are counted against
ε, the noise σ being a tenth of it, and against d on the whole of the distribution D. Of that one
needs all 2^d points, which ends d at 16.

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
