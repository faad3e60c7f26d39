"""Closed-form max margins, the best minᵢ yᵢf(Θ; xᵢ)/‖Θ‖₂^depth, and minima, where theory has them.

All are for bias-free fully connected networks in `standard` scaling, over all widths, and unless
they say so of degree-one activation, so that the order of homogeneity is the depth L. Those named
quadratic, group or cyclic are for z² at two layers, of order 3, but for one in the norm ‖·‖_{2,3}.
Minima are at two layers, of F_λ with r = 2 or, with z², of mean loss + λ Σᵢ ‖θᵢ‖₂³.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ntkreg._checks import check_positive
from ntkreg._types import Params

# (σ SUM + δ DIFFERENCE)/2 multiplies the sum of two units by σ and their difference by δ.
SUM, DIFFERENCE = np.ones((2, 2)), np.array([[1.0, -1.0], [-1.0, 1.0]])


def population_margin(depth: int) -> float:
    """The best margin known on D's population: L^(−L/2) [2(6^(1/n) + 2^(1/n))^n]^(−1/2), n = L − 1.

    It is 1/8, 0.03522, 0.00819, 0.00167, 0.000306 at depths L = 2 … 6, in every dimension, and
    `population_network` reaches it.

    At depths 2 and 3 it is the max margin, proved so; deeper it is a lower bound of it that no
    training run has exceeded, and `population_margin_bound` is an upper bound. Depth 3, where it is
    3^(−3/2)(√3 − 1)/4, is proved in docs/depth_three.md. At depth 2, with ‖Θ‖ ≤ 1, the smallest yf
    is at most its mean over D, Σⱼ wⱼ E[y relu(uⱼᵀx)] ≤ ½ max |E[y relu(uᵀx)]| over ‖u‖ = 1, since
    2|wⱼ|‖uⱼ‖ ≤ wⱼ² + ‖uⱼ‖². Write Z = Σ_{k≥3} u_k x_k, which is as often −Z. By
    relu(Z + a) + relu(Z − a) = Z + max(|a|, |Z|),

        E[y relu(uᵀx)] = ¼ E[max(|u₁|, |Z|) − max(|u₂|, |Z|)],

    which in size is at most ¼ max(|u₁|, |u₂|) ≤ ¼: γ* = 1/4 where Σ|wⱼ|‖uⱼ‖ ≤ 1 (F1), 1/8 where
    ‖Θ‖ ≤ 1.

    Source: derived here; D is of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.

    Raises:
      ValueError: for depth < 2, where nothing separates D.
    """
    _check_count("depth", depth, 2)
    above = depth - 1
    shared = 6.0 ** (1 / above) + 2.0 ** (1 / above)
    return depth ** (-depth / 2) * (2.0 * shared**above) ** -0.5


def population_margin_bound(depth: int) -> float:
    """An upper bound of all margins on D's population: 1/8 at depth 2, L^(−L/2)(√3 − 1)/4 above.

    At depths 2 and 3 it is `population_margin`, so the max margin; at L = 4, 5, 6 it is 1.40, 1.96
    and 2.77 times as large. With weights on the points of the two classes that depend on what
    the first layer reads, no network has a larger weighted mean of yf: docs/depth_three.md.

    Source: derived here.

    Raises:
      ValueError: for depth < 2, where nothing separates D.
    """
    if depth <= 3:
        return population_margin(depth)
    _check_count("depth", depth, 2)
    return depth ** (-depth / 2) * (3.0**0.5 - 1.0) / 4.0


def population_network(dim: int, depth: int = 2) -> Params:
    """Weights with yf = 1 on all of D and the normalized margin `population_margin`.

    At depth 2 the planted network. Deeper ones gain from a constant, |x₃|, which costs what |x₁|
    does and is shared by both classes' units. First layer: ±e₁, ±e₂ times a and ±e₃ times c.
    Above are two units, whose sum s and difference d (in size) are the same at every x:

    - second layer P = relu(p a|x₁| − q a|x₂| + r c), N the same with x₁, x₂ exchanged. Both are
      ≥ 0 where s = a(p − q) + 2rc ≥ d = a(p + q). The two layers' smallest norm is linear in both,
      4a² + 2c² + 4(p² + q² + r²) = 2√6 d + 2√2 s, at 3a² = 2(p + q)², p − q = a/√2, c = √2 r;
    - L − 3 layers multiply s by σ and d by δ, at the cost σ² + δ² each. s ≥ d must hold to the
      end, where s = d = M is smallest;
    - the last layer subtracts with weights ±w: f = wM = 1 at the cost 2w².

    With n = L − 1 and AM–GM for s and for d, the layers below the last cost
    n M^(2/n)(6^(1/n) + 2^(1/n)), equal parts again; with 2/M² this is smallest at
    ‖Θ‖² = Lτ, τ^L = 2(6^(1/n) + 2^(1/n))^n.

    Shapes are those of `planted_network`, but (dim, 6) and (6, 2) below.

    Raises:
      ValueError: for dim < 3, the smallest of D, or depth < 2.
    """
    if depth == 2:
        return planted_network(dim, depth)
    _check_count("dim", dim, 3)
    _check_count("depth", depth, 2)
    above = depth - 1
    shared = 6.0 ** (1 / above) + 2.0 ** (1 / above)
    layer = (2.0 * shared**above) ** (1 / depth)  # τ, the squared norm of every layer's share
    of_difference, of_sum = (layer * c ** (1 / above) / shared for c in (6.0, 2.0))
    first, second = _constant_shared(dim, of_difference / 6.0**0.5, of_sum / 2.0**0.5)
    middle = (of_sum**0.5 * SUM + of_difference**0.5 * DIFFERENCE) / 2
    last = (layer / 2) ** 0.5 * DIFFERENCE[:, :1]
    return _as_params(first, second, *[middle] * (depth - 3), last)


def _constant_shared(dim: int, difference: float, total: float) -> tuple[np.ndarray, np.ndarray]:
    """The first two layers, of smallest norm, whose units' difference and sum are as given."""
    a = ((2.0 / 3.0) ** 0.5 * difference) ** 0.5
    plus, minus = difference / a, a / 2.0**0.5  # p + q and p − q
    r = ((total - a * minus) / 2 / 2.0**0.5) ** 0.5
    first = np.zeros((dim, 6))
    for axis, size in enumerate((a, a, 2.0**0.5 * r)):
        first[axis, 2 * axis : 2 * axis + 2] = size, -size
    p, q = (plus + minus) / 2, (plus - minus) / 2
    return first, np.repeat([[p, -q], [-q, p], [r, r]], 2, axis=0)


