"""Processes that work on one record together, on one host or on many.

All that they share is the record's folder. Whoever holds a chunk's lock computes it, and the end of
a process, however it comes, frees its locks: nobody waits for the dead, and nobody hands out work.
The file system must have locks that reach over its hosts, as NFS 4, Lustre and GPFS have.
"""

import contextlib
import pathlib
import sys
from collections.abc import Iterator

import filelock
import numpy as np

from ntkreg import records


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other process opens or plans the record in `folder`, and keeps them waiting.

    Raises:
      ValueError: where the folder cannot be written.
    """
    records.check_writable(folder)
    lock = filelock.FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        print(f"waiting for another process, which opens {folder}", file=sys.stderr, flush=True)
        lock.acquire()
    with lock:
        _remove_unfinished(folder / records.MANIFEST)
        yield


@contextlib.contextmanager
def claimed(path: pathlib.Path) -> Iterator[bool]:
    """Whether the file at `path` is this process's to make: it is not there, and nobody is at it.

    The claim lasts until the context's end, or the end of the process.
    """
    lock = filelock.FileLock(path.with_suffix(".lock"), blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        yield False
        return
    with lock:
        _remove_unfinished(path)
        try:
            yield not path.exists()
        finally:  # one that opened it before this can make the file anew, to the same bits
            path.with_suffix(".lock").unlink(missing_ok=True)


def _remove_unfinished(path: pathlib.Path) -> None:
    """What a process left that was killed while it wrote `path`."""
    for left in path.parent.glob(f"{path.name}*.tmp"):
        left.unlink(missing_ok=True)


def join(identity: str, **arguments) -> tuple[int, int]:
    """(number of this process, how many there are) in its job, once all run under one identity.

    JAX's distributed runtime finds the others: it reads SLURM, Kubernetes and TPU pods. It is left
    again at once, so that a process that dies takes no other with it. It must be the first thing
    that a process asks of JAX.

    Args:
      identity: of code and configuration, the same in all processes.
      **arguments: of `jax.distributed.initialize`, where it cannot read them from the job.

    Raises:
      ValueError: where there is no job, or other processes have another identity.
    """
    import jax
    from jax.experimental import multihost_utils

    try:
        jax.distributed.initialize(**arguments)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            "this process must be one of a job that JAX can read (SLURM, Kubernetes, a TPU pod), "
            f"and join it before it computes anything: {error}"
        ) from None
    own = np.frombuffer(identity.encode().ljust(64)[:64], np.uint8)
    found = np.atleast_2d(multihost_utils.process_allgather(own))
    index, count = jax.process_index(), jax.process_count()
    jax.distributed.shutdown()
    others = np.flatnonzero((found != own).any(axis=1))
    if others.size:
        raise ValueError(
            f"code and configuration must be the same in all {count} processes, those of "
            f"{', '.join(map(str, others))} differ from those of {index}"
        )
    return index, count
