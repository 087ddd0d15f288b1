"""Unpacks an archive of images into the cache of `datasets`, whole or not at all, and nothing anywhere else."""

import hashlib
import os
import shutil
import tempfile
from io import BufferedIOBase
from pathlib import Path

from datasets import config

from robust_hub.data.archive_members import LARGEST_READ, UNREADABLE, members_of, path_inside
from robust_hub.data.listing import extension, image_extensions, is_passed_over, posix
from robust_hub.data.split_names import split_of_folder
from robust_hub.errors import first_line

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
UNKNOWN_ARCHIVES = (".7z", ".rar", ".tar.zst")
TABLES = {".parquet", ".arrow", ".csv", ".tsv", ".jsonl"}
# Photos do not shrink, and drawings in BMP to a tenth; what grows more than this is a trap. Small ones may.
MOST_GROWTH, HARMLESS = 50, 256 * 2**20
# What the smallest file takes on a disk.
BLOCK = 4096
# From link to link, as Linux follows them.
MOST_STEPS = 40


def is_archive(file: str) -> bool:
    """Tells whether a file is an archive, by its name."""
    return file.lower().endswith(ARCHIVES + UNKNOWN_ARCHIVES)


def unpack(archive: Path) -> Path:
    """Unpacks the images of an archive, once.

    Returns:
        The folder in the cache that holds them: below the folders around them, where the archive has only these.

    Raises:
        ValueError: when it can't be read, is encrypted, holds tables, other archives or no images, grows too much, or
            has a member that would lie or lead outside.
    """
    if archive.name.lower().endswith(UNKNOWN_ARCHIVES):
        raise ValueError(f"{archive} must be a zip or a tar to be read; unpack it and name its folder")
    told = archive.stat()
    key = hashlib.sha256(f"{archive.resolve()} {told.st_size} {told.st_mtime_ns}".encode(errors="replace")).hexdigest()
    place = Path(config.HF_DATASETS_CACHE) / "unpacked" / f"{archive.name.split('.')[0]}-{key[:16]}"
    if not place.is_dir():
        try:
            _unpack_whole(place, archive)
        except UNREADABLE as error:
            raise ValueError(f"{archive} can't be unpacked ({first_line(error)}); fetch it again") from error
    return _inmost(place)


def _unpack_whole(place: Path, archive: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{place.name}.", dir=place.parent))
    try:
        _unpack_into(unfinished, archive)
        unfinished.rename(place)
    except OSError:
        # Unless another process was first.
        if not place.is_dir():
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _unpack_into(folder: Path, archive: Path) -> None:
    most = max(HARMLESS, MOST_GROWTH * archive.stat().st_size)
    taken, has_images, links = 0, False, {}
    with members_of(archive) as members:
        for member in members:
            taken += max(member.size, BLOCK)
            if taken > most:
                raise ValueError(
                    f"{archive} must not grow beyond {most / 2**20:,.0f} MiB, as images hardly do, and holds more; "
                    "unpack it yourself where you trust it and name its folder"
                )
            if member.size and member.size > shutil.disk_usage(folder).free:
                raise ValueError(f"{folder.parent} has no room to unpack {archive}; let HF_DATASETS_CACHE name more")
            if any(map(is_passed_over, member.path)):
                continue
            if member.leads_to:
                links[member.path] = path_inside(archive, member.leads_to)
            if member.content is not None:
                _check_kind(archive, member.path)
                has_images = has_images or extension(member.path) in image_extensions()
                _write(folder, archive, member.path, member.content)
    if not has_images:
        raise ValueError(
            f"{archive} must hold folders of images, a class each, and holds no image; check what is in it"
        )
    for path in links:
        _link(folder, archive, path, links)


def _write(folder: Path, archive: Path, path: tuple[str, ...], content: BufferedIOBase) -> None:
    file = folder.joinpath(*path)
    if file.exists():
        raise ValueError(f"{archive} holds {posix(path)} twice; unpack it and name its folder")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("xb") as written:
        shutil.copyfileobj(content, written, LARGEST_READ)


def _check_kind(archive: Path, path: tuple[str, ...]) -> None:
    if extension(path) in TABLES:
        raise ValueError(
            f"{archive} holds a table, {posix(path)}, which is read from a folder; unpack it and name that"
        )
    if is_archive(path[-1]):
        raise ValueError(f"{archive} holds another archive, {posix(path)}; unpack both and name their folder")


def _link(folder: Path, archive: Path, path: tuple[str, ...], links: dict[tuple[str, ...], tuple[str, ...]]) -> None:
    """Gives a file a second name: no link that could lead anywhere else is ever written."""
    target, steps = path, 0
    while target in links and steps < MOST_STEPS:
        target, steps = links[target], steps + 1
    original = folder.joinpath(*target)
    if not original.is_file():
        raise ValueError(f"{posix(path)} of {archive} leads to no file in it; unpack it and name its folder")
    folder.joinpath(*path).parent.mkdir(parents=True, exist_ok=True)
    os.link(original, folder.joinpath(*path))


def _inmost(folder: Path) -> Path:
    """Follows the folders that hold one folder only, down to that of the classes or the splits."""
    while True:
        inside = list(folder.iterdir())
        folders = [path for path in inside if path.is_dir()]
        if len(folders) != 1 or any(extension((path.name,)) in image_extensions() for path in inside):
            return folder
        if split_of_folder((folders[0].name,)) or not any(path.is_dir() for path in folders[0].iterdir()):
            return folder
        folder = folders[0]
