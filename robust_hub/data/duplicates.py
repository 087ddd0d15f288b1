"""Images that stand in a set more than once: told, and left out of what is tested where that split is ours to make."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from robust_hub.data.content import Contents
from robust_hub.data.listing import counted

# Splits before one, in which its images should not be.
BEFORE = {"validation": ("train",), "test": ("train", "validation")}
# A larger share of copies within one split is told.
FEW = 0.01


def again(pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tells of each image whether it stands in a split before its own as well.

    Args:
        pixels: the hashes of train, validation and test.
    """
    none = {"train": np.zeros(len(pixels["train"]), dtype=bool)}
    return none | {
        split: np.isin(pixels[split], np.concatenate([pixels[each] for each in before]))
        for split, before in BEFORE.items()
    }


def copies(pixels: np.ndarray) -> int:
    """Counts the images that are copies of one before them."""
    return len(pixels) - len(np.unique(pixels))


def leave_out(
    name: str, pixels: Mapping[str, np.ndarray], ours: Collection[str], held_out: Collection[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Finds the images that should be left out, as they stand in a split before their own.

    Args:
        name: of the data set, for errors.
        pixels: see `again`.
        ours: the splits that such images are left out of; in others, that come with the set, they are only told.
        held_out: the splits that were drawn from train.

    Returns:
        Of each image whether it is left out, and notes.

    Raises:
        ValueError: when less than half of a split would be left.
    """
    out, notes = again(pixels), []
    for split, before in BEFORE.items():
        count, n = int(out[split].sum()), len(pixels[split])
        if not count:
            continue
        found = [each for each in before if np.isin(pixels[split], pixels[each]).any()]
        where = " and ".join(dict.fromkeys("train" if each in held_out else each for each in found))
        if split in ours and 2 * count > n:
            raise ValueError(
                f"{count:,} of the {n:,} images of split {split} of {name} are the same images as in {where}, so less "
                f"than half of it would be left; put other images into one of them, or take the copies out of {where}"
            )
        are = counted(count, f"image of {split} is", f"images of {split} are")
        stay = f"left out of {split}" if split in ours else f"kept, as the set brings {split} so"
        notes.append(f"{are} in {where} as well: {stay}")
        if split not in ours:
            out[split][:] = False
    return out, notes


def tell_copies(pixels: Mapping[str, np.ndarray]) -> list[str]:
    """Tells of the splits of which more than a few images are copies."""
    counts = {split: (copies(hashes), len(hashes)) for split, hashes in pixels.items()}
    return [
        f"{count:,} of the {n:,} images of {split} are copies of others of it"
        for split, (count, n) in counts.items()
        if count > FEW * n
    ]


def tell_contradictions(
    contents: Contents, numbers: np.ndarray, labels: np.ndarray, label_names: Sequence[str]
) -> list[str]:
    """Tells of images that stand under more than one class.

    Args:
        contents: of the whole set.
        numbers: which of its images are meant.
        labels: their classes.
        label_names: of the classes.
    """
    order = np.argsort(contents.table["pixels"][numbers], kind="stable")
    pixels, numbers, labels = contents.table["pixels"][numbers[order]], numbers[order], labels[order]
    starts = np.flatnonzero(np.diff(pixels, prepend=pixels[:1] + 1))
    differ = np.minimum.reduceat(labels, starts) != np.maximum.reduceat(labels, starts)
    if not differ.any():
        return []
    sizes = np.diff(starts, append=len(pixels))
    first = int(starts[differ.argmax()])
    other = first + int((labels[first:] != labels[first]).argmax())
    shown = (f"{contents.where(int(numbers[at]))} as {label_names[labels[at]]}" for at in (first, other))
    return [f"{sizes[differ].sum():,} images stand under more than one class, for example {' and '.join(shown)}"]
