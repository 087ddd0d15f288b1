"""Finds a data set, its columns and its three splits, and checks all of it before any training starts."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet
from datasets import ClassLabel, Dataset, Image, load_dataset

from robust_hub.data.builtin import BUILTIN
from robust_hub.data.images import read_image
from robust_hub.data.source import Source
from robust_hub.errors import close_names, first_line

HELD_OUT = 0.1
TEST_HELD_OUT = 0.2


@dataclass(frozen=True)
class Data:
    """Three splits with the columns `image` (undecoded bytes or path), `label`, `row` (its number) and `where` it was.

    Nothing is ever selected on test. Labels count from 0 in the order of label_names.
    """

    name: str
    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: list[str]
    image_shape: tuple[int, int, int]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.label_names)


def load_data(source: Source, *, seed: int = 0) -> Data:
    """Loads an image-classification data set and splits it into train, validation and test.

    Columns are found by feature type (Image, ClassLabel) where the source does not name them. A missing validation
    split is a tenth of train; a missing test split is the validation split, and without that a fifth of train.

    Args:
        source: which data set, and its columns.
        seed: decides which images are held out. Numbers are comparable between runs of one seed only.

    Raises:
        ValueError: when there is no such data set, a file can't be read, a column can't be told, a label is outside its
            range, or a split is empty.
    """
    name = source.data
    splits = _open(name)
    columns = next(iter(splits.values())).features
    image = source.image_column or _column(name, columns, Image, "image")
    label = source.label_column or _column(name, columns, ClassLabel, "label")
    for column in (image, label):
        if column not in columns:
            raise ValueError(f"{name} has no column '{column}'; its columns are {', '.join(columns)}")
    if not isinstance(columns[image], Image):
        raise ValueError(f"column '{image}' of {name} must hold images, got {columns[image]}; see --image-column")
    label_names = _label_names(name, splits, label)
    for split, rows in splits.items():
        _check_labels(f"{name}, split {split}", rows, label, len(label_names))
        splits[split] = (
            rows.select_columns([image, label])
            .rename_columns({image: "image", label: "label"})
            .cast_column("image", Image(decode=False))
            .add_column("row", list(range(len(rows))))
            .add_column("where", [f"row {row} of split {split} of {name}" for row in range(len(rows))])
        )
    train, validation, test = _three(name, splits, seed)
    return Data(Path(name).resolve().name, train, validation, test, label_names, _image_shape(train))


def subset(rows: Dataset, n: int) -> Dataset:
    """Draws n rows at random, always the same ones; all of them where there are no more.

    Raises:
        ValueError: when n is below 1.
    """
    if n < 1:
        raise ValueError(f"the number of images must be at least 1, got {n}")
    if n >= len(rows):
        return rows
    return rows.select(np.sort(np.random.default_rng(0).permutation(len(rows))[:n]))


def split_sha256(rows: Dataset) -> str:
    """Computes the sha256 of the encoded images of a split and their labels."""
    digest = hashlib.sha256()
    for cell, label in zip(rows["image"], rows["label"], strict=True):
        encoded = cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()
        digest.update(f"{label} {len(encoded)}\n".encode())
        digest.update(encoded)
    return digest.hexdigest()


def _open(name: str) -> dict[str, Dataset]:
    if name in BUILTIN:
        return {"train": BUILTIN[name]()}
    folder = Path(name).expanduser()
    if folder.is_dir():
        _check_parquet(folder)
    elif name.startswith((".", "/", "~")):
        siblings = [path.name for path in folder.parent.glob("*")] if folder.parent.is_dir() else []
        raise ValueError(f"there is no folder {folder}{close_names(folder.name, siblings)}")
    try:
        loaded = load_dataset(str(folder) if folder.is_dir() else name)
    except Exception as error:  # datasets raises many types here; the user needs the one sentence
        near = close_names(name, [*BUILTIN, *(path.name for path in Path().glob("[!.]*/"))])
        raise ValueError(
            f"'{name}' is neither digits, synthetic nor a folder that can be read, and the Hub did not give it{near} "
            f"({first_line(error)})"
        ) from error
    return dict(loaded) if isinstance(loaded, Mapping) else {"train": loaded}


def _check_parquet(folder: Path) -> None:
    rows: dict[str, int] = {}
    for file in sorted(folder.rglob("*.parquet")):
        try:
            with pyarrow.parquet.ParquetFile(file) as table:
                split = file.stem.split("-")[0]
                rows[split] = rows.get(split, 0) + table.metadata.num_rows
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise ValueError(f"{file} is not a readable parquet file; fetch it again ({error})") from error
    for split, count in rows.items():
        if not count:
            raise ValueError(f"split {split} of {folder} is empty; every split needs at least one image")


def _column(name: str, columns: Mapping, kind: type, usual: str) -> str:
    found = [column for column, feature in columns.items() if isinstance(feature, kind)]
    if usual in found:
        return usual
    if len(found) == 1:
        return found[0]
    have = f"{len(found)} ({', '.join(found)})" if found else f"none among {', '.join(columns)}"
    raise ValueError(f"{name} must have one {kind.__name__} column, found {have}; name it with --{usual}-column")


def _label_names(name: str, splits: dict[str, Dataset], label: str) -> list[str]:
    feature = next(iter(splits.values())).features[label]
    if isinstance(feature, ClassLabel):
        return feature.names
    kind = getattr(feature, "dtype", "")
    if not kind.startswith(("int", "uint")):
        raise ValueError(f"column '{label}' of {name} must hold class numbers, got {feature}")
    numbers = (number for rows in splits.values() for number in rows[label] if number is not None)
    return [str(number) for number in range(max(numbers, default=-1) + 1)]


def _check_labels(where: str, rows: Dataset, label: str, num_classes: int) -> None:
    if None in rows[label]:
        raise ValueError(f"{where} has rows without a label; drop them or name another --label-column")
    labels = np.asarray(rows[label][:], dtype=np.int64)
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise ValueError(
            f"labels must be in [0, {num_classes}), got {labels[wrong[0]]} at row {wrong[0]} of {where}; "
            "drop such rows or name another --label-column"
        )


def _three(name: str, splits: dict[str, Dataset], seed: int) -> tuple[Dataset, Dataset, Dataset]:
    def take(*names: str) -> Dataset | None:
        return next((splits[split] for split in names if split in splits), None)

    train, validation, test = take("train"), take("validation", "valid", "val", "dev"), take("test")
    if train is None:
        raise ValueError(f"{name} must have a split named train, got {', '.join(splits)}")
    if test is None:
        test, validation = validation, None
    if test is None:
        train, test = _hold_out(name, train, TEST_HELD_OUT, seed)
    if validation is None:
        train, validation = _hold_out(name, train, HELD_OUT, seed)
    for split, rows in {"train": train, "validation": validation, "test": test}.items():
        if len(rows) == 0:
            raise ValueError(f"split {split} of {name} is empty; every split needs at least one image")
    return train, validation, test


def _hold_out(name: str, rows: Dataset, share: float, seed: int) -> tuple[Dataset, Dataset]:
    if len(rows) < 2:
        raise ValueError(f"split train of {name} has {len(rows)} images, too few to hold any out; it needs at least 2")
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = max(1, round(share * len(rows)))
    return rows.select(np.sort(order[held_out:])), rows.select(np.sort(order[:held_out]))


def _image_shape(rows: Dataset) -> tuple[int, int, int]:
    image = read_image(rows[0]["image"], rows[0]["where"])
    return (1 if image.mode in ("1", "L") else 3, image.height, image.width)
