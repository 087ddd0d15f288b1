"""Reads archives member by member, and refuses whatever would lie or lead outside."""

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, cast

from robust_hub.data.listing import posix

# Names are shorter, and tarfile reads at once what claims to be one.
LARGEST_READ = 2**20
# A target of a link is shorter.
LONGEST_LINK = 4096
# What reading a broken archive raises.
UNREADABLE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RecursionError,
)


@dataclass(frozen=True)
class Member:
    """A file of an archive, a link to the other that `leads_to` names, or a folder, which has neither."""

    path: tuple[str, ...]
    size: int = 0
    content: BufferedIOBase | None = None
    leads_to: str = ""


@contextmanager
def members_of(archive: Path) -> Generator[Generator[Member]]:
    """Opens a zip or a tar, and yields what it holds in its order; a file's content must be read before the next.

    Raises:
        ValueError: when a member is encrypted, no file, or would lie or lead outside; any of UNREADABLE besides.
    """
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as opened:
            yield _of_zip(archive, opened)
        return
    with _decompressed(archive) as stream:
        cautious = cast("IO[bytes]", _Cautious(stream))
        with tarfile.open(fileobj=cautious, mode="r:") as opened:
            yield _of_tar(archive, opened)


def _decompressed(archive: Path) -> BufferedIOBase:
    # By the first bytes, as names are often wrong about it.
    with archive.open("rb") as file:
        first = file.read(6)
    if first.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(archive)
    if first == b"\xfd7zXZ\0":
        return lzma.LZMAFile(archive)
    return bz2.BZ2File(archive) if first.startswith(b"BZh") else archive.open("rb")


def _of_zip(archive: Path, opened: zipfile.ZipFile) -> Generator[Member]:
    for info in opened.infolist():
        # Some write backslashes, and some UTF-8 without saying so.
        name = info.filename.replace("\\", "/")
        if not info.flag_bits & 0x800:
            name = _as_utf8(name)
        path = path_inside(archive, name)
        if info.flag_bits & 1:
            raise ValueError(f"{archive} is encrypted; unpack it with its password and name its folder")
        if name.endswith("/"):
            yield Member(path)
        elif stat.S_ISLNK(info.external_attr >> 16) and info.file_size < LONGEST_LINK:
            yield Member(path, leads_to=_from(path, opened.read(info).decode(errors="replace")))
        else:
            with opened.open(info) as content:
                yield Member(path, info.file_size, cast(BufferedIOBase, content))


def _of_tar(archive: Path, opened: tarfile.TarFile) -> Generator[Member]:
    for info in opened:
        # Else it keeps them all.
        opened.members = []  # ty: ignore[missing-attribute] it has them
        path = path_inside(archive, info.name)
        if info.isdir():
            yield Member(path)
        elif info.issym():
            yield Member(path, leads_to=_from(path, info.linkname))
        elif info.islnk():
            yield Member(path, leads_to=info.linkname)
        elif info.isreg():
            yield Member(path, info.size, cast(BufferedIOBase, opened.extractfile(info)))
        else:
            raise ValueError(
                f"{posix(path)} of {archive} is neither a file nor a folder; unpack it and name its folder"
            )


def _from(path: tuple[str, ...], link: str) -> str:
    return link if link.startswith("/") else posix((*path[:-1], link))


def path_inside(archive: Path, name: str) -> tuple[str, ...]:
    """Splits a name, and raises ValueError where it would lie or lead outside."""
    path: list[str] = []
    leads_out = name.startswith("/") or re.match("[A-Za-z]:/", name) is not None
    for part in name.split("/"):
        leads_out = leads_out or (part == ".." and not path)
        if part == "..":
            path = path[:-1]
        elif part not in ("", "."):
            path.append(part)
    if leads_out:
        raise ValueError(f"{archive} must keep to its own folder, got a member or a link to '{name}'; do not trust it")
    return tuple(path) or (".",)


def _as_utf8(name: str) -> str:
    try:
        return name.encode("cp437").decode()
    except UnicodeError:
        return name


class _Cautious:
    """A stream that hands out nothing large at once: a header that claims to be would fill the memory."""

    def __init__(self, stream: BufferedIOBase):
        self.stream, self.seek, self.tell = stream, stream.seek, stream.tell

    def read(self, size: int) -> bytes:
        """Reads so many bytes; raises TarError where they are more than any name needs."""
        if size > LARGEST_READ:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.stream.read(size)
