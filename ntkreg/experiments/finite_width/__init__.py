"""Does gradient descent reach the global minimum at finite width?

At infinite width noisy gradient descent provably does; at finite width the question is open. Here
the minimum of F_λ is known from a certificate, so that every end of a run can be judged: it is
global (within 0.1 % of the minimum), at rest elsewhere, or unfinished.

Two-layer networks of growing width are trained on small random data sets from many initial
parameters, by Adam and by gradient descent at the stable step, with and without the noise of the
theory: a few neurons drawn anew at each step, until two thirds of the run. Narrow networks are then
continued by *insertion*: the direction that the dual certificate asks for is added as a neuron, and
training goes on.

Source: the last line of the talk's slides; Wei, Lee, Liu, Ma (NeurIPS 2019), Section 3, for
infinite width.
"""

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.finite_width import claims, figure, runs
from ntkreg.experiments.finite_width.claims import CLAIMS, CURING, NOISE, SUCCESS
from ntkreg.experiments.finite_width.runs import PRESETS, Config

__all__ = ["CLAIMS", "CURING", "EXPERIMENT", "NOISE", "PRESETS", "SUCCESS", "Config"]

EXPERIMENT = Experiment(
    "finite_width", Config, PRESETS, runs.points, runs.run, claims.claims, figure.figure, CLAIMS,
    table=runs.table, host=True,
)  # fmt: skip
