"""Finds a data set by its name, wherever it is, and gives its splits as they are called, with their columns."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet
from datasets import Dataset, Features, Image, load_dataset, load_dataset_builder

from robust_hub.data.builtin import BUILTIN
from robust_hub.data.folders import read_image_folder
from robust_hub.errors import close_names, first_line


def open_splits(name: str) -> tuple[dict[str, Dataset], list[str]]:
    """Finds a data set and reads its splits.

    Args:
        name: of a built-in set, a folder, or a data set on the Hub.

    Returns:
        The splits as they are called, and notes of what was left out or decided.

    Raises:
        ValueError: when there is none, or a file can't be read.
    """
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


def find_column(name: str, columns: Mapping, kind: type, usual: str) -> str:
    """Finds the one column of a feature type, or that of the usual name; raises ValueError where it can't be told."""
    found = [column for column, feature in columns.items() if isinstance(feature, kind)]
    if usual in found:
        return usual
    if len(found) == 1:
        return found[0]
    have = f"{len(found)} ({', '.join(found)})" if found else f"none among {', '.join(columns)}"
    raise ValueError(f"{name} must have one {kind.__name__} column, found {have}; name it with --{usual}-column")


def with_images(name: str, rows: Dataset, column: str) -> Dataset:
    """Takes bytes, paths, or both as pandas writes them, for images; raises ValueError for anything else."""
    feature = rows.features[column]
    if isinstance(feature, Image):
        return rows
    is_cell = isinstance(feature, dict | Features) and set(feature) == {"bytes", "path"}
    if is_cell or getattr(feature, "dtype", "") in ("binary", "large_binary", "string", "large_string"):
        return rows.cast_column(column, Image())
    raise ValueError(
        f"column '{column}' of {name} must hold images, bytes of image files or paths to them, got {feature}"
    )
