"""Finds a data set, its columns and its three splits, and checks all of it before any training starts."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features, Image, Value, load_dataset, load_dataset_builder

from robust_hub.data.builtin import BUILTIN
from robust_hub.data.classes import compare_with_train, drop_hidden, settle_classes
from robust_hub.data.folders import read_image_folder
from robust_hub.data.images import read_header
from robust_hub.data.source import Source
from robust_hub.errors import close_names, first_line

HELD_OUT = 0.1
TEST_HELD_OUT = 0.2
MOST_CLASSES_SHOWN = 20


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
    origins: dict[str, str]
    notes: list[str]

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.label_names)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits by their names."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @cached_property
    def _headers(self) -> np.ndarray:
        """Height, width and whether it is grey of every image, by the headers."""
        cells = (zip(rows["image"], rows["where"], strict=True) for rows in self.splits.values())
        return np.array([read_header(cell, where) for split in cells for cell, where in split])

    @property
    def has_one_size(self) -> bool:
        """Whether all images have the same height and width."""
        return bool((self._headers[:, :2] == self._headers[0, :2]).all())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width that a network for these images takes, unless it has a size of its own.

        Grey only where all images are; of several sizes a square of the median short side.
        """
        channels = 1 if self._headers[:, 2].all() else 3
        if self.has_one_size:
            height, width = map(int, self._headers[0, :2])
            return channels, height, width
        side = int(np.median(self._headers[:, :2].min(1)))
        return channels, side, side

    def description(self) -> str:
        """Tells splits, classes and what a user should know of them, in a few lines."""
        splits = (f"{len(rows):,} {split} ({self.origins[split]})" for split, rows in self.splits.items())
        counts = np.bincount(np.asarray(self.train["label"][:]), minlength=self.num_classes)
        shown = [f"{name} {count:,}" for name, count in zip(self.label_names, counts, strict=True)]
        if len(shown) > MOST_CLASSES_SHOWN:
            extremes = f"the fewest {counts.min():,}, the most {counts.max():,}"
            shown = [shown[0], "...", shown[-1], extremes]
        lines = [f"{self.name}: {', '.join(splits)}", f"{self.num_classes} classes in train: {', '.join(shown)}"]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def describe_sizes(self, input_size: tuple[int, int, int]) -> str:
        """Tells the sizes and colours that the images have, and what a network makes of them."""
        sides, grey = self._headers[:, :2], int(self._headers[:, 2].sum())
        if (sides == sides[0]).all():
            sizes = f"{sides[0, 1]}x{sides[0, 0]} px"
        else:
            short = sides.min(1)
            sizes = f"of {len(np.unique(sides, axis=0))} sizes, short sides {short.min()} to {short.max()} px"
            sizes += f", median {int(np.median(short))}"
        colour = "grey" if grey == len(sides) else f"colour, {grey} of them grey" if grey else "colour"
        channels, height, width = input_size
        return f"images: {sizes}, {colour}; the network takes {width}x{height} px, {channels} channels"


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
    splits, notes = _open(name)
    columns = next(iter(splits.values())).features
    image = source.image_column or _column(name, columns, Image, "image")
    label = source.label_column or _column(name, columns, ClassLabel, "label")
    for column in (image, label):
        if column not in columns:
            raise ValueError(f"{name} has no column '{column}'; its columns are {', '.join(columns)}")
    splits = {split: _with_images(name, rows, image) for split, rows in splits.items()}
    splits, hidden = drop_hidden(name, splits, label)
    in_order = dict(sorted(splits.items(), key=lambda named: named[0] != "train"))
    label_names, labels, settled = settle_classes(name, in_order, label)
    for split, rows in splits.items():
        splits[split] = (
            rows.select_columns([image])
            .rename_columns({image: "image"})
            .cast_column("image", Image(decode=False))
            .add_column("label", labels[split], feature=Value("int64"))
            .add_column("row", list(range(len(rows))))
            .add_column("where", [f"row {row} of split {split} of {name}" for row in range(len(rows))])
        )
    three, origins = _three(name, splits, seed)
    notes = [*notes, *hidden, *settled]
    # The first image is opened here, so that a set that can't be read is told at once and not when it is trained on.
    read_header(three[0][0]["image"], three[0][0]["where"])
    for split, rows in zip(("validation", "test"), three[1:], strict=True):
        if origins[split].startswith("split "):
            notes += compare_with_train(name, label_names, splits["train"], split, rows)
    return Data(Path(name).resolve().name, *three, label_names, origins, notes)


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