def planted_margin(depth: int) -> float:
    """½(2L)^(−L/2), the normalized margin of `planted_network` on every sample of D.

    The best at depth 2. At L = 3, 4, 6 `population_margin` is 3.5, 4.8 and 5.9 % larger, and
    2/12^(1/4) times as large, 7.5 %, as L → ∞.

    Raises:
      ValueError: for depth < 2.
    """
    _check_count("depth", depth, 2)
    return 0.5 * (2.0 * depth) ** (-depth / 2)


def planted_network(dim: int, depth: int = 2) -> Params:
    """Weights of f(x) = |x₁| − |x₂|, with yf = 1 on all of D, balanced at the smallest norm.

    First layer ±e₁, ±e₂ times a; the second adds up each pair with weights b; above, each of the
    two sums travels alone with weights c, and the last layer subtracts them. yf = a b c^(L−2) = 1
    and ‖Θ‖² = 4a² + 4b² + 2(L − 2)c², which by AM–GM is smallest where all L layers have the same
    norm, 4a² = 4b² = 2c² = t: then t^(L/2) = 2·2^(L/2), t = 2·4^(1/L) and ‖Θ‖² = 2L·4^(1/L), so
    the normalized margin is ½(2L)^(−L/2). At depth 2, b is the last layer's and all weights are ±1.

    Shapes are (dim, 4), (4, 1) at depth 2, else (dim, 4), (4, 2), (2, 2) …, (2, 1).

    Source: Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2, for depth 2.

    Raises:
      ValueError: for dim < 3, the smallest of D, or depth < 2.
    """
    _check_count("dim", dim, 3)
    _check_count("depth", depth, 2)
    pair, single = math.sqrt(4.0 ** (1 / depth) / 2), 2.0 ** (1 / depth)
    first = np.zeros((dim, 4))
    first[0, :2], first[1, 2:] = (pair, -pair), (pair, -pair)
    sums, subtract = pair * np.repeat(np.eye(2), 2, axis=0), DIFFERENCE[:, :1]
    if depth == 2:
        return _as_params(first, sums @ subtract)
    return _as_params(first, sums, *[single * np.eye(2)] * (depth - 3), single * subtract)


