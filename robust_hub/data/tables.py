"""Reads images whose classes are told by a table beside them: metadata.csv, labels.csv, train.csv and the like."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas
from datasets import Dataset, Features, Image, Value

from robust_hub.data.columns import LABELS, usual_column
from robust_hub.data.listing import Listing, check_utf8, counted, extension, image_extensions, posix, some
from robust_hub.data.source import Source
from robust_hub.data.split_names import SPLITS, split_of_folder, split_of_table
from robust_hub.data.table_rows import are_numbers, as_numbers, read_rows

TABLES = {".csv", ".tsv", ".jsonl"}
METADATA = {"metadata.csv", "metadata.jsonl"}
# So many rows, spread over the table, tell which column holds paths.
SAMPLE = 50


@dataclass(frozen=True)
class Table:
    """A table that says the class of images.

    Attributes:
        name: its path below the folder of the data set.
        split: that it is called by; empty where it is called by none.
        rows: its cells, of the images that are there; the column of images holds where these are.
        image: the column of images.
        label: that of their classes.
        missing: what its other rows name.
    """

    name: str
    split: str
    rows: pandas.DataFrame
    image: str
    label: str
    missing: list[str]


def find_tables(listing: Listing, source: Source) -> tuple[list[Table], dict[str, str]]:
    """Finds the tables in a folder, or in those of its splits, that say the classes of images in it.

    Returns:
        These, and for each of the others why it is none.

    Raises:
        ValueError: when most of the files that such a table names are missing.
    """
    tables, reasons = [], {}
    for file in listing.others:
        is_of_split = len(file) == 2 and (split_of_folder(file) or file[-1].lower() in METADATA)
        if extension(file) not in TABLES or not (len(file) == 1 or is_of_split):
            continue
        try:
            rows = read_rows(listing.folder.joinpath(*file))
        except ValueError as error:
            reasons[posix(file)] = f"it can't be read as a table: {error}"
            continue
        found = _describe(listing, file, rows, source)
        if isinstance(found, Table):
            tables.append(found)
        else:
            reasons[posix(file)] = found
    return tables, reasons


def _describe(listing: Listing, file: tuple[str, ...], rows: pandas.DataFrame, source: Source) -> Table | str:
    places = (listing.folder.joinpath(*file[:-1]), listing.folder)
    columns = (
        [source.image_column] if source.image_column in rows else sorted(rows, key=lambda name: name != "file_name")
    )
    sample = rows.iloc[:: max(1, len(rows) // SAMPLE)]
    image = next((column for column in columns if any(_locate(places, cell) for cell in sample[column])), None)
    if image is None:
        names = [column for column in columns if any(map(_is_of_image, sample[column]))]
        if not names:
            return f"no column of it ({', '.join(rows)}) holds paths of images"
        return f"no file is where its column {names[0]} says, for example {sample[names[0]].iloc[0]}"
    label = source.label_column or usual_column(list(rows), LABELS)
    if label not in rows:
        wanted = f"called {label}" if label else f"called {', '.join(LABELS[:-1])} or {LABELS[-1]}"
        return f"no column of it ({', '.join(rows)}) is {wanted}; name it with --label-column"
    paths = rows[image].map(lambda cell: _locate(places, cell))
    missing = [cell or "a row without a file" for cell in rows[image][paths == ""]]
    if len(missing) > len(rows) / 2:
        raise ValueError(
            f"{posix(file)} must name images in {listing.folder}, but {len(missing)} of the {len(rows)} it names are "
            f"missing ({some(missing)}); write their paths as from there, or bring them"
        )
    there = rows.assign(**{image: paths})[paths != ""]
    return Table(posix(file), split_of_table(file), there, image, label, missing)


def _is_of_image(cell: str | None) -> bool:
    return cell is not None and extension((cell,)) in image_extensions()


def _locate(places: tuple[Path, ...], cell: str | None) -> str:
    """Gives the path of the image that a cell names, from the folder of its table or the set's; empty where none is."""
    if cell is None or not _is_of_image(cell):
        return ""
    # Windows writes backslashes.
    paths = [os.path.normpath(place / name) for name in (cell, cell.replace("\\", "/")) for place in places]
    return next((path for path in paths if os.path.isfile(path)), "")


