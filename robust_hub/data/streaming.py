"""Streams a large set through worker processes with timm's transforms.

Each image's augmentation has a seed of its own, so neither workers nor processes change what a batch holds.
"""

import os
import random
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from timm.data import create_transform
from torch import Tensor
from torch.utils.data import DataLoader

from robust_hub.data.images import Fit, image_in_channels, read_fitted, read_row
from robust_hub.data.sharding import Shard, mix
from robust_hub.data.source import Augmentation


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
class Ordered:
    """Batches of (row, 0) that cover every row once, in order."""

    n: int
    batch_size: int
    epoch: int = 0

    def __len__(self) -> int:
        return -(-self.n // self.batch_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, self.n, self.batch_size):
            yield [(index, 0) for index in range(start, min(start + self.batch_size, self.n))]


class Streamed:
    """A loader over worker processes; what it yields is decided by the sampler."""

    def __init__(
        self,
        rows: Dataset,
        fit: Fit,
        sampler: Shuffled | Ordered,
        augmentation: Augmentation,
        device: torch.device,
        shard: Shard,
    ):
        self.sampler, self.device = sampler, device
        self.batches = DataLoader(
            _Transformed(rows, fit, augmentation),
            batch_sampler=sampler,
            num_workers=min(8, max(1, _cores() // shard.world)),
            pin_memory=device.type == "cuda",
            # Without one of its own it would draw from the global generator, once, and a resumed run would differ.
            generator=torch.Generator(),
        )

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the augmentation of the epoch that is read next."""
        self.sampler.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            for images, labels in self.batches:
                yield images.to(self.device, non_blocking=True).float().div_(255), labels.to(self.device)
        except ValueError as error:
            # A worker's error comes with its whole traceback as the message; the last line is ours.
            raise ValueError(str(error).strip().splitlines()[-1].removeprefix("ValueError: ")) from None


def _cores() -> int:
    """Counts the cores that this process may use; those of the machine where the system can't tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Transformed(torch.utils.data.Dataset):
    """Rows as (uint8 image, label), indexed by (row, seed of its augmentation)."""

    def __init__(self, rows: Dataset, fit: Fit, augmentation: Augmentation):
        self.rows, self.fit, self.augmentation = rows, fit, augmentation
        # No colour changes: they would move images out of the domain in which the threat is stated.
        self.transform = create_transform(
            fit.input_size,
            is_training=True,
            interpolation=fit.interpolation,
            hflip=0.5 if augmentation == "crop-flip" else 0.0,
            color_jitter=None,  # ty: ignore[invalid-argument-type] timm takes None, and only then none is made
            normalize=False,
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: tuple[int, int]) -> tuple[Tensor, int]:
        number, seed = index
        row = self.rows[number]
        if self.augmentation == "none":
            return read_fitted(row, self.fit), row["label"]
        image = read_row(row)
        with _seeded(seed):
            return self.transform(image_in_channels(image, self.fit.input_size[0])), row["label"]


@contextmanager
def _seeded(seed: int) -> Generator[None]:
    """Gives timm's transforms, which draw from the global generators of Python and torch, a seed of their own."""
    state = random.getstate()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(state)
