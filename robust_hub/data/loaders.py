"""Loaders that yield batches of images in [0, 1] and labels, sharded over processes.

Small sets live as uint8 on the device and are cropped and flipped there; large ones stream through worker processes.
What a batch holds depends on the seed and the epoch alone, never on the number of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from robust_hub.data.datasets import Augmentation
from robust_hub.data.images import fit_image, image_to_tensor, read_image
from robust_hub.data.streaming import WHOLE, Ordered, Shard, Shuffled, Streamed, mix

IN_MEMORY_BYTES = 2 * 2**30


@runtime_checkable
class Loader(Protocol):
    """Batches of one epoch; for training, call `set_epoch` before each."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the augmentation of the epoch that is read next."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


def training_loader(
    rows: Dataset,
    input_size: tuple[int, int, int],
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    shard: Shard = WHOLE,
) -> Loader:
    """Makes a loader that shuffles, augments and drops the last incomplete batch.

    Args:
        rows: a split of `Data`.
        input_size: channels, height and width of the images it yields.
        batch_size: images in an optimizer step, over all processes and accumulated gradients together.
        augmentation: as in `Source`.
        seed: decides the order and the augmentation, with the epoch.
        device: where the images of a small set live.
        shard: this process's part of a batch.

    Raises:
        ValueError: when a batch has more images than the split, or does not divide into the shard's parts.
    """
    if batch_size > len(rows):
        raise ValueError(f"the batch size must be at most the {len(rows)} training images, got {batch_size}; lower it")
    parts = shard.world * shard.accumulate
    if batch_size % parts:
        raise ValueError(
            f"the batch size must be a multiple of {parts} ({shard.world} processes, {shard.accumulate} accumulated "
            f"steps), got {batch_size}"
        )
    if _fits(rows, input_size):
        images, labels = _read_all(rows, input_size, device)
        return _InMemory(images, labels, batch_size, augmentation, seed, shard)
    return Streamed(rows, input_size, Shuffled(len(rows), batch_size, seed, shard), augmentation, device)


def evaluation_loader(
    rows: Dataset, input_size: tuple[int, int, int], *, batch_size: int, device: torch.device, shard: Shard = WHOLE
) -> Loader:
    """Makes a loader that yields every image of this process's share once, in order, as it is.

    The share of process r of w is rows r, r + w, r + 2 w and so on; `batch_size` is that of this process.
    """
    share = rows.select(range(shard.rank, len(rows), shard.world)) if shard.world > 1 else rows
    if _fits(share, input_size):
        images, labels = _read_all(share, input_size, device)
        return _InOrder(images, labels, batch_size)
    return Streamed(share, input_size, Ordered(len(share), batch_size), "none", device)


def _fits(rows: Dataset, input_size: tuple[int, int, int]) -> bool:
    return len(rows) * int(np.prod(input_size)) <= IN_MEMORY_BYTES


def _read_all(rows: Dataset, input_size: tuple[int, int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    channels, height, width = input_size
    images = torch.empty(len(rows), channels, height, width, dtype=torch.uint8)
    for index, (cell, where) in enumerate(zip(rows["image"], rows["where"], strict=True)):
        images[index] = image_to_tensor(fit_image(read_image(cell, where), input_size))
    labels = torch.tensor(rows["label"][:], dtype=torch.int64)
    return images.to(device), labels.to(device)


def _to_float(images: Tensor) -> Tensor:
    return images.float().div_(255)


def crop_and_flip(images: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Cuts each image out of its zero-padded self and mirrors it where asked.

    Args:
        images: uint8, n c h w.
        top: rows by which each image moves up, counted in the padded image, from 0 to 2 (h // 8).
        left: the same for columns.
        flip: which images are mirrored left to right.
    """
    n, _, height, width = images.shape
    padded = F.pad(images, (width // 8, width // 8, height // 8, height // 8))
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(n, -1)
    columns = left[:, None] + torch.where(flip[:, None], columns.flip(1), columns)
    batch = torch.arange(n, device=images.device)
    return padded.permute(0, 2, 3, 1)[batch[:, None, None], rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


@dataclass
class _InMemory:
    images: Tensor
    labels: Tensor
    batch_size: int
    augmentation: Augmentation
    seed: int
    shard: Shard
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.images) // self.batch_size * self.shard.accumulate

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        n, (height, width) = len(self.images), self.images.shape[2:]
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        device = self.images.device
        order = torch.randperm(n, generator=generator).to(device)
        top = torch.randint(height // 8 * 2 + 1, (n,), generator=generator).to(device)
        left = torch.randint(width // 8 * 2 + 1, (n,), generator=generator).to(device)
        flip = torch.rand(n, generator=generator).lt(0.5 if self.augmentation == "crop-flip" else 0).to(device)
        for chosen in self.shard.slices(n // self.batch_size, self.batch_size):
            images, labels = self.images[order[chosen]], self.labels[order[chosen]]
            if self.augmentation != "none":
                images = crop_and_flip(images, top[chosen], left[chosen], flip[chosen])
            yield _to_float(images), labels


@dataclass
class _InOrder:
    images: Tensor
    labels: Tensor
    batch_size: int

    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not len(self.images):
            return
        batches = zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True)
        for images, labels in batches:
            yield _to_float(images), labels
