"""The level method: it ends at the least M(αy), which exact certificates know."""

import jax
import numpy as np
import pytest

from ntkreg.certificates.certified import max_margin
from ntkreg.certificates.cutting_planes import smallest_maximum
from ntkreg.certificates.oracles import make_oracle, of_signs
from ntkreg.data.dataset import Dataset, noisy_xor


def random_labels(seed, num_samples, rank):
    rng = np.random.default_rng(seed)
    y = rng.choice([-1.0, 1.0], num_samples)
    y[:2] = 1, -1
    return rng.normal(size=(num_samples, rank)), y


@pytest.mark.parametrize("seed", range(4))
def test_from_uniform_weights_to_the_exact_max_margin(seed):
    """Without any network: `least` is 0, and raised where the cuts themselves forbid less."""
    x, y = random_labels(seed, 10, 3)
    best = max_margin(Dataset(x, y))
    maximize = make_oracle("enumerate", x)
    found = smallest_maximum(maximize, x, y, np.full(10, 0.1), 0.0, 1e-5, 200)
    assert found.alpha.sum() == pytest.approx(1) and (found.alpha >= 0).all()
    assert best.lower * (1 - 1e-9) <= found.largest / 2 <= best.upper * (1 + 1e-4)


def test_few_rounds_on_D_where_many_weights_are_optimal():
    """D at d = 10, n = 60: γ* = 1/8. A linear programme over cuts jumps about for many more."""
    drawn = noisy_xor(jax.random.key(0), 60, 10)
    x, y = np.asarray(drawn.x), np.asarray(drawn.y)
    maximize = make_oracle("multistart", x)
    found = smallest_maximum(maximize, x, y, np.full(60, 1 / 60), 0.25, 1e-6, 40)
    assert 0.25 * (1 - 1e-6) <= found.largest <= 0.25 * (1 + 1e-6)


def test_more_rounds_are_never_worse_and_none_evaluates_the_start():
    x, y = random_labels(0, 12, 3)
    maximize = make_oracle("enumerate", x)
    start = np.full(12, 1 / 12)
    largest = [smallest_maximum(maximize, x, y, start, 0.0, 1e-9, k).largest for k in (0, 1, 5, 25)]
    assert largest == sorted(largest, reverse=True) and largest[-1] < 0.9 * largest[0]
    assert largest[0] == of_signs(maximize, start * y).upper
