"""Loaders that yield batches of images in [0, 1] and labels, sharded over processes.

Small sets live as uint8 on the device and are cropped and flipped there; large ones stream through worker processes.
What a batch holds depends on the seed and the epoch alone, never on the number of processes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from robust_hub.data.images import Fit, read_fitted
from robust_hub.data.sharding import WHOLE, Shard, mix
from robust_hub.data.source import Augmentation
from robust_hub.data.streaming import Ordered, Shuffled, Streamed
from robust_hub.types import Images, Labels

IN_MEMORY_BYTES = 2 * 2**30
# Of all the images of a batch that is only classified; those of 224 px are 111.
BATCH_VALUES = 2**24


@runtime_checkable
class Loader(Protocol):
    """Batches of one epoch; for training, call `set_epoch` before each."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the augmentation of the epoch that is read next."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yields images and labels, and target gradients where they are stored."""
        ...


def training_loader(
    rows: Dataset,
    fit: Fit,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    shard: Shard = WHOLE,
    stored: np.ndarray | None = None,
) -> Loader:
    """Makes a loader that shuffles, augments and drops the last incomplete batch.

    Args:
        rows: a split of `Data`.
        fit: how images are brought to the size of those it yields, a classifier's `preprocessing`: before they are
            augmented where the set fits in memory; where it is streamed, of this only size and interpolation count.
        batch_size: images in an optimizer step, over all processes and accumulated gradients together.
        augmentation: as in `Source`.
        seed: decides the order and the augmentation, with the epoch.
        device: where the images of a small set live.
        shard: this process's part of a batch.
        stored: rows k c h w, maps that are cropped and mirrored like the image of their row and come third in a batch.

    Raises:
        ValueError: when a batch has more images than the split, or does not divide into the shard's parts, or maps are
            stored for a set that does not fit into memory.
    """
    if batch_size > len(rows):
        raise ValueError(f"the batch size must be at most the {len(rows)} training images, got {batch_size}; lower it")
    parts = shard.world * shard.accumulate
    if batch_size % parts:
        raise ValueError(
            f"the batch size must be a multiple of {parts} ({shard.world} processes, {shard.accumulate} accumulated "
            f"steps), got {batch_size}"
        )
    if _fits(rows, fit.input_size):
        images, labels = _read_all(rows, fit, device)
        maps = None if stored is None else _Stored(stored, np.asarray(rows["row"][:]))
        return _InMemory(all_crops(images), labels, batch_size, augmentation, seed, shard, maps)
    if stored is not None:
        raise ValueError(f"stored target gradients need a set that fits into memory, got {len(rows)} images")
    return Streamed(rows, fit, Shuffled(len(rows), batch_size, seed, shard), augmentation, device, shard)


def evaluation_loader(
    rows: Dataset, fit: Fit, *, batch_size: int, device: torch.device, shard: Shard = WHOLE
) -> Loader:
    """Makes a loader that yields every image of this process's share once, in order, brought to the size by `fit`.

    The share of process r of w is rows r, r + w, r + 2 w and so on; `batch_size` is that of this process.
    """
    if _fits(rows, fit.input_size):
        # Every process reads all of it, so that all meet the same bad image instead of waiting for the one that does.
        images, labels = _read_all(rows, fit, device)
        return _InOrder(images[shard.rank :: shard.world], labels[shard.rank :: shard.world], batch_size)
    share = rows.select(range(shard.rank, len(rows), shard.world))
    return Streamed(share, fit, Ordered(len(share), batch_size), "none", device, shard)


def batch_size_for(input_size: tuple[int, int, int], *, most: int) -> int:
    """Tells how many images of that size are classified at a time: fewer than `most` where they are large."""
    return max(1, min(most, BATCH_VALUES // math.prod(input_size)))


def batches_of(images: Images, labels: Labels, *, batch_size: int) -> Loader:
    """Makes a loader of images in [0, 1] that are at hand already, in their order."""
    return _InOrder(images, labels, batch_size)


def _fits(rows: Dataset, input_size: tuple[int, int, int]) -> bool:
    return len(rows) * int(np.prod(input_size)) <= IN_MEMORY_BYTES


def _read_all(rows: Dataset, fit: Fit, device: torch.device) -> tuple[Tensor, Tensor]:
    images = torch.empty(len(rows), *fit.input_size, dtype=torch.uint8)
    for index, row in enumerate(rows):
        images[index] = read_fitted(row, fit)
    labels = torch.tensor(rows["label"][:], dtype=torch.int64)
    return images.to(device), labels.to(device)


def _to_float(images: Tensor) -> Tensor:
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def all_crops(images: Tensor) -> Tensor:
    """Views images, zero-padded by an eighth on each side, as all their crops of the size they had.

    Args:
        images: n c h w.

    Returns:
        n c 2(h//8)+1 2(w//8)+1 h w; indexed by where the crop begins, and no larger in memory than the padded images.
    """
    height, width = images.shape[2:]
    padded = F.pad(images, (width // 8, width // 8, height // 8, height // 8))
    return padded.unfold(2, height, 1).unfold(3, width, 1)


def crop_and_flip(crops: Tensor, chosen: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Takes one crop of each chosen image and mirrors it where asked.

    Args:
        crops: from `all_crops`.
        chosen: numbers of images.
        top: for each of these the first row of its crop in the padded image, from 0 to 2 (h // 8).
        left: the same for columns.
        flip: which of these are mirrored left to right.
    """
    images = crops[chosen, :, top, left]
    images[flip] = images[flip].flip(3)
    return images


@dataclass
class _InMemory:
    crops: Tensor
    labels: Tensor
    batch_size: int
    augmentation: Augmentation
    seed: int
    shard: Shard
    stored: "_Stored | None" = None
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.labels) // self.batch_size * self.shard.accumulate

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n, _, tops, lefts = self.crops.shape[:4]
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        order = torch.randperm(n, generator=generator)
        top, left = (torch.randint(places, (n,), generator=generator) for places in (tops, lefts))
        flip = torch.rand(n, generator=generator) < (0.5 if self.augmentation == "crop-flip" else 0)
        if self.augmentation == "none":
            top, left = torch.full((n,), tops // 2), torch.full((n,), lefts // 2)
        order, top, left, flip = (drawn.to(self.labels.device) for drawn in (order, top, left, flip))
        for part in self.shard.slices(n // self.batch_size, self.batch_size):
            chosen = order[part]
            drawn = top[part], left[part], flip[part]
            images = _to_float(crop_and_flip(self.crops, chosen, *drawn))
            yield images, self.labels[chosen], *(self.stored.maps(chosen, *drawn) if self.stored else ())


@dataclass
class _Stored:
    """Maps of each image, which live in a file and go the way of the image."""

    file: np.ndarray
    rows: np.ndarray

    def maps(self, chosen: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> tuple[Tensor]:
        read = torch.from_numpy(self.file[self.rows[chosen.cpu().numpy()]]).to(chosen.device).float()
        crops = all_crops(read.flatten(1, 2))
        return (crop_and_flip(crops, torch.arange(len(read), device=chosen.device), top, left, flip).view_as(read),)


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
