"""The separation: the regularised network learns D from O(d) samples, its kernel needs Ω(d²)

On D the label sits in two coordinates and d − 2 others are noise. The theorem says that every
minimizer of the ℓ2-regularised loss errs at most like √(d/n), while no combination of the NTK's
functions at n ≲ d² samples does better than a constant error. Networks are judged where they reach
the objective of the network that made the labels, as every minimizer does; one that ends above it
is known to have missed the minimum, goes along the path of λ again, and is counted apart if it
still does.

Every predictor has the same samples for the same d, n and seed, and is tested on fresh points. The
kernel appears as users would train it (hard margin, logistic, ridge, the latter two with the λ that
is best on the test set), and as the coefficients β of largest signal-to-noise ratio over the whole
distribution, which are exact: their R² bounds what any β can do. For the network, error · √(n/d)
rises with d toward ½√3.3 = 0.91, since no error is above ½ and the planted network is the best of
all from n = 3.3 d on; for the kernel it has no bound.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Theorem 2.1.
"""

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.separation import claims, figure, runs
from ntkreg.experiments.separation.claims import CLAIMS, CURED, JUMP, LEARNS, MACHINE, SPAN
from ntkreg.experiments.separation.runs import PRESETS, Config

__all__ = [
    "CLAIMS",
    "CURED",
    "EXPERIMENT",
    "JUMP",
    "LEARNS",
    "MACHINE",
    "PRESETS",
    "SPAN",
    "Config",
]

EXPERIMENT = Experiment(
    "separation", Config, PRESETS, runs.points, runs.run, claims.claims, figure.figure, CLAIMS,
    table=runs.table, static=("dim", "num_rows"), host="cpu",
)  # fmt: skip
