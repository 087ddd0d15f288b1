"""What a frozen network gives for every image of a split, computed once into a file that is mapped into memory."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor

from robust_hub.data import Fit, Shard, Source, evaluation_loader
from robust_hub.files import beside, put_in_place, write_text
from robust_hub.launch import progress
from robust_hub.models import PixelClassifier, Teacher
from robust_hub.types import Images

BATCH = 64


def views_of(source: Source) -> int:
    """Counts the views of an image that are of use: 2, its mirror image as well, where training mirrors images."""
    return 2 if source.augmentation.endswith("-flip") else 1


def compute_outputs(
    accelerator: Accelerator,
    network: PixelClassifier | Teacher,
    ask: Callable[[Images], Tensor],
    rows: Dataset,
    fit: Fit,
    *,
    width: int,
    views: int,
    file: Path,
) -> tuple[np.ndarray, float]:
    """Asks a network about every image of a split, view by view.

    Args:
        accelerator: its processes share the rows.
        network: in eval mode; its passes are counted.
        ask: gives what is wanted of it for a batch, a row an image.
        rows: a split of `Data`.
        fit: how images are brought to the size of those that are asked about.
        width: of a row.
        views: see `views_of`.
        file: a .npy, alone in its folder; a whole one is used again.

    Returns:
        views x n rows, read only, and how many seconds a run before has spent on them.
    """
    begun, before, spent = time.perf_counter(), replace(network.passes), file.with_name("spent.json")
    if file.is_file() and spent.is_file():
        cost = json.loads(spent.read_text())
        network.passes.forward += cost["forward"]
        network.passes.backward += cost["backward"]
        return np.load(file, mmap_mode="r"), cost["seconds"]
    # Convolutions are faster so, and no other layer minds.
    network.to(memory_format=torch.channels_last)
    shards = [Shard(rank, accelerator.num_processes) for rank in range(accelerator.num_processes)]
    # A file each, as processes on several machines can't write into one.
    shares = [beside(file.with_stem(f"{file.stem}-{shard.rank}")) for shard in shards]
    file.parent.mkdir(parents=True, exist_ok=True)
    shard = shards[accelerator.process_index]
    written, done = _create(shares[shard.rank], (views, len(shard.rows(len(rows), BATCH)), width)), 0
    loader = evaluation_loader(rows, fit, batch_size=BATCH, device=accelerator.device, shard=shard)
    for images, _ in progress(loader, desc=file.stem):
        for view in range(views):
            with torch.no_grad(), accelerator.autocast():
                outputs = ask(images.flip(3) if view else images)
            written[view, done : done + len(images)] = outputs.float().cpu().numpy()
        done += len(images)
    written.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        whole = _create(beside(file), (views, len(rows), width))
        for shard, share in zip(shards, shares, strict=True):
            whole[:, shard.rows(len(rows), BATCH)] = np.load(share, mmap_mode="r")
            share.unlink()
        whole.flush()
        forward, backward = network.passes.forward - before.forward, network.passes.backward - before.backward
        cost = {"seconds": time.perf_counter() - begun, "forward": forward, "backward": backward}
        write_text(spent, json.dumps(cost))
        put_in_place(beside(file), file)
    accelerator.wait_for_everyone()
    return np.load(file, mmap_mode="r"), 0.0


def _create(file: Path, shape: tuple[int, ...]) -> np.memmap:
    """Makes a file to write to as if it were memory, with all its room, as a full disk would end the process later."""
    mapped = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
    return mapped
