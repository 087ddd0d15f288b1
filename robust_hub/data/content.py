"""What is in each image of a set: a hash of its pixels, its size and its mode, looked at once by all cores."""

import hashlib
import math
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from datasets import Dataset, config
from tqdm.std import tqdm

from robust_hub.data.images import as_seen, decode_image, has_levels
from robust_hub.data.in_threads import bar, cores
from robust_hub.data.kept import CONTENT, alone, file_and_keys, filled, read, write

# Images that a thread takes at a time.
CHUNK = 32
# More than so many take long enough to be told before they are looked at.
MANY = 200_000


class Contents:
    """What is in all images of a set; they are looked at when somebody first asks, or never."""

    def __init__(self, name: str, splits: Mapping[str, Dataset]):
        """Notes which images these are.

        Args:
            name: of the set, for errors.
            splits: the undecoded images of each split as they were read, in a column `image`.
        """
        self.name, self.splits = name, splits

    @cached_property
    def table(self) -> np.ndarray:
        """A record of `kept.CONTENT` for each image, split after split.

        Raises:
            ValueError: when an image can't be decoded.
        """
        return np.concatenate([self.of(split) for split in self.splits])

    def of(self, split: str) -> np.ndarray:
        """Gives the records of one split; see `table`."""
        return _content_of(self.name, split, self.splits[split])

    def where(self, number: int) -> str:
        """Says which image a record is of: its file, or its row."""
        for split, rows in self.splits.items():
            if number < len(rows):
                cell = rows[number]["image"]
                return cell["path"] if cell["bytes"] is None else place_of(number, split, self.name)
            number -= len(rows)
        raise IndexError(number)


def place_of(row: int, split: str, name: str) -> str:
    """Says where an image is from, in errors."""
    return f"row {row} of split {split} of {name}"


def look_at(cell: dict | None, where: str) -> tuple[int, int, int, bytes, float, float]:
    """Decodes an image, and gives what `kept.CONTENT` tells of it but for its key.

    The hash is of the pixels that a person sees, as colours, so that no encoding, mode or orientation matters.

    Raises:
        ValueError: when it can't be decoded.
    """
    image = decode_image(cell, where)
    low = high = math.nan
    if has_levels(image.mode):
        levels = np.asarray(image)
        low, high = float(levels.min()), float(levels.max())
    # What white is among floats is known once all were looked at, and what has more than 16 bits is refused then.
    pixels = image if image.mode == "F" or low < 0 or high > 65535 else as_seen(image, where).convert("RGB")
    digest = hashlib.blake2b(f"{pixels.mode} {pixels.size}".encode(), digest_size=8)
    digest.update(pixels.tobytes())
    number = int.from_bytes(digest.digest(), "little")
    return number, image.height, image.width, image.mode.encode(), low, high


def _content_of(name: str, split: str, rows: Dataset) -> np.ndarray:
    if not len(rows):
        return np.zeros(0, CONTENT)
    place, keys = file_and_keys(split, rows)
    known = filled(keys, read(place))
    if known["key"].all():
        return known
    with alone(place):
        # Another process may have looked at them while this one waited.
        known = filled(keys, read(place))
        try:
            _look_at_rest(name, split, rows, keys, known)
        finally:
            # Also where one is torn, so that the others need not be looked at again.
            write(place, known[known["key"] != 0])
    return known


def _look_at_rest(name: str, split: str, rows: Dataset, keys: np.ndarray, known: np.ndarray) -> None:
    """Fills in the records that have no key yet; Pillow and hashlib let other threads work beside them."""
    missing = np.flatnonzero(known["key"] == 0)
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]

    def look(chunk: np.ndarray) -> list[tuple]:
        cells = zip(chunk.tolist(), rows[chunk.tolist()]["image"], strict=True)
        return [look_at(cell, place_of(row, split, name)) for row, cell in cells]

    if len(missing) > MANY:
        told = f"the {len(missing):,} images of split {split} of {name} are looked at once, for sizes and duplicates"
        tqdm.write(f"{told}; what is found is kept in {config.HF_DATASETS_CACHE}", file=sys.stderr)
    with ThreadPoolExecutor(cores()) as threads, bar(len(missing), f"looking at {split}") as shown:
        for chunk, found in zip(chunks, threads.map(look, chunks), strict=True):
            known[chunk] = [(key, *each) for key, each in zip(keys[chunk].tolist(), found, strict=True)]
            shown.update(len(chunk))
