"""The certified separation: exact errors against other code, and claims that can fail."""

import dataclasses

import jax
import numpy as np
import pandas
import pytest

from ntkreg import certificates, data, fully_connected
from ntkreg.experiments.certified_separation import EXPERIMENT, KERNELS, NETWORKS, Config

CONFIG = Config(dims=(8, 10), sizes_over_d=(3.0,), num_seeds=4)


def table(gap=1e-8, network=0.05, ntk=0.3):
    rows = pandas.DataFrame(EXPERIMENT.points(CONFIG))
    change = 0.01 * rows.seed
    return rows.assign(
        failed="", minimum=0.1, gap=gap, network_error=network + change, r_squared=0.1,
        ntk_error=ntk, svm_error=0.4,
    )  # fmt: skip


def status(rows):
    return {claim.statement: claim.status for claim in EXPERIMENT.claims(rows, CONFIG)}


@pytest.mark.parametrize(
    ("rows", "networks", "kernels"),
    [
        (table(), "holds", "holds"),
        (table(network=0.58), "fails", "fails"),
        (table(ntk=0.065), "holds", "undecided"),
        (table(gap=1e-3), "undecided", None),
    ],
)
def test_the_claims_are_judged(rows, networks, kernels):
    found = status(rows)
    assert found[NETWORKS.statement] == networks
    assert found.get(KERNELS.statement) == kernels


def test_samples_without_a_certified_minimum_are_counted_apart():
    rows = table()
    rows.loc[0, "gap"] = 0.1
    (claim, _) = EXPERIMENT.claims(rows, CONFIG)
    assert "1 of 8 samples" in claim.apart[0] and claim.checks[0].runs == "7 samples"


def test_a_run_agrees_with_outputs_of_the_network_itself():
    config = dataclasses.replace(CONFIG, dims=(5,))
    point = EXPERIMENT.points(config)[0]
    found = EXPERIMENT.run(config, **point)
    key = jax.random.fold_in(jax.random.key(0), 5 * 2**20 + 15)
    minimum = certificates.global_minimum(data.noisy_xor(key, 15, 5), config.lam)
    everything = data.noisy_xor_population(5)
    params = minimum.primal
    f = fully_connected(2, params[0].shape[1]).apply(params, everything.x).squeeze()
    assert found["network_error"] == np.mean(np.asarray(f * everything.y) <= 0)
    assert found["gap"] <= 1e-6 and 0 <= found["r_squared"] <= 1
    assert found["ntk_error"] * 32 == round(found["ntk_error"] * 32)  # of 4·2³ inputs


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(dims=(13,)), "dims must be between 4 and 12, got 13"),
        (dict(sizes_over_d=(0.5,)), "sizes_over_d must be at least 1 and finite, got 0.5"),
        (dict(lam=0.0), "lam must be at least 1e-300 and finite, got 0.0"),
        (dict(num_seeds=0), "num_seeds must be at least 1, got 0"),
    ],
)
def test_bad_fields_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)
