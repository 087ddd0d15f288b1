"""Curves in a tracker. One that fails is given up in one line: it costs its curves, and never the training."""

from collections.abc import Generator
from contextlib import contextmanager

from accelerate import Accelerator

from robust_hub.errors import first_line
from robust_hub.launch.processes import part


def start_tracking(accelerator: Accelerator, name: str) -> None:
    """Starts the tracker that the accelerator was made with, under the name of the run."""
    with _or_without(accelerator):
        accelerator.init_trackers(name)


def track(accelerator: Accelerator, values: dict[str, float], *, step: int) -> None:
    """Sends values to the tracker, if there is one."""
    with _or_without(accelerator):
        accelerator.log(values, step=step)


def end_training(accelerator: Accelerator) -> None:
    """Lets the tracker finish, and the processes part."""
    with _or_without(accelerator):
        for tracker in accelerator.trackers:
            tracker.finish()
    accelerator.trackers.clear()
    part()
    accelerator.end_training()


@contextmanager
def _or_without(accelerator: Accelerator) -> Generator[None]:
    try:
        yield
    except Exception as error:  # whatever a tracker, its disk or its server come up with
        accelerator.trackers.clear()
        print(f"warning: the tracker fails ({first_line(error)}); the run goes on without")  # noqa: T201
