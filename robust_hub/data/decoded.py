"""Decoded images in a folder of the cache of `datasets`: a file that is mapped into memory, and where each lies in it.

The folder is whole or not there; its size and sums tell whether it still is what was written.
"""

import shutil
import zipfile
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
from datasets import config
from filelock import FileLock, Timeout

from robust_hub.data.in_threads import bar, cores, in_order

# Begins the names of folders, which end in what the images are known by.
DECODED = "decoded-"
# In a folder.
PIXELS, TABLE, TOLD = "pixels", "index.npz", "told.txt"
# Of each image: its axes, and the sum of its bytes.
INDEX = np.dtype([("shape", "i4", 3), ("sum", "u4")])
# Images that a thread checks at a time.
CHUNK = 256


class Decoded:
    """Images of any sizes in one flat array."""

    def __init__(self, pixels: np.ndarray, index: np.ndarray):
        """Notes where each lies.

        Args:
            pixels: of all images, one after the other; maybe a file.
            index: a record of INDEX for each.
        """
        self.pixels, self.index = pixels, index
        self.ends = np.cumsum(index["shape"].astype(np.int64).prod(1))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, number: int) -> np.ndarray:
        shape = self.index["shape"][number]
        return self.pixels[self.ends[number] - shape.prod(dtype=np.int64) : self.ends[number]].reshape(shape)


@dataclass(frozen=True)
class KeptImages:
    """Decoded images of which there is a folder.

    Attributes:
        place: the folder.
        told: what they are.
        size: in bytes.
    """

    place: Path
    told: str
    size: int


def write(place: Path, told: str, images: Iterable[tuple[np.ndarray, int]], n: int) -> None:
    """Writes a folder of images, whole or not at all, in the place of one that is damaged.

    Args:
        place: of the folder; only one process at a time may write there.
        told: what they are.
        images: each with the sum of its bytes.
        n: how many.

    Raises:
        OSError: when the disk refuses.
    """
    unfinished, index = place.with_name(f"{place.name}.{uuid4().hex}"), np.zeros(n, INDEX)
    try:
        unfinished.mkdir(parents=True)
        with (unfinished / PIXELS).open("xb") as file:
            for number, (image, total) in enumerate(images):
                index[number] = image.shape, total
                file.write(image.data)
        np.savez(unfinished / TABLE, index=index)
        (unfinished / TOLD).write_text(told, encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)
        unfinished.rename(place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def read(place: Path) -> Decoded | None:
    """Maps a folder of images into memory; None where there is none, or it is damaged."""
    with suppress(OSError, ValueError, EOFError, LookupError, RuntimeError, zipfile.BadZipFile):
        with np.load(place / TABLE) as table:
            index = table["index"]
        decoded = Decoded(np.memmap(place / PIXELS, dtype=np.uint8, mode="r"), index)
        if index.dtype == INDEX and decoded.ends[-1] == len(decoded.pixels) and _is_whole(decoded):
            return decoded
    return None


def _is_whole(decoded: Decoded) -> bool:
    def check(start: int) -> bool:
        numbers = range(start, min(start + CHUNK, len(decoded)))
        return all(zlib.crc32(decoded[number].data) == decoded.index["sum"][number] for number in numbers)

    with bar(len(decoded), "checking decoded images") as shown:
        for is_whole in in_order(check, range(0, len(decoded), CHUNK), cores()):
            if not is_whole:
                return False
            shown.update(CHUNK)
    return True


def unfinished_of(place: Path) -> list[Path]:
    """Lists the folders that a killed process has begun to write and left behind."""
    return [path for path in place.parent.glob(f"{place.name}.*") if path.is_dir()]


def kept_images() -> list[KeptImages]:
    """Lists the decoded images that are kept, and what killed runs have left of others, the largest first."""
    folders = [path for path in (Path(config.HF_DATASETS_CACHE) / "robust_hub").glob(f"{DECODED}*") if path.is_dir()]
    return sorted(map(_described, folders), key=lambda kept: (-kept.size, kept.place))


def forget_images(kept: KeptImages) -> bool:
    """Removes decoded images; tells whether they are gone, as those that a run is writing are left to it."""
    place = kept.place.with_name(kept.place.name.partition(".")[0])
    with suppress(OSError, Timeout), FileLock(f"{place}.lock", timeout=0):
        shutil.rmtree(kept.place)
        return True
    return False


def _described(place: Path) -> KeptImages:
    told = "what a run has begun, and not finished"
    with suppress(OSError, ValueError):
        told = (place / TOLD).read_text(encoding="utf-8")
    size = 0
    for file in place.glob("*"):
        with suppress(OSError):
            size += file.stat().st_size
    return KeptImages(place, told, size)
