"""The kernel of a network, exact or empirical, and the machines that learn with it, at any size.

`tangent` makes Gram matrices in blocks, its rows spread over devices where there are several.
`gram` are products with one; `kernel_machines` take an operator wherever products are
enough, and `gram` says what accuracy they can count on.
"""

from ntkreg.kernels.gram import (
    GramOperator,
    as_operator,
    from_matrix,
    solve_shifted,
)
from ntkreg.kernels.kernel_machines import (
    HardMarginSVM,
    LogisticPath,
    NotSeparable,
    hard_margin_svm,
    logistic_path,
    min_norm_interpolant,
    ridge,
)
from ntkreg.kernels.l1_machines import L1SVM, circle, l1_svm, l2_margin, relu_dictionary
from ntkreg.kernels.tangent import empirical_ntk, nngp, ntk

__all__ = [
    "L1SVM",
    "GramOperator",
    "HardMarginSVM",
    "LogisticPath",
    "NotSeparable",
    "as_operator",
    "circle",
    "empirical_ntk",
    "from_matrix",
    "hard_margin_svm",
    "l1_svm",
    "l2_margin",
    "logistic_path",
    "min_norm_interpolant",
    "nngp",
    "ntk",
    "relu_dictionary",
    "ridge",
    "solve_shifted",
]
