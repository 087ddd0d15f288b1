"""What a run resumes from: checkpoints that are whole or absent, so that a half-written one is never read."""

import shutil
from pathlib import Path

from accelerate import Accelerator

from robust_hub.files import UNFINISHED, beside, put_in_place

KEPT = 2


def save_checkpoint(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Saves everything the accelerator knows as the state after that many epochs, and forgets all but the last two."""
    finished = folder / f"epoch-{epoch:06d}"
    if accelerator.is_main_process:
        _remove_unfinished(folder)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(beside(finished)))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        put_in_place(beside(finished), finished)
        for old in _whole(folder)[:-KEPT]:
            # Renamed first, so that one killed in the middle of its removal is not taken for whole.
            old.rename(beside(old))
        _remove_unfinished(folder)
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Restores the newest whole checkpoint, where there is one."""
    if whole := _whole(folder):
        accelerator.load_state(str(whole[-1]))


def _whole(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("epoch-*") if not path.suffix)


def _remove_unfinished(folder: Path) -> None:
    for path in folder.glob(f"epoch-*{UNFINISHED}"):
        shutil.rmtree(path)
