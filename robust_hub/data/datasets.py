"""A data set as train, validation and test, checked and told before any training starts."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Image, Value

from robust_hub.data.classes import compare_with_train, drop_hidden, settle_classes
from robust_hub.data.images import read_header
from robust_hub.data.opening import find_column, open_splits, with_images
from robust_hub.data.source import Source
from robust_hub.data.splitting import TODAY, Rule, in_three

MOST_CLASSES_SHOWN = 20


@dataclass(frozen=True)
class Data:
    """Three splits with the columns `image` (undecoded bytes or path), `label`, `row` (its number) and `where` it was.

    Nothing is ever selected on test. Labels count from 0 in the order of label_names.
    """

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    origins: dict[str, str]
    notes: list[str]
    rule: Rule

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.label_names)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @cached_property
    def _headers(self) -> np.ndarray:
        """Height, width and whether it is grey of every image, by the headers."""
        cells = (zip(rows["image"], rows["where"], strict=True) for rows in self.splits.values())
        return np.array([read_header(cell, where) for split in cells for cell, where in split])

    @property
    def has_one_size(self) -> bool:
        """Whether all images have the same height and width."""
        return bool((self._headers[:, :2] == self._headers[0, :2]).all())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width that a network for these images takes, unless it has a size of its own.

        Grey only where all images are; of several sizes a square of the median short side.
        """
        channels = 1 if self._headers[:, 2].all() else 3
        if self.has_one_size:
            height, width = map(int, self._headers[0, :2])
            return channels, height, width
        side = int(np.median(self._headers[:, :2].min(1)))
        return channels, side, side

    def description(self) -> str:
        """Tells splits, classes and what a user should know of them, in a few lines."""
        splits = (f"{len(rows):,} {split} ({self.origins[split]})" for split, rows in self.splits.items())
        counts = np.bincount(np.asarray(self.train["label"][:]), minlength=self.num_classes)
        shown = [f"{name} {count:,}" for name, count in zip(self.label_names, counts, strict=True)]
        if len(shown) > MOST_CLASSES_SHOWN:
            extremes = f"the fewest {counts.min():,}, the most {counts.max():,}"
            shown = [shown[0], "...", shown[-1], extremes]
        lines = [f"{self.name}: {', '.join(splits)}", f"{self.num_classes} classes in train: {', '.join(shown)}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def describe_sizes(self, input_size: tuple[int, int, int]) -> str:
        """Tells the sizes and colours that the images have, and what a network makes of them."""
        sides, grey = self._headers[:, :2], int(self._headers[:, 2].sum())
        if (sides == sides[0]).all():
            sizes = f"{sides[0, 1]}x{sides[0, 0]} px"
        else:
            short = sides.min(1)
            sizes = f"of {len(np.unique(sides, axis=0))} sizes, short sides {short.min()} to {short.max()} px"
            sizes += f", median {int(np.median(short))}"
        colour = "grey" if grey == len(sides) else f"colour, {grey} of them grey" if grey else "colour"
        channels, height, width = input_size
        return f"images: {sizes}, {colour}; the network takes {width}x{height} px, {channels} channels"


def load_data(source: Source, *, seed: int = 0, rule: Rule = TODAY) -> Data:
    """Loads an image-classification data set and splits it into train, validation and test.

    Columns are found by feature type (Image, ClassLabel) where the source does not name them. A missing validation
    split is a tenth of train; a missing test split is the validation split, and without that a fifth of train.

    Args:
        source: which data set, and its columns.
        seed: decides which images are held out. Numbers are comparable between runs of one seed only.
        rule: how the set is divided.

    Raises:
        ValueError: when there is no such data set, a file can't be read, a column can't be told, a label is outside its
            range, or a split is empty.
    """
    name = source.data
    splits, notes = open_splits(name)
    columns = next(iter(splits.values())).features
    image = source.image_column or find_column(name, columns, Image, "image")
    label = source.label_column or find_column(name, columns, ClassLabel, "label")
    for column in (image, label):
        if column not in columns:
            raise ValueError(f"{name} has no column '{column}'; its columns are {', '.join(columns)}")
    splits = {split: with_images(name, rows, image) for split, rows in splits.items()}
    splits, hidden = drop_hidden(name, splits, label)
    in_order = dict(sorted(splits.items(), key=lambda named: named[0] != "train"))
    label_names, labels, settled = settle_classes(name, in_order, label)
    for split, rows in splits.items():
        splits[split] = (
            rows.select_columns([image])
            .rename_columns({image: "image"})
            .cast_column("image", Image(decode=False))
            .add_column("label", labels[split], feature=Value("int64"))
            .add_column("row", list(range(len(rows))))
            .add_column("where", [f"row {row} of split {split} of {name}" for row in range(len(rows))])
        )
    three, origins = in_three(name, splits, seed)
    notes = [*notes, *hidden, *settled]
    # The first image is opened here, so that a set that can't be read is told at once and not when it is trained on.
    read_header(three[0][0]["image"], three[0][0]["where"])
    for split, rows in zip(("validation", "test"), three[1:], strict=True):
        if origins[split].startswith("split "):
            notes += compare_with_train(name, label_names, splits["train"], split, rows)
    return Data(Path(name).resolve().name, *three, label_names, origins, notes, rule)


def subset(rows: Dataset, n: int) -> Dataset:
    """Draws n rows at random, always the same ones; all of them where there are no more.

    Raises:
        ValueError: when n is below 1.
    """
    if n < 1:
        raise ValueError(f"the number of images must be at least 1, got {n}")
    if n >= len(rows):
        return rows
    return rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:n]))


def split_sha256(rows: Dataset) -> str:
    """Computes the sha256 of the encoded images of a split and their labels."""
    digest = hashlib.sha256()
    for cell, label in zip(rows["image"], rows["label"], strict=True):
        encoded = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        digest.update(f"{label} {len(encoded)}\n".encode())
        digest.update(encoded)
    return digest.hexdigest()