def _as_params(*layers: np.ndarray) -> Params:
    return tuple(jnp.asarray(layer) for layer in layers)


def orthonormal_margin(depth: int, num_positive: int, num_negative: int) -> float:
    """[L(n₊^(1/L) + n₋^(1/L))]^(−L/2): orthonormal inputs of two classes, relu, depth L ≥ 2.

    A chain of single neurons along v = Σ₊ xᵢ has f = γ on its class and 0 on the other where its
    L weights' norms multiply to γ√n₊, at cost L(γ²n₊)^(1/L) where they are equal. The two chains
    of the classes together cost L γ^(2/L)(n₊^(1/L) + n₋^(1/L)) = 1.

    Proved to be the max margin

    - at depth 2: for any weights α ≥ 0 with Σα = 1, γ* ≤ ½ max |Σ αᵢyᵢ relu(uᵀxᵢ)| over ‖u‖ = 1.
      Take αᵢ = 1/(√n₊(√n₊ + √n₋)) on the positive class, likewise on the negative: the sum over
      either class lies in [0, 1/(√n₊ + √n₋)] by Cauchy–Schwarz, so the difference is no larger;
    - at depth 3: let Π‖W_l‖_F = 1, and a + b = 1 be the two classes' shares of ‖W₁‖_F². The mean
      of relu(vᵀrelu(W₁x)) over the positive class is at most Σ_k |v_k|‖u_k‖/√n₊, u_k cut to that
      class, so ‖v‖√(a/n₊). In the mean of yf with weight α on it and β = 1 − α on the other class
      units of the wrong sign count ≤ 0, and the rest at most α√(a/n₊) or β√(b/n₋), whichever is
      larger, as Σ|wⱼ|‖vⱼ‖ ≤ 1. With α that makes both equal the margin is at most
      1/(√(n₊/a) + √(n₋/b)), by Hölder ≤ (n₊^(1/3) + n₋^(1/3))^(−3/2);
    - at any depth where one class is empty: √n·minᵢ|f(xᵢ)| ≤ ‖f(X)‖₂ ≤ Π‖W_l‖_F ≤ L^(−L/2).

    Otherwise it is a lower bound that no training run has exceeded, and it agrees with what is
    known of regularised training on whitened data.

    Source: Ergen and Pilanci (ICML 2021) for whitened data; constants and proofs as above.

    Raises:
      ValueError: for depth < 2, a negative count, or no sample at all.
    """
    _check_count("depth", depth, 2)
    _check_count("num_positive", num_positive, 0)
    _check_count("num_negative", num_negative, 0)
    if num_positive + num_negative == 0:
        raise ValueError("num_positive + num_negative must be at least 1, got 0")
    roots = num_positive ** (1 / depth) + num_negative ** (1 / depth)
    return (depth * roots) ** (-depth / 2)


