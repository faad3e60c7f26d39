"""The kernel side of the benchmark: Gram matrices, SVMs, and what the machine can do at most."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sklearn.svm

from ntkreg import data, kernels, networks
from ntkreg.experiments.repeats import interleaved
from ntkreg.kernels.kernel_machines import hard_margin_svm

GAP = 1e-6  # relative, of the hard-margin SVM
NUM_COPIES = 20  # in one program: to start one takes a GPU as long as a copy


def samples(num_samples: int, dim: int) -> data.Dataset:
    """Samples of D in float32."""
    x, y = data.noisy_xor(jax.random.key(0), num_samples, dim)
    return data.Dataset(x.astype(jnp.float32), y.astype(jnp.float32))


def grams(num_samples: int, dim: int, num_repeats: int) -> Iterator[dict[str, Any]]:
    """The Gram matrix of the NTK, beside neural-tangents' own kernel function."""
    x = samples(num_samples, dim).x
    network = networks.fully_connected(2, 1)
    kernel = network.kernel
    assert kernel is not None
    runs = {
        "ntkreg": lambda: kernels.ntk(network, x).block_until_ready(),
        # What `Network.kernel` holds, as it comes: neither jitted nor in blocks.
        "neural_tangents": lambda: kernel(x, None).ntk.block_until_ready(),
    }
    with jax.enable_x64(False):  # else neural-tangents computes in float64
        for run in runs.values():
            run()
        for row in interleaved(runs, num_repeats):
            yield {"task": "gram", "num_samples": num_samples, "dim": dim, **row}


def machines(num_samples: int, dim: int, num_repeats: int) -> Iterator[dict[str, Any]]:
    """The hard-margin SVM of a Gram matrix, beside scikit-learn's at the gap that it reaches."""
    x, y = samples(num_samples, dim)
    gram = kernels.ntk(networks.fully_connected(2, 1), x)
    host = np.asarray(gram, float), np.asarray(y, float)
    ours = lambda gap: float(hard_margin_svm(gram, y, tolerance=gap).relative_gap)
    reached = svc_gap(*host)
    runs = {
        "ntkreg": lambda: ours(GAP),
        "ntkreg_at_gap_of_svc": lambda: ours(reached),
        "svc": lambda: svc(*host),
    }
    gaps = {"svc": reached, **{name: runs[name]() for name in runs if name != "svc"}}
    for row in interleaved(runs, num_repeats):
        gap = gaps[row["contender"]]
        yield {"task": "svm", "num_samples": num_samples, "dim": dim, **row, "relative_gap": gap}


def peaks(size: int, num_repeats: int) -> Iterator[dict[str, Any]]:
    """A product of two size × size matrices and copies of one, float32: the roof over all else."""
    square = jnp.ones((size, size), jnp.float32)
    product = jax.jit(jnp.matmul)
    copies = jax.jit(lambda m: jax.lax.fori_loop(0, NUM_COPIES, lambda _, m: m + 1, m))
    runs = {
        "matrix_product": lambda: product(square, square).block_until_ready(),
        "matrix_copy": lambda: copies(square).block_until_ready(),
    }
    rates = {
        "matrix_product": {"gflops": 2 * size**3 / 1e9},
        "matrix_copy": {"gbytes_per_second": NUM_COPIES * 2 * 4 * size**2 / 1e9},
    }
    for run in runs.values():
        run()
    for row in interleaved(runs, num_repeats):
        done = {name: amount / row["seconds"] for name, amount in rates[row["contender"]].items()}
        yield {"task": "peak", "num_samples": size, **row, **done}


def svc(gram: np.ndarray, labels: np.ndarray) -> sklearn.svm.SVC:
    """scikit-learn's SVM without slack, at its own tolerance, with room for the whole matrix."""
    megabytes = 1 + gram.nbytes // 2**20
    machine = sklearn.svm.SVC(kernel="precomputed", C=1e8, cache_size=megabytes)
    return machine.fit(gram, labels)


def svc_gap(gram: np.ndarray, labels: np.ndarray) -> float:
    """The relative gap between the margin of `svc`, which fits a bias, and its own dual bound."""
    machine = svc(gram, labels)
    beta = np.zeros(len(labels))
    beta[machine.support_] = machine.dual_coef_[0]
    outputs = gram @ beta
    norm = np.sqrt(beta @ outputs)
    lower = np.min(labels * (outputs + machine.intercept_[0])) / norm
    return 1.0 - lower * np.abs(beta).sum() / norm


TASKS = {"gram": grams, "svm": machines}
