"""What Xet uploads consist of: xorbs are rows of compressed chunks, and shards tell which chunks make up a file."""

import hashlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

import lz4.frame

FILE_VERIFIED, FILE_HAS_SHA256 = 1 << 31, 1 << 30


class Part(NamedTuple):
    """The chunks from `start` up to `end` of a xorb, and the bytes that they decompress to."""

    xorb: str
    size: int
    start: int
    end: int


def read_xorb(xorb: bytes) -> list[bytes]:
    """Decompresses the chunks of a xorb.

    Raises:
        ValueError: when it is cut off, or a chunk is not of the size that it states.
    """
    chunks, place = [], 0
    while place < len(xorb) and not xorb.startswith(b"XETBLOB", place):
        version, scheme = xorb[place], xorb[place + 4]
        stored, size = (int.from_bytes(xorb[place + at : place + at + 3], "little") for at in (1, 5))
        data = xorb[place + 8 : place + 8 + stored]
        chunk = data if scheme == 0 else lz4.frame.decompress(data)
        chunks.append(_ungrouped(chunk) if scheme == 2 else chunk)
        if version != 0 or scheme > 2 or len(data) != stored or len(chunk) != size:
            raise ValueError(f"not a chunk: version {version}, scheme {scheme}, {len(data)} and {len(chunk)} bytes")
        place += 8 + stored
    return chunks


def _ungrouped(grouped: bytes) -> bytes:
    """Undoes the grouping of every fourth byte."""
    bytes_, place = bytearray(len(grouped)), 0
    for first in range(4):
        count = len(range(first, len(grouped), 4))
        bytes_[first::4] = grouped[place : place + count]
        place += count
    return bytes(bytes_)


def read_shard(shard: bytes) -> Iterator[tuple[str, list[Part]]]:
    """Yields the sha256 and the parts of each file.

    Raises:
        ValueError: when a file has no sha256, which the Hub names it by.
    """
    place = 48
    while shard[place : place + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", shard, place + 32)
        parts, place = [], place + 48
        for _ in range(count):
            parts.append(Part(_hex(shard, place), *struct.unpack_from("<III", shard, place + 36)))
            place += 48
        place += 48 * count if flags & FILE_VERIFIED else 0
        if not flags & FILE_HAS_SHA256:
            raise ValueError("a file without its sha256")
        yield _hex(shard, place), parts
        place += 48


def _hex(shard: bytes, place: int) -> str:
    """Writes a hash, which is four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack_from("<4Q", shard, place))


def join(parts: list[Part], xorbs: dict[str, list[bytes]], sha256: str) -> bytes:
    """Puts a file together.

    Raises:
        ValueError: when that does not give what was announced.
    """
    pieces = [b"".join(xorbs.get(part.xorb, [])[part.start : part.end]) for part in parts]
    sizes, content = [len(piece) for piece in pieces], b"".join(pieces)
    if sizes != [part.size for part in parts] or hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"what was uploaded does not make up the file {sha256}")
    return content
