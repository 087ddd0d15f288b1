"""Reads folders of images, one a class, and tells of every image that it leaves out."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from robust_hub.errors import close_names

# What people call the folders of splits, whatever the case.
SPLITS = {"train": "train", "training": "train"}
SPLITS |= dict.fromkeys(("validation", "valid", "val", "dev"), "validation")
SPLITS |= dict.fromkeys(("test", "testing"), "test")
# Hold rows, so where they stand outside the folders of classes, images in folders are not what is meant.
TABLES = {".parquet", ".arrow", ".csv", ".jsonl", ".zip", ".tar", ".tgz", ".gz"}
METADATA = {"metadata.csv", "metadata.jsonl", "metadata.parquet"}
NO_CLASSES = {"__macosx"}
NO_IMAGES = {"thumbs.db", "desktop.ini"}
# Pillow opens their headers and cannot decode them.
HEADERS_ONLY = {"BUFR", "GRIB", "HDF5", "MPEG", "WMF"}
NAMED_IN_NOTES = 5


def read_image_folder(folder: Path) -> tuple[dict[str, Dataset], list[str]] | None:
    """Reads folders of images, one a class, below folders of splits or directly below `folder`.

    Args:
        folder: SPLIT/CLASS/** or, where no folder of a split holds folders of images, CLASS/**, which is all train.

    Returns:
        The splits that hold images, rows in the order of their paths, `label` counting classes sorted as strings. Then
        sentences about what was left out or decided; none for a healthy folder. None where this is no folder of
        images by class: tables, archives or metadata are in it, or no folder of a class.

    Raises:
        ValueError: when a folder can't be read, links form a loop, a file name isn't UTF-8, two folders are one split,
            a class of another split is not in train, or the only class has all its images further down.
    """
    folder = folder.resolve()
    folders, files = _walk(folder)
    extensions = {suffix for suffix, kind in PILImage.registered_extensions().items() if _is_decoded(kind)}
    images = [file for file in files if _extension(file) in extensions]
    others = [file for file in files if _extension(file) not in extensions]

    has_splits = any(len(file) > 2 and _split(file) for file in images)
    # Of a path: how many folders lead to its class.
    level = 1 if has_splits else 0
    in_no_split = {path[0] for path in folders if has_splits and not _split(path)}
    used = [file for file in images if len(file) > level + 1 and file[0] not in in_no_split]
    class_folders = {file[: level + 1] for file in used}

    holds_tables = any(_extension(file) in TABLES and file[: level + 1] not in class_folders for file in others)
    is_flat = not has_splits and all(_split(path) for path in class_folders)
    if holds_tables or is_flat or any(file[-1].lower() in METADATA for file in others):
        return None
    if has_splits:
        _check_one_folder_a_split(folder, {file[0] for file in images if len(file) > 1} - in_no_split)
    files_of = {split: [] for split in ("train", "validation", "test")}
    for file in used:
        files_of[_split(file) if has_splits else "train"].append(file)
    files_of = {split: kept for split, kept in files_of.items() if kept}
    classes = {split: {file[level] for file in kept} for split, kept in files_of.items()}
    _check_classes(classes)

    label_names = sorted(set().union(*classes.values()))
    deeper = [file for file in used if len(file) > level + 2]
    if len(label_names) == 1 and len(deeper) == len(used):
        raise ValueError(
            f"the only class of {folder} would be '{label_names[0]}', and all its images lie in folders below it "
            f"({_posix(deeper[0])}); name the folder that holds the folders of the classes"
        )

    notes = []
    if deeper:
        lie = _counted(len(deeper), "image lies", "images lie")
        notes.append(f"classes are the first level of folders; {lie} deeper, for example {_posix(deeper[0])}")
    for name, count in Counter(file[0] for file in images if file[0] in in_no_split).items():
        are = _counted(count, f"image in {name}/ is in no split and is", f"images in {name}/ are in no split and are")
        notes.append(f"{are} left out")
    beside = [file for file in images if len(file) <= level + 1 and file[0] not in in_no_split]
    if beside:
        are = _counted(len(beside), "image beside the class folders is", "images beside the class folders are")
        notes.append(f"{are} left out: {_some(map(_posix, beside))}")
    no_images = Counter(_extension(file) or "no extension" for file in others if file[: level + 1] in class_folders)
    if no_images:
        are = _counted(no_images.total(), "file that is no image is", "files that are no images are")
        by_extension = _some(f"{extension} ({count})" for extension, count in no_images.most_common())
        notes.append(f"{are} left out: {by_extension}")
    empty = [path for path in folders if len(path) == level + 1 and path[0] not in in_no_split]
    empty = [path for path in empty if path not in class_folders]
    if empty:
        notes.append(f"folders without any image are no classes: {_some(map(_posix, empty))}")
    return {split: _rows(folder, kept, level, label_names) for split, kept in files_of.items()}, notes


def _walk(folder: Path) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    folders, files = [], []
    # Where a link leads may be reached by several ways, so only a folder inside itself is a loop.
    ways = {str(folder): (str(folder),)}
    for place, inside, names in os.walk(folder, onerror=_refuse, followlinks=True):
        above = Path(place).relative_to(folder).parts
        inside[:] = [name for name in inside if not name.startswith(".") and name.lower() not in NO_CLASSES]
        for name in inside:
            path = os.path.join(place, name)
            leads_to = os.path.realpath(path)
            if leads_to in ways[place]:
                raise ValueError(f"{path} leads back to {leads_to}, which it is in; remove the link")
            ways[path] = (*ways[place], leads_to)
            folders.append((*above, name))
        files += [(*above, name) for name in names if not name.startswith(".") and name.lower() not in NO_IMAGES]
    # As strings, so that "a b/" precedes "a/": load_dataset orders paths so, and earlier evaluations their rows.
    return sorted(folders, key=_posix), sorted(files, key=_posix)


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename} can't be read ({error.strerror}); give yourself the right to, or move it away")


def _split(path: tuple[str, ...]) -> str:
    return SPLITS.get(path[0].lower(), "")


def _is_decoded(kind: str) -> bool:
    return kind in PILImage.OPEN and kind not in HEADERS_ONLY


def _extension(file: tuple[str, ...]) -> str:
    return os.path.splitext(file[-1])[1].lower()


def _posix(path: tuple[str, ...]) -> str:
    return "/".join(path)


def _counted(count: int, one: str, many: str) -> str:
    return f"1 {one}" if count == 1 else f"{count} {many}"


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NAMED_IN_NOTES} more" if len(names) > NAMED_IN_NOTES else ""
    return ", ".join(names[:NAMED_IN_NOTES]) + more


def _check_one_folder_a_split(folder: Path, names: set[str]) -> None:
    first = {}
    for name in sorted(names):
        split = SPLITS[name.lower()]
        if split in first:
            raise ValueError(
                f"{folder} has two folders for split {split}, {first[split]} and {name}; merge or rename one"
            )
        first[split] = name


def _check_classes(classes: dict[str, set[str]]) -> None:
    for split, names in classes.items():
        for name in sorted(names - classes.get("train", names)):
            near = close_names(name, classes["train"])
            raise ValueError(
                f"class '{name}' of split {split} is not in train{near}; rename its folder or move it away"
            )


def _rows(folder: Path, files: list[tuple[str, ...]], level: int, label_names: list[str]) -> Dataset:
    paths = [os.path.join(folder, *file) for file in files]
    undecoded = [path for path in paths if path != path.encode(errors="ignore").decode()]
    if undecoded:
        raise ValueError(f"the name of {undecoded[0]!r} is not UTF-8; rename it")

    numbers = {name: number for number, name in enumerate(label_names)}
    features = Features({"image": Value("string"), "label": ClassLabel(names=label_names)})
    labels = [numbers[file[level]] for file in files]
    return Dataset.from_dict({"image": paths, "label": labels}, features=features).cast_column("image", Image())