def orthonormal_classes_margin(depth: int, counts: Sequence[int]) -> float:
    """√(k/(k − 1)) [L Σ_c n_c^(1/L)]^(−L/2): orthonormal inputs of k ≥ 2 classes, depth L ≥ 2.

    The margin is f_y − max over j ≠ y of f_j. Each class has a chain of single neurons along
    v = Σ xᵢ, zero on the other classes, which ends in an output vector w with w_c − w_j = 1: of
    these e_c − 1/k has the smallest norm, ‖w‖² = (k − 1)/k. The chain costs
    L(γ²n_c(k − 1)/k)^(1/L), as in `orthonormal_margin`.

    Proved to be the max margin at depth 2: with weights α on pairs (i, j ≠ yᵢ),
    γ* ≤ ½ max Σ αᵢⱼ (w_yᵢ − wⱼ) relu(uᵀxᵢ) over ‖u‖ = ‖w‖ = 1. Take αᵢⱼ = τ/((k − 1)√n_c) on class
    c, τ = 1/Σ√n_c, and t_c = τ Σ over class c of relu(uᵀxᵢ)/√n_c, so t ≥ 0 and ‖t‖ ≤ τ. The best w
    makes the sum k/(k − 1) · ‖Σ t_c(e_c − 1/k)‖ = k/(k − 1) · √(‖t‖² − (Σt_c)²/k), which is
    largest where t has one entry, Σt_c = ‖t‖ = τ: γ* ≤ ½ τ √(k/(k − 1)).
    Above depth 2 it is a lower bound that no training run has exceeded.

    Source: derived here; Ergen and Pilanci (ICML 2021) for the chains.

    Raises:
      ValueError: for depth < 2, fewer than two classes, or an empty class.
    """
    _check_count("depth", depth, 2)
    if len(counts) < 2:
        raise ValueError(f"counts must name at least two classes, got {tuple(counts)}")
    for count in counts:
        _check_count("counts", count, 1)
    k = len(counts)
    roots = sum(count ** (1 / depth) for count in counts)
    return (depth * roots) ** (-depth / 2) * (k / (k - 1)) ** 0.5


def orthonormal_quadratic_margin(num_positive: int, num_negative: int) -> float:
    """[(3/2)·2^(1/3)(n₊^(2/3) + n₋^(2/3))]^(−3/2): orthonormal inputs, depth 2, activation z².

    f = xᵀAx with A = Σ wⱼuⱼuⱼᵀ, of order 3. A neuron of size s = |w|‖u‖² costs the least,
    w² + ‖u‖² = (3/2)(2s²)^(1/3), at ‖u‖² = 2w². For powers ≤ 1 the sum of |eigenvalue|^p is
    subadditive in the matrix (Rotfel'd), so that one neuron for each eigenvector of A is best:
    ‖Θ‖² = (3/2)2^(1/3) Σ|eigenvalue|^(2/3). At margin 1 the diagonal of A
    is ≥ 1 on the n₊ positive inputs and ≤ −1 on the others, so A's positive eigenvalues sum to at
    least n₊ (Ky Fan) and its negative ones to at most −n₋; by concavity the powers sum to at least
    n₊^(2/3) + n₋^(2/3), which two neurons along Σ₊xᵢ and Σ₋xᵢ reach. So it is the max margin.

    Source: derived here.

    Raises:
      ValueError: for a negative count, or no sample at all.
    """
    _check_count("num_positive", num_positive, 0)
    _check_count("num_negative", num_negative, 0)
    if num_positive + num_negative == 0:
        raise ValueError("num_positive + num_negative must be at least 1, got 0")
    powers = num_positive ** (2 / 3) + num_negative ** (2 / 3)
    return (1.5 * 2 ** (1 / 3) * powers) ** -1.5


def population_quadratic_margin() -> float:
    """1/(3√3) = 0.19245: D's population, depth 2, activation z², norm ‖·‖_{2,3}, any dimension.

    f = xᵀAx, and A costs ‖Θ‖_{2,3}³ = (3√3/2)‖A‖_*, the sum of the sizes of its eigenvalues
    (`certificates.quadratic`). D is as likely with any coordinate's sign changed and with the noise
    permuted; ‖·‖_* is convex and changes with neither, so that averaging leaves a best A with
    A = diag(a, −b, c, …, c). As z_k² = 1 the noise is a constant, (d − 2)c: the margins are
    a + (d − 2)c and b − (d − 2)c, of which the smaller is at most (a + b)/2 ≤ ‖A‖_*/2. There is
    equality at a = b, c = 0, f ∝ x₁² − x₂². The constant gains nothing, since it helps one class
    by what it takes from the other.

    The dual weights are uniform: E[y xxᵀ] = ½ diag(1, −1, 0, …, 0), of operator norm ½.

    Source: derived here; D is of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.
    """
    return 27**-0.5


