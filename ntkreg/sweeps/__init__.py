"""Many runs in a table: points, a function of one point, and a folder that keeps the results.

table = sweep(run, grid(lam=lams, seed=range(20), width=[16, 64]), folder, static_argnames="width")
"""

from ntkreg.sweeps.programs import grid
from ntkreg.sweeps.runs import Executor, sweep
from ntkreg.sweeps.store import Refused, load

__all__ = ["Executor", "Refused", "grid", "load", "sweep"]
