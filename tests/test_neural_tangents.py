"""The whole of neural-tangents works on this JAX, and JAX is left as it was."""

import importlib
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ntkreg import neural_tangents as nt

LIBRARY = importlib.import_module("neural_tangents")  # as everyone can from here on
RUN = pathlib.Path(__file__).parent / "neural_tangents" / "run.sh"

X1, X2 = jax.random.normal(jax.random.key(0), (5, 3))[:3], jnp.eye(3)[:2]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@jax.custom_vjp
def sine(x):
    return jnp.sin(x)


sine.defvjp(lambda x: (jnp.sin(x), jnp.cos(x)), lambda cos, tangent: (cos * tangent,))


def dense(params, x):
    return jnp.tanh(x @ params[0] + params[2]) @ params[1]


def image(params, x):
    kernel = params[0][:, :, None].reshape(1, 3, 4)
    patches = jax.lax.conv(x[:, None], kernel.transpose(2, 0, 1), (1,), "SAME")
    return patches.sum(axis=2) @ params[1]


NETWORKS = {
    "dense": dense,
    "jitted": jax.jit(dense),
    "recomputed": jax.checkpoint(dense),
    "convolution": image,
    "split": lambda params, x: sum(jnp.split(x @ params[0], 2, axis=1)) * params[1][0],
    "split parameters": lambda params, x: x @ jnp.split(params[0], 2, axis=1)[1],
    "own reverse rule": lambda params, x: sine(x @ params[0]) @ params[1],
    "constant": lambda params, x: jnp.ones((x.shape[0], 2)) + 0 * params[2][:2],
    "its own parameters": lambda params, x: params[1][: x.shape[0]],
    "quotient": lambda params, x: (x @ params[0]) / (1 + params[2] ** 2),
}


def parameters():
    shapes = [(3, 4), (4, 2), (4,)]
    return [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


def empirical(network, implementation, **options):
    which = nt.NtkImplementation[implementation]
    return nt.empirical_ntk_fn(network, implementation=which, **options)


@pytest.mark.parametrize("name", NETWORKS)
def test_structured_derivatives_are_products_of_jacobians(name):
    expected = empirical(NETWORKS[name], "JACOBIAN_CONTRACTION", trace_axes=())
    found = empirical(NETWORKS[name], "STRUCTURED_DERIVATIVES", trace_axes=())
    point = X1, X2, parameters()
    np.testing.assert_allclose(found(*point), expected(*point), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axes", [{"diagonal_axes": (1,)}, {"vmap_axes": 0}], ids=str)
def test_structured_derivatives_inside_jit(axes):
    axes = {"trace_axes": (), **axes}
    expected = empirical(dense, "JACOBIAN_CONTRACTION", **axes)(X1, X2, parameters())
    found = jax.jit(empirical(dense, "STRUCTURED_DERIVATIVES", **axes))(X1, X2, parameters())
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("forward", [True, False])
def test_structured_derivatives_without_rules_transpose_every_equation(forward):
    network = lambda params, x: dense([params[0].reshape(4, 3).T, *params[1:]], x)
    options = {"_j_rules": False, "_s_rules": False, "_fwd": forward}
    found = empirical(network, "STRUCTURED_DERIVATIVES", **options)(X1, X2, parameters())
    expected = empirical(network, "JACOBIAN_CONTRACTION")(X1, X2, parameters())
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_auto_counts_operations_and_takes_the_cheapest(capsys):
    expected = empirical(dense, "JACOBIAN_CONTRACTION")(X1, X2, parameters())
    found = empirical(dense, "AUTO")(X1, X2, parameters())
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    counts = [float(line.split("flops=")[1]) for line in capsys.readouterr().out.splitlines()]
    assert len(counts) == 3  # one for each way to compute it
    assert all(count > 0 for count in counts)
    empirical(lambda params, x: x, "AUTO")(X1, X2, parameters())  # has nothing to count


def test_max_learning_rate_is_where_descent_stops_converging():
    kernel = np.diag([1.0, 4.0, 2.0])
    assert nt.predict.max_learning_rate(kernel, 3, eps=0) == pytest.approx(2 * 3 / 4)


def predictor(kernel, targets, diag_reg=0.0):
    return nt.predict.gradient_descent_mse(kernel, targets, diag_reg=diag_reg)


KERNEL = jnp.array([[2.0, 0.5], [0.5, 1.0]])
TARGETS = jnp.array([[1.0], [-1.0]])
TEST = jnp.array([[0.3, 0.7]])


@pytest.mark.parametrize("time", [None, 1.5])
class TestPredictor:
    """A predictor keeps its factorisation: it must not belong to the trace that asked first."""

    def at(self, kernel, time, diag_reg=0.0):
        return predictor(kernel, TARGETS, diag_reg)(time, 0.0, 0.0, TEST)[1][0, 0]

    def test_is_the_closed_form(self, time):
        values, vectors = np.linalg.eigh(KERNEL)
        decay = 0.0 if time is None else np.exp(-values * time / TARGETS.size)
        coefficients = vectors * ((1 - decay) / values) @ vectors.T @ TARGETS
        np.testing.assert_allclose(self.at(KERNEL, time), (TEST @ coefficients)[0, 0], rtol=1e-12)

    def test_built_inside_jit(self, time):
        expected = self.at(KERNEL, time)
        found = jax.jit(lambda k: self.at(k, time))(KERNEL)
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_built_inside_vmap(self, time):
        expected = [self.at(scale * KERNEL, time) for scale in (1.0, 2.0)]
        found = jax.vmap(lambda k: self.at(k, time))(jnp.stack([KERNEL, 2 * KERNEL]))
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_built_inside_grad(self, time):
        found = jax.grad(lambda scale: self.at(scale * KERNEL, time))(1.0)
        difference = self.at((1 + 1e-6) * KERNEL, time) - self.at((1 - 1e-6) * KERNEL, time)
        np.testing.assert_allclose(found, difference / 2e-6, rtol=1e-6, atol=1e-8)

    def test_in_a_traced_regularisation(self, time):
        strengths = jnp.array([0.1, 0.2])
        expected = [self.at(KERNEL, time, strength) for strength in strengths]
        at_each = lambda kernel: jax.vmap(lambda reg: self.at(kernel, time, reg))(strengths)
        for found in (at_each(KERNEL), jax.jit(at_each)(KERNEL)):
            np.testing.assert_allclose(found, expected, rtol=1e-12)

    def test_called_first_inside_a_nested_jit_and_again_outside(self, time):
        def predicted_twice(kernel):
            predict = predictor(kernel, TARGETS)
            call = lambda: predict(time, 0.0, 0.0, TEST)[1][0, 0]
            return jax.jit(call)(), call()

        expected = self.at(KERNEL, time)
        for found in (jax.jit(predicted_twice)(KERNEL), predicted_twice(KERNEL)):
            np.testing.assert_allclose(found, [expected, expected], rtol=1e-12)


def test_positions_decay_at_a_traced_rate():
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))

    def kernel(rate):
        layer = nt.stax.GlobalSelfAttention(
            4,
            2,
            2,
            1,
            1,
            1,
            1,
            pos_emb_type="CONCAT",
            pos_emb_decay_fn=lambda d: jnp.exp(-rate * d),
        )
        return layer[2](x, None, "nngp")

    np.testing.assert_allclose(jax.jit(kernel)(0.7), kernel(0.7), rtol=1e-12)


