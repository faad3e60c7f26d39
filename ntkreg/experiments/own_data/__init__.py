"""The λ-path of a user's own network on their own data, beside λ = 0 and the network's NTK

What does regularisation do on these data: is the network at the minimum at each λ, how do margin
and errors go with λ, which λ is best on held-out data and is none worse, does the network beat its
own kernel, is its training lazy, and how wide must it be? Nothing is known of such data beforehand,
so no claim is made; where data are small enough for it, minima and max margin are certified.

Every seed is a start and a split of the data: λ, the network's and the kernel's alike, is chosen on
a validation part, errors are those on a test part that had no say.

Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 4.
"""

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.own_data import answers, figure, runs
from ntkreg.experiments.own_data.runs import PRESETS, Config

__all__ = ["EXPERIMENT", "PRESETS", "Config"]

EXPERIMENT = Experiment(
    "own_data", Config, PRESETS, runs.points, runs.run, claims=lambda rows, config: [],
    figure=figure.figure, summary=answers.summary, statements=(), table=runs.table, host=True,
    prepare=runs.prepare, folder=runs.folder, pages=figure.pages,
)  # fmt: skip