def linear_margin(depth: int, svm_margin: float) -> float:
    """L^(−L/2) · svm_margin: the max margin of deep linear networks (activation `identity`).

    `svm_margin` is that of the data's hard-margin SVM through the origin, max over ‖β‖ = 1 of
    minᵢ yᵢβᵀxᵢ. Proof: f(x) = βᵀx with β = W₁⋯W_L and, by AM–GM,
    ‖β‖ ≤ Π‖W_l‖_F ≤ (Σ‖W_l‖_F²/L)^(L/2) = L^(−L/2)‖Θ‖^L. Both are equalities where every W_l is of
    rank one, of the same norm and aligned with its neighbours, so every β is reached at that cost.

    Source: Gunasekar, Lee, Soudry, Srebro (NeurIPS 2018) for the direction; proof as above.

    Raises:
      ValueError: for depth < 1, or a margin that is not positive and finite: nothing linear
        separates such data.
    """
    _check_count("depth", depth, 1)
    check_positive(svm_margin=svm_margin)
    return depth ** (-depth / 2) * float(svm_margin)


def population_minimum(lam: float) -> float:
    """The smallest F_λ of two-layer networks on D's population: min_c log(1 + e^(−c)) + 8λc.

    c is the margin of all samples: c = log(1/(8λ) − 1) for λ < 1/16, and 0, so log 2, beyond. The
    planted network times √c has it, with ‖Θ‖² = 8c. The weights bᵢ ∝ yᵢ, all of size σ(−c) = 8λ,
    prove it: as in `population_margin`, Σ bᵢ relu(uᵀxᵢ)/n is at most σ(−c)/4 = 2λ on the unit ball.

    Source: derived here; logistic loss and λ‖Θ‖² of Wei, Lee, Liu, Ma (NeurIPS 2019), Section 2.

    Raises:
      ValueError: for λ that is not positive and finite.
    """
    check_positive(lam=lam)
    if lam >= 1 / 16:
        return math.log(2.0)
    return -math.log1p(-8 * lam) + 8 * lam * math.log(1 / (8 * lam) - 1)


def population_one_sign_minimum(lam: float) -> float:
    """The same over networks whose output weights are all positive, or all negative.

    ½(`population_minimum` + log 2): one class is as good as it can be, on the other f = 0. There
    the loss is ≥ log 2 for f ≥ 0; and under the weights σ(−c) of one class and ½ of the other the
    largest value is (σ(−c)/4)·E[max(|u₁|, |Z|) − |Z|] at most, again σ(−c)/4 = 2λ.

    Source: derived here.

    Raises:
      ValueError: for λ that is not positive and finite.
    """
    return (population_minimum(lam) + math.log(2.0)) / 2


