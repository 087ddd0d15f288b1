"""Keeps what was found in images, in the cache of `datasets`, for as long as they stay what they are."""

import hashlib
import os
import zipfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import numpy as np
from datasets import Dataset, config
from filelock import FileLock

# `key` is what an image is known by. `pixels` is a hash: of ten million images, two share 64 bits by chance in one set
# of 400,000. `low` and `high` are the extremes of pixels that are no bytes.
CONTENT = np.dtype(
    [("key", "u8"), ("pixels", "u8"), ("height", "i4"), ("width", "i4"), ("mode", "S8"), ("low", "f8"), ("high", "f8")]
)


def file_and_keys(split: str, rows: Dataset) -> tuple[Path, np.ndarray]:
    """Gives the file that keeps what is in the images of a split, and the key of each; 0 where it can't be read.

    Images inside a table are known by their row, in a file for the table's fingerprint, which changes with what was
    read. Those in files of their own are known by path, size and time, in a file for their folder, so that the others
    stay known when one is replaced.
    """
    keys, paths = keys_of(rows)
    is_of_files = "" not in paths
    of = f"{split} {os.path.commonpath(map(os.path.abspath, paths))}" if is_of_files else rows._fingerprint
    named = hashlib.sha256(of.encode(errors="replace")).hexdigest()[:24]
    return Path(config.HF_DATASETS_CACHE) / "robust_hub" / f"content-{named}.npz", keys


def keys_of(rows: Dataset) -> tuple[np.ndarray, list[str]]:
    """Gives the key of each image, see `file_and_keys`, and its path; empty where it lies in the table itself."""
    # Of the whole table, and then of the rows that are chosen, as to read these copies the images.
    cells = rows.data.column("image").chunks
    inside = np.concatenate([chunk.field("bytes").is_valid().to_numpy(zero_copy_only=False) for chunk in cells])
    paths = [path or "" for chunk in cells for path in chunk.field("path").to_pylist()]
    numbers = range(len(inside)) if rows._indices is None else rows._indices.column(0).to_pylist()
    chosen = ["" if inside[number] else paths[number] for number in numbers]
    keys = np.arange(1, len(rows) + 1, dtype=np.uint64)
    outside = [row for row, number in enumerate(numbers) if not inside[number]]
    keys[outside] = [_stamp(chosen[row]) for row in outside]
    return keys, chosen


def _stamp(path: str) -> int:
    try:
        told = os.stat(path)
    except (OSError, ValueError):
        return 0
    text = f"{path} {told.st_size} {told.st_mtime_ns}"
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")


def filled(keys: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Gives a record for each key: the one that was kept, or an empty one of key 0."""
    table = np.zeros(len(keys), CONTENT)
    if len(kept):
        kept = kept[np.argsort(kept["key"])]
        places = np.searchsorted(kept["key"], keys).clip(max=len(kept) - 1)
        known = kept["key"][places] == keys
        table[known] = kept[places[known]]
    return table


@contextmanager
def alone(place: Path) -> Generator[None]:
    """Lets one process at a time do the work for a file; where nothing can be kept, each does its own."""
    with ExitStack() as locked:
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            locked.enter_context(FileLock(f"{place}.lock"))
        yield


def read(place: Path) -> np.ndarray:
    """Reads what was kept; nothing where there is nothing, or it is damaged, which the sums in the file tell."""
    with suppress(OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile), np.load(place) as kept:
        table = kept["content"]
        if table.dtype == CONTENT:
            return table
    return np.zeros(0, CONTENT)


def write(place: Path, table: np.ndarray) -> None:
    """Writes what was found, whole or not at all; not where the cache can't be written to."""
    unfinished = place.with_name(f"{place.stem}.{uuid4().hex}")
    with suppress(OSError):
        try:
            with unfinished.open("xb") as file:
                np.savez(file, content=table)
            os.replace(unfinished, place)
        finally:
            unfinished.unlink(missing_ok=True)
