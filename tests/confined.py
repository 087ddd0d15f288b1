"""Runs something in a process forked from one that has done its imports, within bounds of memory and time."""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch


@dataclass(frozen=True)
class Outcome:
    """How it ended.

    Attributes:
        end: "done", "refused" by a sentence, "crashed", "hung", or "too large".
        told: the sentence, or the error.
        memory: most bytes that it took beyond those of the process it was forked from.
        seconds: that it took.
    """

    end: str
    told: str
    memory: int
    seconds: float


def confined(work: Callable[[], object], *, memory: int = 2 * 2**30, seconds: float = 20) -> Outcome:
    """Does some work, and ends it at the bounds.

    Args:
        work: what to do; a ValueError is a refusal, as is a system's error that names a file.
        memory: bytes, beyond those at the fork.
        seconds: of wall time.
    """
    reading, writing = os.pipe()
    start = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(work, writing)
    os.close(writing)
    process, least, most, ended = psutil.Process(child), 0, 0, ""
    while not ended:
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:
            break
        with suppress(psutil.Error):
            resident = process.memory_info().rss
            least = least or resident
            most = max(most, resident - least)
        ended = "too large" if most > memory else "hung" if time.perf_counter() - start > seconds else ""
        time.sleep(0.01)
    if ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        end, _, told = pipe.read().decode(errors="replace").partition("\n")
    return Outcome(ended or end or "crashed", told, most, time.perf_counter() - start)


def _work(work: Callable[[], object], writing: int) -> None:
    """Works in the child, tells how that ended, and never returns."""
    # The threads of the parent are not here.
    torch.set_num_threads(1)
    try:
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            work()
        told = "done\n"
    except ValueError as error:
        told = f"refused\n{error}"
    except OSError as error:
        told = f"{'refused' if error.filename else 'crashed'}\n{type(error).__name__}: {error}"
    except BaseException as error:
        place = sys.exc_info()[2]
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place is not None else ""
        told = f"crashed\n{type(error).__name__} at {where}: {error}"
    os.write(writing, told.encode(errors="replace")[:60_000])
    os._exit(0)
