"""Work on images that all cores share: Pillow, numpy and torch let other threads work beside them."""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from tqdm.std import tqdm

Job = TypeVar("Job")
Made = TypeVar("Made")


def cores() -> int:
    """Counts the cores that this process may use; those of the machine where the system can't tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(make: Callable[[Job], Made], jobs: Iterable[Job], threads: int) -> Iterator[Made]:
    """Yields what is made of each job, in their order; threads work ahead, but only by a job each.

    Args:
        make: called in a thread.
        jobs: read as they are needed, in the thread of whoever takes the results.
        threads: how many.
    """
    ahead: deque[Future[Made]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for job in jobs:
            ahead.append(pool.submit(make, job))
            if len(ahead) > threads:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Bar(tqdm):
    # Else a thread that watches over bars would be left behind.
    monitor_interval = 0


def bar(total: int, told: str) -> tqdm:
    """Shows how far it has come where that takes longer than a moment; without a terminal every ten seconds."""
    every = 0.1 if sys.stderr.isatty() else 10
    return _Bar(total=total, desc=told, delay=2, mininterval=every, maxinterval=every, leave=False)
