"""The processes of a run, on one machine or on many: they agree before the first step, and notice when one is gone."""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import distributed

from robust_hub.names import public

# A process that does not answer for so long is taken for dead; they ask each other so often.
SECONDS_OF_SILENCE, SECONDS_BETWEEN = 45.0, 5.0
GONE = (
    "error: another process of this run is gone, or its machine, or the way there; start all of them again with "
    "--resume, on as many machines as there are, and the run goes on from what is finished"
)


class Watch(threading.Thread):
    """Asks all other processes every few seconds whether they are there, and ends this one with a line if they aren't.

    It has a way of its own to them, so that no long step of the run is taken for silence, and it sees what the run
    would wait for in vain, as for a machine whose network is cut.
    """

    def __init__(self) -> None:
        """Meets the other processes, all of which must do so."""
        super().__init__(name="watch", daemon=True)
        everyone = distributed.new_group(backend="gloo", timeout=timedelta(seconds=SECONDS_OF_SILENCE))
        assert isinstance(everyone, distributed.ProcessGroup)
        self.everyone = everyone
        self.wants_to_leave, self.is_quiet = threading.Event(), False

    def run(self) -> None:
        """Asks until all of them want to leave, or one is gone."""
        staying = torch.ones(1)
        try:
            while staying.item():
                staying = torch.tensor([float(not self.wants_to_leave.wait(SECONDS_BETWEEN))])
                distributed.all_reduce(staying, distributed.ReduceOp.MAX, self.everyone)
        except RuntimeError:
            if not self.is_quiet:
                print(GONE, file=sys.stderr, flush=True)  # noqa: T201
                # The main thread may be waiting for the others where nothing breaks it off.
                os._exit(1)


def watch(accelerator: Accelerator) -> None:
    """Lets every process of a run end within a minute, and say why, when another one is gone."""
    if accelerator.num_processes > 1 and not _watches():
        Watch().start()


def part() -> None:
    """Ends the watch, once all processes have come here."""
    for each in _watches():
        each.wants_to_leave.set()
        each.join()


def let_the_watch_speak() -> None:
    """Waits for the watch where something has failed, as it knows whether that is because another process is gone."""
    for each in _watches():
        each.join(2 * SECONDS_BETWEEN)


def quieten() -> None:
    """Keeps the watch from speaking, as this process has a reason of its own to end."""
    for each in _watches():
        each.is_quiet = True


def _watches() -> list[Watch]:
    return [thread for thread in threading.enumerate() if isinstance(thread, Watch)]


def check_same(told: Mapping[str, object]) -> None:
    """Checks that all processes are about the same run; all must call it.

    Args:
        told: what must be the same, by its name; plain values.

    Raises:
        ValueError: on all of them, when one is not.
    """
    first, *others = gather_object([dict(_flat(told))])
    for number, other in enumerate(others, start=1):
        for name in first | other:
            here, there = (public(each.get(name, "missing")) for each in (first, other))
            if here != there:
                raise ValueError(
                    f"all processes of a run need the same, and {name} is {here:.80} on the first and {there:.80} on "
                    f"process {number}; bring their machines to the same and start all of them again"
                )


def _flat(told: Mapping[str, object], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in told.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name} ")
        else:
            yield f"{above}{name}", str(value)


def check_shared(accelerator: Accelerator, folder: Path) -> None:
    """Checks that all processes see what the first one writes into a folder.

    Raises:
        ValueError: on all of them, when one doesn't.
    """
    (name,) = broadcast_object_list([f"seen-{uuid4().hex}"])
    if accelerator.is_main_process:
        (folder / name).touch()
    accelerator.wait_for_everyone()
    seen = gather_object([(folder / name).is_file()])
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (folder / name).unlink()
    if not all(seen):
        raise ValueError(
            f"process {seen.index(False)} does not see what the first one writes into {folder}; choose an --output "
            "that all machines share"
        )
