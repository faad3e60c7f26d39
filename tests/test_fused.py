"""The fused passes against the plain network, their fallbacks, and the bytes that they save."""

import re
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkreg import fused
from ntkreg.data.dataset import Dataset
from ntkreg.experiments.scaling import step_traffic
from ntkreg.networks.network import check_homogeneous, fully_connected
from ntkreg.training import trainers
from ntkreg.training.objectives import get_loss, log_objective

TRITON, XLA = ("pallas", True), ("xla",)
WAYS = [(XLA, jnp.float32), (XLA, jnp.float64), (TRITON, jnp.float32)]
TOLERANCE = {jnp.dtype("float32"): 2e-6, jnp.dtype("float64"): 1e-14}


def whole_numbers(seed, n, d, m, dtype, lanes=()):
    """Inputs and parameters with which every xᵀw is exact, and often 0."""
    draw = np.random.default_rng(seed).integers
    x, w, a = (draw(-2, 3, shape) for shape in ((n, d), (*lanes, d, m), (*lanes, m, 1)))
    return jnp.asarray(x, dtype), (jnp.asarray(w, dtype), jnp.asarray(a, dtype))


def outputs_and_gradients(network, lanes=0):
    """f and the gradients of Σ sin f with respect to the parameters and to x."""

    def total(params, x):
        outputs = network.apply(params, x)
        return jnp.sum(jnp.sin(outputs)), outputs

    function = jax.value_and_grad(total, (0, 1), has_aux=True)
    for _ in range(lanes):
        function = jax.vmap(function, (0, None))
    return jax.jit(function)


def assert_close(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        size = float(jnp.max(jnp.abs(other)))
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE[other.dtype] * (size + 1e-30))


@pytest.mark.parametrize(("way", "dtype"), WAYS)
@pytest.mark.parametrize("lanes", [(), (3,), (2, 3)], ids=str)
def test_values_and_gradients_are_those_of_the_plain_network(way, dtype, lanes):
    x, params = whole_numbers(0, 37, 5, 13, dtype, lanes)
    assert jnp.any(x[:, None] @ params[0].reshape(-1, 5, 13)[0] == 0)
    found = outputs_and_gradients(fused.two_layer(13, *way), len(lanes))(params, x)
    assert_close(found, outputs_and_gradients(fully_connected(2, 13), len(lanes))(params, x))


@pytest.mark.parametrize(
    ("n", "d", "m"), [(1, 1, 1), (32, 16, 32), (33, 17, 65), (97, 3, 31), (64, 33, 2)]
)
def test_sizes_that_fill_blocks_and_that_do_not(n, d, m):
    x, params = whole_numbers(n, n, d, m, jnp.float32)
    expected = outputs_and_gradients(fully_connected(2, m))(params, x)
    for way in (XLA, TRITON):
        assert_close(outputs_and_gradients(fused.two_layer(m, *way))(params, x), expected)


@pytest.mark.parametrize("way", [XLA, TRITON], ids=str)
@pytest.mark.parametrize("d", [fused.MAX_UNROLLED_DIM, fused.MAX_UNROLLED_DIM + 1, 128])
def test_many_input_dimensions(way, d):
    x, params = whole_numbers(1, 9, d, 40, jnp.float32)
    found = outputs_and_gradients(fused.two_layer(40, *way))(params, x)
    assert_close(found, outputs_and_gradients(fully_connected(2, 40))(params, x))


def problem(n=37, d=5, dtype=jnp.float32):
    x = jax.random.normal(jax.random.key(0), (n, d), dtype)
    return Dataset(x, jnp.where(x[:, 0] * x[:, 1] > 0, 1, -1).astype(dtype))


@pytest.mark.parametrize(("way", "dtype"), WAYS)
def test_training_goes_the_same_way(way, dtype):
    data, options = problem(dtype=dtype), dict(lam=1e-3, key=jax.random.key(1), num_steps=30)
    plain = trainers.train(fully_connected(2, 13), data, **options)
    found = trainers.train(fused.two_layer(13, *way), data, **options)
    tolerance = 300 * TOLERANCE[data.x.dtype]  # 30 steps, of Adam, which divides by small numbers
    for one, other in zip(found.params, plain.params, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.info.log_objective, plain.info.log_objective, atol=tolerance)


