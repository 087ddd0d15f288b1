"""Reads a folder of parquet files: its splits by their names, and each by what its own files tell."""

import glob
import re
from pathlib import Path

import pyarrow.parquet
from datasets import Dataset, load_dataset, load_dataset_builder

from robust_hub.data.listing import Listing, counted, extension, some
from robust_hub.data.split_names import split_of_table
from robust_hub.errors import first_line


def read_parquet(listing: Listing) -> tuple[dict[str, Dataset], list[str], list[Path]] | None:
    """Reads the parquet files in a folder and below.

    Returns:
        The splits; sentences about files that were left out; and the folders that paths in the files may start from.
        None where there are no such files.

    Raises:
        ValueError: when a file can't be read, or a split is empty.
    """
    files = [file for file in listing.files if extension(file) == ".parquet"]
    if not files:
        return None
    files_of, notes = _configured(listing), []
    if not files_of:
        for file in files:
            files_of.setdefault(split_of_table(file), []).append(listing.folder.joinpath(*file))
        if len(files_of) > 1 and (of_none := files_of.pop("", [])):
            are = counted(len(of_none), "file is called by no split and is", "files are called by no split and are")
            notes.append(f"{are} left out: {some(file.name for file in of_none)}")
    splits = {}
    for split, paths in files_of.items():
        splits[split or "train"] = _read(listing.folder, split or "train", paths)
    places = [path.parent for paths in files_of.values() for path in paths]
    return splits, notes, list(dict.fromkeys([*places, listing.folder]))


def _configured(listing: Listing) -> dict[str, list[Path]]:
    """Gives the files of each split, as a README.md of the Hub says them; none where it does not."""
    card = listing.folder / "README.md"
    if not card.is_file() or not re.search(r"^configs:", card.read_text(encoding="utf-8", errors="replace"), re.M):
        return {}
    try:
        data_files = load_dataset_builder(str(listing.folder)).config.data_files or {}
    except Exception as error:  # datasets raises many types here; the user needs the one sentence
        raise ValueError(f"{card} does not say one set of data files ({first_line(error)}); correct it") from error
    return {str(split): list(map(Path, own)) for split, own in data_files.items()}


def _read(folder: Path, split: str, paths: list[Path]) -> Dataset:
    count = 0
    for path in paths:
        try:
            with pyarrow.parquet.ParquetFile(path) as table:
                count += table.metadata.num_rows
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path} is not a readable parquet file; fetch it again ({first_line(error)})") from error
    if not count:
        raise ValueError(f"split {split} of {folder} is empty; every split needs at least one image")
    try:
        # Each split for itself: together they would all be read by what the first tells of its classes.
        rows = load_dataset("parquet", data_files={split: [glob.escape(str(path)) for path in paths]}, split=split)
    except Exception as error:  # datasets raises many types here; the user needs the one sentence
        cause = first_line(error.__cause__ if isinstance(error.__cause__, Exception) else error)
        raise ValueError(
            f"the parquet files of split {split} of {folder} can't be read as one table ({cause})"
        ) from error
    assert isinstance(rows, Dataset)
    return rows
