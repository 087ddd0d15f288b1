"""Finds the images that were tested in a data set, however it stores, names and orders them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from datasets import Dataset, Value, concatenate_datasets

from robust_hub.data.datasets import Labelled, open_labelled
from robust_hub.data.fingerprint import Fingerprints, encoded_hashes
from robust_hub.data.source import Rule, Source


@dataclass(frozen=True)
class Found:
    """Images that were found in a data set.

    Attributes:
        rows: one each, in the order wanted, with the columns of the splits of `Data`.
        told: how many are of which of its splits.
    """

    rows: Dataset
    told: str


def find_images(source: Source, wanted: Fingerprints, labels: np.ndarray, label_names: Sequence[str]) -> Found:
    """Finds images by what is in them, and checks that they are labelled alike; no row is found twice.

    Args:
        source: the data set to look in, all of its splits; columns that it lacks are found by type.
        wanted: what the images are known by.
        labels: their classes, as numbers of the names.
        label_names: of the classes. A set with other names for as many classes, or with numbers only, is taken to list
            them in this order.

    Raises:
        ValueError: when an image is not there, or stands under another class; also where `load_data` would.
    """
    opened = _open(source)
    # What is tested is rarely in train, which is the largest.
    splits = dict(sorted(opened.splits.items(), key=lambda named: named[0] == "train"))
    rows = concatenate_datasets(list(splits.values()))
    there = np.asarray(rows["label"][:], dtype=np.int64)
    numbers = _numbered_as(opened.label_names, label_names, np.unique(labels), source.data)
    starts = np.cumsum([0, *map(len, splits.values())]).tolist()
    ways = {
        "pixels": lambda split: opened.contents.of(split)["pixels"],
        # Decoders of lossy formats differ, so the same file may have other pixels here.
        "encoded": lambda split: encoded_hashes(splits[split]),
    }
    found, taken, otherwise = np.full(len(wanted), -1), set(), {}
    for (start, split), way in product(zip(starts, splits, strict=False), ways):
        missing = np.flatnonzero(found < 0).tolist()
        if not missing:
            break
        rows_of, row_of_any = defaultdict(list), {}
        for row, known in enumerate(ways[way](split).tolist(), start=start):
            row_of_any.setdefault(known, row)
            if row not in taken:
                rows_of[known, int(there[row])].append(row)
        for image in missing:
            known = int(getattr(wanted, way)[image])
            if same := rows_of[known, int(numbers[labels[image]])]:
                found[image] = same.pop(0)
                taken.add(int(found[image]))
            elif known in row_of_any and there[row_of_any[known]] != numbers[labels[image]]:
                otherwise[image] = row_of_any[known]
    _check_found(found, {image: row for image, row in otherwise.items() if found[image] < 0}, rows, source.data)
    renumbered = np.full(len(opened.label_names), -1, dtype=np.int64)
    renumbered[numbers[numbers >= 0]] = np.flatnonzero(numbers >= 0)
    rows = rows.remove_columns(["label", "number"]).add_column("label", renumbered[there], feature=Value("int64"))
    counts = np.histogram(found, bins=starts)[0].tolist()
    told = [f"{n:,} of the {len(splits[split]):,} of {split}" for n, split in zip(counts, splits, strict=True) if n]
    return Found(rows.select(found), " and ".join(told))


def _open(source: Source) -> Labelled:
    """Opens a set for its images and labels alone; another copy may have other columns, and names no objects."""
    source = replace(source, group_by="")
    try:
        return open_labelled(source, Rule())
    except ValueError:
        if not (source.image_column or source.label_column):
            raise
        return open_labelled(replace(source, image_column="", label_column=""), Rule())


def _check_found(found: np.ndarray, otherwise: dict[int, int], rows: Dataset, name: str) -> None:
    missing = int((found < 0).sum())
    if otherwise:
        where = rows[next(iter(otherwise.values()))]["where"]
        raise ValueError(
            f"{len(otherwise):,} of the {len(found):,} tested images are labelled otherwise in {name}, for example "
            f"{where}"
        )
    if missing:
        raise ValueError(f"{missing:,} of the {len(found):,} tested images are not in {name}, or not as often")


def _numbered_as(known: Sequence[str], label_names: Sequence[str], tested: np.ndarray, name: str) -> np.ndarray:
    """Gives the number that each class has in a data set; -1 where it lacks one that was not tested."""
    if {label_names[label] for label in tested.tolist()} <= set(known):
        return np.array([list(known).index(each) if each in known else -1 for each in label_names], dtype=np.int64)
    if len(known) != len(label_names):
        raise ValueError(f"{name} has {len(known):,} classes, and the evaluation is of {len(label_names):,} others")
    # Folders that are called by numbers come as 0, 1, 10.
    return np.argsort([int(each) for each in known]) if all(map(str.isdecimal, known)) else np.arange(len(known))
