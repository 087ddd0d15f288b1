"""Finds a data set by its name, wherever it is, and gives its splits as they are called, with their columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset, load_dataset, load_from_disk

from robust_hub.data.archives import is_archive, unpack
from robust_hub.data.builtin import BUILTIN
from robust_hub.data.folders import read_class_folders
from robust_hub.data.listing import NAMED_IN_NOTES, Listing, counted, extension, list_folder, posix
from robust_hub.data.parquet import read_parquet
from robust_hub.data.source import Source
from robust_hub.data.tables import find_tables, read_tables
from robust_hub.errors import close_names, first_line

# What `save_to_disk` writes.
DISK = {("dataset_dict.json",), ("state.json",)}
# What only `datasets` reads.
OF_DATASETS = {".arrow", ".tar", ".json"}
WANTED = (
    "put the images into a folder for each class, or add a labels.csv with their paths in a column file_name and their "
    "classes in a column label"
)


@dataclass(frozen=True)
class Opened:
    """A data set that was found.

    Attributes:
        splits: as they are called.
        notes: of what was left out or decided.
        places: the folders that relative paths in its rows may start from.
    """

    splits: dict[str, Dataset]
    notes: list[str] = field(default_factory=list)
    places: Sequence[Path] = ()


def open_splits(source: Source) -> Opened:
    """Finds a data set and reads its splits.

    Args:
        source: names a built-in set, a folder, an archive of folders, or a data set on the Hub.

    Raises:
        ValueError: when there is none, or a file can't be read.
    """
    name = source.data
    if name in BUILTIN:
        return Opened({"train": BUILTIN[name]()})
    place = Path(name).expanduser()
    if place.is_dir():
        return _open_folder(place, source)
    if place.is_file() and is_archive(place.name):
        return _open_archive(place)
    if place.exists():
        raise ValueError(f"{place} must be a folder or an archive; name the folder that it is in")
    if name.startswith((".", "/", "~")) or is_archive(name):
        siblings = [path.name for path in place.parent.glob("*")] if place.parent.is_dir() else []
        kind = "file" if is_archive(name) else "folder"
        raise ValueError(f"there is no {kind} {place}{close_names(place.name, siblings)}")
    try:
        return Opened(_by_split(load_dataset(name)))
    except Exception as error:  # datasets raises many types here; the user needs the one sentence
        near = close_names(name, [*BUILTIN, *(path.name for path in Path().glob("[!.]*/"))])
        raise ValueError(
            f"'{name}' is neither digits, synthetic nor a folder that can be read, and the Hub did not give it{near} "
            f"({first_line(error)})"
        ) from error


def _open_folder(folder: Path, source: Source) -> Opened:
    listing = list_folder(folder)
    archives = [file[0] for file in listing.files if len(file) == 1 and is_archive(file[0])]
    beside = {extension(file) for file in listing.files if file[0] not in archives}
    if len(archives) == 1 and not listing.folders and beside <= {".md", ".txt", ""}:
        return _open_archive(listing.folder / archives[0])
    tables, reasons = find_tables(listing, source)
    if tables:
        return Opened(*read_tables(listing, tables, reasons))
    of_images = read_class_folders(listing, reasons)
    if of_images is not None:
        return Opened(*of_images)
    of_parquet = read_parquet(listing)
    if of_parquet is not None:
        return Opened(*of_parquet)
    try:
        if any(file in DISK for file in listing.files):
            return Opened(_by_split(load_from_disk(str(listing.folder))))
        if any(extension(file) in OF_DATASETS for file in listing.files):
            return Opened(_by_split(load_dataset(str(listing.folder))))
    except Exception as error:  # datasets raises many types here; the user needs the one sentence
        raise ValueError(f"{folder} can't be read as a data set ({first_line(error)}); {WANTED}") from error
    raise ValueError(f"{folder} {_instead(listing, reasons)}; {WANTED}")


def _open_archive(archive: Path) -> Opened:
    listing = list_folder(unpack(archive))
    of_images = read_class_folders(listing)
    if of_images is None:
        raise ValueError(f"{archive} {_instead(listing, {})}; {WANTED}")
    splits, notes = of_images
    return Opened(splits, [f"{archive.name} is unpacked in {listing.folder}", *notes])


def _instead(listing: Listing, reasons: Mapping[str, str]) -> str:
    """Tells what a folder holds that can't be read as classes of images."""
    if not listing.files:
        return "is empty"
    told = [f"{name} does not tell them ({why})" for name, why in reasons.items()]
    told += [f"{posix(file)} is an archive beside other files" for file in listing.files if is_archive(file[-1])]
    images = counted(len(listing.images), "image", "images")
    return f"holds {images} and no folders of classes{''.join(f', and {each}' for each in told[:NAMED_IN_NOTES])}"


def _by_split(loaded: object) -> dict[str, Dataset]:
    if isinstance(loaded, Mapping):
        return {str(split): rows for split, rows in loaded.items()}
    assert isinstance(loaded, Dataset)
    return {"train": loaded}
