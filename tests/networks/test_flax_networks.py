"""Flax modules as networks: linen and nnx, their order, and what is said of those that are none."""

import functools
import subprocess
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from ntkreg import networks
from ntkreg.networks.flax_modules import from_flax

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (5, 4))


class Dense(linen.Module):
    """Dense layers, one for each entry of `biases`, the last with `num_outputs` outputs."""

    biases: tuple[bool, ...] = (False, False)
    activation: Callable = linen.relu
    norm: Callable | None = None
    has_skips: bool = False
    num_outputs: int = 1

    @linen.compact
    def __call__(self, x):
        for has_bias in self.biases[:-1]:
            h = linen.Dense(6, use_bias=has_bias)(x)
            h = self.activation(self.norm()(h) if self.norm else h)
            x = h + x if self.has_skips and h.shape == x.shape else h
        return linen.Dense(self.num_outputs, use_bias=self.biases[-1])(x)


class Layers(nnx.Module):
    """The same in nnx."""

    def __init__(self, bias=False, norm=None, *, rngs):
        hidden = [nnx.Linear(4, 6, use_bias=False, rngs=rngs)]
        self.hidden = nnx.List([*hidden, nnx.Linear(6, 6, use_bias=bias, rngs=rngs)])
        self.last = nnx.Linear(6, 3, use_bias=False, rngs=rngs)
        if norm is not None:
            self.norm = norm(6, rngs=rngs)

    def __call__(self, x):
        for layer in self.hidden:
            x = nnx.relu(layer(x))
        return self.last(x)


@pytest.mark.parametrize(
    ("module", "order", "shape"),
    [
        (Dense(), 2, (5,)),
        (Dense((True, False)), 2, (5,)),  # jointly homogeneous: φ(Wᵀx + b) is of degree 1
        (Dense((False,) * 3, activation=jnp.square, num_outputs=3), 7, (5, 3)),
        (Layers, 3, (5, 3)),
    ],
)
def test_a_module_is_a_homogeneous_network_of_the_measured_order(module, order, shape):
    network = from_flax(module, input_dim=4)
    params = network.init(KEY, 4)
    assert network.order == order and isinstance(network.order, int)
    assert network.apply(params, X).shape == shape
    moved = jax.tree.map(lambda a: a + 0.1, params)  # off the zeros at which biases start
    outputs, scaled = (network.apply(optax.tree.scale(c, moved), X) for c in (1, 2))
    np.testing.assert_allclose(scaled, 2**order * outputs, rtol=1e-5)


def test_the_network_computes_what_the_module_does():
    module = Dense((False, False), num_outputs=3)
    network = from_flax(module, input_dim=4)
    variables = module.init(KEY, X)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, network.init(KEY, 4), variables["params"]))
    np.testing.assert_array_equal(network.apply(variables["params"], X), module.apply(variables, X))
    built = Layers(rngs=nnx.Rngs(KEY))
    network = from_flax(Layers, input_dim=4)
    np.testing.assert_allclose(network.apply(network.init(KEY, 4), X), built(X), rtol=1e-6)


def test_parameters_are_plain_arrays_that_come_back_from_disk(tmp_path):
    network = from_flax(Layers, input_dim=4)
    params = network.init(KEY, 4)
    networks.save_params(tmp_path / "p.npz", params)
    like = jax.eval_shape(lambda: network.init(KEY, 4))
    loaded = networks.load_params(tmp_path / "p.npz", like)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, loaded, params))


def test_a_module_adapted_under_a_trace_leaves_nothing_in_the_program():
    program = jax.make_jaxpr(lambda x: from_flax(Dense(num_outputs=2), input_dim=4).order * x)
    assert len(program(1.0).eqns) == 1


def test_equal_modules_give_the_same_object():
    assert from_flax(Dense(), input_dim=4) is from_flax(Dense(), input_dim=4)
    assert from_flax(Layers, input_dim=4) is from_flax(Layers, input_dim=4)


class Scaled(linen.Module):
    """A learned factor for each hidden unit, and a bias at the end."""

    @linen.compact
    def __call__(self, x):
        h = linen.Dense(6, use_bias=False)(x)
        h = h * self.param("scale", linen.initializers.ones, (6,))
        return linen.Dense(1)(linen.relu(h))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Scaled(), "Dense_1/bias"),
        (Dense((False, True)), "Dense_1/bias"),
        (Dense((True, True, True)), "Dense_1/bias, Dense_2/bias"),
        (functools.partial(Layers, bias=True), "hidden/1/bias"),
        (Dense((False,) * 4, has_skips=True), "Dense_1/kernel, Dense_2/kernel"),
        (Dense(activation=linen.tanh), "Dense_0/kernel"),
        (Dense(activation=lambda z: jnp.sqrt(linen.relu(z))), "Dense_0/kernel"),
    ],
)
def test_parameters_that_enter_other_than_homogeneously_are_named(module, names):
    with pytest.raises(ValueError, match=rf"homogeneous.*breaks it is {names} \(.*use_bias=False"):
        from_flax(module, input_dim=4)


