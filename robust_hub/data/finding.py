"""Finds the images that were tested in a data set, however it stores, names and orders them."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from datasets import Dataset, Value, concatenate_datasets

from robust_hub.data.datasets import open_labelled
from robust_hub.data.fingerprint import Fingerprints, encoded_hashes
from robust_hub.data.source import Rule, Source


def find_images(source: Source, wanted: Fingerprints, labels: np.ndarray, label_names: Sequence[str]) -> Dataset:
    """Finds images by what is in them, and checks that they are labelled alike.

    Args:
        source: the data set to look in, all of its splits.
        wanted: what the images are known by.
        labels: their classes, as numbers of the names.
        label_names: of the classes. A set with other names for as many classes, or with numbers only, is taken to list
            them in this order.

    Returns:
        A row for each image in the order wanted, with the columns of the splits of `Data`.

    Raises:
        ValueError: when an image is not there, or stands under another class; also where `load_data` would.
    """
    opened = open_labelled(source, Rule())
    # What is tested is rarely in train, which is the largest.
    splits = dict(sorted(opened.splits.items(), key=lambda named: named[0] == "train"))
    rows = concatenate_datasets(list(splits.values()))
    there = np.asarray(rows["label"][:], dtype=np.int64)
    numbers = _numbered_as(opened.label_names, label_names, source.data)
    expected = numbers[labels].tolist()
    starts = dict(zip(splits, np.cumsum([0, *map(len, splits.values())]).tolist(), strict=False))
    ways = {
        "pixels": lambda split: opened.contents.of(split)["pixels"],
        # Decoders of lossy formats differ, so the same file may have other pixels here.
        "encoded": lambda split: encoded_hashes(splits[split]),
    }
    found, elsewhere = np.full(len(wanted), -1), {}
    for way, split in product(ways, splits):
        missing = np.flatnonzero(found < 0).tolist()
        if not missing:
            break
        row_of = {}
        for row, known in enumerate(ways[way](split).tolist(), start=starts[split]):
            # The first row of an image, of whatever class, and the first of each of its classes.
            row_of.setdefault(known, row)
            row_of.setdefault((known, int(there[row])), row)
        known = getattr(wanted, way).tolist()
        found[missing] = [row_of.get((known[image], expected[image]), -1) for image in missing]
        elsewhere |= {image: row_of[known[image]] for image in missing if found[image] < 0 and known[image] in row_of}
    if (found < 0).any():
        wrong = [image for image in elsewhere if found[image] < 0]
        number = f"{len(wrong) or (found < 0).sum():,} of the {len(wanted):,} tested images"
        if not wrong:
            raise ValueError(f"{number} are not in {source.data}")
        row, label = elsewhere[wrong[0]], label_names[labels[wrong[0]]]
        raise ValueError(
            f"{number} are labelled otherwise in {source.data}: for example {rows[row]['where']} is "
            f"'{opened.label_names[there[row]]}', and '{label}' in the evaluation"
        )
    renumbered = np.full(len(opened.label_names), -1, dtype=np.int64)
    renumbered[numbers] = np.arange(len(numbers))
    rows = rows.remove_columns(["label", "number"]).add_column("label", renumbered[there], feature=Value("int64"))
    return rows.select(found)


def _numbered_as(known: Sequence[str], label_names: Sequence[str], name: str) -> np.ndarray:
    """Gives the number that each class has in a data set."""
    if set(label_names) <= set(known):
        return np.array([list(known).index(each) for each in label_names], dtype=np.int64)
    if len(known) == len(label_names):
        return np.arange(len(known))
    raise ValueError(f"{name} has {len(known):,} classes, and the evaluation is of {len(label_names):,} others")