def group_margin(group: Any) -> float:
    """The max margin of z² networks on a group's table under ‖Θ‖ = (Σᵢ ‖ωᵢ‖₂³)^(1/3), any width:

        γ* = 2/(3√(3n) S(1)),   S(g) = Σ_ρ s_ρ d^(3/2) X_ρ(g),   s = 1 for real ρ and √2 for others,

    where f(a, b)[c] = Σᵢ (uᵢ(a) + vᵢ(b))² wᵢ(c), ωᵢ = (u, v, w), margins are f_ab − f_c, and ρ runs
    over the nontrivial representations of degree d, conjugates together, with their real character
    X. For C_p with p odd it is √(2/27)/(√p (p − 1)).

    Masses Σ‖ω‖³ in proportion to s_ρ d^(3/2) X_ρ(1) make all margins γ*. That is the best where
    the weights of the wrong answers under which every ρ is worth the same are ≥ 0: if and only if
    S(g) ≤ 0 for all g ≠ 1. Else `certificates.group_margin` has the margin, and the proofs.

    >>> round(group_margin(cyclic(5)), 12)
    0.030429030973

    Args:
      group: of `data.groups`.

    Source: derived here; Morwani, Edelman, Oncescu, Zhao, Kakade (ICLR 2024), Theorem 7, for C_p.

    Raises:
      ValueError: for a group for which these weights are not ≥ 0.
    """
    total = np.zeros(group.order)
    for rho in group.representations:
        factor = 1.0 if rho.kind == "real" else 2**0.5
        total += factor * rho.degree**1.5 * rho.real_character
    largest = np.delete(total, group.identity).max()
    if largest > 1e-9 * total[group.identity]:
        raise ValueError(
            f"group must have S(g) ≤ 0 for all g ≠ 1, got {largest:.3g} on {group.name}; "
            "certificates.group_margin has its margin"
        )
    return float(2 / (3 * (3 * group.order) ** 0.5 * total[group.identity]))


def cyclic_minimum(order: int, lam: float) -> float:
    """min of mean cross-entropy + λ Σᵢ ‖ωᵢ‖₂³ over z² networks on C_p's table, p odd, any width.

    With π = λ/γ* it is log p at Θ = 0 where π ≥ (p − 1)/p, and else −log(1 − π) + λM with the mass
    M = log((p − 1)(1 − π)/π)/γ*. Proof: the cross-entropy is log(1 + Σ_c e^(−q_c)) of the margins,
    by Jensen's inequality at least log(1 + (p − 1)e^(−q̄)) of their mean, and q̄ ≤ γ*M under equal
    weights of all of them, which are the dual ones (`group_margin`); there M is the best.

    Source: derived here.

    Raises:
      ValueError: for an order that is not odd, or λ that is not positive and finite.
    """
    _check_count("order", order, 3)
    check_positive(lam=lam)
    if order % 2 == 0:
        raise ValueError(f"order must be odd, got {order}")
    margin = (2 / 27) ** 0.5 / (order**0.5 * (order - 1))
    share = lam / margin
    if share >= (order - 1) / order:
        return math.log(order)
    odds = math.log(order - 1) + math.log1p(-share) - math.log(share)
    return -math.log1p(-share) + share * odds


def cyclic_network(order: int) -> Params:
    """3(p − 1) neurons with the max margin `group_margin` on C_p's table, p odd; ‖Θ‖_{2,3} = 1.

    Six neurons for each frequency ζ: u = cos(2πζa/p + α), v = cos(2πζb/p + β), w = cos(2πζc/p +
    α + β) at α = 2πs/6, β = 4α, s = 0 … 5, all of one length. The sums over s of all products but
    cos(2πζ(a + b − c)/p) vanish. Parameters of `fully_connected(2, 3(p − 1), p, "quadratic")`.

    Source: derived here; Morwani et al. (ICLR 2024), Theorem 7, have 4(p − 1).

    Raises:
      ValueError: for an order that is not odd.
    """
    _check_count("order", order, 3)
    if order % 2 == 0:
        raise ValueError(f"order must be odd, got {order}")
    frequency = np.repeat(np.arange(1, order // 2 + 1), 6)
    alpha = np.tile(2 * np.pi * np.arange(6) / 6, order // 2)
    angles = 2 * np.pi * frequency * np.arange(order)[:, None] / order
    u, v, w = (np.cos(angles + phase) for phase in (alpha, 4 * alpha, 5 * alpha))
    size = (len(alpha) ** (1 / 3) * (3 * order / 2) ** 0.5) ** -1
    return _as_params(size * np.concatenate([u, v]), size * w.T)


def _check_count(name: str, value: int, smallest: int) -> None:
    if not (value >= smallest and value % 1 == 0):
        raise ValueError(f"{name} must be a whole number, at least {smallest}, got {value}")