def test_the_library_is_whole_and_the_one_that_others_import():
    for name in vars(LIBRARY):
        if not name.startswith("_"):
            assert getattr(nt, name) is getattr(LIBRARY, name)
    assert nt.__version__ == LIBRARY.__version__
    gram = nt.stax.serial(nt.stax.Dense(1, b_std=None))[2](jnp.eye(3), None, "nngp")
    np.testing.assert_allclose(gram, np.eye(3) / 3, rtol=1e-12)


def test_import_leaves_the_names_of_jax_and_scipy_as_they_were():
    code = """if True:
        import sys
        import jax, jax.example_libraries.stax, jax.experimental.ode, jax.extend, scipy.linalg
        from jax.interpreters import ad
        modules = (jax, jax.core, ad, jax.extend.core, scipy, scipy.linalg)
        before = [dict(vars(module)) for module in modules]
        from ntkreg import neural_tangents
        print(before == [vars(module) for module in modules])
        print("jax.util" in sys.modules, "neural_tangents.experimental" in sys.modules)
        print({"tensorflow", "tf2jax"}.isdisjoint(sys.modules))
    """
    assert python(code).split() == ["True", "False", "False", "True"]


def test_another_version_is_refused():
    code = """if True:
        import importlib.metadata, jax
        importlib.metadata.version = lambda name: "0.6.4"
        try:
            from ntkreg import neural_tangents
        except ImportError as error:
            print(error)
    """
    assert python(code).endswith("knows neural-tangents 0.6.5, got 0.6.4")


def test_several_threads_may_import_it_first():
    """Workers of a sweep do: the import is done once, whole, before anyone gets the module."""
    code = """if True:
        from concurrent.futures import ThreadPoolExecutor
        def relu(_):
            from ntkreg import neural_tangents as nt
            from ntkreg.neural_tangents import stax
            return nt.stax.Relu() is not None and stax is nt.stax
        with ThreadPoolExecutor(8) as pool:
            print(sum(pool.map(relu, range(8))))
    """
    assert python(code) == "8"


def test_experimental_says_that_it_needs_tensorflow(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("neural_tangents.experimental")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if it were not installed
    for module in (nt, LIBRARY):
        with pytest.raises(ImportError, match="experimental needs TensorFlow and tf2jax"):
            _ = module.experimental


def test_experimental_is_there_where_it_can_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_tangents.experimental", pathlib)
    assert nt.experimental is pathlib


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'infinite'"):
        _ = nt.infinite


@pytest.mark.slow
def test_its_own_tests_pass(tmp_path):
    """Half an hour; what fails is printed."""
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([RUN, tmp_path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
