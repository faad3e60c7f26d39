"""Draws that compile fast hold the numbers of jax.random."""

import chex
import jax
import jax.numpy as jnp
import pytest

from ntkreg.data import dataset

KEY = jax.random.key(5)


@pytest.mark.parametrize("name", ["normal", "rademacher"])
@pytest.mark.parametrize("shape", [(), (7,), (4, 0), (50, 3), (5, 2, 2)])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_the_numbers_are_those_of_jax_random(name, shape, dtype):
    drawn = getattr(dataset, name)(KEY, shape, dtype)
    chex.assert_trees_all_equal_shapes_and_dtypes(drawn, jnp.zeros(shape, dtype))
    chex.assert_trees_all_close(drawn, getattr(jax.random, name)(KEY, shape, dtype), rtol=1e-6)


@pytest.mark.parametrize("name", ["normal", "rademacher"])
def test_without_dtype_they_are_of_jaxs_own(name):
    assert getattr(dataset, name)(KEY, (2, 3)).dtype == jnp.result_type(float)