def _open(name: str) -> tuple[dict[str, Dataset], list[str]]:
    """Gives the splits as they are called, and notes of what was left out."""
    if name in BUILTIN:
        return {"train": BUILTIN[name]()}, []
    folder = Path(name).expanduser()
    if folder.is_dir():
        if (of_images := read_image_folder(folder)) is not None:
            return of_images
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
    if not isinstance(loaded, Mapping):
        return {"train": loaded}, []
    splits = {str(split): rows for split, rows in loaded.items()}
    return _with_own_features(folder, splits) if folder.is_dir() and len(splits) > 1 else splits, []


def _with_own_features(folder: Path, splits: dict[str, Dataset]) -> dict[str, Dataset]:
    """Reads each split of parquet files by what its own tell: `datasets` takes the features of the first for all."""
    data_files = load_dataset_builder(str(folder)).config.data_files or {}
    files = {
        str(split): [str(file) for file in found if str(file).endswith(".parquet")]
        for split, found in data_files.items()
    }
    if any(not files.get(split) for split in splits):
        return splits
    schemas = {split: pyarrow.parquet.read_schema(own[0]).metadata or {} for split, own in files.items()}
    if len({schema.get(b"huggingface") for schema in schemas.values()}) == 1:
        return splits
    own = {split: load_dataset("parquet", data_files={split: files[split]}, split=split) for split in splits}
    return {split: rows for split, rows in own.items() if isinstance(rows, Dataset)}


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


def _with_images(name: str, rows: Dataset, column: str) -> Dataset:
    """Takes bytes, paths, or both as pandas writes them, for images."""
    feature = rows.features[column]
    if isinstance(feature, Image):
        return rows
    is_cell = isinstance(feature, dict | Features) and set(feature) == {"bytes", "path"}
    if is_cell or getattr(feature, "dtype", "") in ("binary", "large_binary", "string", "large_string"):
        return rows.cast_column(column, Image())
    raise ValueError(
        f"column '{column}' of {name} must hold images, bytes of image files or paths to them, got {feature}"
    )


def _three(name: str, splits: dict[str, Dataset], seed: int) -> tuple[list[Dataset], dict[str, str]]:
    """Gives train, validation and test, and where each of them is from."""

    def take(*names: str) -> tuple[Dataset, str] | None:
        return next(((splits[split], f"split {split}") for split in names if split in splits), None)

    train, validation, test = take("train"), take("validation", "valid", "val", "dev"), take("test")
    if train is None:
        raise ValueError(f"{name} must have a split named train, got {', '.join(splits)}")
    if test is None:
        test, validation = validation, None
    if test is None:
        train, test = _hold_out(name, train, TEST_HELD_OUT, "a fifth", seed)
    if validation is None:
        train, validation = _hold_out(name, train, HELD_OUT, "a tenth", seed)
    found = {"train": train, "validation": validation, "test": test}
    for split, (rows, _) in found.items():
        if len(rows) == 0:
            raise ValueError(f"split {split} of {name} is empty; every split needs at least one image")
    return [rows for rows, _ in found.values()], {split: origin for split, (_, origin) in found.items()}


def _hold_out(
    name: str, split: tuple[Dataset, str], share: float, told: str, seed: int
) -> tuple[tuple[Dataset, str], tuple[Dataset, str]]:
    rows, origin = split
    if len(rows) < 2:
        raise ValueError(f"split train of {name} has {len(rows)} images, too few to hold any out; it needs at least 2")
    order = np.random.default_rng(seed).permutation(len(rows))
    held_out = max(1, round(share * len(rows)))
    kept, taken = rows.select(np.sort(order[held_out:])), rows.select(np.sort(order[:held_out]))
    return (kept, origin), (taken, f"{told} of train, held out by seed")
