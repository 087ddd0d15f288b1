"""Lists what lies in a folder of a data set, and tells of files in few words."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from PIL import Image as PILImage

NO_CLASSES = {"__macosx"}
NO_IMAGES = {"thumbs.db", "desktop.ini"}
# Pillow opens their headers and cannot decode them.
HEADERS_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
NAMED_IN_NOTES = 5


@dataclass(frozen=True)
class Listing:
    """What lies in a folder, as paths below it, but for what is hidden and the leavings of desktops."""

    folder: Path
    folders: list[tuple[str, ...]]
    files: list[tuple[str, ...]]

    @cached_property
    def images(self) -> list[tuple[str, ...]]:
        """The files that Pillow decodes, by their extensions."""
        return [file for file in self.files if extension(file) in image_extensions()]

    @cached_property
    def others(self) -> list[tuple[str, ...]]:
        """The other files."""
        return [file for file in self.files if extension(file) not in image_extensions()]


def list_folder(folder: Path) -> Listing:
    """Walks through a folder and those that its links lead to.

    Raises:
        ValueError: when a folder can't be read, or links form a loop.
    """
    folder = folder.resolve()
    folders, files = [], []
    # Where a link leads may be reached by several ways, so only a folder inside itself is a loop.
    ways = {str(folder): (str(folder),)}
    for place, inside, names in os.walk(folder, onerror=_refuse, followlinks=True):
        above = Path(place).relative_to(folder).parts
        inside[:] = [name for name in inside if not is_passed_over(name)]
        for name in inside:
            path = os.path.join(place, name)
            leads_to = os.path.realpath(path)
            if leads_to in ways[place]:
                raise ValueError(f"{path} leads back to {leads_to}, which it is in; remove the link")
            ways[path] = (*ways[place], leads_to)
            folders.append((*above, name))
        files += [(*above, name) for name in names if not name.startswith(".") and name.lower() not in NO_IMAGES]
    # As strings, so that "a b/" precedes "a/": load_dataset orders paths so, and earlier evaluations their rows.
    return Listing(folder, sorted(folders, key=posix), sorted(files, key=posix))


def is_passed_over(folder: str) -> bool:
    """Tells whether a folder of that name is hidden, or the leaving of a desktop."""
    return folder.startswith(".") or folder.lower() in NO_CLASSES


@cache
def image_extensions() -> frozenset[str]:
    """Collects the extensions of the formats that Pillow decodes."""
    kinds = PILImage.registered_extensions().items()
    return frozenset(suffix for suffix, kind in kinds if kind in PILImage.OPEN and kind not in HEADERS_ONLY)


def extension(file: tuple[str, ...]) -> str:
    """Gives the extension of a path, in lower case and with its dot."""
    return os.path.splitext(file[-1])[1].lower()


def posix(path: tuple[str, ...]) -> str:
    """Writes a path with slashes."""
    return "/".join(path)


def counted(count: int, one: str, many: str) -> str:
    """Writes how many there are, with the words for one or for many."""
    return f"1 {one}" if count == 1 else f"{count} {many}"


def some(names: Iterable[str]) -> str:
    """Writes the first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - NAMED_IN_NOTES} more" if len(names) > NAMED_IN_NOTES else ""
    return ", ".join(names[:NAMED_IN_NOTES]) + more


def check_utf8(paths: Iterable[str]) -> None:
    """Raises ValueError where the name of a file can't be written into a data set."""
    undecoded = next((path for path in paths if path != path.encode(errors="ignore").decode()), None)
    if undecoded is not None:
        raise ValueError(f"the name of {undecoded!r} is not UTF-8; rename it")


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename} can't be read ({error.strerror}); give yourself the right to, or move it away")