def read_tables(
    listing: Listing, tables: list[Table], reasons: Mapping[str, str]
) -> tuple[dict[str, Dataset], list[str]]:
    """Reads the images that tables describe.

    Splits are those of a column `split`, of the names of the tables or of the folders of images; else all is train.

    Returns:
        The splits, rows in the order of the tables with all their columns, and sentences about what was left out.

    Raises:
        ValueError: when several tables could be meant, or rows contradict each other.
    """
    notes = [f"{name} is not used: {why}" for name, why in reasons.items()]
    if any(table.split for table in tables):
        notes += [f"{table.name} is called by no split and is not used" for table in tables if not table.split]
        tables = [table for table in tables if table.split]
    elif len(tables) > 1:
        raise ValueError(
            f"{listing.folder} must have one table of its images, or one called by each split, got "
            f"{', '.join(table.name for table in tables)}; keep one, or rename them"
        )
    # A stable sort, so that columns are called as in train.
    tables = sorted(tables, key=lambda table: table.split != "train")
    image, label = tables[0].image, tables[0].label
    is_numbers = all(are_numbers(table.rows[table.label]) for table in tables)
    parts: dict[str, list[pandas.DataFrame]] = {}
    for table in tables:
        if table.missing:
            are = counted(len(table.missing), "image is", "images are")
            notes.append(f"{are} in {table.name} and not in the folder: {some(table.missing)}")
        taken = {image, label} - {table.image, table.label}
        own = table.rows[[column for column in table.rows if column not in taken]]
        rows = own.rename(columns={table.image: image, table.label: label})
        splits_of_rows = _splits(listing.folder, table)
        for split in set(splits_of_rows):
            parts.setdefault(split, []).append(rows[splits_of_rows == split])
    splits = {}
    for split in filter(parts.get, ("train", "validation", "test")):
        rows, repeated = _once(split, pandas.concat(parts[split]), image, label)
        if repeated:
            notes.append(f"{counted(repeated, 'row repeats', 'rows repeat')} another of split {split} and are left out")
        splits[split] = _dataset(rows, image, label, is_numbers)
    described = {path for table in tables for path in table.rows[table.image]}
    without = [file for file in listing.images if str(listing.folder.joinpath(*file)) not in described]
    if without:
        are = counted(len(without), "image has no row with a class and is", "images have no row with a class and are")
        notes.append(f"{are} left out: {some(map(posix, without))}")
    return splits, notes


def _splits(folder: Path, table: Table) -> pandas.Series:
    """Gives the split of each row."""
    column = usual_column(list(table.rows), ("split",))
    if column:
        splits = table.rows[column].map(lambda cell: SPLITS.get((cell or "").lower(), ""))
        strange = table.rows[column][splits == ""]
        if len(strange):
            raise ValueError(
                f"column {column} of {table.name} must hold train, validation or test, got '{strange.iloc[0]}'; "
                "rewrite it, or rename the column where it means something else"
            )
        return splits
    if table.split:
        return table.rows[table.image].map(lambda _: table.split)
    splits = table.rows[table.image].map(lambda path: split_of_folder(Path(os.path.relpath(path, folder)).parts))
    if set(splits) <= {"train", ""}:
        return splits.map(lambda _: "train")
    if "" in set(splits):
        raise ValueError(
            f"some images of {table.name} lie in folders of splits and some do not; add a column split that tells "
            "which is which"
        )
    return splits


def _once(split: str, rows: pandas.DataFrame, image: str, label: str) -> tuple[pandas.DataFrame, int]:
    """Leaves out the rows that repeat another, and counts them."""
    once = rows.drop_duplicates([image, label])
    twice = once[once.duplicated(image, keep=False)]
    if len(twice):
        first = twice[twice[image] == twice[image].iloc[0]]
        raise ValueError(
            f"an image must have one class, got {' and '.join(map(repr, first[label]))} for {first[image].iloc[0]} in "
            f"split {split}; keep one of its rows"
        )
    return once, len(rows) - len(once)


def _dataset(rows: pandas.DataFrame, image: str, label: str, is_numbers: bool) -> Dataset:
    cells = {column: rows[column].where(rows[column].notna(), None).tolist() for column in rows}
    kinds = dict.fromkeys(cells, Value("string"))
    if is_numbers:
        cells[label], kinds[label] = as_numbers(rows[label]), Value("int64")
    check_utf8(cells[image])
    return Dataset.from_dict(cells, features=Features(kinds)).cast_column(image, Image())
