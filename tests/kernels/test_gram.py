"""Gram operators against the matrices that they stand for, on one device and spread over four."""

import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import kernels
from ntkreg.data.dataset import noisy_xor
from ntkreg.kernels import kernel_machines
from ntkreg.kernels.gram import (
    as_operator,
    from_matrix,
    solve_shifted,
)
from ntkreg.kernels.kernel_machines import hard_margin_svm, min_norm_interpolant, ridge
from ntkreg.networks.network import fully_connected

NETWORK = fully_connected(2, 1)


def on_D(n=60, dim=10, seed=0):
    return noisy_xor(jax.random.key(seed), n, dim)


def gaussian(n=60, dim=10):
    drawn = jax.random.normal(jax.random.key(1), (n, dim))
    return drawn, jnp.where(drawn[:, 0] * drawn[:, 1] > 0, 1.0, -1.0)


DATA = {"D": on_D, "gaussian": gaussian}


def operator_of(x):
    return from_matrix(kernels.ntk(NETWORK, x))


@pytest.mark.parametrize("data", DATA)
def test_products_and_diagonal_are_the_matrix_s(data):
    x, y = DATA[data]()
    operator, gram = operator_of(x), kernels.ntk(NETWORK, x)
    np.testing.assert_allclose(operator.product(y), gram @ y, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(operator.diagonal, jnp.diagonal(gram), rtol=1e-14)


@pytest.mark.parametrize("data", DATA)
def test_an_operator_gives_the_svm_of_its_matrix(data):
    x, y = DATA[data]()
    dense = hard_margin_svm(kernels.ntk(NETWORK, x), y, "active_set")
    found = hard_margin_svm(operator_of(x), y)
    np.testing.assert_allclose(found.margin, dense.margin, rtol=1e-9)
    size = float(jnp.max(jnp.abs(dense.coefficients)))
    np.testing.assert_allclose(found.coefficients, dense.coefficients, atol=1e-5 * size)
    assert 0 <= found.relative_gap <= 1e-10


@pytest.mark.parametrize("data", DATA)
def test_ridge_by_products_is_ridge_by_factors(data):
    x, y = DATA[data]()
    lams = jnp.array([1.0, 1e-2, 1e-4])
    dense, found = ridge(kernels.ntk(NETWORK, x), y, lams), ridge(operator_of(x), y, lams)
    np.testing.assert_allclose(found, dense, rtol=1e-5, atol=1e-5 * float(jnp.abs(dense).max()))


def test_ridge_by_products_solves_its_equation_as_far_as_it_says():
    (x, y), lams = gaussian(), jnp.array([1e-1, 1e-5])
    gram = kernels.ntk(NETWORK, x)
    for tolerance in (1e-3, 1e-11):
        betas = ridge(from_matrix(gram), y, lams, tolerance)
        reached = [
            float(jnp.linalg.norm(gram @ beta + 60 * lam * beta - y) / jnp.linalg.norm(y))
            for beta, lam in zip(betas, lams, strict=True)
        ]
        assert max(reached) <= tolerance
        assert max(reached) > 1e-5 * tolerance


def test_min_norm_by_products_interpolates():
    x, y = gaussian()
    gram = kernels.ntk(NETWORK, x)
    found = min_norm_interpolant(from_matrix(gram), y)
    np.testing.assert_allclose(found, min_norm_interpolant(gram, y), rtol=1e-6, atol=1e-8)


def test_what_products_cannot_reach_is_said():
    """Less than rounding, and targets that a kernel of rank one does not fit."""
    x, y = on_D()
    with pytest.raises(RuntimeError, match=r"relative residual 1e-30, got \d.*e-1\d"):
        ridge(operator_of(x), y, jnp.ones(1), 1e-30)
    with pytest.raises(RuntimeError, match="relative residual 1e-10, got nan"):
        min_norm_interpolant(from_matrix(jnp.ones((2, 2))), jnp.array([1.0, -1.0]))


def test_targets_of_zero_have_coefficients_of_zero():
    assert not ridge(from_matrix(jnp.eye(3)), jnp.zeros(3), jnp.ones(1)).any()


def temp_bytes(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_the_svm_of_a_float32_matrix_makes_no_second_one():
    """Neither in float64, to add up in it, nor with signs."""
    n = 3000
    gram = jax.ShapeDtypeStruct((n, n), jnp.float32)
    solve = lambda gram, labels: hard_margin_svm(gram, labels, "active_set")
    assert temp_bytes(solve, gram, jnp.ones(n, jnp.float32)) < 0.2 * 4 * n**2


def test_the_same_program_serves_operators_of_one_shape():
    solve = jax.jit(lambda operator, labels: hard_margin_svm(operator, labels))
    for seed in (0, 1):
        data = on_D(seed=seed)
        solve(operator_of(data.x), data.y)
    assert solve._cache_size() == 1


def test_all_shifts_share_a_product():
    x, y = on_D()
    operator, shifts = operator_of(x), jnp.array([0.0, 1.0, 10.0])
    text = str(jax.make_jaxpr(lambda shifts: solve_shifted(operator, shifts, y, 1e-8))(shifts))
    assert "[60,60]" in text and "[3,60,60]" not in text
    found = solve_shifted(operator, shifts, y, 1e-8)
    assert found.coefficients.shape == (3, 60)
    assert (found.residuals <= 1e-8).all()


SPREAD = """
    import jax, jax.numpy as jnp, numpy as np, pytest
    jax.config.update("jax_enable_x64", True)
    from ntkreg import kernels
    from ntkreg.data.dataset import noisy_xor
    from ntkreg.kernels.gram import from_matrix
    from ntkreg.kernels.kernel_machines import hard_margin_svm, ridge
    from ntkreg.networks.network import fully_connected
    devices = jax.devices()
    assert len(devices) == 4
    network = fully_connected(2, 1)
    x, y = noisy_xor(jax.random.key(0), 60, 10)
    other = noisy_xor(jax.random.key(1), 7, 10).x
    for kernel, x2 in ((kernels.ntk, None), (kernels.nngp, other)):
        one, four = kernel(network, x, x2, 7), kernel(network, x, x2, 7, devices)
        np.testing.assert_allclose(four, one, rtol=1e-11, atol=1e-11)
        assert four.sharding.spec == jax.P("rows")
        shapes = {shard.data.shape for shard in four.addressable_shards}
        assert shapes == {(15, one.shape[1])}
        assert {shard.device for shard in four.addressable_shards} == set(devices)
    with pytest.raises(ValueError, match="got 4 devices and x1 with 59 rows"):
        kernels.ntk(network, x[:59], devices=devices)

    gram, spread = kernels.ntk(network, x), kernels.ntk(network, x, devices=devices)
    operator = from_matrix(spread)
    text = jax.jit(lambda o, v: o.product(v)).lower(operator, y).compile().as_text()
    assert "60,60" not in text and "f64[15,60]" in text  # no device sees more than its rows
    assert operator.product(y).sharding.spec == jax.P("rows")
    np.testing.assert_allclose(operator.product(y), gram @ y, rtol=1e-11, atol=1e-11)
    dense = hard_margin_svm(gram, y, "active_set")
    for given in (operator, spread):
        found = hard_margin_svm(given, y, "active_set")
        np.testing.assert_allclose(found.margin, dense.margin, rtol=1e-9)
        np.testing.assert_allclose(found.coefficients, dense.coefficients, rtol=1e-4, atol=1e-6)
        assert -1e-12 < found.relative_gap <= 1e-10
    single = hard_margin_svm(from_matrix(spread.astype(jnp.float32)), y, tolerance=1e-6)
    np.testing.assert_allclose(single.margin, dense.margin, rtol=1e-4)
    lams = jnp.array([1e-1, 1e-3])
    np.testing.assert_allclose(ridge(operator, y, lams), ridge(gram, y, lams), rtol=1e-6)
    columns = jax.device_put(gram, jax.NamedSharding(spread.sharding.mesh, jax.P(None, "rows")))
    with pytest.raises(ValueError, match="spread over devices by its rows"):
        from_matrix(columns)
"""


@pytest.mark.slow
def test_four_devices_hold_a_quarter_of_the_rows_each_and_solve_with_them():
    given = os.environ.get("XLA_FLAGS", "")
    flags = {"XLA_FLAGS": f"{given} --xla_force_host_platform_device_count=4"}
    command = [sys.executable, "-c", textwrap.dedent(SPREAD)]
    done = subprocess.run(command, env=os.environ | flags, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_one_device_may_be_named():
    x = on_D().x
    found = kernels.ntk(NETWORK, x, devices=jax.devices()[:1])
    np.testing.assert_allclose(found, kernels.ntk(NETWORK, x), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kernel", [kernels.ntk, kernels.nngp])
def test_no_devices_are_refused(kernel):
    with pytest.raises(ValueError, match=r"devices must name at least one device, got \[\]"):
        kernel(NETWORK, on_D().x, devices=[])


def test_a_matrix_has_to_be_square():
    with pytest.raises(ValueError, match=r"gram must be square, got shape \(2, 3\)"):
        from_matrix(jnp.ones((2, 3)))


def test_an_operator_is_its_own():
    operator = from_matrix(jnp.eye(2))
    assert as_operator(operator) is operator


OPERATOR, SIGNS = from_matrix(jnp.eye(3)), jnp.array([1.0, -1.0, 1.0])


@pytest.mark.parametrize(
    "machine", [hard_margin_svm, min_norm_interpolant, lambda k, y: ridge(k, y, jnp.ones(1))]
)
def test_machines_name_a_bad_operator(machine):
    with pytest.raises(ValueError, match=r"gram must have shape \(2,\) for 2 labels, got \(3,\)"):
        machine(OPERATOR, SIGNS[:2])
    with pytest.raises(ValueError, match="gram must be finite"):
        machine(from_matrix(jnp.eye(3).at[0, 1].set(jnp.nan)), SIGNS)


def test_what_factorises_refuses_an_operator():
    with pytest.raises(ValueError, match=r"interior_point.*gram must be an array"):
        hard_margin_svm(OPERATOR, SIGNS, "interior_point")
    with pytest.raises(ValueError, match=r"gram must be an array.*got a GramOperator"):
        kernel_machines.logistic_path(OPERATOR, SIGNS, jnp.ones(1))
