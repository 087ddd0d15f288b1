"""How a program ends before its time: stopped, or refused by the disk. It says so in one sentence, and how to go on."""

import errno
import os
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType

SECONDS_UNTIL_STOPPED_AGAIN = 3.0
STOPPING = (signal.SIGINT, signal.SIGTERM)
# Of a disk that is full, broken or not ours to write on; what else the system reports is a mistake of ours.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)


class _Stopped(KeyboardInterrupt):
    """A signal asks the program to end; it passes through all that would catch an error."""

    def __init__(self, number: int):
        self.number = number


@contextmanager
def told_how_to_go_on(*, resumable: bool) -> Generator[None]:
    """Lets a program that is stopped, or that the disk refuses, say in one line how to go on.

    Args:
        resumable: whether it has an option --resume.

    Raises:
        SystemExit: when Ctrl-C (of status 130) or SIGTERM (143) stops it.
        ValueError: when the disk refuses to write, or to read.
    """
    # What was told to ignore them, as nohup does, goes on ignoring them.
    before = {number: signal.getsignal(number) for number in STOPPING}
    heeded = [number for number in STOPPING if before[number] is not signal.SIG_IGN]
    hook = sys.unraisablehook
    try:
        for number in heeded:
            signal.signal(number, partial(_stop, os.getpid()))
        yield
    except KeyboardInterrupt as stopped:
        number = stopped.number if isinstance(stopped, _Stopped) else signal.SIGINT
        _stop_again_after(0.0)
        if os.environ.get("RANK", "0") == "0":
            _say(f"stopped{'; the same command with --resume goes on from what is finished' if resumable else ''}")
        sys.exit(128 + number)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        place = f" at {error.filename}" if error.filename else ""
        again = "with --resume, which goes on from what is finished" if resumable else "again"
        raise ValueError(
            f"the disk refuses{place} ({error.strerror}); make room or give leave there, and run it {again}"
        ) from error
    finally:
        _stop_again_after(0.0)
        for number in heeded:
            signal.signal(number, before[number])
        sys.unraisablehook = hook


def _stop(owner: int, number: int, _: FrameType | None) -> None:
    if os.getpid() != owner:
        # A worker of a loader ends silently so; whoever started it speaks for both.
        raise KeyboardInterrupt
    # Another one ends the process at once, wherever this one is stuck.
    for each in STOPPING:
        signal.signal(each, signal.SIG_DFL)
    # An exception that is raised while an object is disposed of is told there, and lost.
    sys.unraisablehook = lambda _: None
    _stop_again_after(SECONDS_UNTIL_STOPPED_AGAIN, number)
    raise _Stopped(number)


def _stop_again_after(seconds: float, number: int = 0) -> None:
    """Raises once more, some seconds later, what may have been lost; never for 0."""
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, partial(_raise, number))
        signal.setitimer(signal.ITIMER_REAL, seconds)


def _raise(stopped_by: int, _: int, __: FrameType | None) -> None:
    raise _Stopped(stopped_by)


def _say(line: str) -> None:
    # Whoever has stopped us may have closed the terminal as well.
    with suppress(OSError):
        # Below the bar that is being drawn.
        print(("\n" if sys.stderr.isatty() else "") + line, file=sys.stderr, flush=True)  # noqa: T201
