"""A data set in three: its images, what they are, and how they are told."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from datasets import Dataset

from robust_hub.data.collecting import collect_facts, count_classes
from robust_hub.data.content import Contents
from robust_hub.data.facts import DataFacts
from robust_hub.data.levels import tell_levels, white_of
from robust_hub.data.source import Rule


@dataclass(frozen=True)
class Data:
    """Three splits with the columns `image` (undecoded bytes or path), `label`, `row` (its number) and `where` it was.

    Nothing is ever selected on test. Labels count from 0 in the order of label_names. Where pixels are floats, a column
    `white` tells on what scale.

    Attributes:
        name: of the set, without its folder.
        train: what is learnt from; no rows where there is only something to test on.
        validation: what an epoch is chosen by; as train.
        test: what is reported.
        label_names: of the classes.
        origins: where each split is from.
        notes: what a user should know.
        rule: how the set was divided.
        contents: what is in all its images.
        numbers: which of these are in each split.
        left_out: how many images were left out of a split, as they stand in another one as well.
    """

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    origins: dict[str, str]
    notes: list[str]
    rule: Rule
    contents: Contents
    numbers: dict[str, np.ndarray]
    left_out: dict[str, int]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.label_names)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @cached_property
    def content(self) -> dict[str, np.ndarray]:
        """What is in the images of each split: records of `robust_hub.data.kept.CONTENT`."""
        return {split: self.contents.table[numbers] for split, numbers in self.numbers.items()}

    @cached_property
    def facts(self) -> DataFacts:
        """What the set is, in plain values."""
        labels = {split: np.asarray(rows["label"][:], dtype=np.int64) for split, rows in self.splits.items()}
        return collect_facts(
            self.name,
            self.content,
            {split: count_classes(own, self.label_names) for split, own in labels.items()},
            origins=self.origins,
            left_out=self.left_out,
            levels=tell_levels(self.contents.table, white_of(self.contents))[0],
            notes=self.notes,
        )

    @property
    def has_one_size(self) -> bool:
        """Whether all images have the same height and width."""
        return self.facts.sizes == 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """See `DataFacts.image_shape`."""
        return self.facts.image_shape

    def description(self) -> str:
        """Tells splits, classes and what a user should know of them, in a few lines."""
        return self.facts.description()

    def describe_sizes(self, input_size: tuple[int, int, int]) -> str:
        """Tells the sizes and colours that the images have, and what a network is shown of them."""
        return self.facts.shown_to(input_size).describe_sizes()


def drawn(count: int, n: int) -> np.ndarray:
    """Draws n numbers below a count at random, always the same ones; all of them where there are no more.

    Raises:
        ValueError: when n is below 1.
    """
    if n < 1:
        raise ValueError(f"the number of images must be at least 1, got {n}")
    return np.arange(count) if n >= count else np.sort(np.random.default_rng(0).permutation(count)[:n])


def subset(rows: Dataset, n: int) -> Dataset:
    """Draws n rows at random, always the same ones; see `drawn`."""
    chosen = drawn(len(rows), n)
    return rows if len(chosen) == len(rows) else rows.select(chosen)
