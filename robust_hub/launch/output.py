"""Where a run writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Output:
    """Where a run writes.

    Attributes:
        folder: the folder; it must be new, unless the run is resumed.
        resume: goes on from the last checkpoint of the same run, killed at whatever moment.
        log_with: a tracker for the curves.
    """

    folder: Annotated[Path, tyro.conf.arg(name="output")]
    resume: bool = False
    log_with: Literal["none", "tensorboard", "trackio"] = "none"

    @property
    def checkpoints(self) -> Path:
        """Where what a run can go on from is kept."""
        return self.folder / "checkpoints"
