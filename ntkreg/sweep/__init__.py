"""Many runs in a table: points, a function of one point, and a folder that keeps the results.

table = sweep(run, grid(lam=lams, seed=range(20), width=[16, 64]), folder, static_argnames="width")
"""

from ntkreg.sweep.grids import grid
from ntkreg.sweep.runs import Executor, sweep
from ntkreg.sweep.store import Refused, load

__all__ = ["Executor", "Refused", "grid", "load", "sweep"]
