"""Reads folders of images, one a class, and tells of every image that it leaves out."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from datasets import ClassLabel, Dataset, Features, Image, Value

from robust_hub.data.listing import Listing, check_utf8, counted, extension, posix, some
from robust_hub.data.split_names import SPLITS, split_of_folder
from robust_hub.errors import close_names

# Hold the images themselves, so where they stand outside the folders of classes, images in folders are not meant.
WITH_IMAGES = {".parquet", ".arrow"}
# May hold them, or say what they are; beside two classes or more they are only something that lies about.
MAY_BE_MEANT = {".csv", ".tsv", ".jsonl", ".zip", ".tar", ".tgz", ".txz", ".gz", ".xz"}


def read_class_folders(
    listing: Listing, reasons: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, Dataset], list[str]] | None:
    """Reads folders of images, one a class, below folders of splits or directly below the folder that is listed.

    Args:
        listing: of SPLIT/CLASS/** or, where no folder of a split holds folders of images, CLASS/**, which is all train.
        reasons: why a file that might say the classes, does not.

    Returns:
        The splits that hold images, rows in the order of their paths, `label` counting classes sorted as strings. Then
        sentences about what was left out or decided; none for a healthy folder. None where this is no folder of
        images by class: files that hold images are in it, or no folder of a class.

    Raises:
        ValueError: when a file name isn't UTF-8, two folders are one split, a class of another split is not in train,
            or the only class has all its images further down.
    """
    images = listing.images
    has_splits = any(len(file) > 2 and split_of_folder(file) for file in images)
    # Of a path: how many folders lead to its class.
    level = 1 if has_splits else 0
    in_no_split = {path[0] for path in listing.folders if has_splits and not split_of_folder(path)}
    used = [file for file in images if len(file) > level + 1 and file[0] not in in_no_split]
    class_folders = {file[: level + 1] for file in used}

    is_flat = not has_splits and all(split_of_folder(path) for path in class_folders)
    beside = [file for file in listing.others if file[: level + 1] not in class_folders]
    has_classes = len({path[-1] for path in class_folders}) > 1
    suspects, meant = (beside, WITH_IMAGES) if has_classes else (listing.others, WITH_IMAGES | MAY_BE_MEANT)
    if is_flat or any(extension(file) in meant for file in suspects):
        return None
    if has_splits:
        _check_one_folder_a_split(listing.folder, {file[0] for file in images if len(file) > 1} - in_no_split)
    files_of = {split: [] for split in ("train", "validation", "test")}
    for file in used:
        files_of[split_of_folder(file) if has_splits else "train"].append(file)
    files_of = {split: kept for split, kept in files_of.items() if kept}
    classes = {split: {file[level] for file in kept} for split, kept in files_of.items()}
    _check_classes(classes)

    label_names = sorted(set().union(*classes.values()))
    deeper = [file for file in used if len(file) > level + 2]
    if len(label_names) == 1 and len(deeper) == len(used):
        raise ValueError(
            f"the only class of {listing.folder} would be '{label_names[0]}', and all its images lie in folders below "
            f"it ({posix(deeper[0])}); name the folder that holds the folders of the classes"
        )

    notes = []
    if deeper:
        lie = counted(len(deeper), "image lies", "images lie")
        notes.append(f"classes are the first level of folders; {lie} deeper, for example {posix(deeper[0])}")
    for name, count in Counter(file[0] for file in images if file[0] in in_no_split).items():
        are = counted(count, f"image in {name}/ is in no split and is", f"images in {name}/ are in no split and are")
        notes.append(f"{are} left out")
    unclassed = [file for file in images if len(file) <= level + 1 and file[0] not in in_no_split]
    if unclassed:
        are = counted(len(unclassed), "image beside the class folders is", "images beside the class folders are")
        notes.append(f"{are} left out: {some(map(posix, unclassed))}")
    for file in beside:
        if extension(file) in MAY_BE_MEANT:
            why = f" ({reasons[posix(file)]})" if posix(file) in reasons else ""
            notes.append(f"{posix(file)} beside the class folders is left out{why}")
    no_images = Counter(
        extension(file) or "no extension" for file in listing.others if file[: level + 1] in class_folders
    )
    if no_images:
        are = counted(no_images.total(), "file that is no image is", "files that are no images are")
        by_extension = some(f"{suffix} ({count})" for suffix, count in no_images.most_common())
        notes.append(f"{are} left out: {by_extension}")
    empty = [path for path in listing.folders if len(path) == level + 1 and path[0] not in in_no_split]
    empty = [path for path in empty if path not in class_folders]
    if empty:
        notes.append(f"folders without any image are no classes: {some(map(posix, empty))}")
    return {split: _rows(listing.folder, kept, level, label_names) for split, kept in files_of.items()}, notes


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
    check_utf8(paths)
    numbers = {name: number for number, name in enumerate(label_names)}
    features = Features({"image": Value("string"), "label": ClassLabel(names=label_names)})
    labels = [numbers[file[level]] for file in files]
    return Dataset.from_dict({"image": paths, "label": labels}, features=features).cast_column("image", Image())
