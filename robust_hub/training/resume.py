"""What a run resumes from: checkpoints that are whole or absent, so that a half-written one is never read."""

import errno
import shutil
from pathlib import Path

from accelerate import Accelerator

from robust_hub.errors import first_line
from robust_hub.files import UNFINISHED, beside, put_in_place, writing

KEPT = 2


def save_checkpoint(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Saves everything the accelerator knows as the state after that many epochs, and forgets all but the last two.

    Raises:
        OSError: when the disk refuses; the checkpoints before are kept.
    """
    finished = folder / f"epoch-{epoch:06d}"
    if accelerator.is_main_process:
        _remove_unfinished(folder)
    accelerator.wait_for_everyone()
    try:
        with writing(finished):
            _write_state(accelerator, beside(finished))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                put_in_place(beside(finished), finished)
    except OSError:
        _remove_unfinished(folder)
        raise
    if accelerator.is_main_process:
        for old in _whole(folder)[:-KEPT]:
            # Renamed first, so that one killed in the middle of its removal is not taken for whole.
            old.rename(beside(old))
        _remove_unfinished(folder)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Restores the newest whole checkpoint, where there is one."""
    if whole := _whole(folder):
        accelerator.load_state(str(whole[-1]))


def _write_state(accelerator: Accelerator, place: Path) -> None:
    try:
        accelerator.save_state(str(place))
    except RuntimeError as error:
        # What torch makes of a full disk.
        raise OSError(errno.EIO, f"is it full? {first_line(error)}") from error


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("epoch-*") if not path.suffix)


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"epoch-*{UNFINISHED}"):
        # Processes that share a folder may do so at once.
        shutil.rmtree(path, ignore_errors=True)
