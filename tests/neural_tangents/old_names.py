"""A pytest plugin under which neural-tangents' own tests run: old names, and nothing else.

The tests are user code of 2024: they call JAX by names that are gone. Those names are set here,
in the process of the tests alone; `ntkreg.neural_tangents` sets none. Used by run.sh.
"""

import itertools
import sys
import types

import jax
import jax.extend
import jax.interpreters.ad
from absl import flags

from ntkreg import neural_tangents as nt  # noqa: F401  `import neural_tangents` works from here on


def powerset(items):
    items = list(items)
    sizes = range(len(items) + 1)
    return itertools.chain.from_iterable(itertools.combinations(items, size) for size in sizes)


def zeros_like_p():
    """The primitive that the library has a rule for, and JAX no longer has."""
    from neural_tangents._src.utils import rules

    return next(p for p in rules.JACOBIAN_RULES if p is not None and p.name == "zeros_like")


jax.tree_map = jax.tree.map
vars(jax.core).setdefault("Primitive", jax.extend.core.Primitive)
vars(jax.interpreters.ad).setdefault("zeros_like_p", zeros_like_p())
if "more_itertools" not in sys.modules:  # one function of it is all that the tests call
    sys.modules["more_itertools"] = types.SimpleNamespace(powerset=powerset)
flags.FLAGS.mark_as_parsed()  # as absltest's own main does
