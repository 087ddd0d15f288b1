"""Progress bars: in a terminal as people know them, elsewhere a line every ten seconds, on the main process alone."""

import io
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from accelerate.utils import tqdm as on_the_main_process
from tqdm.std import tqdm

SECONDS_BETWEEN_LINES = 10


class _Lines(io.TextIOBase):
    """Takes the states of all bars, and passes the newest on where ten seconds have gone by since the last."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def write(self, text: str) -> int:
        line = re.sub(r"\x1b\[A|[\r\n]", "", text).strip()
        if line and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            # A log that takes no more, on a full disk or behind a broken pipe, is no reason to end.
            with suppress(OSError):
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
        return len(text)


_LINES = _Lines()


def progress(iterable: Iterable | None = None, **options) -> tqdm:
    """Shows how far a loop has come.

    Args:
        iterable: what the loop runs over; None for a bar that is updated by hand.
        options: of tqdm; a bar vanishes at its end unless `leave` is set.
    """
    where: dict[str, Any] = {} if sys.stderr.isatty() else {"file": _LINES}
    return on_the_main_process(iterable=iterable, **{"leave": False, **where, **options})
