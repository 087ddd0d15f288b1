"""Batches that threads make of images which are not all in memory, a few batches ahead.

What a batch holds is decided by a plan, in one thread; so neither threads nor processes change it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from robust_hub.data.augmentation import all_crops, crop_and_flip, resized_crop
from robust_hub.data.decoded import Decoded
from robust_hub.data.decoding import OnDemand
from robust_hub.data.images import Fit
from robust_hub.data.in_threads import cores, in_order
from robust_hub.data.sharding import Shard, mix
from robust_hub.data.source import Augmentation

# More would wait for each other.
MOST_THREADS = 8


@runtime_checkable
class Plan(Protocol):
    """What each batch of an epoch holds."""

    epoch: int

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]:
        """Yields what a batch is made of."""
        ...


@dataclass
class Shuffled:
    """Lists of (row, seed of its augmentation), shuffled anew each epoch, without the last incomplete batch."""

    n: int
    batch_size: int
    seed: int
    shard: Shard
    epoch: int = 0

    def __len__(self) -> int:
        return self.n // self.batch_size * self.shard.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng(mix(self.seed, self.epoch))
        order = rng.permutation(self.n)
        seeds = rng.integers(2**31, size=self.n)
        for chosen in self.shard.slices(self.n // self.batch_size, self.batch_size):
            yield [(int(index), int(seeds[index])) for index in order[chosen]]


@dataclass
class Cropped:
    """The rows of each batch, and which crop of each, as `crop_and_flip` takes them; shuffled anew each epoch."""

    n: int
    input_size: tuple[int, int, int]
    batch_size: int
    augmentation: Augmentation
    seed: int
    shard: Shard
    device: torch.device
    epoch: int = 0

    def __len__(self) -> int:
        return self.n // self.batch_size * self.shard.accumulate

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        n, (tops, lefts) = self.n, (2 * (side // 8) + 1 for side in self.input_size[1:])
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        order = torch.randperm(n, generator=generator)
        top, left = (torch.randint(places, (n,), generator=generator) for places in (tops, lefts))
        flip = torch.rand(n, generator=generator) < mirrored(self.augmentation)
        if self.augmentation == "none":
            top, left = torch.full((n,), tops // 2), torch.full((n,), lefts // 2)
        order, top, left, flip = (drawn.to(self.device) for drawn in (order, top, left, flip))
        for part in self.shard.slices(n // self.batch_size, self.batch_size):
            yield order[part], top[part], left[part], flip[part]


@dataclass
class Ordered:
    """The rows of this process's batches, every one once, in order."""

    n: int
    batch_size: int
    shard: Shard
    epoch: int = 0

    def __len__(self) -> int:
        return len(self.shard.batches(self.n, self.batch_size))

    def __iter__(self) -> Iterator[list[int]]:
        yield from map(list, self.shard.batches(self.n, self.batch_size))


def mirrored(augmentation: Augmentation) -> float:
    """Tells how likely an image is mirrored."""
    return 0.5 if augmentation.endswith("-flip") else 0.0


@dataclass
class Streamed:
    """A loader whose batches are made by threads.

    Attributes:
        plan: what each batch holds.
        make: makes the images of a batch and their labels.
        device: where they go.
        threads: how many.
    """

    plan: Plan
    make: Callable[[Any], tuple[Tensor, Tensor]]
    device: torch.device
    threads: int

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the augmentation of the epoch that is read next."""
        self.plan.epoch = epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in in_order(self._made, self.plan, self.threads):
            yield images.to(self.device, non_blocking=True).float().div_(255), labels.to(self.device)

    def _made(self, job: Any) -> tuple[Tensor, Tensor]:
        images, labels = self.make(job)
        return (images.pin_memory(), labels) if self.device.type == "cuda" else (images, labels)


def threads_of(shard: Shard) -> int:
    """Tells how many threads each process of a run may have."""
    return min(MOST_THREADS, max(1, cores() // shard.world))


def shown(images: Decoded | OnDemand, labels: Tensor) -> Callable[[list[int]], tuple[Tensor, Tensor]]:
    """Makes batches of images as they are."""
    return lambda rows: (_stacked(images, rows), labels[rows])


def padded_crops(
    images: Decoded | OnDemand, labels: Tensor
) -> Callable[[tuple[Tensor, Tensor, Tensor, Tensor]], tuple[Tensor, Tensor]]:
    """Makes batches of crops of images that are zero-padded by an eighth."""

    def make(job: tuple[Tensor, Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        rows, *drawn = job
        crops = all_crops(_stacked(images, rows.tolist()))
        return crop_and_flip(crops, torch.arange(len(rows)), *drawn), labels[rows]

    return make


def resized_crops(
    photos: Decoded | OnDemand, labels: Tensor, fit: Fit, augmentation: Augmentation
) -> Callable[[list[tuple[int, int]]], tuple[Tensor, Tensor]]:
    """Makes batches of resized parts of photos."""
    size, mirror = fit.input_size[1:], mirrored(augmentation)

    def make(job: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        parts = [resized_crop(photos[row], seed, size, fit.interpolation, mirror=mirror) for row, seed in job]
        return torch.stack(parts), labels[[row for row, _ in job]]

    return make


def _stacked(images: Decoded | OnDemand, rows: list[int]) -> Tensor:
    return torch.from_numpy(np.stack([images[row] for row in rows]))
