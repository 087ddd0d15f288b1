"""Checkpoints that are whole or absent: written beside, then renamed, so a half-written one is never read."""

import os
import shutil
from pathlib import Path

from accelerate import Accelerator

KEPT = 2


def save_checkpoint(accelerator: Accelerator, folder: Path, epoch: int) -> None:
    """Saves everything the accelerator knows as the state after that many epochs, and forgets all but the last two."""
    unfinished, finished = folder / "unfinished", folder / f"epoch-{epoch:06d}"
    if accelerator.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        for file in unfinished.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        shutil.rmtree(finished, ignore_errors=True)
        unfinished.rename(finished)
        for old in sorted(folder.glob("epoch-*"))[:-KEPT]:
            # Renamed first, so that one killed in the middle of its removal is not taken for whole.
            shutil.rmtree(old.rename(folder / "unfinished"))
    accelerator.wait_for_everyone()


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Restores the newest whole checkpoint, where there is one."""
    whole = sorted(folder.glob("epoch-*"))
    if whole:
        accelerator.load_state(str(whole[-1]))
