"""Loaders that yield batches of images in [0, 1] and labels, sharded over processes.

Small sets live as uint8 on the device and are cropped and flipped there; batches of large ones are made by threads.
What a batch holds depends on the images, the seed and the epoch alone: not on the number of processes, and not on
whether the images fit into memory.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from robust_hub.data.augmentation import all_crops, crop_and_flip
from robust_hub.data.decoded import Decoded
from robust_hub.data.decoding import AsShown, OnDemand, Photo, decode
from robust_hub.data.images import Fit
from robust_hub.data.sharding import WHOLE, Shard
from robust_hub.data.source import Augmentation
from robust_hub.data.streaming import (
    Cropped,
    Ordered,
    Shuffled,
    Streamed,
    padded_crops,
    resized_crops,
    shown,
    threads_of,
)
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
        """Yields images and labels, and answers about the images where there are any."""
        ...


@runtime_checkable
class Answers(Protocol):
    """Something about each image of a split: numbers n w, or maps n k c h w."""

    def __getitem__(self, chosen: Tensor, /) -> Tensor:
        """Gives the answers about some of the images."""
        ...


@dataclass(frozen=True)
class AnswersInFile:
    """Answers about all images of a set, of which those about a split's are read when they are asked for.

    Attributes:
        stored: as they stand in the file, row by row as in the whole set.
        rows: of each image of the split, its row there.
    """

    stored: np.ndarray
    rows: np.ndarray

    def __getitem__(self, chosen: Tensor, /) -> Tensor:
        return torch.from_numpy(self.stored[self.rows[chosen.numpy()]])


def training_loader(
    rows: Dataset,
    fit: Fit,
    *,
    batch_size: int,
    augmentation: Augmentation,
    seed: int,
    device: torch.device,
    shard: Shard = WHOLE,
    answers: Sequence[Answers] = (),
) -> Loader:
    """Makes a loader that shuffles, augments and drops the last incomplete batch.

    Args:
        rows: a split of `Data`.
        fit: how images are brought to the size of those it yields, a classifier's `preprocessing`: before they are
            padded and cropped; of a resized crop only size and interpolation count.
        batch_size: images in an optimizer step, over all processes and accumulated gradients together.
        augmentation: as in `Source`; what the usual one is, `with_augmentation` tells.
        seed: decides the order and the augmentation, with the epoch.
        device: where the images of a small set live.
        shard: this process's part of a batch.
        answers: what comes third and on in a batch, numbers as they are and maps cropped and mirrored like the image;
            read when a batch is made.

    Raises:
        ValueError: when a batch has more images than the split, or does not divide into the shard's parts, or there are
            answers about a set that does not fit into memory, or is shown by resized crops.
    """
    if batch_size > len(rows):
        raise ValueError(f"the batch size must be at most the {len(rows)} training images, got {batch_size}; lower it")
    parts = shard.world * shard.accumulate
    if batch_size % parts:
        raise ValueError(
            f"the batch size must be a multiple of {parts} ({shard.world} processes, {shard.accumulate} accumulated "
            f"steps), got {batch_size}"
        )
    if augmentation == "usual":
        raise ValueError("the augmentation must be named here, got usual; ask with_augmentation what that is")
    if augmentation.startswith("resized-crop"):
        if answers:
            raise ValueError(
                "answers about a whole image (--target once, --stored) can't follow a resized crop, got --augmentation "
                f"{augmentation}; say crop-flip, crop or none"
            )
        side = 2 * max(fit.input_size[1:])
        photos = decode(rows, Photo(fit.input_size[0], side, fit.interpolation), most_in_memory=IN_MEMORY_BYTES)
        make = resized_crops(photos, _labels(rows), fit, augmentation)
        return Streamed(Shuffled(len(rows), batch_size, seed, shard), make, device, threads_of(shard))
    is_in_memory = _fits(rows, fit.input_size)
    if answers and not is_in_memory:
        raise ValueError(
            f"answers about each image need a set that fits into memory, got {len(rows)} images; drop --target once or "
            "--stored"
        )
    images = decode(rows, AsShown(fit), most_in_memory=IN_MEMORY_BYTES)
    place = device if is_in_memory else torch.device("cpu")
    plan = Cropped(len(rows), fit.input_size, batch_size, augmentation, seed, shard, place)
    if not is_in_memory:
        return Streamed(plan, padded_crops(images, _labels(rows)), device, threads_of(shard))
    crops = all_crops(_together(images, fit).to(device))
    return _InMemory(crops, _labels(rows).to(device), plan, answers)


def evaluation_loader(
    rows: Dataset, fit: Fit, *, batch_size: int, device: torch.device, shard: Shard = WHOLE
) -> Loader:
    """Makes a loader that yields every image of this process's share once, in order, brought to the size by `fit`.

    The share of process r of w is batches r, r + w, r + 2 w and so on, so that a batch holds the same images whatever
    the number of processes; see `Shard.batches`.
    """
    # Every process decodes all of it, or waits for the one that does, so that all meet the same bad image.
    images, labels = decode(rows, AsShown(fit), most_in_memory=IN_MEMORY_BYTES), _labels(rows)
    if not _fits(rows, fit.input_size):
        plan = Ordered(len(rows), batch_size, shard)
        return Streamed(plan, shown(images, labels), device, threads_of(shard))
    share = shard.rows(len(rows), batch_size)
    return _InOrder(_together(images, fit)[share].to(device), labels[share].to(device), batch_size)


def batch_size_for(input_size: tuple[int, int, int], *, most: int) -> int:
    """Tells how many images of that size are classified at a time: fewer than `most` where they are large."""
    return max(1, min(most, BATCH_VALUES // math.prod(input_size)))


def batches_of(images: Images, labels: Labels, *, batch_size: int) -> Loader:
    """Makes a loader of images in [0, 1] that are at hand already, in their order."""
    return _InOrder(images, labels, batch_size)


def _fits(rows: Dataset, input_size: tuple[int, int, int]) -> bool:
    return len(rows) * int(np.prod(input_size)) <= IN_MEMORY_BYTES


def _labels(rows: Dataset) -> Tensor:
    return torch.tensor(rows["label"][:], dtype=torch.int64)


def _together(images: Decoded | OnDemand, fit: Fit) -> Tensor:
    """Brings the images of a set that fits into memory there."""
    assert isinstance(images, Decoded)
    # A copy of what is mapped, as torch takes nothing that can't be written to.
    pixels = np.require(images.pixels, requirements="W")
    return torch.from_numpy(pixels).view(-1, *fit.input_size)


def _to_float(images: Tensor) -> Tensor:
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@dataclass
class _InMemory:
    crops: Tensor
    labels: Tensor
    plan: Cropped
    answers: Sequence[Answers]

    def set_epoch(self, epoch: int) -> None:
        self.plan.epoch = epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for chosen, *drawn in self.plan:
            images = _to_float(crop_and_flip(self.crops, chosen, *drawn))
            answers = [each[chosen.cpu()].to(chosen.device) for each in self.answers]
            answers = [_like_images(each.float(), *drawn) if each.ndim == 5 else each for each in answers]
            yield images, self.labels[chosen], *answers


def _like_images(maps: Tensor, top: Tensor, left: Tensor, flip: Tensor) -> Tensor:
    """Crops and mirrors maps n k c h w as `crop_and_flip` does images."""
    crops = all_crops(maps.flatten(1, 2))
    return crop_and_flip(crops, torch.arange(len(maps), device=maps.device), top, left, flip).view_as(maps)


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