def test_a_scale_that_normalisation_undoes_is_named():
    module = Dense(norm=linen.RMSNorm)
    with pytest.raises(
        ValueError, match=r"scaling Dense_0/kernel changes no output.*normalisation"
    ):
        from_flax(module, input_dim=4)


class Block(linen.Module):
    """A layer with a bias and its normalisation."""

    norm: Callable = linen.LayerNorm

    @linen.compact
    def __call__(self, x):
        return linen.relu(self.norm()(linen.Dense(16)(x)))


class Blocks(linen.Module):
    """Some blocks, and a layer without bias."""

    num: int = 2

    @linen.compact
    def __call__(self, x):
        for _ in range(self.num):
            x = Block()(x)
        return linen.Dense(1, use_bias=False)(x)


class Weighed(linen.Module):
    """Two linear layers in a ratio: only both together change nothing."""

    @linen.compact
    def __call__(self, x):
        top, low = (linen.Dense(3, use_bias=False)(x) for _ in range(2))
        ratio = jnp.sum(top**2, axis=1) / jnp.sum(low**2, axis=1)
        return ratio * linen.Dense(1, use_bias=False)(x)[:, 0]


FIRST = "Dense_0/bias, Dense_0/kernel"


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (Dense((True, False), norm=linen.LayerNorm), FIRST),
        (Dense((True, False), norm=functools.partial(linen.LayerNorm, epsilon=0.0)), FIRST),
        (Dense((True, False), norm=functools.partial(linen.GroupNorm, num_groups=2)), FIRST),
        (
            Blocks(),
            "Block_0/Dense_0/bias, .*, Block_0/LayerNorm_0/scale, .*, Block_1/Dense_0/kernel",
        ),
        (Weighed(), "Dense_0/kernel, Dense_1/kernel"),
    ],
)
def test_scales_that_normalisation_undoes_together_are_named(module, names):
    """Kernel and bias before it each change outputs, both together do not."""
    with pytest.raises(ValueError, match=f"scaling {names}.* together changes no output"):
        from_flax(module, input_dim=4)


def test_what_is_homogeneous_but_for_a_small_constant_is_refused():
    """At entries of size 1 the constant is a part in 10⁷ of the outputs, at 2⁻¹⁰ a tenth."""

    class Softened(linen.Module):
        @linen.compact
        def __call__(self, x):
            return jnp.sqrt(linen.Dense(1, use_bias=False)(x)[:, 0] ** 2 + 1e-7)

    with pytest.raises(ValueError, match=r"must be homogeneous.*breaks it is Dense_0/kernel"):
        from_flax(Softened(), input_dim=4)


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="module must give finite outputs at random parameters"):
        from_flax(Dense(activation=jnp.log), input_dim=4)


def test_a_deep_network_is_accepted_whose_far_scales_no_float_holds():
    """Order 24: outputs at 2¹⁰ times the parameters are 2²⁴⁰ times as large."""
    assert from_flax(Dense((False,) * 24), input_dim=4).order == 24


@pytest.mark.parametrize(
    ("module", "state"),
    [
        (Dense(norm=functools.partial(linen.BatchNorm, use_running_average=True)), "batch_stats"),
        (functools.partial(Layers, norm=nnx.BatchNorm), "BatchStat"),
    ],
)
def test_state_beside_the_parameters_is_named(module, state):
    with pytest.raises(ValueError, match=f"no state beside its parameters, got {state}"):
        from_flax(module, input_dim=4)


class Constant(linen.Module):
    def __call__(self, x):
        return x[:, 0]


class Pixels(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(x[..., None])


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (3, "module must be a flax.linen module or .* got 3"),
        (Dense, "module must be a flax.linen module or .*Dense"),
        (lambda rngs: None, "module must build an nnx module, got NoneType"),
        (Constant(), "module must have parameters"),
        (Pixels(), r"outputs of shape .*got \(8, 4, 2\)"),
    ],
)
def test_what_is_no_module_of_flat_inputs_is_refused(module, said):
    with pytest.raises(ValueError, match=said):
        from_flax(module, input_dim=4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (dict(module=Dense(biases=[False, False])), r"hashed, as tuples, got biases=\[False, Fal"),
        (dict(module=Dense(), input_dim=0), "input_dim must be at least 1, got 0"),
        (dict(module=Dense(), order=0), "order must be at least 1, got 0"),
    ],
)
def test_a_bad_argument_is_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        from_flax(**{"input_dim": 4, **arguments})


def test_another_input_dimension_is_named():
    with pytest.raises(ValueError, match="input_dim must be 4, as in from_flax, got 5"):
        from_flax(Dense(), input_dim=4).init(KEY, 5)


def test_flax_is_imported_when_it_is_first_needed():
    code = "import sys, ntkreg; ntkreg.convolutional; sys.exit('flax.linen' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