@pytest.mark.parametrize(("way", "dtype"), WAYS)
def test_gradient_of_the_log_objective(way, dtype):
    data = problem(dtype=dtype)
    plain = fully_connected(2, 13)
    params = optax.tree.cast(plain.init(jax.random.key(2), 5), dtype)
    gradient = jax.jit(jax.grad(log_objective, argnums=2), static_argnums=(0, 1))
    found, expected = (
        gradient(get_loss("logistic"), network, params, data, jnp.asarray(-3, dtype))
        for network in (fused.two_layer(13, *way), plain)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=5 * TOLERANCE[data.x.dtype])


def test_it_is_the_plain_network_but_for_apply():
    network = fused.two_layer(8, "xla")
    assert network is fused.two_layer(8, "xla")
    assert network._replace(apply=None) == fully_connected(2, 8)._replace(apply=None)
    x, params = whole_numbers(0, 7, 4, 8, jnp.float64)
    check_homogeneous(network, params, x)


def test_there_is_no_forward_mode():
    x, params = whole_numbers(0, 7, 4, 8, jnp.float64)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda p: fused.two_layer(8).apply(p, x), (params,), (params,))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0,), "width.*0"), ((3, "triton"), "backend.*auto, pallas, xla.*'triton'")],
)
def test_errors_name_the_argument(arguments, said):
    with pytest.raises(ValueError, match=said):
        fused.two_layer(*arguments)


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="nothing to fall back from")
@pytest.mark.parametrize(
    ("interpret", "d", "said"),
    [(False, 4, "needs a GPU, and JAX runs on"), (True, 129, "128 input dimensions.*are 129")],
)
def test_the_fallback_is_xla_and_says_so_once(interpret, d, said):
    fused._warn_once.cache_clear()
    x, params = whole_numbers(3, 7, d, 6, jnp.float32)
    compute = outputs_and_gradients(fused.two_layer(6, "pallas", interpret))
    with pytest.warns(UserWarning, match=f"'pallas' falls back to 'xla'.*{said}") as said_so:
        found = compute(params, x)
        fused.two_layer(6, "pallas", interpret).apply(params, x)
    assert len(said_so) == 1
    assert_close(found, outputs_and_gradients(fused.two_layer(6, "xla"))(params, x))


@pytest.mark.skipif(jax.default_backend() == "gpu", reason="there, auto is pallas")
@pytest.mark.parametrize(
    ("arguments", "dtype"), [(("auto",), jnp.float32), (("pallas", True), jnp.float64)]
)
def test_auto_and_float64_fall_back_silently(arguments, dtype):
    x, params = whole_numbers(3, 7, 4, 6, dtype)
    fused._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fused.two_layer(6, *arguments).apply(params, x)
    assert_close(found, fully_connected(2, 6).apply(params, x))


def test_pallas_is_not_imported_before_it_is_needed():
    code = "import sys, ntkreg; assert not [m for m in sys.modules if 'pallas' in m]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("lanes", [(), (3,)], ids=str)
def test_auto_lowers_to_triton_for_cuda_and_to_xla_for_a_cpu(lanes, monkeypatch):
    """What a machine with a GPU would run, seen from one without."""
    x, params = whole_numbers(4, 400, 20, 100, jnp.float32, lanes)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    gradient = jax.grad(lambda p: jnp.sum(jnp.sin(fused.two_layer(100).apply(p, x))))
    traced = jax.jit(jax.vmap(gradient) if lanes else gradient).trace(params)
    assert "triton" not in traced.lower(lowering_platforms=("cpu",)).as_text()
    try:
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    except RuntimeError as error:
        if not re.search("compilation handler|No supported GPU devices", str(error)):
            raise
        pytest.skip("this JAX compiles Triton kernels as it lowers, with CUDA's plugin alone")
    assert sum("custom_call" in line and "triton" in line for line in text.splitlines()) == 2
    assert "stablehlo.dot_general" not in text  # nothing n × width is left outside of the kernels
    sizes = [np.prod(list(map(int, s.split("x")))) for s in re.findall(r"<([\dx]+)xf32>", text)]
    assert max(sizes) < np.prod([*lanes, 400, 100])


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="measured on a CPU")
@pytest.mark.parametrize(
    ("n", "d", "width", "lanes", "ratio"),
    [(400, 20, 100, 0, 2.4), (400, 20, 100, 8, 2.2), (1600, 20, 128, 0, 2.8)],
)
def test_a_step_moves_fewer_bytes(n, d, width, lanes, ratio):
    data = problem(n, d)
    plain, other = fully_connected(2, width), fused.two_layer(width, "xla")
    found = step_traffic(plain, data, lanes) / step_traffic(other, data, lanes)
    assert found >= ratio
