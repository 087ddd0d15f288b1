"""Collects what a data set is from what is in its images, and from their classes."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from robust_hub.data.duplicates import again, copies
from robust_hub.data.facts import DataFacts, SplitFacts


def count_classes(labels: np.ndarray, label_names: Sequence[str]) -> dict[str, int]:
    """Counts the images of each class."""
    counts = np.bincount(labels, minlength=len(label_names))
    return dict(zip(label_names, counts.tolist(), strict=True))


def collect_facts(
    name: str,
    content: Mapping[str, np.ndarray],
    classes: Mapping[str, Mapping[str, int]],
    *,
    origins: Mapping[str, str],
    left_out: Mapping[str, int],
    levels: str,
    notes: Sequence[str],
) -> DataFacts:
    """Collects what a data set is.

    Args:
        name: of the set.
        content: of train, validation and test, a record for each image.
        classes: how many images each class has in them.
        origins: where they are from.
        left_out: how many images were left out of them, as they stand in others as well.
        levels: see `DataFacts`.
        notes: see `DataFacts`.
    """
    pixels = {split: table["pixels"] for split, table in content.items()}
    repeated = {split: int(found.sum()) for split, found in again(pixels).items()}
    splits = {
        split: SplitFacts(
            len(table),
            origins[split],
            dict(classes[split]),
            repeated[split],
            left_out.get(split, 0),
            copies(pixels[split]),
        )
        for split, table in content.items()
        if len(table)
    }
    table = np.concatenate(list(content.values()))
    sides = np.stack([table["height"], table["width"]], 1)
    by_short_side = np.lexsort((sides.max(1), sides.min(1)))
    smallest, largest = (tuple(sides[by_short_side[at]].tolist()) for at in (0, -1))
    modes = dict(Counter(mode.decode() for mode in table["mode"].tolist()).most_common())
    return DataFacts(
        name,
        splits,
        sizes=len(np.unique(sides, axis=0)),
        smallest=smallest,
        median_side=int(np.median(sides.min(1))),
        largest=largest,
        modes=modes,
        levels=levels,
        notes=tuple(notes),
    )
