"""float64 for every test, and hypothesis that draws the same examples each time."""

import hypothesis
import jax

jax.config.update("jax_enable_x64", True)

hypothesis.settings.register_profile(
    "ntkreg", deadline=None, max_examples=10, derandomize=True, database=None
)
hypothesis.settings.load_profile("ntkreg")
