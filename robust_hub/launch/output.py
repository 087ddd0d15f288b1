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


def check_new_file(file: Path, option: str) -> None:
    """Checks that a file can be written where nothing is yet.

    Args:
        file: that is wanted.
        option: by which the user named it.

    Raises:
        ValueError: when there is one, or no folder for it.
    """
    if file.exists() or not file.parent.is_dir():
        wrong = f"{file} is there already" if file.exists() else f"there is no folder {file.parent}"
        raise ValueError(f"{wrong}; choose another {option}")
