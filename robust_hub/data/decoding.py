"""Decodes the images of a split once, by all cores: into a file that is kept, into memory, or as they are asked for.

Wherever they are, they are the same.
"""

import hashlib
import shutil
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import PIL
from datasets import Dataset, config
from PIL import Image as PILImage
from tqdm.std import tqdm

from robust_hub.data.decoded import DECODED, INDEX, Decoded, read, unfinished_of, write
from robust_hub.data.images import Fit, image_in_channels, read_fitted, read_row
from robust_hub.data.in_threads import bar, cores, in_order
from robust_hub.data.kept import alone, keys_of

# Images that a thread takes at a time.
CHUNK = 16
# What is smaller is decoded again in a few seconds.
LEAST_KEPT = 2**27
# No more than this part of the free disk is taken.
PART_OF_DISK = 4
# So many photos tell how large all of them are, about.
SAMPLE = 64


@runtime_checkable
class Transform(Protocol):
    """Makes one array of bytes of a row of `Data`; its text says all that decides them."""

    def __call__(self, row: Mapping) -> np.ndarray:
        """Decodes the image of a row."""
        ...


@dataclass(frozen=True)
class AsShown:
    """The image as a network is shown it, c h w; see `read_fitted`."""

    fit: Fit

    def __call__(self, row: Mapping) -> np.ndarray:
        """Decodes the image of a row."""
        return read_fitted(row, self.fit).numpy()


@dataclass(frozen=True)
class Photo:
    """The photo, h w c, to cut parts out of; one with a longer short side than `side` is brought to that.

    Deviations:
        timm cuts out of photos as they are. Of those whose short side is more than twice what a network takes, parts
        of less than a quarter of the area are a little softer here.
    """

    channels: int
    side: int
    interpolation: str

    def __call__(self, row: Mapping) -> np.ndarray:
        """Decodes the photo of a row."""
        image = image_in_channels(read_row(row), self.channels)
        scale = self.side / min(image.size)
        if scale < 1:
            # As everywhere where nothing is drawn at random.
            chosen = "bilinear" if self.interpolation == "random" else self.interpolation
            size = (round(image.width * scale), round(image.height * scale))
            image = image.resize(size, PILImage.Resampling[chosen.upper()])
        pixels = np.asarray(image)
        return pixels[..., None] if pixels.ndim == 2 else pixels


@dataclass(frozen=True)
class OnDemand:
    """Images that are decoded whenever they are asked for."""

    rows: Dataset
    transform: Transform

    def __getitem__(self, number: int) -> np.ndarray:
        return self.transform(self.rows[number])


def decode(rows: Dataset, transform: Transform, *, most_in_memory: int) -> Decoded | OnDemand:
    """Gives the images of a split, decoded: those that an earlier run has kept, or decoded now, by all cores.

    They are kept in the cache of `datasets` where they take 128 MiB or more, and at most a quarter of the free disk;
    else they are in memory, where they take `most_in_memory` bytes at most; else they are decoded on demand.

    Args:
        rows: a split of `Data`, or some of its rows.
        transform: what is made of each.
        most_in_memory: in bytes.

    Raises:
        ValueError: when an image can't be decoded.
    """
    size = _size_of(rows, transform)
    kept = _kept(rows, transform, size) if size >= LEAST_KEPT else None
    if kept is not None:
        return kept
    if size > most_in_memory:
        return OnDemand(rows, transform)
    return _in_memory(rows, transform)


def _size_of(rows: Dataset, transform: Transform) -> int:
    """Tells how many bytes the decoded images take: about, where they are of several sizes."""
    if isinstance(transform, AsShown):
        return len(rows) * int(np.prod(transform.fit.input_size))
    sample = range(0, len(rows), max(1, len(rows) // SAMPLE))
    sizes = [pixels.nbytes for pixels in in_order(lambda number: transform(rows[number]), sample, cores())]
    return round(len(rows) * sum(sizes) / len(sizes))


def _decoded(rows: Dataset, transform: Transform) -> Iterator[tuple[np.ndarray, int]]:
    """Yields each image and the sum of its bytes, and shows how far it has come."""

    def look(start: int) -> list[tuple[np.ndarray, int]]:
        taken = rows[start : start + CHUNK]
        each = [dict(zip(taken, cells, strict=True)) for cells in zip(*taken.values(), strict=True)]
        images = [np.ascontiguousarray(transform(row)) for row in each]
        return [(image, zlib.crc32(image.data)) for image in images]

    with bar(len(rows), "decoding") as shown:
        for chunk in in_order(look, range(0, len(rows), CHUNK), cores()):
            yield from chunk
            shown.update(len(chunk))


def _in_memory(rows: Dataset, transform: Transform) -> Decoded:
    index, parts = np.zeros(len(rows), INDEX), []
    for number, (image, total) in enumerate(_decoded(rows, transform)):
        index[number] = image.shape, total
        parts.append(image.reshape(-1))
    return Decoded(np.concatenate(parts or [np.zeros(0, np.uint8)]), index)


def _kept(rows: Dataset, transform: Transform, size: int) -> Decoded | None:
    """Reads what is kept, or makes it; None where it can't be kept."""
    place = _place_of(rows, transform)
    found = read(place)
    if found is not None:
        return found
    with alone(place):
        # Another process may have made it while this one waited.
        found = read(place)
        if found is not None:
            return found
        for left_behind in unfinished_of(place):
            shutil.rmtree(left_behind, ignore_errors=True)
        counted = f"the {len(rows):,} images from {rows[0]['where']} on"
        gigabytes = f"about {size / 1e9:,.1f} GB"
        try:
            free = shutil.disk_usage(place.parent).free
            most = free / PART_OF_DISK
            if size > most:
                _tell(
                    f"{counted} are not kept decoded, as they would take {gigabytes}, more than a quarter of the "
                    f"{free / 1e9:,.1f} GB that are free in {place.parent}; let HF_DATASETS_CACHE name another disk"
                )
                return None
            _tell(f"{counted} are decoded once and kept in {place}, {gigabytes}; `robust_hub forget` removes them")
            write(place, counted, _at_most(most, _decoded(rows, transform)), len(rows))
        except OSError as error:
            _tell(f"{counted} can't be kept decoded ({error.strerror or error}); each run decodes them anew")
            return None
        return read(place)


def _place_of(rows: Dataset, transform: Transform) -> Path:
    """Names the folder by what decides each byte in it: files by path, size and time, and images in a table by that."""
    keys, paths = keys_of(rows)
    table = rows._fingerprint if "" in paths else ""
    # Another Pillow may decode otherwise.
    known = hashlib.sha256(f"{table} {rows[0].get('white', 0.0)} {transform} {PIL.__version__} ".encode())
    known.update(keys.tobytes())
    return Path(config.HF_DATASETS_CACHE) / "robust_hub" / f"{DECODED}{known.hexdigest()[:24]}"


def _at_most(size: float, images: Iterator[tuple[np.ndarray, int]]) -> Iterator[tuple[np.ndarray, int]]:
    """Passes images on; raises OSError when they are larger together."""
    for image, total in images:
        size -= image.nbytes
        if size < 0:
            raise OSError("they take more than a quarter of the free disk")
        yield image, total


def _tell(sentence: str) -> None:
    tqdm.write(sentence, file=sys.stderr)
