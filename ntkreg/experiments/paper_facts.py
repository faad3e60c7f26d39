"""What the paper and its talk say, how sure each fact is, and what here stands for it.

The text of the NeurIPS version was not at hand: its facts come from other public texts or memory.
"""

from typing import NamedTuple

from ntkreg.experiments import (
    approximate_claims,
    certify,
    finite_width_claims,
    lambda_path_claims,
    lazy_training_claims,
    line_claims,
    noisy_flow_claims,
    phase_diagram_claims,
    practice_claims,
    regression_claims,
    regularization_claims,
    separation_claims,
    teacher_claims,
    transition_claims,
    width_claims,
)
from ntkreg.experiments._claims import Claim

SLIDES = "the slides"
FIRST = "the ICLR 2019 submission"
REVISED = "the revised submission"
SECOND_HAND = "Smith's report"
MEMORY = "memory, unverified"
UNKNOWN = "not known"
SURENESS = {
    SLIDES: "read: the talk's slides",
    FIRST: "read: the submission, with the content of the first arXiv version",
    REVISED: "read: its revision, of which displayed formulas were missing",
    SECOND_HAND: "second-hand: a public report that transcribes or imitates the fourth version",
    MEMORY: "remembered, and checked against no text",
    UNKNOWN: "in no text that could be read",
}


class Entry(NamedTuple):
    """A row of the index.

    Attributes:
      result: of the paper or the talk, in a sentence.
      known: from where, one or more of SURENESS.
      functions: "module.name" of ntkreg, that stand for it.
      claims: that measure it; the commands follow from them.
      note: what else there is to say; where a test stands in for a claim, its file.
    """

    result: str
    known: tuple[str, ...]
    functions: tuple[str, ...]
    claims: tuple[Claim, ...] = ()
    note: str = ""


