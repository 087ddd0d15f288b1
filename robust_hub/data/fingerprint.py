"""What tested images are known by, so that they are found again however a set is encoded, named and ordered."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset

from robust_hub.data.images import check_cell
from robust_hub.data.three_splits import Data, drawn, subset


@dataclass(frozen=True)
class Fingerprints:
    """What images are known by, one each.

    Attributes:
        pixels: a hash of what a person sees of it, in colours and at its own size; uint64, n.
        encoded: a hash of its encoded bytes, as decoders of lossy formats differ; uint64, n.
    """

    pixels: np.ndarray
    encoded: np.ndarray

    def __len__(self) -> int:
        return len(self.pixels)


def fingerprints_of(data: Data, n: int) -> Fingerprints:
    """Computes what the tested images are known by.

    Args:
        data: whose test split is meant.
        n: so many of it are tested, see `subset`.

    Raises:
        ValueError: when one can't be read.
    """
    return Fingerprints(_pixels(data, n), encoded_hashes(subset(data.test, n)))


def tested_sha256(data: Data, n: int) -> str:
    """Computes the fingerprint of the tested images and their classes, whatever their order; see `fingerprints_of`."""
    return data_sha256(_pixels(data, n), [data.label_names[label] for label in subset(data.test, n)["label"]])


def encoded_hashes(rows: Dataset) -> np.ndarray:
    """Computes a hash of the encoded bytes of each image of a split, as `Fingerprints` keeps it."""
    hashes = (hashlib.blake2b(_encoded(row["image"], row["where"]), digest_size=8).digest() for row in rows)
    return np.array([int.from_bytes(digest, "little") for digest in hashes], dtype=np.uint64)


def data_sha256(pixels: np.ndarray, classes: Sequence[str]) -> str:
    """Computes the fingerprint of a set of images, whatever their order.

    Args:
        pixels: see `Fingerprints`.
        classes: the name of the class of each.
    """
    told = sorted(f"{number:016x} {name}" for number, name in zip(pixels.tolist(), classes, strict=True))
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def split_sha256(data: Data) -> dict[str, str]:
    """Computes a fingerprint of each split, its order included, by which two machines know that they hold the same."""
    return {
        split: hashlib.sha256(
            data.content[split]["pixels"].tobytes() + np.asarray(rows["label"][:], dtype=np.int64).tobytes()
        ).hexdigest()
        for split, rows in data.splits.items()
    }


def sha256_in_order(rows: Dataset) -> str:
    """Computes the fingerprint of evaluations of before: of encoded images and numbers of labels, in order."""
    digest = hashlib.sha256()
    for row in rows:
        encoded = _encoded(row["image"], row["where"])
        digest.update(f"{row['label']} {len(encoded)}\n".encode())
        digest.update(encoded)
    return digest.hexdigest()


def _pixels(data: Data, n: int) -> np.ndarray:
    return data.content["test"]["pixels"][drawn(len(data.test), n)]


def _encoded(cell: dict | None, where: str) -> bytes:
    check_cell(cell, where)
    assert cell is not None
    return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
