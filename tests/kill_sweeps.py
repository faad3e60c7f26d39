"""Kills sweeps at random moments, resumes them, and compares with one that was left alone.

    python tests/kill_sweeps.py --kills=200

Every sweep runs in a process of its own, which SIGKILL ends at a moment drawn from the time that an
undisturbed one takes, one in each of as many parts of it; then the same call resumes it.
"""

import argparse
import pathlib
import random
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np

from ntkreg import records, sweeps

GRID = {"num": [3, 5], "seed": range(12)}


def walk(num, seed):
    """A random walk that takes some milliseconds, in arrays whose shape is static."""
    key = jax.random.key(seed)
    move = lambda i, x: jnp.sin(x + jax.random.normal(jax.random.fold_in(key, i), (num, 64)))
    end = jax.lax.fori_loop(0, 1500, move, jnp.zeros((num, 64)))
    return {"mean": jnp.mean(end), "row": end[0]}


def run(folder: pathlib.Path) -> records.Record:
    """The whole sweep, or what is left of it."""
    return sweeps.sweep(walk, GRID, static=["num"], folder=folder, batch_size=2, num_workers=2)


def _child(folder: pathlib.Path) -> subprocess.Popen:
    """A process that says a word when it begins the sweep."""
    return subprocess.Popen(
        [sys.executable, __file__, "--folder", str(folder)], stdout=subprocess.PIPE, text=True
    )


def kill_and_resume(num_kills: int, root: pathlib.Path, seed: int) -> dict[str, int]:
    """How many kills came before the first chunk, among them and after; how many results differ."""
    begun = time.perf_counter()
    whole = run(root / "whole")
    duration = time.perf_counter() - begun
    moments = random.Random(seed)
    counts = {"before": 0, "during": 0, "after": 0, "different": 0}
    for number in range(num_kills):
        folder = root / f"killed-{number}"
        child = _child(folder)
        child.stdout.readline()
        time.sleep(duration * (number + moments.random()) / num_kills)
        child.kill()
        child.wait()
        done = len(list(folder.glob("chunk-*.npz")))
        resumed = run(folder)
        num_chunks = len(records.read_manifest(folder)["plan"]["chunks"])
        counts["after" if done == num_chunks else "during" if done else "before"] += 1
        same = resumed.arrays.keys() == whole.arrays.keys() and all(
            np.array_equal(resumed.arrays[name], whole.arrays[name]) for name in whole.arrays
        )
        counts["different"] += not same
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="run the sweep here, undisturbed")
    flags = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    if flags.folder:
        print("begun", flush=True)
        run(pathlib.Path(flags.folder))
        return
    with tempfile.TemporaryDirectory() as root:
        counts = kill_and_resume(flags.kills, pathlib.Path(root), flags.seed)
    print(f"{flags.kills} kills: {counts}")
    sys.exit(counts["different"] > 0)


if __name__ == "__main__":
    main()