GENERALIZATION = (
    Entry(
        "Main Results I, the distribution D: the label sits in two coordinates, the rest is noise",
        (SLIDES, SECOND_HAND),
        ("data.noisy_xor", "data.noisy_xor_population", "theory.closed_forms.planted_network"),
        (transition_claims.CLAIM,),
        "the slides give the first two coordinates, the report the signs in the others",
    ),
    Entry(
        "Main Results I, Theorem 2.1: Ω(d²) samples for the NTK, O(d) for the ℓ2-regularised net",
        (SLIDES, SECOND_HAND),
        ("training.train", "kernels.ntk", "kernels.hard_margin_svm"),
        (separation_claims.CLAIM,),
        "constants are not given; one line of the transcription has O(d²) for the network too, "
        "taken here as a misprint",
    ),
    Entry(
        "The kernel: gradients of both layers, Gaussian weights, infinite width",
        (SECOND_HAND,),
        ("kernels.ntk", "kernels.empirical_ntk"),
        (lazy_training_claims.WIDTH,),
    ),
    Entry(
        "Section 2, regression variant: the same gap on D for the truncated squared loss",
        (MEMORY,),
        ("data.noisy_xor", "kernels.min_norm_interpolant"),
        (regression_claims.ON_D,),
    ),
    Entry(
        "First version, regression: one random ReLU feature of Gaussian inputs, on which the bound "
        "by the 2-norm stays constant",
        (FIRST, REVISED),
        ("data.relu_feature", "kernels.min_norm_interpolant"),
        (regression_claims.ON_FEATURE, regression_claims.STAIRCASE),
    ),
    Entry(
        "First version, classification: the parity of two signs among Gaussian coordinates",
        (FIRST,),
        ("data.gaussian_parity", "theory.bounds.two_layer_bound", "theory.bounds.kernel_bound"),
        (teacher_claims.ERRORS, teacher_claims.BOUNDS),
    ),
    Entry(
        "A rerun without λ on D, published by Smith: small starts need n ∝ d as well",
        (SECOND_HAND,),
        ("training.train", "data.noisy_xor"),
        (phase_diagram_claims.BASELINE, phase_diagram_claims.REGIMES),
    ),
)
MARGINS = (
    Entry(
        "Main Results II, λ → 0: margins of the regularised minimizers tend to the max margin, at "
        "any depth, for homogeneous networks and any ‖Θ‖^r",
        (SLIDES, FIRST),
        ("training.train_path", "certificates.global_minimum", "training.normalized_margin"),
        lambda_path_claims.CLAIMS,
        "Theorem 2.1 of the submission; Theorem 4.1 of the fourth version from memory",
    ),
    Entry(
        "The max margin γ*, which the theorem leaves abstract",
        (FIRST,),
        ("certificates.max_margin", "certificates.dual_bound"),
        (certify.CLAIM,),
    ),
    Entry(
        "β-approximate minimizers: a margin of at least γ*/(10β^(a/r)) at small λ",
        (FIRST, MEMORY),
        ("theory.bounds.theorem_margin", "theory.bounds.least_margin"),
        (approximate_claims.CLAIM,),
        "the submission has γ*/8 at β = 2 and two layers; the form with 10 is from memory",
    ),
    Entry(
        "Generalization bound, two layers: (6/γ)√(D/n) + ε, D the mean of ‖x‖²",
        (FIRST,),
        ("theory.bounds.two_layer_bound",),
        (teacher_claims.BOUNDS,),
    ),
    Entry(
        "Main Results II, generalization bound at any depth, by the inverse max margin (Golowich "
        "et al.)",
        (SLIDES, REVISED, MEMORY),
        ("theory.bounds.generalization_bound",),
        (width_claims.BOUND,),
        "the factor in the depth is in the revision, the display from memory, up to constants; "
        "here with constants",
    ),
    Entry(
        "Main Results II, width: the max margin does not fall with width, and is constant from n "
        "neurons (n + 1 in later notes) on",
        (SLIDES, FIRST, REVISED),
        ("certificates.max_margin", "networks.fully_connected"),
        (width_claims.WIDTH,),
    ),
    Entry(
        "ℓ1-SVM equivalence: the max margin of wide two-layer networks is half that of the ℓ1-SVM "
        "over all unit neurons",
        (FIRST,),
        ("kernels.l1_svm", "kernels.relu_dictionary", "kernels.circle"),
        (line_claims.MARGIN,),
        "on a line; `tests/test_l1_machines.py` has the ℓ1-SVM in more dimensions",
    ),
    Entry(
        "ℓ2 kernel SVM with ReLU features, of which the top layer alone is trained, and its bound",
        (FIRST,),
        ("kernels.l2_margin", "kernels.nngp", "theory.bounds.kernel_bound"),
        (teacher_claims.BOUNDS,),
        "`tests/test_l1_machines.py` compares the two margins",
    ),
)
OPTIMIZATION = (
    Entry(
        "Main Results III, Theorem 3.3: noisy gradient descent at infinite width reaches the "
        "global optimum in polynomially many iterations",
        (SLIDES, SECOND_HAND, FIRST),
        (
            "training.noisy_flow",
            "training.mean_field.first_variation",
            "training.mean_field.optimality_gap",
        ),
        noisy_flow_claims.CLAIMS,
        "it asks for differentiable units, which ReLU's are not; `mean_field.soft_relu_unit` is",
    ),
    Entry(
        "Theorem 3.3, discrete version: steps of size η in place of the flow",
        (FIRST, REVISED),
        ("training.flows.step", "training.flows.stable_step"),
        (noisy_flow_claims.POLYNOMIAL,),
    ),
    Entry(
        "Corollary: a max margin within a constant in polynomial time, where 1/λ is polynomial",
        (REVISED,),
        ("training.noisy_flow", "theory.bounds.theorem_margin"),
        (noisy_flow_claims.POLYNOMIAL, approximate_claims.CLAIM),
        "its two halves; they are not run together",
    ),
    Entry(
        "Conclusion, open question: optimization of regularised networks of finite size",
        (SLIDES,),
        ("training.noisy_flow", "certificates.insertion.insert", "certificates.train_to_global"),
        finite_width_claims.CLAIMS,
    ),
)
TALK = (
    Entry(
        "Can NTK explain deep learning? At certain rates and starts training is a kernel method",
        (SLIDES,),
        (
            "training.kernel_regime.centred",
            "training.kernel_regime.linearised",
            "training.kernel_regime.kernel_flow",
        ),
        (lazy_training_claims.WIDTH, lazy_training_claims.SCALE),
    ),
    Entry(
        "Can NTK explain deep learning? Such rates and starts are unrealistic, and leave no room "
        "for ℓ2 regularisation",
        (SLIDES,),
        ("training.kernel_regime.relative_change", "training.margins.activation_patterns"),
        (regularization_claims.LEAVES, phase_diagram_claims.REGIMES),
    ),
    Entry(
        "Can NTK explain deep learning? Networks beat kernels in practice",
        (SLIDES,),
        ("networks.convolutional", "data.images", "kernels.ntk"),
        (practice_claims.NETWORKS,),
    ),
    Entry(
        "Main Results I, takeaway: the NTK overfits to noise, λ chooses the features that matter",
        (SLIDES,),
        ("experiments.separation.signal_share",),
        (separation_claims.CLAIM,),
        "column `signal_share` of its summary.csv",
    ),
)
FIGURES = (
    Entry(
        "E1, margin on a line as λ falls",
        (FIRST, REVISED),
        ("kernels.circle", "kernels.l1_svm", "training.paths.follow", "certificates.max_margin"),
        line_claims.CLAIMS,
    ),
    Entry(
        "E2, network and kernel for growing n",
        (FIRST,),
        ("data.teacher", "theory.bounds.two_layer_bound", "theory.bounds.kernel_bound"),
        teacher_claims.CLAIMS,
    ),
    Entry(
        "E3, margin and test error for growing width",
        (REVISED,),
        ("data.teacher", "data.digits", "training.train_path"),
        (width_claims.ERROR,),
    ),
    Entry(
        "E4, WideResNet with annealed weight decay",
        (REVISED,),
        ("training.train", "networks.convolutional"),
        (practice_claims.ANNEALING,),
        "other networks and images, see below",
    ),
    Entry(
        "E5, with and without regularisation from one start",
        (MEMORY, SECOND_HAND),
        ("training.margins.activation_patterns", "experiments.descents.descended"),
        regularization_claims.CLAIMS,
    ),
    Entry("E6, WideResNet on CIFAR-10 with and without ℓ2", (MEMORY,), (), note="not reproduced"),
)
INDEX = {
    "Generalization": GENERALIZATION,
    "Margins": MARGINS,
    "Optimization": OPTIMIZATION,
    "The talk's other slides": TALK,
    "Experiments": FIGURES,
}
