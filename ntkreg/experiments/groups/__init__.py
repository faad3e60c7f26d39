"""Which representations of a finite group a small network learns under weight decay

A network of one hidden layer learns the table of a group: the input is a pair (a, b), the label ab.
A public list of open problems poses an experiment on which representations its outputs are made
of, and how the law of these changes with width and λ; it is run here to the letter (preset
`open_experiment`). Kept apart from it are runs whose rate falls to 0 (`thorough`).

A *representation* here is a nontrivial irreducible one together with its complex conjugate: two
frequencies on C₅, sgn and std on S₃. The *fraction* of one in the outputs f° (less their mean over
c) is ‖projection of f°‖/‖f°‖ onto the functions χ(abc⁻¹) of it; 0 where f° is. The *key set* holds
those of a fraction ≥ 0.005; *N* is the smallest number of them with 95 % of the squared fractions.
A neuron is *pure* for one with ≥ 95 % of ‖u°‖² + ‖v°‖² + ‖w°‖², each less its mean; if nothing is
left of it, for none.

To the letter: G ∈ {C₅, S₃}; f = Σᵢ σ(uᵢ(a) + vᵢ(b)) wᵢ(c) with σ ∈ {z², relu}, relu′(0) = 0, and 2
or 8 neurons; coordinates N(0, 1/n), n = |G|; mean cross-entropy over the whole table + λ‖Θ‖₂² with
λ ∈ {0, 1e-4, 1e-2}; full-batch Adam (0.001, 0.9, 0.999, 1e-8) of at most 20,000 updates; 100 fixed
seeds; float64. Where the specification leaves a choice, these were made:

- The seeds are 0 … 99, the same for every setting; all 3n·m coordinates are one draw in float64,
  `jax.random.normal(jax.random.key(seed), (3n, m)) / √n`, u above v above w.
- *Converged*: in 500 consecutive updates both |F′ − F| < 1e-7 |F| and ‖Θ′ − Θ‖ < 1e-7 ‖Θ‖, where F
  is the whole objective and F, Θ are those before the update. A run ends at its first convergence;
  where F or Θ is 0 nothing is below, so that such a run counts as not converged.
- Every run counts in every share, converged or not and whatever it has learned. *Learned*: at every
  pair the right logit is strictly larger than all others; a tie counts as wrong.
- The fraction of a pair of conjugate representations is of the span of both.
- Intervals are Clopper and Pearson's at 95 %, each by itself.

Source: the public list of open problems MAIS, O61 (the experiment), O59, O56; Morwani, Edelman,
Oncescu, Zhao, Kakade (ICLR 2024) for the task.
"""

import functools

from ntkreg.experiments._experiment import Experiment
from ntkreg.experiments.groups import claims, figure, page, runs
from ntkreg.experiments.groups.claims import ANNEALED, ANNEALED_KEYS, CONVERGED, KEYS, SAME
from ntkreg.experiments.groups.runs import PRESETS, Config

__all__ = [
    "ANNEALED", "ANNEALED_KEYS", "CONVERGED", "EXPERIMENT", "KEYS", "PRESETS", "SAME", "Config",
]  # fmt: skip

EXPERIMENT = Experiment(
    "groups", Config, PRESETS, runs.points, runs.run, claims.claims, figure.figure,
    (SAME, KEYS, CONVERGED, ANNEALED, ANNEALED_KEYS), table=runs.with_key_sets,
    static=("group", "activation", "width"), batch_size=100,
    pages=functools.partial(page.pages, __doc__ or ""),
)  # fmt: skip
